"""The child process that serves the neighbours, and boto3 clients that speak to its Unix socket."""

from __future__ import annotations

import http.client
import io
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config

ACCOUNT_ID = "111122223333"
REGION = "eu-west-1"
HOST = "127.0.0.1:4566"
READY_S = 20.0
END_S = 20.0
ANSWER_S = 60.0
SOURCES = Path(__file__).parents[3] / "src"


class Answered(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(str(self._path))


class Child:
    """A context manager: the process, which has said that it is ready."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.socket = directory / "neighbours.sock"
        self.log = directory / "stderr"
        self._command = [sys.executable, "-m", "lambdad_neighbours", "--socket", str(self.socket), *options]

    def __enter__(self) -> Child:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(SOURCES)},
            )
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], READY_S)[0], self.log.read_text()
        assert json.loads(self.process.stdout.readline()) == {"ready": True}, self.log.read_text()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.end()
        finally:
            self.process.kill()
            self.process.wait()

    def end(self) -> int:
        """As when the daemon goes away; the exit status."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(END_S)

    def send(
        self,
        method: str,
        path: str,
        service: str = "",
        body: Any = b"",
        headers: Mapping[str, str] | None = None,
        account_id: str = ACCOUNT_ID,
        region: str = REGION,
    ) -> Answered:
        """One request, on a connection of its own."""
        ours = {
            "Host": HOST,
            "x-lambdad-service": service,
            "x-lambdad-account": account_id,
            "x-lambdad-region": region,
            "x-lambdad-request-id": "a-request",
        }
        connection = Connection(self.socket)
        try:
            connection.request(method, path, body, {**ours, **(headers or {})}, encode_chunked=True)
            answer = connection.getresponse()
            return Answered(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def status(self) -> Any:
        return json.loads(self.send("GET", "/_lambdad/status").body)

    def client(self, service: str, account_id: str = ACCOUNT_ID, region: str = REGION) -> Any:
        """A boto3 client whose requests come here, as the daemon's gateway would send them."""
        config = Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            inject_host_prefix=False,
            parameter_validation=False,
        )
        client = boto3.session.Session(account_id, "secret").client(
            service, region_name=region, endpoint_url=f"http://{HOST}", config=config
        )
        client._endpoint.http_session = _OverSocket(self, service, account_id, region)
        return client


class _OverSocket:
    """What botocore takes for its HTTP library."""

    def __init__(self, child: Child, service: str, account_id: str, region: str) -> None:
        self._child = child
        self._to = service, account_id, region

    def send(self, request: Any) -> AWSResponse:
        service, account_id, region = self._to
        path = "/" + request.url.split("/", 3)[3]
        headers = {
            name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
        }
        answer = self._child.send(request.method, path, service, request.body, headers, account_id, region)
        return AWSResponse(request.url, answer.status, answer.headers, _Raw(answer.body))

    def close(self) -> None: ...


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Any:
        yield self.read()

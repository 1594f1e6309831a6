"""Fixtures of the api tier: functions of every kind, what an invocation answered, and doors to wait at."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pytest

from daemons import ROLE, Daemon, zip_of
from neighbours import MotoServer

WAIT_S = 20.0

# For functions that knock at a `Door`: they come back when the test lets them in.
KNOCK = """
import socket

def knock(door, said=""):
    host, port = door.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(said.encode() + b"\\n")
        connection.recv(1)
"""


@dataclass(frozen=True)
class Answer:
    """What Invoke answered. `error` is the X-Amz-Function-Error header, `log` the decoded tail."""

    status: int
    request_id: str
    version: str
    error: str | None
    log: str
    raw: bytes

    @property
    def payload(self) -> Any:
        return json.loads(self.raw)


class Functions:
    """Makes functions with one client and invokes them."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def create(self, files: Mapping[str, str | bytes], **options: Any) -> str:
        """A function of these files; returns its name."""
        name = options.pop("FunctionName", None) or f"fn-{uuid.uuid4().hex[:10]}"
        modes = {path: 0o755 for path in files if path == "bootstrap"}
        parameters = {
            "FunctionName": name,
            "Runtime": "python3.11",
            "Role": ROLE,
            "Handler": "app.handler",
            "Code": {"ZipFile": zip_of(files, modes)},
            **options,
        }
        self.client.create_function(**parameters)
        return str(name)

    def python(self, source: str, **options: Any) -> str:
        return self.create({"app.py": source}, **options)

    def custom(self, bootstrap: str | bytes, files: Mapping[str, str | bytes] | None = None, **options: Any) -> str:
        """A function that brings its own runtime."""
        return self.create({"bootstrap": bootstrap, **(files or {})}, Runtime="provided.al2023", **options)

    def invoke(self, name: str, event: Any = None, **options: Any) -> Answer:
        """Invoke with an event; `Payload` in the options goes as it is."""
        if "Payload" not in options:
            options["Payload"] = json.dumps(event).encode()
        answer = self.client.invoke(FunctionName=name, **options)
        return Answer(
            answer["StatusCode"],
            answer["ResponseMetadata"]["RequestId"],
            answer.get("ExecutedVersion", ""),
            answer.get("FunctionError"),
            base64.b64decode(answer.get("LogResult", "")).decode(),
            answer["Payload"].read(),
        )

    def tail(self, name: str, event: Any = None, **options: Any) -> Answer:
        """Invoke, with the end of the log."""
        return self.invoke(name, event, LogType="Tail", **options)

    def update_code(self, name: str, source: str) -> None:
        self.client.update_function_code(FunctionName=name, ZipFile=zip_of({"app.py": source}))


class Visitor:
    """One function that has knocked. `said` is what it said."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(WAIT_S)
        self._lines = connection.makefile("rb")
        self.said = self.hear()

    def hear(self) -> str:
        """The next line that the function says."""
        return self._lines.readline().decode().rstrip("\n")

    def let_in(self) -> None:
        """Let the function go on."""
        self._connection.sendall(b"!")

    def await_gone(self) -> None:
        """Wait until every process that held the connection has ended."""
        with contextlib.suppress(ConnectionResetError):
            assert self._lines.read() == b""

    def close(self) -> None:
        self._lines.close()
        self._connection.close()


class Door:
    """Functions connect to it and wait there: conditions over TCP, which sandboxes that share no files have too."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._visitors: list[Visitor] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def await_knock(self, timeout_s: float = WAIT_S) -> Visitor:
        """The next function that knocks. Raises TimeoutError."""
        self._listener.settimeout(timeout_s)
        visitor = Visitor(self._listener.accept()[0])
        self._visitors.append(visitor)
        return visitor

    def __enter__(self) -> Door:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for visitor in self._visitors:
            visitor.close()
        self._listener.close()


class Background:
    """Calls in threads, for what must happen at once."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)

    def start(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        return self._pool.submit(call, *arguments, **options)

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture(scope="session")
def daemon_with_neighbours(moto: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that sends to moto's server. Tests only add to it, under names of their own."""
    with Daemon(tmp_path_factory.mktemp("neighbours") / "data", moto.options) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def functions(aws_lambda: Any) -> Functions:
    """Functions of the shared daemon."""
    return Functions(aws_lambda)


@pytest.fixture(scope="session")
def functions_of() -> Callable[[Daemon], Functions]:
    """Functions of a daemon that a test has for itself."""
    return lambda daemon: Functions(daemon.client("lambda"))


@pytest.fixture(scope="session")
def knock() -> str:
    """Python source of `knock(door, said)`."""
    return KNOCK


@pytest.fixture
def door() -> Iterator[Door]:
    with Door() as door:
        yield door


@pytest.fixture
def background(door: Door) -> Iterator[Background]:
    """Depends on the door so that it closes first: no function is left waiting when a test has failed."""
    background = Background(32)
    try:
        yield background
    finally:
        for visitor in door._visitors:
            visitor.close()
        background.close()


@pytest.fixture(scope="session")
def log_of(aws_logs: Any) -> Callable[..., list[str]]:
    """The messages in the log of a function, in order; of another group when one is named."""

    def read(name: str, group: str | None = None, **options: Any) -> list[str]:
        pages = aws_logs.get_paginator("filter_log_events").paginate(
            logGroupName=group or f"/aws/lambda/{name}", **options
        )
        return [event["message"] for page in pages for event in page["events"]]

    return read

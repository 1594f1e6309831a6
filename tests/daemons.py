"""The real daemon as a process of its own, on a free port and with a data directory of its own."""

from __future__ import annotations

import io
import os
import re
import selectors
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ROLE = "arn:aws:iam::000000000000:role/lambda-role"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
_ANSWERS = re.compile(r"answers at (http://\S+)")


class DaemonDied(Exception):
    """The daemon ended before it answered."""


@dataclass
class Daemon:
    """One daemon. Use it as a context manager; `kill` and `start` again to see what survives."""

    data_dir: Path
    options: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    output: str = ""

    def start(self) -> Daemon:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("LAMBDAD_", "AWS_"))}
        command = [sys.executable, "-m", "lambdad", "start", "--port", "0", "--data-dir", str(self.data_dir)]
        runtimes_dir = os.environ.get("LAMBDAD_TEST_RUNTIMES_DIR")
        if runtimes_dir:
            environ["LAMBDAD_RUNTIMES_DIR"] = runtimes_dir
        self.process = subprocess.Popen(
            [*command, *self.options],
            env={**environ, **self.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(self.data_dir.parent / f"{self.data_dir.name}.stderr").open("ab"),
        )
        self.url = self._await_address(self.process)
        return self

    def _await_address(self, process: subprocess.Popen[bytes]) -> str:
        assert process.stdout is not None
        text = ""
        deadline = time.monotonic() + START_TIMEOUT_S
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(deadline - time.monotonic()):
                part = os.read(process.stdout.fileno(), 65536).decode()
                text += part
                self.output = text
                if not part:
                    raise DaemonDied(f"exit status {process.wait()}: {text}{self.stderr()}")
                found = _ANSWERS.search(text)
                if found and "\n" in text[found.end() :]:
                    return found[1]
        raise DaemonDied(f"no address within {START_TIMEOUT_S} s: {text}")

    def stderr(self) -> str:
        """What the daemon has said on its standard error, over all its starts."""
        return (self.data_dir.parent / f"{self.data_dir.name}.stderr").read_text(errors="replace")

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL, as a crash would be."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def client(self, service: str, *, account_id: str = "test", region: str = "us-east-1", **config: Any) -> Any:
        """A boto3 client that does not retry, so that every error is seen."""
        session = boto3.session.Session(account_id, "secret", region_name=region)
        return session.client(
            service,
            endpoint_url=self.url,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=120, max_pool_connections=200, **config),
        )

    def cli_environ(self) -> dict[str, str]:
        """The environment in which the AWS CLI and lambdad's own commands find this daemon."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("LAMBDAD_", "AWS_"))}
        tools = str(Path(sys.executable).parent)
        return {
            **environ,
            "PATH": f"{tools}{os.pathsep}{environ['PATH']}",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_PAGER": "",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


def zip_of(files: Mapping[str, str | bytes], modes: Mapping[str, int] | None = None) -> bytes:
    """A deployment package in memory."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o100000 | (modes or {}).get(name, 0o644)) << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def have_python(client: Any, name: str, source: str, **options: Any) -> None:
    """The same for the functions of a whole test file, which a worker may run in parts: it may be there already."""
    try:
        create_python(client, name, source, **options)
    except client.exceptions.ResourceConflictException:
        assert client.get_function(FunctionName=name)["Configuration"]["Handler"] == "app.handler"


def create_python(client: Any, name: str, source: str, **options: Any) -> dict[str, Any]:
    """Create a Python function whose handler is `handler` of the source."""
    parameters = {
        "FunctionName": name,
        "Runtime": "python3.11",
        "Role": ROLE,
        "Handler": "app.handler",
        "Code": {"ZipFile": zip_of({"app.py": source})},
        **options,
    }
    created: dict[str, Any] = client.create_function(**parameters)
    return created

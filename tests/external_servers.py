"""Servers of others that speak AWS's protocols: ElasticMQ for SQS and Amazon's DynamoDB Local, run from their jars."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
import pytest
from botocore.config import Config

JARS = Path(__file__).parents[1] / ".lambdad" / "jars"
SOURCES = Path(__file__).parent / "servers"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.05
REGION = "us-east-1"
_JAVA_OPTIONS = ("-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class JavaServer:
    """A server in a process of its own on a free port of this machine. Use it as a context manager."""

    def __init__(self, service: str, directory: Path) -> None:
        """`service` is botocore's name of what it is; its output goes to a file in the directory."""
        self.service = service
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def command(self, port: int) -> list[str]:
        """The main class, or its source, and its arguments, with system properties before it."""
        raise NotImplementedError

    def start(self) -> JavaServer:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        output = (self._directory / f"{self.service}.output").open("wb")
        self._process = subprocess.Popen(
            ["java", *_JAVA_OPTIONS, "-cp", f"{JARS}/*", *self.command(port)],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        output.close()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, self.output()
            assert time.monotonic() < deadline, f"{self.service} does not answer: {self.output()}"
            time.sleep(POLL_S)
        return self

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def output(self) -> str:
        return (self._directory / f"{self.service}.output").read_text(errors="replace")

    def client(self) -> Any:
        """A boto3 client that talks to the server itself."""
        session = boto3.session.Session("test", "secret", region_name=REGION)
        return session.client(self.service, endpoint_url=self.url, config=Config(proxies={}))

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(self.url, timeout=1).close()
        except urllib.error.HTTPError:  # whatever it says to a request that is none of its API
            return True
        except OSError:
            return False
        return True

    def __enter__(self) -> JavaServer:
        try:
            return self.start()
        except BaseException:  # nobody else would end the process
            if self._process is not None:
                self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class ElasticMq(JavaServer):
    """https://github.com/softwaremill/elasticmq"""

    def __init__(self, directory: Path) -> None:
        super().__init__("sqs", directory)

    def command(self, port: int) -> list[str]:
        properties = {
            "rest-sqs.bind-hostname": "127.0.0.1",
            "rest-sqs.bind-port": port,
            "rest-stats.enabled": "false",
            "node-address.host": "127.0.0.1",
            "node-address.port": port,
            "aws.region": REGION,
        }
        return [*(f"-D{name}={value}" for name, value in properties.items()), "org.elasticmq.server.Main"]


class DynamoDbLocal(JavaServer):
    """https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/DynamoDBLocal.html"""

    def __init__(self, directory: Path) -> None:
        super().__init__("dynamodb", directory)

    def command(self, port: int) -> list[str]:
        options = ["-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)]
        return [f"-Djava.library.path={JARS}", str(SOURCES / "LoopbackDynamoDb.java"), *options]


def require_servers() -> None:
    """Skip the test where the servers cannot be run, and say what is missing."""
    if shutil.which("javac") is None:
        pytest.skip("javac is missing: install a Java development kit, such as the package default-jdk-headless")
    if not (JARS / ".ready").exists():
        pytest.skip("the jars of ElasticMQ and DynamoDB Local are missing: make test-servers fetches them, with Maven")

"""A daemon with one driver, a function that makes attempts, and a neighbour that must not notice."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from daemons import Daemon, create_python, zip_of
from escapes.neighbour import Neighbour

SOURCES = Path(__file__).parent / "attempts"
RUNTIME = "python3.11"
TIMEOUT_S = 60


def package() -> bytes:
    """The attempts as a deployment package."""
    return zip_of({f"attempts/{path.name}": path.read_bytes() for path in sorted(SOURCES.glob("*.py"))})


@dataclass
class World:
    """What the tests of one driver share. `canary` is a secret of the daemon that no function may find."""

    driver: str
    daemon: Daemon
    canary: str
    neighbour: Neighbour
    client: Any
    logs: Any
    function: str = ""
    made: list[str] = field(default_factory=list)

    def create(self, **options: Any) -> str:
        """Another function that makes attempts; returns its name."""
        name = f"attempts-{uuid.uuid4().hex[:10]}"
        code = {"Code": {"ZipFile": package()}, "Handler": "attempts.handler", "Runtime": RUNTIME, "Timeout": TIMEOUT_S}
        create_python(self.client, name, "", **{**code, **options})
        self.made.append(name)
        return name

    def delete_others(self) -> None:
        """The functions that a test has created: their environments take memory."""
        while self.made:
            self.client.delete_function(FunctionName=self.made.pop())

    def invoke(self, attempt: str, function: str = "", **event: Any) -> dict[str, Any]:
        """The whole answer to an attempt; its payload, read, is `body`."""
        payload = json.dumps({"attempt": attempt, **event}).encode()
        answer: dict[str, Any] = self.client.invoke(
            FunctionName=function or self.function, Payload=payload, LogType="Tail"
        )
        answer["body"] = json.loads(answer["Payload"].read())
        return answer

    def attempt(self, attempt: str, function: str = "", **event: Any) -> Any:
        """The verdict on an attempt that leaves its environment alive."""
        answer = self.invoke(attempt, function, **{**self.facts(), **event})
        assert "FunctionError" not in answer, answer["body"]
        return answer["body"]

    def facts(self) -> dict[str, Any]:
        """What an attacker might know of the host."""
        assert self.daemon.process is not None
        pids = {"daemon": self.daemon.process.pid, "test": os.getpid(), "parent": os.getppid()}
        return {
            "data_dir": str(self.daemon.data_dir),
            "daemon_uid": os.getuid(),
            "disk": os.stat(self.daemon.data_dir).st_dev,
            "host_pids": pids,
            "ports": {"lambdad": urlsplit(self.daemon.url).port},
        }

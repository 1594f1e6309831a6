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
COMPANION = r"""#!/bin/bash
exec 9<>/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}
ask() {  # method, operation, header, body
  printf '%s /2020-01-01/extension/%s HTTP/1.1\r\nHost: x\r\n%s\r\n' "$1" "$2" "$3" >&9
  printf 'Content-Length: %d\r\n\r\n%s' ${#4} "$4" >&9
  while IFS=$' \r' read -r name value <&9 && [ -n "$name" ]; do
    case ${name,,} in content-length:) length=$value;; lambda-extension-identifier:) id=$value;; esac
  done
  read -r -N "$length" answer <&9
}
ask POST register "Lambda-Extension-Name: companion" '{"events": ["INVOKE", "SHUTDOWN"]}'
while ask GET event/next "Lambda-Extension-Identifier: $id" ""; do
  case $answer in *SHUTDOWN*) exit 0;; esac
done
"""
"""An extension that is told of everything."""


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
    layers: list[str] = field(default_factory=list)
    function: str = ""
    made: list[str] = field(default_factory=list)

    def extend(self) -> None:
        """From now on functions have a layer, with an extension in it."""
        files = {"extensions/companion": COMPANION, "python/of_the_layer.py": "", "share/text": "of the layer"}
        content = {"ZipFile": zip_of(files, {"extensions/companion": 0o755})}
        published = self.client.publish_layer_version(LayerName="companion", Content=content)
        self.layers = [published["LayerVersionArn"]]

    def create(self, **options: Any) -> str:
        """Another function that makes attempts; returns its name."""
        name = f"attempts-{uuid.uuid4().hex[:10]}"
        code = {"Code": {"ZipFile": package()}, "Handler": "attempts.handler", "Runtime": RUNTIME, "Timeout": TIMEOUT_S}
        create_python(self.client, name, "", **{**code, "Layers": self.layers, **options})
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

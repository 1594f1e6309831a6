"""Functions with extensions in layers, and what they have written."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Mapping
from typing import Any

from daemons import Daemon, create_python, zip_of
from faults.processes import eventually
from faults.wire import get

WAIT_S = 15.0
# Below those that kernels give to clients.
_PORTS = range(15000, 25000)
EMPTY: Mapping[str, str] = {}
HANDLER = "import time\n\ndef handler(event, context):\n    time.sleep(event.get('s', 0))\n    return event\n"


class World:
    """A daemon, and functions with the extensions of layers."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.client = daemon.client("lambda")
        self.logs = daemon.client("logs")

    def layer(self, programs: Mapping[str, str]) -> str:
        files = {f"extensions/{name}": source for name, source in programs.items()}
        published = self.client.publish_layer_version(
            LayerName=f"extensions-{min(programs)}", Content={"ZipFile": zip_of(files, dict.fromkeys(files, 0o755))}
        )
        return str(published["LayerVersionArn"])

    def function(
        self, name: str, programs: Mapping[str, str], does: str = "", source: str = HANDLER, **options: Any
    ) -> str:
        """A function with these extensions, each layer one, of which the Python one does something of its own."""
        layers = [self.layer({program: text}) for program, text in programs.items()]
        variables = {"Variables": {"DOES": does}}
        create_python(self.client, name, source, Layers=layers, Environment=variables, **options)
        return name

    def invoke(self, name: str, event: Any = EMPTY) -> tuple[str | None, Any]:
        """The function error and the payload."""
        answer = self.client.invoke(FunctionName=name, Payload=json.dumps(dict(event)).encode())
        return answer.get("FunctionError"), json.loads(answer["Payload"].read())

    def retire(self, name: str) -> None:
        """Have the environments of a function end, as a new configuration does."""
        self.client.update_function_configuration(FunctionName=name, Description=f"{time.monotonic()}")

    def lines(self, name: str) -> list[str]:
        group = f"/aws/lambda/{name}"
        try:
            pages = self.logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            return [event["message"].strip() for page in pages for event in page["events"]]
        except self.logs.exceptions.ResourceNotFoundException:
            return []

    def line(self, name: str, start: str, count: int = 1) -> str:
        """The last of so many lines that begin with this, when they are there."""
        found: list[str] = []

        def is_there() -> bool:
            found[:] = [line for line in self.lines(name) if line.startswith(start)]
            return len(found) >= count

        assert eventually(is_there, WAIT_S), self.lines(name)
        return found[count - 1][len(start) :].strip()

    @property
    def environments(self) -> int:
        return int(get(self.daemon, "/_lambdad/info").json["host"]["environments"])


def free_port() -> str:
    """A port of this machine that nobody listens on, for a server that environments with its network start."""
    while True:
        port = random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return str(port)

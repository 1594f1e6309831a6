"""Telemetry extensions as AWS shows how to build them: with its crate for Rust, and as its example in Python is built.

The crate parses what it gets into types of its own, so that what it prints is what AWS's schema has. `make
test-extensions` builds it. The example is a script in the layer that starts a program beside it; that listens by the
sandbox's name on a port that it has chosen, and at each event sends on what has come in meanwhile.

https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html, https://docs.rs/lambda-extension,
https://github.com/aws-samples/aws-lambda-extensions/tree/main/python-example-telemetry-api-extension
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon, create_python, zip_of
from extended_functions import WAIT_S, World, free_port
from faults.processes import eventually

WATCHER = Path(__file__).parents[2] / ".lambdad" / "extensions" / "bin" / "watcher"
# Between the first and the last in any order: the runtime initializes while the extension subscribes.
BEGIN = {
    "telemetry": [
        "PlatformInitStart",
        "PlatformTelemetrySubscription",
        "PlatformInitRuntimeDone",
        "PlatformExtension",
        "PlatformInitReport",
    ],
    "logs": ["PlatformLogsSubscription", "PlatformExtension"],
}
INVOCATION = {
    "telemetry": ["PlatformStart", "PlatformRuntimeDone", "PlatformReport"],
    "logs": ["PlatformStart", "PlatformRuntimeDone", "PlatformEnd", "PlatformReport"],
}
SCRIPT = """#!/bin/bash
set -euo pipefail
NAME="$(basename $0)"
echo "${NAME} launching"
python3 "/opt/${NAME}/extension.py"
"""
API_CLIENT = """
import json, os, urllib.request

def call(method, path, body=None, **headers):
    url = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/{path}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {name.replace("_", "-"): value for name, value in headers.items()})
    request.method = method
    with urllib.request.urlopen(request) as answer:
        return answer.headers, json.load(answer)
"""
LISTENER = """
import http.server, json, threading

HOST = "sandbox.localdomain"

def start(port, queue):
    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            for event in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
                queue.put(event)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer((HOST, port), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://{HOST}:{port}"
"""
EXTENSION = """
import json, os, pathlib, queue, sys, urllib.request
import listener
from api_client import call

def dispatch():
    batch = []
    while not events.empty():
        batch.append(events.get_nowait())
    if batch:
        urllib.request.urlopen(os.environ["DISPATCH_POST_URI"], json.dumps(batch).encode()).close()

name = pathlib.Path(__file__).parent.name
wanted = {"events": ["INVOKE", "SHUTDOWN"]}
headers, _ = call("POST", "2020-01-01/extension/register", wanted, Lambda_Extension_Name=name)
own = {"Lambda_Extension_Identifier": headers["Lambda-Extension-Identifier"]}
events = queue.Queue()
subscription = {
    "schemaVersion": "2022-07-01",
    "types": ["platform", "function"],
    "buffering": {"maxItems": 10000, "maxBytes": 262144, "timeoutMs": 1000},
    "destination": {"protocol": "HTTP", "URI": listener.start(int(os.environ["LISTENER_PORT"]), events)},
}
call("PUT", "2022-07-01/telemetry", subscription, **own)
while True:
    _, event = call("GET", "2020-01-01/extension/event/next", **own)
    dispatch()
    if event["eventType"] == "SHUTDOWN":
        sys.exit(0)
"""
HANDLER = "def handler(event, context):\n    print('handled', event['n'])\n"
NAME = "example_telemetry_extension"


class Collector(http.server.ThreadingHTTPServer):
    """Where the extension sends what it has got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Collecting)
        self.events: list[dict[str, Any]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Collecting(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.events += json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is written."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector
        collector.shutdown()


def test_an_extension_built_as_the_example_is(
    shared_daemon: Daemon, unique: Callable[[], str], collector: Collector
) -> None:
    world = World(shared_daemon)
    files = {
        f"extensions/{NAME}": SCRIPT,
        f"{NAME}/extension.py": EXTENSION,
        f"{NAME}/api_client.py": API_CLIENT,
        f"{NAME}/listener.py": LISTENER,
    }
    address = f"http://127.0.0.1:{collector.server_address[1]}"
    name = _function(world, unique(), files, DISPATCH_POST_URI=address, LISTENER_PORT=free_port())
    _invoke_twice(world, name)
    world.retire(name)
    assert eventually(lambda: _count(collector, "platform.report") == 2, WAIT_S), world.lines(name)
    assert [event["record"] for event in collector.events if event["type"] == "function"] == [
        "handled 1\n",
        "handled 2\n",
    ]
    assert _count(collector, "platform.initReport") == _count(collector, "platform.initStart") == 1
    assert world.line(name, f"{NAME} launching") == ""


def _count(collector: Collector, kind: str) -> int:
    return sum(event["type"] == kind for event in collector.events)


@pytest.fixture(scope="module")
def isolated_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Environments have networks of their own: the crate always listens on the same ports."""
    if not WATCHER.exists():
        pytest.skip("the extension made with AWS's crate is missing: make test-extensions builds it, with cargo")
    with Daemon(tmp_path_factory.mktemp("isolated") / "data", ("--network", "isolated")) as daemon:
        yield World(daemon)


@pytest.mark.parametrize("does", ["telemetry", "logs"])
def test_an_extension_made_with_the_crate(isolated_world: World, unique: Callable[[], str], does: str) -> None:
    world = isolated_world
    files = {"extensions/watcher": WATCHER.read_bytes()}
    name = _function(world, unique(), files, DOES=does)
    _invoke_twice(world, name)
    world.retire(name)
    assert f":function:{name}" in world.line(name, "told InvokeEvent", 2)
    assert 'shutdown_reason: "spindown"' in world.line(name, "told ShutdownEvent")
    got = [line.removeprefix("got ") for line in world.lines(name) if line.startswith("got ")]
    assert [record for record in got if record.startswith("Function")] == [
        'Function("handled 1\\n")',
        'Function("handled 2\\n")',
    ]
    kinds = [record.split()[0] for record in got if record.startswith("Platform")]
    expected = BEGIN[does]
    begin, invocations = kinds[: len(expected)], kinds[len(expected) :]
    assert (begin[0], sorted(begin), begin[-1]) == (expected[0], sorted(expected), expected[-1])
    assert invocations == 2 * INVOCATION[does]


def _invoke_twice(world: World, name: str) -> None:
    """In one environment: the tail of the log is there when the extensions have finished, too."""
    for number in (1, 2):
        answer = world.client.invoke(FunctionName=name, Payload=json.dumps({"n": number}), LogType="Tail")
        assert ("FunctionError" in answer, answer["Payload"].read()) == (False, b"null")


def _function(world: World, name: str, files: dict[str, Any], **variables: str) -> str:
    """A function with a layer of these files, of which those in `extensions` are programs."""
    modes = {path: 0o755 for path in files if path.startswith("extensions/")}
    layer = world.client.publish_layer_version(LayerName=name, Content={"ZipFile": zip_of(files, modes)})
    options = {"Layers": [layer["LayerVersionArn"]], "Environment": {"Variables": variables}}
    create_python(world.client, name, HANDLER, **options)
    return name

"""Extensions that subscribe to telemetry, by HTTP, by TCP and with the Logs API, in a real daemon's environments.

They print what they get; the lines of an extension are in its function's log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon
from extended_functions import WAIT_S, World
from faults.processes import eventually
from installed_runtimes import SYSTEM_PYTHON

EXTENSION = (
    f"#!{SYSTEM_PYTHON}"
    + r"""
import http.server, json, os, socket, sys, threading, urllib.error, urllib.request

NAME = os.path.basename(__file__)
CHOICES = json.loads(os.environ["DOES"])
API = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}"
runtime_done, reported = threading.Event(), threading.Event()


def call(method, path, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(API + path, None if body is None else json.dumps(body).encode(), headers)
    request.method = method
    with urllib.request.urlopen(request) as answer:
        return answer.headers, json.load(answer)


def got(events):
    for event in events:
        if "GOT" in str(event["record"]):
            continue  # what it prints here comes back as an event
        print("GOT", json.dumps(event), flush=True)
        if event["type"] == "platform.runtimeDone":
            runtime_done.set()
        if event["type"] == "platform.report":
            reported.set()


class Listener(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        got(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def serve_tcp(listener):
    while True:
        connection, _ = listener.accept()
        with connection.makefile() as lines:
            for line in lines:
                got([json.loads(line)])


events = {"events": ["INVOKE", "SHUTDOWN"]}
headers, _ = call("POST", "/2020-01-01/extension/register", events, Lambda_Extension_Name=NAME)
own = {"Lambda_Extension_Identifier": headers["Lambda-Extension-Identifier"]}
if CHOICES["protocol"] == "TCP":
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve_tcp, args=(listener,), daemon=True).start()
    destination = {"protocol": "TCP", "port": listener.getsockname()[1]}
else:
    server = http.server.HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    destination = {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{server.server_port}/telemetry"}
request = {
    "schemaVersion": CHOICES["version"],
    "types": ["platform", "function", "extension"],
    "destination": destination,
    "buffering": {"timeoutMs": CHOICES["timeoutMs"]},
}
print("ANSWERED", call("PUT", CHOICES["path"], request, **own)[1], flush=True)
while True:
    _, event = call("GET", "/2020-01-01/extension/event/next", **own)
    if event["eventType"] == "SHUTDOWN":
        if CHOICES["protocol"] == "TCP":
            reported.wait()  # what comes by TCP may still be on its way
        sys.exit(0)
    if CHOICES.get("waits"):
        runtime_done.wait()
        runtime_done.clear()
"""
)
HANDLER = """
import time

print("imported")

def handler(event, context):
    time.sleep(event.get("s", 0))
    print("handled")
    return event
"""
HTTP = {"protocol": "HTTP", "path": "/2022-07-01/telemetry", "version": "2022-12-13", "timeoutMs": 25, "waits": True}
TCP = {"protocol": "TCP", "path": "/2022-07-01/telemetry", "version": "2025-01-29", "timeoutMs": 25}
LOGS = {"protocol": "HTTP", "path": "/2020-08-15/logs", "version": "2021-03-18", "timeoutMs": 25}
LIFE = [
    "platform.initStart",
    "platform.initRuntimeDone",
    "platform.extension",
    "platform.initReport",
    "platform.start",
    "platform.runtimeDone",
    "platform.report",
]


class Subscribed(World):
    """A daemon, and functions with one extension that subscribes as it is told."""

    def subscribed(self, name: str, choices: dict[str, Any], **options: Any) -> str:
        return self.function(name, {"subscriber": EXTENSION}, json.dumps(choices), HANDLER, **options)

    def events(self, name: str, last: str) -> list[dict[str, Any]]:
        """What the subscriber has got, when there is an event of the type `last`; its environments end before."""
        self.retire(name)
        assert eventually(lambda: any(f'"type": "{last}"' in line for line in self.lines(name)), WAIT_S), self.lines(
            name
        )
        return [json.loads(line.removeprefix("GOT ")) for line in self.lines(name) if line.startswith("GOT ")]


@pytest.fixture
def world(shared_daemon: Daemon) -> Subscribed:
    return Subscribed(shared_daemon)


@pytest.fixture
def isolated_world(tmp_path: Path) -> Iterator[Subscribed]:
    with Daemon(tmp_path / "data", ("--network", "isolated")) as daemon:
        yield Subscribed(daemon)


@pytest.mark.parametrize("choices", [HTTP, TCP], ids=["http", "tcp"])
def test_a_life_as_telemetry(world: Subscribed, unique: Callable[[], str], choices: dict[str, Any]) -> None:
    _check_a_life(world, unique(), choices)


def test_in_a_network_of_its_own(isolated_world: Subscribed, unique: Callable[[], str]) -> None:
    _check_a_life(isolated_world, unique(), HTTP)
    _check_a_life(isolated_world, unique(), TCP)


def _life(events: list[dict[str, Any]]) -> list[str]:
    """The platform's events, but for the subscription, which is made while the runtime initializes."""
    types = [event["type"] for event in events if event["type"].startswith("platform.")]
    assert types.index("platform.telemetrySubscription") < types.index("platform.extension")
    types.remove("platform.telemetrySubscription")
    return types


def _check_a_life(world: Subscribed, name: str, choices: dict[str, Any]) -> None:
    world.subscribed(name, choices)
    assert world.invoke(name, {"n": 1}) == (None, {"n": 1})
    events = world.events(name, "platform.report")
    assert _life(events) == LIFE
    assert [event["record"] for event in events if event["type"] == "function"] == ["imported\n", "handled\n"]
    assert [event["record"] for event in events if event["type"] == "extension"] == ["ANSWERED OK\n"]
    records = {event["type"]: event["record"] for event in events}
    assert records["platform.initStart"]["initializationType"] == "on-demand"
    assert records["platform.extension"] == {"name": "subscriber", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    assert records["platform.telemetrySubscription"]["types"] == ["platform", "function", "extension"]
    done, report = records["platform.runtimeDone"], records["platform.report"]
    assert done["requestId"] == report["requestId"] == records["platform.start"]["requestId"]
    assert (done["status"], report["status"]) == ("success", "success")
    assert done["metrics"]["producedBytes"] == len('{"n": 1}')
    assert [span["name"] for span in done["spans"]] == ["responseLatency", "responseDuration", "runtimeOverhead"]
    assert report["metrics"]["durationMs"] >= done["metrics"]["durationMs"]
    assert report["metrics"]["initDurationMs"] > 0
    assert (
        world.line(name, "TELEMETRY") == "Name: subscriber\tState: Subscribed\tTypes: [Platform, Function, Extension]"
    )
    assert world.line(name, "ANSWERED") == "OK"


def test_the_logs_api(world: Subscribed, unique: Callable[[], str]) -> None:
    name = world.subscribed(unique(), LOGS)
    world.invoke(name)
    events = world.events(name, "platform.report")
    assert [event["type"] for event in events if event["type"].startswith("platform.")] == [
        "platform.logsSubscription",
        "platform.extension",
        "platform.start",
        "platform.runtimeDone",
        "platform.end",
        "platform.report",
    ]
    assert [event["record"] for event in events if event["type"] == "function"] == ["imported\n", "handled\n"]


def test_what_is_buffered_is_delivered_before_the_end(world: Subscribed, unique: Callable[[], str]) -> None:
    """Nothing is due for half a minute; the extension ends as soon as it is told to."""
    name = world.subscribed(unique(), HTTP | {"timeoutMs": 30_000, "waits": False})
    world.invoke(name)
    world.invoke(name)
    events = world.events(name, "platform.report")
    assert [event["type"] for event in events].count("platform.report") == 2


def test_an_invocation_that_runs_out_of_time(world: Subscribed, unique: Callable[[], str]) -> None:
    name = world.subscribed(unique(), HTTP, Timeout=1)
    error, _ = world.invoke(name, {"s": 60})
    assert error == "Unhandled"
    records = {event["type"]: event["record"] for event in world.events(name, "platform.report")}
    assert records["platform.runtimeDone"]["status"] == records["platform.report"]["status"] == "timeout"
    assert records["platform.report"]["metrics"]["durationMs"] == 1000


def test_json_logs(world: Subscribed, unique: Callable[[], str]) -> None:
    name = world.subscribed(unique(), HTTP, LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "DEBUG"})
    world.invoke(name)
    events = world.events(name, "platform.report")
    written = [json.loads(line) for line in world.lines(name) if line.startswith('{"time"')]
    assert _life(written) == _life(events) == LIFE

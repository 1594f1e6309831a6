"""Extensions in layers, written from AWS's documentation in bash and in Python, with a real daemon.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from daemons import ROLE, Daemon, create_python, zip_of
from extended_functions import HANDLER, WAIT_S, World
from faults import processes
from faults.processes import eventually, needs_proc
from faults.wire import get
from installed_runtimes import SYSTEM_PYTHON, installed
from lambdad.domain.runtimes import Language

NODES = sorted(installed(Language.NODEJS))

BASH = r"""#!/bin/bash
NAME=$(basename "$0")
API="http://${AWS_LAMBDA_RUNTIME_API}/2020-01-01/extension"
HEAD=/tmp/$NAME.head
curl -sS -D "$HEAD" -X POST "$API/register" -H "Lambda-Extension-Name: $NAME" \
  -d '{"events": ["INVOKE", "SHUTDOWN"]}' > /tmp/$NAME.body
echo "$NAME registered $(cat /tmp/$NAME.body)"
ID=$(grep -Fi Lambda-Extension-Identifier "$HEAD" | tr -d '[:space:]' | cut -d: -f2)
while true; do
  EVENT=$(curl -sS "$API/event/next" -H "Lambda-Extension-Identifier: $ID")
  echo "$NAME got $EVENT"
  case "$EVENT" in *SHUTDOWN*) exit 0;; esac
done
"""

PYTHON = (
    f"#!{SYSTEM_PYTHON}"
    + r"""
import json, os, sys, time, urllib.error, urllib.request

NAME = os.path.basename(__file__)
DOES = os.environ.get("DOES", "")


def call(method, operation, body=None, **headers):
    request = urllib.request.Request(
        f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2020-01-01/extension/{operation}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, json.load(refused)


def say(*words):
    print(NAME, *words, flush=True)


if DOES == "exit before registering":
    sys.exit(9)
features = {"Lambda_Extension_Accept_Feature": "accountId"}
status, headers, body = call(
    "POST", "register", {"events": ["INVOKE", "SHUTDOWN"]}, Lambda_Extension_Name=NAME, **features
)
own = {"Lambda_Extension_Identifier": headers["Lambda-Extension-Identifier"]}
say("registered", json.dumps(body))
say("sees", json.dumps({name: os.environ.get(name) for name in ("AWS_REGION", "_HANDLER", "LAMBDA_TASK_ROOT")}))
if DOES == "register twice":
    status, _, body = call("POST", "register", {"events": []}, Lambda_Extension_Name=NAME)
    say("refused", status, body["errorType"])
    status, _, body = call("GET", "event/next", Lambda_Extension_Identifier="11111111-2222-4333-8444-555555555555")
    say("refused", status, body["errorType"])
if DOES == "report a failed initialization":
    call("POST", "init/error", {}, Lambda_Extension_Function_Error_Type="Extension.NoConfig", **own)
    sys.exit(1)
while True:
    status, headers, event = call("GET", "event/next", **own)
    say("got", json.dumps(event))
    if event["eventType"] == "SHUTDOWN":
        say("had", event["deadlineMs"] - time.time() * 1000)
        if DOES == "hang in the shutdown":
            time.sleep(600)
        sys.exit(0)
    if DOES == "exit when invoked":
        sys.exit(3)
    if DOES == "work after the response":
        time.sleep(0.6)
        say("finished", event["requestId"])
"""
)

FAILING = """
import os

def handler(event, context):
    if event.get("exit"):
        os._exit(event["exit"])
    kept = []
    while True:
        kept.append(bytearray(10_000_000))
"""

needs_curl = pytest.mark.skipif(
    shutil.which("curl", path="/usr/bin:/bin") is None, reason="curl is not in /usr/bin, where functions see it"
)


@pytest.fixture
def world(shared_daemon: Daemon) -> World:
    return World(shared_daemon)


@pytest.fixture
def own_world(daemon: Daemon) -> World:
    return World(daemon)


@needs_curl
def test_two_extensions_are_told_of_invocations_and_of_the_end(world: World, unique: Callable[[], str]) -> None:
    name = world.function(unique(), {"shell": BASH, "watcher": PYTHON})
    for number in (1, 2):
        assert world.invoke(name, {"n": number}) == (None, {"n": number})
    world.retire(name)
    registered = {
        extension: json.loads(world.line(name, f"{extension} registered")) for extension in ("shell", "watcher")
    }
    described = {"functionName": name, "functionVersion": "$LATEST", "handler": "app.handler"}
    assert registered == {"shell": described, "watcher": {**described, "accountId": "000000000000"}}
    for extension in ("shell", "watcher"):
        events = [json.loads(world.line(name, f"{extension} got", count)) for count in (1, 2, 3)]
        assert [event["eventType"] for event in events] == ["INVOKE", "INVOKE", "SHUTDOWN"]
        assert events[0]["requestId"] != events[1]["requestId"]
        assert events[0]["invokedFunctionArn"].endswith(f":function:{name}")
        assert events[0]["tracing"]["value"].startswith("Root=")
        assert events[2]["shutdownReason"] == "spindown"
    assert 1000 < float(world.line(name, "watcher had")) <= 2000
    sees = json.loads(world.line(name, "watcher sees"))
    assert sees == {"AWS_REGION": "us-east-1", "_HANDLER": None, "LAMBDA_TASK_ROOT": None}


def test_an_extension_works_on_after_the_response(world: World, unique: Callable[[], str]) -> None:
    name = world.function(unique(), {"watcher": PYTHON}, "work after the response")
    world.invoke(name)
    world.line(name, "watcher finished")
    began = time.monotonic()
    world.invoke(name)
    assert time.monotonic() - began < 0.5
    world.line(name, "watcher finished", 2)
    durations = world.line(name, "REPORT", 2)
    assert float(durations.partition("\tDuration: ")[2].split()[0]) >= 600.0
    now = datetime.now(UTC)
    counted = world.daemon.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName="PostRuntimeExtensionsDuration",
        Dimensions=[{"Name": "FunctionName", "Value": name}],
        StartTime=now - timedelta(minutes=10),
        EndTime=now + timedelta(minutes=1),
        Period=3600,
        Statistics=["Minimum", "SampleCount"],
    )["Datapoints"]
    assert sum(point["SampleCount"] for point in counted) == 2
    assert min(point["Minimum"] for point in counted) >= 500.0


@pytest.mark.parametrize(
    ("does", "error_type", "message"),
    [
        ("exit before registering", "Extension.Crash", "exit status 9"),
        ("report a failed initialization", "Extension.InitError", "exit status 1"),
        ("exit when invoked", "Extension.Crash", "exit status 3"),
    ],
)
def test_an_extension_that_ends_fails_the_invocation(
    world: World, unique: Callable[[], str], does: str, error_type: str, message: str
) -> None:
    name = world.function(unique(), {"watcher": PYTHON}, does)
    error, payload = world.invoke(name, {"s": 5})
    assert error == "Unhandled"
    assert payload["errorType"] == error_type
    assert payload["errorMessage"].endswith(f" Error: {message}")


def test_calls_out_of_turn_are_refused(world: World, unique: Callable[[], str]) -> None:
    name = world.function(unique(), {"watcher": PYTHON}, "register twice")
    assert world.invoke(name) == (None, {})
    assert world.line(name, "watcher refused") == "403 Extension.InvalidExtensionState"
    assert world.line(name, "watcher refused", 2) == "403 Extension.UnknownExtensionIdentifier"


def test_eleven_extensions_are_too_many(world: World, unique: Callable[[], str]) -> None:
    layer = world.layer({f"watcher{number}": PYTHON for number in range(11)})
    name = create_python(world.client, unique(), HANDLER, Layers=[layer])["FunctionName"]
    error, payload = world.invoke(name)
    assert (error, payload["errorType"]) == ("Unhandled", "Extension.TooManyExtensions")


def test_a_function_that_times_out_resets_its_extensions(world: World, unique: Callable[[], str]) -> None:
    name = world.function(unique(), {"watcher": PYTHON}, Timeout=1)
    error, payload = world.invoke(name, {"s": 60})
    assert (error, payload["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert json.loads(world.line(name, "watcher got", 2))["shutdownReason"] == "timeout"
    assert world.invoke(name) == (None, {})


def test_a_runtime_that_ends_resets_its_extensions(world: World, unique: Callable[[], str]) -> None:
    """When memory runs out everything is killed, and it is the function that has failed."""
    name = world.function(unique(), {"watcher": PYTHON}, source=FAILING)
    for event, message in (({"exit": 1}, "exit status 1"), ({}, "signal: killed")):
        error, payload = world.invoke(name, event)
        assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
        assert payload["errorMessage"].endswith(f"Runtime exited with error: {message}")
    assert json.loads(world.line(name, "watcher got", 2))["shutdownReason"] == "failure"


@needs_proc
def test_who_hangs_in_the_shutdown_is_killed_while_all_else_goes_on(
    own_world: World, unique: Callable[[], str]
) -> None:
    world = own_world
    name = world.function(unique(), {"watcher": PYTHON}, "hang in the shutdown")
    other = create_python(world.client, unique(), HANDLER)["FunctionName"]
    world.invoke(name)
    world.invoke(other)
    began = time.monotonic()
    world.retire(name)
    world.line(name, "watcher had")
    assert world.invoke(other) == (None, {})
    assert world.invoke(name) == (None, {})
    assert time.monotonic() - began < 1.9
    assert eventually(lambda: world.environments == 2, WAIT_S)
    assert time.monotonic() - began > 1.9


def test_extensions_are_told_that_the_daemon_stops(own_world: World, unique: Callable[[], str]) -> None:
    name = own_world.function(unique(), {"watcher": PYTHON})
    own_world.invoke(name)
    assert own_world.daemon.stop() == 0
    again = World(own_world.daemon.start())
    assert json.loads(again.line(name, "watcher got", 2))["shutdownReason"] == "spindown"


@needs_proc
def test_a_frozen_environment_goes_on_and_a_killed_daemon_leaves_nothing(
    own_world: World, unique: Callable[[], str]
) -> None:
    world = own_world
    name = world.function(unique(), {"watcher": PYTHON})
    world.invoke(name)
    assert eventually(lambda: get(world.daemon, "/_lambdad/info").json["host"]["frozen"] == 1, WAIT_S)
    assert world.invoke(name, {"n": 2}) == (None, {"n": 2})
    left = processes.of_daemon(world.daemon)
    assert left
    world.daemon.kill()
    assert eventually(lambda: not processes.alive(left), WAIT_S)


INTERNAL_PYTHON = """
import json, os, signal, sys, threading, urllib.request

API = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2020-01-01/extension/"

def call(operation, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(API + operation, body, headers)) as answer:
        return answer.headers, json.load(answer)

seen = []
try:
    call("register", b'{"events": ["SHUTDOWN"]}', Lambda_Extension_Name="inside")
except urllib.error.HTTPError as refused:
    seen.append(json.load(refused)["errorType"])
headers, _ = call("register", b'{"events": ["INVOKE"]}', Lambda_Extension_Name="inside")
own = {"Lambda_Extension_Identifier": headers["Lambda-Extension-Identifier"]}

def listen():
    while True:
        seen.append(call("event/next", **own)[1]["eventType"])

def end(number, frame):
    print("told to end", flush=True)
    sys.exit(0)

threading.Thread(target=listen, daemon=True).start()
signal.signal(signal.SIGTERM, end)

def handler(event, context):
    while seen.count("INVOKE") <= event["n"]:
        pass
    return seen
"""

INTERNAL_NODE = """
import http from "node:http";
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const seen = [];

function call(method, operation, headers, body) {
  return new Promise((done, failed) => {
    const options = { host, port, method, path: "/2020-01-01/extension/" + operation, headers };
    http.request(options, (answer) => {
      let text = "";
      answer.on("data", (part) => (text += part));
      answer.on("end", () => done({ headers: answer.headers, body: JSON.parse(text) }));
    }).on("error", failed).end(body);
  });
}

async function listen(own) {
  for (;;) seen.push((await call("GET", "event/next", own)).body.eventType);
}

const registered = await call("POST", "register", { "Lambda-Extension-Name": "inside" }, '{"events": ["INVOKE"]}');
listen({ "Lambda-Extension-Identifier": registered.headers["lambda-extension-identifier"] });

export const handler = async (event) => {
  while (seen.length <= event.n) await new Promise((done) => setTimeout(done, 1));
  return seen;
};
"""


def test_an_internal_extension_in_python(world: World, unique: Callable[[], str]) -> None:
    name = create_python(world.client, unique(), INTERNAL_PYTHON, Timeout=10)["FunctionName"]
    refused = "Extension.InvalidEventType"
    assert world.invoke(name, {"n": 0}) == (None, [refused, "INVOKE"])
    assert world.invoke(name, {"n": 1}) == (None, [refused, "INVOKE", "INVOKE"])
    world.retire(name)
    world.line(name, "told to end")


@pytest.mark.skipif(not NODES, reason="Node is missing: lambdad runtimes add nodejs22.x")
def test_an_internal_extension_in_node(world: World, unique: Callable[[], str]) -> None:
    """It registers with a top-level await: the initialization is not over before that."""
    name = unique()
    world.client.create_function(
        FunctionName=name,
        Runtime=NODES[-1],
        Role=ROLE,
        Handler="app.handler",
        Timeout=10,
        Code={"ZipFile": zip_of({"app.mjs": INTERNAL_NODE})},
    )
    assert world.invoke(name, {"n": 0}) == (None, ["INVOKE"])
    assert world.invoke(name, {"n": 1}) == (None, ["INVOKE", "INVOKE"])

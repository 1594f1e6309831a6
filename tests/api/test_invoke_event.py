"""Invoke with the invocation type Event: accepted at once, run later, tried again when it fails.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from api_calls import refusal
from daemons import Daemon, zip_of
from installed_runtimes import installed, names, require
from lambdad.domain.runtimes import Language
from queued_events import HASTY, await_dead, await_lines, awaited, dead, log_lines, send, sums, waiting

ATTEMPTS = 3
PAYLOAD_BYTES = 256 * 1024

ECHOES = """
import json

def handler(event, context):
    print("got " + json.dumps([event, context.aws_request_id, context.function_version, context.invoked_function_arn]))
"""
FAILS = """
def handler(event, context):
    print("attempt", context.aws_request_id)
    raise ValueError("no luck")
"""
FAILS_IN_NODE = """
exports.handler = async (event, context) => {
  process.stdout.write(`attempt ${context.awsRequestId}\\n`);
  throw new RangeError('no luck');
};
"""
SLOW = """
import time

def handler(event, context):
    began = time.monotonic_ns()
    time.sleep(0.02)
    print("ran", began, time.monotonic_ns())
"""
KNOCKS = "\ndef handler(event, context):\n    knock(event['door'], context.aws_request_id)\n    return 'let in'\n"
TIMES_OUT = "import time\n\ndef handler(event, context):\n    time.sleep(60)\n"
EXITS = "import os\n\ndef handler(event, context):\n    os._exit(3)\n"
NO_INIT = "raise LookupError('no start')\n"

# The examples of the developer guide and of the command's reference, as they are written there.
INVOKE_EVENT = r"""
aws lambda invoke \
  --function-name my-function  \
  --invocation-type Event \
  --cli-binary-format raw-in-base64-out \
  --payload '{ "key": "value" }' response.json
"""
INVOKE_ASYNC = r"""
aws lambda invoke-async \
    --function-name my-function \
    --invoke-args payload.json
"""


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that does not let events wait long for their next attempt."""
    with Daemon(tmp_path_factory.mktemp("hasty") / "data", HASTY) as own:
        yield own


@pytest.fixture(scope="module")
def functions(hasty: Daemon, functions_of: Any) -> Any:
    return functions_of(hasty)


@pytest.fixture(scope="module")
def client(functions: Any) -> Any:
    return functions.client


def seen(daemon: Daemon, name: str, count: int) -> list[list[Any]]:
    """What `ECHOES` has printed of its events."""
    return [json.loads(line.removeprefix("got ")) for line in await_lines(daemon, name, "got ", count)]


# Acceptance


def test_an_event_is_accepted_with_nothing_but_its_request_id(hasty: Daemon, functions: Any, client: Any) -> None:
    name = functions.python(ECHOES)
    answer = client.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"n": [1, "\xc3\xa9"]}')
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    metadata = answer["ResponseMetadata"]
    assert metadata["HTTPHeaders"]["x-amzn-requestid"] == metadata["RequestId"]
    assert {name for name in metadata["HTTPHeaders"] if name.startswith("x-amz-")} == set()
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert seen(hasty, name, 1) == [[{"n": [1, "\u00e9"]}, metadata["RequestId"], "$LATEST", arn]]
    assert awaited(lambda: not waiting(hasty, name))


def test_an_event_without_a_payload_is_an_empty_object(hasty: Daemon, functions: Any, client: Any) -> None:
    name = functions.python(ECHOES)
    assert client.invoke(FunctionName=name, InvocationType="Event")["StatusCode"] == 202
    assert seen(hasty, name, 1)[0][0] == {}


def test_what_is_refused_at_once_is_not_in_the_queue(hasty: Daemon, functions: Any, client: Any) -> None:
    name = functions.python(ECHOES)

    def refused(payload: bytes, **other: Any) -> Any:
        return refusal(client.invoke, **{"FunctionName": name, **other}, InvocationType="Event", Payload=payload)

    too_large = b'"' + b"x" * (PAYLOAD_BYTES - 1) + b'"'
    assert refused(too_large) == (
        "RequestEntityTooLargeException",
        413,
        f"{PAYLOAD_BYTES + 1} byte payload is too large for the Event invocation type (limit {PAYLOAD_BYTES} bytes)",
    )
    assert refused(b"{")[:2] == ("InvalidRequestContentException", 400)
    assert refused(b"{}", FunctionName="absent")[:2] == ("ResourceNotFoundException", 404)
    assert refused(b"{}", Qualifier="7")[:2] == ("ResourceNotFoundException", 404)
    assert "AsyncEventsReceived" not in sums(hasty, name)


def test_the_largest_event_arrives_whole(hasty: Daemon, functions: Any, client: Any) -> None:
    name = functions.python("def handler(event, context):\n    print('got', event.count('x'), len(event))\n")
    characters = PAYLOAD_BYTES - len('""')
    send(client, name, "x" * characters)
    assert await_lines(hasty, name, "got", 1) == [f"got {characters} {characters}"]


def test_client_context_and_log_type_are_for_synchronous_invocations(
    hasty: Daemon, functions: Any, client: Any
) -> None:
    """As https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html says of both."""
    name = functions.python("def handler(event, context):\n    print('context', context.client_context)\n")
    context = base64.b64encode(b'{"custom": {"a": 1}}').decode()
    answer = client.invoke(FunctionName=name, InvocationType="Event", ClientContext=context, LogType="Tail")
    assert (answer["StatusCode"], answer.get("LogResult")) == (202, None)
    assert await_lines(hasty, name, "context", 1) == ["context None"]


@pytest.mark.filterwarnings("ignore")
def test_invoke_async(hasty: Daemon, functions: Any, client: Any) -> None:
    name = functions.python(FAILS)
    answer = client.invoke_async(FunctionName=name, InvokeArgs=b'{"n": 1}')
    assert answer["Status"] == 202
    (event,) = await_dead(hasty, name)
    assert (event["request_id"], event["invocations"]) == (answer["ResponseMetadata"]["RequestId"], ATTEMPTS)


def test_the_commands_of_the_guide(hasty: Daemon, client: Any, tmp_path: Path) -> None:
    environ = hasty.cli_environ()
    if shutil.which("aws", path=environ["PATH"]) is None:
        pytest.skip("the AWS CLI (aws) is not installed")

    def run_text(block: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def run(block: str) -> Any:
        return json.loads(run_text(block))

    (tmp_path / "payload.json").write_text('{"key": "by invoke-async"}')
    (tmp_path / "function.zip").write_bytes(zip_of({"app.py": ECHOES}))
    run(
        "aws lambda create-function --function-name my-function --runtime python3.11 --handler app.handler "
        "--role arn:aws:iam::000000000000:role/r --zip-file fileb://function.zip"
    )
    # Only version 2 of the CLI has the option; version 1 takes payloads as they are without it.
    is_second = run_text("aws --version").startswith("aws-cli/2")
    block = INVOKE_EVENT if is_second else INVOKE_EVENT.replace("  --cli-binary-format raw-in-base64-out \\\n", "")
    assert run(block) == {"StatusCode": 202}
    assert (tmp_path / "response.json").read_bytes() == b""
    assert run(INVOKE_ASYNC) == {"Status": 202}
    got = [event[0] for event in seen(hasty, "my-function", 2)]
    assert sorted(got, key=str) == [{"key": "by invoke-async"}, {"key": "value"}]


# Attempts


@pytest.mark.parametrize("language", [Language.PYTHON, Language.NODEJS], ids=["python", "node"])
def test_each_attempt_runs_and_logs_under_the_request_id(
    hasty: Daemon, functions: Any, client: Any, language: Language
) -> None:
    if language is Language.PYTHON:
        name = functions.python(FAILS)
    else:
        newest = require(installed(language), names(language)[-1])
        name = functions.create({"app.js": FAILS_IN_NODE}, Runtime=newest.name)
    request_id = send(client, name)
    (event,) = await_dead(hasty, name)
    assert (event["request_id"], event["condition"], event["invocations"]) == (
        request_id,
        "RetriesExhausted",
        ATTEMPTS,
    )
    assert (event["error_code"], event["error_message"]) == (200, "no luck")
    assert await_lines(hasty, name, "attempt", ATTEMPTS) == [f"attempt {request_id}"] * ATTEMPTS
    await_lines(hasty, name, "REPORT", ATTEMPTS)
    lines = [line for line in log_lines(hasty, name) if re.match("START|attempt|END|REPORT", line)]
    assert [line.split()[0] for line in lines] == ["START", "attempt", "END", "REPORT"] * ATTEMPTS
    assert all(request_id in line for line in lines)
    assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"


@pytest.mark.parametrize("retries", [0, 1])
def test_there_are_as_many_retries_as_configured(hasty: Daemon, functions: Any, client: Any, retries: int) -> None:
    name = functions.python(FAILS)
    client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=retries)
    send(client, name)
    (event,) = await_dead(hasty, name)
    assert (event["condition"], event["invocations"]) == ("RetriesExhausted", 1 + retries)
    await_lines(hasty, name, "attempt", 1 + retries)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (TIMES_OUT, r"RequestId: [0-9a-f-]{36} Error: Task timed out after 1\.00 seconds"),
        (EXITS, r"RequestId: [0-9a-f-]{36} Error: Runtime exited with error: exit status 3"),
        (NO_INIT, "no start"),
    ],
    ids=["time out", "exit", "init"],
)
def test_whatever_makes_an_invocation_fail_is_retried(
    hasty: Daemon, functions: Any, client: Any, source: str, message: str
) -> None:
    name = functions.python(source, Timeout=1)
    request_id = send(client, name)
    (event,) = await_dead(hasty, name)
    assert (event["condition"], event["invocations"], event["error_code"]) == ("RetriesExhausted", ATTEMPTS, 200)
    assert re.fullmatch(message, event["error_message"])
    await_lines(hasty, name, f"START RequestId: {request_id}", ATTEMPTS)


def test_a_function_that_is_repaired_meanwhile_succeeds(
    hasty: Daemon, functions: Any, client: Any, knock: str, door: Any
) -> None:
    name = functions.python(f"{knock}{KNOCKS}    1 / 0\n".replace("return 'let in'", ""), Timeout=60)
    request_id = send(client, name, {"door": door.address})
    visitor = door.await_knock()
    functions.update_code(name, ECHOES)
    visitor.let_in()
    assert seen(hasty, name, 1)[0][:2] == [{"door": door.address}, request_id]
    assert awaited(lambda: not waiting(hasty, name))
    assert dead(hasty, name) == []


# Versions and aliases


def test_an_event_runs_on_what_its_qualifier_names(hasty: Daemon, functions: Any, client: Any) -> None:
    name = functions.python(ECHOES)
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    functions.update_code(name, ECHOES + "\n")
    send(client, name, "version", Qualifier="1")
    send(client, f"{name}:live", "alias")
    send(client, name, "latest")
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    got = {event: (version, invoked) for event, _, version, invoked in seen(hasty, name, 3)}
    assert got == {"version": ("1", f"{arn}:1"), "alias": ("1", f"{arn}:live"), "latest": ("$LATEST", arn)}


def test_an_alias_splits_its_events(hasty: Daemon, functions: Any, client: Any) -> None:
    name = functions.python(ECHOES)
    client.publish_version(FunctionName=name)
    functions.update_code(name, ECHOES + "\n")
    client.publish_version(FunctionName=name)
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=weights)
    with ThreadPoolExecutor(8) as threads:
        sent = list(threads.map(lambda number: send(client, name, number, Qualifier="live"), range(400)))
    events = seen(hasty, name, 400)
    assert sorted(event[1] for event in events) == sorted(sent)
    shares = Counter(event[2] for event in events)
    assert set(shares) == {"1", "2"}
    assert 100 < shares["1"] < 300  # ten standard deviations on each side


# Concurrency


def test_a_hundred_events_run_at_once(functions: Any, client: Any, knock: str, door: Any) -> None:
    """Nobody is let in before all have knocked: each runs while all others do."""
    name = functions.python(knock + KNOCKS, Timeout=120)
    sent = {send(client, name, {"door": door.address}) for _ in range(100)}
    visitors = [door.await_knock() for _ in range(100)]
    assert {visitor.said for visitor in visitors} == sent
    for visitor in visitors:
        visitor.let_in()


def test_a_reservation_of_one_runs_them_one_by_one(hasty: Daemon, functions: Any, client: Any) -> None:
    name = functions.python(SLOW)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    for _ in range(20):
        send(client, name)
    spans = sorted(tuple(map(int, line.split()[1:])) for line in await_lines(hasty, name, "ran", 20))
    assert all(ended < began for (_, ended), (began, _) in pairwise(spans))
    assert awaited(lambda: not waiting(hasty, name))
    assert dead(hasty, name) == []


def test_events_that_are_throttled_by_others_run_when_there_is_room(
    hasty: Daemon, functions: Any, client: Any, knock: str, door: Any, background: Any
) -> None:
    """A synchronous invocation has the only place; the events wait for it, and throttles count for no attempt."""
    name = functions.python(knock + KNOCKS, Timeout=60)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    running = background.start(functions.invoke, name, {"door": door.address})
    first = door.await_knock()
    sent = {send(client, name, {"door": door.address}) for _ in range(3)}
    awaited(lambda: any(event["backoffs"] for event in waiting(hasty, name)))
    first.let_in()
    assert running.result().payload == "let in"
    ran = set()
    for _ in range(3):
        visitor = door.await_knock()
        ran.add(visitor.said)
        visitor.let_in()
    assert ran == sent
    assert awaited(lambda: not waiting(hasty, name))
    assert dead(hasty, name) == []


def test_a_synchronous_invocation_is_served_while_events_run(
    functions: Any, client: Any, knock: str, door: Any, background: Any
) -> None:
    name = functions.python(knock + KNOCKS, Timeout=60)
    for _ in range(10):
        send(client, name, {"door": door.address})
    held = [door.await_knock() for _ in range(10)]
    invoked = background.start(functions.invoke, name, {"door": door.address})
    visitor = door.await_knock()
    visitor.let_in()
    answer = invoked.result()
    assert (answer.payload, visitor.said) == ("let in", answer.request_id)
    for other in held:
        other.let_in()


def test_zero_concurrency_ends_events_without_an_attempt(hasty: Daemon, functions: Any, client: Any) -> None:
    name = functions.python(ECHOES)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    request_id = send(client, name)
    (event,) = await_dead(hasty, name)
    assert (event["request_id"], event["condition"], event["invocations"]) == (
        request_id,
        "ZeroReservedConcurrency",
        0,
    )
    assert (event["error_code"], event["error_message"]) == (429, "Rate Exceeded.")
    client.delete_function_concurrency(FunctionName=name)
    again = send(client, name)
    assert [event[1] for event in seen(hasty, name, 1)] == [again]


def test_events_of_a_function_that_is_deleted_meanwhile_end(
    hasty: Daemon, functions: Any, client: Any, knock: str, door: Any
) -> None:
    name = functions.python(knock + KNOCKS, Timeout=60)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    first = send(client, name, {"door": door.address})
    visitor = door.await_knock()
    assert visitor.said == first
    second = send(client, name, {"door": door.address})
    client.delete_function(FunctionName=name)
    visitor.let_in()
    (event,) = await_dead(hasty, name)
    assert (event["request_id"], event["condition"], event["invocations"]) == (second, "FunctionNotFound", 0)
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert (event["error_code"], event["error_message"]) == (404, f"Function not found: {arn}")
    assert awaited(lambda: not waiting(hasty, name))


# Metrics


def test_events_are_counted(hasty: Daemon, functions: Any, client: Any) -> None:
    name = functions.python(FAILS)
    for _ in range(4):
        send(client, name)
    await_dead(hasty, name, 4)
    counted = sums(hasty, name)
    ages = counted["AsyncEventAge"]
    of_events = {metric: value for metric, value in counted.items() if metric.startswith("Async")}
    assert of_events == {"AsyncEventsReceived": 4, "AsyncEventsDropped": 4, "AsyncEventAge": ages}
    assert (counted["Invocations"], counted["Errors"]) == (12, 12)
    assert ages >= 4 * (60 + 180)  # the waits before the second and the third attempt, in milliseconds
    functions.update_code(name, ECHOES)
    send(client, name)
    seen(hasty, name, 1)
    assert awaited(lambda: sums(hasty, name)["AsyncEventsReceived"] == 5)
    assert sums(hasty, name)["AsyncEventsDropped"] == 4

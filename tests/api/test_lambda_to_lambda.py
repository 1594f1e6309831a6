"""Functions that invoke functions, with the SDK that the runtime brings: at once or as events, at the limits too.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon
from installed_runtimes import installed, names, require
from lambdad.domain.runtimes import Language
from queued_events import await_lines, awaited, dead, send, waiting

CALLERS = 20
CHAINS = 10
DEPTH = 5
ROOM = {"Timeout": 120, "MemorySize": 256}

CALLS = """
import json
import boto3
from botocore.exceptions import ClientError

client = boto3.client("lambda")

def handler(event, context):
    if "door" in event:
        knock(event["door"], context.aws_request_id)
    try:
        answer = client.invoke(
            FunctionName=event["to"],
            InvocationType=event.get("type", "RequestResponse"),
            Payload=json.dumps(event["say"]),
        )
    except ClientError as error:
        return {"code": error.response["Error"]["Code"], "reason": error.response.get("Reason")}
    return {
        "status": answer["StatusCode"],
        "error": answer.get("FunctionError"),
        "request_id": answer["ResponseMetadata"]["RequestId"],
        "retries": answer["ResponseMetadata"]["RetryAttempts"],
        "payload": answer["Payload"].read().decode(),
        "endpoint": client.meta.endpoint_url,
        "own": context.aws_request_id,
    }
"""
ANSWERS = """
import json

def handler(event, context):
    if event == "fail":
        raise ValueError("as you wish")
    print("got " + json.dumps([event, context.aws_request_id]))
    return {"got": event, "by": context.aws_request_id}
"""
CALLS_FROM_NODE = """
const { LambdaClient, InvokeCommand } = require('@aws-sdk/client-lambda');
const client = new LambdaClient({});
exports.handler = async (event) => {
  const answer = await client.send(new InvokeCommand({
    FunctionName: event.to,
    InvocationType: event.type || 'RequestResponse',
    Payload: JSON.stringify(event.say),
  }));
  return {
    status: answer.StatusCode,
    request_id: answer.$metadata.requestId,
    payload: answer.Payload ? Buffer.from(answer.Payload).toString() : '',
  };
};
"""
TAKES_A_WHILE = "import time\n\ndef handler(event, context):\n    time.sleep(0.02)\n    return event\n"

# Without the SDK, whose import takes longer than everything else here.
INVOKES_ITSELF = """
import json
import os
import urllib.error
import urllib.request

URL = f"{os.environ['AWS_ENDPOINT_URL']}/2015-03-31/functions/{os.environ['AWS_LAMBDA_FUNCTION_NAME']}/invocations"
SCOPE = f"20260101/{os.environ['AWS_REGION']}/lambda/aws4_request"
ACCESS = f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{SCOPE}"

def handler(event, context):
    if event["door"] and event["depth"] == 1:
        knock(event["door"], context.aws_request_id)
    if event["depth"] == event["enough"]:
        return [event["depth"]]
    body = json.dumps({**event, "depth": event["depth"] + 1}).encode()
    request = urllib.request.Request(URL, body, {"Authorization": ACCESS, "X-Amz-Invocation-Type": event["type"]})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return [event["depth"], *json.load(answer)] if answer.status == 200 else answer.status
    except urllib.error.HTTPError as error:
        return [event["depth"], error.code, json.load(error)["Reason"]]
    finally:
        print("depth", event["depth"])
"""


@pytest.fixture(scope="module")
def caller(functions: Any, knock: str) -> Any:
    """A Python function that invokes another with boto3, which does not retry."""
    return functions.python(knock + CALLS, Environment={"Variables": {"AWS_MAX_ATTEMPTS": "1"}}, **ROOM)


def test_a_function_invokes_another_and_gets_its_answer(shared_daemon: Daemon, functions: Any, caller: str) -> None:
    callee = functions.python(ANSWERS)
    answer = functions.invoke(caller, {"to": callee, "say": {"n": [1, "\u00e9"]}}).payload
    assert json.loads(answer["payload"]) == {"got": {"n": [1, "\u00e9"]}, "by": answer["request_id"]}
    assert (answer["status"], answer["error"], answer["endpoint"]) == (200, None, shared_daemon.url)
    assert answer["own"] != answer["request_id"]


def test_an_error_of_the_other_is_an_answer_too(functions: Any, caller: str) -> None:
    answer = functions.invoke(caller, {"to": functions.python(ANSWERS), "say": "fail"}).payload
    assert (answer["status"], answer["error"]) == (200, "Unhandled")
    assert json.loads(answer["payload"])["errorMessage"] == "as you wish"
    refused = functions.invoke(caller, {"to": "absent", "say": 1}).payload
    assert refused["code"] == "ResourceNotFoundException"


def test_a_function_hands_an_event_to_another(shared_daemon: Daemon, functions: Any, caller: str) -> None:
    callee = functions.python(ANSWERS)
    answer = functions.invoke(caller, {"to": callee, "say": "later", "type": "Event"}).payload
    assert (answer["status"], answer["payload"]) == (202, "")
    (line,) = await_lines(shared_daemon, callee, "got ", 1)
    assert json.loads(line.removeprefix("got ")) == ["later", answer["request_id"]]


def test_from_node_with_its_sdk(shared_daemon: Daemon, functions: Any) -> None:
    name = require(installed(Language.NODEJS), names(Language.NODEJS)[-1], "@aws-sdk/client-lambda").name
    caller = functions.create({"app.js": CALLS_FROM_NODE}, Runtime=name, **ROOM)
    callee = functions.python(ANSWERS)
    answer = functions.invoke(caller, {"to": callee, "say": "now"}).payload
    assert answer["status"] == 200
    assert json.loads(answer["payload"]) == {"got": "now", "by": answer["request_id"]}
    later = functions.invoke(caller, {"to": callee, "say": "later", "type": "Event"}).payload
    assert (later["status"], later["payload"]) == (202, "")
    got = [json.loads(line.removeprefix("got ")) for line in await_lines(shared_daemon, callee, "got ", 2)]
    assert sorted(got) == sorted([["now", answer["request_id"]], ["later", later["request_id"]]])


def test_it_works_where_functions_reach_nothing_else(tmp_path: Path, functions_of: Any, knock: str) -> None:
    with Daemon(tmp_path / "data", ("--network", "isolated")) as daemon:
        functions = functions_of(daemon)
        caller, callee = functions.python(knock + CALLS, **ROOM), functions.python(ANSWERS)
        answer = functions.invoke(caller, {"to": callee, "say": "now"}).payload
        assert json.loads(answer["payload"])["got"] == "now"
        later = functions.invoke(caller, {"to": callee, "say": "later", "type": "Event"}).payload
        assert later["status"] == 202
        assert json.loads(await_lines(daemon, callee, "got ", 2)[-1].removeprefix("got "))[0] == "later"


# At the limits


def test_callers_of_a_function_that_is_full_are_told_so(
    functions: Any, aws_lambda: Any, caller: str, knock: str, door: Any, background: Any
) -> None:
    callee = functions.python(
        f"{knock}\ndef handler(event, context):\n    knock(event)\n    return 'in'\n", Timeout=120
    )
    aws_lambda.put_function_concurrency(FunctionName=callee, ReservedConcurrentExecutions=1)
    first = background.start(functions.invoke, caller, {"to": callee, "say": door.address})
    inside = door.await_knock()
    others = [
        background.start(functions.invoke, caller, {"to": callee, "say": door.address}) for _ in range(CALLERS - 1)
    ]
    for other in others:
        assert other.result().payload == {
            "code": "TooManyRequestsException",
            "reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
        }
    inside.let_in()
    assert json.loads(first.result().payload["payload"]) == "in"


def test_the_sdk_of_callers_tries_again(
    functions: Any, aws_lambda: Any, knock: str, door: Any, background: Any
) -> None:
    """Twenty callers at once for one place: each gets it in the end."""
    variables = {"AWS_MAX_ATTEMPTS": "40", "AWS_RETRY_MODE": "standard"}
    caller = functions.python(knock + CALLS, Environment={"Variables": variables}, **ROOM)
    callee = functions.python(TAKES_A_WHILE)
    aws_lambda.put_function_concurrency(FunctionName=callee, ReservedConcurrentExecutions=1)
    calls = [
        background.start(functions.invoke, caller, {"to": callee, "say": number, "door": door.address})
        for number in range(CALLERS)
    ]
    for visitor in [door.await_knock() for _ in calls]:
        visitor.let_in()
    answers = [call.result().payload for call in calls]
    assert [answer["payload"] for answer in answers] == [str(number) for number in range(CALLERS)]
    assert any(answer["retries"] for answer in answers)


def chain(depth: int = DEPTH, **event: Any) -> dict[str, Any]:
    return {"depth": 1, "enough": depth, "door": "", "type": "RequestResponse", **event}


def test_chains_of_a_function_that_invokes_itself_come_to_their_ends(functions: Any, knock: str) -> None:
    name = functions.python(knock + INVOKES_ITSELF, **ROOM)
    with ThreadPoolExecutor(CHAINS) as threads:
        answers = list(threads.map(lambda _: functions.invoke(name, chain()).payload, range(CHAINS)))
    assert answers == [list(range(1, DEPTH + 1))] * CHAINS


def test_chains_that_have_taken_every_place_are_throttled_and_do_not_wait_for_themselves(
    functions: Any, aws_lambda: Any, knock: str, door: Any, background: Any
) -> None:
    name = functions.python(knock + INVOKES_ITSELF, **ROOM)
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=CHAINS)
    running = [background.start(functions.invoke, name, chain(door=door.address)) for _ in range(CHAINS)]
    visitors = [door.await_knock() for _ in range(CHAINS)]
    visitors[0].let_in()
    full = "ReservedFunctionConcurrentInvocationLimitExceeded"
    ended = awaited(lambda: [invocation for invocation in running if invocation.done()])
    assert [invocation.result().payload for invocation in ended] == [[1, 429, full]]
    for visitor in visitors[1:]:
        visitor.let_in()
    for invocation in running:
        *depths, last = invocation.result().payload
        if last == full:
            assert depths.pop() == 429
        else:
            depths.append(last)
            assert last == DEPTH
        assert depths == list(range(1, len(depths) + 1))


def test_a_function_with_one_place_hands_itself_events(
    shared_daemon: Daemon, functions: Any, aws_lambda: Any, knock: str
) -> None:
    name = functions.python(knock + INVOKES_ITSELF, **ROOM)
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    send(aws_lambda, name, chain(DEPTH + 1, type="Event"))
    assert await_lines(shared_daemon, name, "depth", DEPTH) == [f"depth {number}" for number in range(1, DEPTH + 1)]
    assert awaited(lambda: not waiting(shared_daemon, name))
    assert dead(shared_daemon, name) == []

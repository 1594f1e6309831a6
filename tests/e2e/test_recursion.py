"""Functions that invoke themselves, directly or by way of others, are stopped after sixteen rounds.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from daemons import Daemon, create_python
from neighbours import MotoServer
from queued_events import HASTY, await_dead, await_lines, awaited, send, sums, waiting

ROUNDS = 16
STOPPED = (
    "Lambda has detected your function being invoked in a recursive loop with other AWS resources and stopped your "
    "function's invocation."
)

# Each prints its round, and invokes the function that the event names, or itself.
ASYNCHRONOUS = """
import json
import boto3

client = boto3.client("lambda")

def handler(event, context):
    print("round", event["round"])
    if event["round"] >= event.get("enough", 40):
        return
    event = {**event, "round": event["round"] + 1}
    if "to" in event:
        event["to"], name = context.function_name, event["to"]
    else:
        name = context.function_name
    client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
"""
BY_INVOKE_ASYNC = """
import boto3

client = boto3.client("lambda")

def handler(event, context):
    print("round", event)
    if event < 40:
        client.invoke_async(FunctionName=context.function_name, InvokeArgs=str(event + 1))
"""
SYNCHRONOUS = """
import json
import boto3
from botocore.exceptions import ClientError

client = boto3.client("lambda")

def handler(event, context):
    print("round", event["round"])
    if event["round"] >= event.get("enough", 40):
        return {"rounds": event["round"]}
    event = {**event, "round": event["round"] + 1}
    try:
        answer = client.invoke(FunctionName=context.function_name, Payload=json.dumps(event))
    except ClientError as error:
        return {
            "rounds": event["round"] - 1,
            "code": error.response["Error"]["Code"],
            "message": error.response["Error"]["Message"],
            "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
        }
    return json.load(answer["Payload"])
"""
ANSWERS = "def handler(event, context):\n    print('round', context.function_name)\n    return 'done'\n"
HEARS = "import json\n\ndef handler(event, context):\n    print('heard ' + json.dumps(event))\n"
# SQS takes the trace from the header that the SDK sends; moto keeps only what is said as a system attribute.
SENDS_TO_QUEUE = """
import os
import boto3

sqs = boto3.client("sqs", endpoint_url=os.environ["QUEUE_ENDPOINT"])

def handler(event, context):
    (record,) = event["Records"]
    number = int(record["body"])
    print("round", number)
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": os.environ["_X_AMZN_TRACE_ID"]}}
    sqs.send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=str(number + 1), MessageSystemAttributes=trace)
"""


@pytest.fixture(scope="module")
def daemon(moto: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that sends to moto's server and retries soon."""
    with Daemon(tmp_path_factory.mktemp("loops") / "data", (*moto.options, *HASTY)) as own:
        yield own


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Any:
    return daemon.client("lambda")


def create(client: Any, name: str, source: str, **options: Any) -> str:
    """Returns the ARN."""
    return str(create_python(client, name, source, Timeout=60, MemorySize=256, **options)["FunctionArn"])


def test_an_asynchronous_loop_is_stopped_and_told_of(
    daemon: Daemon, client: Any, moto: MotoServer, unique: Any
) -> None:
    name, hears = unique("loop"), unique("hears")
    letters = moto.queue(unique("letters"))
    create(client, name, ASYNCHRONOUS, DeadLetterConfig={"TargetArn": letters.arn})
    destination = create(client, hears, HEARS)
    client.put_function_event_invoke_config(
        FunctionName=name, DestinationConfig={"OnFailure": {"Destination": destination}}
    )
    send(client, name, {"round": 1})
    (letter,) = letters.await_messages(1)
    assert await_lines(daemon, name, "round", ROUNDS) == [f"round {number}" for number in range(1, ROUNDS + 1)]
    (event,) = await_dead(daemon, name)
    assert (event["condition"], event["invocations"]) == ("RecursiveInvocation", 0)
    assert (event["error_code"], event["error_message"]) == (400, STOPPED)

    stopped = {"round": ROUNDS + 1}
    assert json.loads(letter["Body"]) == stopped
    attributes = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert attributes == {"RequestID": event["request_id"], "ErrorCode": "400", "ErrorMessage": STOPPED}
    (heard,) = await_lines(daemon, hears, "heard", 1)
    record = json.loads(heard.removeprefix("heard "))
    assert record["requestPayload"] == stopped
    assert record["requestContext"]["requestId"] == event["request_id"]
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert "responsePayload" not in record

    counted = sums(daemon, name)
    assert (counted["RecursiveInvocationsDropped"], counted["AsyncEventsDropped"]) == (1, 1)
    assert counted["AsyncEventsReceived"] == ROUNDS + 1
    assert awaited(lambda: not waiting(daemon, name))


def test_a_loop_by_the_deprecated_operation_is_stopped_too(daemon: Daemon, client: Any, unique: Any) -> None:
    name = unique("loop")
    create(client, name, BY_INVOKE_ASYNC)
    send(client, name, 1)
    (event,) = await_dead(daemon, name)
    assert event["condition"] == "RecursiveInvocation"
    await_lines(daemon, name, "round", ROUNDS)


def test_a_synchronous_loop_ends_in_an_error_of_the_innermost_call(client: Any, daemon: Daemon, unique: Any) -> None:
    name = unique("loop")
    create(client, name, SYNCHRONOUS)
    answer = client.invoke(FunctionName=name, Payload=b'{"round": 1}')
    assert "FunctionError" not in answer
    assert json.load(answer["Payload"]) == {
        "rounds": ROUNDS,
        "code": "RecursiveInvocationException",
        "message": STOPPED,
        "status": 400,
    }
    await_lines(daemon, name, "round", ROUNDS)
    counted = sums(daemon, name)
    assert (counted["RecursiveInvocationsDropped"], counted["Invocations"]) == (1, ROUNDS)
    assert not any(metric.startswith("Async") for metric in counted)


def test_two_functions_that_invoke_each_other_are_stopped(daemon: Daemon, client: Any, unique: Any) -> None:
    ping, pong = unique("ping"), unique("pong")
    create(client, ping, ASYNCHRONOUS)
    create(client, pong, ASYNCHRONOUS)
    send(client, ping, {"round": 1, "to": pong})
    (event,) = await_dead(daemon, ping)
    assert event["condition"] == "RecursiveInvocation"
    assert await_lines(daemon, ping, "round", ROUNDS) == [f"round {number}" for number in range(1, 2 * ROUNDS, 2)]
    assert await_lines(daemon, pong, "round", ROUNDS) == [f"round {number}" for number in range(2, 2 * ROUNDS + 1, 2)]


def test_a_loop_through_destinations_is_stopped(daemon: Daemon, client: Any, unique: Any) -> None:
    ping, pong = unique("ping"), unique("pong")
    arns = {name: create(client, name, ANSWERS) for name in (ping, pong)}
    for name, other in ((ping, pong), (pong, ping)):
        client.put_function_event_invoke_config(
            FunctionName=name, DestinationConfig={"OnSuccess": {"Destination": arns[other]}}
        )
    client.update_function_event_invoke_config(
        FunctionName=ping, DestinationConfig={"OnFailure": {"Destination": arns[pong]}}
    )
    send(client, ping)
    (event,) = await_dead(daemon, ping)
    assert event["condition"] == "RecursiveInvocation"
    await_lines(daemon, ping, "round", ROUNDS)
    await_lines(daemon, pong, "round", ROUNDS)
    # What tells of the stopped event would go on with the loop, and is refused.
    (refused,) = await_dead(daemon, pong)
    assert (refused["purpose"], refused["condition"], refused["source"]) == ("OnFailure", "Refused", arns[ping])
    assert refused["error_message"].startswith("RecursiveInvocationException: ")
    assert sums(daemon, ping)["DestinationDeliveryFailures"] == 1


def test_a_loop_that_is_allowed_goes_on(daemon: Daemon, client: Any, unique: Any) -> None:
    name, enough = unique("loop"), 25
    create(client, name, ASYNCHRONOUS)
    client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
    send(client, name, {"round": 1, "enough": enough})
    await_lines(daemon, name, "round", enough)
    assert awaited(lambda: not waiting(daemon, name))
    counted = sums(daemon, name)
    assert (counted["AsyncEventsReceived"], counted["Invocations"], counted["Errors"]) == (enough, enough, 0)
    assert not counted.keys() & {"RecursiveInvocationsDropped", "AsyncEventsDropped"}


def test_the_same_function_is_invoked_as_often_as_one_likes_from_outside(
    daemon: Daemon, client: Any, unique: Any
) -> None:
    name = unique("often")
    create(client, name, ANSWERS)
    for _ in range(ROUNDS + 4):
        send(client, name)
    await_lines(daemon, name, "round", ROUNDS + 4)


def test_a_loop_through_a_queue_is_stopped(daemon: Daemon, client: Any, moto: MotoServer, unique: Any) -> None:
    name = unique("loop")
    queue = moto.queue(name)
    moto.client("sqs").set_queue_attributes(QueueUrl=queue.url, Attributes={"VisibilityTimeout": "60"})
    variables = {"QUEUE_ENDPOINT": moto.url, "QUEUE_URL": queue.url}
    create(client, name, SENDS_TO_QUEUE, Environment={"Variables": variables})
    mapping_id = client.create_event_source_mapping(FunctionName=name, EventSourceArn=queue.arn)["UUID"]
    moto.client("sqs").send_message(QueueUrl=queue.url, MessageBody="1")
    awaited(lambda: sums(daemon, name).get("RecursiveInvocationsDropped"))
    assert await_lines(daemon, name, "round", ROUNDS) == [f"round {number}" for number in range(1, ROUNDS + 1)]
    counted = sums(daemon, name)
    assert (counted["RecursiveInvocationsDropped"], counted["Invocations"]) == (1, ROUNDS)
    client.delete_event_source_mapping(UUID=mapping_id)

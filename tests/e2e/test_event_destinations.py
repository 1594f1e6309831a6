"""What became of asynchronous invocations, told to functions and to a server of SQS, SNS, EventBridge and S3.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from daemons import Daemon, create_python
from faults.wire import get
from neighbours import SERVICES, MotoServer
from queued_events import HASTY, await_dead, await_lines, awaited, dead, send, sums, waiting
from relay import Relay

FAILS = """
import os

def handler(event, context):
    print("trace", os.environ["_X_AMZN_TRACE_ID"])
    raise ValueError("no luck: \u00fc")
"""
WORKS = """
import os

def handler(event, context):
    print("trace", os.environ["_X_AMZN_TRACE_ID"])
    return {"got": event}
"""
HEARS = """
import json

def handler(event, context):
    print("heard " + json.dumps([context.aws_request_id, event]))
"""
EVENT = {"ORDER_IDS": ["9e07af03-ce31-4ff3-xmpl-36dce652cb4f", "a \u00fc"], "n": 1.5}
ATTEMPTS = 3
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PLACE = "us-east-1:000000000000"
HANGING_QUEUES = 5
EVENTS_EACH = 8
SOME_ATTEMPTS = 5

Take = Callable[[], list[Any]]


class Target(NamedTuple):
    """Something that is told, and what it has heard so far. Taking it may take it away."""

    arn: str
    take: Take


@pytest.fixture(scope="module")
def daemon(moto: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that sends to moto's server and retries soon."""
    with Daemon(tmp_path_factory.mktemp("destinations") / "data", (*moto.options, *HASTY)) as own:
        yield own


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Any:
    return daemon.client("lambda")


@pytest.fixture
def target(moto: MotoServer, daemon: Daemon, client: Any, unique: Any) -> Callable[[str], Target]:
    """Makes a target of a kind, that gives the records which it was sent."""

    def make(kind: str) -> Target:
        name = unique(kind)
        if kind == "sqs":
            queue = moto.queue(name)
            return Target(queue.arn, lambda: [json.loads(message["Body"]) for message in queue.take()])
        if kind == "sns":
            arn, queue = moto.topic_with_queue(name)
            return Target(arn, lambda: [json.loads(json.loads(each["Body"])["Message"]) for each in queue.take()])
        if kind == "events":
            arn, queue = moto.event_bus_with_queue(name)
            return Target(arn, lambda: [json.loads(each["Body"])["detail"] for each in queue.take()])
        if kind == "s3":
            s3 = moto.client("s3")
            s3.create_bucket(Bucket=name)
            return Target(f"arn:aws:s3:::{name}", lambda: [document for _, document in objects(s3, name)])
        arn = create_python(client, name, HEARS)["FunctionArn"]
        return Target(arn, lambda: [record for _, record in heard(daemon, name)])

    return make


def objects(s3: Any, bucket: str) -> list[tuple[str, Any]]:
    """The keys and documents of a bucket."""
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return [(key, json.load(s3.get_object(Bucket=bucket, Key=key)["Body"])) for key in keys]


def heard(daemon: Daemon, name: str) -> list[Any]:
    """The request ids and events with which `HEARS` was invoked, once there is one."""
    return [json.loads(line.removeprefix("heard ")) for line in await_lines(daemon, name, "heard ", 1)]


def configure(client: Any, name: str, **targets: str) -> None:
    """Set OnSuccess and OnFailure of a function."""
    destinations = {condition: {"Destination": arn} for condition, arn in targets.items()}
    client.put_function_event_invoke_config(FunctionName=name, DestinationConfig=destinations)


def arn_of(name: str) -> str:
    return f"arn:aws:lambda:{PLACE}:function:{name}"


def await_record(target: Target) -> Any:
    """The one record that a target is sent."""
    (record,) = awaited(target.take)
    return record


def check_time(record: dict[str, Any], sent_s: float) -> None:
    """Take the timestamp out of a record: it has AWS's form, and lies between the sending and now."""
    text = record.pop("timestamp")
    assert TIMESTAMP.fullmatch(text)
    moment_s = datetime.datetime.fromisoformat(text).timestamp()
    assert sent_s - 0.001 <= moment_s <= time.time()


def test_the_daemon_says_where_it_sends(daemon: Daemon, moto: MotoServer) -> None:
    described = get(daemon, "/_lambdad/info").json["neighbours"]
    elsewhere = {name: service["endpoint"] for name, service in described.items() if service["kind"] == "external"}
    assert elsewhere == dict.fromkeys(SERVICES, moto.url)


# The invocation record


@pytest.mark.parametrize("kind", ["sqs", "sns", "events", "lambda"])
def test_a_success_is_told(client: Any, unique: Any, target: Callable[[str], Target], kind: str) -> None:
    name, to = unique(), target(kind)
    create_python(client, name, WORKS)
    configure(client, name, OnSuccess=to.arn)
    sent_s = time.time()
    request_id = send(client, name, EVENT)
    record = await_record(to)
    assert list(record) == [
        "version",
        "timestamp",
        "requestContext",
        "requestPayload",
        "responseContext",
        "responsePayload",
    ]
    check_time(record, sent_s)
    assert record == {
        "version": "1.0",
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{arn_of(name)}:$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": EVENT,
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"got": EVENT},
    }


@pytest.mark.parametrize("kind", ["sqs", "sns", "events", "s3", "lambda"])
def test_a_failure_is_told(client: Any, unique: Any, target: Callable[[str], Target], kind: str) -> None:
    name, to = unique(), target(kind)
    create_python(client, name, FAILS)
    configure(client, name, OnFailure=to.arn)
    sent_s = time.time()
    request_id = send(client, name, EVENT)
    record = await_record(to)
    check_time(record, sent_s)
    answered = record.pop("responsePayload")
    assert (answered["errorMessage"], answered["errorType"], answered["requestId"]) == (
        "no luck: \u00fc",
        "ValueError",
        request_id,
    )
    assert record == {
        "version": "1.0",
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{arn_of(name)}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": ATTEMPTS,
        },
        "requestPayload": EVENT,
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
    }


def test_an_event_that_never_ran_is_told_without_a_response(
    client: Any, unique: Any, target: Callable[[str], Target]
) -> None:
    name, to = unique(), target("sqs")
    create_python(client, name, WORKS)
    configure(client, name, OnFailure=to.arn)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    send(client, name, EVENT)
    record = await_record(to)
    assert (record["requestContext"]["condition"], record["requestContext"]["approximateInvokeCount"]) == (
        "ZeroReservedConcurrency",
        0,
    )
    assert not {"responseContext", "responsePayload"} & set(record)


def test_the_other_outcome_is_not_told(daemon: Daemon, client: Any, unique: Any, moto: MotoServer) -> None:
    good, bad = moto.queue(unique("good")), moto.queue(unique("bad"))
    for source in (WORKS, FAILS):
        name = unique()
        create_python(client, name, source)
        configure(client, name, OnSuccess=good.arn, OnFailure=bad.arn)
        send(client, name, name)
        (record,) = (good if source == WORKS else bad).bodies(1)
        assert record["requestPayload"] == name
        assert awaited(lambda name=name: not waiting(daemon, name))
    for queue in (good, bad):
        assert awaited(lambda queue=queue: not waiting(daemon, queue.arn))
        assert queue.take() == []


def test_an_event_bus_gets_it_as_an_event_of_lambda(client: Any, unique: Any, moto: MotoServer) -> None:
    name = unique()
    bus, queue = moto.event_bus_with_queue(name)
    create_python(client, name, WORKS)
    configure(client, name, OnSuccess=bus)
    send(client, name)
    (event,) = queue.bodies(1)
    assert (event["source"], event["detail-type"]) == ("lambda", "Lambda Function Invocation Result - Success")
    assert event["resources"] == [bus, f"{arn_of(name)}:$LATEST"]


def test_a_bucket_gets_an_object_named_by_time_and_request(client: Any, unique: Any, moto: MotoServer) -> None:
    name, bucket = unique(), unique("bucket")
    s3 = moto.client("s3")
    s3.create_bucket(Bucket=bucket)
    create_python(client, name, FAILS)
    configure(client, name, OnFailure=f"arn:aws:s3:::{bucket}")
    request_id = send(client, name)
    ((key, record),) = awaited(lambda: objects(s3, bucket))
    day, moment = re.fullmatch(rf"aws/lambda/async/{name}/(\d{{4}}/\d\d/\d\d)/(.{{19}})-{request_id}", key).groups()
    assert moment[:10] == day.replace("/", "-")
    assert moment[10:] == "T" + record["timestamp"][11:19].replace(":", ".")


def test_a_function_that_is_told_has_a_request_of_its_own(
    daemon: Daemon, client: Any, unique: Any, target: Callable[[str], Target]
) -> None:
    name, hears = unique(), unique("hears")
    create_python(client, name, WORKS)
    configure(client, name, OnSuccess=create_python(client, hears, HEARS)["FunctionArn"])
    request_id = send(client, name)
    ((own, record),) = heard(daemon, hears)
    assert own != request_id == record["requestContext"]["requestId"]
    assert awaited(lambda: not waiting(daemon, hears))
    assert "AsyncEventsReceived" in sums(daemon, name)


def test_the_trace_goes_with_the_message(daemon: Daemon, client: Any, unique: Any, moto: MotoServer) -> None:
    """So that a loop through a queue is seen, and X-Ray shows the chain."""
    name, queue = unique(), moto.queue(unique())
    create_python(client, name, WORKS)
    configure(client, name, OnSuccess=queue.arn)
    send(client, name)
    (message,) = queue.await_messages(1)
    (line,) = await_lines(daemon, name, "trace", 1)
    sent, ran = (dict(part.split("=") for part in text.split(";")) for text in (trace_of(message), line.split()[1]))
    assert (sent["Root"], sent["Lineage"]) == (ran["Root"], ran["Lineage"])


def trace_of(message: dict[str, Any]) -> str:
    return str(message["Attributes"]["AWSTraceHeader"])


# Dead-letter queues


def test_a_dead_letter_is_the_event_with_three_attributes(client: Any, unique: Any, moto: MotoServer) -> None:
    name, queue = unique(), moto.queue(unique("letters"))
    create_python(client, name, FAILS, DeadLetterConfig={"TargetArn": queue.arn})
    request_id = send(client, name, EVENT)
    (letter,) = queue.await_messages(1)
    assert json.loads(letter["Body"]) == EVENT
    attributes = {
        attribute: (value["DataType"], value["StringValue"]) for attribute, value in letter["MessageAttributes"].items()
    }
    assert attributes == {
        "RequestID": ("String", request_id),
        "ErrorCode": ("Number", "200"),
        "ErrorMessage": ("String", "no luck: \u00fc"),
    }


def test_a_topic_takes_dead_letters_too(client: Any, unique: Any, moto: MotoServer) -> None:
    name = unique()
    topic, queue = moto.topic_with_queue(name)
    create_python(client, name, FAILS, DeadLetterConfig={"TargetArn": topic})
    request_id = send(client, name, EVENT)
    (notification,) = queue.bodies(1)
    assert json.loads(notification["Message"]) == EVENT
    values = {attribute: value["Value"] for attribute, value in notification["MessageAttributes"].items()}
    assert values == {"RequestID": request_id, "ErrorCode": "200", "ErrorMessage": "no luck: \u00fc"}


def test_a_failure_goes_to_the_destination_and_to_the_dead_letter_queue(
    client: Any, unique: Any, moto: MotoServer
) -> None:
    name, records, letters = unique(), moto.queue(unique("records")), moto.queue(unique("letters"))
    create_python(client, name, FAILS, DeadLetterConfig={"TargetArn": letters.arn})
    configure(client, name, OnFailure=records.arn)
    send(client, name, EVENT)
    (record,), (letter,) = records.bodies(1), letters.bodies(1)
    assert record["requestPayload"] == letter == EVENT


def test_a_configuration_of_an_alias_is_for_events_through_the_alias(
    daemon: Daemon, client: Any, unique: Any, moto: MotoServer
) -> None:
    name, queue = unique(), moto.queue(unique())
    create_python(client, name, FAILS, Publish=True)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.put_function_event_invoke_config(
        FunctionName=name,
        Qualifier="live",
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": queue.arn}},
    )
    for qualifier in ({}, {"Qualifier": "1"}, {"Qualifier": "live"}):
        send(client, name, qualifier, **qualifier)
    events = await_dead(daemon, name, 3)
    assert {(event["lane"], event["invocations"]) for event in events} == {
        (arn_of(name), ATTEMPTS),
        (f"{arn_of(name)}:1", ATTEMPTS),
        (f"{arn_of(name)}:live", 1),
    }
    (record,) = queue.bodies(1)
    assert record["requestContext"]["functionArn"] == f"{arn_of(name)}:live"
    assert record["responseContext"]["executedVersion"] == "1"
    assert awaited(lambda: not waiting(daemon, queue.arn))
    assert queue.take() == []


# Targets that fail


def test_a_target_that_was_deleted_is_a_counted_and_logged_failure(
    daemon: Daemon, client: Any, unique: Any, moto: MotoServer
) -> None:
    name, records, letters = unique(), moto.queue(unique("records")), moto.queue(unique("letters"))
    create_python(client, name, FAILS, DeadLetterConfig={"TargetArn": letters.arn})
    configure(client, name, OnFailure=records.arn)
    for queue in (records, letters):
        moto.client("sqs").delete_queue(QueueUrl=queue.url)
    request_id = send(client, name)
    for queue, purpose in ((records, "OnFailure"), (letters, "DeadLetterQueue")):
        (event,) = await_dead(daemon, queue.arn)
        assert (event["purpose"], event["condition"], event["request_id"]) == (purpose, "Refused", request_id)
        assert (event["source"], event["invocations"]) == (arn_of(name), ATTEMPTS)
        said = f"{purpose} of {arn_of(name)} (request {request_id}) cannot be sent to {queue.arn}: "
        (line,) = awaited(lambda said=said: [line for line in daemon.stderr().splitlines() if said in line])
        assert "NonExistentQueue" in line
    counted = sums(daemon, name)
    assert (counted["DeadLetterErrors"], counted["DestinationDeliveryFailures"]) == (1, 1)
    assert counted["AsyncEventsDropped"] == 1


def test_a_function_that_was_deleted_is_told_nothing(daemon: Daemon, client: Any, unique: Any) -> None:
    name, hears = unique(), unique("hears")
    create_python(client, name, WORKS)
    configure(client, name, OnSuccess=create_python(client, hears, HEARS)["FunctionArn"])
    client.delete_function(FunctionName=hears)
    send(client, name)
    (event,) = await_dead(daemon, hears)
    assert (event["condition"], event["error_code"]) == ("FunctionNotFound", 404)


@pytest.mark.parametrize("kind", ["sqs", "lambda"])
def test_a_record_that_is_too_large_is_a_counted_failure(
    daemon: Daemon, client: Any, unique: Any, target: Callable[[str], Target], kind: str
) -> None:
    name, to = unique(), target(kind)
    create_python(client, name, WORKS)
    configure(client, name, OnSuccess=to.arn)
    request_id = send(client, name, "x" * 150_000)
    (event,) = await_dead(daemon, to.arn)
    assert (event["request_id"], event["purpose"], event["condition"]) == (request_id, "OnSuccess", "Refused")
    assert sums(daemon, name)["DestinationDeliveryFailures"] == 1


@pytest.fixture
def relay(moto: MotoServer) -> Iterator[Relay]:
    with Relay(moto.url) as relay:
        yield relay


@pytest.fixture
def beyond(relay: Relay, moto: MotoServer, tmp_path: Any) -> Iterator[Daemon]:
    """A daemon that reaches SQS through the relay, and everything else without it."""
    urls = {**dict.fromkeys(SERVICES, moto.url), "sqs": relay.url}
    options = [part for service, url in urls.items() for part in ("--neighbour", f"{service}={url}")]
    with Daemon(tmp_path / "data", (*options, *HASTY)) as own:
        yield own


def test_a_target_that_was_away_gets_everything(relay: Relay, beyond: Daemon, unique: Any, moto: MotoServer) -> None:
    client = beyond.client("lambda")
    name, queue = unique(), moto.queue(unique())
    create_python(client, name, WORKS)
    configure(client, name, OnSuccess=queue.arn)
    relay.close()
    sent = {send(client, name, number) for number in range(20)}
    awaited(lambda: sum(event["backoffs"] for event in waiting(beyond, queue.arn)) >= SOME_ATTEMPTS)
    assert queue.take() == []
    relay.open()
    records = queue.bodies(20)
    assert {record["requestContext"]["requestId"] for record in records} == sent
    assert awaited(lambda: not waiting(beyond, queue.arn))
    assert dead(beyond, queue.arn) == []
    assert "DestinationDeliveryFailures" not in sums(beyond, name)


def test_a_service_that_hangs_delays_nobody_elses_events(
    relay: Relay, beyond: Daemon, unique: Any, moto: MotoServer
) -> None:
    """Five queues at eight deliveries each: more calls than the daemon makes at once to one service."""
    client = beyond.client("lambda")
    names = [unique("hung") for _ in range(HANGING_QUEUES)]
    queues = [moto.queue(name) for name in names]
    for name, queue in zip(names, queues, strict=True):
        create_python(client, name, WORKS)
        configure(client, name, OnSuccess=queue.arn)
    other = unique("other")
    topic, subscriber = moto.topic_with_queue(other)
    create_python(client, other, WORKS)
    configure(client, other, OnSuccess=topic)

    relay.hang()
    sent = [send(client, name) for name in names for _ in range(EVENTS_EACH)]
    for _ in range(EVENTS_EACH):
        assert relay.asked.acquire(timeout=30)
    assert awaited(lambda: sum(len(waiting(beyond, queue.arn)) for queue in queues) == len(sent))
    send(client, other)
    (notification,) = subscriber.bodies(1)
    assert json.loads(notification["Message"])["requestContext"]["functionArn"] == f"{arn_of(other)}:$LATEST"
    held = [event for queue in queues for event in waiting(beyond, queue.arn)]
    assert {event["backoffs"] for event in held} == {0}, "a call has timed out before the other function was served"

    relay.open()
    for queue in queues:
        assert len(queue.await_messages(EVENTS_EACH, timeout_s=60)) == EVENTS_EACH

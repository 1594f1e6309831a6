"""Deliveries as their targets get them, at moto's server: what botocore makes of them, and what comes out again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from lambdad.adapters.neighbours import AwsNeighbours
from lambdad.domain.events import Condition, Event, Purpose
from lambdad.domain.invocation_record import FunctionResponse, invocation_record
from lambdad.ports.neighbours import NeighbourRefused
from lambdad.services.deliveries import Deliveries
from neighbours import ACCOUNT_ID, REGION, MotoServer

FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:maker"
ID = "8ea123e4-1db7-4aca-ad10-d9ca1234c1fd"
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0;Lineage=1:0a1b2c3d:3"
NOW_MS = 1_700_000_000_123
EVENT = Event(3, FUNCTION, ID, '{"Straße": ["🎉", 1.10]}'.encode(), NOW_MS - 5000, NOW_MS, invocations=3)
RECORD = invocation_record(
    EVENT, Condition.RETRIES_EXHAUSTED, NOW_MS, FunctionResponse("$LATEST", b'{"errorMessage":"no"}', failed=True)
)
DELIVERY = replace(EVENT, accepted_ms=NOW_MS, payload=RECORD, purpose=Purpose.ON_FAILURE, trace=TRACE, source=FUNCTION)
LETTER = replace(
    DELIVERY, payload=EVENT.payload, purpose=Purpose.DEAD_LETTER, error_code=429, error_message="\x1b[31mRate\x00 ✗"
)


def deliver(moto: MotoServer, *deliveries: Event) -> None:
    async def scenario() -> None:
        sending = Deliveries(AwsNeighbours(moto.endpoints))
        for event in deliveries:
            await sending.deliver(event)

    asyncio.run(scenario())


def test_a_record_in_a_queue(moto: MotoServer, unique: Callable[[str], str]) -> None:
    queue = moto.queue(unique("queue"))
    deliver(moto, replace(DELIVERY, lane=queue.arn))
    (message,) = queue.take()
    assert message["Body"].encode() == RECORD
    assert json.loads(message["Body"])["requestPayload"] == {"Straße": ["🎉", 1.1]}
    assert message["Attributes"]["AWSTraceHeader"] == TRACE
    assert "MessageAttributes" not in message


def test_a_dead_letter_in_a_queue(moto: MotoServer, unique: Callable[[str], str]) -> None:
    queue = moto.queue(unique("queue"))
    deliver(moto, replace(LETTER, lane=queue.arn), replace(LETTER, lane=queue.arn, error_message=""))
    first, second = queue.await_messages(2)
    assert first["Body"].encode() == EVENT.payload
    assert first["MessageAttributes"] == {
        "RequestID": {"DataType": "String", "StringValue": ID},
        "ErrorCode": {"DataType": "Number", "StringValue": "429"},
        "ErrorMessage": {"DataType": "String", "StringValue": "\ufffd[31mRate\ufffd ✗"},
    }
    assert sorted(second["MessageAttributes"]) == ["ErrorCode", "RequestID"]


def test_a_record_through_a_topic(moto: MotoServer, unique: Callable[[str], str]) -> None:
    topic, subscriber = moto.topic_with_queue(unique("topic"))
    deliver(moto, replace(DELIVERY, lane=topic))
    (notification,) = subscriber.bodies(1)
    assert (notification["Type"], notification["TopicArn"]) == ("Notification", topic)
    assert notification["Message"].encode() == RECORD


def test_a_dead_letter_through_a_topic(moto: MotoServer, unique: Callable[[str], str]) -> None:
    topic, subscriber = moto.topic_with_queue(unique("topic"))
    deliver(moto, replace(LETTER, lane=topic))
    (notification,) = subscriber.bodies(1)
    assert notification["Message"].encode() == EVENT.payload
    assert notification["MessageAttributes"] == {
        "RequestID": {"Type": "String", "Value": ID},
        "ErrorCode": {"Type": "Number", "Value": "429"},
        "ErrorMessage": {"Type": "String", "Value": "\ufffd[31mRate\ufffd ✗"},
    }


@pytest.mark.parametrize(("purpose", "word"), [(Purpose.ON_SUCCESS, "Success"), (Purpose.ON_FAILURE, "Failure")])
def test_a_record_through_an_event_bus(
    moto: MotoServer, unique: Callable[[str], str], purpose: Purpose, word: str
) -> None:
    bus, subscriber = moto.event_bus_with_queue(unique("bus"))
    deliver(moto, replace(DELIVERY, lane=bus, purpose=purpose))
    (event,) = subscriber.bodies(1)
    assert event["source"] == "lambda"
    assert event["detail-type"] == f"Lambda Function Invocation Result - {word}"
    assert event["resources"] == [bus, f"{FUNCTION}:$LATEST"]
    assert event["detail"] == json.loads(RECORD)


def test_a_record_in_a_bucket(moto: MotoServer, unique: Callable[[str], str]) -> None:
    bucket, s3 = unique("bucket"), moto.client("s3")
    s3.create_bucket(Bucket=bucket)
    delivery = replace(DELIVERY, lane=f"arn:aws:s3:::{bucket}")
    deliver(moto, delivery, delivery)
    (found,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert found["Key"] == f"aws/lambda/async/maker/2023/11/14/2023-11-14T22.13.20-{ID}"
    stored = s3.get_object(Bucket=bucket, Key=found["Key"])
    assert stored["Body"].read() == RECORD
    assert stored["ContentType"] == "application/json"


def test_a_large_record_in_a_bucket(moto: MotoServer, unique: Callable[[str], str]) -> None:
    bucket, s3 = unique("bucket"), moto.client("s3")
    s3.create_bucket(Bucket=bucket)
    payload = b'"' + b"x" * (6 * 2**20) + b'"'
    deliver(moto, replace(DELIVERY, lane=f"arn:aws:s3:::{bucket}", payload=payload))
    (found,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert found["Size"] == len(payload)


def test_a_queue_in_another_region(moto: MotoServer, unique: Callable[[str], str]) -> None:
    name, sqs = unique("queue"), moto.client("sqs", "eu-west-1")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    deliver(moto, replace(DELIVERY, lane=f"arn:aws:sqs:eu-west-1:{ACCOUNT_ID}:{name}"))
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert message["Body"].encode() == RECORD


@pytest.mark.parametrize(
    ("lane", "code"),
    [
        (f"arn:aws:sqs:{REGION}:{ACCOUNT_ID}:absent", "AWS.SimpleQueueService.NonExistentQueue"),
        (f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:absent", "NotFound"),
        (f"arn:aws:events:{REGION}:{ACCOUNT_ID}:event-bus/absent", "ResourceNotFoundException"),
        ("arn:aws:s3:::absent", "NoSuchBucket"),
    ],
)
def test_a_target_that_is_gone_refuses(moto: MotoServer, lane: str, code: str) -> None:
    with pytest.raises(NeighbourRefused) as caught:
        deliver(moto, replace(DELIVERY, lane=lane))
    assert caught.value.code == code


def test_a_queue_that_is_deleted_and_made_again(moto: MotoServer, unique: Callable[[str], str]) -> None:
    queue = moto.queue(unique("queue"))
    delivery = replace(DELIVERY, lane=queue.arn)

    async def scenario() -> None:
        sending = Deliveries(AwsNeighbours(moto.endpoints))
        await sending.deliver(delivery)
        moto.client("sqs").delete_queue(QueueUrl=queue.url)
        with pytest.raises(NeighbourRefused):
            await sending.deliver(delivery)
        again = moto.queue(queue.arn.rpartition(":")[2])
        await sending.deliver(delivery)
        assert len(again.take()) == 1

    asyncio.run(scenario())

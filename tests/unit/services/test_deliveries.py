"""Who is told of the end of an invocation, and how each kind of target is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from lambdad.adapters.memory_neighbours import MemoryNeighbours
from lambdad.domain import quotas
from lambdad.domain.events import Condition, Event, Purpose
from lambdad.domain.functions import EventInvokeConfig, Function
from lambdad.domain.invocations import Outcome
from lambdad.domain.tracing import RECURSION_LIMIT, function_mark, trace_header
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable
from lambdad.services.deliveries import Answer, Deliveries, follow_ups
from lambdad.services.invoke import Target
from lambdad.services.queue_urls import QUEUE_URLS
from unit.services.fakes import KEY, draft

QUEUE = "arn:aws:sqs:eu-west-1:111111111111:q"
TOPIC = "arn:aws:sns:us-east-1:000000000000:t"
BUS = "arn:aws:events:us-east-1:000000000000:event-bus/b"
BUCKET = "arn:aws:s3:::bucket"
OTHER = "arn:aws:lambda:us-east-1:000000000000:function:other"
ID = "8ea123e4-1db7-4aca-ad10-d9ca1234c1fd"
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8"
NOW_MS = 1_700_000_000_123
ENDED = Event(
    3,
    KEY.arn,
    ID,
    b'{"n":1}',
    NOW_MS - 5000,
    NOW_MS - 1000,
    trace=TRACE,
    invocations=3,
    backoffs=2,
    error_code=200,
    error_message="broken",
)
FAILED = Answer("$LATEST", Outcome(b'{"errorMessage":"broken"}', "Error"))
WORKED = Answer("$LATEST", Outcome(b'"done"'))
DELIVERY = Event(
    9, QUEUE, ID, b'{"version":"1.0"}', NOW_MS, NOW_MS, Purpose.ON_FAILURE, trace=TRACE, source=f"{KEY.arn}:live"
)
LETTER = replace(DELIVERY, purpose=Purpose.DEAD_LETTER, payload=b'{"n":1}', error_code=200, error_message="broken")


def target(dead_letter: str = "", **destinations: str) -> Target:
    config = EventInvokeConfig(KEY, "$LATEST", 0.0, **destinations) if destinations else None
    return Target.of(Function(KEY), draft(dead_letter_arn=dead_letter), event_config=config)


def told(condition: Condition, to: Target, answer: Answer | None, event: Event = ENDED) -> tuple[Event, ...]:
    return follow_ups(event, condition, to, answer, NOW_MS)


# Who is told


def test_nobody_is_told_when_nobody_wants_to_hear() -> None:
    assert told(Condition.SUCCESS, target(), WORKED) == ()
    assert told(Condition.RETRIES_EXHAUSTED, target(), FAILED) == ()
    assert told(Condition.SUCCESS, target(QUEUE, on_failure=TOPIC), WORKED) == ()
    assert told(Condition.RETRIES_EXHAUSTED, target(on_success=TOPIC), FAILED) == ()


def test_a_success_is_told_to_its_destination() -> None:
    (delivery,) = told(Condition.SUCCESS, target(QUEUE, on_success=TOPIC, on_failure=BUS), WORKED)
    assert (delivery.id, delivery.lane, delivery.purpose) == (0, TOPIC, Purpose.ON_SUCCESS)
    assert (delivery.request_id, delivery.source) == (ID, KEY.arn)
    assert (delivery.accepted_ms, delivery.due_ms) == (NOW_MS, NOW_MS)
    assert (delivery.invocations, delivery.backoffs) == (0, 0)
    record = json.loads(delivery.payload)
    assert record["timestamp"] == "2023-11-14T22:13:20.123Z"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert record["responsePayload"] == "done"


def test_a_failure_is_told_to_its_destination_and_is_a_dead_letter() -> None:
    record, letter = told(Condition.RETRIES_EXHAUSTED, target(QUEUE, on_success=TOPIC, on_failure=BUS), FAILED)
    assert (record.lane, record.purpose) == (BUS, Purpose.ON_FAILURE)
    assert json.loads(record.payload)["responsePayload"] == {"errorMessage": "broken"}
    assert (letter.lane, letter.purpose, letter.payload) == (QUEUE, Purpose.DEAD_LETTER, ENDED.payload)
    assert (letter.request_id, letter.error_code, letter.error_message) == (ID, 200, "broken")
    assert letter.source == KEY.arn


def test_the_version_that_ran_has_the_dead_letter_queue() -> None:
    both = replace(target(QUEUE), additional=replace(draft(dead_letter_arn=TOPIC), version="2"))
    (of_first,) = told(Condition.RETRIES_EXHAUSTED, both, FAILED)
    (of_second,) = told(Condition.RETRIES_EXHAUSTED, both, replace(FAILED, executed_version="2"))
    (never_ran,) = told(Condition.EVENT_AGE_EXCEEDED, both, None)
    assert [of_first.lane, of_second.lane, never_ran.lane] == [QUEUE, TOPIC, QUEUE]


def test_an_event_that_never_ran_is_told_of_without_a_response() -> None:
    (delivery,) = told(
        Condition.ZERO_RESERVED_CONCURRENCY, target(on_failure=BUCKET), None, replace(ENDED, invocations=0)
    )
    record = json.loads(delivery.payload)
    assert record["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert "responseContext" not in record
    assert "responsePayload" not in record
    assert delivery.trace == TRACE


@pytest.mark.parametrize(
    ("payload", "shown"), [(b"<html>", "<html>"), (b"", ""), (b'"\xff"', '"\ufffd"'), (b"[" * 3000, "[" * 3000)]
)
def test_a_response_that_is_not_json_is_told_as_text(payload: bytes, shown: str) -> None:
    (delivery,) = told(Condition.SUCCESS, target(on_success=QUEUE), Answer("1", Outcome(payload)))
    assert json.loads(delivery.payload)["responsePayload"] == shown


def test_a_function_is_told_by_an_invocation_of_its_own() -> None:
    (event,) = told(Condition.RETRIES_EXHAUSTED, target(on_failure=f"{OTHER}:live"), FAILED)
    assert (event.lane, event.purpose, event.source) == (f"{OTHER}:live", Purpose.INVOCATION, "")
    assert event.request_id != ID
    assert json.loads(event.payload)["requestContext"]["requestId"] == ID
    assert (event.error_code, event.error_message, event.invocations, event.backoffs) == (0, "", 0, 0)
    assert (event.accepted_ms, event.due_ms) == (NOW_MS, NOW_MS)


def test_the_trace_goes_on_with_the_function_in_its_lineage() -> None:
    def earlier(trace: str) -> int:
        return trace_header(0.0, trace, "0" * 40, active=False, mark=function_mark(KEY.arn))[1]

    events = told(Condition.RETRIES_EXHAUSTED, target(QUEUE, on_failure=OTHER), FAILED)
    assert all(event.trace.startswith(TRACE) for event in events)
    assert [earlier(event.trace) for event in events] == [1, 1]
    assert earlier(ENDED.trace) == 0


def test_a_stopped_loop_does_not_go_on_through_its_failures() -> None:
    def looped(arn: str, rounds: int) -> Event:
        trace = TRACE
        for _ in range(rounds):
            trace, _ = trace_header(0.0, trace, "0" * 40, active=False, mark=function_mark(arn))
        return replace(ENDED, trace=trace, invocations=0)

    to = target(on_failure=f"{OTHER}:live")
    (stranger,) = told(Condition.RECURSIVE_INVOCATION, to, None, looped(KEY.arn, RECURSION_LIMIT))
    assert stranger.purpose is Purpose.INVOCATION
    (part_of_it,) = told(Condition.RECURSIVE_INVOCATION, to, None, looped(OTHER, RECURSION_LIMIT))
    assert (part_of_it.purpose, part_of_it.lane) == (Purpose.ON_FAILURE, f"{OTHER}:live")
    with pytest.raises(NeighbourRefused, match=r"RecursiveInvocationException: .* the recursive loop that was stopped"):
        asyncio.run(Deliveries(MemoryNeighbours()).deliver(part_of_it))


def test_a_function_is_not_told_more_than_an_event_may_have() -> None:
    large = Answer("1", Outcome(b'"' + b"x" * quotas.ASYNC_REQUEST_BYTES + b'"'))
    (event,) = told(Condition.SUCCESS, target(on_success=OTHER), large)
    assert event.purpose is Purpose.ON_SUCCESS
    with pytest.raises(NeighbourRefused) as caught:
        asyncio.run(Deliveries(MemoryNeighbours()).deliver(event))
    assert (caught.value.code, caught.value.status) == ("RequestTooLargeException", 413)
    (allowed,) = follow_ups(ENDED, Condition.SUCCESS, target(on_success=OTHER), large, NOW_MS, 2**20)
    assert allowed.purpose is Purpose.INVOCATION


# How they are told


def delivered(*events: Event, to: MemoryNeighbours | None = None) -> list[tuple[str, dict[str, Any]]]:
    """The calls that these deliveries make."""
    neighbours = to or MemoryNeighbours([QUEUE, TOPIC, BUS, BUCKET])

    async def scenario() -> None:
        deliveries = Deliveries(neighbours)
        for event in events:
            await deliveries.deliver(event)

    asyncio.run(scenario())
    return [(call.operation, dict(call.parameters)) for call in neighbours.calls]


def test_a_queue_gets_the_record_as_its_message() -> None:
    neighbours = MemoryNeighbours([QUEUE])
    asked, sent = delivered(DELIVERY, to=neighbours)
    assert asked == ("GetQueueUrl", {"QueueName": "q", "QueueOwnerAWSAccountId": "111111111111"})
    assert sent == (
        "SendMessage",
        {
            "QueueUrl": f"memory://sqs/{QUEUE}",
            "MessageBody": '{"version":"1.0"}',
            "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}},
        },
    )
    assert {(call.account_id, call.region, call.trace) for call in neighbours.calls} == {
        ("000000000000", "eu-west-1", TRACE)
    }


def test_a_dead_letter_is_the_event_with_what_went_wrong() -> None:
    _, (_, message) = delivered(replace(LETTER, trace=""))
    attributes = {
        "RequestID": {"DataType": "String", "StringValue": ID},
        "ErrorCode": {"DataType": "Number", "StringValue": "200"},
        "ErrorMessage": {"DataType": "String", "StringValue": "broken"},
    }
    assert message == {
        "QueueUrl": f"memory://sqs/{QUEUE}",
        "MessageBody": '{"n":1}',
        "MessageAttributes": attributes,
    }
    (published,) = delivered(replace(LETTER, lane=TOPIC))
    assert published == ("Publish", {"TopicArn": TOPIC, "Message": '{"n":1}', "MessageAttributes": attributes})


def test_a_topic_gets_the_record_as_its_message() -> None:
    (published,) = delivered(replace(DELIVERY, lane=TOPIC))
    assert published == ("Publish", {"TopicArn": TOPIC, "Message": '{"version":"1.0"}'})


def test_an_event_bus_gets_the_record_as_the_detail() -> None:
    ((operation, parameters),) = delivered(replace(DELIVERY, lane=BUS))
    assert operation == "PutEvents"
    (entry,) = parameters["Entries"]
    assert (entry["Detail"], entry["TraceHeader"]) == ('{"version":"1.0"}', TRACE)
    assert entry["Resources"] == [BUS, f"{KEY.arn}:live"]


def test_a_bucket_gets_an_object_in_the_region_of_the_function() -> None:
    neighbours = MemoryNeighbours([BUCKET])
    ((operation, parameters),) = delivered(replace(DELIVERY, lane=BUCKET), to=neighbours)
    assert (operation, parameters) == (
        "PutObject",
        {
            "Bucket": "bucket",
            "Key": f"aws/lambda/async/f/2023/11/14/2023-11-14T22.13.20-{ID}",
            "Body": b'{"version":"1.0"}',
            "ContentType": "application/json",
        },
    )
    assert neighbours.calls[0].region == "us-east-1"


def test_the_url_of_a_queue_is_asked_for_once() -> None:
    operations = [operation for operation, _ in delivered(DELIVERY, LETTER, DELIVERY)]
    assert operations == ["GetQueueUrl", "SendMessage", "SendMessage", "SendMessage"]


def test_after_a_refusal_the_url_is_asked_for_again() -> None:
    async def scenario() -> list[str]:
        neighbours = MemoryNeighbours([QUEUE])
        deliveries = Deliveries(neighbours)
        await deliveries.deliver(DELIVERY)
        neighbours.targets.clear()
        with pytest.raises(NeighbourRefused, match="NonExistentQueue"):
            await deliveries.deliver(DELIVERY)
        neighbours.targets.add(QUEUE)
        await deliveries.deliver(DELIVERY)
        return [call.operation for call in neighbours.calls]

    assert asyncio.run(scenario()) == ["GetQueueUrl", "SendMessage", "SendMessage", "GetQueueUrl", "SendMessage"]


def test_urls_are_remembered_within_bounds() -> None:
    queues = [f"{QUEUE}{number}" for number in range(QUEUE_URLS + 1)]
    neighbours = MemoryNeighbours(queues)
    delivered(*[replace(DELIVERY, lane=queue) for queue in [*queues, queues[-1], queues[0]]], to=neighbours)
    asked = [call.parameters["QueueName"] for call in neighbours.calls if call.operation == "GetQueueUrl"]
    assert len(asked) == QUEUE_URLS + 2
    assert asked[-1] == "q0"


@pytest.mark.parametrize("lane", [QUEUE, TOPIC, BUS, BUCKET])
def test_a_target_that_is_not_there_refuses(lane: str) -> None:
    with pytest.raises(NeighbourRefused):
        delivered(replace(DELIVERY, lane=lane), to=MemoryNeighbours())


@pytest.mark.parametrize("lane", [QUEUE, TOPIC, BUS, BUCKET])
def test_a_service_that_is_away_is_unavailable(lane: str) -> None:
    neighbours = MemoryNeighbours([lane])
    neighbours.failure = NeighbourUnavailable("away")
    with pytest.raises(NeighbourUnavailable, match="away"):
        delivered(replace(DELIVERY, lane=lane), to=neighbours)
    with pytest.raises(NeighbourUnavailable, match="has no endpoint"):
        delivered(replace(DELIVERY, lane=lane), to=MemoryNeighbours([lane], services=()))


@pytest.mark.parametrize(
    ("lane", "operation", "member"),
    [
        (QUEUE, "GetQueueUrl", "QueueUrl"),
        (QUEUE, "SendMessage", "MessageId"),
        (TOPIC, "Publish", "MessageId"),
        (BUS, "PutEvents", "Entries"),
        (BUCKET, "PutObject", "ETag"),
    ],
)
def test_an_answer_that_says_nothing_is_no_delivery(
    lane: str, operation: str, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbours = MemoryNeighbours([lane])
    monkeypatch.setitem(neighbours._operations, operation, lambda call: {})  # type: ignore[arg-type]
    with pytest.raises(NeighbourUnavailable, match=f"{operation} as AWS does: there is no {member}"):
        delivered(replace(DELIVERY, lane=lane), to=neighbours)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("MalformedDetail", NeighbourRefused),
        ("InternalFailure", NeighbourUnavailable),
        ("ThrottlingException", NeighbourUnavailable),
    ],
)
def test_an_entry_that_an_event_bus_did_not_take(
    code: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbours = MemoryNeighbours([BUS])
    answer = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": code, "ErrorMessage": "because"}]}
    monkeypatch.setitem(neighbours._operations, "PutEvents", lambda call: answer)  # type: ignore[arg-type]
    with pytest.raises(error, match=f"{code}: because"):
        delivered(replace(DELIVERY, lane=BUS), to=neighbours)


ATTRIBUTES = "RequestIDString" + ID + "ErrorCodeNumber200" + "ErrorMessageStringbroken"
ENTRY = "lambda" + "Lambda Function Invocation Result - Failure" + BUS + f"{KEY.arn}:live" + 14 * "t"


@pytest.mark.parametrize(
    ("event", "beside"),
    [
        (DELIVERY, ""),
        (LETTER, ATTRIBUTES),
        (replace(DELIVERY, lane=TOPIC), ""),
        (replace(LETTER, lane=TOPIC), ATTRIBUTES),
        (replace(DELIVERY, lane=BUS), ENTRY),
    ],
)
def test_what_is_too_large_is_refused_before_it_is_sent(event: Event, beside: str) -> None:
    fits = quotas.ASYNC_REQUEST_BYTES - len(beside)
    assert delivered(replace(event, payload=b"1" * fits))
    neighbours = MemoryNeighbours([QUEUE, TOPIC, BUS])
    with pytest.raises(NeighbourRefused, match="262145 bytes are more than the 262144 that"):
        delivered(replace(event, payload=b"1" * (fits + 1)), to=neighbours)
    assert neighbours.calls == []


def test_a_bucket_takes_any_size() -> None:
    payload = b'"' + b"x" * 12 * 2**20 + b'"'
    ((_, parameters),) = delivered(replace(DELIVERY, lane=BUCKET, payload=payload))
    assert parameters["Body"] == payload

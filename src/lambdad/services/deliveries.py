"""What becomes of asynchronous invocations, told to destinations and dead-letter queues.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from lambdad.domain import destinations, quotas
from lambdad.domain.arns import FunctionKey
from lambdad.domain.destinations import Destination
from lambdad.domain.errors import RecursiveInvocationException, RequestTooLargeException
from lambdad.domain.events import Condition, Event, Purpose
from lambdad.domain.invocation_record import (
    FunctionResponse,
    dead_letter_attributes,
    event_bus_entry,
    invocation_record,
    object_key,
    text_as_json,
)
from lambdad.domain.invocations import Outcome
from lambdad.domain.tracing import RECURSION_LIMIT, function_mark, trace_header
from lambdad.ports.neighbours import NeighbourRefused, Neighbours, NeighbourUnavailable
from lambdad.services.identifiers import new_request_id, new_trace_digits
from lambdad.services.invoke import Target
from lambdad.services.queue_urls import QueueUrls

_JSON: Final = msgspec.json.Decoder(type=msgspec.Raw)
_TIME_BYTES: Final = 14
"""What the time of an entry counts for (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html)."""
_PASSING_ENTRY_CODES: Final = frozenset({"InternalFailure", "InternalException", "ThrottlingException"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the function has answered at last, and the version that did."""

    executed_version: str
    outcome: Outcome


def follow_ups(
    event: Event,
    condition: Condition,
    target: Target,
    answer: Answer | None,
    now_ms: int,
    message_bytes: int = quotas.ASYNC_REQUEST_BYTES,
) -> tuple[Event, ...]:
    """The events that tell of the end of an invocation: for a destination, and for the dead-letter queue if it failed.

    `event` is as it ended, its last attempt counted. A destination that is a function gets an invocation of its own,
    with a new request id. What a function cannot be sent, because it is larger than `message_bytes` or would go on with
    a loop that was stopped, is a delivery to it instead: `Deliveries.deliver` refuses it, and so it is counted.
    """
    config, succeeded = target.event_config, condition is Condition.SUCCESS
    destination = None
    if config is not None:
        destination = config.on_success if succeeded else config.on_failure
    version = target.version
    if answer is not None and target.additional is not None and answer.executed_version == target.additional.version:
        version = target.additional
    told = replace(
        event,
        id=0,
        accepted_ms=now_ms,
        due_ms=now_ms,
        trace=_trace_beyond(event, target, now_ms),
        invocations=0,
        backoffs=0,
        source=event.lane,
    )
    events = []
    if destination:
        record = invocation_record(event, condition, now_ms, _response(answer))
        purpose = Purpose.ON_SUCCESS if succeeded else Purpose.ON_FAILURE
        delivery = replace(told, lane=destination, payload=record, purpose=purpose)
        parsed = destinations.parse(destination)
        is_invocation = (
            parsed.service == destinations.LAMBDA
            and len(record) <= message_bytes
            and not (condition is Condition.RECURSIVE_INVOCATION and _has_looped(parsed, told.trace))
        )
        events.append(_invocation(delivery) if is_invocation else delivery)
    if version.dead_letter_arn and not succeeded:
        events.append(replace(told, lane=version.dead_letter_arn, purpose=Purpose.DEAD_LETTER))
    return tuple(events)


def _invocation(delivery: Event) -> Event:
    return replace(
        delivery,
        request_id=new_request_id(),
        purpose=Purpose.INVOCATION,
        error_code=0,
        error_message="",
        source="",
    )


def _response(answer: Answer | None) -> FunctionResponse | None:
    if answer is None:
        return None
    payload = answer.outcome.payload
    try:
        _JSON.decode(payload)
        payload.decode("utf-8")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        payload = text_as_json(payload)
    return FunctionResponse(answer.executed_version, payload, answer.outcome.failed)


def _trace_beyond(event: Event, target: Target, now_ms: int) -> str:
    """The trace as the function saw it, with itself in the lineage: so a loop through destinations is seen too."""
    if event.invocations == 0:
        return event.trace
    active = target.version.tracing_mode == "Active"
    return trace_header(now_ms / 1000, event.trace, new_trace_digits(), active=active, mark=target.mark)[0]


def _has_looped(destination: Destination, trace: str) -> bool:
    """Whether an invocation of a function with this trace would be stopped as one of a recursive loop."""
    mark = function_mark(FunctionKey(destination.account_id, destination.region, destination.name).arn)
    return trace_header(0.0, trace, new_trace_digits(), active=False, mark=mark)[1] >= RECURSION_LIMIT


class Deliveries:
    """Sends deliveries to queues, topics, event buses and buckets.

    `message_bytes` is how much a message may have; more is refused before it is sent. Buckets take anything.
    """

    def __init__(self, neighbours: Neighbours, message_bytes: int = quotas.ASYNC_REQUEST_BYTES) -> None:
        self._neighbours = neighbours
        self._message_bytes = message_bytes
        self._queue_urls = QueueUrls(neighbours)
        self._senders = {
            destinations.SQS: self._to_queue,
            destinations.SNS: self._to_topic,
            destinations.EVENTS: self._to_event_bus,
            destinations.S3: self._to_bucket,
            destinations.LAMBDA: self._to_function,
        }

    async def deliver(self, event: Event) -> None:
        """Send a delivery once. Raises NeighbourUnavailable and NeighbourRefused."""
        target = destinations.parse(event.lane)
        await self._senders[target.service](event, target)

    async def _to_queue(self, event: Event, target: Destination) -> None:
        attributes = self._checked_attributes(event)
        url, _ = await self._queue_urls.find(target.arn, _owner(event)[0], event.trace)
        parameters: dict[str, Any] = {"QueueUrl": url, "MessageBody": event.payload.decode(), **attributes}
        if event.trace:
            header = {"DataType": "String", "StringValue": event.trace}
            parameters["MessageSystemAttributes"] = {"AWSTraceHeader": header}
        try:
            await self._call(event, target, "SendMessage", parameters, "MessageId")
        except NeighbourRefused:
            self._queue_urls.forget(target.arn)
            raise

    async def _to_topic(self, event: Event, target: Destination) -> None:
        attributes = self._checked_attributes(event)
        parameters = {"TopicArn": target.arn, "Message": event.payload.decode(), **attributes}
        await self._call(event, target, "Publish", parameters, "MessageId")

    async def _to_event_bus(self, event: Event, target: Destination) -> None:
        entry = event_bus_entry(event)
        texts = (entry["Source"], entry["DetailType"], *entry["Resources"])
        self._check_size(target, _TIME_BYTES + len(event.payload) + sum(len(text) for text in texts))
        (result,) = await self._call(event, target, "PutEvents", {"Entries": [entry]}, "Entries")
        code, message = str(result.get("ErrorCode") or ""), str(result.get("ErrorMessage") or "")
        if code in _PASSING_ENTRY_CODES:
            raise NeighbourUnavailable(f"events answered {code}: {message}")
        if code:
            raise NeighbourRefused(code, message, 400)

    async def _to_bucket(self, event: Event, target: Destination) -> None:
        parameters = {
            "Bucket": target.name,
            "Key": object_key(event),
            "Body": event.payload,
            "ContentType": "application/json",
        }
        await self._call(event, target, "PutObject", parameters, "ETag")

    async def _to_function(self, event: Event, target: Destination) -> None:
        """Functions are told by invocations; this is one that `follow_ups` could not make."""
        self._check_size(target, len(event.payload), RequestTooLargeException.code, RequestTooLargeException.status)
        raise NeighbourRefused(
            RecursiveInvocationException.code,
            f"{target.arn} is part of the recursive loop that was stopped",
            RecursiveInvocationException.status,
        )

    def _checked_attributes(self, event: Event) -> Mapping[str, Any]:
        """The message attributes of a dead letter, with which it is not too large; a record has none."""
        attributes = dead_letter_attributes(event) if event.purpose is Purpose.DEAD_LETTER else {}
        size = len(event.payload)
        for name, value in attributes.items():
            size += len(name) + len(value["DataType"]) + len(value["StringValue"].encode())
        self._check_size(destinations.parse(event.lane), size)
        return {"MessageAttributes": attributes} if attributes else {}

    def _check_size(
        self, target: Destination, size_bytes: int, code: str = "InvalidParameterValue", status: int = 400
    ) -> None:
        if size_bytes > self._message_bytes:
            raise NeighbourRefused(
                code, f"{size_bytes} bytes are more than the {self._message_bytes} that {target.service} takes", status
            )

    async def _call(
        self, event: Event, target: Destination, operation: str, parameters: Mapping[str, Any], member: str
    ) -> Any:
        """Call an operation on behalf of the function's account; returns a member that every answer of AWS's has."""
        account_id, region = _owner(event)
        answer = await self._neighbours.call(
            target.service,
            operation,
            parameters,
            account_id=account_id,
            region=target.region or region,
            trace=event.trace,
        )
        if not answer.get(member):
            raise NeighbourUnavailable(f"{target.service} did not answer {operation} as AWS does: there is no {member}")
        return answer[member]


def _owner(event: Event) -> tuple[str, str]:
    """The account and the region of the function whose event is told of."""
    _, _, _, region, account_id, _ = event.source.split(":", 5)
    return account_id, region

"""The record of an asynchronous invocation that destinations get, and what each kind of target gets beside it.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html#invocation-dlq
Payloads are JSON already: they are put in as they are.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from lambdad.domain.arns import LATEST
from lambdad.domain.events import Condition, Event, Purpose

ERROR_MESSAGE_BYTES: Final = 1024
"""Of the error message, a dead letter carries the first kilobyte."""
STATUS_CODE: Final = 200
"""The status of an invocation that has reached the function, whether that failed or not."""

_FUNCTION_PARTS: Final = 7
"""Of the ARN of a function without a version or alias."""
_UNSENDABLE: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that SQS and SNS refuse: those that XML cannot carry."""
_DETAIL_TYPES: Final = {
    Purpose.ON_SUCCESS: "Lambda Function Invocation Result - Success",
    Purpose.ON_FAILURE: "Lambda Function Invocation Result - Failure",
}


@dataclass(frozen=True, slots=True)
class FunctionResponse:
    """What the function has answered at last. `payload` is JSON."""

    executed_version: str
    payload: bytes
    failed: bool


def invocation_record(
    event: Event, condition: Condition, ended_ms: int, response: FunctionResponse | None = None
) -> bytes:
    """The record of an event that has ended, its last attempt counted.

    Without a response, when the function was never reached, there is no responseContext and no responsePayload.
    """
    head: dict[str, Any] = {
        "version": "1.0",
        "timestamp": timestamp(ended_ms),
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": qualified(event.lane),
            "condition": str(condition),
            "approximateInvokeCount": event.invocations,
        },
    }
    parts = [_members(head), b'"requestPayload":' + event.payload]
    if response is not None:
        context: dict[str, Any] = {"statusCode": STATUS_CODE, "executedVersion": response.executed_version}
        if response.failed:
            context["functionError"] = "Unhandled"
        parts += [_members({"responseContext": context}), b'"responsePayload":' + response.payload]
    return b"{" + b",".join(parts) + b"}"


def text_as_json(payload: bytes) -> bytes:
    """A response that is not JSON, as a string of JSON."""
    return json.dumps(payload.decode("utf-8", "replace"), ensure_ascii=False).encode()


def dead_letter_attributes(letter: Event) -> dict[str, dict[str, str]]:
    """The message attributes of a dead letter."""
    attributes = {
        "RequestID": {"DataType": "String", "StringValue": letter.request_id},
        "ErrorCode": {"DataType": "Number", "StringValue": str(letter.error_code)},
    }
    message = _UNSENDABLE.sub("\ufffd", letter.error_message).encode()[:ERROR_MESSAGE_BYTES].decode("utf-8", "ignore")
    if message:  # an attribute may not be empty
        attributes["ErrorMessage"] = {"DataType": "String", "StringValue": message}
    return attributes


def event_bus_entry(delivery: Event) -> dict[str, Any]:
    """The entry of PutEvents for a record. AWS writes a plain hyphen in the detail type, and the target first."""
    entry: dict[str, Any] = {
        "Time": _moment(delivery.accepted_ms),
        "Source": "lambda",
        "Resources": [delivery.lane, qualified(delivery.source)],
        "DetailType": _DETAIL_TYPES[delivery.purpose],
        "Detail": delivery.payload.decode(),
        "EventBusName": delivery.lane,
    }
    if delivery.trace:
        entry["TraceHeader"] = delivery.trace
    return entry


def object_key(delivery: Event) -> str:
    """The key of a record in a bucket: `aws/lambda/async/<function>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<UUID>`.

    The UUID is that of the request, so that a record which is sent twice is one object.
    """
    name = delivery.source.split(":")[_FUNCTION_PARTS - 1]
    moment = _moment(delivery.accepted_ms)
    return f"aws/lambda/async/{name}/{moment:%Y/%m/%d}/{moment:%Y-%m-%dT%H.%M.%S}-{delivery.request_id}"


def qualified(function_arn: str) -> str:
    """The ARN with a version or alias: `$LATEST` when it has none."""
    return f"{function_arn}:{LATEST}" if function_arn.count(":") < _FUNCTION_PARTS else function_arn


def timestamp(time_ms: int) -> str:
    """A time as records have it: `2019-11-14T18:16:05.568Z`."""
    return f"{_moment(time_ms):%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def _moment(time_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time_ms // 1000, datetime.UTC)


def _members(values: dict[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()[1:-1]

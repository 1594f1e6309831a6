"""The invocation record to the letter of AWS's documentation, and what targets get beside it."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace

import pytest

from lambdad.domain.events import Condition, Event, Purpose
from lambdad.domain.invocation_record import (
    ERROR_MESSAGE_BYTES,
    FunctionResponse,
    dead_letter_attributes,
    event_bus_entry,
    invocation_record,
    object_key,
    qualified,
    text_as_json,
    timestamp,
)

FUNCTION = "arn:aws:lambda:us-east-2:123456789012:function:my-function"
REQUEST_ID = "e4b46cbf-b738-4d6e-8880-a18cdf61200e"
BUS = "arn:aws:events:us-east-2:123456789012:event-bus/my-bus"
ENDED_MS = 1_573_755_365_568
EVENT = Event(7, FUNCTION, REQUEST_ID, b'{"ORDER_IDS": ["9e07af03"]}', ENDED_MS - 180_000, ENDED_MS, invocations=3)


def test_the_record_of_an_event_that_failed_three_times() -> None:
    response = FunctionResponse("$LATEST", b'{"errorMessage":"RequestId: e4 Process exited"}', failed=True)
    record = invocation_record(EVENT, Condition.RETRIES_EXHAUSTED, ENDED_MS, response)
    document = {
        "version": "1.0",
        "timestamp": "2019-11-14T18:16:05.568Z",
        "requestContext": {
            "requestId": REQUEST_ID,
            "functionArn": f"{FUNCTION}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"ORDER_IDS": ["9e07af03"]},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "RequestId: e4 Process exited"},
    }
    assert json.loads(record) == document
    assert list(json.loads(record)) == list(document)


def test_a_success_has_no_function_error() -> None:
    event = replace(EVENT, lane=f"{FUNCTION}:live", invocations=1)
    record = json.loads(invocation_record(event, Condition.SUCCESS, ENDED_MS, FunctionResponse("4", b"null", False)))
    assert record["requestContext"] == {
        "requestId": REQUEST_ID,
        "functionArn": f"{FUNCTION}:live",
        "condition": "Success",
        "approximateInvokeCount": 1,
    }
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "4"}
    assert record["responsePayload"] is None


@pytest.mark.parametrize(
    "condition",
    [Condition.EVENT_AGE_EXCEEDED, Condition.ZERO_RESERVED_CONCURRENCY, Condition.RECURSIVE_INVOCATION],
)
def test_an_event_that_never_ran_has_no_response(condition: Condition) -> None:
    record = json.loads(invocation_record(replace(EVENT, invocations=0), condition, ENDED_MS))
    assert list(record) == ["version", "timestamp", "requestContext", "requestPayload"]
    assert record["requestContext"]["condition"] == condition
    assert record["requestContext"]["approximateInvokeCount"] == 0


def test_payloads_pass_through_as_they_are() -> None:
    request, response = b'{ "a":1.10, "a":2,\n"\xc3\xbc":"\\u00fc" }', b' [1e400,\t"\xf0\x9f\x8e\x89"]'
    event = replace(EVENT, payload=request)
    record = invocation_record(event, Condition.SUCCESS, ENDED_MS, FunctionResponse("1", response, False))
    assert b'"requestPayload":' + request + b',"responseContext"' in record
    assert record.endswith(b'"responsePayload":' + response + b"}")


@pytest.mark.parametrize(
    ("payload", "text"),
    [(b"", ""), (b'plain "text"\n', 'plain "text"\n'), (b"\xff\xc3\xbc", "\ufffdü"), (b"\x00", "\x00")],
)
def test_a_response_that_is_not_json(payload: bytes, text: str) -> None:
    assert json.loads(text_as_json(payload)) == text


def test_what_a_dead_letter_says() -> None:
    letter = replace(EVENT, purpose=Purpose.DEAD_LETTER, error_code=200, error_message="it broke")
    assert dead_letter_attributes(letter) == {
        "RequestID": {"DataType": "String", "StringValue": REQUEST_ID},
        "ErrorCode": {"DataType": "Number", "StringValue": "200"},
        "ErrorMessage": {"DataType": "String", "StringValue": "it broke"},
    }
    assert "ErrorMessage" not in dead_letter_attributes(replace(letter, error_message=""))


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ("x" * 2000, "x" * ERROR_MESSAGE_BYTES),
        ("ü" * 600, "ü" * 512),
        ("a" + "🎉" * 300, "a" + "🎉" * 255),
        ("\x1b[31mred\x00\ufffe", "\ufffd[31mred\ufffd\ufffd"),
        ("tab\tand\r\nline \ud7ff\ue000\U0001f389", "tab\tand\r\nline \ud7ff\ue000\U0001f389"),
    ],
)
def test_an_error_message_is_cut_and_can_be_sent(message: str, sent: str) -> None:
    attributes = dead_letter_attributes(replace(EVENT, error_message=message))
    assert attributes["ErrorMessage"]["StringValue"] == sent


@pytest.mark.parametrize(("purpose", "word"), [(Purpose.ON_SUCCESS, "Success"), (Purpose.ON_FAILURE, "Failure")])
def test_the_entry_for_an_event_bus(purpose: Purpose, word: str) -> None:
    delivery = replace(
        EVENT, lane=BUS, source=FUNCTION, purpose=purpose, payload=b'{"\xc3\xbc":1}', accepted_ms=ENDED_MS
    )
    entry = {
        "Time": datetime.datetime(2019, 11, 14, 18, 16, 5, tzinfo=datetime.UTC),
        "Source": "lambda",
        "Resources": [BUS, f"{FUNCTION}:$LATEST"],
        "DetailType": f"Lambda Function Invocation Result - {word}",
        "Detail": '{"ü":1}',
        "EventBusName": BUS,
    }
    assert event_bus_entry(delivery) == entry
    assert event_bus_entry(replace(delivery, trace="Root=1")) == {**entry, "TraceHeader": "Root=1"}


def test_the_key_of_an_object() -> None:
    delivery = replace(EVENT, lane="arn:aws:s3:::bucket", source=f"{FUNCTION}:7", accepted_ms=ENDED_MS)
    assert object_key(delivery) == f"aws/lambda/async/my-function/2019/11/14/2019-11-14T18.16.05-{REQUEST_ID}"


def test_times_have_three_digits_of_milliseconds() -> None:
    assert timestamp(1_000_000_000_007) == "2001-09-09T01:46:40.007Z"
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize("qualifier", ["$LATEST", "7", "live"])
def test_a_function_that_was_named_with_a_qualifier_keeps_it(qualifier: str) -> None:
    assert qualified(f"{FUNCTION}:{qualifier}") == f"{FUNCTION}:{qualifier}"
    assert qualified(FUNCTION) == f"{FUNCTION}:$LATEST"

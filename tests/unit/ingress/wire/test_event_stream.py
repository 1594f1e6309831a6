"""The messages of an event stream, read by botocore's decoder."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.model import ServiceModel
from botocore.parsers import EventStreamJSONParser
from hypothesis import given
from hypothesis import strategies as st

from lambdad.ingress.wire import event_stream
from unit.ingress.wire.shape_strategies import description


def decoded(stream: bytes, piece: int = 7) -> list[Any]:
    buffer, messages = EventStreamBuffer(), []
    for start in range(0, len(stream), piece):
        buffer.add_data(stream[start : start + piece])
        messages.extend(buffer)
    return messages


def as_events(stream: bytes) -> list[dict[str, Any]]:
    """What a client of InvokeWithResponseStream sees."""
    model = ServiceModel(description("lambda"), "lambda")
    shape = model.operation_model("InvokeWithResponseStream").output_shape.members["EventStream"]
    parser = EventStreamJSONParser()
    return [parser.parse(message.to_response_dict(), shape) for message in decoded(stream)]


names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)


@given(
    headers=st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"])), max_size=4), payload=st.binary()
)
def test_a_message_is_read_as_it_was_written(headers: dict[str, str], payload: bytes) -> None:
    (message,) = decoded(event_stream.encode(headers, payload))
    assert (message.headers, message.payload) == (headers, payload)


def test_a_response_stream() -> None:
    stream = (
        event_stream.payload_chunk(b"first")
        + event_stream.payload_chunk(b"")
        + event_stream.payload_chunk(bytes(range(256)))
        + event_stream.invoke_complete(None, None, None)
    )
    assert as_events(stream) == [
        {"PayloadChunk": {"Payload": b"first"}},
        {"PayloadChunk": {"Payload": b""}},
        {"PayloadChunk": {"Payload": bytes(range(256))}},
        {"InvokeComplete": {}},
    ]


def test_the_end_of_a_response_stream_that_failed() -> None:
    details = json.dumps({"errorType": "Error", "errorMessage": "ä"})
    assert as_events(event_stream.invoke_complete("Unhandled", details, "TE9H")) == [
        {"InvokeComplete": {"ErrorCode": "Unhandled", "ErrorDetails": details, "LogResult": "TE9H"}}
    ]


def test_the_headers_of_an_event() -> None:
    (message,) = decoded(event_stream.payload_chunk(b"x"))
    assert message.headers == {
        ":message-type": "event",
        ":event-type": "PayloadChunk",
        ":content-type": "application/octet-stream",
    }


@pytest.mark.parametrize("headers", [{"": "x"}, {"n" * 256: "x"}, {"n": "x" * 32768}])
def test_a_header_that_does_not_fit_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        event_stream.encode(headers, b"")

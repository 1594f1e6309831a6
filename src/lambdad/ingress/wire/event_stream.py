"""The messages of `application/vnd.amazon.eventstream`, and the two events of InvokeWithResponseStream.

A message is: total length, headers length, CRC-32 of these eight bytes, headers, payload, CRC-32 of all before it;
every integer four bytes, big-endian. https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import json
import struct
from binascii import crc32
from collections.abc import Mapping
from typing import Final

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"
_STRING: Final = 7  # the type of a header whose value is UTF-8 text behind a two-byte length
_OVERHEAD_BYTES: Final = 16  # the prelude with its CRC, and the CRC of the message


def encode(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message. Raises ValueError when a header's name or value is too long for its length field."""
    return _message(b"".join(_header(name, value) for name, value in headers.items()), payload)


def payload_chunk(chunk: bytes) -> bytes:
    """Bytes that a function has written to its response stream."""
    return _message(_PAYLOAD_CHUNK_HEADERS, chunk)


def invoke_complete(error_code: str | None, error_details: str | None, log_result: str | None) -> bytes:
    """The end of a response stream; what is None is left out. `log_result` is base64 text."""
    members = {"ErrorCode": error_code, "ErrorDetails": error_details, "LogResult": log_result}
    present = {name: value for name, value in members.items() if value is not None}
    return _message(_INVOKE_COMPLETE_HEADERS, json.dumps(present).encode())


def _message(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack(">II", len(headers) + len(payload) + _OVERHEAD_BYTES, len(headers))
    prelude += struct.pack(">I", crc32(prelude))
    # The CRC is carried from part to part, so that a large payload is copied once only.
    checksum = crc32(payload, crc32(headers, crc32(prelude)))
    return b"".join((prelude, headers, payload, struct.pack(">I", checksum)))


def _header(name: str, value: str) -> bytes:
    encoded_name, encoded_value = name.encode(), value.encode()
    if not 0 < len(encoded_name) < 1 << 8 or len(encoded_value) >= 1 << 15:
        raise ValueError(f"the header {name[:64]!r} does not fit in an event stream message")
    return (
        struct.pack(">B", len(encoded_name))
        + encoded_name
        + struct.pack(">BH", _STRING, len(encoded_value))
        + encoded_value
    )


def _event_headers(event_type: str, content_type: str) -> bytes:
    headers = {":event-type": event_type, ":content-type": content_type, ":message-type": "event"}
    return b"".join(_header(name, value) for name, value in headers.items())


_PAYLOAD_CHUNK_HEADERS: Final = _event_headers("PayloadChunk", "application/octet-stream")
_INVOKE_COMPLETE_HEADERS: Final = _event_headers("InvokeComplete", "application/json")

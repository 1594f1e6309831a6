"""Errors in the name of other services, in the protocol in which the client has asked.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and https://smithy.io/2.0/aws/protocols/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final
from xml.sax.saxutils import escape

from lambdad.domain.neighbour_services import Protocol
from lambdad.ingress.messages import Response

_XML: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_TEXT: Final = 3 << 5  # CBOR's major type of text strings
_MAP_OF_TWO: Final = 0xA2

Body = Callable[[str, str, int, str], bytes]
"""From code, message, status and request id."""


def render(
    protocol: Protocol,
    code: str,
    message: str,
    status: int,
    request_id: str,
    headers: Sequence[tuple[str, str]] = (),
) -> Response:
    """An error answer that the SDKs read as `code` and `message`."""
    content_type, body = _BODIES[protocol]
    every = [("Content-Type", content_type), ("x-amzn-RequestId", request_id), *headers]
    if protocol is Protocol.REST_XML:
        every.append(("x-amz-request-id", request_id))
    elif protocol in (Protocol.JSON, Protocol.REST_JSON):
        every.append(("x-amzn-ErrorType", code))
    elif protocol is Protocol.CBOR:
        every.append(("smithy-protocol", Protocol.CBOR.value.removeprefix("smithy-")))
    return Response(status, every, body(code, message, status, request_id))


def _json(code: str, message: str, status: int, request_id: str) -> bytes:
    return json.dumps({"__type": code, "message": message}).encode()


def _s3(code: str, message: str, status: int, request_id: str) -> bytes:
    return _xml(f"<Error>{_details(code, message)}<RequestId>{request_id}</RequestId></Error>")


def _query(code: str, message: str, status: int, request_id: str) -> bytes:
    fault = "Receiver" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "Sender"
    error = f"<Error><Type>{fault}</Type>{_details(code, message)}</Error>"
    return _xml(f"<ErrorResponse>{error}<RequestId>{request_id}</RequestId></ErrorResponse>")


def _ec2(code: str, message: str, status: int, request_id: str) -> bytes:
    error = f"<Errors><Error>{_details(code, message)}</Error></Errors>"
    return _xml(f"<Response>{error}<RequestID>{request_id}</RequestID></Response>")


def _details(code: str, message: str) -> str:
    return f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"


def _xml(text: str) -> bytes:
    return (_XML + text).encode()


def _cbor(code: str, message: str, status: int, request_id: str) -> bytes:
    """https://www.rfc-editor.org/rfc/rfc8949"""
    return bytes([_MAP_OF_TWO]) + b"".join(_cbor_text(text) for text in ("__type", code, "message", message))


def _cbor_text(text: str) -> bytes:
    encoded = text.encode()
    return bytes([_TEXT | 26]) + len(encoded).to_bytes(4, "big") + encoded  # 26: four bytes of length follow


_BODIES: Final[dict[Protocol, tuple[str, Body]]] = {
    Protocol.JSON: ("application/x-amz-json-1.1", _json),
    Protocol.REST_JSON: ("application/json", _json),
    Protocol.REST_XML: ("application/xml", _s3),
    Protocol.QUERY: ("text/xml", _query),
    Protocol.EC2: ("text/xml", _ec2),
    Protocol.CBOR: ("application/cbor", _cbor),
}

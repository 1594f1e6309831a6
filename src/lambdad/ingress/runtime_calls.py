"""Calls of the Runtime API as they arrive: a request's head, and the parts of its body."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final

from lambdad.services.running import ResponseChunks

INVOCATION: Final = b"/2018-06-01/runtime/invocation/"
ERROR_TYPE: Final = b"lambda-runtime-function-error-type"


class Call:
    """A request of a runtime or an extension, while it arrives."""

    __slots__ = ("acknowledge_late", "chunks", "headers", "method", "parts", "path", "refused", "request_id", "size")

    def __init__(self, method: bytes, path: bytes, headers: dict[bytes, bytes]) -> None:
        self.method = method
        self.path = path
        self.headers = headers  # by lower-case name; of most calls, few are looked at
        self.parts: list[bytes] = []
        self.size = 0
        self.chunks: ResponseChunks | None = None
        self.refused = False
        self.request_id = ""
        self.acknowledge_late = headers.get(b"lambda-runtime-acknowledge") == b"with-next"

    def header(self, name: bytes, default: str = "") -> str:
        value = self.headers.get(name)
        return default if value is None else value.decode("latin-1")


def invocation_of(path: bytes) -> tuple[str, bytes]:
    """The request id in a path below `invocation/`, and what comes after it."""
    if not path.startswith(INVOCATION):
        return "", b""
    request_id, _, what = path[len(INVOCATION) :].partition(b"/")
    return request_id.decode("latin-1"), what


def error_type(call: Call, payload: bytes) -> str:
    """The error's type: the header if the runtime sends it, otherwise the body's `errorType`."""
    named = call.header(ERROR_TYPE)
    if named:
        return named
    try:
        body = json.loads(payload)
    except ValueError:
        return "Runtime.Unknown"
    return str(body.get("errorType", "Runtime.Unknown")) if isinstance(body, dict) else "Runtime.Unknown"


def decode_error_body(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode("latin-1")

"""The Extensions API: what extensions inside an environment call, on the address of its Runtime API.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html#runtimes-extensions-registration-api

The types of errors are those that AWS's own Runtime Interface Emulator answers with, each with a 403.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from lambdad.domain.extensions import ExtensionState
from lambdad.domain.functions import FunctionVersion
from lambdad.services.extensions import Extension, ExtensionRefused, Extensions, Send

PREFIX: Final = b"/2020-01-01/extension/"
EVENT_HEADER: Final = "Lambda-Extension-Event-Identifier"
_IDENTIFIER: Final = "Lambda-Extension-Identifier"
_ERROR_TYPE: Final = "Lambda-Extension-Function-Error-Type"
_FAILURES: Final = {b"init/error": ExtensionState.INIT_ERROR, b"exit/error": ExtensionState.EXIT_ERROR}
_METHODS: Final = {b"register": b"POST", b"event/next": b"GET", **dict.fromkeys(_FAILURES, b"POST")}
_INVALID_FORMAT: Final = "InvalidRequestFormat"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an extension is answered at once; the body is JSON."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(
    version: FunctionVersion,
    extensions: Extensions,
    method: bytes,
    path: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
    send: Send,
) -> Answer | None:
    """The answer to a request whose path begins with PREFIX; None for a `next`, which `send` answers with an event.

    The names of `headers` are in lower case.
    """
    operation = path[len(PREFIX) :]
    expected = _METHODS.get(operation)
    if expected is None:
        return _error(404, "404 page not found", "NotFound")
    if method != expected:
        return _error(405, "405 method not allowed", "MethodNotAllowed")
    try:
        if operation == b"register":
            return _register(version, extensions, headers, body)
        extension = caller(extensions, headers)
        if operation == b"event/next":
            extensions.next(extension, send)
            return None
        return _fail(extensions, extension, _FAILURES[operation], headers)
    except ExtensionRefused as refused:
        return _error(403, str(refused), refused.error_type)


def _register(version: FunctionVersion, extensions: Extensions, headers: Mapping[bytes, bytes], body: bytes) -> Answer:
    name = _header(headers, "Lambda-Extension-Name")
    if not name:
        raise ExtensionRefused("Extension.InvalidExtensionName", "Empty extension name")
    extension = extensions.register(name, _events(body))
    described = {
        "functionName": version.key.name,
        "functionVersion": version.version,
        "handler": version.handler,
    }
    features = _header(headers, "Lambda-Extension-Accept-Feature").split(",")
    if "accountId" in [feature.strip() for feature in features]:
        described["accountId"] = version.key.account_id
    return Answer(200, json.dumps(described).encode(), {_IDENTIFIER: extension.identifier})


def _events(body: bytes) -> list[str]:
    """What an extension registers for. Raises ExtensionRefused."""
    try:
        request = json.loads(body)
    except ValueError as error:
        raise ExtensionRefused(_INVALID_FORMAT, str(error)) from None
    events = request.get("events") or [] if isinstance(request, dict) else None
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise ExtensionRefused(_INVALID_FORMAT, "The body must be an object with a list of strings named events.")
    if request.get("configurationKeys"):
        message = "configurationKeys are deprecated; use environment variables instead"
        raise ExtensionRefused(_INVALID_FORMAT, message)
    return events


def caller(extensions: Extensions, headers: Mapping[bytes, bytes]) -> Extension:
    """Who calls. Raises ExtensionRefused."""
    identifier = _header(headers, _IDENTIFIER)
    if not identifier:
        raise ExtensionRefused("Extension.MissingExtensionIdentifier", f"Missing {_IDENTIFIER} header")
    try:
        parsed = uuid.UUID(identifier)
    except ValueError:
        raise ExtensionRefused("Extension.InvalidExtensionIdentifier", f"Invalid {_IDENTIFIER}") from None
    extension = extensions.find(str(parsed))
    if extension is None:
        raise ExtensionRefused("Extension.UnknownExtensionIdentifier", f"Unknown extension {parsed}")
    return extension


def _fail(
    extensions: Extensions, extension: Extension, state: ExtensionState, headers: Mapping[bytes, bytes]
) -> Answer:
    error_type = _header(headers, _ERROR_TYPE)
    if not error_type:
        raise ExtensionRefused("Extension.MissingHeader", f"{_ERROR_TYPE} not found")
    extensions.fail(extension, state, error_type)
    return Answer(202, b'{"status":"OK"}\n')


def _header(headers: Mapping[bytes, bytes], name: str) -> str:
    return headers.get(name.lower().encode(), b"").decode("latin-1")


def _error(status: int, message: str, error_type: str) -> Answer:
    return Answer(status, json.dumps({"errorMessage": message, "errorType": error_type}).encode())

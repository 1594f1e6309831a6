"""Subscriptions to an environment's telemetry, and the events that subscribers get.

Telemetry API: https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html and, for the events,
https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
Logs API, the older one: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-logs-api.html

Events are published in the Telemetry API's form; subscribers of the Logs API get those that it knows, in its form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from lambdad.domain.errors import LambdadError
from lambdad.domain.platform_logs import iso

PLATFORM: Final = "platform"
FUNCTION: Final = "function"
EXTENSION: Final = "extension"
TYPES: Final = (PLATFORM, FUNCTION, EXTENSION)
LOGS_DROPPED: Final = "platform.logsDropped"

_HOSTS: Final = ("sandbox.localdomain", "sandbox")
_RESERVED_PORT: Final = 9001
_PORT_MAX: Final = 65535
_LIMITS: Final = {"maxItems": (1_000, 10_000), "maxBytes": (262_144, 1_048_576), "timeoutMs": (25, 30_000)}
_DEFAULTS: Final = {"maxItems": 10_000, "maxBytes": 262_144, "timeoutMs": 1_000}
"""https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html#telemetry-api-buffering"""
_FELL_BEHIND: Final = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."


class Api(StrEnum):
    """The API by which an extension has subscribed; the value is how errors and log lines call it."""

    TELEMETRY = "Telemetry"
    LOGS = "Logs"


_VERSIONS: Final = {
    Api.TELEMETRY: ("2022-07-01", "2022-12-13", "2025-01-29"),
    Api.LOGS: ("2020-08-15", "2021-03-18"),
}
_METHODS: Final = {Api.TELEMETRY: ("POST",), Api.LOGS: ("POST", "PUT")}
_RECORDS_ARE_OBJECTS_SINCE: Final = "2022-12-13"
_LOGS_RUNTIME_DONE_SINCE: Final = "2021-03-18"


class InvalidSubscription(LambdadError):
    """What is wrong with a request to subscribe; the message is for its sender."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What an extension wants to get, and where. `method` and `path` are for HTTP; without a method it is TCP."""

    api: Api
    schema_version: str
    types: tuple[str, ...]
    port: int
    method: str
    path: str
    max_items: int
    max_bytes: int
    timeout_ms: int


def subscription(api: Api, body: bytes) -> Subscription:
    """What a request to subscribe asks for. Raises InvalidSubscription, which names all that is wrong."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidSubscription("request body is not valid JSON") from None
    if not isinstance(request, dict):
        raise InvalidSubscription("request body should be a JSON object")
    faults: list[str] = []
    destination = request.get("destination")
    if not isinstance(destination, dict):
        faults.append("destination should be an object" if destination is not None else "destination is not provided")
        destination = {"protocol": "TCP", "port": 1}
    port, method, path = _destination(api, destination, faults)
    types = _types(request.get("types"), faults)
    version = request.get("schemaVersion", "2020-08-15" if api is Api.LOGS else "")
    if version not in _VERSIONS[api]:
        faults.append(f"schemaVersion should be one of: {', '.join(_VERSIONS[api])}")
    buffering = _buffering(request.get("buffering"), faults)
    if faults:
        raise InvalidSubscription("; ".join(faults))
    return Subscription(
        api,
        version,
        types,
        port,
        method,
        path,
        max_items=buffering["maxItems"],
        max_bytes=buffering["maxBytes"],
        timeout_ms=buffering["timeoutMs"],
    )


def _destination(api: Api, destination: Mapping[str, Any], faults: list[str]) -> tuple[int, str, str]:
    """The port, and for HTTP the method and the path.

    "Lambda sends telemetry only to destinations that are inside the execution environment. [...] Lambda reserves port
    9001."
    """
    protocol = destination.get("protocol")
    method, path = "", ""
    if protocol == "TCP":
        port = destination.get("port")
        if port is None:
            port, _ = _uri(destination.get("URI"), "tcp", faults)
    elif protocol == "HTTP":
        method = destination.get("method", "POST")
        if method not in _METHODS[api]:
            faults.append(f"method should be one of: {', '.join(_METHODS[api])}")
        if destination.get("encoding", "JSON") != "JSON":
            faults.append("encoding should be JSON")
        port, path = _uri(destination.get("URI"), "http", faults)
    else:
        faults.append("protocol should be one of: HTTP, TCP")
        port = None
    if port is None:
        return 0, method, path
    if not _is_integer(port) or not 1 <= port <= _PORT_MAX:
        faults.append(f"port should be between 1 and {_PORT_MAX}")
    elif port == _RESERVED_PORT:
        faults.append(f"port {_RESERVED_PORT} is reserved")
    return port, method, path


def _uri(uri: object, scheme: str, faults: list[str]) -> tuple[int | None, str]:
    if not isinstance(uri, str) or not uri:
        faults.append("URI is not provided")
        return None, ""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        faults.append("URI is not valid")
        return None, ""
    if parts.scheme != scheme:
        faults.append(f"URI scheme should be {scheme}")
    if parts.hostname not in _HOSTS:
        faults.append(f"URI host should be one of: {', '.join(_HOSTS)}")
    if port is None:
        faults.append("URI port is not provided")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not (path.isascii() and path.isprintable()) or " " in path:
        faults.append("URI is not valid")
    return port, path


def _types(types: object, faults: list[str]) -> tuple[str, ...]:
    if not isinstance(types, list) or not types:
        faults.append("types should not be empty")
        return ()
    if any(each not in TYPES for each in types):
        faults.append(f"types should be among: {', '.join(TYPES)}")
        return ()
    return tuple(dict.fromkeys(types))


def _buffering(buffering: object, faults: list[str]) -> dict[str, int]:
    if buffering is None:
        return dict(_DEFAULTS)
    if not isinstance(buffering, dict):
        faults.append("buffering should be an object")
        return dict(_DEFAULTS)
    chosen = dict(_DEFAULTS)
    for name, (least, most) in _LIMITS.items():
        value = buffering.get(name, _DEFAULTS[name])
        if not _is_integer(value) or not least <= value <= most:
            faults.append(f"{name} should be between {least} and {most}")
        else:
            chosen[name] = value
    return chosen


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# Events


def tracing(trace_header: str) -> dict[str, str] | None:
    """The TraceContext of a sampled trace: its root, parent and decision. None for one that is not sampled."""
    fields = dict(part.partition("=")[::2] for part in trace_header.split(";"))
    if fields.get("Sampled") != "1" or "Root" not in fields or "Parent" not in fields:
        return None
    value = f"Root={fields['Root']};Parent={fields['Parent']};Sampled=1"
    return {"type": "X-Amzn-Trace-Id", "value": value}


def span(name: str, start: float, end: float) -> dict[str, Any]:
    """A Span; `start` and `end` in seconds since the epoch."""
    return {"name": name, "start": iso(start), "durationMs": round(max(end - start, 0.0) * 1000, 3)}


def logs_dropped(records: int, size: int) -> dict[str, Any]:
    """The record of LOGS_DROPPED."""
    return {"droppedBytes": size, "droppedRecords": records, "reason": _FELL_BEHIND}


def platform_event(wanted: Subscription, now: float, kind: str, record: object) -> bytes | None:
    """A platform event as a subscriber gets it, in JSON; None if it gets none of the kind."""
    if PLATFORM not in wanted.types:
        return None
    if wanted.api is Api.TELEMETRY:
        return None if kind in _LOGS_API_ONLY else _event(now, kind, record)
    if kind == "platform.runtimeDone" and wanted.schema_version < _LOGS_RUNTIME_DONE_SINCE:
        return None
    fields = _LOGS_API_FIELDS.get(kind)
    if fields is None:
        return None
    if isinstance(record, dict):
        record = {name: record[name] for name in fields if name in record}
        if record.get("status") == "error":
            record["status"] = "failure"
    return _event(now, kind, record)


_LOGS_API_ONLY: Final = frozenset({"platform.end", "platform.fault", "platform.logsSubscription"})
_LOGS_API_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "platform.start": ("requestId", "version"),
    "platform.runtimeDone": ("requestId", "status"),
    "platform.end": ("requestId",),
    "platform.report": ("requestId", "metrics"),
    "platform.fault": (),
    "platform.extension": ("name", "state", "events"),
    "platform.logsSubscription": ("name", "state", "types"),
    LOGS_DROPPED: ("reason", "droppedRecords", "droppedBytes"),
}


def log_event(wanted: Subscription, now: float, kind: str, text: str, *, in_json: bool) -> bytes | None:
    """A line of the function or of an extension as a subscriber gets it; None if it wants none.

    `in_json`: the function's log format is JSON. Lines that are objects are then objects, in schemas since 2022-12-13.
    """
    if kind not in wanted.types:
        return None
    record: object = text
    if in_json and wanted.api is Api.TELEMETRY and wanted.schema_version >= _RECORDS_ARE_OBJECTS_SINCE:
        record = _object_in(text) or text
    return _event(now, kind, record)


def _object_in(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse_constant(name: str) -> None:
    """NaN and the infinities are no JSON."""
    raise ValueError(name)


def _event(now: float, kind: str, record: object) -> bytes:
    return json.dumps({"time": iso(now), "type": kind, "record": record}, separators=(",", ":")).encode()

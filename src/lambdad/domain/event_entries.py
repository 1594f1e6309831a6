"""The entries of PutEvents, and the events that they become.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html and
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevent-size.html
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lambdad.domain.errors import ValidationException
from lambdad.domain.event_buses import event_time

ENTRIES_BYTES_MAX: Final = 1024 * 1024
"""Of all the entries of a request together."""
DEPTH_MAX: Final = 500
"""Of the objects and arrays in a detail. AWS documents no limit."""
_TIME_BYTES: Final = 14
_AWS_SOURCE: Final = "aws."
_MS: Final = 1000

ACCESS_DENIED: Final = "AccessDeniedException"
INVALID_ARGUMENT: Final = "InvalidArgument"


class RefusedEntry(Exception):
    """An entry that does not become an event, though others of its request may. `code` is AWS's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def check_size(entries: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValidationException."""
    if sum(map(_size, entries)) > ENTRIES_BYTES_MAX:
        raise ValidationException("Total size of the entries in the request is over the limit.")


def to_event(entry: Mapping[str, Any], event_id: str, account_id: str, region: str, now_ms: int) -> dict[str, Any]:
    """The event of an entry. Raises RefusedEntry."""
    for name in ("Source", "DetailType", "Detail"):
        if not entry.get(name):
            raise RefusedEntry(
                INVALID_ARGUMENT, f"Parameter {name} is not valid. Reason: {name} is a required argument."
            )
    if entry["Source"].startswith(_AWS_SOURCE):
        raise RefusedEntry("NotAuthorizedForSourceException", "Not authorized for the source.")
    moment = entry.get("Time")
    return {
        "version": "0",
        "id": event_id,
        "detail-type": entry["DetailType"],
        "source": entry["Source"],
        "account": account_id,
        "time": event_time(now_ms if moment is None else int(moment.timestamp() * _MS)),
        "region": region,
        "resources": list(entry.get("Resources", ())),
        "detail": _detail(entry["Detail"]),
    }


def _detail(text: str) -> dict[str, Any]:
    try:
        detail = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        detail = None
    if not isinstance(detail, dict) or _is_deep(text, detail):
        raise RefusedEntry("MalformedDetail", "Detail is malformed.")
    return detail


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number


def _is_deep(text: str, detail: dict[str, Any]) -> bool:
    """Whether it is nested so deep that who gets it could not read it, nor we write it."""
    if text.count("{") + text.count("[") <= DEPTH_MAX:
        return False
    values: list[Any] = [detail]
    for _ in range(DEPTH_MAX):
        containers = [value for value in values if isinstance(value, dict | list)]
        values = [inner for value in containers for inner in (value.values() if isinstance(value, dict) else value)]
    return any(isinstance(value, dict | list) for value in values)


def _size(entry: Mapping[str, Any]) -> int:
    texts = [entry.get("Source", ""), entry.get("DetailType", ""), entry.get("Detail", ""), *entry.get("Resources", ())]
    return sum(len(text.encode(errors="surrogatepass")) for text in texts) + (_TIME_BYTES if "Time" in entry else 0)

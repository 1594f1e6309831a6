"""The three spellings of a timestamp in AWS's protocols.

https://smithy.io/2.0/spec/protocol-traits.html#timestampformat-trait
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ISO8601 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def parse(text: str | float, timestamp_format: str) -> datetime:
    """The moment that `text` names. Raises ValueError when it names none in this format."""
    if timestamp_format == "unixTimestamp":
        return _from_epoch(float(text))
    if not isinstance(text, str):
        raise ValueError("not a text")
    if timestamp_format == "rfc822":
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else _in_utc(moment)
    if _ISO8601.fullmatch(text) is None:
        raise ValueError("not an ISO 8601 date and time")
    return _in_utc(datetime.fromisoformat(text.upper()))


def to_epoch(moment: datetime | float) -> int | float:
    """Seconds since 1970, to the millisecond, without a fraction when there is none."""
    seconds = _aware(moment).timestamp() if isinstance(moment, datetime) else moment
    milliseconds = round(seconds * 1000)
    return milliseconds // 1000 if milliseconds % 1000 == 0 else milliseconds / 1000


def to_text(moment: datetime | float, timestamp_format: str) -> str:
    """A timestamp as it stands in a header or a query."""
    if timestamp_format == "unixTimestamp":
        return str(to_epoch(moment))
    moment = _aware(moment) if isinstance(moment, datetime) else _from_epoch(moment)
    if timestamp_format == "rfc822":
        return format_datetime(moment, usegmt=True)
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def _from_epoch(seconds: float) -> datetime:
    if not math.isfinite(seconds):
        raise ValueError("not a number of seconds")
    try:
        return EPOCH + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError("beyond the year 9999") from error


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond the year 9999") from error


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a timestamp without a time zone")
    return moment.astimezone(UTC)

"""Timestamps in AWS's three spellings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given

from lambdad.ingress.wire import timestamps
from unit.ingress.wire.shape_strategies import moments

MOMENT = datetime(2024, 2, 29, 12, 30, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "timestamp_format"),
    [
        (1709209805, "unixTimestamp"),
        (1709209805.0, "unixTimestamp"),
        ("1709209805", "unixTimestamp"),
        ("2024-02-29T12:30:05Z", "iso8601"),
        ("2024-02-29T12:30:05.000Z", "iso8601"),
        ("2024-02-29T13:30:05+01:00", "iso8601"),
        ("Thu, 29 Feb 2024 12:30:05 GMT", "rfc822"),
        ("Thu, 29 Feb 2024 13:30:05 +0100", "rfc822"),
    ],
)
def test_a_moment_is_read(text: str | float, timestamp_format: str) -> None:
    assert timestamps.parse(text, timestamp_format) == MOMENT


@pytest.mark.parametrize(
    ("text", "timestamp_format"),
    [
        (1e300, "unixTimestamp"),
        (float("inf"), "unixTimestamp"),
        (float("nan"), "unixTimestamp"),
        ("x", "unixTimestamp"),
        (1709209805, "iso8601"),
        ("2024-02-29", "iso8601"),
        ("2024-02-30T12:30:05Z", "iso8601"),
        ("2024-02-29T12:30:05", "iso8601"),
        ("0001-01-01T00:00:00+23:00", "iso8601"),
        ("yesterday", "rfc822"),
        ("", "rfc822"),
    ],
)
def test_what_is_no_moment_is_refused(text: str | float, timestamp_format: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (any text: the caller words the answer)
        timestamps.parse(text, timestamp_format)


def test_a_moment_is_written() -> None:
    assert timestamps.to_text(MOMENT, "iso8601") == "2024-02-29T12:30:05Z"
    assert timestamps.to_text(MOMENT.replace(microsecond=120999), "iso8601") == "2024-02-29T12:30:05.120Z"
    assert timestamps.to_text(MOMENT, "rfc822") == "Thu, 29 Feb 2024 12:30:05 GMT"
    assert timestamps.to_text(1709209805.5, "unixTimestamp") == "1709209805.5"
    assert timestamps.to_text(1709209805, "iso8601") == "2024-02-29T12:30:05Z"
    assert timestamps.to_epoch(MOMENT) == 1709209805
    assert isinstance(timestamps.to_epoch(MOMENT), int)
    assert timestamps.to_epoch(MOMENT.astimezone(timezone(timedelta(hours=5)))) == 1709209805


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        timestamps.to_epoch(datetime(2024, 1, 1))


@given(moments(milliseconds=True))
def test_milliseconds_survive(moment: datetime) -> None:
    assert timestamps.parse(timestamps.to_epoch(moment), "unixTimestamp") == moment
    assert timestamps.parse(timestamps.to_text(moment, "iso8601"), "iso8601") == moment

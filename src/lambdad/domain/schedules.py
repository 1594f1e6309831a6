"""When something is to happen: rate, cron and at expressions of EventBridge's rules and of EventBridge Scheduler.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
All times are milliseconds since the epoch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from lambdad.domain import cron

_MS: Final = 1000
_UNIT_MS: Final = {"minute": 60 * _MS, "hour": 3600 * _MS, "day": 24 * 3600 * _MS}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END_MS: Final = 7_258_118_400_000
"""The beginning of the year 2200, where cron's years end: nothing happens from there on."""

_RATE: Final = re.compile(r"rate\((?P<value>[0-9]{1,9}) (?P<unit>minute|hour|day)(?P<plural>s?)\)")
_CRON: Final = re.compile(r"cron\((?P<fields>[^()]*)\)")
_AT: Final = re.compile(r"at\((?P<moment>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\)")


class InvalidScheduleExpression(ValueError):
    """The text is not a schedule expression. Each API has its own words for that."""


class InvalidTimeZone(ValueError):
    """There is no such time zone."""


class Schedule(Protocol):
    """A sequence of moments."""

    def next_after(self, ms: int, *, since_ms: int) -> int | None:
        """The first moment later than `ms`, or None. `since_ms` is when the schedule began: rates count from there."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The beginning, and every so many milliseconds after it. A day is always 24 hours."""

    period_ms: int

    def next_after(self, ms: int, *, since_ms: int) -> int | None:
        passed = (ms - since_ms) // self.period_ms + 1
        moment_ms = since_ms + max(passed, 0) * self.period_ms
        return moment_ms if moment_ms < _END_MS else None


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """The moments of a calendar in a time zone.

    A time that the clocks skip in spring is skipped; one that they show twice in autumn counts once, the first time.
    """

    moments: cron.Cron
    zone: tzinfo

    def next_after(self, ms: int, *, since_ms: int) -> int | None:
        if ms >= _END_MS:
            return None
        local = (_EPOCH + timedelta(milliseconds=max(ms, 0))).astimezone(self.zone).replace(tzinfo=None)
        for moment in self.moments.moments_from(local):
            at_ms = _to_ms(moment, self.zone)
            if at_ms > ms and _is_real(moment, at_ms, self.zone):
                return at_ms
        return None


@dataclass(frozen=True, slots=True)
class At:
    """One moment. `at_ms` is None for a time that the clocks of its zone skip: it never comes."""

    at_ms: int | None

    def next_after(self, ms: int, *, since_ms: int) -> int | None:
        return self.at_ms if self.at_ms is not None and self.at_ms > ms else None


def parse(text: str, *, timezone: str = "UTC", at_allowed: bool = False) -> Rate | CronSchedule | At:
    """Read a schedule expression, whose times are of the time zone.

    `at_allowed` is for EventBridge Scheduler, which knows `at` and does not mind `rate(1 hours)`.
    Raises InvalidScheduleExpression and InvalidTimeZone.
    """
    zone = time_zone(timezone)
    if match := _RATE.fullmatch(text):
        value = int(match["value"])
        agrees = bool(match["plural"]) == (value != 1) or at_allowed
        if value == 0 or not agrees:
            raise InvalidScheduleExpression(text)
        return Rate(value * _UNIT_MS[match["unit"]])
    if match := _CRON.fullmatch(text):
        try:
            return CronSchedule(cron.parse(match["fields"]), zone)
        except cron.InvalidField as error:
            raise InvalidScheduleExpression(f"{text}: {error}") from None
    if at_allowed and (match := _AT.fullmatch(text)):
        try:
            moment = datetime.fromisoformat(match["moment"])
            at_ms = _to_ms(moment, zone)
            return At(at_ms if _is_real(moment, at_ms, zone) else None)
        except (ValueError, OverflowError):
            raise InvalidScheduleExpression(text) from None
    raise InvalidScheduleExpression(text)


def time_zone(name: str) -> tzinfo:
    """A time zone by its name in the tz database. Raises InvalidTimeZone."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such file; a name that leads elsewhere; a directory
        raise InvalidTimeZone(name) from None


def _to_ms(moment: datetime, zone: tzinfo) -> int:
    """Of a time that occurs twice, the first; of one that the clocks skip, something near."""
    return (moment.replace(tzinfo=zone) - _EPOCH) // timedelta(milliseconds=1)


def _is_real(moment: datetime, at_ms: int, zone: tzinfo) -> bool:
    """Whether the clocks of the zone show this time."""
    shown = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).replace(tzinfo=None, fold=0)
    return shown == moment

"""AWS's cron expressions: minutes, hours, day of month, month, day of week, year.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html#eb-cron-expressions
They are Quartz's without the seconds: what AWS leaves open (a range that wraps around, `31W` in a short month, `L-3`)
is as there.
"""

from __future__ import annotations

import calendar
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

YEARS: Final = (1970, 2199)

_MONTHS: Final = {
    name: number
    for number, name in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)  # noqa: SIM905
}
_WEEKDAYS: Final = {name: number for number, name in enumerate("SUN MON TUE WED THU FRI SAT".split(), 1)}  # noqa: SIM905
_SATURDAY: Final = 7
_FIELDS: Final = 6
_DAYS_OF_WEEK: Final = 7
_WEEKS_OF_MONTH: Final = 5
_EVERY_DAY: Final = range(1, 32)

_LAST: Final = re.compile(r"L(?:-(\d{1,2}))?(W)?")
_NEAREST_WEEKDAY: Final = re.compile(r"(\d{1,2})W")
_LAST_OF_MONTH: Final = re.compile(r"(\w+)L")
_NTH_OF_MONTH: Final = re.compile(r"(\w+)#(\d)")
_ELEMENT: Final = re.compile(r"(?P<whole>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?")

_Days = Callable[[int, int], frozenset[int]]
"""The days that are meant in a year's month."""


class InvalidField(ValueError):
    """A field of a cron expression is not one."""


@dataclass(frozen=True, slots=True)
class Cron:
    """Moments of a calendar, whose time zone is not its business."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    years: tuple[int, ...]
    days: _Days

    def moments_from(self, local: datetime) -> Iterator[datetime]:
        """Every moment that is meant, from the minute of `local` on, in order; it ends when the years do."""
        start = local.replace(second=0, microsecond=0)
        for year in _from(self.years, start.year):
            for month in _from(self.months, start.month if year == start.year else 1):
                for day in sorted(self.days(year, month)):
                    if (year, month, day) < (start.year, start.month, start.day):
                        continue
                    today = (year, month, day) == (start.year, start.month, start.day)
                    for hour in _from(self.hours, start.hour if today else 0):
                        for minute in _from(self.minutes, start.minute if today and hour == start.hour else 0):
                            yield datetime(year, month, day, hour, minute)


def _from(values: tuple[int, ...], least: int) -> tuple[int, ...]:
    return values[bisect_left(values, least) :]


def parse(text: str) -> Cron:
    """Read the six fields, without `cron(` and `)`. Raises InvalidField."""
    fields = text.upper().split()
    if len(fields) != _FIELDS:
        raise InvalidField(f"a cron expression has six fields, not {len(fields)}")
    minutes, hours, day_of_month, month, day_of_week, year = fields
    if (day_of_month == "?") == (day_of_week == "?"):
        raise InvalidField("one of day of month and day of week is ?, and only one")
    days = _days_of_month(day_of_month) if day_of_week == "?" else _days_of_week(day_of_week)
    return Cron(
        tuple(sorted(_numbers(minutes, 0, 59))),
        tuple(sorted(_numbers(hours, 0, 23))),
        tuple(sorted(_numbers(month, 1, 12, _MONTHS))),
        tuple(sorted(_numbers(year, *YEARS, wraps=False))),
        days,
    )


def _numbers(
    field: str, least: int, most: int, names: dict[str, int] | None = None, *, wraps: bool = True
) -> frozenset[int]:
    """The values of a field: `*`, `a`, `a-b`, each with `/step`, and lists of them."""
    found: set[int] = set()
    for element in field.split(","):
        text, slash, step_text = element.partition("/")
        match = _ELEMENT.fullmatch(text)
        if match is None:
            raise InvalidField(element)
        step = _number(step_text, 1, most) if slash else 1
        first, last = least, most
        if not match["whole"]:
            first = _number(match["first"], least, most, names)
            # `5/15` goes on to the end, `5` alone is only that.
            last = _number(match["last"], least, most, names) if match["last"] else most if slash else first
        if first > last:
            if not wraps:
                raise InvalidField(element)
            size = most - least + 1
            found.update((value - least) % size + least for value in range(first, last + size + 1, step))
        else:
            found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, least: int, most: int, names: dict[str, int] | None = None) -> int:
    if names and text in names:
        return names[text]
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise InvalidField(text)
    return int(text)


def _length(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _days_of_month(field: str) -> _Days:
    if "L" not in field and "W" not in field:
        numbers = _numbers(field, 1, 31)
        return lambda year, month: frozenset(day for day in numbers if day <= _length(year, month))
    rules = [_day_of_month(element) for element in field.split(",")]
    return lambda year, month: frozenset().union(*(rule(year, month) for rule in rules))


def _day_of_month(element: str) -> _Days:
    if match := _LAST.fullmatch(element):
        before_last = _number(match[1], 0, 30) if match[1] else 0
        return _day_from_end(before_last, to_weekday=match[2] is not None)
    if match := _NEAREST_WEEKDAY.fullmatch(element):
        wanted = _number(match[1], 1, 31)
        return lambda year, month: frozenset({_nearest_weekday(year, month, min(wanted, _length(year, month)))})
    if "L" in element or "W" in element:
        raise InvalidField(element)
    return _days_of_month(element)


def _day_from_end(before_last: int, *, to_weekday: bool) -> _Days:
    def days(year: int, month: int) -> frozenset[int]:
        day = _length(year, month) - before_last
        if day < 1:
            return frozenset()
        return frozenset({_nearest_weekday(year, month, day) if to_weekday else day})

    return days


def _nearest_weekday(year: int, month: int, day: int) -> int:
    """The weekday nearest to a day, in the same month."""
    weekday = calendar.weekday(year, month, day)
    if weekday == calendar.SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == calendar.SUNDAY:
        return day + 1 if day < _length(year, month) else day - 2
    return day


def _days_of_week(field: str) -> _Days:
    if match := _NTH_OF_MONTH.fullmatch(field):
        weekday = _number(match[1], 1, _DAYS_OF_WEEK, _WEEKDAYS)
        nth = _number(match[2], 1, _WEEKS_OF_MONTH)
        return lambda year, month: frozenset(_on_weekday(year, month, {weekday})[nth - 1 : nth])
    if field != "L" and (match := _LAST_OF_MONTH.fullmatch(field)):
        weekday = _number(match[1], 1, _DAYS_OF_WEEK, _WEEKDAYS)
        return lambda year, month: frozenset(_on_weekday(year, month, {weekday})[-1:])
    weekdays = {_SATURDAY} if field == "L" else _numbers(field, 1, _DAYS_OF_WEEK, _WEEKDAYS)
    return lambda year, month: frozenset(_on_weekday(year, month, weekdays))


def _on_weekday(year: int, month: int, weekdays: set[int] | frozenset[int]) -> list[int]:
    """The days of a month that are one of these days of the week, of which 1 is Sunday."""
    monday_based = calendar.weekday(year, month, 1)
    first = (monday_based + 1) % _DAYS_OF_WEEK
    last = _length(year, month)
    return [day for day in _EVERY_DAY if day <= last and (first + day - 1) % _DAYS_OF_WEEK + 1 in weekdays]

"""Schedule expressions, against AWS's documented examples, a calendar, and a search minute by minute."""

from __future__ import annotations

import calendar
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdad.domain import schedules
from lambdad.domain.schedules import InvalidScheduleExpression, InvalidTimeZone

MINUTE_MS = 60_000
DAY_MS = 24 * 3600 * 1000


def ms(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def utc(at_ms: int | None) -> str:
    assert at_ms is not None
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M")


def firings(expression: str, after: str, count: int, *, zone: str = "UTC") -> list[str]:
    """The next moments in UTC after a moment in UTC."""
    schedule = schedules.parse(expression, timezone=zone, at_allowed=True)
    found, now = [], ms(after)
    for _ in range(count):
        following = schedule.next_after(now, since_ms=0)
        assert following is not None
        found.append(utc(following))
        now = following
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # The examples of AWS's page on cron expressions; 2024-03-15 is a Friday.
        ("cron(0 10 * * ? *)", ["2024-03-15T10:00", "2024-03-16T10:00"]),
        ("cron(15 12 * * ? *)", ["2024-03-15T12:15", "2024-03-16T12:15"]),
        ("cron(0 18 ? * MON-FRI *)", ["2024-03-15T18:00", "2024-03-18T18:00", "2024-03-19T18:00"]),
        ("cron(0 8 1 * ? *)", ["2024-04-01T08:00", "2024-05-01T08:00"]),
        ("cron(0/15 * * * ? *)", ["2024-03-15T09:15", "2024-03-15T09:30", "2024-03-15T09:45", "2024-03-15T10:00"]),
        ("cron(0/10 * ? * MON-FRI *)", ["2024-03-15T09:10", "2024-03-15T09:20"]),
        ("cron(0/5 8-17 ? * MON-FRI *)", ["2024-03-15T09:05", "2024-03-15T09:10"]),
        ("cron(0/30 20-2 ? * MON-FRI *)", ["2024-03-15T20:00", "2024-03-15T20:30"]),
        # Wildcards and names.
        ("cron(30 9 L * ? *)", ["2024-03-31T09:30", "2024-04-30T09:30"]),
        ("cron(0 0 L-2 * ? *)", ["2024-03-29T00:00", "2024-04-28T00:00"]),
        ("cron(0 0 LW * ? *)", ["2024-03-29T00:00", "2024-04-30T00:00", "2024-05-31T00:00", "2024-06-28T00:00"]),
        ("cron(0 0 15W * ? *)", ["2024-04-15T00:00", "2024-05-15T00:00", "2024-06-14T00:00"]),
        ("cron(0 0 1W * ? *)", ["2024-04-01T00:00", "2024-05-01T00:00", "2024-06-03T00:00"]),
        ("cron(0 0 31W * ? *)", ["2024-03-29T00:00", "2024-04-30T00:00", "2024-05-31T00:00", "2024-06-28T00:00"]),
        ("cron(0 0 ? * 6L *)", ["2024-03-29T00:00", "2024-04-26T00:00"]),
        ("cron(0 0 ? * FRI#2 *)", ["2024-04-12T00:00", "2024-05-10T00:00"]),
        ("cron(0 0 ? * 3#5 *)", ["2024-04-30T00:00", "2024-07-30T00:00"]),
        ("cron(0 0 ? * L *)", ["2024-03-16T00:00", "2024-03-23T00:00"]),
        ("cron(0 0 ? * 1 *)", ["2024-03-17T00:00", "2024-03-24T00:00"]),
        ("cron(0 0 ? * FRI-MON *)", ["2024-03-16T00:00", "2024-03-17T00:00", "2024-03-18T00:00", "2024-03-22T00:00"]),
        ("cron(0 0 29 2 ? *)", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("cron(0 0 1,L jan,Dec ? *)", ["2024-12-01T00:00", "2024-12-31T00:00", "2025-01-01T00:00"]),
        ("cron(0 0 1 1 ? 2030/100)", ["2030-01-01T00:00", "2130-01-01T00:00"]),
        ("cron(0-15/1 8-8 ? * 2,3,4,5,6,7 *)", ["2024-03-16T08:00", "2024-03-16T08:01"]),
        ("rate(5 minutes)", ["2024-03-15T09:05", "2024-03-15T09:10"]),
        ("rate(1 hour)", ["2024-03-15T10:00", "2024-03-15T11:00"]),
        ("at(2025-01-31T15:59:42)", ["2025-01-31T15:59"]),
    ],
)
def test_the_next_moments(expression: str, expected: list[str]) -> None:
    assert firings(expression, "2024-03-15T09:03", len(expected)) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "cron()",
        "cron(* * * * *)",
        "cron(* * * * * *)",
        "cron(0 0 ? * ? *)",
        "cron(7 20 * * 1-7 *)",
        "cron(60 * * * ? *)",
        "cron(* 24 * * ? *)",
        "cron(* * 0 * ? *)",
        "cron(* * 32 * ? *)",
        "cron(* * * 13 ? *)",
        "cron(* * ? * 0 *)",
        "cron(* * ? * 8 *)",
        "cron(* * ? * -1 *)",
        "cron(* * ? * FRI#6 *)",
        "cron(* * ? * 3#1,6#3 *)",
        "cron(* * * * ? 1969)",
        "cron(* * * * ? 2200)",
        "cron(* * * * ? 2030-2020)",
        "cron(0/0 * * * ? *)",
        "cron(*/ * * * ? *)",
        "cron(1,,2 * * * ? *)",
        "cron(0/5, 9-18, ?, *, MON-FRI, *)",
        "cron(L * * * ? *)",
        "cron(* * W * ? *)",
        "cron(* * L-31 * ? *)",
        "cron(* * * JANUARY ? *)",
        "cron(٣ * * * ? *)",
        "rate(0 minutes)",
        "rate(-1 minutes)",
        "rate(1.5 minutes)",
        "rate(5 seconds)",
        "rate(5minutes)",
        "rate(5 minutes) ",
        "at(2025-01-31T15:59)",
        "at(2025-02-30T15:59:00)",
        "at(2025-01-31 15:59:00)",
        "every day",
    ],
)
@pytest.mark.parametrize("at_allowed", [False, True])
def test_what_is_no_expression(expression: str, at_allowed: bool) -> None:
    with pytest.raises(InvalidScheduleExpression):
        schedules.parse(expression, at_allowed=at_allowed)


def test_rules_want_the_singular_with_one_and_know_no_at() -> None:
    for expression in ("rate(1 minutes)", "rate(5 minute)", "at(2025-01-31T15:59:42)"):
        with pytest.raises(InvalidScheduleExpression):
            schedules.parse(expression)
        schedules.parse(expression, at_allowed=True)


@pytest.mark.parametrize(
    ("moment", "zone"), [("9999-12-31T23:59:59", "America/New_York"), ("0001-01-01T00:00:00", "Asia/Tokyo")]
)
def test_a_moment_beyond_the_calendar_is_no_expression(moment: str, zone: str) -> None:
    with pytest.raises(InvalidScheduleExpression):
        schedules.parse(f"at({moment})", timezone=zone, at_allowed=True)
    assert schedules.parse(f"at({moment})", at_allowed=True).next_after(10**15, since_ms=0) is None


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "America", "/usr/share/zoneinfo/UTC"])
def test_what_is_no_time_zone(name: str) -> None:
    with pytest.raises(InvalidTimeZone):
        schedules.parse("rate(1 hour)", timezone=name)


@pytest.mark.parametrize("expression", ["cron(0 0 30 2 ? *)", "cron(0 0 31 4,6,9 ? *)", "cron(0 0 1 1 ? 1999)"])
def test_what_never_happens_is_found_out_quickly(expression: str) -> None:
    schedule = schedules.parse(expression)
    began = time.process_time()
    assert schedule.next_after(ms("2024-03-15T09:03"), since_ms=0) is None
    assert time.process_time() - began < 1


def test_the_years_end() -> None:
    schedule = schedules.parse("cron(0 0 * * ? *)")
    assert utc(schedule.next_after(ms("2199-12-30T12:00"), since_ms=0)) == "2199-12-31T00:00"
    assert schedule.next_after(ms("2199-12-31T00:00"), since_ms=0) is None
    assert schedule.next_after(10**15, since_ms=0) is None
    assert schedules.parse("rate(999999999 days)").next_after(0, since_ms=0) is None


def test_a_rate_counts_from_the_beginning() -> None:
    schedule = schedules.parse("rate(2 days)")
    since_ms = ms("2024-03-15T09:03")
    assert schedule.next_after(since_ms, since_ms=since_ms) == since_ms + 2 * DAY_MS
    assert schedule.next_after(since_ms - 1, since_ms=since_ms) == since_ms
    assert schedule.next_after(0, since_ms=since_ms) == since_ms
    assert schedule.next_after(since_ms + 5 * DAY_MS, since_ms=since_ms) == since_ms + 6 * DAY_MS


class TestTimeZones:
    """https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html#daylist-savings-time"""

    ZONE = "America/New_York"  # in 2024, clocks went from 2 to 3 on March 10, and from 2 back to 1 on November 3

    def test_the_clock_on_the_wall_counts(self) -> None:
        assert firings("cron(0 9 * * ? *)", "2024-03-09T00:00", 3, zone=self.ZONE) == [
            "2024-03-09T14:00",
            "2024-03-10T13:00",
            "2024-03-11T13:00",
        ]

    def test_a_time_that_does_not_exist_is_skipped(self) -> None:
        assert firings("cron(30 2 * * ? *)", "2024-03-09T00:00", 2, zone=self.ZONE) == [
            "2024-03-09T07:30",
            "2024-03-11T06:30",
        ]
        at = schedules.parse("at(2024-03-10T02:30:00)", timezone=self.ZONE, at_allowed=True)
        assert at.next_after(0, since_ms=0) is None

    def test_a_time_that_comes_twice_counts_once(self) -> None:
        assert firings("cron(0/30 1 * * ? *)", "2024-11-03T00:00", 3, zone=self.ZONE) == [
            "2024-11-03T05:00",
            "2024-11-03T05:30",
            "2024-11-04T06:00",
        ]
        schedule = schedules.parse("cron(0/30 * * * ? *)", timezone=self.ZONE)
        assert utc(schedule.next_after(ms("2024-11-03T06:10"), since_ms=0)) == "2024-11-03T07:00"
        assert firings("at(2024-11-03T01:30:00)", "2024-11-01T00:00", 1, zone=self.ZONE) == ["2024-11-03T05:30"]

    def test_a_day_of_a_rate_is_24_hours(self) -> None:
        schedule = schedules.parse("rate(1 day)", timezone=self.ZONE)
        since_ms = ms("2024-03-09T12:00", self.ZONE)
        assert schedule.next_after(since_ms, since_ms=since_ms) == ms("2024-03-10T13:00", self.ZONE)

    def test_a_day_that_a_country_has_left_out(self) -> None:
        assert firings("cron(0 12 29-31 12 ? 2011)", "2011-12-28T00:00", 2, zone="Pacific/Apia") == [
            "2011-12-29T22:00",
            "2011-12-30T22:00",
        ]


# A naive reading of the same language, for the fields that hypothesis makes.


def _member(element: str, value: int, least: int, most: int) -> bool:
    text, slash, step = element.partition("/")
    if text == "*":
        first, last = least, most
    elif "-" in text:
        first, last = map(int, text.split("-"))
    else:
        first, last = int(text), most if slash else int(text)
    return first <= value <= last and (value - first) % (int(step) if slash else 1) == 0


def _holds(field: str, value: int, least: int, most: int) -> bool:
    return any(_member(element, value, least, most) for element in field.split(","))


def _day_holds(day_of_month: str, day_of_week: str, moment: datetime) -> bool:
    last = calendar.monthrange(moment.year, moment.month)[1]
    weekday = moment.isoweekday() % 7 + 1
    if day_of_week == "?":
        return moment.day == last if day_of_month == "L" else _holds(day_of_month, moment.day, 1, 31)
    if "#" in day_of_week:
        wanted, nth = map(int, day_of_week.split("#"))
        return weekday == wanted and (moment.day - 1) // 7 + 1 == nth
    if day_of_week.endswith("L"):
        return weekday == int(day_of_week[:-1]) and moment.day > last - 7
    return _holds(day_of_week, weekday, 1, 7)


def field_values(least: int, most: int) -> st.SearchStrategy[str]:
    numbers = st.integers(least, most)
    steps = st.integers(1, most - least)
    ranges = st.tuples(numbers, numbers).map(lambda pair: "{}-{}".format(*sorted(pair)))
    plain = st.one_of(numbers.map(str), ranges)
    stepped = st.tuples(st.one_of(plain, st.just("*")), steps).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return st.one_of(st.just("*"), st.lists(st.one_of(plain, stepped), min_size=1, max_size=3).map(",".join))


def day_pairs() -> st.SearchStrategy[tuple[str, str]]:
    of_month = st.one_of(field_values(1, 31), st.just("L")).map(lambda field: (field, "?"))
    nth = st.tuples(st.integers(1, 7), st.integers(1, 5)).map(lambda pair: f"{pair[0]}#{pair[1]}")
    last = st.integers(1, 7).map(lambda weekday: f"{weekday}L")
    return st.one_of(of_month, st.one_of(field_values(1, 7), nth, last).map(lambda field: ("?", field)))


MOMENTS = st.datetimes(datetime(1999, 1, 1), datetime(2040, 1, 1))
LOOK_AHEAD = timedelta(days=2)


@settings(max_examples=150, deadline=None)
@given(field_values(0, 59), field_values(0, 23), day_pairs(), field_values(1, 12), MOMENTS)
def test_a_cron_agrees_with_a_search_minute_by_minute(
    minutes: str, hours: str, days: tuple[str, str], months: str, start: datetime
) -> None:
    def holds(moment: datetime) -> bool:
        return (
            _holds(months, moment.month, 1, 12)
            and _day_holds(*days, moment)
            and _holds(hours, moment.hour, 0, 23)
            and _holds(minutes, moment.minute, 0, 59)
        )

    after_ms = int((start - datetime(1970, 1, 1)) / timedelta(milliseconds=1))
    schedule = schedules.parse(f"cron({minutes} {hours} {days[0]} {months} {days[1]} *)")
    found_ms = schedule.next_after(after_ms, since_ms=0)
    found = None if found_ms is None else datetime(1970, 1, 1) + timedelta(milliseconds=found_ms)
    if found is not None:
        assert found_ms is not None
        assert found_ms > after_ms
        assert found_ms % MINUTE_MS == 0
        assert holds(found)
    moment = start.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while moment <= start + LOOK_AHEAD and not holds(moment):
        moment += timedelta(minutes=1)
    if moment <= start + LOOK_AHEAD:
        assert found == moment
    else:
        assert found is None or found > start + LOOK_AHEAD - timedelta(minutes=1)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]
    ),
    field_values(0, 59),
    field_values(0, 23),
    MOMENTS,
)
def test_every_moment_in_a_time_zone_shows_a_time_that_is_meant(
    zone: str, minutes: str, hours: str, start: datetime
) -> None:
    schedule = schedules.parse(f"cron({minutes} {hours} * * ? *)", timezone=zone)
    now_ms = int((start - datetime(1970, 1, 1)) / timedelta(milliseconds=1))
    shown_before: set[datetime] = set()
    for _ in range(10):
        following = schedule.next_after(now_ms, since_ms=0)
        assert following is not None
        assert following > now_ms
        shown = datetime.fromtimestamp(following / 1000, ZoneInfo(zone)).replace(tzinfo=None, fold=0)
        assert _holds(hours, shown.hour, 0, 23)
        assert _holds(minutes, shown.minute, 0, 59)
        assert shown not in shown_before
        shown_before.add(shown)
        now_ms = following


@settings(max_examples=100, deadline=None)
@given(
    st.integers(2, 10_000),
    st.sampled_from(["minutes", "hours", "days"]),
    st.integers(0, 10**12),
    st.integers(0, 10**12),
)
def test_a_rate_is_strictly_later_and_on_its_grid(value: int, unit: str, since_ms: int, now_ms: int) -> None:
    schedule = schedules.parse(f"rate({value} {unit})")
    period_ms = value * {"minutes": MINUTE_MS, "hours": 60 * MINUTE_MS, "days": DAY_MS}[unit]
    following = schedule.next_after(now_ms, since_ms=since_ms)
    assert following is not None
    assert following > now_ms
    assert following >= since_ms
    assert (following - since_ms) % period_ms == 0
    assert following - period_ms <= max(now_ms, since_ms)

"""`lambdad logs`: each event once, none left out, and what events look like."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lambdad.cli.logs import LATE_MS, SKEW_MS, LogReader, command, line_of, moment_ms, style_of
from unit.cli.conftest import Stubs

NOW_MS = 1_795_000_000_000
GROUP = "/aws/lambda/f"


@dataclass
class Group:
    """A log group with a clock of its own, which is `lead_ms` ahead of the reader's; two events a page."""

    now_ms: int = NOW_MS
    lead_ms: int = 0
    exists: bool = True
    events: list[dict[str, Any]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def arrive(self, message: str, late_ms: int = 0) -> None:
        at_ms = self.now_ms + self.lead_ms
        number = next(self.numbers)
        self.events.append(
            {
                "eventId": f"{at_ms - late_ms:020d}{number:036d}",
                "timestamp": at_ms - late_ms,
                "ingestionTime": at_ms,
                "message": message,
            }
        )

    def get_paginator(self, name: str) -> Group:
        assert name == "filter_log_events"
        return self

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        if not self.exists:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "FilterLogEvents")
        self.starts.append(request["startTime"])
        found = sorted(
            (event for event in self.events if event["timestamp"] >= request["startTime"]),
            key=lambda event: event["eventId"],
        )
        yield from ({"events": found[at : at + 2]} for at in range(0, len(found) + 1, 2))

    def reader(self, since_ms: int) -> LogReader:
        return LogReader(self, GROUP, since_ms, now_ms=lambda: self.now_ms)


def messages(reader: LogReader) -> list[str]:
    return [event["message"] for event in reader.read()]


def test_each_event_is_given_once() -> None:
    group = Group()
    reader = group.reader(NOW_MS - 1000)
    group.arrive("one")
    assert messages(reader) == ["one"]
    assert messages(reader) == []
    group.arrive("two")
    group.arrive("three", late_ms=LATE_MS)
    group.now_ms += 500
    assert messages(reader) == ["two"], "what is older than --since is not shown"
    group.arrive("four", late_ms=400)
    assert messages(reader) == ["four"]


def test_a_group_that_is_not_there_yet_is_waited_for() -> None:
    group = Group(exists=False)
    reader = group.reader(NOW_MS - 1000)
    assert messages(reader) == []
    group.exists = True
    group.arrive("first")
    assert messages(reader) == ["first"]


def test_other_refusals_are_not_swallowed() -> None:
    class Refusing(Group):
        def paginate(self, **_: Any) -> Iterator[dict[str, Any]]:
            raise ClientError({"Error": {"Code": "InvalidParameterException"}}, "FilterLogEvents")

    with pytest.raises(ClientError, match="InvalidParameterException"):
        messages(Refusing().reader(0))


def test_what_is_read_again_is_little_and_forgotten_in_time() -> None:
    group = Group()
    reader = group.reader(NOW_MS - 600_000)
    for _ in range(200):
        group.arrive("x")
        assert messages(reader) == ["x"]
        group.now_ms += 500
    assert group.now_ms - group.starts[-1] <= LATE_MS + 1000
    assert len(reader._given) <= LATE_MS / 500 + 2


def test_a_quiet_group_is_not_read_from_the_start_for_ever() -> None:
    group = Group()
    reader = group.reader(NOW_MS - 600_000)
    for _ in range(100):
        assert messages(reader) == []
        group.now_ms += 60_000
    assert group.now_ms - group.starts[-1] == SKEW_MS + LATE_MS + 2 * 60_000


@given(
    lead_ms=st.integers(LATE_MS - SKEW_MS, SKEW_MS),  # an event may be late on top of a clock that is behind
    steps=st.lists(st.tuples(st.integers(0, LATE_MS), st.integers(0, 40_000), st.booleans()), max_size=40),
)
def test_nothing_is_missed_and_nothing_comes_twice(lead_ms: int, steps: list[tuple[int, int, bool]]) -> None:
    """Whatever the clocks say, however late events are, and however rarely they are read."""
    group = Group(lead_ms=lead_ms)
    reader = group.reader(0)
    seen: list[str] = []
    for number, (late_ms, pause_ms, is_read) in enumerate(steps):
        group.arrive(str(number), late_ms)
        if is_read:
            seen += messages(reader)
        group.now_ms += pause_ms
    seen += messages(reader)
    assert sorted(seen, key=int) == [str(number) for number in range(len(steps))]


@pytest.mark.parametrize(
    ("text", "ago_s"), [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("1w", 604_800), ("0s", 0)]
)
def test_how_long_ago(text: str, ago_s: int) -> None:
    assert abs(moment_ms(text) - (time.time() - ago_s) * 1000) < 2000


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [("2026-11-21T03:54:24.123Z", 1_795_233_264_123), ("2026-11-21T03:54:24+01:00", 1_795_229_664_000)],
)
def test_a_moment(text: str, at_ms: int) -> None:
    assert moment_ms(text) == at_ms


@pytest.mark.parametrize("text", ["", "yesterday", "10", "m", "-5m", "10 m"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is neither like 10m nor a time like"):
        moment_ms(text)


@pytest.mark.parametrize(
    ("message", "colour"),
    [
        ("START RequestId: x Version: $LATEST", "cyan"),
        ("END RequestId: x", "cyan"),
        ("REPORT RequestId: x\tDuration: 1 ms", "cyan"),
        ("REPORT RequestId: x\tDuration: 1 ms\tStatus: timeout", "red"),
        ("INIT_START Runtime Version: python:3.13", "cyan"),
        ('{"time":"2026-11-21T03:54:24.123Z","type":"platform.start","record":{}}', "cyan"),
        ('{"time":"x","type":"platform.report","record":{"status":"error"}}', "red"),
        ("STARTING up", None),
        ("[ERROR] ValueError: x", "red"),
        ("2026-11-21T03:54:24.123Z\tid\tERROR\tInvoke Error", "red"),
        ('{"level": "ERROR", "message": "x"}', "red"),
        ("2026-11-21T03:54:24.123Z id Task timed out after 3.00 seconds", "red"),
        ("[WARNING] careful", "yellow"),
        ("2026-11-21T03:54:24.123Z\tid\tWARN\tcareful", "yellow"),
        ("hello, no ERROR here", None),
    ],
)
def test_colours(message: str, colour: str | None) -> None:
    assert style_of(message).get("fg") == colour


def test_a_line_has_the_time_and_the_message() -> None:
    assert line_of({"timestamp": 1_795_233_264_007, "message": "two\nlines\n"}) == (
        "2026-11-21T03:54:24.007Z  two\nlines"
    )


def configure(stubs: Stubs) -> None:
    stubs.answers("lambda", "get_function_configuration", {"LoggingConfig": {"LogGroup": "/custom/group"}})


def event(message: str) -> dict[str, Any]:
    return {"eventId": message, "timestamp": 1_795_233_264_007, "ingestionTime": 1, "message": message}


def test_the_group_of_the_function_is_read_with_what_was_asked_for(stubs: Stubs) -> None:
    configure(stubs)
    request = {"logGroupName": "/custom/group", "startTime": 1_795_233_264_000, "filterPattern": "ERROR"}
    stubs.answers("logs", "filter_log_events", {"events": [event("a")], "nextToken": "t"}, request)
    stubs.answers("logs", "filter_log_events", {"events": [event("b")]}, {**request, "nextToken": "t"})
    result = CliRunner().invoke(command, ["f", "--filter", "ERROR", "--since", "2026-11-21T03:54:24Z"])
    assert result.stdout == "2026-11-21T03:54:24.007Z  a\n2026-11-21T03:54:24.007Z  b\n"


def test_events_for_programs(stubs: Stubs) -> None:
    configure(stubs)
    stubs.answers("logs", "filter_log_events", {"events": [event("a")]})
    assert json.loads(CliRunner().invoke(command, ["f", "--json"]).stdout) == [event("a")]


def test_no_events_are_said_on_standard_error(stubs: Stubs) -> None:
    configure(stubs)
    stubs.answers("logs", "filter_log_events", {"events": []})
    result = CliRunner().invoke(command, ["f"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "/custom/group has no such events since then; look further back with --since 1d\n"


def test_no_events_for_programs_are_an_empty_document(stubs: Stubs) -> None:
    configure(stubs)
    stubs.refuses("logs", "filter_log_events", "ResourceNotFoundException", "no group")
    result = CliRunner().invoke(command, ["f", "--json"])
    assert (result.exit_code, result.output) == (0, "[]\n")

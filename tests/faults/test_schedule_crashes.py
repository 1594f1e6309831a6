"""`kill -9` around the seconds in which schedules are due: each occurrence is accepted once, none is lost.

Runs are counted by what they were sent, which names the schedule and the time that it was for. A run may repeat after a
kill, as with every asynchronous invocation; then it has the request id of the first. Two acceptances of one occurrence
would show as two request ids.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from daemons import ROLE, Daemon
from faults.processes import eventually
from faults.recorder import Recorder

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:shown"
SCHEDULES = 40
KILLS = 4
SPREAD_S = 8
FIRST_S = 3
AROUND_S = (-0.15, -0.005, 0.0, 0.002, 0.005, 0.01, 0.02, 0.05)
"""When the daemon is killed, from the second in which something is due."""


def create(scheduler: Any, name: str, expression: str, function: str = FUNCTION) -> None:
    scheduler.create_schedule(
        Name=name,
        ScheduleExpression=expression,
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={
            "Arn": function,
            "RoleArn": ROLE,
            "Input": json.dumps({"schedule": name, "time": "<aws.scheduler.scheduled-time>"}),
        },
    )


def at(moment: datetime) -> str:
    return moment.strftime("at(%Y-%m-%dT%H:%M:%S)")


def second(offset: float) -> datetime:
    return (datetime.now(UTC) + timedelta(seconds=offset)).replace(microsecond=0)


def request_ids(recorder: Recorder) -> dict[tuple[str, str], set[str]]:
    """The request ids under which each occurrence has run."""
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in list(recorder.runs):
        ids[run.id["schedule"], run.id["time"]].add(run.request_id)
    return ids


def assert_each_once(recorder: Recorder, expected: set[tuple[str, str]]) -> None:
    assert eventually(lambda: expected <= set(request_ids(recorder)), 60), expected - set(request_ids(recorder))
    found = request_ids(recorder)
    assert set(found) == expected
    assert {occurrence: ids for occurrence, ids in found.items() if len(ids) != 1} == {}


def named(name: str, moment: datetime) -> tuple[str, str]:
    return name, moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.time(), 0))


def test_killed_just_before_and_just_after_the_second(tmp_path: Path, recorder: Recorder) -> None:
    expected: set[tuple[str, str]] = set()
    with Daemon(tmp_path / "data") as daemon:
        recorder.create(daemon.client("lambda"), "shown", "shown")
        for number, offset in enumerate(AROUND_S):
            due = second(2)
            create(daemon.client("scheduler"), f"around-{number}", at(due))
            expected.add(named(f"around-{number}", due))
            sleep_until(due.timestamp() + offset)
            daemon.kill()
            recorder.next_life()
            daemon.start()
        assert_each_once(recorder, expected)
        daemon.stop()
        daemon.start()
        marker = second(5)
        create(daemon.client("scheduler"), "marker", at(marker))
        assert_each_once(recorder, expected | {named("marker", marker)})


def test_killed_again_and_again_while_many_are_due(tmp_path: Path, recorder: Recorder) -> None:
    expected: set[tuple[str, str]] = set()
    with Daemon(tmp_path / "data") as daemon:
        recorder.create(daemon.client("lambda"), "shown", "shown")
        scheduler = daemon.client("scheduler")
        begin = second(FIRST_S)
        for number in range(SCHEDULES):
            due = begin + timedelta(seconds=number % SPREAD_S)
            create(scheduler, f"many-{number}", at(due))
            expected.add(named(f"many-{number}", due))
        assert time.time() < begin.timestamp(), "the machine is too slow for this test"
        for kill in range(KILLS):
            sleep_until(begin.timestamp() + kill * SPREAD_S / KILLS + 0.004 * kill)
            daemon.kill()
            recorder.next_life()
            daemon.start()
        assert_each_once(recorder, expected)


def test_what_fell_due_while_nothing_ran_is_made_up(tmp_path: Path, recorder: Recorder) -> None:
    with Daemon(tmp_path / "data") as daemon:
        recorder.create(daemon.client("lambda"), "shown", "shown")
        due = second(2)
        create(daemon.client("scheduler"), "missed", at(due))
        daemon.kill()
        recorder.next_life()
        sleep_until(due.timestamp() + 0.5)
        daemon.start()
        assert_each_once(recorder, {named("missed", due)})

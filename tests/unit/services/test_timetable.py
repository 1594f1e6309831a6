"""The timetable fires every occurrence once: over restarts, while the store fails, and whatever the clock does."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lambdad.adapters.clock import FakeClock, SystemClock
from lambdad.domain import schedules
from lambdad.ports.clock import Clock
from lambdad.ports.store import StoreUnavailable
from lambdad.services.timetable import MADE_UP_MS, Timetable

NOW_S = 1_710_493_380.0  # 2024-03-15T09:03:00Z
NOW_MS = int(NOW_S * 1000)
MINUTE_MS = 60_000
EVERY_MINUTE = schedules.parse("cron(* * * * ? *)")


class Jumping(FakeClock):
    """Its wall clock is somewhat ahead of the other one."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Queue:
    """What the timetable needs of the durable queue: the events and marks of one transaction."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self.fired: list[tuple[str, int]] = []
        self.outages = 0

    async def marks(self, prefix: str) -> Mapping[str, int]:
        return {name: mark for name, mark in self.kept.items() if name.startswith(prefix)}

    async def forget_mark(self, name: str) -> None:
        self.kept.pop(name, None)

    def fire(self, name: str) -> Callable[[int], Awaitable[None]]:
        async def fire(scheduled_ms: int) -> None:
            if self.outages:
                self.outages -= 1
                raise StoreUnavailable("the disk is full")
            self.fired.append((name, scheduled_ms))
            self.kept[name] = scheduled_ms

        return fire

    def times(self, name: str = "a") -> list[int]:
        return [scheduled_ms for each, scheduled_ms in self.fired if each == name]


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(test(**fixtures), 60)

        asyncio.run(bounded())

    return run


@asynccontextmanager
async def running(queue: Queue, clock: Clock) -> AsyncIterator[Timetable]:
    """One life of the daemon."""
    timetable = Timetable(queue, clock)
    await timetable.start()
    task = asyncio.create_task(timetable.run())
    try:
        yield timetable
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW_S)


@pytest.fixture
def queue() -> Queue:
    return Queue()


@in_a_loop
async def test_every_occurrence_is_fired_at_its_time(clock: FakeClock, queue: Queue) -> None:
    seen: list[float] = []

    async def fire(scheduled_ms: int) -> None:
        seen.append(clock.time())
        await queue.fire("a")(scheduled_ms)

    async with running(queue, clock) as timetable:
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=fire)
        await clock.advance(59.9)
        assert queue.fired == []
        await clock.advance(120.1)
    assert queue.times() == [NOW_MS + MINUTE_MS, NOW_MS + 2 * MINUTE_MS, NOW_MS + 3 * MINUTE_MS]
    assert seen == [at_ms / 1000 for at_ms in queue.times()]


@in_a_loop
async def test_a_rate_is_first_fired_one_period_after_its_beginning(clock: FakeClock, queue: Queue) -> None:
    async with running(queue, clock) as timetable:
        timetable.set("a", schedules.parse("rate(5 minutes)"), since_ms=NOW_MS, fire=queue.fire("a"))
        await clock.advance(600)
    assert queue.times() == [NOW_MS + 5 * MINUTE_MS, NOW_MS + 10 * MINUTE_MS]


@in_a_loop
async def test_what_fell_due_while_nothing_ran_is_made_up_oldest_first(clock: FakeClock, queue: Queue) -> None:
    async with running(queue, clock) as timetable:
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"))
        await clock.advance(60)
    await clock.advance(180)
    async with running(queue, clock) as timetable:
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"))
        await clock.advance(61)
    assert queue.times() == [NOW_MS + number * MINUTE_MS for number in range(1, 6)]


@in_a_loop
async def test_what_is_older_than_a_day_is_not_made_up(clock: FakeClock, queue: Queue) -> None:
    hourly = schedules.parse("rate(1 hour)")
    await clock.advance(3 * MADE_UP_MS / 1000)
    async with running(queue, clock) as timetable:
        timetable.set("a", hourly, since_ms=NOW_MS, fire=queue.fire("a"))
        for _ in range(30):
            await clock.advance(0.1)
    assert queue.times() == [NOW_MS + 2 * MADE_UP_MS + hour * 3_600_000 for hour in range(25)]


@in_a_loop
async def test_nor_after_a_long_sleep_of_the_machine(queue: Queue) -> None:
    clock = Jumping(NOW_S)
    async with running(queue, clock) as timetable:
        timetable.set("a", schedules.parse("rate(1 hour)"), since_ms=NOW_MS, fire=queue.fire("a"), window_ms=1000)
        await clock.advance(1)
        clock.ahead = 3 * MADE_UP_MS / 1000
        for _ in range(30):
            await clock.advance(1)
    assert queue.times() == [NOW_MS + 2 * MADE_UP_MS + hour * 3_600_000 for hour in range(1, 25)]


@in_a_loop
async def test_a_kill_before_and_after_the_transaction(clock: FakeClock, queue: Queue) -> None:
    begun: list[int] = []

    async def dies_before(scheduled_ms: int) -> None:
        begun.append(scheduled_ms)
        await asyncio.Event().wait()

    async def dies_after(scheduled_ms: int) -> None:
        await queue.fire("a")(scheduled_ms)
        await dies_before(scheduled_ms)

    first, second = NOW_MS + MINUTE_MS, NOW_MS + 2 * MINUTE_MS
    for fire, seconds in ((dies_before, 60), (dies_after, 1), (queue.fire("a"), 59)):
        async with running(queue, clock) as timetable:
            timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=fire)
            await clock.advance(seconds)
    assert begun == [first, first]
    assert queue.times() == [first, second]


@in_a_loop
async def test_a_store_that_fails_is_tried_again_with_the_same_occurrence(clock: FakeClock, queue: Queue) -> None:
    queue.outages = 3
    async with running(queue, clock) as timetable:
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"))
        await clock.advance(62)
        assert queue.fired == []
        await clock.advance(1)
    assert queue.times() == [NOW_MS + MINUTE_MS]


@in_a_loop
async def test_a_fault_in_one_entry_leaves_the_others_alone(clock: FakeClock, queue: Queue) -> None:
    calls: list[int] = []

    async def faulty(scheduled_ms: int) -> None:
        calls.append(scheduled_ms)
        raise ZeroDivisionError

    async with running(queue, clock) as timetable:
        timetable.set("bad", EVERY_MINUTE, since_ms=NOW_MS, fire=faulty)
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"))
        await clock.advance(120)
    assert queue.times() == calls == [NOW_MS + MINUTE_MS, NOW_MS + 2 * MINUTE_MS]


@in_a_loop
async def test_one_occurrence_of_an_entry_at_a_time(clock: FakeClock, queue: Queue) -> None:
    door = asyncio.Event()
    inside: list[int] = []

    async def slow(scheduled_ms: int) -> None:
        inside.append(scheduled_ms)
        await door.wait()
        await queue.fire("slow")(scheduled_ms)

    async with running(queue, clock) as timetable:
        timetable.set("slow", EVERY_MINUTE, since_ms=NOW_MS, fire=slow)
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"))
        await clock.advance(180)
        assert len(inside) == 1
        assert len(queue.times()) == 3
        door.set()
        await clock.advance(0.1)
        assert queue.times("slow") == [NOW_MS + number * MINUTE_MS for number in (1, 2, 3)]


@in_a_loop
async def test_an_entry_replaced_while_it_fires_goes_on_where_it_was(clock: FakeClock, queue: Queue) -> None:
    door = asyncio.Event()

    async def slow(scheduled_ms: int) -> None:
        await door.wait()
        await queue.fire("a")(scheduled_ms)

    async with running(queue, clock) as timetable:
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=slow)
        await clock.advance(60)
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"))
        await clock.advance(1)
        assert queue.fired == []
        door.set()
        await clock.advance(60)
    assert queue.times() == [NOW_MS + MINUTE_MS, NOW_MS + 2 * MINUTE_MS]


@in_a_loop
async def test_an_entry_that_is_removed_is_fired_no_more_and_forgotten(clock: FakeClock, queue: Queue) -> None:
    async with running(queue, clock) as timetable:
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"))
        await clock.advance(60)
        assert queue.kept == {"a": NOW_MS + MINUTE_MS}
        timetable.remove("a")
        await clock.advance(120)
        assert queue.kept == {}
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS + 3 * MINUTE_MS, fire=queue.fire("a"))
        await clock.advance(60)
    assert queue.times() == [NOW_MS + MINUTE_MS, NOW_MS + 4 * MINUTE_MS]


@in_a_loop
async def test_an_entry_removed_and_set_again_at_once_keeps_its_mark(clock: FakeClock, queue: Queue) -> None:
    async with running(queue, clock) as timetable:
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"))
        await clock.advance(60)
        timetable.remove("a")
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"))
        await clock.advance(1)
    assert queue.kept == {"a": NOW_MS + MINUTE_MS}
    assert queue.times() == [NOW_MS + MINUTE_MS]


@in_a_loop
async def test_many_that_are_removed_are_forgotten_in_the_time_of_one(clock: FakeClock) -> None:
    class Slow(Queue):
        async def forget_mark(self, name: str) -> None:
            await clock.sleep(1)
            await super().forget_mark(name)

    queue = Slow()
    async with running(queue, clock) as timetable:
        for name in "abcdefgh":
            timetable.set(name, EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire(name))
        await clock.advance(60)
        for name in "abcdefg":
            timetable.remove(name)
        await clock.advance(1)
        assert queue.kept == {"h": NOW_MS + MINUTE_MS}


@in_a_loop
async def test_an_earlier_entry_is_not_kept_waiting_by_a_later_one(clock: FakeClock, queue: Queue) -> None:
    async with running(queue, clock) as timetable:
        timetable.set("late", schedules.parse("rate(1 day)"), since_ms=NOW_MS, fire=queue.fire("late"))
        await clock.advance(10.25)
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"))
        await clock.advance(50)
    assert queue.fired == [("a", NOW_MS + MINUTE_MS)]


@in_a_loop
async def test_it_ends_and_says_so_once(clock: FakeClock, queue: Queue) -> None:
    ends: list[float] = []

    async def finished() -> None:
        ends.append(clock.time())

    async with running(queue, clock) as timetable:
        until_ms = NOW_MS + 3 * MINUTE_MS
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"), until_ms=until_ms, finished=finished)
        await clock.advance(600)
    assert queue.times() == [NOW_MS + MINUTE_MS, NOW_MS + 2 * MINUTE_MS]
    assert ends == [NOW_S + 120]
    async with running(queue, clock) as timetable:
        at = schedules.parse("at(2024-03-15T09:04:00)", at_allowed=True)
        timetable.set("a", at, since_ms=NOW_MS, fire=queue.fire("a"), finished=finished)
        await clock.advance(1)
    assert ends == [NOW_S + 120, NOW_S + 600]


@in_a_loop
async def test_a_clock_that_is_put_forward_fires_what_it_has_passed(queue: Queue) -> None:
    jumping = Jumping(NOW_S)
    async with running(queue, jumping) as timetable:
        timetable.set("a", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire("a"))
        await jumping.advance(2)
        jumping.ahead = 120
        await jumping.advance(1)
        assert queue.times() == [NOW_MS + MINUTE_MS, NOW_MS + 2 * MINUTE_MS]
        jumping.ahead = 0
        await jumping.advance(130)
        assert len(queue.fired) == 2
        await jumping.advance(60)
    assert queue.times()[2:] == [NOW_MS + 3 * MINUTE_MS]


@in_a_loop
async def test_a_window_spreads_occurrences_the_same_way_after_a_restart(clock: FakeClock, queue: Queue) -> None:
    window_ms = 10 * MINUTE_MS
    lateness: dict[int, list[float]] = {}

    def fire(life: int) -> Callable[[int], Awaitable[None]]:
        async def note(scheduled_ms: int) -> None:
            lateness.setdefault(life, []).append(clock.time() - scheduled_ms / 1000)

        return note

    hourly = schedules.parse("rate(1 hour)")
    for life in (1, 2):
        clock = FakeClock(NOW_S)
        async with running(queue, clock) as timetable:
            timetable.set("a", hourly, since_ms=NOW_MS, fire=fire(life), window_ms=window_ms)
            await clock.advance(5 * 3600 + 600)
    assert lateness[1] == lateness[2]
    assert len(set(lateness[1])) == 5
    assert all(0 <= seconds < 600 for seconds in lateness[1])


@in_a_loop
async def test_ten_thousand_entries_cost_little_and_superseded_plans_are_thrown_out(
    clock: FakeClock, queue: Queue
) -> None:
    began = time.process_time()
    async with running(queue, clock) as timetable:
        for _ in range(3):
            for number in range(10_000):
                timetable.set(f"entry-{number}", EVERY_MINUTE, since_ms=NOW_MS, fire=queue.fire(f"entry-{number}"))
        assert len(timetable._planned) <= 20_065
        await clock.advance(60)
        assert sorted(queue.fired) == sorted((f"entry-{number}", NOW_MS + MINUTE_MS) for number in range(10_000))
    assert time.process_time() - began < 10


@in_a_loop
async def test_the_real_clock_fires_within_milliseconds_of_the_second(queue: Queue) -> None:
    late: list[float] = []
    fired = asyncio.Event()

    async def fire(scheduled_ms: int) -> None:
        late.append(time.time() - scheduled_ms / 1000)
        fired.set()

    class InAWhile:
        def next_after(self, ms: int, *, since_ms: int) -> int | None:
            return since_ms + 300 if ms < since_ms + 300 else None

    async with running(queue, SystemClock()) as timetable:
        timetable.set("a", InAWhile(), since_ms=int(time.time() * 1000), fire=fire)
        await asyncio.wait_for(fired.wait(), 10)
    assert len(late) == 1
    assert 0 <= late[0] < 0.5

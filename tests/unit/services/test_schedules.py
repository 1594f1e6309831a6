"""EventBridge Scheduler's service, with the real timetable, on a clock that tests move."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_schedules import MemoryScheduleStore
from lambdad.domain import scheduler
from lambdad.domain.dispatches import Dispatch
from lambdad.domain.errors import ResourceNotFoundException, ServiceError, ValidationException
from lambdad.domain.scheduler import (
    ConflictException,
    GroupKey,
    ScheduleKey,
    ScheduleSettings,
    ServiceQuotaExceededException,
    Target,
)
from lambdad.ports.store import StoreUnavailable
from lambdad.services.schedules import SchedulesService
from lambdad.services.timetable import Timetable

NOW_S = 1_710_493_380.25  # 2024-03-15T09:03:00.250Z
ACCOUNT, REGION = "123456789012", "us-east-1"
DEFAULT = GroupKey(ACCOUNT, REGION, "default")
NIGHTLY = GroupKey(ACCOUNT, REGION, "nightly")
KEY = ScheduleKey(DEFAULT, "demo")
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:demo"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/scheduler"
TARGET = Target(FUNCTION, ROLE, '{"at": "<aws.scheduler.scheduled-time>"}')
EVERY_FIVE = ScheduleSettings("rate(5 minutes)", TARGET)
ONCE = ScheduleSettings("at(2024-03-15T09:04:30)", TARGET)
DAY_MS = 24 * 3600 * 1000


class Queue:
    """The durable queue: it outlives daemons."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self.accepted: list[Dispatch] = []
        self.failures = 0

    async def marks(self, prefix: str) -> Mapping[str, int]:
        return {name: mark for name, mark in self.kept.items() if name.startswith(prefix)}

    async def forget_mark(self, name: str) -> None:
        self.kept.pop(name, None)

    async def accept(self, dispatches: Sequence[Dispatch], *, marks: Mapping[str, int] | None = None) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the disk is full")
        self.accepted += dispatches
        self.kept.update(marks or {})

    def times(self) -> list[str]:
        """The scheduled times of what was accepted, of schedules whose target is TARGET."""
        return [json.loads(each.parameters["Payload"])["at"][11:] for each in self.accepted]


@dataclass
class World:
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW_S))
    store: MemoryScheduleStore = field(default_factory=MemoryScheduleStore)
    queue: Queue = field(default_factory=Queue)
    without: frozenset[str] = frozenset()

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[SchedulesService]:
        timetable = Timetable(self.queue, self.clock)
        await timetable.start()
        service = SchedulesService(
            self.store, self.queue, timetable, self.clock, lambda service: service not in self.without
        )
        await service.start()
        task = asyncio.create_task(timetable.run())
        try:
            yield service
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def in_a_loop(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(test(World(), **fixtures), 60)

        asyncio.run(bounded())

    del run.__dict__["__wrapped__"]  # pytest would take `world` for a fixture
    return run


async def names(service: SchedulesService, **wanted: Any) -> list[str]:
    selection = {"group": None, "prefix": "", "state": None, "after": ("", ""), "limit": 100, **wanted}
    return [record.key.name for record in await service.list_schedules(ACCOUNT, REGION, **selection)]


@in_a_loop
async def test_a_rate_begins_at_once_and_goes_on(world: World) -> None:
    async with world.daemon() as service:
        await service.create_schedule(KEY, EVERY_FIVE)
        await world.clock.advance(601)
    assert world.queue.times() == ["09:03:00Z", "09:08:00Z", "09:13:00Z"]
    sent = world.queue.accepted[0]
    assert (sent.service, sent.target, sent.source, sent.principal) == ("lambda", FUNCTION, KEY.arn, "")
    assert world.queue.kept == {KEY.arn: 1_710_493_980_000}


@in_a_loop
async def test_what_happens_once_is_sent_once_however_often_the_daemon_dies(world: World) -> None:
    async with world.daemon() as service:
        await service.create_schedule(KEY, ONCE)
    for _ in range(5):
        async with world.daemon():
            await world.clock.advance(40)
    assert world.queue.times() == ["09:04:30Z"]


@in_a_loop
async def test_what_was_missed_is_made_up(world: World) -> None:
    async with world.daemon() as service:
        await service.create_schedule(KEY, replace(EVERY_FIVE, expression="cron(0/5 * * * ? *)"))
    await world.clock.advance(900)
    async with world.daemon():
        await world.clock.advance(0)
    assert world.queue.times() == ["09:05:00Z", "09:10:00Z", "09:15:00Z"]


@in_a_loop
async def test_what_was_due_before_a_schedule_was_made_is_not_for_it(world: World) -> None:
    async with world.daemon() as service:
        await service.create_schedule(KEY, replace(ONCE, expression="at(2024-03-15T09:02:59)"))
        await service.create_schedule(replace(KEY, name="now"), replace(ONCE, expression="at(2024-03-15T09:03:00)"))
        await world.clock.advance(60)
    assert world.queue.times() == ["09:03:00Z"]


@in_a_loop
async def test_start_and_end(world: World) -> None:
    start_ms = int(NOW_S) * 1000 + 7 * 60_000
    settings = replace(EVERY_FIVE, start_ms=start_ms, end_ms=start_ms + 10 * 60_000)
    async with world.daemon() as service:
        await service.create_schedule(KEY, settings)
        await world.clock.advance(3600)
        assert (await service.get_schedule(KEY)).settings == settings
    assert world.queue.times() == ["09:10:00Z", "09:15:00Z"]


@in_a_loop
async def test_it_is_deleted_after_its_completion_when_that_is_asked_for(world: World) -> None:
    async with world.daemon() as service:
        await service.create_schedule(KEY, replace(ONCE, action_after_completion="DELETE"))
        ends = replace(EVERY_FIVE, end_ms=int(NOW_S + 480) * 1000, action_after_completion="DELETE")
        await service.create_schedule(replace(KEY, name="ends"), ends)
        await service.create_schedule(replace(KEY, name="stays"), ONCE)
        assert await names(service) == ["demo", "ends", "stays"]
        await world.clock.advance(100)
        assert await names(service) == ["ends", "stays"]
        await world.clock.advance(500)
        assert await names(service) == ["stays"]
        with pytest.raises(ResourceNotFoundException):
            await service.get_schedule(KEY)
    assert list(world.queue.kept) == [replace(KEY, name="stays").arn]


@in_a_loop
async def test_a_daemon_that_died_between_the_last_occurrence_and_the_deletion(world: World) -> None:
    async with world.daemon() as service:
        await service.create_schedule(KEY, replace(ONCE, action_after_completion="DELETE"))
    await world.clock.advance(100)
    world.queue.kept[KEY.arn] = 1_710_493_470_000
    async with world.daemon() as service:
        await world.clock.advance(1)
        assert await names(service) == []
    assert world.queue.accepted == []


@in_a_loop
async def test_disabled_schedules_are_not_fired_and_nothing_is_made_up(world: World) -> None:
    every = replace(EVERY_FIVE, expression="cron(* * * * ? *)")
    async with world.daemon() as service:
        await service.create_schedule(KEY, replace(every, state="DISABLED"))
        await world.clock.advance(130)
        await service.update_schedule(KEY, every)
        await world.clock.advance(60)
        await service.update_schedule(KEY, replace(every, state="DISABLED"))
        await world.clock.advance(120)
    assert world.queue.times() == ["09:06:00Z"]


@in_a_loop
async def test_an_update_takes_effect_at_once(world: World) -> None:
    async with world.daemon() as service:
        await service.create_schedule(KEY, replace(EVERY_FIVE, expression="cron(0 10 * * ? *)"))
        await world.clock.advance(10)
        await service.update_schedule(KEY, replace(EVERY_FIVE, expression="cron(5 9 * * ? *)"))
        await world.clock.advance(3600)
        record = await service.get_schedule(KEY)
    assert world.queue.times() == ["09:05:00Z"]
    assert (record.created_ms, record.modified_ms) == (int(NOW_S * 1000), int(NOW_S * 1000) + 10_000)


@in_a_loop
async def test_a_deleted_schedule_is_not_fired(world: World) -> None:
    async with world.daemon() as service:
        await service.create_group(NIGHTLY, {})
        for key in (KEY, ScheduleKey(NIGHTLY, "a"), ScheduleKey(NIGHTLY, "b")):
            await service.create_schedule(key, ONCE)
        await service.delete_schedule(KEY)
        await service.delete_group(NIGHTLY)
        await world.clock.advance(200)
        assert await names(service) == []
        for key in (KEY, ScheduleKey(NIGHTLY, "a")):
            with pytest.raises(ResourceNotFoundException):
                await service.get_schedule(key)
    assert world.queue.accepted == []


@in_a_loop
async def test_a_window_is_kept_to(world: World) -> None:
    async with world.daemon() as service:
        for number in range(20):
            await service.create_schedule(replace(KEY, name=f"s{number}"), replace(ONCE, window_minutes=2))
        await world.clock.advance(89.5)
        assert world.queue.accepted == []
        await world.clock.advance(60)
        half = len(world.queue.accepted)
        await world.clock.advance(60.5)
    assert 0 < half < 20
    assert world.queue.times() == ["09:04:30Z"] * 20


@in_a_loop
async def test_a_store_that_fails_delays_and_loses_nothing(world: World) -> None:
    async with world.daemon() as service:
        await service.create_schedule(KEY, ONCE)
        world.queue.failures = 2
        await world.clock.advance(91)
        assert world.queue.accepted == []
        await world.clock.advance(2)
    assert world.queue.times() == ["09:04:30Z"]


@in_a_loop
async def test_a_request_that_is_repeated_with_its_token(world: World) -> None:
    async with world.daemon() as service:
        await service.create_schedule(KEY, EVERY_FIVE, "token")
        await service.create_schedule(KEY, EVERY_FIVE, "token")
        await service.update_schedule(KEY, ONCE)
        await service.create_schedule(KEY, EVERY_FIVE, "token")
        assert (await service.get_schedule(KEY)).settings == ONCE
        for settings, token in ((EVERY_FIVE, "other"), (ONCE, "token"), (EVERY_FIVE, "")):
            with pytest.raises(ConflictException, match="Schedule demo already exists"):
                await service.create_schedule(KEY, settings, token)
        await service.create_group(NIGHTLY, {}, "token")
        await service.create_group(NIGHTLY, {}, "token")
        with pytest.raises(ConflictException):
            await service.create_group(NIGHTLY, {}, "other")
        await service.delete_schedule(KEY, "token")
        await service.delete_schedule(KEY, "token")
        with pytest.raises(ResourceNotFoundException, match="Schedule demo does not exist"):
            await service.delete_schedule(KEY, "other")
        await service.delete_group(NIGHTLY, "token")
        await service.delete_group(NIGHTLY, "token")
        with pytest.raises(ResourceNotFoundException, match="Schedule group nightly does not exist"):
            await service.delete_group(NIGHTLY)


@in_a_loop
async def test_what_is_refused(world: World) -> None:
    now_ms = int(NOW_S * 1000)
    refused: list[tuple[ScheduleSettings, str]] = [
        (replace(EVERY_FIVE, expression="rate(5)"), r"Invalid Schedule Expression rate\(5\)\."),
        (replace(EVERY_FIVE, timezone="Mars/Olympus"), "Mars/Olympus"),
        (replace(EVERY_FIVE, start_ms=now_ms - 300_001), "StartDate .* cannot be earlier than 5 minutes ago"),
        (replace(EVERY_FIVE, end_ms=now_ms), "EndDate"),
        (replace(EVERY_FIVE, start_ms=now_ms + 2, end_ms=now_ms + 1), "EndDate"),
        (replace(EVERY_FIVE, target=replace(TARGET, arn="arn:aws:ecs:us-east-1:1:x")), "correct format"),
        (replace(EVERY_FIVE, target=replace(TARGET, input="{")), "JSON"),
    ]
    async with world.daemon() as service:
        for settings, message in refused:
            with pytest.raises(ValidationException, match=message):
                await service.create_schedule(KEY, settings)
        assert await names(service) == []
        await service.create_schedule(KEY, replace(ONCE, start_ms=1, end_ms=2))
        await service.update_schedule(KEY, replace(EVERY_FIVE, start_ms=1))
        with pytest.raises(ValidationException, match="StartDate"):
            await service.update_schedule(KEY, replace(EVERY_FIVE, start_ms=2))
        with pytest.raises(ResourceNotFoundException, match="Schedule group nightly does not exist"):
            await service.create_schedule(ScheduleKey(NIGHTLY, "a"), EVERY_FIVE)
        with pytest.raises(ResourceNotFoundException, match="Schedule other does not exist"):
            await service.update_schedule(replace(KEY, name="other"), EVERY_FIVE)
        with pytest.raises(ValidationException):
            await service.delete_group(DEFAULT)


@in_a_loop
async def test_a_target_that_cannot_be_served_is_refused(world: World) -> None:
    world.without = frozenset({"sqs"})
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
    async with world.daemon() as service:
        for target in (replace(TARGET, arn=queue), replace(TARGET, dead_letter_arn=queue)):
            with pytest.raises(ValidationException, match="sqs is not a supported service for a target"):
                await service.create_schedule(KEY, replace(EVERY_FIVE, target=target))


@in_a_loop
async def test_groups_and_their_tags(world: World) -> None:
    async with world.daemon() as service:
        assert (await service.get_group(DEFAULT)).created_ms == int(NOW_S * 1000)
        await world.clock.advance(10)
        await service.create_group(NIGHTLY, {"a": "1"})
        await service.tag_group(NIGHTLY, {"a": "2", "b": "3"})
        await service.untag_group(NIGHTLY, ["a", "nothing"])
        assert (await service.get_group(NIGHTLY)).tags == {"b": "3"}
        groups = await service.list_groups(ACCOUNT, REGION, "", "", 10)
        assert [group.key.name for group in groups] == ["default", "nightly"]
        with pytest.raises(ValidationException):
            await service.tag_group(NIGHTLY, {"aws:x": "1"})
        with pytest.raises(ValidationException):
            await service.tag_group(NIGHTLY, {f"tag{number}": "" for number in range(50)})
        with pytest.raises(ResourceNotFoundException):
            await service.tag_group(replace(NIGHTLY, name="nobody"), {})
        with pytest.raises(ResourceNotFoundException):
            await names(service, group="nobody")


@in_a_loop
async def test_quotas(world: World) -> None:
    async with world.daemon() as service:
        for number in range(scheduler.GROUPS_MAX - 1):
            await service.create_group(replace(NIGHTLY, name=f"g{number}"), {})
        with pytest.raises(ServiceQuotaExceededException) as raised:
            await service.create_group(NIGHTLY, {})
        assert (raised.value.code, raised.value.status) == ("ServiceQuotaExceededException", 402)


def test_the_quota_of_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "SCHEDULES_MAX", 2)

    @in_a_loop
    async def scenario(world: World) -> None:
        async with world.daemon() as service:
            for name in ("a", "b"):
                await service.create_schedule(replace(KEY, name=name), EVERY_FIVE)
            with pytest.raises(ServiceQuotaExceededException):
                await service.create_schedule(KEY, EVERY_FIVE)

    scenario()


@in_a_loop
async def test_a_caller_that_goes_away_leaves_store_and_timetable_in_step(world: World) -> None:
    async with world.daemon() as service:
        request = asyncio.ensure_future(service.create_schedule(KEY, ONCE))
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await world.clock.advance(100)
        assert await names(service) == ["demo"]
    assert world.queue.times() == ["09:04:30Z"]


@in_a_loop
async def test_a_schedule_that_can_no_longer_be_read_does_not_keep_the_daemon_from_starting(world: World) -> None:
    lost = scheduler.ScheduleRecord(KEY, replace(ONCE, timezone="Gone/Away"), 1, 1)
    await world.store.write(lambda tables: tables.put_schedule(lost))
    async with world.daemon() as service:
        await service.create_schedule(replace(KEY, name="other"), ONCE)
        await world.clock.advance(100)
    assert world.queue.times() == ["09:04:30Z"]


def test_errors_are_the_services() -> None:
    assert isinstance(KEY.not_found(), ServiceError)
    assert KEY.arn == f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/default/demo"
    assert NIGHTLY.arn == f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/nightly"

"""What every ScheduleStore does, the real one and the one in memory alike."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lambdad.adapters.memory_schedules import MemoryScheduleStore
from lambdad.adapters.sqlite_schedules import SqliteScheduleStore
from lambdad.domain.scheduler import GroupKey, ScheduleGroup, ScheduleKey, ScheduleRecord, ScheduleSettings, Target
from lambdad.ports.schedules import ScheduleStore, ScheduleTables
from lambdad.ports.store import StoreUnavailable

ACCOUNT, REGION = "000000000000", "eu-central-1"
GROUP = GroupKey(ACCOUNT, REGION, "nightly")
TARGET = Target("arn:aws:sqs:eu-central-1:000000000000:queue", "arn:aws:iam::000000000000:role/r")
SETTINGS = ScheduleSettings("rate(5 minutes)", TARGET)
FULL = ScheduleSettings(
    "cron(0 2 ? * MON-FRI *)",
    replace(
        TARGET,
        input='{"größe": "\U0001f600"}',
        dead_letter_arn="arn:aws:sqs:eu-central-1:000000000000:dead",
        max_attempts=0,
        max_age_s=60,
        detail_type="type",
        event_source="source",
        partition_key="key",
        message_group_id="group",
        has_sqs_parameters=True,
        universal_operation="SendMessage",
        universal_request='{"MessageBody": "b"}',
    ),
    timezone="Europe/Berlin",
    start_ms=1,
    end_ms=2,
    description="",
    state="DISABLED",
    window_minutes=15,
    action_after_completion="DELETE",
)


def schedule(name: str, group: GroupKey = GROUP, settings: ScheduleSettings = SETTINGS) -> ScheduleRecord:
    return ScheduleRecord(ScheduleKey(group, name), settings, 10, 20, "token")


def names(records: Any) -> list[str]:
    return [record.key.name for record in records]


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ScheduleStore]:
    real = request.param == "sqlite"
    store: ScheduleStore = SqliteScheduleStore(tmp_path / "scheduler.db") if real else MemoryScheduleStore()
    yield store
    asyncio.run(store.close())


def in_event_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 60))

    return run


@in_event_loop
async def test_records_come_back_as_they_were_put(store: ScheduleStore) -> None:
    group = ScheduleGroup(GROUP, 1, 2, {"team": "Köln"}, "token")
    records = [
        schedule("a"),
        schedule("b", settings=FULL),
        replace(schedule("c", settings=FULL), original=SETTINGS),
    ]

    def put(tables: ScheduleTables) -> None:
        tables.put_group(group)
        for record in records:
            tables.put_schedule(record)
        assert tables.schedule(records[0].key) == records[0]

    await store.write(put)
    assert await store.read(lambda tables: tables.group(GROUP)) == group
    assert await store.read(lambda tables: [tables.schedule(record.key) for record in records]) == records
    assert list(await store.read(lambda tables: tables.all_schedules())) == records
    assert await store.read(lambda tables: tables.schedule(ScheduleKey(GROUP, "d"))) is None
    assert await store.read(lambda tables: tables.group(replace(GROUP, name="d"))) is None


@in_event_loop
async def test_what_is_put_again_is_replaced(store: ScheduleStore) -> None:
    await store.write(lambda tables: tables.put_schedule(schedule("a")))
    await store.write(lambda tables: tables.put_schedule(schedule("a", settings=FULL)))
    await store.write(lambda tables: tables.put_group(ScheduleGroup(GROUP, 1, 2)))
    await store.write(lambda tables: tables.put_group(ScheduleGroup(GROUP, 1, 3)))
    assert await store.read(lambda tables: tables.schedule(schedule("a").key)) == schedule("a", settings=FULL)
    assert await store.read(lambda tables: tables.schedule_count(ACCOUNT, REGION)) == 1
    assert await store.read(lambda tables: tables.group(GROUP)) == ScheduleGroup(GROUP, 1, 3)
    found = await store.read(
        lambda tables: tables.schedules(
            ACCOUNT, REGION, group=None, prefix="", state="DISABLED", after=("", ""), limit=9
        )
    )
    assert names(found) == ["a"]


@in_event_loop
async def test_lists_are_filtered_and_paged(store: ScheduleStore) -> None:
    other = replace(GROUP, name="other")
    elsewhere = replace(GROUP, region="us-east-1")

    def put(tables: ScheduleTables) -> None:
        for name in ("b_1", "a", "b1", "B1", "c"):
            tables.put_schedule(schedule(name))
        tables.put_schedule(schedule("a", other, FULL))
        tables.put_schedule(schedule("a", elsewhere))
        for group in (GROUP, other, elsewhere):
            tables.put_group(ScheduleGroup(group, 1, 2))

    await store.write(put)

    def listed(tables: ScheduleTables, **wanted: Any) -> list[tuple[str, str]]:
        selection = {"group": None, "prefix": "", "state": None, "after": ("", ""), "limit": 100, **wanted}
        return [(each.key.group.name, each.key.name) for each in tables.schedules(ACCOUNT, REGION, **selection)]

    def check(tables: ScheduleTables) -> None:
        everything = [("nightly", name) for name in ("B1", "a", "b1", "b_1", "c")] + [("other", "a")]
        assert listed(tables) == everything
        assert listed(tables, limit=2) == everything[:2]
        assert listed(tables, after=("nightly", "b1")) == everything[3:]
        assert listed(tables, after=("nightly", "c"), limit=1) == [("other", "a")]
        assert listed(tables, group="other") == [("other", "a")]
        assert listed(tables, group="nobody") == []
        assert listed(tables, prefix="b_") == [("nightly", "b_1")]
        assert listed(tables, prefix="b") == [("nightly", "b1"), ("nightly", "b_1")]
        assert listed(tables, state="DISABLED") == [("other", "a")]
        assert names(tables.groups(ACCOUNT, REGION, "", "", 10)) == ["nightly", "other"]
        assert names(tables.groups(ACCOUNT, REGION, "", "nightly", 10)) == ["other"]
        assert names(tables.groups(ACCOUNT, REGION, "n", "", 10)) == ["nightly"]
        assert names(tables.groups(ACCOUNT, REGION, "", "", 1)) == ["nightly"]
        assert tables.group_count(ACCOUNT, REGION) == 2
        assert tables.schedule_count(ACCOUNT, REGION) == 6
        assert tables.schedule_count("111111111111", REGION) == 0

    await store.read(check)


@in_event_loop
async def test_a_group_goes_with_its_schedules(store: ScheduleStore) -> None:
    other = replace(GROUP, name="other")

    def put(tables: ScheduleTables) -> None:
        for group in (GROUP, other):
            tables.put_group(ScheduleGroup(group, 1, 2))
            for name in ("b", "a"):
                tables.put_schedule(schedule(name, group))

    await store.write(put)
    members = await store.write(lambda tables: tables.delete_group(GROUP))
    assert list(members) == [ScheduleKey(GROUP, "a"), ScheduleKey(GROUP, "b")]
    await store.write(lambda tables: tables.delete_schedule(ScheduleKey(other, "b")))
    left = await store.read(lambda tables: tables.all_schedules())
    assert [record.key for record in left] == [ScheduleKey(other, "a")]
    assert await store.read(lambda tables: tables.group(GROUP)) is None
    assert list(await store.write(lambda tables: tables.delete_group(GROUP))) == []


@in_event_loop
async def test_work_that_fails_changes_nothing(store: ScheduleStore) -> None:
    def fails(tables: ScheduleTables) -> None:
        tables.put_schedule(schedule("a"))
        raise KeyError("no")

    with pytest.raises(KeyError):
        await store.write(fails)
    assert await store.read(lambda tables: tables.schedule_count(ACCOUNT, REGION)) == 0
    with pytest.raises(RuntimeError):
        await store.read(lambda tables: tables.put_schedule(schedule("a")))


@in_event_loop
async def test_a_closed_store_says_so(store: ScheduleStore) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.read(lambda tables: tables.all_schedules())
    with pytest.raises(StoreUnavailable):
        await store.write(lambda tables: tables.put_schedule(schedule("a")))


def test_schedules_survive_the_process(tmp_path: Path) -> None:
    async def put() -> None:
        store = SqliteScheduleStore(tmp_path / "scheduler.db")
        await store.write(lambda tables: tables.put_schedule(schedule("a")))
        await store.close()

    async def read() -> list[ScheduleRecord]:
        store = SqliteScheduleStore(tmp_path / "scheduler.db")
        found = await store.read(lambda tables: list(tables.all_schedules()))
        await store.close()
        return found

    asyncio.run(put())
    assert asyncio.run(read()) == [schedule("a")]

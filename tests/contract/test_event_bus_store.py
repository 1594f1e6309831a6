"""What every store of event buses does: the SQLite file and the in-memory twin alike."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lambdad.adapters.memory_event_buses import MemoryEventBusStore
from lambdad.adapters.sqlite_event_buses import BATCH, SqliteEventBusStore
from lambdad.domain.event_archives import Archive, ArchivedEvent, ArchiveKey, ArchiveSize, Place, Replay
from lambdad.domain.event_buses import BusKey, EventBus
from lambdad.domain.event_rules import Rule
from lambdad.domain.event_targets import Target
from lambdad.ports.event_buses import EventBusStore, StoredBuses
from lambdad.ports.store import StoreUnavailable

ACCOUNT, REGION = "111122223333", "us-east-1"
BUS = BusKey(ACCOUNT, REGION, "orders")
DEFAULT = BusKey(ACCOUNT, REGION, "default")
KEY = ArchiveKey(ACCOUNT, REGION, "a")
END_MS = 2**50

Test = Callable[[EventBusStore], Awaitable[None]]
Run = Callable[[Test], None]


@pytest.fixture(params=["sqlite", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a test with a new store."""
    numbers = itertools.count()

    def run(test: Test) -> None:
        async def with_store() -> None:
            store: EventBusStore
            if request.param == "sqlite":
                store = SqliteEventBusStore(tmp_path / f"{next(numbers)}.db")
            else:
                store = MemoryEventBusStore()
            try:
                await test(store)
            finally:
                await store.close()

        asyncio.run(with_store())

    return run


def bus(key: BusKey = BUS, **fields: object) -> EventBus:
    return EventBus(key, tags={"team": "a"}, created_ms=1, modified_ms=2, **fields)  # type: ignore[arg-type]


def target(name: str = "t", **fields: object) -> Target:
    return Target(name, f"arn:aws:sqs:{REGION}:{ACCOUNT}:q", **fields)  # type: ignore[arg-type]


def archive(name: str = "a", archive_id: str = "id-a") -> Archive:
    return Archive(ArchiveKey(ACCOUNT, REGION, name), archive_id, BUS, 5, '{"source": ["s"]}', 3, "about")


def event(time_ms: int, document: str = "{}", archive_id: str = "id-a", stored_ms: int = 0) -> ArchivedEvent:
    return ArchivedEvent(archive_id, time_ms, stored_ms, document)


def replay(name: str = "r") -> Replay:
    return Replay(ACCOUNT, REGION, name, KEY, "id-a", BUS, 0, 10, 7, filter_arns=("arn:x",), place=Place(3, 4))


async def documents(store: EventBusStore, archive_id: str = "id-a", **options: object) -> list[str]:
    wanted = {"after": None, "from_ms": 0, "until_ms": END_MS, "limit": 1000} | options
    return [each.document for each in await store.archived(archive_id, **wanted)]  # type: ignore[arg-type]


def test_an_empty_store_has_nothing(run: Run) -> None:
    async def test(store: EventBusStore) -> None:
        assert await store.load() == StoredBuses([], [], [], [])

    run(test)


def test_what_was_put_is_loaded_and_replaced(run: Run) -> None:
    full = target(
        input_template="<a>",
        input_paths={"a": "$.a"},
        role_arn="arn:role",
        message_group_id="g",
        dead_letter_arn="arn:dlq",
        retry_attempts=0,
        event_age_s=60,
    )
    rules = [
        Rule(BUS, "r", pattern="{}", targets=(full,), tags={"k": "v"}, description="\ud800"),
        Rule(DEFAULT, "r", schedule="rate(1 minute)", state="DISABLED", scheduled_since_ms=9),
    ]

    async def test(store: EventBusStore) -> None:
        for each in (bus(), bus(DEFAULT, policy="{}")):
            await store.put_bus(each)
        for rule in rules:
            await store.put_rule(rule)
        await store.put_archive(archive())
        await store.put_replay(replay())
        loaded = await store.load()
        assert sorted(loaded.buses, key=lambda each: each.key) == [bus(DEFAULT, policy="{}"), bus()]
        assert sorted(loaded.rules, key=lambda each: each.bus.name) == [rules[1], rules[0]]
        assert (loaded.archives, loaded.replays) == ([archive()], [replay()])
        await store.put_bus(bus(description="new"))
        await store.put_rule(replace(rules[0], targets=()))
        await store.put_archive(replace(archive(), description="new"))
        await store.put_replay(replace(replay(), state="COMPLETED"))
        loaded = await store.load()
        assert bus(description="new") in loaded.buses
        assert replace(rules[0], targets=()) in loaded.rules
        assert (loaded.archives[0].description, loaded.replays[0].state) == ("new", "COMPLETED")

    run(test)


def test_what_was_deleted_is_gone(run: Run) -> None:
    async def test(store: EventBusStore) -> None:
        await store.put_bus(bus())
        await store.put_rule(Rule(BUS, "r", pattern="{}"))
        await store.put_rule(Rule(DEFAULT, "r", pattern="{}"))
        await store.put_archive(archive())
        await store.put_replay(replay())
        for _ in range(2):  # the second time there is nothing to delete
            await store.delete_bus(BUS)
            await store.delete_rule(BUS, "r")
            await store.delete_archive(KEY)
            await store.delete_replay(ACCOUNT, REGION, "r")
        assert await store.load() == StoredBuses([], [Rule(DEFAULT, "r", pattern="{}")], [], [])

    run(test)


def test_archived_events_are_read_in_the_order_of_their_times(run: Run) -> None:
    async def test(store: EventBusStore) -> None:
        await store.put_archive(archive())
        await store.archive([event(30, "c"), event(10, "a"), event(20, "b1"), event(20, "b2")])
        assert await documents(store) == ["a", "b1", "b2", "c"]
        assert await documents(store, from_ms=20, until_ms=30) == ["b1", "b2"]
        first = await store.archived("id-a", after=None, from_ms=0, until_ms=END_MS, limit=2)
        assert [each.document for each in first] == ["a", "b1"]
        assert await documents(store, after=first[-1].place) == ["b2", "c"]
        assert await documents(store, after=first[-1].place, until_ms=30) == ["b2"]

    run(test)


def test_the_figures_of_an_archive_are_those_of_its_events(run: Run) -> None:
    async def test(store: EventBusStore) -> None:
        await store.put_archive(archive())
        await store.put_archive(archive("b", "id-b"))
        assert await store.archive_size("id-a") == ArchiveSize(0, 0)
        await store.archive([event(1, "ä"), event(2, "abc"), event(3, "x", "id-b")])
        await store.put_archive(replace(archive(), description="new"))
        assert await store.archive_size("id-a") == ArchiveSize(2, 5)
        assert await store.archive_size("id-b") == ArchiveSize(1, 1)
        assert await store.archive_size("none") == ArchiveSize(0, 0)

    run(test)


def test_events_expire_by_the_time_of_their_storing(run: Run) -> None:
    async def test(store: EventBusStore) -> None:
        await store.put_archive(archive())
        await store.put_archive(archive("b", "id-b"))
        await store.archive([event(n, "x", stored_ms=100) for n in range(BATCH + 1)])
        await store.archive([event(1, "kept", stored_ms=200), event(1, "other", "id-b", stored_ms=100)])
        assert await store.expire("id-a", 100) == 0
        assert await store.expire("id-a", 200) == BATCH + 1
        assert await documents(store) == ["kept"]
        assert await store.archive_size("id-a") == ArchiveSize(1, 4)
        assert await documents(store, "id-b") == ["other"]

    run(test)


def test_the_events_of_a_deleted_archive_are_collected(run: Run) -> None:
    async def test(store: EventBusStore) -> None:
        for name in ("a", "b", "c"):
            await store.put_archive(archive(name, f"id-{name}"))
            await store.archive([event(1, name, f"id-{name}") for _ in range(3)])
        assert await store.collect() == 0
        for name in ("a", "c"):
            await store.delete_archive(ArchiveKey(ACCOUNT, REGION, name))
            assert await documents(store, f"id-{name}") == []
        await store.archive([event(1, "late")])
        await store.put_archive(archive("a", "id-new"))
        assert await documents(store, "id-new") == []
        assert await store.collect() == 6
        assert await store.collect() == 0
        assert await documents(store, "id-b") == ["b"] * 3

    run(test)


def test_a_closed_store_says_so(run: Run) -> None:
    async def test(store: EventBusStore) -> None:
        await store.close()
        for call in (
            store.load(),
            store.put_bus(bus()),
            store.put_rule(Rule(BUS, "r")),
            store.put_archive(archive()),
            store.put_replay(replay()),
            store.delete_bus(BUS),
            store.delete_rule(BUS, "r"),
            store.delete_archive(KEY),
            store.delete_replay(ACCOUNT, REGION, "r"),
            store.archive([event(1)]),
            store.archived("id-a", after=None, from_ms=0, until_ms=1, limit=1),
            store.archive_size("id-a"),
            store.expire("id-a", 1),
            store.collect(),
        ):
            with pytest.raises(StoreUnavailable):
                await call

    run(test)


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "eventbridge.db"
        store = SqliteEventBusStore(path)
        await store.put_bus(bus())
        await store.put_rule(Rule(BUS, "r", pattern="{}", targets=(target(),)))
        await store.put_archive(archive())
        await store.archive([event(1, "kept")])
        await store.close()
        store = SqliteEventBusStore(path)
        loaded = await store.load()
        assert (loaded.buses, loaded.archives) == ([bus()], [archive()])
        assert loaded.rules == [Rule(BUS, "r", pattern="{}", targets=(target(),))]
        assert await documents(store) == ["kept"]
        assert await store.archive_size("id-a") == ArchiveSize(1, 4)
        await store.close()

    asyncio.run(test())

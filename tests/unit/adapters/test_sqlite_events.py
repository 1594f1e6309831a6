"""What only the SQLite event store has: indexes, a lane of any length, a disk that fails, and a second life."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lambdad.adapters import sqlite_events, sqlite_units
from lambdad.adapters.sqlite_events import SqliteEventStore
from lambdad.adapters.sqlite_schema import NewerSchema
from lambdad.domain.events import Condition, Ending, Event
from lambdad.ports.events import Changes, Selection
from lambdad.ports.store import StoreUnavailable

LONG, SHORT, NEW = "long", "short", "new"
ALL = Selection()
NOW_MS = 1_700_000_000_000
EVERYTHING = 1 << 30
DEADLINE_S = 60

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, DEADLINE_S))


def event_of(request: object = "r", lane: str = SHORT, payload: bytes = b"{}", **fields: Any) -> Event:
    return Event(0, lane, str(request), payload, NOW_MS, **{"due_ms": NOW_MS, **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections that were opened; the first is the writer's."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def kept(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite_units.sqlite3, "connect", kept)
    return opened


@pytest.fixture
def store(connections: list[sqlite3.Connection], path: Path) -> Iterator[SqliteEventStore]:
    store = SqliteEventStore(path)
    yield store
    run(store.close())


async def leased(store: SqliteEventStore, *events: Event) -> list[Event]:
    ids = await store.apply(Changes(leased=list(events)))
    return [replace(event, id=number) for event, number in zip(events, ids, strict=True)]


async def died(store: SqliteEventStore, *events: Event) -> None:
    taken = await leased(store, *events)
    await store.apply(Changes(endings=[Ending(event, Condition.RETRIES_EXHAUSTED, NOW_MS) for event in taken]))


async def everything(store: SqliteEventStore, lane: str) -> None:
    """Each thing that a store can do, with few events of one lane."""
    await store.apply(Changes(accepted=[event_of("waits", lane), event_of("throttled", lane, backoffs=1)]))
    first, second = await leased(store, event_of("a", lane), event_of("b", lane))
    await store.apply(Changes(postponed=[first], endings=[Ending(second, Condition.SUCCESS, NOW_MS, (event_of(),))]))
    await died(store, event_of("c", lane), event_of("d", lane))
    await store.hasten(lane, NOW_MS - 1)
    await store.lease(lane, NOW_MS, 2, EVERYTHING)
    await store.lease_older(lane, NOW_MS + 1, 1, EVERYTHING)
    await store.rows(Selection(lane), dead=False, limit=5)
    await store.rows(Selection(lane), dead=True, limit=5)
    await store.rows(Selection(lane, (1, 2)), dead=False, limit=5)
    await store.purge(Selection(lane), NOW_MS, dead=True, limit=1)
    await store.redrive(Selection(lane), NOW_MS)
    await store.purge(Selection(lane), NOW_MS, dead=False, limit=1)
    await store.purge(Selection(lane, (1, 2)), NOW_MS, dead=False, limit=1)
    await store.lanes()
    await store.forget_endings(1)
    await store.recover()


# A lane of any length


def test_every_statement_finds_its_events_by_an_index(store: SqliteEventStore, connections: list[sqlite3.Connection]):
    seen: list[str] = []
    for connection in connections:
        connection.set_trace_callback(seen.append)
    run(everything(store, SHORT))
    run(store.summaries())
    statements = {sql for sql in seen if re.match(r"SELECT|UPDATE|DELETE|INSERT", sql)}
    assert len(statements) > 50
    for sql in statements:
        plan = [step for *_, step in connections[0].execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()]
        if "USE TEMP B-TREE FOR ORDER BY" in plan:
            assert "leased = 1" in sql or "json_each" in sql, f"{sql}: more is sorted than is leased or asked for"
        for step in plan:
            walked = re.match(r"SCAN (events|endings|payloads)\b", step)
            of_bounded_length = step.endswith(("INDEX events_leased", "COVERING INDEX endings_by_age"))
            assert walked is None or of_bounded_length, f"{sql}: {step}"


def steps_taken(connections: list[sqlite3.Connection], work: Callable[[], Coroutine[Any, Any, object]]) -> int:
    """How many steps of SQLite's machine some work takes: its cost, whatever else the processor does."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    for connection in connections:
        connection.set_progress_handler(count, 1)
    run(work())
    for connection in connections:
        connection.set_progress_handler(None, 1)
    return taken


def test_a_long_lane_makes_nothing_dearer(store: SqliteEventStore, connections: list[sqlite3.Connection]):
    def costs(lane: str) -> int:
        return steps_taken(connections, lambda: everything(store, lane))

    async def fill() -> None:
        for _ in range(50):
            events = [event_of(number, LONG) for number in range(1000)]
            await store.apply(Changes(accepted=events, leased=[event_of("leased", LONG)]))

    run(everything(store, SHORT))
    before = costs(SHORT)
    run(fill())
    assert run(store.recover()) == 50
    assert costs(SHORT) < 1.2 * before
    assert costs(LONG) < 1.2 * before
    assert run(store.summaries())[0].waiting > 50_000 - 10


def test_a_lease_reads_no_more_payload_than_it_takes(store: SqliteEventStore, connections: list[sqlite3.Connection]):
    async def scenario() -> None:
        await store.apply(Changes(accepted=[event_of(number, payload=b"x" * 10_000) for number in range(1000)]))

    def lease(max_bytes: int) -> Callable[[], Coroutine[Any, Any, object]]:
        return lambda: store.lease(SHORT, NOW_MS, 1000, max_bytes)

    run(scenario())
    few = steps_taken(connections, lease(30_000))
    assert steps_taken(connections, lease(300_000)) > 5 * few


def test_lanes_that_nothing_refers_to_are_removed_at_a_start(store: SqliteEventStore, path: Path):
    async def scenario() -> None:
        await store.apply(Changes(accepted=[event_of(1, "waits")], leased=[event_of(2, "leased")]))
        await died(store, event_of(3, "ended"))
        (gone,) = await leased(store, event_of(4, "gone"))
        await store.apply(Changes(endings=[Ending(gone, Condition.SUCCESS, NOW_MS - 1)]))
        await store.forget_endings(0)
        await died(store, event_of(5, "ended"))
        await store.recover()
        with closing(sqlite3.connect(path)) as other:
            names = {name for (name,) in other.execute("SELECT name FROM lanes")}
        assert names == {"waits", "leased", "ended"}
        await store.apply(Changes(accepted=[event_of(6, "gone"), event_of(7, "leased")]))
        assert [event.request_id for event in (await store.lease("gone", NOW_MS, 9, EVERYTHING)).events] == ["6"]

    run(scenario())


def test_payloads_are_kept_for_what_waits_and_what_is_dead_only(store: SqliteEventStore, path: Path):
    def payloads() -> list[bytes]:
        with closing(sqlite3.connect(path)) as other:
            return [payload for (payload,) in other.execute("SELECT payload FROM payloads ORDER BY payload")]

    async def scenario() -> None:
        names = ["dead1", "dead2", "done", "purged", "waits"]
        dead1, dead2, done, purged, _ = await leased(store, *(event_of(payload=name.encode()) for name in names))
        endings = [
            Ending(dead1, Condition.RETRIES_EXHAUSTED, NOW_MS),
            Ending(dead2, Condition.RETRIES_EXHAUSTED, NOW_MS + 1),
            Ending(done, Condition.SUCCESS, NOW_MS),
            Ending(purged, Condition.PURGED, NOW_MS),
        ]
        await store.apply(Changes(endings=endings))
        assert payloads() == [b"dead1", b"dead2", b"waits"]
        await store.redrive(Selection(ids=(dead1.id,)), NOW_MS)
        assert payloads() == [b"dead1", b"dead2", b"waits"]
        await store.purge(ALL, NOW_MS, dead=False, limit=9)
        assert payloads() == [b"dead2", b"waits"]
        await store.forget_endings(1)  # what was purged with it ended before
        assert payloads() == [b"dead2", b"waits"]
        await store.forget_endings(0)
        assert payloads() == [b"waits"]

    run(scenario())


def test_a_message_that_cannot_be_encoded_does_no_harm(store: SqliteEventStore):
    async def scenario() -> None:
        bad = event_of("bad", error_message="half a pair: \ud83d, é")
        one, two = await leased(store, bad, event_of("good"))
        await store.apply(Changes(postponed=[replace(one, error_message="\udc00")]))
        await store.apply(Changes(endings=[Ending(replace(two, error_message="\ud83d"), Condition.REFUSED, NOW_MS)]))
        await store.apply(Changes(accepted=[bad]))
        assert [row.error_message for row in await store.rows(ALL, dead=False, limit=9)] == ["?", "half a pair: ?, é"]
        assert [row.error_message for row in await store.rows(ALL, dead=True, limit=9)] == ["?"]

    run(scenario())


# Failure


def test_changes_that_fail_leave_nothing(store: SqliteEventStore, connections: list[sqlite3.Connection]):
    """The lane that was new to them among it: it is made again when it is needed."""

    async def scenario() -> None:
        runs, back = await leased(store, event_of("runs"), event_of("back"))
        await store.apply(Changes(accepted=[event_of("waits")]))
        before = await store.rows(ALL, dead=False, limit=9), await store.summaries()
        big = event_of("big", NEW, payload=b"x" * 200_000)
        changes = Changes(
            accepted=[event_of("new", NEW)],
            leased=[event_of("direct", NEW)],
            postponed=[replace(back, invocations=1)],
            endings=[Ending(runs, Condition.RETRIES_EXHAUSTED, NOW_MS, (event_of("follow-up", NEW), big))],
        )
        writer = connections[0]
        ((pages,),) = writer.execute("PRAGMA page_count").fetchall()
        writer.execute(f"PRAGMA max_page_count = {pages + 10}").fetchall()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="full"):
                await store.apply(changes)
            assert (await store.rows(ALL, dead=False, limit=9), await store.summaries()) == before
            assert list(await store.rows(ALL, dead=True, limit=9)) == []

        writer.execute("PRAGMA max_page_count = 1000000").fetchall()
        assert len(await store.apply(changes)) == 2
        assert [state.lane for state in await store.lanes()] == [SHORT, NEW]
        names = [event.request_id for event in (await store.lease(NEW, NOW_MS, 9, EVERYTHING)).events]
        assert names == ["new", "follow-up", "big"]

    run(scenario())


def test_changes_that_fail_leave_those_beside_them_alone(store: SqliteEventStore):
    async def scenario() -> None:
        unfit: Any = event_of("unfit", NEW, payload=object())  # type: ignore[arg-type]
        answers = await asyncio.gather(
            store.apply(Changes(accepted=[event_of("first", NEW)])),
            store.apply(Changes(accepted=[event_of("with the unfit", NEW), unfit])),
            store.apply(Changes(accepted=[event_of("last", NEW)])),
            return_exceptions=True,
        )
        assert isinstance(answers[1], StoreUnavailable)
        names = [event.request_id for event in (await store.lease(NEW, NOW_MS, 9, EVERYTHING)).events]
        assert names == ["first", "last"]

    run(scenario())


def test_a_file_of_a_newer_schema_is_refused(path: Path):
    run(SqliteEventStore(path).close())
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerSchema, match="events"):
        SqliteEventStore(path)


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_what_is_done_in_steps_is_done_whole(store: SqliteEventStore, monkeypatch: pytest.MonkeyPatch, batch: int):
    """Also while what was redriven fails again between the steps: that is not redriven another time."""
    monkeypatch.setattr(sqlite_events, "BATCH", batch)

    async def scenario() -> None:
        await died(store, *(event_of(number) for number in range(7)))
        finished = asyncio.Event()

        async def fail_again() -> int:
            failed = 0
            while failed < 7:
                found = (await store.lease(SHORT, NOW_MS, 9, EVERYTHING)).events
                endings = [Ending(event, Condition.RETRIES_EXHAUSTED, NOW_MS) for event in found]
                await store.apply(Changes(endings=endings))
                failed += len(found)
            finished.set()
            return failed

        failing = asyncio.create_task(fail_again())
        assert len(await store.redrive(ALL, NOW_MS)) == 7
        assert await failing == 7
        assert len(await store.rows(ALL, dead=True, limit=100)) == 7
        assert await store.forget_endings(4) == 10

        await store.apply(Changes(accepted=[event_of(due_ms=NOW_MS + 9, backoffs=1) for _ in range(7)]))
        await store.hasten(SHORT, NOW_MS)
        assert {row.due_ms for row in await store.rows(ALL, dead=False, limit=100)} == {NOW_MS}

    run(scenario())


# Death

WRITER = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from lambdad.adapters.sqlite_events import SqliteEventStore
from lambdad.domain.events import Condition, Ending, Event
from lambdad.ports.events import Changes

async def client(store, prefix):
    number = 0
    while True:
        event = Event(0, "work", f"{prefix}-{number}", b"x" * 3000, 0, 0)
        (event_id,) = await store.apply(Changes(leased=[event]))
        print("accepted", event.request_id, flush=True)
        if number % 3:
            follow_up = Event(0, "told", event.request_id, b"y" * 3000, 0, 0)
            condition = Condition.SUCCESS if number % 2 else Condition.RETRIES_EXHAUSTED
            await store.apply(Changes(endings=[Ending(replace(event, id=event_id), condition, 0, (follow_up,))]))
            print("ended", event.request_id, flush=True)
        number += 1

async def main():
    store = SqliteEventStore(Path(sys.argv[1]))
    await store.recover()
    await asyncio.gather(*(client(store, f"{sys.argv[2]}-{client_number}") for client_number in range(8)))

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_9_and_each_event_is_in_one_place(path: Path):
    """An event that was accepted waits, or has ended once with its follow-up beside it; never both, never neither."""
    environment = {**os.environ, "PYTHONPATH": str(Path(sqlite_events.__file__).parents[2])}
    said: dict[str, set[str]] = {"accepted": set(), "ended": set()}
    for life in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path, str(life)], stdout=subprocess.PIPE, text=True, env=environment
        ) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(400)]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
        assert writer.returncode == -signal.SIGKILL
        for line in lines:
            if line.endswith("\n"):
                what, request = line.split()
                said[what].add(request)

    store = SqliteEventStore(path)
    run(store.recover())
    run(store.close())
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)

        def names(sql: str) -> list[str]:
            return [name for (name,) in other.execute(sql)]

        waiting = names("SELECT request_id FROM events JOIN lanes ON lane = lanes.id WHERE name = 'work'")
        told = names("SELECT request_id FROM events JOIN lanes ON lane = lanes.id WHERE name = 'told'")
        ended = names("SELECT request_id FROM endings")
        lost = names(
            "SELECT request_id FROM (SELECT id, request_id FROM events UNION ALL"
            " SELECT id, request_id FROM endings WHERE dead = 1) LEFT JOIN payloads USING (id) WHERE payload IS NULL"
        )
    assert said["ended"] <= set(ended)
    assert said["accepted"] <= {*waiting, *ended}
    assert len(waiting) + len(ended) == len({*waiting, *ended})
    assert sorted(told) == sorted(ended)
    assert lost == []

"""What only the SQLite store has: a file, threads, group commit, and a disk that can fail."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from lambdad.adapters import sqlite_store, sqlite_units
from lambdad.adapters.records import UnreadableRecord
from lambdad.adapters.sqlite_schema import NewerSchema
from lambdad.adapters.sqlite_store import MIGRATIONS, SqliteStore
from lambdad.domain.arns import LATEST, FunctionKey
from lambdad.domain.functions import EVENT_INVOKE_CONFIGS, Alias, Function, FunctionVersion, LoggingConfig
from lambdad.domain.resource_policies import RESOURCE_POLICIES
from lambdad.ports.store import StoreUnavailable, Tables

ACCOUNT, REGION = "000000000000", "us-east-1"
DEADLINE_S = 30

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, DEADLINE_S))


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database as another program sees it; what is changed is committed."""
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def key_of(name: object) -> FunctionKey:
    return FunctionKey(ACCOUNT, REGION, str(name))


def put(name: object, tags: dict[str, str] | None = None) -> Callable[[Tables], None]:
    """A unit of work that puts a function of this name."""
    return lambda tables: tables.put_function(Function(key_of(name), tags=tags or {}))


def names_in(tables: Tables) -> list[str]:
    return [function.key.name for function in tables.functions(ACCOUNT, REGION)]


@dataclass
class Connections:
    """The connections that stores of a test have opened, and the SQL that ran on them; the first is the writer's."""

    opened: list[sqlite3.Connection] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    def count(self, statement: str) -> int:
        return self.statements.count(statement)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    seen = Connections()
    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(seen.statements.append)
        seen.opened.append(connection)
        return connection

    monkeypatch.setattr(sqlite_units.sqlite3, "connect", traced)
    return seen


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lambdad.db"


@pytest.fixture
def store(connections: Connections, path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    run(store.close())


class Gate:
    """A unit of work that holds its thread until the gate is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, tables: Tables) -> None:
        self.reached.set()
        assert self.opened.wait(DEADLINE_S)

    async def wait_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, DEADLINE_S)


async def grouped(store: SqliteStore, *units: Callable[[Tables], Any]) -> list[Any]:
    """What units of work answer that reach the store together, and so are committed as one group."""
    gate = Gate()
    holding = asyncio.create_task(store.write(gate))
    await gate.wait_reached()
    writes = [asyncio.create_task(store.write(unit)) for unit in units]
    await asyncio.sleep(0)
    gate.opened.set()
    await holding
    return await asyncio.gather(*writes, return_exceptions=True)


# The file


def test_the_files_are_for_their_owner_only(path: Path):
    async def scenario() -> None:
        path.touch(0o644)
        store = SqliteStore(path)
        await store.write(put("a"))
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == ["lambdad.db", "lambdad.db-shm", "lambdad.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        await store.close()

    umask = os.umask(0)
    try:
        run(scenario())
    finally:
        os.umask(umask)


def test_commits_are_flushed_to_a_write_ahead_log(store: SqliteStore, connections: Connections):
    assert len(connections.opened) == 3
    for connection in connections.opened:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA fullfsync").fetchone() == (1,)


def test_every_query_finds_its_rows_by_an_index(store: SqliteStore, connections: Connections):
    """Neither a walk through a whole table nor a sort; a walk through an index that has all the answer is allowed."""

    def work(tables: Tables) -> None:
        key = key_of("a")
        tables.function(key)
        tables.functions(ACCOUNT, REGION)
        tables.version(key, LATEST)
        tables.versions(key, -1, 10)
        tables.latest_versions(ACCOUNT, REGION, "", 10)
        tables.all_versions(ACCOUNT, REGION, ("a", 3), 10)
        tables.alias(key, "live")
        tables.aliases(key, "", 10)
        tables.record(EVENT_INVOKE_CONFIGS, *key.parts, LATEST)
        tables.records(EVENT_INVOKE_CONFIGS, *key.parts, after="", limit=10)
        tables.record(RESOURCE_POLICIES, *key.parts, "")
        tables.code_in_use()
        tables.code_is_used("a" * 64)
        tables.code_bytes(ACCOUNT, REGION)
        tables.function_count(ACCOUNT, REGION)
        tables.delete_version(key, "1")
        tables.delete_alias(key, "live")
        tables.delete_function(key)

    run(store.write(work))
    statements = {sql for sql in connections.statements if sql.startswith(("SELECT record", "SELECT ", "DELETE"))}
    assert len(statements) == 30
    for sql in statements:
        for *_, step in connections.opened[0].execute(f"EXPLAIN QUERY PLAN {sql}").fetchall():
            assert step.startswith("SEARCH") or "COVERING INDEX" in step, f"{sql}: {step}"


def test_close_finishes_what_was_accepted_and_folds_the_log_into_the_file(path: Path):
    async def scenario() -> None:
        store = SqliteStore(path)
        gate = Gate()
        holding = asyncio.create_task(store.write(gate))
        await gate.wait_reached()
        writes = [asyncio.create_task(store.write(put(number))) for number in range(5)]
        reads = [asyncio.create_task(store.read(names_in)) for _ in range(5)]
        await asyncio.sleep(0)
        closing = [asyncio.create_task(store.close()) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.write(put("late"))
        gate.opened.set()
        await asyncio.gather(holding, *writes, *reads, *closing)
        await store.close()
        assert [file.name for file in path.parent.iterdir()] == ["lambdad.db"]
        reopened = SqliteStore(path)
        assert await reopened.read(names_in) == [str(number) for number in range(5)]
        await reopened.close()

    run(scenario())


def test_close_folds_the_log_even_while_another_process_looks_at_the_database(path: Path):
    store = SqliteStore(path)
    run(store.write(put("a")))
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM functions").fetchall() == [("a",)]
    assert Path(f"{path}-wal").stat().st_size > 0
    run(store.close())
    assert Path(f"{path}-wal").stat().st_size == 0
    other.close()


def test_close_waits_for_the_reads_that_were_accepted(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite_units, "BUSY_TIMEOUT_S", 0.0)

    async def scenario() -> None:
        store = SqliteStore(path)
        gate = Gate()
        reading = asyncio.create_task(store.read(gate))
        await gate.wait_reached()
        closing = asyncio.create_task(store.close())
        done, _ = await asyncio.wait([closing], timeout=0.1)  # that something does not happen can only be timed
        assert not done
        gate.opened.set()
        await closing
        await reading

    run(scenario())


@pytest.mark.parametrize("content", ["a directory", "no database", "no folder"])
def test_what_is_no_database_is_refused(path: Path, content: str):
    match content:
        case "a directory":
            path.mkdir()
        case "no database":
            path.write_text("something else " * 100)
        case "no folder":
            path = path.parent / "absent" / "lambdad.db"
    with pytest.raises(StoreUnavailable, match=r"cannot open the database .*lambdad\.db"):
        SqliteStore(path)


# The schema


def test_a_database_of_an_older_schema_is_brought_up(path: Path, monkeypatch: pytest.MonkeyPatch):
    older = SqliteStore(path)
    run(older.write(put("a")))
    run(older.close())

    step = "ALTER TABLE functions ADD COLUMN colour TEXT DEFAULT 'red'; CREATE INDEX colours ON functions (colour)"
    monkeypatch.setattr(sqlite_store, "MIGRATIONS", (*MIGRATIONS, step))
    newer = SqliteStore(path)
    run(newer.write(put("b")))
    assert run(newer.read(names_in)) == ["a", "b"]
    run(newer.close())
    with opened(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        assert connection.execute("SELECT name, colour FROM functions").fetchall() == [("a", "red"), ("b", "red")]


def test_a_migration_that_fails_leaves_the_database_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch):
    store = SqliteStore(path)
    run(store.write(put("a")))
    run(store.close())
    monkeypatch.setattr(
        sqlite_store, "MIGRATIONS", (*MIGRATIONS, "DELETE FROM functions; INSERT INTO absent VALUES (1)")
    )
    with pytest.raises(StoreUnavailable, match="absent"):
        SqliteStore(path)
    monkeypatch.undo()
    store = SqliteStore(path)
    assert run(store.read(names_in)) == ["a"]
    run(store.close())


def test_a_database_of_a_newer_schema_is_refused_and_left_alone(path: Path):
    store = SqliteStore(path)
    run(store.write(put("a")))
    run(store.close())
    with opened(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(NewerSchema, match="99"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_record_that_lacks_newer_fields_and_has_removed_ones_loads(store: SqliteStore, path: Path):
    version = FunctionVersion(
        key_of("a"), LATEST, "role", "python3.12", "app.handler", "a" * 64, 1, LoggingConfig("/aws/lambda/a"), "r", "t"
    )
    run(store.write(lambda tables: tables.put_version(version)))
    with opened(path) as connection:
        connection.execute(
            "UPDATE versions SET record = json_set(json_remove(record, '$.environment', '$.memory_mb',"
            " '$.logging.log_format'), '$.removed', 1)"
        )
    assert run(store.read(lambda tables: tables.version(key_of("a"), LATEST))) == version


def test_a_damaged_record_is_told_of_and_leaves_the_store_working(store: SqliteStore, path: Path):
    run(store.write(put("a")))
    with opened(path) as connection:
        connection.execute("UPDATE functions SET record = '{\"tags\":[]}'")
    with pytest.raises(UnreadableRecord, match=r"Function\.tags"):
        run(store.read(names_in))
    run(store.write(put("a")))
    assert run(store.read(names_in)) == ["a"]


# Groups


def test_writes_that_wait_together_share_one_commit(store: SqliteStore, connections: Connections):
    async def scenario() -> None:
        before = connections.count("COMMIT")
        assert await grouped(store, *(put(number) for number in range(300))) == [None] * 300
        assert connections.count("COMMIT") - before == 2  # the one that held the writer, and all the others
        assert len(await store.read(names_in)) == 300

    run(scenario())


def test_a_group_is_bounded(store: SqliteStore, connections: Connections, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite_units, "GROUP_UNITS_MAX", 10)

    async def scenario() -> None:
        before = connections.count("COMMIT")
        assert await grouped(store, *(put(number) for number in range(25))) == [None] * 25
        assert connections.count("COMMIT") - before == 4

    run(scenario())


def test_a_unit_that_fails_is_undone_alone_within_its_group(store: SqliteStore, connections: Connections):
    def refused(tables: Tables) -> None:
        put("refused")(tables)
        tables.delete_function(key_of("first"))
        assert names_in(tables) == ["refused"]
        raise LookupError("changed my mind")

    async def scenario() -> None:
        before = connections.count("COMMIT")
        answers = await grouped(store, put("first"), refused, put("last"))
        assert connections.count("COMMIT") - before == 2
        assert answers[0] is None
        assert isinstance(answers[1], LookupError)
        assert answers[2] is None
        assert await store.read(names_in) == ["first", "last"]

    run(scenario())


# Reads beside writes


def test_a_read_does_not_wait_for_a_write_nor_see_it_before_its_commit(store: SqliteStore):
    async def scenario() -> None:
        gate = Gate()

        def work(tables: Tables) -> None:
            put("new")(tables)
            gate(tables)

        writing = asyncio.create_task(store.write(work))
        await gate.wait_reached()
        assert await store.read(names_in) == []
        gate.opened.set()
        await writing
        assert await store.read(names_in) == ["new"]

    run(scenario())


def test_a_read_keeps_its_view_while_others_write(store: SqliteStore):
    async def scenario() -> None:
        gate = Gate()

        def work(tables: Tables) -> tuple[list[str], list[str]]:
            before = names_in(tables)
            gate(tables)
            return before, names_in(tables)

        await store.write(put("old"))
        reading = asyncio.create_task(store.read(work))
        await gate.wait_reached()
        await store.write(put("new"))
        assert await store.read(names_in) == ["new", "old"]
        gate.opened.set()
        assert await reading == (["old"], ["old"])

    run(scenario())


def test_nobody_writes_between_the_reads_and_the_writes_of_a_unit(store: SqliteStore, path: Path):
    """Not even another process, such as somebody's database browser."""

    async def scenario() -> None:
        gate = Gate()

        def work(tables: Tables) -> None:
            assert names_in(tables) == []
            gate(tables)
            put("a")(tables)

        writing = asyncio.create_task(store.write(work))
        await gate.wait_reached()
        other = sqlite3.connect(path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("DELETE FROM functions")
        other.close()
        gate.opened.set()
        await writing
        assert await store.read(names_in) == ["a"]

    run(scenario())


# The log


def put_other(number: int) -> Callable[[Tables], None]:
    """A unit of work that replaces a record by one that is large, and different everywhere."""
    return put(number % 5, {"filler": f"{number:05}" * 12_000})


def looking(gate: Gate) -> Callable[[Tables], None]:
    """A unit of work that reads, and then holds what it has read as it was."""

    def work(tables: Tables) -> None:
        names_in(tables)
        gate(tables)

    return work


def test_the_log_stays_small_though_there_is_a_reader_at_every_moment(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite_units, "LOG_BYTES", 1_000_000)
    log = Path(f"{path}-wal")

    async def scenario() -> None:
        store = SqliteStore(path)
        gate = Gate()
        reading = asyncio.create_task(store.read(looking(gate)))

        async def relieve() -> None:
            """Have another reader begin before the present one ends."""
            nonlocal gate, reading
            ending, ended = gate, reading
            gate = Gate()
            reading = asyncio.create_task(store.read(looking(gate)))
            await gate.wait_reached()
            ending.opened.set()
            await ended

        await gate.wait_reached()
        sizes = []
        for number in range(100):
            writing = asyncio.create_task(store.write(put_other(number)))
            while not (await asyncio.wait([writing], timeout=0.02))[0]:  # the writer waits for those that read
                await relieve()
            await writing
            sizes.append(log.stat().st_size)
            await relieve()
        gate.opened.set()
        await reading
        assert 1_000_000 < max(sizes) < 2_000_000
        await store.close()

    run(scenario())


def test_a_reader_that_stays_stops_nobody(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite_units, "LOG_BYTES", 1_000_000)
    monkeypatch.setattr(sqlite_units, "LOG_WAIT_S", 0.001)
    log = Path(f"{path}-wal")

    async def scenario() -> None:
        store = SqliteStore(path)
        gate = Gate()
        reading = asyncio.create_task(store.read(looking(gate)))
        await gate.wait_reached()
        for number in range(100):
            await store.write(put_other(number))
        assert log.stat().st_size > 5_000_000
        gate.opened.set()
        await reading
        for number in range(20):
            await store.write(put_other(number))
        assert log.stat().st_size < 2_000_000
        await store.close()

    run(scenario())


# Callers


def test_a_cancelled_caller_does_not_stop_what_was_accepted(store: SqliteStore):
    async def scenario() -> None:
        gate = Gate()
        holding = asyncio.create_task(store.write(gate))
        await gate.wait_reached()
        write = asyncio.create_task(store.write(put("accepted")))
        await asyncio.sleep(0)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        gate.opened.set()
        await holding
        await store.write(put("next"))
        assert await store.read(names_in) == ["accepted", "next"]

    run(scenario())


@pytest.mark.parametrize("operation", ["write", "read"])
def test_an_event_loop_that_was_closed_meanwhile_does_no_harm(store: SqliteStore, operation: str):
    gate = Gate()
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(getattr(store, operation)(gate))
    loop.run_until_complete(gate.wait_reached())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiting)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    gate.opened.set()

    async def scenario() -> None:
        await store.write(put("after"))
        for _ in range(4):  # more than there are readers
            assert await store.read(names_in) == ["after"]

    run(scenario())


def test_several_event_loops_share_a_store(store: SqliteStore):
    async def client(number: int) -> None:
        await asyncio.gather(*(store.write(put(f"{number}-{count}")) for count in range(50)))
        assert len([name for name in await store.read(names_in) if name.startswith(f"{number}-")]) == 50

    failures: list[BaseException] = []

    def run_client(number: int) -> None:
        try:
            run(client(number))
        except BaseException as error:  # noqa: BLE001 - a thread would swallow it
            failures.append(error)

    threads = [threading.Thread(target=run_client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(run(store.read(names_in))) == 200


# A disk that fails

BIG = {"filler": "x" * 60_000}


def test_a_unit_for_which_there_is_no_room_fails_and_the_rest_is_told_the_truth(
    store: SqliteStore, connections: Connections
):
    """Whether those beside it in the group go down with it is SQLite's choice; what each is told must be so."""

    async def scenario() -> None:
        writer = connections.opened[0]
        await store.write(put("before"))
        ((pages,),) = writer.execute("PRAGMA page_count").fetchall()
        writer.execute(f"PRAGMA max_page_count = {pages + 5}").fetchall()
        small, big, also_small = await grouped(store, put("small"), put("big", BIG), put("also-small"))
        assert isinstance(big, StoreUnavailable)
        assert "full" in str(big)
        kept = [name for name, answer in (("also-small", also_small), ("small", small)) if answer is None]
        assert all(answer is None or isinstance(answer, StoreUnavailable) for answer in (small, also_small))
        assert await store.read(names_in) == sorted([*kept, "before"])

        writer.execute("PRAGMA max_page_count = 1000000").fetchall()
        assert await grouped(store, put("small"), put("big", BIG), put("also-small")) == [None] * 3
        assert await store.read(names_in) == ["also-small", "before", "big", "small"]

    run(scenario())


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond the limit: the write fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_commit_that_the_disk_refuses_fails_every_unit_of_its_group(store: SqliteStore, path: Path):
    async def scenario() -> None:
        await store.write(put("before"))
        log_bytes = Path(f"{path}-wal").stat().st_size
        for _ in range(3):
            with file_size_limit(log_bytes):
                answers = await grouped(store, put("one"), put("two"), put("three", BIG))
                assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
                assert len({id(answer) for answer in answers}) == 3
                assert await store.read(names_in) == ["before"]
        await store.write(put("after"))
        assert await store.read(names_in) == ["after", "before"]

    run(scenario())


def test_a_group_whose_transaction_is_lost_fails_as_a_whole(store: SqliteStore, connections: Connections):
    """SQLite rolls back by itself after some errors; what ran before in the group is then gone, and said to be."""

    def loses_the_transaction(tables: Tables) -> None:
        connections.opened[0].execute("ROLLBACK")
        raise StoreUnavailable("the database failed: disk I/O error")

    def hides_that_it_lost_the_transaction(tables: Tables) -> None:
        connections.opened[0].execute("ROLLBACK")

    async def scenario() -> None:
        await store.write(put("before"))
        for work in (loses_the_transaction, hides_that_it_lost_the_transaction):
            answers = await grouped(store, put("one"), work, put("two"))
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
            assert await store.read(names_in) == ["before"]
            if work is loses_the_transaction:
                assert {str(answer) for answer in answers} == {"the database failed: disk I/O error"}
        assert await grouped(store, put("one"), put("two")) == [None, None]
        assert await store.read(names_in) == ["before", "one", "two"]

    run(scenario())


def test_another_process_that_holds_the_database_too_long_is_told_of(
    path: Path, monkeypatch: pytest.MonkeyPatch, connections: Connections
):
    monkeypatch.setattr(sqlite_units, "BUSY_TIMEOUT_S", 0.01)

    async def scenario() -> None:
        store = SqliteStore(path)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.write(put("a"))
        assert await store.read(names_in) == []
        other.execute("ROLLBACK")
        other.close()
        await store.write(put("a"))
        assert await store.read(names_in) == ["a"]
        await store.close()

    run(scenario())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if shutil.which("mount") is None:
        pytest.skip("mount is needed for a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"mount (as root) is needed for a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_refuses_writes_serves_reads_and_recovers(small_disk: Path):
    async def scenario() -> None:
        store = SqliteStore(small_disk / "lambdad.db")
        acknowledged: set[str] = set()
        refused: list[StoreUnavailable] = []
        for number in range(100):
            try:
                await store.write(put(number, BIG))
                acknowledged.add(str(number))
            except StoreUnavailable as error:
                refused.append(error)
            if len(refused) == 3:
                break
        assert len(refused) == 3
        assert "full" in str(refused[0])
        assert acknowledged
        assert set(await store.read(names_in)) == acknowledged
        await store.close()

        subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
        store = SqliteStore(small_disk / "lambdad.db")
        assert set(await store.read(names_in)) == acknowledged
        await store.write(put("after", BIG))
        assert set(await store.read(names_in)) == {*acknowledged, "after"}
        await store.close()

    run(scenario())


def test_a_store_works_again_when_a_full_disk_has_room(small_disk: Path):
    async def scenario() -> None:
        store = SqliteStore(small_disk / "lambdad.db")
        await store.write(put("before"))
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"x" * 2_000_000)
        answers = await grouped(store, *(put(number, BIG) for number in range(3)))
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
        assert await store.read(names_in) == ["before"]
        filler.unlink()
        assert await grouped(store, *(put(number, BIG) for number in range(3))) == [None] * 3
        assert await store.read(names_in) == ["0", "1", "2", "before"]
        await store.close()

    run(scenario())


# Death

WRITER = """
import asyncio, sys
from pathlib import Path
from lambdad.adapters.sqlite_store import SqliteStore
from lambdad.domain.arns import FunctionKey
from lambdad.domain.resource_policies import RESOURCE_POLICIES
from lambdad.domain.functions import EVENT_INVOKE_CONFIGS, Alias, Function, FunctionVersion, LoggingConfig

def put_whole(name):
    key = FunctionKey("000000000000", "us-east-1", name)
    def work(tables):
        tables.put_function(Function(key, tags={"filler": "x" * 2000}))
        tables.put_version(FunctionVersion(key, "$LATEST", "role", "python3.12", "app.handler", "a" * 64, 1,
                                           LoggingConfig("/aws/lambda/f"), "r", "t"))
        tables.put_alias(Alias(key, "live", "1", "", "r"))
    return work

async def client(store, prefix):
    number = 0
    while True:
        name = f"{prefix}-{number}"
        await store.write(put_whole(name))
        print(name, flush=True)
        number += 1

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await asyncio.gather(*(client(store, f"{sys.argv[2]}-{client_number}") for client_number in range(8)))

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_9_and_nothing_is_half_there(path: Path):
    """One database lives through several writers, each killed at a random point; every one starts where it was left."""
    rng = random.Random()
    environment = {**os.environ, "PYTHONPATH": str(Path(sqlite_store.__file__).parents[2])}
    acknowledged: set[str] = set()
    for life in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path, str(life)], stdout=subprocess.PIPE, text=True, env=environment
        ) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randrange(1, 400)):
                acknowledged.add(writer.stdout.readline().strip())
            writer.send_signal(signal.SIGKILL)
            acknowledged |= {line.strip() for line in writer.stdout if line.endswith("\n")}
        assert writer.returncode == -signal.SIGKILL
        assert "" not in acknowledged

        store = SqliteStore(path)
        run(store.read(functools.partial(check_whole, acknowledged)))
        run(store.close())
    with opened(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def check_whole(acknowledged: set[str], tables: Tables) -> None:
    functions = {function.key for function in tables.functions(ACCOUNT, REGION)}
    versions = {version.key for version in tables.latest_versions(ACCOUNT, REGION, "", 1_000_000)}
    aliases: set[FunctionKey] = set()
    for key in functions:
        alias: Alias | None = tables.alias(key, "live")
        if alias is not None:
            aliases.add(alias.key)
    assert acknowledged <= {key.name for key in functions}
    assert functions == versions == aliases

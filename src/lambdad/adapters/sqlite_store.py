"""The store in one SQLite file, with a thread that writes and threads that read.

Writes that arrive while others are being committed share the next commit, so that many callers pay for one flush of the
disk. See docs/adr/0002-store.md.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lambdad.adapters.records import decode, encode, version_number
from lambdad.adapters.sqlite_schema import migrate
from lambdad.domain.arns import LATEST, FunctionKey
from lambdad.domain.functions import Alias, Function, FunctionVersion
from lambdad.ports.store import StoreUnavailable, Tables

T = TypeVar("T")

GROUP_UNITS_MAX = 512
"""How many units of work one commit takes; a bound on how long the first of them waits for the last."""

BUSY_TIMEOUT_S = 5.0
"""How long to wait for another process that holds the database, such as a backup."""


def _migrations() -> tuple[str, ...]:
    folder = importlib.resources.files("lambdad.adapters") / "migrations" / "store"
    scripts = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return tuple(script.read_text("utf-8") for script in scripts)


MIGRATIONS = _migrations()


class SqliteTables:
    """The records as SQL. A statement that the database cannot carry out raises StoreUnavailable."""

    def __init__(self, connection: sqlite3.Connection, *, writable: bool) -> None:
        self._connection = connection
        self._writable = writable

    def function(self, key: FunctionKey) -> Function | None:
        return self._one(
            Function,
            "SELECT record FROM functions WHERE account_id = ? AND region = ? AND name = ?",
            _columns(key),
        )

    def put_function(self, function: Function) -> None:
        self._change(
            "INSERT INTO functions (account_id, region, name, record) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (account_id, region, name) DO UPDATE SET record = excluded.record",
            (*_columns(function.key), encode(function)),
        )

    def delete_function(self, key: FunctionKey) -> None:
        self._change("DELETE FROM aliases WHERE account_id = ? AND region = ? AND name = ?", _columns(key))
        self._change("DELETE FROM versions WHERE account_id = ? AND region = ? AND name = ?", _columns(key))
        self._change("DELETE FROM functions WHERE account_id = ? AND region = ? AND name = ?", _columns(key))

    def remember_version_number(self, key: FunctionKey, next_number: int) -> None:
        self._change("INSERT OR REPLACE INTO version_numbers VALUES (?, ?, ?, ?)", (*_columns(key), next_number))

    def remembered_version_number(self, key: FunctionKey) -> int:
        return self._number(
            "SELECT coalesce(max(next_number), 1) FROM version_numbers"
            " WHERE account_id = ? AND region = ? AND name = ?",
            _columns(key),
        )

    def functions(self, account_id: str, region: str) -> Sequence[Function]:
        return self._all(
            Function,
            "SELECT record FROM functions WHERE account_id = ? AND region = ? ORDER BY name",
            (account_id, region),
        )

    def version(self, key: FunctionKey, version: str) -> FunctionVersion | None:
        return self._one(
            FunctionVersion,
            "SELECT record FROM versions WHERE account_id = ? AND region = ? AND name = ? AND number = ?",
            (*_columns(key), version_number(version)),
        )

    def put_version(self, version: FunctionVersion) -> None:
        number = version_number(version.version)
        if number is None:
            raise ValueError(f"{version.version!r} is neither {LATEST} nor a version number")
        self._change(
            "INSERT INTO versions (account_id, region, name, number, code_sha256, code_size, record)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (account_id, region, name, number) DO UPDATE"
            " SET code_sha256 = excluded.code_sha256, code_size = excluded.code_size, record = excluded.record",
            (*_columns(version.key), number, version.code_sha256, version.code_size, encode(version)),
        )

    def delete_version(self, key: FunctionKey, version: str) -> None:
        self._change(
            "DELETE FROM versions WHERE account_id = ? AND region = ? AND name = ? AND number = ?",
            (*_columns(key), version_number(version)),
        )

    def versions(self, key: FunctionKey, after: int, limit: int) -> Sequence[FunctionVersion]:
        return self._all(
            FunctionVersion,
            "SELECT record FROM versions WHERE account_id = ? AND region = ? AND name = ? AND number > ?"
            " ORDER BY number LIMIT ?",
            (*_columns(key), after, limit),
        )

    def latest_versions(self, account_id: str, region: str, after: str, limit: int) -> Sequence[FunctionVersion]:
        return self._all(
            FunctionVersion,
            "SELECT record FROM versions WHERE account_id = ? AND region = ? AND number = 0 AND name > ?"
            " ORDER BY name LIMIT ?",
            (account_id, region, after, limit),
        )

    def all_versions(
        self, account_id: str, region: str, after: tuple[str, int], limit: int
    ) -> Sequence[FunctionVersion]:
        return self._all(
            FunctionVersion,
            "SELECT record FROM versions WHERE account_id = ? AND region = ? AND (name, number) > (?, ?)"
            " ORDER BY name, number LIMIT ?",
            (account_id, region, *after, limit),
        )

    def alias(self, key: FunctionKey, name: str) -> Alias | None:
        return self._one(
            Alias,
            "SELECT record FROM aliases WHERE account_id = ? AND region = ? AND name = ? AND alias = ?",
            (*_columns(key), name),
        )

    def put_alias(self, alias: Alias) -> None:
        self._change(
            "INSERT INTO aliases (account_id, region, name, alias, record) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (account_id, region, name, alias) DO UPDATE SET record = excluded.record",
            (*_columns(alias.key), alias.name, encode(alias)),
        )

    def delete_alias(self, key: FunctionKey, name: str) -> None:
        self._change(
            "DELETE FROM aliases WHERE account_id = ? AND region = ? AND name = ? AND alias = ?",
            (*_columns(key), name),
        )

    def aliases(self, key: FunctionKey, after: str, limit: int) -> Sequence[Alias]:
        return self._all(
            Alias,
            "SELECT record FROM aliases WHERE account_id = ? AND region = ? AND name = ? AND alias > ?"
            " ORDER BY alias LIMIT ?",
            (*_columns(key), after, limit),
        )

    def code_in_use(self) -> set[str]:
        return {digest for (digest,) in self._rows("SELECT DISTINCT code_sha256 FROM versions", ())}

    def code_is_used(self, code_sha256: str) -> bool:
        return bool(self._rows("SELECT 1 FROM versions WHERE code_sha256 = ? LIMIT 1", (code_sha256,)))

    def code_bytes(self, account_id: str, region: str) -> int:
        return self._number(
            "SELECT coalesce(sum(code_size), 0) FROM versions WHERE account_id = ? AND region = ?",
            (account_id, region),
        )

    def function_count(self, account_id: str, region: str) -> int:
        return self._number("SELECT count(*) FROM functions WHERE account_id = ? AND region = ?", (account_id, region))

    def _one(self, cls: type[T], sql: str, values: Sequence[object]) -> T | None:
        rows = self._rows(sql, values)
        return decode(cls, rows[0][0]) if rows else None

    def _all(self, cls: type[T], sql: str, values: Sequence[object]) -> list[T]:
        return [decode(cls, record) for (record,) in self._rows(sql, values)]

    def _number(self, sql: str, values: Sequence[object]) -> int:
        ((number,),) = self._rows(sql, values)
        return int(number)

    def _change(self, sql: str, values: Sequence[object]) -> None:
        if not self._writable:
            raise RuntimeError("a unit of work that only reads cannot change the store")
        self._rows(sql, values)

    def _rows(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """Every row at once: a statement left half read would hold its snapshot beyond the unit of work."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database failed: {error}") from error


def _columns(key: FunctionKey) -> tuple[str, str, str]:
    return key.account_id, key.region, key.name


@dataclass(slots=True, eq=False)
class _Unit:
    """A unit of work, the caller who waits for it, and in the end its result or error."""

    work: Callable[[Tables], Any]
    loop: asyncio.AbstractEventLoop
    finished: asyncio.Future[None]
    result: Any = None
    error: BaseException | None = None


_Queue = queue.SimpleQueue[_Unit | None]  # None is the last thing in a queue: the store was closed


class SqliteStore:
    """A `Store` in the SQLite file `path`, which is created, or brought to the present schema, and kept to its owner.

    Only one store may have the file open; the units of work run in its threads, not in the caller's event loop.
    Raises StoreUnavailable when the file cannot be opened as a database, NewerSchema when a newer lambdad wrote it.
    """

    def __init__(self, path: Path, *, readers: int = 2) -> None:
        writer, connections = _open_database(path, readers)
        self._accepting = threading.Lock()
        self._closed = False
        self._writes: _Queue = queue.SimpleQueue()
        self._reads: _Queue = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._serve_reads, args=(connection,), name=f"store-reader-{number}")
            for number, connection in enumerate(connections)
        ]
        self._writer = threading.Thread(target=self._serve_writes, args=(writer,), name="store-writer")
        for thread in (self._writer, *self._readers):
            thread.daemon = True  # a process that ends without close() loses nothing that was acknowledged
            thread.start()

    async def write(self, work: Callable[[Tables], T]) -> T:
        """Run `work`; when this returns, what it changed survives `kill -9`. An exception of `work` undoes it.

        What was accepted is carried out, whether its caller goes on waiting or not. Raises StoreUnavailable.
        """
        return await self._submit(self._writes, work)

    async def read(self, work: Callable[[Tables], T]) -> T:
        """Run `work` on a snapshot that holds every write acknowledged before. Raises StoreUnavailable."""
        return await self._submit(self._reads, work)

    async def close(self) -> None:
        """Finish what was accepted and fold the write-ahead log into the file. Closing again only waits for that."""
        with self._accepting:
            if not self._closed:
                self._closed = True
                self._writes.put(None)
                for _ in self._readers:
                    self._reads.put(None)
        await asyncio.to_thread(self._writer.join)

    async def _submit(self, accepted: _Queue, work: Callable[[Tables], T]) -> T:
        loop = asyncio.get_running_loop()
        unit = _Unit(work, loop, loop.create_future())
        with self._accepting:  # so that nothing is put behind the None that ends a queue
            if self._closed:
                raise StoreUnavailable("the store is closed")
            accepted.put(unit)
        await unit.finished
        if unit.error is not None:
            raise unit.error
        result: T = unit.result
        return result

    def _serve_writes(self, connection: sqlite3.Connection) -> None:
        tables = SqliteTables(connection, writable=True)
        while units := _take_group(self._writes):
            _commit_group(connection, tables, units)
            _announce(units)
        for reader in self._readers:
            reader.join()
        with suppress(sqlite3.Error):  # the log keeps whatever could not be folded in
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    def _serve_reads(self, connection: sqlite3.Connection) -> None:
        tables = SqliteTables(connection, writable=False)
        while (unit := self._reads.get()) is not None:
            _run_on_snapshot(connection, tables, unit)
            _announce([unit])
        connection.close()


def _take_group(accepted: _Queue) -> list[_Unit]:
    """Wait for a unit of work and take those that are already behind it; an empty list when the store was closed."""
    unit = accepted.get()
    units: list[_Unit] = []
    while unit is not None:
        units.append(unit)
        if len(units) == GROUP_UNITS_MAX:
            break
        try:
            unit = accepted.get_nowait()
        except queue.Empty:
            break
    if unit is None and units:
        accepted.put(None)
    return units


def _commit_group(connection: sqlite3.Connection, tables: Tables, units: Sequence[_Unit]) -> None:
    """Run units of work in one transaction. Each leaves with a result that is on disk, or with an error."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for unit in units:
            _run_in_savepoint(connection, tables, unit)
        connection.execute("COMMIT")
    except BaseException as error:  # noqa: BLE001 - whatever it was, every caller hears of it and the thread goes on
        for unit in units:
            if unit.error is None:
                unit.error = _unavailable(error)
        _roll_back(connection)


def _run_in_savepoint(connection: sqlite3.Connection, tables: Tables, unit: _Unit) -> None:
    """Run one unit of work of a group, undoing it alone if it fails."""
    connection.execute("SAVEPOINT unit")
    try:
        unit.result = unit.work(tables)
    except BaseException as error:
        unit.error = error
        if not connection.in_transaction:  # SQLite gives up the whole transaction after some errors of the disk
            raise
        connection.execute("ROLLBACK TO unit")
    connection.execute("RELEASE unit")


def _run_on_snapshot(connection: sqlite3.Connection, tables: Tables, unit: _Unit) -> None:
    try:
        connection.execute("BEGIN DEFERRED")
        unit.result = unit.work(tables)
    except sqlite3.Error as error:
        unit.error = _unavailable(error)
    except BaseException as error:  # noqa: BLE001 - whatever it was, it belongs to the caller, not to this thread
        unit.error = error
    _roll_back(connection)


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # a disk that fails even here will be told of by the next BEGIN
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _unavailable(error: BaseException) -> StoreUnavailable:
    """Each caller's own copy of what befell all of them."""
    outage = StoreUnavailable(str(error) if isinstance(error, StoreUnavailable) else f"the database failed: {error}")
    outage.__cause__ = error
    return outage


def _announce(units: Iterable[_Unit]) -> None:
    """Wake the callers, once for each event loop."""
    waiting: dict[asyncio.AbstractEventLoop, list[_Unit]] = {}
    for unit in units:
        waiting.setdefault(unit.loop, []).append(unit)
    for loop, finished in waiting.items():
        with suppress(RuntimeError):  # the loop was closed, and its callers with it
            loop.call_soon_threadsafe(_finish, finished)


def _finish(units: Iterable[_Unit]) -> None:
    for unit in units:
        if not unit.finished.done():  # a caller that was cancelled waits no more
            unit.finished.set_result(None)


def _open_database(path: Path, readers: int) -> tuple[sqlite3.Connection, list[sqlite3.Connection]]:
    """The connection that writes and those that read, to a database that exists and has the present schema."""
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        path.chmod(0o600)  # the log and its index take the mode of the database
        with ExitStack() as opened:
            writer = opened.enter_context(closing(_connect(path)))
            migrate(writer, MIGRATIONS, "store")
            connections = [opened.enter_context(closing(_connect(path))) for _ in range(readers)]
            opened.pop_all()
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"cannot open the database {path}: {error}") from error
    return writer, connections


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that begins no transaction by itself and whose commits are on disk when they return."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    with ExitStack() as opened:
        opened.enter_context(closing(connection))
        ((mode,),) = connection.execute("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise StoreUnavailable(f"the file system of {path} does not carry a write-ahead log")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # macOS: through the drive's cache as well
        opened.pop_all()
    return connection

"""Units of work on one SQLite file, with a thread that writes and threads that read.

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
from typing import Any, Generic, TypeVar

from lambdad.adapters.sqlite_schema import migrate
from lambdad.ports.store import StoreUnavailable

T = TypeVar("T")

GROUP_UNITS_MAX = 512
"""How many units of work one commit takes; a bound on how long the first of them waits for the last."""

BUSY_TIMEOUT_S = 5.0
"""How long to wait for another process that holds the database, such as a backup."""

LOG_BYTES = 64 * 1024 * 1024
"""What the write-ahead log is cut back to, and beyond which the writer waits for readers so as to begin it anew."""

LOG_WAIT_S = 0.1
"""How long it waits for them at a time: it takes a new look at who is reading after that."""

LOG_ATTEMPTS = 10
"""How often. A reader that takes longer is let alone until the log has grown by as much again."""


def migrations_of(database: str) -> tuple[str, ...]:
    """The migrations of a database, in order: the scripts in its folder below `migrations`."""
    folder = importlib.resources.files("lambdad.adapters") / "migrations" / database
    scripts = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    return tuple(script.read_text("utf-8") for script in scripts)


class SqliteStatements:
    """SQL within a unit of work. A statement that the database cannot carry out raises StoreUnavailable."""

    def __init__(self, connection: sqlite3.Connection, *, writable: bool) -> None:
        self._connection = connection
        self._writable = writable

    def undone(self) -> None:
        """Forget what was remembered of the database: a unit of work was rolled back."""

    def _number(self, sql: str, values: Sequence[object]) -> int:
        ((number,),) = self._rows(sql, values)
        return int(number)

    def _change(self, sql: str, values: Sequence[object]) -> None:
        self._check_writable()
        self._rows(sql, values)

    def _change_each(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of values."""
        self._check_writable()
        try:
            self._connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database failed: {error}") from error

    def _check_writable(self) -> None:
        if not self._writable:
            raise RuntimeError("a unit of work that only reads cannot change the store")

    def _rows(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """Every row at once: a statement left half read would hold its snapshot beyond the unit of work."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database failed: {error}") from error


TablesT = TypeVar("TablesT", bound=SqliteStatements)


@dataclass(slots=True, eq=False)
class _Unit:
    """A unit of work, the caller who waits for it, and in the end its result or error."""

    work: Callable[[Any], Any]
    loop: asyncio.AbstractEventLoop
    finished: asyncio.Future[None]
    result: Any = None
    error: BaseException | None = None


_Queue = queue.SimpleQueue[_Unit | None]  # None is the last thing in a queue: the store was closed


class SqliteUnits(Generic[TablesT]):
    """Units of work on the SQLite file `path`, which is created, or migrated to its schema, and kept to its owner.

    Only one of these may have the file open; the units of work run in its threads, not in the caller's event loop.
    `name` is what messages and threads call it; `tables` makes what units of work are given.
    Raises StoreUnavailable when the file cannot be opened as a database, NewerSchema when a newer lambdad wrote it.
    """

    def __init__(
        self, path: Path, name: str, migrations: Sequence[str], tables: type[TablesT], *, readers: int = 2
    ) -> None:
        writer, connections = _open_database(path, name, migrations, readers)
        self._tables = tables
        self._accepting = threading.Lock()
        self._closed = False
        self._writes: _Queue = queue.SimpleQueue()
        self._reads: _Queue = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._serve_reads, args=(connection,), name=f"{name}-reader-{number}")
            for number, connection in enumerate(connections)
        ]
        self._writer = threading.Thread(
            target=self._serve_writes, args=(writer, Path(f"{path}-wal")), name=f"{name}-writer"
        )
        for thread in (self._writer, *self._readers):
            thread.daemon = True  # a process that ends without close() loses nothing that was acknowledged
            thread.start()

    async def write(self, work: Callable[[TablesT], T]) -> T:
        """Run `work`; when this returns, what it changed survives `kill -9`. An exception of `work` undoes it.

        What was accepted is carried out, whether its caller goes on waiting or not. Raises StoreUnavailable.
        """
        return await self._submit(self._writes, work)

    async def read(self, work: Callable[[TablesT], T]) -> T:
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

    async def _submit(self, accepted: _Queue, work: Callable[[TablesT], T]) -> T:
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

    def _serve_writes(self, connection: sqlite3.Connection, log: Path) -> None:
        tables = self._tables(connection, writable=True)
        log_limit_bytes = LOG_BYTES
        while units := _take_group(self._writes):
            _commit_group(connection, tables, units)
            _announce(units)
            log_limit_bytes = _bound_log(connection, log, log_limit_bytes)
        for reader in self._readers:
            reader.join()
        with suppress(sqlite3.Error):  # the log keeps whatever could not be folded in
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    def _serve_reads(self, connection: sqlite3.Connection) -> None:
        tables = self._tables(connection, writable=False)
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


def _commit_group(connection: sqlite3.Connection, tables: SqliteStatements, units: Sequence[_Unit]) -> None:
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
        tables.undone()


def _run_in_savepoint(connection: sqlite3.Connection, tables: SqliteStatements, unit: _Unit) -> None:
    """Run one unit of work of a group, undoing it alone if it fails."""
    connection.execute("SAVEPOINT unit")
    try:
        unit.result = unit.work(tables)
    except BaseException as error:  # whatever it was, it belongs to this unit's caller, and the others go on
        unit.error = error
        if not connection.in_transaction:  # SQLite gives up the whole transaction after some errors of the disk
            raise
        connection.execute("ROLLBACK TO unit")
        tables.undone()
    connection.execute("RELEASE unit")


def _run_on_snapshot(connection: sqlite3.Connection, tables: SqliteStatements, unit: _Unit) -> None:
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


def _bound_log(connection: sqlite3.Connection, log: Path, limit_bytes: int) -> int:
    """Have the log begin anew when it has outgrown its limit; returns the limit that it has next.

    SQLite does that by itself at a moment without readers, which need not come when they follow one another closely.
    """
    size_bytes = 0
    with suppress(OSError, sqlite3.Error):  # the log goes on growing, and this is tried again
        size_bytes = log.stat().st_size
        if size_bytes <= limit_bytes:
            return limit_bytes
        _wait_for_others(connection, LOG_WAIT_S)
        try:
            for _ in range(LOG_ATTEMPTS):
                ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(RESTART)")
                if not busy:
                    return LOG_BYTES
        finally:
            _wait_for_others(connection, BUSY_TIMEOUT_S)
    return size_bytes + LOG_BYTES


def _wait_for_others(connection: sqlite3.Connection, seconds: float) -> None:
    connection.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")


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


def _open_database(
    path: Path, name: str, migrations: Sequence[str], readers: int
) -> tuple[sqlite3.Connection, list[sqlite3.Connection]]:
    """The connection that writes and those that read, to a database that exists and has the present schema."""
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        path.chmod(0o600)  # the log and its index take the mode of the database
        with ExitStack() as opened:
            writer = opened.enter_context(closing(_connect(path)))
            migrate(writer, migrations, name)
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
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        opened.pop_all()
    return connection

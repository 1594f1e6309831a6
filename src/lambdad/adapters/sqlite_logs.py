"""Logs in a SQLite database of their own, `logs.db`.

One thread writes, with a commit to disk for every call, and two threads read from snapshots of the write-ahead log; the
event loop waits for neither. What they do is in `sqlite_log_units` and `sqlite_log_events`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from lambdad.adapters import sqlite_log_events, sqlite_log_subscriptions
from lambdad.adapters import sqlite_log_units as units
from lambdad.adapters.sqlite_log_blocks import LogConnection
from lambdad.adapters.sqlite_schema import migrate
from lambdad.domain.log_subscriptions import SubscriptionFilter
from lambdad.domain.logs import EventBatch, GroupKey, LogEvent, LogGroup, LogStream, ServiceUnavailableException
from lambdad.ports.logs import Arrivals, EventRange, Scan
from lambdad.ports.store import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

READERS: Final = 2


class SqliteLogStore:
    """A LogStore in `logs.db` of a directory.

    Raises StoreUnavailable when the file cannot be opened as a database, NewerSchema when a newer lambdad wrote it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "logs.db"
        self._writer_thread = ThreadPoolExecutor(1, "logs-writer")
        self._reader_threads = ThreadPoolExecutor(READERS, "logs-reader")
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        try:
            self._writer = self._connect()
            # Both have to be there before the first table.
            self._writer.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._writer.execute("PRAGMA journal_mode = WAL")
            migrate(self._writer, units.MIGRATIONS, f"The log database {self._path}")
        except BaseException as error:  # whatever it was, nobody else would close what is open
            for connection in self._opened:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise StoreUnavailable(f"cannot open the database {self._path}: {error}") from error
            raise

    def _connect(self) -> LogConnection:
        connection = sqlite3.connect(
            self._path, timeout=30, isolation_level=None, check_same_thread=False, factory=LogConnection
        )
        self._opened.append(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA cache_size = -16384")
        return connection

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._writer_thread.shutdown)
        await loop.run_in_executor(None, self._reader_threads.shutdown)
        for connection in self._opened:
            connection.close()

    async def _write(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a unit of work in the writer's thread, in a transaction that is on disk when this returns."""

        def unit() -> T:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    result = work(self._writer, *args, **kwargs)
                    self._writer.execute("COMMIT")
                except BaseException:  # whatever stopped the unit of work, none of it is kept
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise _unavailable(error) from error
            return result

        return await asyncio.get_running_loop().run_in_executor(self._writer_thread, unit)

    async def _read(self, work: Callable[Concatenate[LogConnection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a unit of work in a reader's thread, on one snapshot."""

        def unit() -> T:
            try:
                connection: LogConnection | None = getattr(self._local, "connection", None)
                if connection is None:
                    connection = self._local.connection = self._connect()
                connection.execute("BEGIN")
                try:
                    return work(connection, *args, **kwargs)
                finally:
                    connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise _unavailable(error) from error

        return await asyncio.get_running_loop().run_in_executor(self._reader_threads, unit)

    async def create_group(self, group: LogGroup) -> None:
        await self._write(units.create_group, group)

    async def group(self, key: GroupKey) -> LogGroup | None:
        found = await self._read(units.find_group, key)
        return None if found is None else found[1]

    async def groups(
        self, account_id: str, region: str, *, after: str, prefix: str, substring: str, limit: int
    ) -> Sequence[LogGroup]:
        return await self._read(units.groups, account_id, region, after, prefix, substring, limit)

    async def update_group(self, key: GroupKey, change: Callable[[LogGroup], LogGroup]) -> LogGroup:
        return await self._write(units.update_group, key, change)

    async def delete_group(self, key: GroupKey, check: Callable[[LogGroup], None]) -> None:
        await self._write(units.delete_group, key, check)

    async def create_stream(self, key: GroupKey, stream: LogStream) -> None:
        await self._write(units.create_stream, key, stream)

    async def stream(self, key: GroupKey, name: str) -> LogStream | None:
        return await self._read(units.find_stream, key, name)

    async def streams(
        self, key: GroupKey, *, prefix: str, after: str, descending: bool, limit: int
    ) -> Sequence[LogStream]:
        return await self._read(units.streams, key, prefix, after, descending, limit)

    async def streams_by_time(
        self, key: GroupKey, *, after: tuple[int, str] | None, descending: bool, limit: int
    ) -> Sequence[LogStream]:
        return await self._read(units.streams_by_time, key, after, descending, limit)

    async def delete_stream(self, key: GroupKey, name: str, check: Callable[[LogGroup], None]) -> None:
        await self._write(units.delete_stream, key, name, check)

    async def append(self, batches: Sequence[EventBatch], *, create: bool) -> None:
        await self._write(sqlite_log_events.append, batches, create)

    async def read(self, key: GroupKey, stream: str, events: EventRange) -> Sequence[LogEvent]:
        return await self._read(sqlite_log_events.read_stream, key, stream, events)

    async def scan(
        self,
        key: GroupKey,
        events: EventRange,
        *,
        streams: Sequence[str] | None,
        prefix: str,
        matches: Callable[[str], bool],
        look: int,
    ) -> Scan:
        return await self._read(sqlite_log_events.scan, key, events, streams, prefix, matches, look)

    async def put_subscription_filter(self, wanted: SubscriptionFilter, most: int) -> None:
        await self._write(sqlite_log_subscriptions.put_filter, wanted, most)

    async def subscription_filters(
        self, key: GroupKey, *, prefix: str, after: str, limit: int
    ) -> Sequence[SubscriptionFilter]:
        return await self._read(sqlite_log_subscriptions.filters, key, prefix, after, limit)

    async def delete_subscription_filter(self, key: GroupKey, name: str) -> None:
        await self._write(sqlite_log_subscriptions.delete_filter, key, name)

    async def subscribed_groups(self) -> Sequence[GroupKey]:
        return await self._read(sqlite_log_subscriptions.subscribed_groups)

    async def arrivals(self, since: int, most_bytes: int) -> Arrivals:
        return await self._read(sqlite_log_subscriptions.arrivals, since, most_bytes)

    async def delivered(self) -> int:
        return await self._read(sqlite_log_subscriptions.delivered)

    async def keep_delivered(self, sequence: int) -> None:
        await self._write(sqlite_log_subscriptions.keep_delivered, sequence)

    async def expire(self, now_ms: int, limit: int) -> int:
        removed = await self._write(sqlite_log_events.expire, now_ms, limit)
        await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._give_space_back)
        return removed

    def _give_space_back(self) -> None:
        try:
            # As a script: `execute` would step this pragma once, and one step is one page.
            self._writer.executescript("PRAGMA incremental_vacuum(2000)")
        except sqlite3.Error as error:
            raise _unavailable(error) from error


def _unavailable(error: sqlite3.Error) -> ServiceUnavailableException:
    return ServiceUnavailableException(f"The service cannot complete the request: {error}")

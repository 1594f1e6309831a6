"""Event buses, rules, archives and archived events in a SQLite file of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

from lambdad.adapters.records import decode, encode
from lambdad.adapters.sqlite_units import SqliteStatements, SqliteUnits, migrations_of
from lambdad.domain.event_archives import Archive, ArchivedEvent, ArchiveKey, ArchiveSize, Place, Replay
from lambdad.domain.event_buses import BusKey, EventBus
from lambdad.domain.event_rules import Rule
from lambdad.ports.event_buses import StoredBuses, StoredEvent

MIGRATIONS: Final = migrations_of("eventbridge")

BATCH: Final = 1000
"""How many events one unit of work removes; others come in between."""

R = TypeVar("R")


class _BusTables(SqliteStatements):
    """The records and events as SQL."""

    def load(self) -> StoredBuses:
        return StoredBuses(
            buses=self._records(EventBus, "SELECT record FROM buses"),
            rules=self._records(Rule, "SELECT record FROM rules"),
            archives=self._records(Archive, "SELECT record FROM archives"),
            replays=self._records(Replay, "SELECT record FROM replays"),
        )

    def put_bus(self, bus: EventBus) -> None:
        self._change(
            "INSERT INTO buses VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record",
            (bus.key.account_id, bus.key.region, bus.key.name, encode(bus)),
        )

    def delete_bus(self, key: BusKey) -> None:
        self._change(
            "DELETE FROM buses WHERE account_id = ? AND region = ? AND name = ?", (key.account_id, key.region, key.name)
        )

    def put_rule(self, rule: Rule) -> None:
        self._change(
            "INSERT INTO rules VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record",
            (rule.bus.account_id, rule.bus.region, rule.bus.name, rule.name, encode(rule)),
        )

    def delete_rule(self, bus: BusKey, name: str) -> None:
        self._change(
            "DELETE FROM rules WHERE account_id = ? AND region = ? AND bus = ? AND name = ?",
            (bus.account_id, bus.region, bus.name, name),
        )

    def put_archive(self, archive: Archive) -> None:
        key = archive.key
        self._change(
            "INSERT INTO archives (account_id, region, name, id, record) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (account_id, region, name) DO UPDATE SET record = excluded.record",
            (key.account_id, key.region, key.name, archive.id, encode(archive)),
        )

    def delete_archive(self, key: ArchiveKey) -> None:
        self._change(
            "DELETE FROM archives WHERE account_id = ? AND region = ? AND name = ?",
            (key.account_id, key.region, key.name),
        )

    def put_replay(self, replay: Replay) -> None:
        self._change(
            "INSERT INTO replays VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET record = excluded.record",
            (replay.account_id, replay.region, replay.name, encode(replay)),
        )

    def delete_replay(self, account_id: str, region: str, name: str) -> None:
        self._change("DELETE FROM replays WHERE account_id = ? AND region = ? AND name = ?", (account_id, region, name))

    def archive(self, events: Sequence[ArchivedEvent]) -> None:
        for event in events:
            self._change(
                "UPDATE archives SET event_count = event_count + 1, size_bytes = size_bytes + ? WHERE id = ?",
                (_size(event.document), event.archive_id),
            )
        self._change_each(
            "INSERT INTO archived_events (archive_id, time_ms, stored_ms, document)"
            " SELECT id, ?, ?, ? FROM archives WHERE id = ?",
            [(event.time_ms, event.stored_ms, event.document, event.archive_id) for event in events],
        )

    def archived(
        self, archive_id: str, after: Place | None, from_ms: int, until_ms: int, limit: int
    ) -> list[StoredEvent]:
        place = after or Place(from_ms, 0)
        rows = self._rows(
            "SELECT time_ms, number, document FROM archived_events"
            " WHERE archive_id = ? AND (time_ms, number) > (?, ?) AND time_ms >= ? AND time_ms < ?"
            " AND EXISTS (SELECT 1 FROM archives WHERE id = ?) ORDER BY time_ms, number LIMIT ?",
            (archive_id, place.time_ms, place.number, from_ms, until_ms, archive_id, limit),
        )
        return [StoredEvent(Place(time_ms, number), document) for time_ms, number, document in rows]

    def archive_size(self, archive_id: str) -> ArchiveSize:
        rows = self._rows("SELECT event_count, size_bytes FROM archives WHERE id = ?", (archive_id,))
        return ArchiveSize(*rows[0]) if rows else ArchiveSize()

    def expire(self, archive_id: str, stored_before_ms: int, limit: int) -> int:
        rows = self._rows(
            "SELECT number, length(CAST(document AS BLOB)) FROM archived_events"
            " WHERE archive_id = ? AND stored_ms < ? LIMIT ?",
            (archive_id, stored_before_ms, limit),
        )
        self._remove([number for number, _ in rows])
        if rows:
            self._change(
                "UPDATE archives SET event_count = event_count - ?, size_bytes = size_bytes - ? WHERE id = ?",
                (len(rows), sum(size for _, size in rows), archive_id),
            )
        return len(rows)

    def collect(self, limit: int) -> int:
        # From one archive to the next in the index: its events are not looked at.
        orphans = self._rows(
            "WITH RECURSIVE ids (id) AS (SELECT min(archive_id) FROM archived_events UNION ALL"
            " SELECT (SELECT min(archive_id) FROM archived_events WHERE archive_id > ids.id) FROM ids"
            " WHERE ids.id IS NOT NULL)"
            " SELECT id FROM ids WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM archives) LIMIT 1",
            (),
        )
        if not orphans:
            return 0
        rows = self._rows("SELECT number FROM archived_events WHERE archive_id = ? LIMIT ?", (*orphans[0], limit))
        self._remove([number for (number,) in rows])
        return len(rows)

    def _remove(self, numbers: Sequence[int]) -> None:
        self._change_each("DELETE FROM archived_events WHERE number = ?", [(number,) for number in numbers])

    def _records(self, cls: type[R], sql: str) -> list[R]:
        return [decode(cls, text) for (text,) in self._rows(sql, ())]


class SqliteEventBusStore:
    """An `EventBusStore` in the SQLite file `path`.

    Raises StoreUnavailable when the file cannot be opened as a database, NewerSchema when a newer lambdad wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._units = SqliteUnits(path, "eventbridge", MIGRATIONS, _BusTables, readers=1)

    async def load(self) -> StoredBuses:
        return await self._units.read(lambda tables: tables.load())

    async def put_bus(self, bus: EventBus) -> None:
        await self._units.write(lambda tables: tables.put_bus(bus))

    async def delete_bus(self, key: BusKey) -> None:
        await self._units.write(lambda tables: tables.delete_bus(key))

    async def put_rule(self, rule: Rule) -> None:
        await self._units.write(lambda tables: tables.put_rule(rule))

    async def delete_rule(self, bus: BusKey, name: str) -> None:
        await self._units.write(lambda tables: tables.delete_rule(bus, name))

    async def put_archive(self, archive: Archive) -> None:
        await self._units.write(lambda tables: tables.put_archive(archive))

    async def delete_archive(self, key: ArchiveKey) -> None:
        await self._units.write(lambda tables: tables.delete_archive(key))

    async def put_replay(self, replay: Replay) -> None:
        await self._units.write(lambda tables: tables.put_replay(replay))

    async def delete_replay(self, account_id: str, region: str, name: str) -> None:
        await self._units.write(lambda tables: tables.delete_replay(account_id, region, name))

    async def archive(self, events: Sequence[ArchivedEvent]) -> None:
        await self._units.write(lambda tables: tables.archive(events))

    async def archived(
        self, archive_id: str, *, after: Place | None, from_ms: int, until_ms: int, limit: int
    ) -> Sequence[StoredEvent]:
        return await self._units.read(lambda tables: tables.archived(archive_id, after, from_ms, until_ms, limit))

    async def archive_size(self, archive_id: str) -> ArchiveSize:
        return await self._units.read(lambda tables: tables.archive_size(archive_id))

    async def expire(self, archive_id: str, stored_before_ms: int) -> int:
        total = 0
        while gone := await self._units.write(lambda tables: tables.expire(archive_id, stored_before_ms, BATCH)):
            total += gone
        return total

    async def collect(self) -> int:
        total = 0
        while gone := await self._units.write(lambda tables: tables.collect(BATCH)):
            total += gone
        return total

    async def close(self) -> None:
        await self._units.close()


def _size(document: str) -> int:
    return len(document.encode())

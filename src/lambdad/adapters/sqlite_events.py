"""The event store in a SQLite file of its own, so that the queue waits for nobody else's writes.

The file does not shrink: what a long queue has left is used again. Giving it back would cost the writer 0.2 s for every
4 MB, with everybody waiting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lambdad.adapters.sqlite_event_tables import EventTables
from lambdad.adapters.sqlite_units import SqliteUnits, migrations_of
from lambdad.ports.events import Changes, EventRow, LaneState, LaneSummary, Leased, Selection

MIGRATIONS: Final = migrations_of("events")

BATCH: Final = 1000
"""How many events one unit of work changes, where there is no bound to how many there are; others come in between."""


class SqliteEventStore:
    """An `EventStore` in the SQLite file `path`.

    Raises StoreUnavailable when the file cannot be opened as a database, NewerSchema when a newer lambdad wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._units = SqliteUnits(path, "events", MIGRATIONS, EventTables)

    async def apply(self, changes: Changes) -> Sequence[int]:
        return await self._units.write(lambda tables: tables.apply(changes))

    async def recover(self) -> int:
        return await self._units.write(lambda tables: tables.recover())

    async def lanes(self) -> Sequence[LaneState]:
        return await self._units.read(lambda tables: tables.lanes())

    async def lease(self, lane: str, due_ms: int, limit: int, max_bytes: int) -> Leased:
        return await self._units.write(lambda tables: tables.lease_due(lane, due_ms, limit, max_bytes))

    async def lease_older(self, lane: str, accepted_before_ms: int, limit: int, max_bytes: int) -> Leased:
        return await self._units.write(lambda tables: tables.lease_older(lane, accepted_before_ms, limit, max_bytes))

    async def hasten(self, lane: str, now_ms: int) -> None:
        while await self._units.write(lambda tables: tables.hasten(lane, now_ms, BATCH)):
            pass

    async def summaries(self) -> Sequence[LaneSummary]:
        return await self._units.read(lambda tables: tables.summaries())

    async def rows(self, selection: Selection, *, dead: bool, limit: int) -> Sequence[EventRow]:
        return await self._units.read(
            lambda tables: tables.dead(selection, limit) if dead else tables.queued(selection, limit)
        )

    async def endings(self, request_ids: Sequence[str]) -> Sequence[EventRow]:
        return await self._units.read(lambda tables: tables.endings(request_ids))

    async def redrive(self, selection: Selection, now_ms: int) -> Sequence[str]:
        lanes: list[str] = []
        before_id = await self._units.read(lambda tables: tables.next_id())  # what is redriven may die meanwhile
        while redriven := await self._units.write(lambda tables: tables.redrive(selection, now_ms, before_id, BATCH)):
            lanes += redriven
        return lanes

    async def purge(self, selection: Selection, now_ms: int, *, dead: bool, limit: int) -> Sequence[str]:
        if dead:
            return await self._units.write(lambda tables: tables.purge_dead(selection, limit))
        return await self._units.write(lambda tables: tables.purge_waiting(selection, now_ms, limit))

    async def forget_endings(self, keep: int) -> int:
        return await self._forget(keep, succeeded=True) + await self._forget(keep, succeeded=False)

    async def _forget(self, keep: int, *, succeeded: bool) -> int:
        total = 0
        until = await self._units.read(lambda tables: tables.last_beyond(keep, succeeded=succeeded))
        if until is not None:
            while gone := await self._units.write(
                lambda tables: tables.forget_endings(until, BATCH, succeeded=succeeded)
            ):
                total += gone
        return total

    async def marks(self, prefix: str) -> Mapping[str, int]:
        return await self._units.read(lambda tables: tables.marks(prefix))

    async def forget_mark(self, name: str) -> None:
        await self._units.write(lambda tables: tables.forget_mark(name))

    async def close(self) -> None:
        await self._units.close()

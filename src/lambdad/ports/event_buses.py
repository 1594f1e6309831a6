"""Where event buses, rules and archives are kept, and the events in the archives.

What was put is on disk when a method returns. Every method raises StoreUnavailable when it cannot do its part, having
changed nothing; those that concern any number of events go in steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lambdad.domain.event_archives import Archive, ArchivedEvent, ArchiveKey, ArchiveSize, Place, Replay
from lambdad.domain.event_buses import BusKey, EventBus
from lambdad.domain.event_rules import Rule


@dataclass(frozen=True, slots=True)
class StoredBuses:
    """All that is configured, each kind in the order of its names."""

    buses: Sequence[EventBus]
    rules: Sequence[Rule]
    archives: Sequence[Archive]
    replays: Sequence[Replay]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event in an archive."""

    place: Place
    document: str


class EventBusStore(Protocol):
    async def load(self) -> StoredBuses: ...

    async def put_bus(self, bus: EventBus) -> None: ...

    async def delete_bus(self, key: BusKey) -> None: ...

    async def put_rule(self, rule: Rule) -> None: ...

    async def delete_rule(self, bus: BusKey, name: str) -> None: ...

    async def put_archive(self, archive: Archive) -> None: ...

    async def delete_archive(self, key: ArchiveKey) -> None:
        """Its events are not readable any more; `expire` removes them."""

    async def put_replay(self, replay: Replay) -> None: ...

    async def delete_replay(self, account_id: str, region: str, name: str) -> None: ...

    async def archive(self, events: Sequence[ArchivedEvent]) -> None:
        """Add events to archives; those of an archive that is gone are dropped."""

    async def archived(
        self, archive_id: str, *, after: Place | None, from_ms: int, until_ms: int, limit: int
    ) -> Sequence[StoredEvent]:
        """Events of an archive from a time on and before another, the first ones behind a place."""

    async def archive_size(self, archive_id: str) -> ArchiveSize: ...

    async def expire(self, archive_id: str, stored_before_ms: int) -> int:
        """Remove the events of an archive that were stored before then; returns how many."""

    async def collect(self) -> int:
        """Remove what deleted archives have left; returns how many events."""

    async def close(self) -> None:
        """Finish what was accepted, and close."""

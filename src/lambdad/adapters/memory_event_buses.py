"""Event buses in memory, for tests: the contract of the real store without its disk and its threads."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from lambdad.adapters.records import decode, encode
from lambdad.domain.event_archives import Archive, ArchivedEvent, ArchiveKey, ArchiveSize, Place, Replay
from lambdad.domain.event_buses import BusKey, EventBus
from lambdad.domain.event_rules import Rule
from lambdad.ports.event_buses import StoredBuses, StoredEvent
from lambdad.ports.store import StoreUnavailable


class MemoryEventBusStore:
    """An `EventBusStore` that forgets everything with its process."""

    def __init__(self) -> None:
        self._buses: dict[BusKey, str] = {}
        self._rules: dict[tuple[BusKey, str], str] = {}
        self._archives: dict[ArchiveKey, Archive] = {}
        self._replays: dict[tuple[str, str, str], str] = {}
        self._events: dict[int, ArchivedEvent] = {}
        self._numbers = itertools.count(1)
        self._closed = False

    async def load(self) -> StoredBuses:
        self._check_open()
        return StoredBuses(
            buses=[decode(EventBus, self._buses[key]) for key in sorted(self._buses)],
            rules=[decode(Rule, self._rules[key]) for key in sorted(self._rules)],
            archives=[self._archives[key] for key in sorted(self._archives)],
            replays=[decode(Replay, self._replays[key]) for key in sorted(self._replays)],
        )

    async def put_bus(self, bus: EventBus) -> None:
        self._check_open()
        self._buses[bus.key] = encode(bus)

    async def delete_bus(self, key: BusKey) -> None:
        self._check_open()
        self._buses.pop(key, None)

    async def put_rule(self, rule: Rule) -> None:
        self._check_open()
        self._rules[rule.bus, rule.name] = encode(rule)

    async def delete_rule(self, bus: BusKey, name: str) -> None:
        self._check_open()
        self._rules.pop((bus, name), None)

    async def put_archive(self, archive: Archive) -> None:
        self._check_open()
        self._archives[archive.key] = archive

    async def delete_archive(self, key: ArchiveKey) -> None:
        self._check_open()
        self._archives.pop(key, None)

    async def put_replay(self, replay: Replay) -> None:
        self._check_open()
        self._replays[replay.account_id, replay.region, replay.name] = encode(replay)

    async def delete_replay(self, account_id: str, region: str, name: str) -> None:
        self._check_open()
        self._replays.pop((account_id, region, name), None)

    async def archive(self, events: Sequence[ArchivedEvent]) -> None:
        self._check_open()
        known = self._ids()
        for event in events:
            if event.archive_id in known:
                self._events[next(self._numbers)] = event

    async def archived(
        self, archive_id: str, *, after: Place | None, from_ms: int, until_ms: int, limit: int
    ) -> Sequence[StoredEvent]:
        self._check_open()
        found = [
            StoredEvent(place, event.document)
            for number, event in self._events.items()
            if event.archive_id == archive_id and archive_id in self._ids()
            if from_ms <= event.time_ms < until_ms
            if after is None or Place(event.time_ms, number) > after
            for place in [Place(event.time_ms, number)]
        ]
        return sorted(found, key=lambda event: event.place)[:limit]

    async def archive_size(self, archive_id: str) -> ArchiveSize:
        self._check_open()
        sizes = [len(event.document.encode()) for event in self._events.values() if event.archive_id == archive_id]
        return ArchiveSize(len(sizes), sum(sizes)) if archive_id in self._ids() else ArchiveSize()

    async def expire(self, archive_id: str, stored_before_ms: int) -> int:
        self._check_open()
        return self._remove(
            number
            for number, event in self._events.items()
            if event.archive_id == archive_id and event.stored_ms < stored_before_ms
        )

    async def collect(self) -> int:
        self._check_open()
        known = self._ids()
        return self._remove(number for number, event in self._events.items() if event.archive_id not in known)

    async def close(self) -> None:
        self._closed = True

    def _ids(self) -> set[str]:
        return {archive.id for archive in self._archives.values()}

    def _remove(self, numbers: Iterable[int]) -> int:
        gone = list(numbers)
        for number in gone:
            del self._events[number]
        return len(gone)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

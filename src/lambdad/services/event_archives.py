"""Archives of events."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from lambdad.domain.event_archives import DAY_MS, Archive, ArchiveKey, ArchiveSize
from lambdad.domain.event_buses import BusKey, ResourceAlreadyExistsException
from lambdad.domain.event_patterns import compile_pattern
from lambdad.ports.clock import Clock
from lambdad.ports.event_buses import EventBusStore
from lambdad.ports.store import StoreUnavailable
from lambdad.services.event_catalog import EventCatalog
from lambdad.services.event_replays import EventReplays
from lambdad.services.identifiers import new_request_id

logger = logging.getLogger(__name__)

EXPIRE_S: Final = 60.0
_MS: Final = 1000


class EventArchives:
    """Operations on archives, and the end of what they keep."""

    def __init__(self, catalog: EventCatalog, store: EventBusStore, replays: EventReplays, clock: Clock) -> None:
        self._catalog = catalog
        self._store = store
        self._replays = replays
        self._clock = clock

    async def create_archive(
        self, key: ArchiveKey, bus: BusKey, *, pattern: str = "", retention_days: int = 0, description: str = ""
    ) -> Archive:
        """Keep what comes to a bus from now on and matches.

        Raises ResourceNotFoundException for the bus, ResourceAlreadyExistsException, InvalidEventPatternException.
        """
        async with self._catalog.changing:
            self._catalog.bus(bus)
            if pattern:
                compile_pattern(pattern)
            if self._catalog.has_archive(key):
                raise ResourceAlreadyExistsException(f"Archive {key.name} already exists.")
            archive = Archive(key, new_request_id(), bus, self._now_ms(), pattern, retention_days, description)
            await self._catalog.put_archive(archive)
            return archive

    async def update_archive(
        self, key: ArchiveKey, *, pattern: str | None, retention_days: int | None, description: str | None
    ) -> Archive:
        """Change what is not None. Raises ResourceNotFoundException and InvalidEventPatternException."""
        async with self._catalog.changing:
            archive = self._catalog.archive(key)
            if pattern:
                compile_pattern(pattern)
            changed = replace(
                archive,
                pattern=archive.pattern if pattern is None else pattern,
                retention_days=archive.retention_days if retention_days is None else retention_days,
                description=archive.description if description is None else description,
            )
            await self._catalog.put_archive(changed)
            return changed

    async def delete_archive(self, key: ArchiveKey) -> None:
        """Raises ResourceNotFoundException. The room of its events is free a little later."""
        async with self._catalog.changing:
            self._catalog.archive(key)
            await self._catalog.delete_archive(key)

    async def archive(self, key: ArchiveKey) -> tuple[Archive, ArchiveSize]:
        """An archive and what is in it. Raises ResourceNotFoundException."""
        archive = self._catalog.archive(key)
        return archive, await self._store.archive_size(archive.id)

    def archives(self, account_id: str, region: str) -> list[Archive]:
        """By name."""
        return [
            archive
            for archive in self._catalog.archives()
            if (archive.key.account_id, archive.key.region) == (account_id, region)
        ]

    async def run(self) -> None:
        """Remove what is kept no longer, for ever."""
        while True:
            try:
                await self.expire()
            except StoreUnavailable as error:
                logger.error("Archived events that have expired cannot be removed: %s", error)
            await self._clock.sleep(EXPIRE_S)

    async def expire(self) -> None:
        """Remove archived events, and replays, that are kept no longer. Raises StoreUnavailable."""
        for archive in self._catalog.archives():
            if archive.retention_days:
                await self._store.expire(archive.id, self._now_ms() - archive.retention_days * DAY_MS)
        await self._store.collect()
        await self._replays.forget_old()

    def _now_ms(self) -> int:
        return int(self._clock.time() * _MS)

"""Replays: what an archive has of a window of time goes to its bus again, step by step, in the order of the events.

How far a replay has come is on disk after each step, so a restart repeats one step at most.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from lambdad.domain.event_archives import (
    REPLAY_NAME,
    REPLAYS_KEPT_MS,
    REPLAYS_RUNNING_MAX,
    ArchiveKey,
    Replay,
)
from lambdad.domain.event_buses import (
    BusKey,
    EventsResourceNotFoundException,
    IllegalStatusException,
    ResourceAlreadyExistsException,
    invalid_parameter,
    limit_exceeded,
)
from lambdad.ports.clock import Clock
from lambdad.ports.event_buses import EventBusStore
from lambdad.ports.store import StoreUnavailable
from lambdad.services.event_catalog import EventCatalog
from lambdad.services.event_router import EventRouter

logger = logging.getLogger(__name__)

STEP_EVENTS: Final = 100
STEP_BYTES: Final = 1024 * 1024
"""So much of them, or one event, if they are large."""
STEP_S: Final = 0.1
"""Between two steps: a replay is 1,000 events a second at most, and leaves room for everybody else."""
RETRY_S: Final = 1.0
_MS: Final = 1000


class EventReplays:
    """Operations on replays, and a task for each that is running."""

    def __init__(self, catalog: EventCatalog, store: EventBusStore, router: EventRouter, clock: Clock) -> None:
        self._catalog = catalog
        self._store = store
        self._router = router
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Go on with what was running when the last daemon ended."""
        for replay in self._catalog.replays():
            if replay.running:
                self._begin(replay)

    async def close(self) -> None:
        """Stop where they are."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start_replay(
        self,
        archive_key: ArchiveKey,
        name: str,
        bus: BusKey,
        *,
        from_ms: int,
        until_ms: int,
        description: str = "",
        filter_arns: Sequence[str] = (),
    ) -> Replay:
        """Raises ValidationException, ResourceAlreadyExistsException and LimitExceededException."""
        account_id, region = archive_key.account_id, archive_key.region
        async with self._catalog.changing:
            if not self._catalog.has_archive(archive_key):
                raise invalid_parameter("EventSourceArn", f"Archive {archive_key.name} does not exist.")
            archive = self._catalog.archive(archive_key)
            if bus != archive.bus:
                raise invalid_parameter("Destination.Arn", "Cross event bus replay is not permitted.")
            if from_ms >= until_ms:
                raise invalid_parameter("EventEndTime", "EventStartTime must be before EventEndTime.")
            if self._catalog.find_replay(account_id, region, name) is not None:
                raise ResourceAlreadyExistsException(f"Replay {name} already exists.")
            running = [
                each
                for each in self._catalog.replays()
                if each.running and (each.account_id, each.region) == (account_id, region)
            ]
            if len(running) >= REPLAYS_RUNNING_MAX:
                raise limit_exceeded()
            replay = Replay(
                account_id=account_id,
                region=region,
                name=name,
                archive=archive_key,
                archive_id=archive.id,
                bus=bus,
                from_ms=from_ms,
                until_ms=until_ms,
                started_ms=self._now_ms(),
                description=description,
                filter_arns=tuple(filter_arns),
            )
            await self._catalog.put_replay(replay)
            self._begin(replay)
            return replay

    async def cancel_replay(self, account_id: str, region: str, name: str) -> Replay:
        """Raises ResourceNotFoundException, and IllegalStatusException when it is over."""
        async with self._catalog.changing:
            replay = self.replay(account_id, region, name)
            if replay.state not in ("STARTING", "RUNNING"):
                raise IllegalStatusException(f"Replay {name} is not in a valid state for this operation.")
            replay = replace(replay, state="CANCELLING")
            await self._catalog.put_replay(replay)
            return replay

    def replay(self, account_id: str, region: str, name: str) -> Replay:
        """Raises ResourceNotFoundException."""
        found = self._catalog.find_replay(account_id, region, name)
        if found is None:
            raise EventsResourceNotFoundException(f"Replay {name} does not exist.")
        return found

    def replays(self, account_id: str, region: str) -> list[Replay]:
        """By name."""
        return [each for each in self._catalog.replays() if (each.account_id, each.region) == (account_id, region)]

    async def forget_old(self) -> None:
        """Forget replays that have ended long ago. Raises StoreUnavailable."""
        before_ms = self._now_ms() - REPLAYS_KEPT_MS
        for replay in self._catalog.replays():
            if replay.ended_ms is not None and replay.ended_ms < before_ms:
                await self._catalog.delete_replay(replay)

    def _begin(self, replay: Replay) -> None:
        task = asyncio.get_running_loop().create_task(self._run(replay.account_id, replay.region, replay.name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, account_id: str, region: str, name: str) -> None:
        running = True
        while running:
            try:
                running = await self._step(self.replay(account_id, region, name))
                await self._clock.sleep(STEP_S)
            except StoreUnavailable as error:
                logger.error("The replay %s waits: %s", name, error)
                await self._clock.sleep(RETRY_S)

    async def _step(self, replay: Replay) -> bool:
        """Go on by some events; whether there is more to do."""
        if replay.state == "CANCELLING":
            return await self._advance(replay, state="CANCELLED")
        if self._catalog.find_bus(replay.bus) is None:
            return await self._advance(replay, state="FAILED", reason=f"Event bus {replay.bus.name} does not exist.")
        if not self._catalog.has_archive(replay.archive) or (
            self._catalog.archive(replay.archive).id != replay.archive_id
        ):
            reason = f"Archive {replay.archive.name} does not exist."
            return await self._advance(replay, state="FAILED", reason=reason)
        found = await self._store.archived(
            replay.archive_id,
            after=replay.place,
            from_ms=replay.from_ms,
            until_ms=replay.until_ms,
            limit=STEP_EVENTS,
        )
        if not found:
            return await self._advance(replay, state="COMPLETED")
        sizes = itertools.accumulate(len(each.document) for each in found)
        step = [each for each, size in zip(found, sizes, strict=True) if each is found[0] or size <= STEP_BYTES]
        events = [{**json.loads(each.document), REPLAY_NAME: replay.name} for each in step]
        await self._router.replay(replay.bus, events, frozenset(replay.filter_arns))
        return await self._advance(replay, state="RUNNING", place=step[-1].place)

    async def _advance(self, replay: Replay, **changes: Any) -> bool:
        """Note what has become of a replay, unless it is to be cancelled meanwhile; whether it goes on."""
        async with self._catalog.changing:
            current = self.replay(replay.account_id, replay.region, replay.name)
            changed = replace(replay, **changes)
            if changed.running and current.state == "CANCELLING":
                changed = replace(changed, state="CANCELLING")
            if not changed.running:
                changed = replace(changed, ended_ms=self._now_ms())
            await self._catalog.put_replay(changed)
            return changed.running

    def _now_ms(self) -> int:
        return int(self._clock.time() * _MS)

"""Writes what happens to events: one write at a time, and whatever comes up meanwhile goes together into the next."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lambdad.domain.events import Ending, Event
from lambdad.ports.clock import Clock
from lambdad.ports.events import Changes, EventStore
from lambdad.ports.store import StoreUnavailable

logger = logging.getLogger(__name__)

RETRY_S: Final = 1.0
"""How long to wait before an outcome that could not be written is tried again."""
BATCH: Final = 512
"""How many changes one write takes; a bound on how long the first of them waits for the last."""
NO_MARKS: Final[Mapping[str, int]] = {}


@dataclass(slots=True, eq=False)
class _Acceptance:
    events: Sequence[Event]
    leased: bool
    ids: asyncio.Future[Sequence[int]]
    marks: Mapping[str, int]


@dataclass(slots=True, eq=False)
class _Settlement:
    change: Ending | Event
    written: Callable[[], None]


class EventJournal:
    """Accepting an event fails when the store does. The outcome of an attempt is kept until it could be written."""

    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._acceptances: list[_Acceptance] = []
        self._settlements: list[_Settlement] = []
        self._writing: asyncio.Task[None] | None = None
        self._pausing: asyncio.Task[None] | None = None

    async def accept(
        self, events: Sequence[Event], *, leased: bool, marks: Mapping[str, int] = NO_MARKS
    ) -> Sequence[int]:
        """The ids of the events, which are on disk, together with the marks, when this returns.

        Raises StoreUnavailable: nothing of it is on disk then.
        """
        acceptance = _Acceptance(events, leased, asyncio.get_running_loop().create_future(), marks)
        self._acceptances.append(acceptance)
        self._write()
        return await acceptance.ids

    def settle(self, change: Ending | Event, written: Callable[[], None]) -> None:
        """Record an ending, or put an event back; `written` is called when that is on disk."""
        self._settlements.append(_Settlement(change, written))
        self._write()

    async def settle_all(self) -> None:
        """Write what there is to be written, once. Raises StoreUnavailable when that cannot be done."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
        if self._settlements:
            await self._write_batch([], self._settlements)
            self._settlements = []

    def close(self) -> None:
        for task in (self._writing, self._pausing):
            if task is not None:
                task.cancel()

    def _write(self) -> None:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._acceptances or (self._settlements and self._pausing is None):
                acceptances, self._acceptances = self._acceptances[:BATCH], self._acceptances[BATCH:]
                settlements: list[_Settlement] = []
                if self._pausing is None:
                    settlements, self._settlements = self._settlements[:BATCH], self._settlements[BATCH:]
                try:
                    await self._write_batch(acceptances, settlements)
                except StoreUnavailable as error:
                    self._failed(acceptances, settlements, str(error))
                except Exception as error:  # a fault of ours: callers are not to wait for ever, and outcomes are kept
                    logger.exception("events could not be written")
                    self._failed(acceptances, settlements, repr(error))
        finally:
            self._writing = None

    async def _write_batch(self, acceptances: Sequence[_Acceptance], settlements: Sequence[_Settlement]) -> None:
        changes = Changes()
        leased = [acceptance for acceptance in acceptances if acceptance.leased]
        waiting = [acceptance for acceptance in acceptances if not acceptance.leased]
        changes.leased = [event for acceptance in leased for event in acceptance.events]
        changes.accepted = [event for acceptance in waiting for event in acceptance.events]
        for acceptance in waiting:
            changes.marks |= acceptance.marks
        for settlement in settlements:
            if isinstance(settlement.change, Ending):
                changes.endings.append(settlement.change)
            else:
                changes.postponed.append(settlement.change)
        ids = iter(await self._store.apply(changes))
        for acceptance in itertools.chain(waiting, leased):
            numbers = list(itertools.islice(ids, len(acceptance.events)))
            if not acceptance.ids.done():
                acceptance.ids.set_result(numbers)
        for settlement in settlements:
            settlement.written()

    def _failed(self, acceptances: Sequence[_Acceptance], settlements: Sequence[_Settlement], reason: str) -> None:
        for acceptance in acceptances:
            if not acceptance.ids.done():
                acceptance.ids.set_exception(StoreUnavailable(reason))
        if settlements:
            self._settlements = [*settlements, *self._settlements]
            logger.error("outcomes of %d events cannot be written yet: %s", len(self._settlements), reason)
            self._pausing = asyncio.get_running_loop().create_task(self._pause())

    async def _pause(self) -> None:
        await self._clock.sleep(RETRY_S)
        self._pausing = None
        self._write()

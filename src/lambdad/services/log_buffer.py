"""What functions print, between the moment it is handed over and the moment it is on disk."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from lambdad.domain.logs import EventBatch, GroupKey, ServiceUnavailableException, storable_events
from lambdad.ports.clock import Clock
from lambdad.ports.logs import LogStore

logger = logging.getLogger(__name__)

FLUSH_DELAY_S: Final = 0.25
RETRY_DELAY_S: Final = 1.0
FLUSH_BYTES: Final = 1024 * 1024
"""So much is written at once without waiting for the delay."""
TRANSACTION_BYTES: Final = 4 * 1024 * 1024
PENDING_BYTES: Final = 16 * 1024 * 1024
"""`drained` holds writers back above this."""
EVENT_MEMORY_BYTES: Final = 150
"""What an event takes in memory beside its text."""

Place = tuple[GroupKey, str]
"""A stream of a group."""


class LogBuffer:
    """Takes events without waiting and writes them in the background, all within half a second.

    While the store cannot be written, events are kept up to PENDING_BYTES and then discarded, and counted: a full disk
    must not stop functions.
    """

    def __init__(self, store: LogStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._pending: deque[tuple[Place, int, Sequence[tuple[int, str]], int]] = deque()
        """Where events belong, when they were ingested, the events, and what they take in memory."""
        self._writing = asyncio.Lock()
        self._hurry = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._failing = False
        self._flusher: asyncio.Task[None] | None = None
        self._flushes: set[asyncio.Task[None]] = set()
        self.sources: list[Callable[[], None]] = []
        self.watchers: list[Callable[[Iterable[GroupKey]], None]] = []
        self.pending_bytes = 0
        self.discarded_events = 0
        self._discarded_before = 0

    def append(self, key: GroupKey, stream: str, events: Sequence[tuple[int, str]]) -> None:
        """Take events of one stream, in order; nothing is written yet. Call it from the event loop."""
        if self._failing and self.pending_bytes >= PENDING_BYTES:
            self.discarded_events += len(events)
            return
        fitting, characters = storable_events(events)
        size = characters + EVENT_MEMORY_BYTES * len(fitting)
        self._pending.append(((key, stream), int(self._clock.time() * 1000), fitting, size))
        self.pending_bytes += size
        if self.pending_bytes >= FLUSH_BYTES:
            self._hurry.set()
        if self.pending_bytes >= PENDING_BYTES and not self._failing:
            self._room.clear()
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._write_in_background())

    async def drained(self) -> None:
        """Wait until less than PENDING_BYTES is pending, or until nothing can be written."""
        await self._room.wait()

    async def flush(self) -> None:
        """Write everything that is pending now. Raises ServiceUnavailableException when the store cannot."""
        for hand_over in self.sources:
            hand_over()
        if not self._pending:
            return
        # In a task of its own: a caller that goes away must not interrupt a write halfway.
        task = asyncio.create_task(self._write())
        self._flushes.add(task)
        task.add_done_callback(self._flushed)
        await asyncio.shield(task)

    def tell(self, groups: Iterable[GroupKey]) -> None:
        """Tell the watchers that events of these groups are on disk."""
        for notify in self.watchers:
            notify(groups)

    async def close(self) -> None:
        """Write what is left. Raises ServiceUnavailableException when the store cannot."""
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.wait([self._flusher])
        await self.flush()
        while self._pending:
            await self.flush()

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it; if nobody does, the background task will meet it again

    async def _write_in_background(self) -> None:
        while self._pending:
            await self._wait()
            try:
                await self.flush()
            except ServiceUnavailableException as error:
                logger.error("Logs cannot be written, %d bytes are waiting: %s", self.pending_bytes, error)

    async def _wait(self) -> None:
        """Wait a little for more to write; not when there is much already, longer when the last attempt failed."""
        if self._failing:
            await self._clock.sleep(RETRY_DELAY_S)
            return
        waits = [asyncio.ensure_future(self._clock.sleep(FLUSH_DELAY_S)), asyncio.ensure_future(self._hurry.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _write(self) -> None:
        async with self._writing:
            remaining = len(self._pending)
            while remaining:
                count, size, batches = self._next(remaining)
                try:
                    await self._store.append(batches, create=True)
                except ServiceUnavailableException:
                    self._failing = True
                    self._room.set()
                    raise
                self._failing = False
                if self.discarded_events > self._discarded_before:
                    lost = self.discarded_events - self._discarded_before
                    logger.error("Logs can be written again; %d events were discarded meanwhile", lost)
                    self._discarded_before = self.discarded_events
                for _ in range(count):
                    self._pending.popleft()
                remaining -= count
                self._written(size)
                self.tell([batch.group for batch in batches])

    def _written(self, size: int) -> None:
        self.pending_bytes -= size
        if self.pending_bytes < FLUSH_BYTES:
            self._hurry.clear()
        if self.pending_bytes < PENDING_BYTES:
            self._room.set()

    def _next(self, most: int) -> tuple[int, int, list[EventBatch]]:
        """The oldest pending events, enough for one transaction, those of a stream together; they stay pending."""
        merged: dict[Place, tuple[int, list[tuple[int, str]]]] = {}
        count = size = 0
        for place, ingested_ms, events, batch_size in itertools.islice(self._pending, most):
            if count and size + batch_size > TRANSACTION_BYTES:
                break
            count += 1
            size += batch_size
            known = merged.get(place)
            if known is None:
                merged[place] = ingested_ms, list(events)
            else:
                known[1].extend(events)
        batches = [EventBatch(*place, ingested_ms, events) for place, (ingested_ms, events) in merged.items()]
        return count, size, batches

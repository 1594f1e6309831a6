"""Fires what has a schedule, at the moment that the schedule means and exactly once.

How far an entry has come is its mark in the durable queue: what a firing accepts and its mark are one transaction, so
a daemon that dies has fired an occurrence or has not, and the next one knows which. Occurrences that fell due while no
daemon ran are made up, oldest first, as far back as `MADE_UP_MS`.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from lambdad.domain.schedules import Schedule
from lambdad.ports.clock import Clock
from lambdad.ports.dispatcher import Marks
from lambdad.ports.store import StoreUnavailable

logger = logging.getLogger(__name__)

MADE_UP_MS: Final = 24 * 3600 * 1000
"""How old an occurrence is made up at most: EventBridge drops an event that it cannot deliver for 24 hours."""

RETRY_S: Final = 1.0
"""Until an occurrence is tried again whose mark could not be stored."""

LOOK_S: Final = 1.0
"""How long to sleep at most while anything is planned: the wall clock may be put forward meanwhile."""

_SLACK: Final = 64
"""How many superseded plans are kept beyond the number of entries, before they are thrown out."""

_FINISHED: Final = -1
"""In the place of an occurrence: there is none left."""

Fire = Callable[[int], Awaitable[None]]
"""Given the time of an occurrence, accepts what it causes together with the mark of the entry's name at that time."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    name: str
    schedule: Schedule
    since_ms: int
    until_ms: int | None
    fire: Fire
    window_ms: int
    finished: Callable[[], Awaitable[None]] | None


class Timetable:
    """Entries by their names. `start` comes before the first `set`, and `run` is a task for as long as the daemon."""

    def __init__(self, marks: Marks, clock: Clock) -> None:
        self._store = marks
        self._clock = clock
        self._marks: dict[str, int] = {}
        self._entries: dict[str, _Entry] = {}
        self._planned: list[tuple[int, int, int, _Entry]] = []  # when, an order among equals, the occurrence, of what
        self._order = itertools.count()
        self._firing: set[str] = set()
        self._removed: set[str] = set()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Learn how far every entry has come. Raises StoreUnavailable."""
        self._marks.update(await self._store.marks(""))

    def set(
        self,
        name: str,
        schedule: Schedule,
        *,
        since_ms: int,
        fire: Fire,
        until_ms: int | None = None,
        window_ms: int = 0,
        finished: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Have `fire` called at every occurrence after `since_ms` and before `until_ms`, one at a time.

        An entry of that name is replaced; what its mark says has been fired is not fired again. With a window, each
        occurrence is fired at a moment within so many milliseconds of its time, the same in every process. `finished`
        is called when no occurrence is left, also when that is found after a restart. When `fire` raises
        StoreUnavailable, it is called again for the same occurrence.
        """
        entry = _Entry(name, schedule, since_ms, until_ms, fire, window_ms, finished)
        self._entries[name] = entry
        self._removed.discard(name)
        if name not in self._firing:
            self._plan(entry)

    def remove(self, name: str) -> None:
        """Fire it no more, and forget how far it has come."""
        if self._entries.pop(name, None) is not None:
            self._removed.add(name)
            self._changed.set()

    async def run(self) -> None:
        """Fire what is due, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                await self._forget_removed()
                now_ms = self._now_ms()
                while self._planned and self._planned[0][0] <= now_ms:
                    _, _, scheduled_ms, entry = heapq.heappop(self._planned)
                    if self._entries.get(entry.name) is not entry:
                        continue
                    if _FINISHED < scheduled_ms < self._oldest_ms(entry):  # the machine has slept for long
                        self._plan(entry)
                    else:
                        self._firing.add(entry.name)
                        group.create_task(self._carry_out(entry, scheduled_ms))
                await self._wait()

    def _plan(self, entry: _Entry) -> None:
        """Put the next occurrence of an entry into the heap; the occurrence `_FINISHED` when there is none."""
        after_ms = max(self._marks.get(entry.name, 0), entry.since_ms, self._oldest_ms(entry) - 1)
        scheduled_ms = entry.schedule.next_after(after_ms, since_ms=entry.since_ms)
        if scheduled_ms is not None and (entry.until_ms is None or scheduled_ms < entry.until_ms):
            due_ms = scheduled_ms + _delay_ms(entry, scheduled_ms)
        elif entry.finished is not None:
            due_ms, scheduled_ms = self._now_ms(), _FINISHED
        else:
            return
        if len(self._planned) > 2 * len(self._entries) + _SLACK:
            self._planned = [plan for plan in self._planned if self._entries.get(plan[3].name) is plan[3]]
            heapq.heapify(self._planned)
        heapq.heappush(self._planned, (due_ms, next(self._order), scheduled_ms, entry))
        if self._planned[0][3] is entry:
            self._changed.set()

    async def _carry_out(self, entry: _Entry, scheduled_ms: int) -> None:
        name = entry.name
        while self._entries.get(name) is entry:
            try:
                if scheduled_ms == _FINISHED:
                    assert entry.finished is not None
                    await entry.finished()
                else:
                    await entry.fire(scheduled_ms)
                    self._marks[name] = scheduled_ms
            except StoreUnavailable as error:
                logger.error("%s cannot be fired, it is tried again: %s", name, error)
                await self._clock.sleep(RETRY_S)
                continue
            except Exception:  # a fault of ours in one entry must not end the others: this occurrence is left out
                logger.exception("%s could not be fired", name)
                self._marks[name] = max(scheduled_ms, self._marks.get(name, 0))
            break
        self._firing.discard(name)
        current = self._entries.get(name)
        if current is None:
            self._removed.add(name)
            self._changed.set()
        elif current is not entry or scheduled_ms != _FINISHED:
            self._plan(current)

    async def _forget_removed(self) -> None:
        """Drop the marks of entries that are gone, before anything is fired under their names again."""
        await asyncio.gather(*(self._forget(name) for name in self._removed - self._firing))

    async def _forget(self, name: str) -> None:
        if name not in self._removed:  # it has been set again meanwhile
            return
        try:
            await self._store.forget_mark(name)
        except StoreUnavailable as error:  # it stays, and does no harm: it is older than any entry to come
            logger.warning("the mark of %s stays: %s", name, error)
        self._removed.discard(name)
        if name not in self._entries:
            self._marks.pop(name, None)

    async def _wait(self) -> None:
        """Until the first entry is due, an entry has changed, or a little has passed."""
        if self._changed.is_set():
            return
        if not self._planned:
            await self._changed.wait()
            return
        seconds = min(max(self._planned[0][0] / 1000 - self._clock.time(), 0.0), LOOK_S)
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        change = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((sleep, change), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            change.cancel()

    def _oldest_ms(self, entry: _Entry) -> int:
        """Occurrences before this are no longer made up."""
        return self._now_ms() - MADE_UP_MS - entry.window_ms

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)


def _delay_ms(entry: _Entry, scheduled_ms: int) -> int:
    """How far into its window an occurrence is fired."""
    if not entry.window_ms:
        return 0
    digest = hashlib.sha256(f"{entry.name} {scheduled_ms}".encode()).digest()
    return int.from_bytes(digest[:8]) % entry.window_ms

"""The durable queue of asynchronous work.

An event is on disk before it counts as accepted. Each lane runs by itself (`lanes`), so that one which is slow,
throttled or failing delays no other, and holds a bounded part of its events in memory, however many wait. What an
attempt comes to is written together with what others came to (`event_journal`); an event whose outcome is not on disk
when the daemon dies runs again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from lambdad.domain import retry_policy
from lambdad.domain.arns import FunctionKey
from lambdad.domain.events import Ending, Event
from lambdad.ports.clock import Clock
from lambdad.ports.events import EventRow, EventStore, LaneSummary, Selection
from lambdad.ports.store import StoreUnavailable
from lambdad.services.event_journal import EventJournal
from lambdad.services.lanes import FETCH, LANE_EVENTS, TICK_S, Lane

logger = logging.getLogger(__name__)

FETCH_BYTES: Final = 4 * 1024 * 1024
PURGE_BATCH: Final = 1_000
STORE_RETRY_S: Final = 1.0
FORGET_EVERY_S: Final = 30.0
EXPIRE_EVERY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Postponed:
    """An event that is to be tried again when it is due. `holds_lane`: others of its lane would fare no better."""

    event: Event
    holds_lane: bool


class Work(Protocol):
    """What is done with events."""

    async def attempt(self, event: Event, begun: Callable[[], None]) -> Ending | Postponed:
        """Try an event; `begun` is called once it has reached what it is for, if it does. Never raises."""

    def concurrency(self, lane: str) -> int | None:
        """How many events of a lane may run at once, if that is known."""

    def max_age_ms(self, lane: str) -> int | None:
        """The age at which an event of a lane ends, if that is known; `attempt` ends it then, and does nothing else."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """`initial_concurrency` of a lane before it is known how long its events take; `history` endings are remembered."""

    initial_concurrency: int
    history: int
    delay_scale: float


class EventQueue:
    """See the module."""

    def __init__(self, store: EventStore, work: Work, clock: Clock, limits: QueueLimits) -> None:
        self._store = store
        self._work = work
        self._clock = clock
        self._limits = limits
        self._journal = EventJournal(store, clock)
        self._lanes: dict[str, Lane] = {}
        self._wakes: dict[str, tuple[float, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempts: set[asyncio.Task[None]] = set()
        self._held_bytes = 0
        self._stopping = False
        self._closed = False

    async def recover(self) -> int:
        """Have what a daemon that died was running run again; returns how many events. To be called before `accept`.

        Raises StoreUnavailable.
        """
        return await self._store.recover()

    async def start(self) -> None:
        """Begin with what waits. Raises StoreUnavailable."""
        for state in await self._store.lanes():
            lane = self._lane(state.lane)
            lane.is_due(state.next_due_ms)
            self._pump(lane)

    async def forget_endings(self) -> None:
        """Keep the history within its bounds, for ever. The application runs this as a task."""
        while True:
            try:
                await self._store.forget_endings(self._limits.history)
            except StoreUnavailable as error:
                logger.error("old events cannot be forgotten: %s", error)
            await self._clock.sleep(FORGET_EVERY_S)

    async def expire(self) -> None:
        """End what has become too old before its turn came, for ever. The application runs this as a task."""
        while True:
            await self._clock.sleep(EXPIRE_EVERY_S)
            for lane in list(self._lanes.values()):
                max_age_ms = self._work.max_age_ms(lane.name)
                if max_age_ms is not None:
                    try:
                        await self._expire(lane, self._now_ms() - max_age_ms)
                    except StoreUnavailable as error:
                        logger.error("events of %s cannot be read yet: %s", lane.name, error)

    async def accept(self, event: Event) -> None:
        """Put an event into the queue; it is on disk when this returns. Raises StoreUnavailable."""
        lane = self._lane(event.lane)
        size = len(event.payload)
        now_ms = self._now_ms()
        leased = (
            not self._stopping
            and event.due_ms <= now_ms
            and not lane.streak
            and not lane.has_backlog(now_ms)
            and lane.held < LANE_EVENTS
            and size <= lane.room_bytes(self._held_bytes)
        )
        if leased:
            self._hold(lane, size)
        try:
            (number,) = await self._journal.accept((event,), leased=leased)
        except BaseException:  # whatever kept it from the disk, its room in memory is free again
            if leased:
                self._let_go(lane, size)
            raise
        if leased:
            lane.ready.append(replace(event, id=number))
        else:
            lane = self._lane(event.lane)
            lane.is_due(event.due_ms)
        self._pump(lane)

    async def accept_together(self, events: Sequence[Event], marks: Mapping[str, int]) -> None:
        """Put events into the queue and note marks, all or nothing; it is on disk when this returns.

        Raises StoreUnavailable.
        """
        await self._journal.accept(events, leased=False, marks=marks)
        self._have_arrived(event.lane for event in events)

    async def marks(self, prefix: str) -> Mapping[str, int]:
        """The marks whose names begin so. Raises StoreUnavailable."""
        return await self._store.marks(prefix)

    async def forget_mark(self, name: str) -> None:
        """Have no such mark any more. Raises StoreUnavailable."""
        await self._store.forget_mark(name)

    def hasten(self, key: FunctionKey) -> None:
        """A function has changed: what was throttled or met an error of the system may fare better now."""
        for lane in list(self._lanes.values()):
            is_held = lane.streak > 0 or lane.next_due_ms is not None
            if is_held and (lane.name == key.arn or lane.name.startswith(f"{key.arn}:")):
                self._spawn(self._hasten(lane))

    async def stop(self, seconds: float) -> None:
        """Start nothing any more, and give what runs so much time to come to an end that counts."""
        self._stopping = True
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=seconds)
        self._closed = True

    async def close(self) -> None:
        """Write the last outcomes. What still runs is not counted: it runs again when a daemon starts."""
        self._stopping = self._closed = True
        try:
            await self._journal.settle_all()
        except StoreUnavailable as error:
            logger.error("outcomes of events cannot be written; they will run again: %s", error)
        self._journal.close()
        for task in [*self._tasks, *(task for _, task in self._wakes.values())]:
            task.cancel()
        await self._store.close()

    # For people

    async def summaries(self) -> Sequence[LaneSummary]:
        """The figures of every lane."""
        running = {lane.name: lane.running for lane in self._lanes.values()}
        return [replace(found, running=running.get(found.lane, 0)) for found in await self._store.summaries()]

    async def rows(self, selection: Selection, *, dead: bool, limit: int) -> Sequence[EventRow]:
        """Events in the queue, or those that have ended badly."""
        return await self._store.rows(selection, dead=dead, limit=limit)

    async def endings(self, request_ids: Sequence[str]) -> Sequence[EventRow]:
        """The remembered endings of invocations with these request ids."""
        return await self._store.endings(request_ids)

    async def redrive(self, selection: Selection) -> int:
        """Send dead events again; returns how many."""
        lanes = await self._store.redrive(selection, self._now_ms())
        self._have_arrived(lanes)
        return len(lanes)

    async def purge(self, selection: Selection, *, dead: bool) -> int:
        """End what waits, or forget what is dead; returns how many."""
        total = 0
        while gone := Counter(await self._store.purge(selection, self._now_ms(), dead=dead, limit=PURGE_BATCH)):
            total += gone.total()
        return total

    # Lanes

    def _lane(self, name: str) -> Lane:
        """The lane of that name. One that is empty is forgotten: what has waited for something asks for it again."""
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(name, self._limits.initial_concurrency)
        return lane

    def _have_arrived(self, names: Iterable[str]) -> None:
        """Events wait on disk in these lanes, due now."""
        for name in set(names):
            lane = self._lane(name)
            lane.is_due(self._now_ms())
            self._pump(lane)

    def _pump(self, lane: Lane) -> None:
        """Start what may run, read what is to run next, and see to it that the lane is looked at again in time."""
        if self._stopping:
            return
        now_ms = self._now_ms()
        lane.look(self._clock.monotonic())
        lane.limit = self._work.concurrency(lane.name) or lane.limit
        while lane.can_start(now_ms):
            self._begin_attempt(lane, lane.ready.popleft())
        limit = lane.wants(now_ms)
        if limit > 0 and (not lane.held or lane.room_bytes(self._held_bytes) > 0):
            lane.fetching = True
            self._spawn(self._fetch(lane, limit))
        self._wake_in_time(lane, now_ms)
        if lane.is_empty and self._lanes.get(lane.name) is lane:
            del self._lanes[lane.name]

    def _wake_in_time(self, lane: Lane, now_ms: int) -> None:
        if lane.ready and now_ms >= lane.paused_until_ms:
            delay_s = TICK_S
        elif (lane.ready or lane.next_due_ms is not None) and not lane.fetching:
            due_ms = now_ms if lane.ready else lane.next_due_ms or now_ms
            delay_s = (max(due_ms, lane.paused_until_ms) - now_ms) / 1000
            if delay_s <= 0:
                return  # it has enough in memory: the next that ends has it looked at
        else:
            return
        wakes_at = self._clock.monotonic() + delay_s
        planned = self._wakes.get(lane.name)
        if planned is not None:
            if planned[0] <= wakes_at:
                return
            planned[1].cancel()
        self._wakes[lane.name] = wakes_at, asyncio.get_running_loop().create_task(self._wake(lane.name, delay_s))

    async def _wake(self, name: str, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        del self._wakes[name]
        self._pump(self._lane(name))

    async def _fetch(self, lane: Lane, limit: int) -> None:
        lane.next_due_ms = None  # so that what arrives while this reads is not taken for what it has left
        room = min(FETCH_BYTES, lane.room_bytes(self._held_bytes))
        try:
            leased = await self._store.lease(lane.name, self._now_ms(), limit, room)
        except StoreUnavailable as error:
            logger.error("events of %s cannot be read yet: %s", lane.name, error)
            lane.is_due(self._now_ms() + round(STORE_RETRY_S * 1000))
        else:
            for event in leased.events:
                self._hold(lane, len(event.payload))
            lane.ready.extend(leased.events)
            if leased.next_due_ms is not None:
                lane.is_due(leased.next_due_ms)
        lane.fetching = False
        self._pump(lane)

    async def _expire(self, lane: Lane, last_accepted_ms: int) -> None:
        """End the events of a lane that were accepted until then and do not run."""
        old = [event for event in lane.ready if event.accepted_ms <= last_accepted_ms]
        lane.ready = deque(event for event in lane.ready if event.accepted_ms > last_accepted_ms)
        for event in old:
            self._begin_attempt(lane, event)
        old_on_disk = lane.next_due_ms is not None
        while old_on_disk:
            leased = await self._store.lease_older(lane.name, last_accepted_ms + 1, FETCH, FETCH_BYTES)
            lane = self._lane(lane.name)
            for event in leased.events:
                self._hold(lane, len(event.payload))
                self._begin_attempt(lane, event)
            old_on_disk = bool(leased.events)

    async def _hasten(self, lane: Lane) -> None:
        try:
            await self._store.hasten(lane.name, self._now_ms())
        except StoreUnavailable as error:
            logger.error("events of %s wait for their time: %s", lane.name, error)
            return
        lane = self._lane(lane.name)
        lane.resume()
        lane.is_due(self._now_ms())
        self._pump(lane)

    # Attempts

    def _begin_attempt(self, lane: Lane, event: Event) -> None:
        lane.running += 1
        task = asyncio.get_running_loop().create_task(self._attempt(lane, event))
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)

    async def _attempt(self, lane: Lane, event: Event) -> None:
        streak = lane.streak
        has_begun = False

        def begun() -> None:
            nonlocal has_begun
            lane.begun += not has_begun
            has_begun = True

        result = await self._work.attempt(event, begun)
        if self._closed:
            return  # it was cut short by the daemon's end, and is leased: it runs again
        lane.running -= 1
        lane.begun -= has_begun
        size = len(event.payload)
        if result.event.invocations > event.invocations:
            lane.finished(streak)
        if isinstance(result, Ending):
            self._journal.settle(result, lambda: self._ended(lane, size, result))
        else:
            if result.holds_lane:
                wait_ms = retry_policy.backoff_ms(streak + 1, self._limits.delay_scale)
                lane.hold_back(streak, self._now_ms() + wait_ms)
            self._journal.settle(result.event, lambda: self._put_back(lane, size, result.event.due_ms))
        self._pump(lane)

    def _ended(self, lane: Lane, size: int, ending: Ending) -> None:
        self._let_go(lane, size)
        self._have_arrived(follow_up.lane for follow_up in ending.follow_ups)
        self._pump(lane)

    def _put_back(self, lane: Lane, size: int, due_ms: int) -> None:
        self._let_go(lane, size)
        lane.is_due(due_ms)
        self._pump(lane)

    def _hold(self, lane: Lane, size: int) -> None:
        lane.hold(size)
        self._held_bytes += size

    def _let_go(self, lane: Lane, size: int) -> None:
        lane.let_go(size)
        self._held_bytes -= size

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

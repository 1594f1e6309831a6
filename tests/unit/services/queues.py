"""An event queue in memory, with work that does as it is told."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_events import MemoryEventStore
from lambdad.domain.events import Condition, Ending, Event
from lambdad.services.event_queue import EventQueue, Postponed, QueueLimits

F = "arn:aws:lambda:us-east-1:000000000000:function:f"
G = "arn:aws:lambda:us-east-1:000000000000:function:g"

Act = Callable[[Event, int], Ending | Postponed]
"""Takes the event and the present time, in milliseconds."""


def succeed(event: Event, now_ms: int) -> Ending | Postponed:
    return Ending(replace(event, invocations=event.invocations + 1, backoffs=0), Condition.SUCCESS, now_ms)


def throttle(event: Event, now_ms: int) -> Ending | Postponed:
    return Postponed(replace(event, backoffs=event.backoffs + 1, due_ms=now_ms + 1_000), holds_lane=True)


def retry_in(delay_ms: int) -> Act:
    def act(event: Event, now_ms: int) -> Ending | Postponed:
        return Postponed(replace(event, invocations=event.invocations + 1, due_ms=now_ms + delay_ms), holds_lane=False)

    return act


class FakeWork:
    """Does `acts` in turn, then what `always` says. With `holds` an attempt waits until `release` lets it go."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.always: dict[str, Act] = {}
        self.acts: deque[Act] = deque()
        self.holds: set[str] = set()
        self.limits: dict[str, int] = {}
        self.ages_ms: dict[str, int] = {}
        self.has_no_environment: set[str] = set()
        self.tried: list[Event] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()

    def concurrency(self, lane: str) -> int | None:
        return self.limits.get(lane)

    def max_age_ms(self, lane: str) -> int | None:
        return self.ages_ms.get(lane)

    async def attempt(self, event: Event, begun: Callable[[], None]) -> Ending | Postponed:
        self.tried.append(event)
        if event.lane not in self.has_no_environment:
            begun()
        self.running[event.lane] += 1
        self.most[event.lane] = max(self.most[event.lane], self.running[event.lane])
        now_ms = int(self._clock.time() * 1000)
        if now_ms - event.accepted_ms >= self.ages_ms.get(event.lane, now_ms):
            self.running[event.lane] -= 1
            return Ending(event, Condition.EVENT_AGE_EXCEEDED, now_ms)
        if event.lane in self.holds:
            gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((event.lane, gate))
            await gate
        self.running[event.lane] -= 1
        act = self.acts.popleft() if self.acts else self.always.get(event.lane, succeed)
        return act(event, int(self._clock.time() * 1000))

    def release(self, lane: str) -> None:
        """Every attempt of the lane that waits goes on, and none waits any more."""
        self.holds.discard(lane)
        for _, gate in [place for place in self._waiting if place[0] == lane]:
            if not gate.done():
                gate.set_result(None)

    def tries(self, lane: str) -> int:
        return sum(event.lane == lane for event in self.tried)


class Waiting:
    """A queue, its store, its clock and its work."""

    def __init__(self, store: MemoryEventStore | None = None) -> None:
        self.clock = FakeClock()
        self.store = store or MemoryEventStore()
        self.work = FakeWork(self.clock)
        self.queue = EventQueue(self.store, self.work, self.clock, QueueLimits(4, history=100, delay_scale=1.0))

    @property
    def now_ms(self) -> int:
        return int(self.clock.time() * 1000)

    def event(self, lane: str = F, request_id: str = "r", payload: bytes = b"{}") -> Event:
        return Event(0, lane, request_id, payload, self.now_ms, self.now_ms)

    async def accept(self, count: int = 1, lane: str = F, payload: bytes = b"{}") -> None:
        for number in range(count):
            await self.queue.accept(self.event(lane, f"r{number}", payload))

    async def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        for _ in range(20):
            await self.clock.advance(0)

    async def conditions(self, *request_ids: str) -> list[Condition | None]:
        """How these requests have ended, in the order in which they were asked for."""
        found = {row.request_id: row.condition for row in await self.store.endings(request_ids)}
        return [found.get(request_id) for request_id in request_ids]

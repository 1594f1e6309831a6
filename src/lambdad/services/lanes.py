"""One lane of the event queue: what of it is in memory, and how much of it may run at once.

A lane begins with few events at a time. Functions that answer quickly need no more. While they take long, the number
doubles each time that this is looked at, up to the function's reserved concurrency or a thousand; unless few of those
that were let in have reached an environment: then others would only wait there instead of here. A lane that was
throttled, or met an error of the system, pauses, and then tries one event alone; when that one gets through, the others
follow.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.events import Event

TICK_S: Final = 0.05
"""How often a busy lane is looked at."""
QUICK_S: Final = 0.005
"""An event that takes no longer than this does not gain from more at once: the processors are what it waits for."""
WAITING_FOR_EACH: Final = 4
"""So many are let in for each that runs: from how many wait, the pool tells how many environments it takes."""
LANE_EVENTS: Final = quotas.CONCURRENT_EXECUTIONS
"""So many events of a lane are in memory."""
LANE_BYTES: Final = 1024 * 1024
"""So much payload of a lane is in memory whatever the others hold."""
ALL_BYTES: Final = 64 * 1024 * 1024
"""So much payload all lanes together hold, beyond what each may hold in any case."""
FETCH: Final = 256
"""So many events are read at once."""


@dataclass(slots=True, eq=False)
class Lane:
    """See the module. Times are milliseconds since the epoch."""

    name: str
    initial: int
    limit: int = LANE_EVENTS
    ready: deque[Event] = field(default_factory=deque)
    running: int = 0
    begun: int = 0
    """Of those that run, how many have reached what they are for."""
    held: int = 0
    """Events in memory: ready, running, or with an outcome that is being written."""
    held_bytes: int = 0
    allowed: int = 0
    next_due_ms: int | None = None
    """When the first of those that wait on disk is due; None when none wait."""
    paused_until_ms: int = 0
    streak: int = 0
    """How often in a row it was held back."""
    fetching: bool = False
    served: int = 0
    looked_at_s: float = 0.0

    def __post_init__(self) -> None:
        self.allowed = self.initial

    @property
    def is_empty(self) -> bool:
        return not self.held and self.next_due_ms is None and not self.fetching

    def has_backlog(self, now_ms: int) -> bool:
        """Whether events that could run wait on disk: a new one is not to overtake them."""
        return self.fetching or (self.next_due_ms is not None and self.next_due_ms <= now_ms)

    def room_bytes(self, all_bytes: int) -> int:
        """How much payload it may take into memory."""
        return max(LANE_BYTES - self.held_bytes, ALL_BYTES - all_bytes)

    def hold(self, size: int) -> None:
        self.held += 1
        self.held_bytes += size

    def let_go(self, size: int) -> None:
        self.held -= 1
        self.held_bytes -= size

    @property
    def at_once(self) -> int:
        """How many events may run."""
        return 1 if self.streak else min(self.allowed, self.limit)

    def can_start(self, now_ms: int) -> bool:
        """Whether the next ready event may run."""
        return bool(self.ready) and self.running < self.at_once and now_ms >= self.paused_until_ms

    def wants(self, now_ms: int) -> int:
        """How many events to read from disk."""
        if self.fetching or self.next_due_ms is None or self.next_due_ms > now_ms or now_ms < self.paused_until_ms:
            return 0
        if len(self.ready) >= max(FETCH // 2, self.at_once):
            return 0
        return min(FETCH, LANE_EVENTS - self.held)

    def is_due(self, due_ms: int) -> None:
        """An event waits on disk until then."""
        self.next_due_ms = due_ms if self.next_due_ms is None else min(self.next_due_ms, due_ms)

    def finished(self, started_in_streak: int) -> None:
        """An attempt has reached what it was for. Nothing holds the lane back unless something did since it started."""
        self.served += 1
        if started_in_streak == self.streak:
            self.resume()

    def hold_back(self, started_in_streak: int, until_ms: int) -> None:
        """Nothing runs until then, and little at first. Those that were held back together count as one."""
        self.streak = max(self.streak, started_in_streak + 1)
        self.paused_until_ms = max(self.paused_until_ms, until_ms)
        self.allowed = 1

    def resume(self) -> None:
        """What held it back is over."""
        self.streak = 0
        self.paused_until_ms = 0

    def look(self, now_s: float) -> None:
        """Let more run at once if those that run are slow and others wait for them."""
        passed_s = now_s - self.looked_at_s
        if round(passed_s, 3) < TICK_S:  # timers keep to the millisecond
            return
        if not self.ready and not self.running:
            self.allowed = self.initial
        elif self.allowed < self.initial:
            self.allowed = min(2 * self.allowed, self.initial)
        elif (
            self.ready
            and WAITING_FOR_EACH * self.begun >= self.allowed
            and passed_s * self.allowed > QUICK_S * self.served
        ):
            self.allowed = min(2 * self.allowed, LANE_EVENTS)
        self.served = 0
        self.looked_at_s = now_s

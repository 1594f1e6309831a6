"""Where asynchronous work waits, is leased, and leaves the record of its end.

Everything here is durable when it returns. An event that was leased and neither put back nor ended belongs to a daemon
that has died: `recover` makes it wait again. Nothing here says what kind of database it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lambdad.domain.events import Condition, Ending, Event, Purpose


@dataclass(slots=True)
class Changes:
    """Changes that are made together or not at all.

    `accepted` wait, `leased` are accepted and leased in one, `postponed` go back (their lease ends, their counters and
    `due_ms` are kept), `endings` are recorded, their events removed and their follow-ups accepted. `marks` say how far
    those have come that send events: a mark only grows, a smaller number is passed over.
    """

    accepted: list[Event] = field(default_factory=list)
    leased: list[Event] = field(default_factory=list)
    postponed: list[Event] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LaneState:
    """What waits in a lane, without what is leased."""

    lane: str
    next_due_ms: int


@dataclass(frozen=True, slots=True)
class Leased:
    """Events taken from a lane, and when the next one of those that remain is due; None when none remain."""

    events: Sequence[Event]
    next_due_ms: int | None


@dataclass(frozen=True, slots=True)
class LaneSummary:
    """The figures of a lane. `waiting` were never tried, `retrying` were; `dead` ended badly and were not redriven."""

    lane: str
    waiting: int = 0
    retrying: int = 0
    leased: int = 0
    dead: int = 0
    ended: int = 0
    """Endings that are remembered, `dead` and redriven ones among them."""
    oldest_accepted_ms: int | None = None
    """Of all that is in the queue, leased or not."""
    next_due_ms: int | None = None
    """Of what is not leased."""
    running: int = 0
    """How many of the leased really run; a store does not know, and says 0."""


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as people see it: in the queue when `condition` is None, else ended."""

    id: int
    lane: str
    request_id: str
    purpose: Purpose
    accepted_ms: int
    due_ms: int
    invocations: int
    backoffs: int
    error_code: int
    error_message: str
    source: str
    leased: bool = False
    condition: Condition | None = None
    ended_ms: int | None = None
    redriven_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events: those of the lane `lane`, and of lanes that are `lane`, a colon and more; of all when it is empty.

    So the ARN of a function stands for its versions and aliases too. `ids` narrows it to certain events.
    """

    lane: str = ""
    ids: tuple[int, ...] = ()


class EventStore(Protocol):
    """The queue on disk. Every method raises StoreUnavailable when it cannot do its part, having changed nothing.

    Those that may concern any number of events (`hasten`, `redrive`, `forget_endings`) go in steps, so that others need
    not wait for them; what the steps before have changed stays changed.
    """

    async def apply(self, changes: Changes) -> Sequence[int]:
        """Make the changes. Returns the ids of `accepted`, then of `leased`, in their order.

        An ending or postponement of an event that is not in the queue is passed over: repeating one is harmless.
        """

    async def recover(self) -> int:
        """Make every leased event wait again, due at once; returns how many. Called once, before anything is leased."""

    async def lanes(self) -> Sequence[LaneState]:
        """The lanes in which something waits."""

    async def lease(self, lane: str, due_ms: int, limit: int, max_bytes: int) -> Leased:
        """Take waiting events that are due, the longest due first.

        At most `limit`, and of payloads not more than `max_bytes`, but one event at least.
        """

    async def lease_older(self, lane: str, accepted_before_ms: int, limit: int, max_bytes: int) -> Leased:
        """Take waiting events that were accepted before then, the oldest first, whether they are due or not."""

    async def hasten(self, lane: str, now_ms: int) -> None:
        """What waits in a lane for its next attempt after a throttle or a system error is due now."""

    async def summaries(self) -> Sequence[LaneSummary]:
        """The figures of every lane that has any, by name."""

    async def rows(self, selection: Selection, *, dead: bool, limit: int) -> Sequence[EventRow]:
        """What is in the queue, the next due first; with `dead` what has ended badly, the last first."""

    async def endings(self, request_ids: Sequence[str]) -> Sequence[EventRow]:
        """The remembered endings of invocations with these request ids."""

    async def redrive(self, selection: Selection, now_ms: int) -> Sequence[str]:
        """Accept dead events again as new ones, each once: the request id stays, age and attempts begin anew.

        Returns the lane of each.
        """

    async def purge(self, selection: Selection, now_ms: int, *, dead: bool, limit: int) -> Sequence[str]:
        """End at most `limit` waiting events as purged; with `dead` forget dead ones and their payloads instead.

        Returns the lane of each. What is leased is left alone.
        """

    async def forget_endings(self, keep: int) -> int:
        """Keep the last `keep` endings that succeeded and as many others; returns how many are gone."""

    async def marks(self, prefix: str) -> Mapping[str, int]:
        """The marks whose names begin so."""

    async def forget_mark(self, name: str) -> None:
        """Have no such mark any more, if there is one."""

    async def close(self) -> None:
        """Finish what was accepted, and close."""

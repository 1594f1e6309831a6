"""The event store in memory, for tests: the contract of the real one without its disk and its threads."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lambdad.domain.events import SUCCEEDED, Condition, Ending, Event, Purpose
from lambdad.ports.events import Changes, EventRow, LaneState, LaneSummary, Leased, Selection
from lambdad.ports.store import StoreUnavailable


@dataclass(frozen=True, slots=True)
class _Ended:
    """An ending that is remembered; its event has a payload only while it is dead."""

    event: Event
    condition: Condition
    ended_ms: int
    redriven_ms: int | None = None

    @property
    def is_dead(self) -> bool:
        return self.condition not in {*SUCCEEDED, Condition.PURGED} and self.redriven_ms is None


class MemoryEventStore:
    """An `EventStore` that forgets everything with its process. While `failure` is set, every method raises it."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self._waiting: dict[int, Event] = {}
        self._leased: dict[int, Event] = {}
        self._ended: dict[int, _Ended] = {}
        self._marks: dict[str, int] = {}
        self._last_id = 0
        self._closed = False

    async def apply(self, changes: Changes) -> Sequence[int]:
        await self._turn()
        ids = [self._accept(self._waiting, event) for event in changes.accepted]
        ids += [self._accept(self._leased, event) for event in changes.leased]
        for event in changes.postponed:
            queued = self._take(event.id)
            if queued is not None:
                self._waiting[event.id] = replace(
                    queued,
                    due_ms=event.due_ms,
                    trace=event.trace,
                    invocations=event.invocations,
                    backoffs=event.backoffs,
                    error_code=event.error_code,
                    error_message=event.error_message,
                )
        ended = [ending for ending in changes.endings if self._end(ending)]
        for ending in ended:
            for event in ending.follow_ups:
                self._accept(self._waiting, event)
        for name, value in changes.marks.items():
            self._marks[name] = max(value, self._marks.get(name, value))
        return ids

    async def recover(self) -> int:
        await self._turn()
        recovered = len(self._leased)
        for number, event in self._leased.items():
            self._waiting[number] = replace(event, due_ms=event.accepted_ms)
        self._leased.clear()
        return recovered

    async def lanes(self) -> Sequence[LaneState]:
        await self._turn()
        due_ms: dict[str, int] = {}
        for event in self._waiting.values():
            due_ms[event.lane] = min(event.due_ms, due_ms.get(event.lane, event.due_ms))
        return [LaneState(lane, first_ms) for lane, first_ms in due_ms.items()]

    async def lease(self, lane: str, due_ms: int, limit: int, max_bytes: int) -> Leased:
        await self._turn()
        due = [event for event in self._waiting.values() if event.lane == lane and event.due_ms <= due_ms]
        return self._lease(lane, sorted(due, key=_by_due), limit, max_bytes)

    async def lease_older(self, lane: str, accepted_before_ms: int, limit: int, max_bytes: int) -> Leased:
        await self._turn()
        old = [e for e in self._waiting.values() if e.lane == lane and e.accepted_ms < accepted_before_ms]
        return self._lease(lane, sorted(old, key=lambda event: (event.accepted_ms, event.id)), limit, max_bytes)

    async def hasten(self, lane: str, now_ms: int) -> None:
        await self._turn()
        for event in list(self._waiting.values()):
            if event.lane == lane and event.backoffs > 0 and event.due_ms > now_ms:
                self._waiting[event.id] = replace(event, due_ms=now_ms)

    async def summaries(self) -> Sequence[LaneSummary]:
        await self._turn()
        queued = [*self._waiting.values(), *self._leased.values()]
        retrying = Counter(event.lane for event in self._waiting.values() if event.is_retried)
        waiting = Counter(event.lane for event in self._waiting.values())
        leased = Counter(event.lane for event in self._leased.values())
        dead = Counter(ended.event.lane for ended in self._ended.values() if ended.is_dead)
        ended = Counter(ended.event.lane for ended in self._ended.values())
        return [
            LaneSummary(
                lane,
                waiting=waiting[lane] - retrying[lane],
                retrying=retrying[lane],
                leased=leased[lane],
                dead=dead[lane],
                ended=ended[lane],
                oldest_accepted_ms=min((event.accepted_ms for event in queued if event.lane == lane), default=None),
                next_due_ms=self._next_due_ms(lane),
            )
            for lane in sorted({*waiting, *leased, *ended})
        ]

    async def rows(self, selection: Selection, *, dead: bool, limit: int) -> Sequence[EventRow]:
        await self._turn()
        if dead:
            chosen = sorted(self._dead(selection), key=_by_end, reverse=True)
            return [_ended_row(ended) for ended in chosen[:limit]]
        queued = sorted(_selected(selection, [*self._waiting.values(), *self._leased.values()]), key=_by_due)
        return [replace(_row(event), leased=event.id in self._leased) for event in queued[:limit]]

    async def endings(self, request_ids: Sequence[str]) -> Sequence[EventRow]:
        await self._turn()
        return [
            _ended_row(ended)
            for _, ended in sorted(self._ended.items())
            if ended.event.request_id in request_ids and ended.event.purpose is Purpose.INVOCATION
        ]

    async def redrive(self, selection: Selection, now_ms: int) -> Sequence[str]:
        await self._turn()
        dead = sorted(self._dead(selection), key=_by_end)
        for ended in dead:
            event = ended.event
            self._accept(
                self._waiting,
                Event(
                    0,
                    event.lane,
                    event.request_id,
                    event.payload,
                    now_ms,
                    now_ms,
                    event.purpose,
                    event.trace,
                    source=event.source,
                ),
            )
            self._ended[event.id] = replace(ended, event=replace(event, payload=b""), redriven_ms=now_ms)
        return [ended.event.lane for ended in dead]

    async def purge(self, selection: Selection, now_ms: int, *, dead: bool, limit: int) -> Sequence[str]:
        await self._turn()
        if dead:
            gone = [ended.event for ended in sorted(self._dead(selection), key=_by_end)[:limit]]
            for event in gone:
                del self._ended[event.id]
        else:
            gone = sorted(_selected(selection, self._waiting.values()), key=_by_due)[:limit]
            for event in gone:
                self._end(Ending(event, Condition.PURGED, now_ms))
        return [event.lane for event in gone]

    async def forget_endings(self, keep: int) -> int:
        await self._turn()
        before = len(self._ended)
        for succeeded in (True, False):
            alike = [ended for ended in self._ended.values() if (ended.condition in SUCCEEDED) is succeeded]
            for ended in sorted(alike, key=_by_end, reverse=True)[keep:]:
                del self._ended[ended.event.id]
        return before - len(self._ended)

    async def marks(self, prefix: str) -> Mapping[str, int]:
        await self._turn()
        return {name: value for name, value in self._marks.items() if name.startswith(prefix)}

    async def forget_mark(self, name: str) -> None:
        await self._turn()
        self._marks.pop(name, None)

    async def close(self) -> None:
        self._closed = True

    async def _turn(self) -> None:
        """As the real store does, let others run first: a service must not count on being alone."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure

    def _accept(self, queue: dict[int, Event], event: Event) -> int:
        self._last_id += 1
        queue[self._last_id] = replace(event, id=self._last_id)
        return self._last_id

    def _take(self, number: int) -> Event | None:
        return self._waiting.pop(number, None) or self._leased.pop(number, None)

    def _end(self, ending: Ending) -> bool:
        """Whether the event was in the queue, and has ended now."""
        queued = self._take(ending.event.id)
        if queued is None:
            return False
        ended = _Ended(ending.event, ending.condition, ending.ended_ms)
        payload = queued.payload if ended.is_dead else b""
        self._ended[queued.id] = replace(ended, event=replace(ending.event, payload=payload))
        return True

    def _lease(self, lane: str, chosen: Sequence[Event], limit: int, max_bytes: int) -> Leased:
        events: list[Event] = []
        left_bytes = max_bytes
        for event in chosen[:limit]:
            left_bytes -= len(event.payload)
            if events and left_bytes < 0:
                break
            events.append(event)
            self._leased[event.id] = self._waiting.pop(event.id)
        return Leased(events, self._next_due_ms(lane))

    def _next_due_ms(self, lane: str) -> int | None:
        return min((event.due_ms for event in self._waiting.values() if event.lane == lane), default=None)

    def _dead(self, selection: Selection) -> list[_Ended]:
        dead = {number: ended for number, ended in self._ended.items() if ended.is_dead}
        return [dead[event.id] for event in _selected(selection, (ended.event for ended in dead.values()))]


def _by_due(event: Event) -> tuple[int, int]:
    return event.due_ms, event.id


def _by_end(ended: _Ended) -> tuple[int, int]:
    return ended.ended_ms, ended.event.id


def _selected(selection: Selection, events: Iterable[Event]) -> list[Event]:
    below = f"{selection.lane}:"
    return [
        event
        for event in events
        if (not selection.ids or event.id in selection.ids)
        and (selection.lane in {"", event.lane} or (event.lane.startswith(below) and event.lane != below))
    ]


def _row(event: Event) -> EventRow:
    return EventRow(
        event.id,
        event.lane,
        event.request_id,
        event.purpose,
        event.accepted_ms,
        event.due_ms,
        event.invocations,
        event.backoffs,
        event.error_code,
        event.error_message,
        event.source,
    )


def _ended_row(ended: _Ended) -> EventRow:
    return replace(_row(ended.event), condition=ended.condition, ended_ms=ended.ended_ms, redriven_ms=ended.redriven_ms)

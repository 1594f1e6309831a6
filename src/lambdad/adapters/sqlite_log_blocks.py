"""Blocks: how the events of a stream lie in `logs.db`, many in a row of it, and how blocks are read in order.

A block has events of one stream, sorted by time, with sequences that follow one another. It lies within a window of
time: of two blocks whose windows differ, one is wholly before the other, and so a block that reaches into a range of
time is found by the time of its first event. Within a window, blocks may overlap.

To read backwards, everything is mirrored: with their times and sequences negated, the newest events come first.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

import msgspec

from lambdad.ports.logs import EventRange

WINDOW_MS: Final = 2000
"""Part of the format on disk."""
BLOCK_EVENTS: Final = 1000
BLOCK_CHARACTERS: Final = 256 * 1024
"""A block has no more text than this, unless it has one event."""

Columns = tuple[Sequence[int], Sequence[str]]
"""The times of a block's events in milliseconds, ascending, and their messages."""
Place = tuple[int, int]
"""The time and the sequence of an event, both negated where a read goes backwards."""

_AFTER_EVERYTHING: Final = (2**64, 0)
_decoder: Final = msgspec.msgpack.Decoder(tuple[list[int], list[str]])


def divided(events: Sequence[tuple[int, str]]) -> Iterator[Columns]:
    """Divide events, one at least, into what goes into one block each."""
    # This is the path of every line that a function prints: whole columns are handled in C, and no event by itself.
    times, messages = zip(*events, strict=True)
    if list(times) != sorted(times):
        # Events of one millisecond stay in the order in which they arrived, and their sequences will say so.
        times, messages = zip(*sorted(events, key=itemgetter(0)), strict=True)
    start = 0
    while start < len(times):
        window_end_ms = (times[start] // WINDOW_MS + 1) * WINDOW_MS
        end = bisect_left(times, window_end_ms, start, min(len(times), start + BLOCK_EVENTS))
        while end - start > 1 and sum(map(len, messages[start:end])) > BLOCK_CHARACTERS:
            end = (start + end + 1) // 2
        yield times[start:end], messages[start:end]
        start = end


def encoded(columns: Columns) -> bytes:
    return msgspec.msgpack.encode(columns)


def decoded(content: bytes) -> tuple[list[int], list[str]]:
    return _decoder.decode(content)


@dataclass(frozen=True, slots=True)
class Span:
    """Which events a read returns: from the place `low` on, before `high`, as seen in its direction."""

    low: Place
    high: Place
    forward: bool

    @classmethod
    def of(cls, events: EventRange) -> Span:
        # Sequences begin at 1.
        beyond = events.beyond
        if events.forward:
            low = (events.start_ms, 0)
            if beyond is not None:
                low = max(low, (beyond.timestamp_ms, beyond.sequence + 1))
            return cls(low, (events.end_ms, 0), True)
        low = (-events.end_ms, 1)
        if beyond is not None:
            low = max(low, (-beyond.timestamp_ms, 1 - beyond.sequence))
        return cls(low, (-events.start_ms, 1), False)

    @property
    def times_ms(self) -> tuple[int, int]:
        """No event is before the first of these, nor after the second."""
        return (self.low[0], self.high[0]) if self.forward else (-self.high[0], -self.low[0])


@dataclass(frozen=True, slots=True)
class Block:
    """What is known of a block before its events are read."""

    sequence: int
    first_ms: int
    last_ms: int
    events: int
    stream: str

    def edge(self, forward: bool) -> Place:
        """The place of the event that a read meets first."""
        if forward:
            return self.first_ms, self.sequence
        return -self.last_ms, 1 - self.sequence - self.events


@dataclass(frozen=True, slots=True)
class Run:
    """The events of a block in the direction of a read, and the sequence of the first of them."""

    stream: str
    ingested_ms: int
    sequence: int
    times: Sequence[int]
    messages: Sequence[str]

    def index(self, place: Place) -> int:
        """How many events are before a place."""
        time, sequence = place
        index = bisect_left(self.times, time)
        if index == len(self.times) or self.times[index] > time:
            return index
        return min(max(index, sequence - self.sequence), bisect_right(self.times, time, index))


Load = Callable[[Block], tuple[int, bytes]]
"""Reads when a block was ingested, and its content."""


def _run(block: Block, load: Load, forward: bool) -> Run:
    ingested_ms, content = load(block)
    times, messages = decoded(content)
    if forward:
        return Run(block.stream, ingested_ms, block.sequence, times, messages)
    times.reverse()
    messages.reverse()
    return Run(block.stream, ingested_ms, 1 - block.sequence - block.events, [-time for time in times], messages)


def by_edge(blocks: Iterable[Block], forward: bool) -> Iterator[Block]:
    """Blocks in the order of their edges; they are given by their first events, in the direction of the read."""
    if forward:
        yield from blocks
        return
    for _, window in itertools.groupby(blocks, key=lambda block: block.first_ms // WINDOW_MS):
        yield from sorted(window, key=lambda block: block.edge(False))


def in_order(blocks: Iterable[Block], load: Load, span: Span) -> Iterator[tuple[Run, int, int]]:
    """The events of blocks that are given in the order of their edges, as pieces of runs: from an index to another.

    A block is loaded when the read reaches its edge.
    """
    heap: list[tuple[int, int, Run]] = []
    for block in itertools.chain(blocks, (None,)):
        edge = _AFTER_EVERYTHING if block is None else block.edge(span.forward)
        while heap and heap[0] < edge:
            time, sequence, run = heap[0]
            start = sequence - run.sequence
            end = run.index(min(edge, span.high, *(following[:2] for following in heap[1:3])))
            yield run, start, end
            if end < len(run.times):
                heapq.heapreplace(heap, (run.times[end], run.sequence + end, run))
            else:
                heapq.heappop(heap)
            # TODO high
        if block is not None:
            run = _run(block, load, span.forward)
            start = run.index(span.low)
            if start < len(run.times):
                heapq.heappush(heap, (run.times[start], run.sequence + start, run))

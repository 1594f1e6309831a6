"""Blocks: how the events of a stream lie in `logs.db`, many in a row of it, and how blocks are read in order.

A block has events of one stream, sorted by time, with sequences that follow one another. It lies within a window of
time: of two blocks whose windows differ, one is wholly before the other, and so a block that reaches into a range of
time is found by the time of its first event. Within a window, blocks may overlap.

To read backwards, everything is mirrored: with their times and sequences negated, the newest events come first.
"""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from lambdad.domain.logs import EVENT_OVERHEAD_BYTES, utf8_bytes
from lambdad.ports.logs import EventRange

WINDOW_MS: Final = 2000
"""Part of the format on disk."""
BLOCK_EVENTS: Final = 1000
BLOCK_BYTES: Final = 256 * 1024
"""A block has no more than this, unless it has one event."""

Columns = tuple[Sequence[int], Sequence[str]]
"""The times of a block's events in milliseconds, ascending, and their messages."""
Place = tuple[int, int]
"""The time and the sequence of an event, both negated where a read goes backwards."""

SMALL_BYTES: Final = 2048
"""A content up to this is read with what finds the block; one above it when the events are needed."""
CACHED_BYTES: Final = 8 * 1024 * 1024
"""What a connection remembers of the larger ones."""
BLOCK_MEMORY_BYTES: Final = 600
EVENT_MEMORY_BYTES: Final = 100
"""What a block and an event take in memory beside the text."""

_decoder: Final = msgspec.msgpack.Decoder(tuple[list[int], list[str]])


def divided(events: Sequence[tuple[int, str]]) -> Iterator[tuple[Columns, int]]:
    """Divide events, one at least, into what goes into one block each, and its bytes as PutLogEvents counts them."""
    # This is the path of every line that a function prints: whole columns are handled in C, and no event by itself.
    times, messages = zip(*events, strict=True)
    if list(times) != sorted(times):
        # Events of one millisecond stay in the order in which they arrived, and their sequences will say so.
        times, messages = zip(*sorted(events, key=itemgetter(0)), strict=True)
    start = 0
    while start < len(times):
        window_end_ms = (times[start] // WINDOW_MS + 1) * WINDOW_MS
        end = bisect_left(times, window_end_ms, start, min(len(times), start + BLOCK_EVENTS))
        size = stored_bytes(messages[start:end])
        while size > BLOCK_BYTES and end - start > 1:
            end = (start + end + 1) // 2
            size = stored_bytes(messages[start:end])
        yield (times[start:end], messages[start:end]), size
        start = end


def stored_bytes(messages: Sequence[str]) -> int:
    return utf8_bytes("".join(messages)) + EVENT_OVERHEAD_BYTES * len(messages)


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


class Block(NamedTuple):
    """A block, with its content when that is small, or else without."""

    sequence: int
    first_ms: int
    last_ms: int
    events: int
    ingested_ms: int
    stream: str
    content: bytes | None


def edge(block: Block, forward: bool) -> Place:
    """The place of the event of a block that a read meets first."""
    if forward:
        return block.first_ms, block.sequence
    return -block.last_ms, 1 - block.sequence - block.events


class Run:
    """The events of a block in the direction of a read, and the sequence of the first of them."""

    __slots__ = ("ingested_ms", "messages", "sequence", "stream", "times")

    def __init__(self, block: Block, content: bytes, forward: bool) -> None:
        self.stream = block.stream
        self.ingested_ms = block.ingested_ms
        self.times, self.messages = decoded(content)
        if forward:
            self.sequence = block.sequence
        else:
            self.sequence = 1 - block.sequence - block.events
            self.times = [-time for time in reversed(self.times)]
            self.messages.reverse()

    def index(self, place: Place, start: int = 0) -> int:
        """How many events are before a place, which is not before the event at `start`."""
        time, sequence = place
        times = self.times
        index = bisect_left(times, time, start)
        if index == len(times) or times[index] > time:
            return index
        return min(max(index, sequence - self.sequence), bisect_right(times, time, index))


class LogConnection(sqlite3.Connection):
    """A connection that remembers the blocks it read last: the next page of a scan begins in the middle of them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._runs: OrderedDict[tuple[int, bool], tuple[Run, int]] = OrderedDict()
        self._bytes = 0

    def run(self, block: Block, forward: bool) -> Run:
        """The events of a block. They never change: a block that is shortened goes on under another sequence."""
        if block.content is not None:
            return Run(block, block.content, forward)
        key = block.sequence, forward
        found = self._runs.get(key)
        if found is not None:
            self._runs.move_to_end(key)
            return found[0]
        query = "SELECT content FROM log_blocks WHERE sequence = ?"
        content: bytes = self.execute(query, (block.sequence,)).fetchone()[0]
        run = Run(block, content, forward)
        size = len(content) + BLOCK_MEMORY_BYTES + EVENT_MEMORY_BYTES * block.events
        self._runs[key] = run, size
        self._bytes += size
        while self._bytes > CACHED_BYTES:
            _, (_, size) = self._runs.popitem(last=False)
            self._bytes -= size
        return run


def in_order(load: Callable[[Block, bool], Run], blocks: Iterable[Block], span: Span) -> Iterator[tuple[Run, int, int]]:
    """The events of blocks that come in the order of their edges: pieces of runs, from one index to another.

    A block's events are read when their turn comes, so that a page costs what lies around it and no more.
    """
    heap: list[tuple[Place, Run]] = []
    for block in itertools.chain(blocks, (None,)):
        limit = span.high if block is None else min(span.high, edge(block, span.forward))
        while heap and heap[0][0] < limit:
            (_, sequence), run = heap[0]
            start = sequence - run.sequence
            # The run goes on until another one or the next block has the earlier event.
            until = limit
            for following in heap[1:3]:
                if following[0] < until:
                    until = following[0]
            end = run.index(until, start)
            yield run, start, end
            if end < len(run.times):
                heapq.heapreplace(heap, ((run.times[end], run.sequence + end), run))
            else:
                heapq.heappop(heap)
        if block is not None:
            run = load(block, span.forward)
            start = run.index(span.low)
            if start < len(run.times):
                heapq.heappush(heap, ((run.times[start], run.sequence + start), run))

"""How events are divided into blocks, and how blocks are read."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import pytest

from lambdad.adapters import sqlite_log_blocks
from lambdad.adapters.sqlite_log_blocks import (
    BLOCK_BYTES,
    BLOCK_EVENTS,
    WINDOW_MS,
    Block,
    LogConnection,
    Run,
    Span,
    decoded,
    divided,
    edge,
    encoded,
    in_order,
)
from lambdad.domain.logs import Position
from lambdad.ports.logs import EventRange

ALL = EventRange(0, 2**62, None, True, 1000, 2**20)


def parts(events: Sequence[tuple[int, str]]) -> list[tuple[list[int], list[str], int]]:
    return [(list(times), list(messages), size) for (times, messages), size in divided(events)]


def test_events_of_a_window_are_one_block() -> None:
    events = [(WINDOW_MS + 1, "a"), (WINDOW_MS + 1, ""), (2 * WINDOW_MS - 1, "é")]
    assert parts(events) == [([WINDOW_MS + 1, WINDOW_MS + 1, 2 * WINDOW_MS - 1], ["a", "", "é"], 3 + 3 * 26)]


def test_blocks_end_with_their_window() -> None:
    times = [0, WINDOW_MS - 1, WINDOW_MS, 7 * WINDOW_MS + 5]
    assert [times for times, _, _ in parts([(time, "x") for time in times])] == [
        [0, WINDOW_MS - 1],
        [WINDOW_MS],
        [7 * WINDOW_MS + 5],
    ]


def test_events_are_sorted_by_time_and_those_of_a_millisecond_stay_as_they_arrived() -> None:
    ((times, messages, _),) = parts([(5, "z"), (3, "b"), (5, "a"), (3, "a")])
    assert (times, messages) == ([3, 3, 5, 5], ["b", "a", "z", "a"])


def test_blocks_are_bounded_by_number_and_by_bytes() -> None:
    many = parts([(1, f"{number}") for number in range(2 * BLOCK_EVENTS + 1)])
    assert [len(times) for times, _, _ in many] == [BLOCK_EVENTS, BLOCK_EVENTS, 1]
    assert [text for _, texts, _ in many for text in texts] == [f"{number}" for number in range(2 * BLOCK_EVENTS + 1)]
    large = parts([(1, "x" * 10_000)] * 100 + [(1, "x" * 1_000_000)] + [(1, "é" * 10_000)] * 20)
    assert sum(len(times) for times, _, _ in large) == 121
    assert all(size <= BLOCK_BYTES or len(times) == 1 for times, _, size in large)
    assert len(large) < 20


def test_a_content_is_read_as_it_was_written() -> None:
    columns = [0, 1, 2**41], ["", "nul \0", "é 漢 😀\n"]
    assert decoded(encoded(columns)) == columns


class Loader:
    """Gives blocks of events, and says which of them were loaded."""

    def __init__(self, *blocks: tuple[str, list[int]]) -> None:
        self.loaded: list[str] = []
        self.blocks = []
        self.contents = {}
        sequence = 1
        for stream, times in blocks:
            self.blocks.append(Block(sequence, times[0], times[-1], len(times), 0, stream, None))
            self.contents[stream] = encoded((times, [f"{stream}{time}" for time in times]))
            sequence += len(times)

    def run(self, block: Block, forward: bool) -> Run:
        self.loaded.append(block.stream)
        return Run(block, self.contents[block.stream], forward)

    def read(self, events: EventRange, limit: int = 1000) -> list[str]:
        blocks = sorted(self.blocks, key=lambda block: edge(block, events.forward))
        found: list[str] = []
        for run, start, end in in_order(self.run, blocks, Span.of(events)):
            assert end > start
            found += run.messages[start:end]
            if len(found) >= limit:
                break
        return found


def backward(end_ms: int = 2**62, beyond: Position | None = None) -> EventRange:
    return EventRange(0, end_ms, beyond, False, 1000, 2**20)


def test_overlapping_blocks_are_merged() -> None:
    loader = Loader(("a", [1, 4, 4, 9]), ("b", [2, 4, 20]), ("c", [4, 5]), ("d", [21]))
    order = ["a1", "b2", "a4", "a4", "b4", "c4", "c5", "a9", "b20", "d21"]
    assert loader.read(ALL) == order
    assert loader.read(backward()) == order[::-1]


def test_a_read_goes_on_between_events_of_one_millisecond() -> None:
    loader = Loader(("a", [1, 4, 4, 9]), ("b", [2, 4, 20]))
    # Sequences are 1 to 4 and 5 to 7.
    for sequence, after in ((2, ["a4", "b4", "a9", "b20"]), (3, ["b4", "a9", "b20"]), (6, ["a9", "b20"])):
        assert loader.read(EventRange(0, 2**62, Position(4, sequence), True, 9, 9)) == after
    for sequence, before in ((2, ["b2", "a1"]), (3, ["a4", "b2", "a1"]), (6, ["a4", "a4", "b2", "a1"])):
        assert loader.read(backward(beyond=Position(4, sequence))) == before
    assert loader.read(EventRange(2, 9, None, True, 9, 9)) == ["b2", "a4", "a4", "b4"]
    assert loader.read(EventRange(2, 9, None, False, 9, 9)) == ["b4", "a4", "a4", "b2"]


@pytest.mark.parametrize("forward", [True, False])
def test_only_blocks_whose_turn_has_come_are_loaded(forward: bool) -> None:
    loader = Loader(("a", [1, 2]), ("b", [2, 3]), ("c", [10, 11]), ("d", [12, 13]), ("e", [9 * WINDOW_MS]))
    loader.read(ALL if forward else backward(), limit=1)
    assert loader.loaded == (["a"] if forward else ["e"])
    loader.loaded.clear()
    # The many events of one millisecond come in the order of their sequences, block by block.
    loader = Loader(*((f"{number}", [7] * 10) for number in range(10)))
    loader.read(ALL if forward else backward(), limit=15)
    assert loader.loaded == (["0", "1"] if forward else ["9", "8"])


def test_a_connection_remembers_the_blocks_it_read_last(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = sqlite3.connect(":memory:", factory=LogConnection)
    connection.execute("CREATE TABLE log_blocks (sequence INTEGER PRIMARY KEY, content BLOB)")
    blocks = []
    for number in range(1, 11):
        content = encoded(([number], ["x" * 10_000]))
        connection.execute("INSERT INTO log_blocks VALUES (?, ?)", (number, content))
        blocks.append(Block(number, number, number, 1, 0, "s", None))
    queries: list[str] = []
    connection.set_trace_callback(queries.append)
    monkeypatch.setattr(sqlite_log_blocks, "CACHED_BYTES", 50_000)
    first = connection.run(blocks[0], True)
    assert connection.run(blocks[0], True) is first
    assert len(queries) == 1
    assert connection.run(blocks[0], False).times == [-1]
    assert len(queries) == 2
    for block in blocks:
        assert connection.run(block, True).times == [block.first_ms]
    assert connection._bytes <= 50_000
    assert connection._bytes == sum(size for _, size in connection._runs.values())
    assert len(queries) == 2 + 9
    small = Block(99, 5, 5, 1, 0, "s", encoded(([5], ["small"])))
    assert connection.run(small, True).messages == ["small"]
    assert len(queries) == 2 + 9
    connection.close()

"""The units of work on the events of `logs.db`: functions of a connection that is in a transaction."""

from __future__ import annotations

import heapq
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from lambdad.adapters.sqlite_log_blocks import (
    SMALL_BYTES,
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
    stored_bytes,
)
from lambdad.adapters.sqlite_log_units import (
    AFTER_EVERY_NAME,
    create_group,
    existing_group,
    find_group,
    find_stream_id,
    groups_with_retention,
    insert_stream,
)
from lambdad.domain.logs import (
    EVENT_OVERHEAD_BYTES,
    EventBatch,
    GroupKey,
    LogEvent,
    LogGroup,
    Position,
    group_not_found,
    stream_not_found,
    utf8_bytes,
)
from lambdad.ports.logs import EventRange, Scan

# With more streams than this, a scan goes through the whole group and picks, instead of merging the streams.
_MERGED_STREAMS: Final = 100
_END_OF_TIME_MS: Final = 2**63 - 1


def append(connection: sqlite3.Connection, batches: Sequence[EventBatch], create: bool) -> None:
    sequence = int(connection.execute("SELECT next FROM log_sequence").fetchone()[0])
    group_ids: dict[GroupKey, int] = {}
    group_sizes: dict[int, int] = {}
    rows: list[tuple[int | bytes, ...]] = []
    for batch in batches:
        group_id, stream_id = _place(connection, batch, create, group_ids)
        if not batch.events:
            continue
        parts = list(divided(batch.events))
        for (times, messages), block_size in parts:
            place = (sequence, group_id, stream_id, times[0], times[-1], len(times), block_size, batch.ingested_ms)
            rows.append((*place, encoded((times, messages))))
            sequence += len(times)
        (first_times, _), (last_times, _) = parts[0][0], parts[-1][0]
        size = sum(block_size for _, block_size in parts)
        connection.execute(
            "UPDATE log_streams SET first_event_ms = min(ifnull(first_event_ms, ?1), ?1),"
            " last_event_ms = max(ifnull(last_event_ms, ?2), ?2), last_ingestion_ms = ?3,"
            " stored_bytes = stored_bytes + ?4 WHERE stream_id = ?5",
            (first_times[0], last_times[-1], batch.ingested_ms, size, stream_id),
        )
        group_sizes[group_id] = group_sizes.get(group_id, 0) + size
    connection.executemany("INSERT INTO log_blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.executemany(
        "UPDATE log_groups SET stored_bytes = stored_bytes + ? WHERE group_id = ?",
        [(size, group_id) for group_id, size in group_sizes.items()],
    )
    connection.execute("UPDATE log_sequence SET next = ?", (sequence,))


def _place(
    connection: sqlite3.Connection, batch: EventBatch, create: bool, group_ids: dict[GroupKey, int]
) -> tuple[int, int]:
    """The ids of a batch's group, which is remembered, and of its stream."""
    group_id = group_ids.get(batch.group)
    if group_id is None:
        found = find_group(connection, batch.group)
        if found is not None:
            group_id = found[0]
        elif create:
            group_id = create_group(connection, LogGroup(batch.group, batch.ingested_ms))
        else:
            raise group_not_found()
        group_ids[batch.group] = group_id
    stream_id = find_stream_id(connection, group_id, batch.stream)
    if stream_id is None and not create:
        raise stream_not_found()
    if stream_id is None:
        stream_id = insert_stream(connection, group_id, batch.stream, batch.ingested_ms)
    return group_id, stream_id


def _event(run: Run, index: int) -> LogEvent:
    # Those of a read backwards are mirrored.
    position = Position(abs(run.times[index]), abs(run.sequence + index))
    return LogEvent(position, run.stream, run.ingested_ms, run.messages[index])


def _blocks(connection: sqlite3.Connection, column: str, value: int, span: Span, prefix: str = "") -> Iterator[Block]:
    """The blocks of a stream or a group that reach into a span, by their edges, found as they are asked for."""
    start_ms, end_ms = span.times_ms
    # A block that begins before the span and reaches into it is in the window of the span's edge.
    if span.forward:
        within = "b.first_ms BETWEEN ? AND ? AND b.last_ms >= ?"
        times = (start_ms // WINDOW_MS * WINDOW_MS, end_ms, start_ms)
        order = "b.first_ms, b.sequence"
    else:
        within = "b.last_ms BETWEEN ? AND ? AND b.first_ms <= ?"
        times = (start_ms, (end_ms // WINDOW_MS + 1) * WINDOW_MS, end_ms)
        order = "b.last_ms DESC, b.sequence DESC"
    rows = connection.execute(
        "SELECT b.sequence, b.first_ms, b.last_ms, b.events, b.ingested_ms, s.name,"
        " CASE WHEN length(b.content) <= ? THEN b.content END"
        " FROM log_blocks b CROSS JOIN log_streams s ON s.stream_id = b.stream_id"
        f" WHERE b.{column} = ? AND {within} AND s.name >= ? AND s.name < ? ORDER BY {order}",
        (SMALL_BYTES, value, *times, prefix, prefix + AFTER_EVERY_NAME),
    )
    return map(Block._make, rows)


def read_stream(connection: LogConnection, key: GroupKey, stream: str, events: EventRange) -> list[LogEvent]:
    group_id, _ = existing_group(connection, key)
    stream_id = find_stream_id(connection, group_id, stream)
    if stream_id is None:
        raise stream_not_found()
    span = Span.of(events)
    pieces = in_order(connection.run, _blocks(connection, "stream_id", stream_id, span), span)
    page: list[LogEvent] = []
    size = 0
    for run, start, end in pieces:
        for index in range(start, end):
            size += utf8_bytes(run.messages[index]) + EVENT_OVERHEAD_BYTES
            if page and size > events.bytes:
                return page if events.forward else page[::-1]
            page.append(_event(run, index))
            if len(page) == events.limit:
                return page if events.forward else page[::-1]
    return page if events.forward else page[::-1]


def scan(
    connection: LogConnection,
    key: GroupKey,
    events: EventRange,
    streams: Sequence[str] | None,
    prefix: str,
    matches: Callable[[str], bool],
    look: int,
) -> Scan:
    group_id, _ = existing_group(connection, key)
    span = Span.of(events)
    chosen = _chosen_streams(connection, group_id, streams, prefix)
    if chosen is None:
        blocks = _blocks(connection, "group_id", group_id, span, prefix)
    else:
        each = [_blocks(connection, "stream_id", stream_id, span) for stream_id in chosen]
        blocks = heapq.merge(*each, key=lambda block: edge(block, span.forward))
    found: list[LogEvent] = []
    seen = size = 0
    last: tuple[Run, int] | None = None
    for run, start, end in in_order(connection.run, blocks, span):
        for index in range(start, end):
            message = run.messages[index]
            size += utf8_bytes(message) + EVENT_OVERHEAD_BYTES
            if last is not None and (seen == look or size > events.bytes or len(found) == events.limit):
                return Scan(found, _event(*last).position)
            seen += 1
            last = run, index
            if matches(message):
                found.append(_event(run, index))
    return Scan(found, None)


def _chosen_streams(
    connection: sqlite3.Connection, group_id: int, streams: Sequence[str] | None, prefix: str
) -> set[int] | None:
    """The ids of the streams to merge; None to go through the whole group, for those with the prefix."""
    if streams is not None:
        chosen = [find_stream_id(connection, group_id, name) for name in streams]
        if None in chosen:
            raise stream_not_found()
        return {stream_id for stream_id in chosen if stream_id is not None}
    if not prefix:
        return None
    rows = connection.execute(
        "SELECT stream_id FROM log_streams WHERE group_id = ? AND name >= ? AND name < ? LIMIT ?",
        (group_id, prefix, prefix + AFTER_EVERY_NAME, _MERGED_STREAMS + 1),
    ).fetchall()
    return {stream_id for (stream_id,) in rows} if len(rows) <= _MERGED_STREAMS else None


def expire(connection: sqlite3.Connection, now_ms: int, limit: int) -> int:
    removed = _remove_deleted(connection, limit)
    for group_id, group in groups_with_retention(connection):
        if removed < limit:
            removed += _remove_expired(connection, group_id, group.kept_since_ms(now_ms), limit - removed)
    return removed


def _remove_deleted(connection: sqlite3.Connection, limit: int) -> int:
    """Remove events whose stream is gone, and forget the stream when it has no more."""
    removed = 0
    for (stream_id,) in connection.execute("SELECT stream_id FROM deleted_log_streams").fetchall():
        gone, _ = _remove(connection, "stream_id", stream_id, _END_OF_TIME_MS, limit - removed)
        removed += gone
        if removed >= limit:
            break
        connection.execute("DELETE FROM deleted_log_streams WHERE stream_id = ?", (stream_id,))
    return removed


def _remove_expired(connection: sqlite3.Connection, group_id: int, kept_since_ms: int, limit: int) -> int:
    """Remove a group's oldest events, up to a time, from the events and from the totals."""
    removed, sizes = _remove(connection, "group_id", group_id, kept_since_ms, limit)
    for stream_id, size in sizes.items():
        # A stream that was deleted has left the totals already: it is not among the streams.
        remaining = connection.execute(
            "UPDATE log_streams SET stored_bytes = stored_bytes - ?1,"
            " first_event_ms = (SELECT min(first_ms) FROM log_blocks WHERE stream_id = ?2) WHERE stream_id = ?2",
            (size, stream_id),
        ).rowcount
        if remaining:
            connection.execute(
                "UPDATE log_groups SET stored_bytes = stored_bytes - ? WHERE group_id = ?", (size, group_id)
            )
    return removed


def _remove(
    connection: sqlite3.Connection, column: str, value: int, before_ms: int, limit: int
) -> tuple[int, dict[int, int]]:
    """Remove up to `limit` events of a stream or a group that are before a time; how many, and the bytes by stream."""
    blocks = connection.execute(
        f"SELECT sequence, stream_id, last_ms, events, stored_bytes FROM log_blocks WHERE {column} = ? AND first_ms < ?"
        f" ORDER BY {column}, first_ms, sequence LIMIT ?",
        (value, before_ms, limit),
    ).fetchall()
    removed = 0
    sizes: dict[int, int] = {}
    for sequence, stream_id, last_ms, events, size in blocks:
        if removed == limit:
            break
        if last_ms < before_ms and events <= limit - removed:
            connection.execute("DELETE FROM log_blocks WHERE sequence = ?", (sequence,))
        else:
            events, size = _shorten(connection, sequence, before_ms, limit - removed)
        removed += events
        sizes[stream_id] = sizes.get(stream_id, 0) + size
    return removed, sizes


def _shorten(connection: sqlite3.Connection, sequence: int, before_ms: int, limit: int) -> tuple[int, int]:
    """Remove a block's first events, up to a time or a number; how many they were and their bytes. Some remain."""
    (content,) = connection.execute("SELECT content FROM log_blocks WHERE sequence = ?", (sequence,)).fetchone()
    times, messages = decoded(content)
    events = min(bisect_left(times, before_ms), limit)
    size = stored_bytes(messages[:events])
    connection.execute(
        "UPDATE log_blocks SET sequence = sequence + ?1, first_ms = ?2, events = events - ?1,"
        " stored_bytes = stored_bytes - ?3, content = ?4 WHERE sequence = ?5",
        (events, times[events], size, encoded((times[events:], messages[events:])), sequence),
    )
    return events, size

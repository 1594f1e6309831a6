"""The tables of `logs.db`, and every unit of work on them: a function of a connection that is in a transaction.

Events are clustered by group and time, which is how they are searched and expire, with an index by stream for reading
one. What belongs to a deleted group or stream is out of sight at once, as nothing refers to it any more, and is removed
by `expire` in small steps.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from lambdad.domain.logs import (
    EVENT_OVERHEAD_BYTES,
    EventBatch,
    GroupKey,
    LogEvent,
    LogGroup,
    LogStream,
    Position,
    group_exists,
    group_not_found,
    stream_exists,
    stream_not_found,
    utf8_bytes,
)
from lambdad.ports.logs import EventRange, Scan

# With more streams than this, a scan goes through the whole group and picks, instead of merging the streams.
_MERGED_STREAMS: Final = 100
_AFTER_EVERY_NAME: Final = "\U0010ffff"

MIGRATIONS: Final = (
    """
    CREATE TABLE log_groups (
        group_id INTEGER PRIMARY KEY AUTOINCREMENT,
        account_id TEXT NOT NULL,
        region TEXT NOT NULL,
        name TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        log_group_class TEXT NOT NULL,
        retention_days INTEGER,
        deletion_protected INTEGER NOT NULL,
        tags TEXT NOT NULL,
        stored_bytes INTEGER NOT NULL,
        UNIQUE (account_id, region, name)
    );
    CREATE TABLE log_streams (
        stream_id INTEGER PRIMARY KEY AUTOINCREMENT,
        group_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        first_event_ms INTEGER,
        last_event_ms INTEGER,
        last_ingestion_ms INTEGER,
        stored_bytes INTEGER NOT NULL,
        UNIQUE (group_id, name)
    );
    CREATE TABLE log_events (
        group_id INTEGER NOT NULL,
        timestamp_ms INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        stream_id INTEGER NOT NULL,
        ingested_ms INTEGER NOT NULL,
        message TEXT NOT NULL,
        PRIMARY KEY (group_id, timestamp_ms, sequence)
    ) WITHOUT ROWID;
    CREATE INDEX log_events_by_stream ON log_events (stream_id, timestamp_ms, sequence);
    CREATE TABLE deleted_log_streams (stream_id INTEGER PRIMARY KEY);
    CREATE TABLE log_sequence (one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER NOT NULL);
    INSERT INTO log_sequence VALUES (1, 1);
    """,
)

_GROUP_COLUMNS: Final = (
    "group_id, account_id, region, name, created_ms, log_group_class, retention_days, deletion_protected, tags,"
    " stored_bytes"
)
_STREAM_COLUMNS: Final = "name, created_ms, first_event_ms, last_event_ms, last_ingestion_ms"
_EVENT_COLUMNS: Final = "e.timestamp_ms, e.sequence, s.name, e.ingested_ms, e.message"


def _group_record(row: tuple[int, str, str, str, int, str, int | None, int, str, int]) -> tuple[int, LogGroup]:
    group_id, account_id, region, name, created_ms, log_group_class, retention_days, protected, tags, stored = row
    key = GroupKey(account_id, region, name)
    record = LogGroup(key, created_ms, log_group_class, retention_days, bool(protected), json.loads(tags), stored)
    return group_id, record


def find_group(connection: sqlite3.Connection, key: GroupKey) -> tuple[int, LogGroup] | None:
    row = connection.execute(
        f"SELECT {_GROUP_COLUMNS} FROM log_groups WHERE account_id = ? AND region = ? AND name = ?",
        (key.account_id, key.region, key.name),
    ).fetchone()
    return None if row is None else _group_record(row)


def _existing_group(connection: sqlite3.Connection, key: GroupKey) -> tuple[int, LogGroup]:
    found = find_group(connection, key)
    if found is None:
        raise group_not_found()
    return found


def create_group(connection: sqlite3.Connection, group: LogGroup) -> int:
    key = group.key
    try:
        cursor = connection.execute(
            "INSERT INTO log_groups (account_id, region, name, created_ms, log_group_class, retention_days,"
            " deletion_protected, tags, stored_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
            (
                key.account_id,
                key.region,
                key.name,
                group.created_ms,
                group.log_group_class,
                group.retention_days,
                group.deletion_protected,
                json.dumps(dict(group.tags)),
            ),
        )
    except sqlite3.IntegrityError:
        raise group_exists() from None
    return int(cursor.lastrowid or 0)


def groups(
    connection: sqlite3.Connection, account_id: str, region: str, after: str, prefix: str, substring: str, limit: int
) -> list[LogGroup]:
    rows = connection.execute(
        f"SELECT {_GROUP_COLUMNS} FROM log_groups WHERE account_id = ? AND region = ? AND name > ?"
        " AND name >= ? AND name < ? AND instr(name, ?) > 0 ORDER BY name LIMIT ?",
        (account_id, region, after, prefix, prefix + _AFTER_EVERY_NAME, substring, limit),
    )
    return [_group_record(row)[1] for row in rows]


def update_group(connection: sqlite3.Connection, key: GroupKey, change: Callable[[LogGroup], LogGroup]) -> LogGroup:
    group_id, group = _existing_group(connection, key)
    changed = change(group)
    connection.execute(
        "UPDATE log_groups SET log_group_class = ?, retention_days = ?, deletion_protected = ?, tags = ?"
        " WHERE group_id = ?",
        (
            changed.log_group_class,
            changed.retention_days,
            changed.deletion_protected,
            json.dumps(dict(changed.tags)),
            group_id,
        ),
    )
    return changed


def delete_group(connection: sqlite3.Connection, key: GroupKey, check: Callable[[LogGroup], None]) -> None:
    group_id, group = _existing_group(connection, key)
    check(group)
    connection.execute("DELETE FROM log_groups WHERE group_id = ?", (group_id,))
    connection.execute(
        "INSERT INTO deleted_log_streams SELECT stream_id FROM log_streams WHERE group_id = ?", (group_id,)
    )
    connection.execute("DELETE FROM log_streams WHERE group_id = ?", (group_id,))


def _stream_id(connection: sqlite3.Connection, group_id: int, name: str) -> int | None:
    row = connection.execute(
        "SELECT stream_id FROM log_streams WHERE group_id = ? AND name = ?", (group_id, name)
    ).fetchone()
    return None if row is None else int(row[0])


def create_stream(connection: sqlite3.Connection, key: GroupKey, stream: LogStream) -> None:
    group_id, _ = _existing_group(connection, key)
    if _stream_id(connection, group_id, stream.name) is not None:
        raise stream_exists()
    _insert_stream(connection, group_id, stream.name, stream.created_ms)


def _insert_stream(connection: sqlite3.Connection, group_id: int, name: str, created_ms: int) -> int:
    cursor = connection.execute(
        "INSERT INTO log_streams (group_id, name, created_ms, stored_bytes) VALUES (?, ?, ?, 0)",
        (group_id, name, created_ms),
    )
    return int(cursor.lastrowid or 0)


def find_stream(connection: sqlite3.Connection, key: GroupKey, name: str) -> LogStream | None:
    found = find_group(connection, key)
    if found is None:
        return None
    row = connection.execute(
        f"SELECT {_STREAM_COLUMNS} FROM log_streams WHERE group_id = ? AND name = ?", (found[0], name)
    ).fetchone()
    return None if row is None else LogStream(*row)


def streams(
    connection: sqlite3.Connection, key: GroupKey, prefix: str, after: str, descending: bool, limit: int
) -> list[LogStream]:
    group_id, _ = _existing_group(connection, key)
    low, high = prefix, prefix + _AFTER_EVERY_NAME
    if after and descending:
        high = min(high, after)
    rows = connection.execute(
        f"SELECT {_STREAM_COLUMNS} FROM log_streams WHERE group_id = ? AND name >= ? AND name < ? AND name > ?"
        f" ORDER BY name {'DESC' if descending else 'ASC'} LIMIT ?",
        (group_id, low, high, "" if descending else after, limit),
    )
    return [LogStream(*row) for row in rows]


def streams_by_time(
    connection: sqlite3.Connection, key: GroupKey, after: tuple[int, str] | None, descending: bool, limit: int
) -> list[LogStream]:
    group_id, _ = _existing_group(connection, key)
    order, beyond = ("DESC", "<") if descending else ("ASC", ">")
    rows = connection.execute(
        f"SELECT {_STREAM_COLUMNS} FROM log_streams WHERE group_id = ?"
        f" AND (? OR (ifnull(last_event_ms, 0), name) {beyond} (?, ?))"
        f" ORDER BY ifnull(last_event_ms, 0) {order}, name {order} LIMIT ?",
        (group_id, after is None, *(after or (0, "")), limit),
    )
    return [LogStream(*row) for row in rows]


def delete_stream(connection: sqlite3.Connection, key: GroupKey, name: str, check: Callable[[LogGroup], None]) -> None:
    group_id, group = _existing_group(connection, key)
    stream_id = _stream_id(connection, group_id, name)
    if stream_id is None:
        raise stream_not_found()
    check(group)
    connection.execute(
        "UPDATE log_groups SET stored_bytes = stored_bytes - (SELECT stored_bytes FROM log_streams WHERE stream_id = ?)"
        " WHERE group_id = ?",
        (stream_id, group_id),
    )
    connection.execute("DELETE FROM log_streams WHERE stream_id = ?", (stream_id,))
    connection.execute("INSERT INTO deleted_log_streams VALUES (?)", (stream_id,))


def append(connection: sqlite3.Connection, batches: Sequence[EventBatch], create: bool) -> None:
    sequence = int(connection.execute("SELECT next FROM log_sequence").fetchone()[0])
    for batch in batches:
        group_id, stream_id = _place(connection, batch, create)
        if not batch.events:
            continue
        # One pass in C for each column of the totals: this is the path of every line that a function prints.
        size = sum(utf8_bytes(message) for _, message in batch.events) + EVENT_OVERHEAD_BYTES * len(batch.events)
        times = [timestamp_ms for timestamp_ms, _ in batch.events]
        connection.executemany(
            "INSERT INTO log_events VALUES (?, ?, ?, ?, ?, ?)",
            [
                (group_id, timestamp_ms, number, stream_id, batch.ingested_ms, message)
                for number, (timestamp_ms, message) in enumerate(batch.events, sequence)
            ],
        )
        sequence += len(batch.events)
        connection.execute(
            "UPDATE log_streams SET first_event_ms = min(ifnull(first_event_ms, ?1), ?1),"
            " last_event_ms = max(ifnull(last_event_ms, ?2), ?2), last_ingestion_ms = ?3,"
            " stored_bytes = stored_bytes + ?4 WHERE stream_id = ?5",
            (min(times), max(times), batch.ingested_ms, size, stream_id),
        )
        connection.execute("UPDATE log_groups SET stored_bytes = stored_bytes + ? WHERE group_id = ?", (size, group_id))
    connection.execute("UPDATE log_sequence SET next = ?", (sequence,))


def _place(connection: sqlite3.Connection, batch: EventBatch, create: bool) -> tuple[int, int]:
    """The ids of a batch's group and stream."""
    found = find_group(connection, batch.group)
    if found is not None:
        group_id = found[0]
    elif create:
        group_id = create_group(connection, LogGroup(batch.group, batch.ingested_ms))
    else:
        raise group_not_found()
    stream_id = _stream_id(connection, group_id, batch.stream)
    if stream_id is None and not create:
        raise stream_not_found()
    if stream_id is None:
        stream_id = _insert_stream(connection, group_id, batch.stream, batch.ingested_ms)
    return group_id, stream_id


Row = tuple[int, int, str, int, str]
"""An event as _EVENT_COLUMNS has it."""


def _event(row: Row) -> LogEvent:
    return LogEvent(Position(row[0], row[1]), row[2], row[3], row[4])


def _rows(connection: sqlite3.Connection, column: str, value: int, events: EventRange) -> Iterator[Row]:
    """The events of a stream or a group within a range, in its order, fetched one by one as they are asked for."""
    order, beyond = ("ASC", ">") if events.forward else ("DESC", "<")
    start_ms, end_ms, position = events.start_ms, events.end_ms, events.beyond
    if position is None:
        position = Position(start_ms, -1) if events.forward else Position(end_ms, -1)
    # The bounds of the index come from the times alone; within the first millisecond, the sequence decides.
    if events.forward:
        start_ms = max(start_ms, position.timestamp_ms)
    else:
        end_ms = min(end_ms, position.timestamp_ms + 1)
    return connection.execute(
        f"SELECT {_EVENT_COLUMNS} FROM log_events e CROSS JOIN log_streams s ON s.stream_id = e.stream_id"
        f" WHERE e.{column} = ? AND e.timestamp_ms >= ? AND e.timestamp_ms < ?"
        f" AND (e.timestamp_ms, e.sequence) {beyond} (?, ?)"
        f" ORDER BY e.{column} {order}, e.timestamp_ms {order}, e.sequence {order}",
        (value, start_ms, end_ms, position.timestamp_ms, position.sequence),
    )


def _row_size(row: Row) -> int:
    return utf8_bytes(row[4]) + EVENT_OVERHEAD_BYTES


def read_stream(connection: sqlite3.Connection, key: GroupKey, stream: str, events: EventRange) -> list[LogEvent]:
    group_id, _ = _existing_group(connection, key)
    stream_id = _stream_id(connection, group_id, stream)
    if stream_id is None:
        raise stream_not_found()
    page: list[LogEvent] = []
    size = 0
    for row in _rows(connection, "stream_id", stream_id, events):
        size += _row_size(row)
        if page and size > events.bytes:
            break
        page.append(_event(row))
        if len(page) == events.limit:
            break
    return page if events.forward else page[::-1]


def scan(
    connection: sqlite3.Connection,
    key: GroupKey,
    events: EventRange,
    streams: Sequence[str] | None,
    prefix: str,
    matches: Callable[[str], bool],
    look: int,
) -> Scan:
    group_id, _ = _existing_group(connection, key)
    chosen = _chosen_streams(connection, group_id, streams, prefix)
    if chosen is None or len(chosen) > _MERGED_STREAMS:
        rows = _rows(connection, "group_id", group_id, events)
    else:
        each = [_rows(connection, "stream_id", stream_id, events) for stream_id in chosen.values()]
        rows = heapq.merge(*each, key=lambda row: row[:2], reverse=not events.forward)
    found: list[LogEvent] = []
    row: Row | None = None
    size = 0
    for seen, following in enumerate(rows):
        size += _row_size(following)
        if row and (seen == look or len(found) == events.limit or size > events.bytes):
            return Scan(found, Position(row[0], row[1]))
        row = following
        if (chosen is None or row[2] in chosen) and matches(row[4]):
            found.append(_event(row))
    return Scan(found, None)


def _chosen_streams(
    connection: sqlite3.Connection, group_id: int, streams: Sequence[str] | None, prefix: str
) -> dict[str, int] | None:
    """The ids of the streams to look at, by name; None for all."""
    if streams is None:
        if not prefix:
            return None
        rows = connection.execute(
            "SELECT name, stream_id FROM log_streams WHERE group_id = ? AND name >= ? AND name < ?",
            (group_id, prefix, prefix + _AFTER_EVERY_NAME),
        )
        return dict(rows.fetchall())
    chosen = {}
    for name in streams:
        stream_id = _stream_id(connection, group_id, name)
        if stream_id is None:
            raise stream_not_found()
        chosen[name] = stream_id
    return chosen


def expire(connection: sqlite3.Connection, now_ms: int, limit: int) -> int:
    removed = _remove_deleted(connection, limit)
    rows = connection.execute(f"SELECT {_GROUP_COLUMNS} FROM log_groups WHERE retention_days IS NOT NULL").fetchall()
    for group_id, group in map(_group_record, rows):
        if removed < limit:
            removed += _remove_expired(connection, group_id, group.kept_since_ms(now_ms), limit - removed)
    return removed


def _remove_deleted(connection: sqlite3.Connection, limit: int) -> int:
    """Remove events whose stream is gone, and forget the stream when it has no more."""
    removed = 0
    for (stream_id,) in connection.execute("SELECT stream_id FROM deleted_log_streams").fetchall():
        gone = connection.execute(
            "DELETE FROM log_events WHERE (group_id, timestamp_ms, sequence) IN"
            " (SELECT group_id, timestamp_ms, sequence FROM log_events WHERE stream_id = ? LIMIT ?)",
            (stream_id, limit - removed),
        ).rowcount
        removed += gone
        if removed >= limit:
            break
        connection.execute("DELETE FROM deleted_log_streams WHERE stream_id = ?", (stream_id,))
    return removed


def _remove_expired(connection: sqlite3.Connection, group_id: int, kept_since_ms: int, limit: int) -> int:
    """Remove a group's oldest events, up to a time, from the events and from the totals."""
    gone = connection.execute(
        "SELECT timestamp_ms, sequence, stream_id, length(CAST(message AS BLOB)) FROM log_events"
        " WHERE group_id = ? AND timestamp_ms < ? ORDER BY timestamp_ms, sequence LIMIT ?",
        (group_id, kept_since_ms, limit),
    ).fetchall()
    if not gone:
        return 0
    connection.execute(
        "DELETE FROM log_events WHERE group_id = ? AND (timestamp_ms, sequence) <= (?, ?)", (group_id, *gone[-1][:2])
    )
    sizes: dict[int, int] = {}
    for _, _, stream_id, length in gone:
        sizes[stream_id] = sizes.get(stream_id, 0) + length + EVENT_OVERHEAD_BYTES
    for stream_id, size in sizes.items():
        # A stream that was deleted has left the totals already: it is not among the streams.
        remaining = connection.execute(
            "UPDATE log_streams SET stored_bytes = stored_bytes - ?1,"
            " first_event_ms = (SELECT min(timestamp_ms) FROM log_events WHERE stream_id = ?2) WHERE stream_id = ?2",
            (size, stream_id),
        ).rowcount
        if remaining:
            connection.execute(
                "UPDATE log_groups SET stored_bytes = stored_bytes - ? WHERE group_id = ?", (size, group_id)
            )
    return len(gone)

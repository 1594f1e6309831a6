"""The tables of `logs.db`, and the units of work on groups and streams: functions of a connection in a transaction.

Events lie in blocks of a stream (`sqlite_log_blocks`), which are found by group and time, as they are searched and
expire, and by stream and time, as one is read. What belongs to a deleted group or stream is out of sight at once, as
nothing refers to it any more, and is removed by `expire` (`sqlite_log_events`) in small steps.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Final

from lambdad.domain.logs import (
    GroupKey,
    LogGroup,
    LogStream,
    group_exists,
    group_not_found,
    stream_exists,
    stream_not_found,
)

AFTER_EVERY_NAME: Final = "\U0010ffff"

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
    CREATE TABLE log_blocks (
        sequence INTEGER PRIMARY KEY,
        group_id INTEGER NOT NULL,
        stream_id INTEGER NOT NULL,
        first_ms INTEGER NOT NULL,
        last_ms INTEGER NOT NULL,
        events INTEGER NOT NULL,
        stored_bytes INTEGER NOT NULL,
        ingested_ms INTEGER NOT NULL,
        content BLOB NOT NULL
    );
    CREATE INDEX log_blocks_of_group_by_first ON log_blocks (group_id, first_ms, sequence, last_ms, stream_id);
    CREATE INDEX log_blocks_of_group_by_last ON log_blocks (group_id, last_ms, sequence, first_ms, stream_id);
    CREATE INDEX log_blocks_of_stream_by_first ON log_blocks (stream_id, first_ms, sequence, last_ms);
    CREATE INDEX log_blocks_of_stream_by_last ON log_blocks (stream_id, last_ms, sequence, first_ms);
    CREATE TABLE deleted_log_streams (stream_id INTEGER PRIMARY KEY);
    CREATE TABLE log_sequence (one INTEGER PRIMARY KEY CHECK (one = 1), next INTEGER NOT NULL);
    INSERT INTO log_sequence VALUES (1, 1);
    """,
    """
    CREATE TABLE log_subscription_filters (
        group_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        pattern TEXT NOT NULL,
        destination_arn TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        distribution TEXT NOT NULL,
        since_sequence INTEGER NOT NULL,
        PRIMARY KEY (group_id, name)
    ) WITHOUT ROWID;
    CREATE TABLE log_delivered (one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL);
    INSERT INTO log_delivered VALUES (1, 1);
    """,
)

_GROUP_COLUMNS: Final = (
    "group_id, account_id, region, name, created_ms, log_group_class, retention_days, deletion_protected, tags,"
    " stored_bytes"
)
_STREAM_COLUMNS: Final = "name, created_ms, first_event_ms, last_event_ms, last_ingestion_ms"


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


def existing_group(connection: sqlite3.Connection, key: GroupKey) -> tuple[int, LogGroup]:
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
        (account_id, region, after, prefix, prefix + AFTER_EVERY_NAME, substring, limit),
    )
    return [_group_record(row)[1] for row in rows]


def groups_with_retention(connection: sqlite3.Connection) -> list[tuple[int, LogGroup]]:
    rows = connection.execute(f"SELECT {_GROUP_COLUMNS} FROM log_groups WHERE retention_days IS NOT NULL")
    return [_group_record(row) for row in rows]


def update_group(connection: sqlite3.Connection, key: GroupKey, change: Callable[[LogGroup], LogGroup]) -> LogGroup:
    group_id, group = existing_group(connection, key)
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
    group_id, group = existing_group(connection, key)
    check(group)
    connection.execute("DELETE FROM log_groups WHERE group_id = ?", (group_id,))
    connection.execute("DELETE FROM log_subscription_filters WHERE group_id = ?", (group_id,))
    connection.execute(
        "INSERT INTO deleted_log_streams SELECT stream_id FROM log_streams WHERE group_id = ?", (group_id,)
    )
    connection.execute("DELETE FROM log_streams WHERE group_id = ?", (group_id,))


def find_stream_id(connection: sqlite3.Connection, group_id: int, name: str) -> int | None:
    row = connection.execute(
        "SELECT stream_id FROM log_streams WHERE group_id = ? AND name = ?", (group_id, name)
    ).fetchone()
    return None if row is None else int(row[0])


def create_stream(connection: sqlite3.Connection, key: GroupKey, stream: LogStream) -> None:
    group_id, _ = existing_group(connection, key)
    if find_stream_id(connection, group_id, stream.name) is not None:
        raise stream_exists()
    insert_stream(connection, group_id, stream.name, stream.created_ms)


def insert_stream(connection: sqlite3.Connection, group_id: int, name: str, created_ms: int) -> int:
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
    group_id, _ = existing_group(connection, key)
    low, high = prefix, prefix + AFTER_EVERY_NAME
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
    group_id, _ = existing_group(connection, key)
    order, beyond = ("DESC", "<") if descending else ("ASC", ">")
    rows = connection.execute(
        f"SELECT {_STREAM_COLUMNS} FROM log_streams WHERE group_id = ?"
        f" AND (? OR (ifnull(last_event_ms, 0), name) {beyond} (?, ?))"
        f" ORDER BY ifnull(last_event_ms, 0) {order}, name {order} LIMIT ?",
        (group_id, after is None, *(after or (0, "")), limit),
    )
    return [LogStream(*row) for row in rows]


def delete_stream(connection: sqlite3.Connection, key: GroupKey, name: str, check: Callable[[LogGroup], None]) -> None:
    group_id, group = existing_group(connection, key)
    stream_id = find_stream_id(connection, group_id, name)
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

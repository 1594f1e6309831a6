"""The units of work on the subscription filters of `logs.db`: functions of a connection that is in a transaction.

Nothing is written for a filter when events arrive: blocks have the sequences of their events, which only grow, and so
what is still to be delivered is what has a sequence above the one that was delivered last.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from lambdad.adapters.sqlite_log_blocks import decoded
from lambdad.adapters.sqlite_log_units import AFTER_EVERY_NAME, existing_group
from lambdad.domain.log_subscriptions import (
    SubscribedEvents,
    SubscriptionFilter,
    filter_not_found,
    too_many_filters,
)
from lambdad.domain.logs import GroupKey, LogEvent, Position
from lambdad.ports.logs import Arrivals

LOOK_BLOCKS: Final = 4096
"""So many blocks, subscribed or not, one call looks at."""
_COLUMNS: Final = "name, pattern, destination_arn, created_ms, distribution"

_Filter = tuple[SubscriptionFilter, int]
"""A filter, and the sequence from which it gets events."""


def put_filter(connection: sqlite3.Connection, wanted: SubscriptionFilter, most: int) -> None:
    group_id, _ = existing_group(connection, wanted.group)
    (others,) = connection.execute(
        "SELECT count(*) FROM log_subscription_filters WHERE group_id = ? AND name != ?", (group_id, wanted.name)
    ).fetchone()
    if others >= most:
        raise too_many_filters()
    connection.execute(
        f"INSERT INTO log_subscription_filters (group_id, {_COLUMNS}, since_sequence)"
        " VALUES (?, ?, ?, ?, ?, ?, (SELECT next FROM log_sequence))"
        " ON CONFLICT DO UPDATE SET pattern = excluded.pattern, destination_arn = excluded.destination_arn,"
        " created_ms = excluded.created_ms, distribution = excluded.distribution",
        (group_id, wanted.name, wanted.pattern, wanted.destination_arn, wanted.created_ms, wanted.distribution),
    )


def filters(
    connection: sqlite3.Connection, key: GroupKey, prefix: str, after: str, limit: int
) -> list[SubscriptionFilter]:
    group_id, _ = existing_group(connection, key)
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM log_subscription_filters WHERE group_id = ? AND name > ? AND name >= ? AND name < ?"
        " ORDER BY name LIMIT ?",
        (group_id, after, prefix, prefix + AFTER_EVERY_NAME, limit),
    )
    return [SubscriptionFilter(key, *row) for row in rows]


def delete_filter(connection: sqlite3.Connection, key: GroupKey, name: str) -> None:
    group_id, _ = existing_group(connection, key)
    query = "DELETE FROM log_subscription_filters WHERE group_id = ? AND name = ?"
    if not connection.execute(query, (group_id, name)).rowcount:
        raise filter_not_found()


def subscribed_groups(connection: sqlite3.Connection) -> list[GroupKey]:
    rows = connection.execute(
        "SELECT account_id, region, name FROM log_groups"
        " WHERE group_id IN (SELECT group_id FROM log_subscription_filters)"
    )
    return [GroupKey(*row) for row in rows]


def arrivals(connection: sqlite3.Connection, since: int, most_bytes: int) -> Arrivals:
    blocks = connection.execute(
        "SELECT b.sequence, b.events, b.group_id, b.stored_bytes, b.ingested_ms, s.name,"
        " CASE WHEN s.name IS NOT NULL AND EXISTS (SELECT 1 FROM log_subscription_filters f"
        " WHERE f.group_id = b.group_id AND f.since_sequence <= b.sequence) THEN b.content END"
        " FROM log_blocks b LEFT JOIN log_streams s ON s.stream_id = b.stream_id"
        " WHERE b.sequence >= ? ORDER BY b.sequence LIMIT ?",
        (since, LOOK_BLOCKS),
    )
    known: dict[int, tuple[GroupKey, list[_Filter]]] = {}
    found: dict[tuple[GroupKey, str, tuple[str, ...]], SubscribedEvents] = {}
    gathered: dict[tuple[GroupKey, str, tuple[str, ...]], list[LogEvent]] = {}
    size = looked = 0
    following = since
    for sequence, events, group_id, stored, ingested_ms, stream, content in blocks:
        if size > most_bytes:
            return Arrivals(list(found.values()), following, False)
        following = sequence + events
        looked += 1
        if content is None:
            continue
        size += stored
        if group_id not in known:
            known[group_id] = _filters_of(connection, group_id)
        key, subscribed = known[group_id]
        wanted = [each for each, from_sequence in subscribed if from_sequence <= sequence]
        place = key, stream, tuple(each.name for each in wanted)
        into = gathered.setdefault(place, [])
        found.setdefault(place, SubscribedEvents(key, stream, wanted, into))
        for number, (time_ms, message) in enumerate(zip(*decoded(content), strict=True), sequence):
            into.append(LogEvent(Position(time_ms, number), stream, ingested_ms, message))
    return Arrivals(list(found.values()), following, looked < LOOK_BLOCKS)


def _filters_of(connection: sqlite3.Connection, group_id: int) -> tuple[GroupKey, list[_Filter]]:
    row = connection.execute(
        "SELECT account_id, region, name FROM log_groups WHERE group_id = ?", (group_id,)
    ).fetchone()
    key = GroupKey(*row)
    rows = connection.execute(
        f"SELECT {_COLUMNS}, since_sequence FROM log_subscription_filters WHERE group_id = ? ORDER BY name", (group_id,)
    )
    return key, [(SubscriptionFilter(key, *columns), since) for *columns, since in rows]


def delivered(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT sequence FROM log_delivered").fetchone()[0])


def keep_delivered(connection: sqlite3.Connection, sequence: int) -> None:
    connection.execute("UPDATE log_delivered SET sequence = ?", (sequence,))

"""The tables of the event store: what each unit of work does to them, as SQL.

A lane may hold a million events. Every statement finds its rows by an index, so that nothing but counting a lane takes
longer for its length, and whatever may concern many events is done in units of work of a bounded number.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from lambdad.adapters.sqlite_units import SqliteStatements
from lambdad.domain.events import Condition, Ending, Event, Purpose
from lambdad.ports.events import Changes, EventRow, LaneState, LaneSummary, Leased, Selection
from lambdad.ports.store import StoreUnavailable

NEVER_MS: Final = 2**63 - 1

_SHOWN: Final = (
    "lane, request_id, purpose, accepted_ms, due_ms, invocations, backoffs, error_code, error_message, source"
)
_ENDED: Final = f"id, {_SHOWN}, condition, ended_ms, redriven_ms"
_KEPT: Final = f"{_SHOWN}, trace"
_MARKS: Final = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
_INSERT_EVENT: Final = f"INSERT INTO events (id, {_KEPT}, leased) VALUES (?, {_MARKS}, ?)"
_INSERT_ENDING: Final = (
    f"INSERT INTO endings (id, {_KEPT}, condition, ended_ms, succeeded, dead) VALUES (?, {_MARKS}, ?, ?, ?, ?)"
)
_OF_LANE: Final = "SELECT id FROM lanes WHERE name = ?"
_AMONG: Final = "id IN (SELECT value FROM json_each(?))"
_WAITING: Final = "FROM events WHERE leased = 0"
_LEASED: Final = "FROM events WHERE leased = 1"
_DEAD: Final = "FROM endings WHERE dead = 1"


class EventTables(SqliteStatements):
    """Events and endings within a unit of work."""

    def __init__(self, connection: sqlite3.Connection, *, writable: bool) -> None:
        super().__init__(connection, writable=writable)
        self._lane_ids: dict[str, int] = {}

    def undone(self) -> None:
        self._lane_ids.clear()

    # Changes

    def apply(self, changes: Changes) -> list[int]:
        """See `EventStore.apply`."""
        ids = self._insert(changes.accepted, leased=False) + self._insert(changes.leased, leased=True)
        if changes.postponed:
            self._change_each(
                "UPDATE events SET leased = 0, due_ms = ?, trace = ?, invocations = ?, backoffs = ?, error_code = ?,"
                " error_message = ? WHERE id = ?",
                (
                    (
                        event.due_ms,
                        event.trace,
                        event.invocations,
                        event.backoffs,
                        event.error_code,
                        _storable(event.error_message),
                        event.id,
                    )
                    for event in changes.postponed
                ),
            )
        if changes.endings:
            self._end(changes.endings)
        if changes.marks:
            self._change_each(
                "INSERT INTO marks VALUES (?, ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
                changes.marks.items(),
            )
        return ids

    def _insert(self, events: Sequence[Event], *, leased: bool) -> list[int]:
        if not events:
            return []
        first = self.next_id()
        numbered = list(enumerate(events, first))
        self._change_each(_INSERT_EVENT, ((number, *self._kept(event), leased) for number, event in numbered))
        self._change_each("INSERT INTO payloads VALUES (?, ?)", ((number, event.payload) for number, event in numbered))
        return list(range(first, first + len(events)))

    def next_id(self) -> int:
        """The id of the event that is accepted next."""
        return 1 + self._number("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'", ())

    def _end(self, endings: Sequence[Ending]) -> None:
        """Record endings of events that are in the queue; the first one of each counts."""
        ids = json.dumps([ending.event.id for ending in endings])
        queued = {number for (number,) in self._rows(f"SELECT id FROM events WHERE {_AMONG}", (ids,))}
        ended: list[Ending] = []
        for ending in endings:
            if ending.event.id in queued:
                queued.remove(ending.event.id)
                ended.append(ending)
        self._change_each(_INSERT_ENDING, (self._ending_row(ending) for ending in ended))
        self._remove("events", (ending.event.id for ending in ended))
        self._remove("payloads", (ending.event.id for ending in ended if not _is_dead(ending)))
        self._insert([event for ending in ended for event in ending.follow_ups], leased=False)

    def _ending_row(self, ending: Ending) -> tuple[object, ...]:
        event = ending.event
        return (
            event.id,
            *self._kept(event),
            ending.condition.value,
            ending.ended_ms,
            ending.succeeded,
            _is_dead(ending),
        )

    def _kept(self, event: Event) -> tuple[object, ...]:
        return (
            self._lane_ids.get(event.lane) or self._lane_id(event.lane),
            event.request_id,
            event.purpose.value,
            event.accepted_ms,
            event.due_ms,
            event.invocations,
            event.backoffs,
            event.error_code,
            _storable(event.error_message),
            event.source,
            event.trace,
        )

    def _lane_id(self, name: str) -> int:
        self._change("INSERT INTO lanes (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
        number = self._lane_ids[name] = self._number(_OF_LANE, (name,))
        return number

    def recover(self) -> int:
        """See `EventStore.recover`. Lanes that nothing refers to any more are removed."""
        leased = self._rows(f"SELECT id {_LEASED}", ())
        self._change_each("UPDATE events SET leased = 0, due_ms = accepted_ms WHERE id = ?", leased)
        self._change(
            f"DELETE FROM lanes WHERE NOT EXISTS (SELECT 1 {_WAITING} AND lane = lanes.id)"
            " AND id NOT IN (SELECT lane FROM endings)",
            (),
        )
        self._lane_ids.clear()
        return len(leased)

    def hasten(self, lane: str, now_ms: int, limit: int) -> int:
        """Make at most `limit` events due; returns how many were."""
        held_back = self._rows(
            f"SELECT id {_WAITING} AND invocations + backoffs > 0 AND (backoffs > 0) = 1 AND lane = ({_OF_LANE})"
            " AND due_ms > ? LIMIT ?",
            (lane, now_ms, limit),
        )
        self._change_each("UPDATE events SET due_ms = ? WHERE id = ?", ((now_ms, number) for (number,) in held_back))
        return len(held_back)

    # Leases

    def lanes(self) -> list[LaneState]:
        """See `EventStore.lanes`."""
        rows = self._rows(
            f"SELECT name, (SELECT min(due_ms) {_WAITING} AND lane = lanes.id) AS next_due_ms FROM lanes"
            " WHERE next_due_ms IS NOT NULL",
            (),
        )
        return [LaneState(*row) for row in rows]

    def lease_due(self, lane: str, due_ms: int, limit: int, max_bytes: int) -> Leased:
        """See `EventStore.lease`."""
        return self._lease("due_ms <= ? ORDER BY due_ms, id", lane, due_ms, limit, max_bytes)

    def lease_older(self, lane: str, accepted_before_ms: int, limit: int, max_bytes: int) -> Leased:
        """See `EventStore.lease_older`."""
        return self._lease("accepted_ms < ? ORDER BY accepted_ms, id", lane, accepted_before_ms, limit, max_bytes)

    def _lease(self, which: str, lane: str, until_ms: int, limit: int, max_bytes: int) -> Leased:
        events: list[Event] = []
        left_bytes = max_bytes
        sql = (
            "SELECT id, payload, accepted_ms, due_ms, purpose, request_id, trace, invocations, backoffs, error_code,"
            " error_message, source FROM events JOIN payloads USING (id)"
            f" WHERE leased = 0 AND lane = ({_OF_LANE}) AND {which} LIMIT ?"
        )
        try:
            # Row by row, as payloads are large, and closed, as a statement left half read would hold its snapshot.
            with closing(self._connection.execute(sql, (lane, until_ms, limit))) as rows:
                for number, payload, accepted_ms, due_ms, purpose, request_id, *rest in rows:
                    left_bytes -= len(payload)
                    if events and left_bytes < 0:
                        break
                    events.append(
                        Event(number, lane, request_id, payload, accepted_ms, due_ms, Purpose(purpose), *rest)
                    )
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the database failed: {error}") from error
        self._change_each("UPDATE events SET leased = 1 WHERE id = ?", ((event.id,) for event in events))
        ((next_due_ms,),) = self._rows(f"SELECT min(due_ms) {_WAITING} AND lane = ({_OF_LANE})", (lane,))
        return Leased(events, next_due_ms)

    # For people

    def summaries(self) -> list[LaneSummary]:
        """See `EventStore.summaries`."""
        ended: dict[int, int] = dict(self._rows("SELECT lane, count(*) FROM endings GROUP BY lane", ()))
        rows = self._rows(
            "SELECT id, name,"
            f" (SELECT count(*) {_WAITING} AND lane = lanes.id),"
            f" (SELECT count(*) {_WAITING} AND lane = lanes.id AND invocations + backoffs > 0),"
            f" (SELECT count(*) {_LEASED} AND lane = lanes.id),"
            f" (SELECT count(*) {_DEAD} AND lane = lanes.id),"
            f" (SELECT min(accepted_ms) {_WAITING} AND lane = lanes.id),"
            f" (SELECT min(accepted_ms) {_LEASED} AND lane = lanes.id),"
            f" (SELECT min(due_ms) {_WAITING} AND lane = lanes.id)"
            " FROM lanes ORDER BY name",
            (),
        )
        return [
            LaneSummary(
                lane,
                waiting=queued - retrying,
                retrying=retrying,
                leased=leased,
                dead=dead,
                ended=ended.get(number, 0),
                oldest_accepted_ms=min((age for age in ages if age is not None), default=None),
                next_due_ms=next_due_ms,
            )
            for number, lane, queued, retrying, leased, dead, *ages, next_due_ms in rows
            if queued or leased or number in ended
        ]

    def queued(self, selection: Selection, limit: int) -> list[EventRow]:
        """What is in the queue, the next due first."""
        names, places = self._places(selection)
        found: list[EventRow] = []
        for clause, values in places:
            until_ms = found[-1].due_ms if len(found) == limit else NEVER_MS
            for source, leased in ((_WAITING, False), (_LEASED, True)):
                rows = self._rows(
                    f"SELECT id, {_SHOWN} {source} AND {clause} AND due_ms <= ? ORDER BY due_ms, id LIMIT ?",
                    (*values, until_ms, limit),
                )
                found += (replace(_event_row(row, names), leased=leased) for row in rows)
            found.sort(key=lambda row: (row.due_ms, row.id))
            del found[limit:]
        return found

    def dead(self, selection: Selection, limit: int) -> list[EventRow]:
        """What has ended badly, the last first."""
        names, places = self._places(selection)
        found: list[EventRow] = []
        for clause, values in places:
            since_ms = found[-1].ended_ms if len(found) == limit else 0
            rows = self._rows(
                f"SELECT {_ENDED} {_DEAD} AND {clause} AND ended_ms >= ? ORDER BY ended_ms DESC, id DESC LIMIT ?",
                (*values, since_ms, limit),
            )
            found += (_ended_row(row, names) for row in rows)
            found.sort(key=lambda row: (row.ended_ms or 0, row.id), reverse=True)
            del found[limit:]
        return found

    def endings(self, request_ids: Sequence[str]) -> list[EventRow]:
        """See `EventStore.endings`."""
        rows = self._rows(
            f"SELECT {_ENDED} FROM endings WHERE request_id IN (SELECT value FROM json_each(?))"
            f" AND purpose = '{Purpose.INVOCATION}' ORDER BY id",
            (json.dumps(request_ids),),
        )
        names = self._names(Selection())
        return [_ended_row(row, names) for row in rows]

    def redrive(self, selection: Selection, now_ms: int, before_id: int, limit: int) -> list[str]:
        """Accept at most `limit` dead events with ids below `before_id` anew; returns the lane of each."""
        chosen = self._chosen(f"{_DEAD} AND id < {before_id}", "ended_ms, id", selection, limit)
        if not chosen:
            return []
        renumbered = [(number, old) for number, (old, _) in enumerate(chosen, self.next_id())]
        self._change_each(
            f"INSERT INTO events (id, {_KEPT}, leased) SELECT ?, lane, request_id, purpose, ?, ?, 0, 0, 0, '', source,"
            " trace, 0 FROM endings WHERE id = ?",
            ((new, now_ms, now_ms, old) for new, old in renumbered),
        )
        self._change_each("UPDATE payloads SET id = ? WHERE id = ?", renumbered)
        self._change_each(
            "UPDATE endings SET dead = 0, redriven_ms = ? WHERE id = ?", ((now_ms, old) for old, _ in chosen)
        )
        return [lane for _, lane in chosen]

    def purge_waiting(self, selection: Selection, now_ms: int, limit: int) -> list[str]:
        """End at most `limit` waiting events as purged; returns the lane of each."""
        chosen = self._chosen(_WAITING, "due_ms, id", selection, limit)
        self._change_each(
            f"INSERT INTO endings (id, {_KEPT}, condition, ended_ms, succeeded, dead)"
            f" SELECT id, {_KEPT}, '{Condition.PURGED}', ?, 0, 0 FROM events WHERE id = ?",
            ((now_ms, number) for number, _ in chosen),
        )
        for table in ("events", "payloads"):
            self._remove(table, (number for number, _ in chosen))
        return [lane for _, lane in chosen]

    def purge_dead(self, selection: Selection, limit: int) -> list[str]:
        """Forget at most `limit` dead events; returns the lane of each."""
        chosen = self._chosen(_DEAD, "ended_ms, id", selection, limit)
        for table in ("endings", "payloads"):
            self._remove(table, (number for number, _ in chosen))
        return [lane for _, lane in chosen]

    def last_beyond(self, keep: int, *, succeeded: bool) -> tuple[int, int] | None:
        """When the last ending before the last `keep` was, and its id; None when there are no more than those."""
        rows = self._rows(
            "SELECT ended_ms, id FROM endings WHERE succeeded = ? ORDER BY ended_ms DESC, id DESC LIMIT 1 OFFSET ?",
            (succeeded, keep),
        )
        return rows[0] if rows else None

    def forget_endings(self, until: tuple[int, int], limit: int, *, succeeded: bool) -> int:
        """Forget at most `limit` endings up to one that `last_beyond` has named; returns how many are gone."""
        chosen = self._rows(
            "SELECT id FROM endings WHERE succeeded = ? AND (ended_ms, id) <= (?, ?) LIMIT ?",
            (succeeded, *until, limit),
        )
        for table in ("endings",) if succeeded else ("endings", "payloads"):
            self._remove(table, (number for (number,) in chosen))
        return len(chosen)

    def marks(self, prefix: str) -> dict[str, int]:
        """See `EventStore.marks`."""
        rows = self._rows("SELECT name, value FROM marks WHERE substr(name, 1, length(?)) = ?", (prefix, prefix))
        return dict(rows)

    def forget_mark(self, name: str) -> None:
        """See `EventStore.forget_mark`."""
        self._change("DELETE FROM marks WHERE name = ?", (name,))

    def _remove(self, table: str, ids: Iterable[int]) -> None:
        self._change_each(f"DELETE FROM {table} WHERE id = ?", ((number,) for number in ids))

    def _chosen(self, source: str, order: str, selection: Selection, limit: int) -> list[tuple[int, str]]:
        """The ids and lanes of at most `limit` rows."""
        names, places = self._places(selection)
        chosen: list[tuple[int, str]] = []
        for clause, values in places:
            rows = self._rows(
                f"SELECT id, lane {source} AND {clause} ORDER BY {order} LIMIT ?", (*values, limit - len(chosen))
            )
            chosen += ((number, names[lane]) for number, lane in rows)
        return chosen

    def _places(self, selection: Selection) -> tuple[dict[int, str], list[tuple[str, tuple[object, ...]]]]:
        """The names of the lanes, and the conditions, with their values, under which rows are those that are meant."""
        names = self._names(selection)
        if not selection.ids:
            return names, [("lane = ?", (number,)) for number in names]
        of_these_lanes = "+lane IN (SELECT value FROM json_each(?))"
        return names, [(f"{_AMONG} AND {of_these_lanes}", (json.dumps(selection.ids), json.dumps(list(names))))]

    def _names(self, selection: Selection) -> dict[int, str]:
        lane = selection.lane
        rows = self._rows(
            "SELECT id, name FROM lanes WHERE ? = '' OR name = ? OR (name > ? AND name < ?) ORDER BY name",
            (lane, lane, f"{lane}:", f"{lane};"),  # a semicolon is what comes after a colon
        )
        return dict(rows)


def _is_dead(ending: Ending) -> bool:
    return not ending.succeeded and ending.condition is not Condition.PURGED


def _storable(message: str) -> str:
    """A message with whatever a function has put into it: half a surrogate pair cannot be encoded."""
    return message if message.isascii() else message.encode("utf-8", "replace").decode("utf-8")


def _event_row(row: Sequence[Any], names: dict[int, str]) -> EventRow:
    number, lane, request_id, purpose, *rest = row
    return EventRow(number, names[lane], request_id, Purpose(purpose), *rest)


def _ended_row(row: Sequence[Any], names: dict[int, str]) -> EventRow:
    *event, condition, ended_ms, redriven_ms = row
    ended = _event_row(event, names)
    return replace(ended, condition=Condition(condition), ended_ms=ended_ms, redriven_ms=redriven_ms)

"""EventBridge Scheduler's groups and schedules in a SQLite file of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from lambdad.adapters.records import decode, encode
from lambdad.adapters.sqlite_units import SqliteStatements, SqliteUnits, migrations_of
from lambdad.domain.scheduler import GroupKey, ScheduleGroup, ScheduleKey, ScheduleRecord
from lambdad.ports.schedules import ScheduleTables

T = TypeVar("T")

MIGRATIONS: Final = migrations_of("scheduler")

_GROUP: Final = "account_id = ? AND region = ? AND name = ?"
_MEMBERS: Final = "account_id = ? AND region = ? AND group_name = ?"
_SCHEDULE: Final = f"{_MEMBERS} AND name = ?"


class _ScheduleTables(SqliteStatements):
    """The records as SQL."""

    def group(self, key: GroupKey) -> ScheduleGroup | None:
        rows = self._rows(f"SELECT record FROM schedule_groups WHERE {_GROUP}", _group_columns(key))
        return decode(ScheduleGroup, rows[0][0]) if rows else None

    def put_group(self, group: ScheduleGroup) -> None:
        self._change(
            "INSERT INTO schedule_groups (account_id, region, name, record) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET record = excluded.record",
            (*_group_columns(group.key), encode(group)),
        )

    def delete_group(self, key: GroupKey) -> Sequence[ScheduleKey]:
        names = self._rows(f"SELECT name FROM schedules WHERE {_MEMBERS} ORDER BY name", _group_columns(key))
        self._change(f"DELETE FROM schedules WHERE {_MEMBERS}", _group_columns(key))
        self._change(f"DELETE FROM schedule_groups WHERE {_GROUP}", _group_columns(key))
        return [ScheduleKey(key, name) for (name,) in names]

    def group_count(self, account_id: str, region: str) -> int:
        return self._number(
            "SELECT count(*) FROM schedule_groups WHERE account_id = ? AND region = ?", (account_id, region)
        )

    def groups(self, account_id: str, region: str, prefix: str, after: str, limit: int) -> Sequence[ScheduleGroup]:
        rows = self._rows(
            "SELECT record FROM schedule_groups WHERE account_id = ? AND region = ? AND name > ?"
            " AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?",
            (account_id, region, after, len(prefix), prefix, limit),
        )
        return [decode(ScheduleGroup, record) for (record,) in rows]

    def schedule(self, key: ScheduleKey) -> ScheduleRecord | None:
        rows = self._rows(f"SELECT record FROM schedules WHERE {_SCHEDULE}", _columns(key))
        return decode(ScheduleRecord, rows[0][0]) if rows else None

    def put_schedule(self, record: ScheduleRecord) -> None:
        self._change(
            "INSERT INTO schedules (account_id, region, group_name, name, state, record) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET state = excluded.state, record = excluded.record",
            (*_columns(record.key), record.settings.state, encode(record)),
        )

    def delete_schedule(self, key: ScheduleKey) -> None:
        self._change(f"DELETE FROM schedules WHERE {_SCHEDULE}", _columns(key))

    def schedule_count(self, account_id: str, region: str) -> int:
        return self._number("SELECT count(*) FROM schedules WHERE account_id = ? AND region = ?", (account_id, region))

    def schedules(
        self,
        account_id: str,
        region: str,
        *,
        group: str | None,
        prefix: str,
        state: str | None,
        after: tuple[str, str],
        limit: int,
    ) -> Sequence[ScheduleRecord]:
        rows = self._rows(
            "SELECT record FROM schedules WHERE account_id = ? AND region = ? AND (group_name, name) > (?, ?)"
            " AND group_name = coalesce(?, group_name) AND state = coalesce(?, state) AND substr(name, 1, ?) = ?"
            " ORDER BY group_name, name LIMIT ?",
            (account_id, region, *after, group, state, len(prefix), prefix, limit),
        )
        return [decode(ScheduleRecord, record) for (record,) in rows]

    def all_schedules(self) -> Sequence[ScheduleRecord]:
        rows = self._rows("SELECT record FROM schedules ORDER BY account_id, region, group_name, name", ())
        return [decode(ScheduleRecord, record) for (record,) in rows]


def _group_columns(key: GroupKey) -> tuple[str, str, str]:
    return key.account_id, key.region, key.name


def _columns(key: ScheduleKey) -> tuple[str, str, str, str]:
    return (*_group_columns(key.group), key.name)


class SqliteScheduleStore:
    """A ScheduleStore in the SQLite file `path`.

    Raises StoreUnavailable when the file cannot be opened as a database, NewerSchema when a newer lambdad wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._units = SqliteUnits(path, "scheduler", MIGRATIONS, _ScheduleTables, readers=1)

    async def write(self, work: Callable[[ScheduleTables], T]) -> T:
        return await self._units.write(work)

    async def read(self, work: Callable[[ScheduleTables], T]) -> T:
        return await self._units.read(work)

    async def close(self) -> None:
        await self._units.close()

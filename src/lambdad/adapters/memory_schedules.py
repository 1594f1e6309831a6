"""EventBridge Scheduler's groups and schedules in memory, for tests: the real store without its disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from lambdad.domain.scheduler import GroupKey, ScheduleGroup, ScheduleKey, ScheduleRecord
from lambdad.ports.schedules import ScheduleTables
from lambdad.ports.store import StoreUnavailable

T = TypeVar("T")


class _MemoryTables:
    """The records, which are immutable, in dictionaries."""

    def __init__(self, base: _MemoryTables | None = None, *, writable: bool = True) -> None:
        self._groups: dict[GroupKey, ScheduleGroup] = dict(base._groups) if base else {}
        self._schedules: dict[ScheduleKey, ScheduleRecord] = dict(base._schedules) if base else {}
        self._writable = writable

    def group(self, key: GroupKey) -> ScheduleGroup | None:
        return self._groups.get(key)

    def put_group(self, group: ScheduleGroup) -> None:
        self._check_writable()
        self._groups[group.key] = group

    def delete_group(self, key: GroupKey) -> Sequence[ScheduleKey]:
        self._check_writable()
        self._groups.pop(key, None)
        members = sorted(each for each in self._schedules if each.group == key)
        for member in members:
            del self._schedules[member]
        return members

    def group_count(self, account_id: str, region: str) -> int:
        return sum((key.account_id, key.region) == (account_id, region) for key in self._groups)

    def groups(self, account_id: str, region: str, prefix: str, after: str, limit: int) -> Sequence[ScheduleGroup]:
        return [
            group
            for key, group in sorted(self._groups.items())
            if (key.account_id, key.region) == (account_id, region) and key.name.startswith(prefix) and key.name > after
        ][:limit]

    def schedule(self, key: ScheduleKey) -> ScheduleRecord | None:
        return self._schedules.get(key)

    def put_schedule(self, record: ScheduleRecord) -> None:
        self._check_writable()
        self._schedules[record.key] = record

    def delete_schedule(self, key: ScheduleKey) -> None:
        self._check_writable()
        self._schedules.pop(key, None)

    def schedule_count(self, account_id: str, region: str) -> int:
        return sum((key.group.account_id, key.group.region) == (account_id, region) for key in self._schedules)

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
        return [
            record
            for key, record in sorted(self._schedules.items())
            if (key.group.account_id, key.group.region) == (account_id, region)
            and group in (None, key.group.name)
            and state in (None, record.settings.state)
            and key.name.startswith(prefix)
            and (key.group.name, key.name) > after
        ][:limit]

    def all_schedules(self) -> Sequence[ScheduleRecord]:
        return [record for _, record in sorted(self._schedules.items())]

    def _check_writable(self) -> None:
        if not self._writable:
            raise RuntimeError("a unit of work that only reads cannot change the store")


class MemoryScheduleStore:
    """A ScheduleStore that forgets everything with its process."""

    def __init__(self) -> None:
        self._tables = _MemoryTables()
        self._closed = False

    async def write(self, work: Callable[[ScheduleTables], T]) -> T:
        self._check_open()
        tables = _MemoryTables(self._tables)
        result = work(tables)
        self._tables = tables
        return result

    async def read(self, work: Callable[[ScheduleTables], T]) -> T:
        self._check_open()
        return work(_MemoryTables(self._tables, writable=False))

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

"""Where EventBridge Scheduler's groups and schedules are kept.

A unit of work is a plain function of a `ScheduleTables`, as with `lambdad.ports.store`: it runs atomically, one after
another, and its changes are on disk when the store answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from lambdad.domain.scheduler import GroupKey, ScheduleGroup, ScheduleKey, ScheduleRecord

T = TypeVar("T")


class ScheduleTables(Protocol):
    """The records as one unit of work sees them. Lists are ordered by the names of group and schedule."""

    def group(self, key: GroupKey) -> ScheduleGroup | None: ...

    def put_group(self, group: ScheduleGroup) -> None: ...

    def delete_group(self, key: GroupKey) -> Sequence[ScheduleKey]:
        """Remove a group with its schedules; returns which these were."""

    def group_count(self, account_id: str, region: str) -> int: ...

    def groups(self, account_id: str, region: str, prefix: str, after: str, limit: int) -> Sequence[ScheduleGroup]:
        """Groups whose names begin so and sort after `after`."""

    def schedule(self, key: ScheduleKey) -> ScheduleRecord | None: ...

    def put_schedule(self, record: ScheduleRecord) -> None: ...

    def delete_schedule(self, key: ScheduleKey) -> None: ...

    def schedule_count(self, account_id: str, region: str) -> int: ...

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
        """Schedules, of one group or all, whose names begin so, behind (group, name)."""

    def all_schedules(self) -> Sequence[ScheduleRecord]:
        """Those of every account and region."""


class ScheduleStore(Protocol):
    """Runs units of work. Every method raises StoreUnavailable when it cannot do its part."""

    async def write(self, work: Callable[[ScheduleTables], T]) -> T:
        """Run `work`, alone; an exception of it undoes what it has changed."""

    async def read(self, work: Callable[[ScheduleTables], T]) -> T:
        """Run `work`, which changes nothing, on what was there at one moment."""

    async def close(self) -> None: ...

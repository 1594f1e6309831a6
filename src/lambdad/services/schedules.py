"""EventBridge Scheduler: groups and schedules, and what happens when a schedule is due.

https://docs.aws.amazon.com/scheduler/latest/APIReference/Welcome.html
A schedule's entry in the timetable has its ARN for a name. What an occurrence sends is put into the durable queue with
the entry's mark, so it is sent exactly once into the queue; from there on the target's retry policy applies.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from lambdad.domain import schedule_targets, scheduler
from lambdad.domain.dispatches import LAMBDA, SQS
from lambdad.domain.errors import ResourceNotFoundException, ValidationException
from lambdad.domain.scheduler import (
    DEFAULT_GROUP,
    DELETE,
    ENABLED,
    ConflictException,
    GroupKey,
    ScheduleGroup,
    ScheduleKey,
    ScheduleRecord,
    ScheduleSettings,
    ServiceQuotaExceededException,
)
from lambdad.ports.clock import Clock
from lambdad.ports.dispatcher import Dispatcher
from lambdad.ports.schedules import ScheduleStore, ScheduleTables
from lambdad.services.timetable import Timetable

logger = logging.getLogger(__name__)

T = TypeVar("T")

REMEMBERED_DELETIONS: Final = 10_000
"""So many of the last deletions are known by their client token, so that one that is repeated succeeds."""


class SchedulesService:
    """Schedules of every account and region. `has_service` tells which services of AWS can be called."""

    def __init__(
        self,
        store: ScheduleStore,
        dispatcher: Dispatcher,
        timetable: Timetable,
        clock: Clock,
        has_service: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._timetable = timetable
        self._clock = clock
        self._has_service = has_service
        self._default_groups: set[tuple[str, str]] = set()
        self._deleted: OrderedDict[tuple[str, ScheduleKey | GroupKey], None] = OrderedDict()

    async def start(self) -> None:
        """Put every schedule into the timetable, which has been started. Raises StoreUnavailable."""
        for record in await self._store.read(lambda tables: tables.all_schedules()):
            try:
                self._arm(record)
            except ValidationException as error:  # such as a time zone that this machine no longer has
                logger.error("%s is not fired: %s", record.key.arn, error.message)

    # Schedules

    async def create_schedule(self, key: ScheduleKey, settings: ScheduleSettings, client_token: str = "") -> None:
        """A repetition of the request that has made a schedule, with its token, succeeds and changes nothing.

        Raises ValidationException, ConflictException, ServiceQuotaExceededException and ResourceNotFoundException.
        """
        now_ms = self._now_ms()
        record = ScheduleRecord(key, settings, now_ms, now_ms, client_token)
        self._check(record)
        scheduler.check_dates(settings, now_ms)

        def work(tables: ScheduleTables) -> ScheduleRecord | None:
            _require_group(tables, key.group)
            known = tables.schedule(key)
            if known is not None:
                if client_token and known.client_token == client_token and known.asked_for() == settings:
                    return None
                raise ConflictException(f"Schedule {key.name} already exists.")
            if tables.schedule_count(key.group.account_id, key.group.region) >= scheduler.SCHEDULES_MAX:
                raise ServiceQuotaExceededException("The number of schedules exceeds the limit of the account.")
            tables.put_schedule(record)
            return record

        await self._change(work, self._arm)

    async def update_schedule(self, key: ScheduleKey, settings: ScheduleSettings) -> None:
        """Replace everything about a schedule. Raises ValidationException and ResourceNotFoundException."""
        now_ms = self._now_ms()
        self._check(ScheduleRecord(key, settings, now_ms, now_ms))

        def work(tables: ScheduleTables) -> ScheduleRecord:
            known = _known_schedule(tables, key)
            scheduler.check_dates(settings, now_ms, known_start_ms=known.settings.start_ms)
            record = replace(known, settings=settings, modified_ms=now_ms, original=known.asked_for())
            tables.put_schedule(record)
            return record

        await self._change(work, self._arm)

    async def get_schedule(self, key: ScheduleKey) -> ScheduleRecord:
        """Raises ResourceNotFoundException."""
        return await self._store.read(lambda tables: _known_schedule(tables, key))

    async def delete_schedule(self, key: ScheduleKey, client_token: str = "") -> None:
        """Raises ResourceNotFoundException."""

        def work(tables: ScheduleTables) -> ScheduleKey:
            _known_schedule(tables, key)
            tables.delete_schedule(key)
            return key

        await self._delete(key, client_token, work, lambda deleted: self._timetable.remove(deleted.arn))

    async def list_schedules(
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
        """At most `limit` schedules behind (group, name). Raises ResourceNotFoundException for the group."""

        def work(tables: ScheduleTables) -> Sequence[ScheduleRecord]:
            if group is not None:
                _require_group(tables, GroupKey(account_id, region, group))
            return tables.schedules(
                account_id, region, group=group, prefix=prefix, state=state, after=after, limit=limit
            )

        return await self._store.read(work)

    # Groups

    async def create_group(self, key: GroupKey, tags: Mapping[str, str], client_token: str = "") -> None:
        """Raises ConflictException and ServiceQuotaExceededException; ValidationException for too many tags."""
        await self._make_default_group(key.account_id, key.region)
        now_ms = self._now_ms()
        group = ScheduleGroup(key, now_ms, now_ms, _checked(tags), client_token)

        def work(tables: ScheduleTables) -> None:
            known = tables.group(key)
            if known is not None:
                if client_token and known.client_token == client_token:
                    return
                raise ConflictException(f"Schedule group {key.name} already exists.")
            if tables.group_count(key.account_id, key.region) >= scheduler.GROUPS_MAX:
                raise ServiceQuotaExceededException("The number of schedule groups exceeds the limit of the account.")
            tables.put_group(group)

        await self._store.write(work)

    async def get_group(self, key: GroupKey) -> ScheduleGroup:
        """Raises ResourceNotFoundException."""
        await self._make_default_group(key.account_id, key.region)
        return await self._store.read(lambda tables: _known_group(tables, key))

    async def delete_group(self, key: GroupKey, client_token: str = "") -> None:
        """Delete a group and its schedules. Raises ResourceNotFoundException; ValidationException for the default."""
        if key.name == DEFAULT_GROUP:
            raise ValidationException("The default schedule group cannot be deleted.")

        def work(tables: ScheduleTables) -> Sequence[ScheduleKey]:
            _known_group(tables, key)
            return tables.delete_group(key)

        def remove(members: Sequence[ScheduleKey]) -> None:
            for member in members:
                self._timetable.remove(member.arn)

        await self._delete(key, client_token, work, remove)

    async def list_groups(
        self, account_id: str, region: str, prefix: str, after: str, limit: int
    ) -> Sequence[ScheduleGroup]:
        """At most `limit` groups whose names sort after `after`."""
        await self._make_default_group(account_id, region)
        return await self._store.read(lambda tables: tables.groups(account_id, region, prefix, after, limit))

    async def tag_group(self, key: GroupKey, tags: Mapping[str, str]) -> None:
        """Raises ResourceNotFoundException; ValidationException when these would be too many."""
        await self._make_default_group(key.account_id, key.region)

        def work(tables: ScheduleTables) -> None:
            group = _known_group(tables, key)
            tables.put_group(replace(group, tags=_checked({**group.tags, **tags})))

        await self._store.write(work)

    async def untag_group(self, key: GroupKey, names: Sequence[str]) -> None:
        """Raises ResourceNotFoundException."""
        await self._make_default_group(key.account_id, key.region)

        def work(tables: ScheduleTables) -> None:
            group = _known_group(tables, key)
            tables.put_group(replace(group, tags={name: group.tags[name] for name in group.tags if name not in names}))

        await self._store.write(work)

    # What is due

    def _arm(self, record: ScheduleRecord | None) -> None:
        """Have a schedule fired from now on, or no more."""
        if record is None:
            return
        if record.settings.state != ENABLED:
            self._timetable.remove(record.key.arn)
            return
        plan = scheduler.plan(record)
        deletes = record.settings.action_after_completion == DELETE
        self._timetable.set(
            record.key.arn,
            plan.occurrences,
            since_ms=plan.since_ms,
            until_ms=plan.until_ms,
            window_ms=plan.window_ms,
            fire=functools.partial(self._fire, record),
            finished=functools.partial(self._finish, record) if deletes else None,
        )

    async def _fire(self, record: ScheduleRecord, scheduled_ms: int) -> None:
        marks = {record.key.arn: scheduled_ms}
        await self._dispatcher.accept([schedule_targets.dispatch(record, scheduled_ms)], marks=marks)

    async def _finish(self, record: ScheduleRecord) -> None:
        """A schedule has completed that is deleted then, unless it has been changed meanwhile."""

        def work(tables: ScheduleTables) -> bool:
            unchanged = tables.schedule(record.key) == record
            if unchanged:
                tables.delete_schedule(record.key)
            return unchanged

        await self._change(work, lambda deleted: self._timetable.remove(record.key.arn) if deleted else None)

    def _check(self, record: ScheduleRecord) -> None:
        """Refuse what could not be fired. Raises ValidationException, and what the name of a function deserves."""
        scheduler.parse_expression(record.settings)
        target = record.settings.target
        for service in (schedule_targets.check(target), *([SQS] if target.dead_letter_arn else ())):
            if service != LAMBDA and not self._has_service(service):
                raise ValidationException(f"{service} is not a supported service for a target.")
        schedule_targets.dispatch(record, record.created_ms)

    async def _change(self, work: Callable[[ScheduleTables], T], then: Callable[[T], None]) -> None:
        """Change the store, and the timetable in the order of the store's changes, whether the caller waits or not."""

        async def carry_out() -> None:
            then(await self._store.write(work))

        await asyncio.shield(asyncio.ensure_future(carry_out()))

    async def _delete(
        self,
        key: ScheduleKey | GroupKey,
        client_token: str,
        work: Callable[[ScheduleTables], T],
        then: Callable[[T], None],
    ) -> None:
        try:
            await self._change(work, then)
        except ResourceNotFoundException:
            if (client_token, key) not in self._deleted:
                raise
            return
        if client_token:
            self._deleted[client_token, key] = None
            if len(self._deleted) > REMEMBERED_DELETIONS:
                self._deleted.popitem(last=False)

    async def _make_default_group(self, account_id: str, region: str) -> None:
        if (account_id, region) in self._default_groups:
            return
        key, now_ms = GroupKey(account_id, region, DEFAULT_GROUP), self._now_ms()

        def work(tables: ScheduleTables) -> None:
            if tables.group(key) is None:
                tables.put_group(ScheduleGroup(key, now_ms, now_ms))

        await self._store.write(work)
        self._default_groups.add((account_id, region))

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)


def _require_group(tables: ScheduleTables, key: GroupKey) -> None:
    if key.name != DEFAULT_GROUP:
        _known_group(tables, key)


def _known_group(tables: ScheduleTables, key: GroupKey) -> ScheduleGroup:
    group = tables.group(key)
    if group is None:
        raise key.not_found()
    return group


def _known_schedule(tables: ScheduleTables, key: ScheduleKey) -> ScheduleRecord:
    _require_group(tables, key.group)
    record = tables.schedule(key)
    if record is None:
        raise key.not_found()
    return record


def _checked(tags: Mapping[str, str]) -> dict[str, str]:
    if any(name.lower().startswith("aws:") for name in tags):
        raise ValidationException("Tag keys starting with 'aws:' are reserved for internal use.")
    if len(tags) > scheduler.TAGS_MAX:
        raise ValidationException(f"A schedule group can have at most {scheduler.TAGS_MAX} tags.")
    return dict(tags)

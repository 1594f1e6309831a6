"""EventBridge Scheduler's records, errors and rules.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/what-is-scheduler.html
Times are milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from lambdad.domain import schedules
from lambdad.domain.errors import ResourceNotFoundException, ServiceError, ValidationException

DEFAULT_GROUP: Final = "default"
"""It is there in every account and region, and cannot be deleted."""
ENABLED: Final = "ENABLED"
DELETE: Final = "DELETE"
NONE: Final = "NONE"

GROUPS_MAX: Final = 500
SCHEDULES_MAX: Final = 1_000_000
"""In an account and region: https://docs.aws.amazon.com/scheduler/latest/UserGuide/scheduler-quotas.html"""
TAGS_MAX: Final = 50
PAGE: Final = 100

RETRY_ATTEMPTS: Final = 185
EVENT_AGE_S: Final = 86_400
"""What a target without a retry policy has."""

START_SLACK_MS: Final = 5 * 60 * 1000
_MINUTE_MS: Final = 60_000
_SECOND_MS: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ConflictException(ServiceError):
    code = "ConflictException"
    status = 409


class ServiceQuotaExceededException(ServiceError):
    code = "ServiceQuotaExceededException"
    status = 402


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """One schedule group: names are unique in an account and region."""

    account_id: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        return f"arn:aws:scheduler:{self.region}:{self.account_id}:schedule-group/{self.name}"

    def not_found(self) -> ResourceNotFoundException:
        return ResourceNotFoundException(f"Schedule group {self.name} does not exist.")


@dataclass(frozen=True, slots=True, order=True)
class ScheduleKey:
    """One schedule: names are unique in a group."""

    group: GroupKey
    name: str

    @property
    def arn(self) -> str:
        group = self.group
        return f"arn:aws:scheduler:{group.region}:{group.account_id}:schedule/{group.name}/{self.name}"

    def not_found(self) -> ResourceNotFoundException:
        return ResourceNotFoundException(f"Schedule {self.name} does not exist.")


@dataclass(frozen=True, slots=True)
class ScheduleGroup:
    """A group is `ACTIVE` for as long as it exists: its schedules go with it, in one transaction."""

    key: GroupKey
    created_ms: int
    modified_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)
    client_token: str = ""
    """Of the request that has made it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a schedule calls, as API_Target has it."""

    arn: str
    role_arn: str
    input: str | None = None
    dead_letter_arn: str | None = None
    max_attempts: int = RETRY_ATTEMPTS
    max_age_s: int = EVENT_AGE_S
    detail_type: str | None = None
    event_source: str | None = None
    partition_key: str | None = None
    message_group_id: str | None = None
    has_sqs_parameters: bool = False
    universal_operation: str = ""
    universal_request: str = "{}"
    """Of a universal target, the operation and the input with its members as botocore's model names them."""


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """What a caller decides about a schedule."""

    expression: str
    target: Target
    timezone: str = "UTC"
    start_ms: int | None = None
    end_ms: int | None = None
    description: str | None = None
    state: str = ENABLED
    window_minutes: int | None = None
    """None is the mode OFF."""
    action_after_completion: str = NONE


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A schedule as it is kept."""

    key: ScheduleKey
    settings: ScheduleSettings
    created_ms: int
    modified_ms: int
    client_token: str = ""
    """Of the request that has made it."""
    original: ScheduleSettings | None = None
    """What that request asked for, when it has been updated since: a repetition of the request is known by it."""

    def asked_for(self) -> ScheduleSettings:
        return self.original or self.settings


@dataclass(frozen=True, slots=True)
class Occurrences:
    """The moments of a schedule, whose rates count from its start, or from its creation when it has none."""

    schedule: schedules.Schedule
    anchor_ms: int

    def next_after(self, ms: int, *, since_ms: int) -> int | None:
        return self.schedule.next_after(ms, since_ms=self.anchor_ms)


@dataclass(frozen=True, slots=True)
class Plan:
    """When a schedule is to be fired: what a timetable wants to know."""

    occurrences: Occurrences
    since_ms: int
    until_ms: int | None
    window_ms: int


def plan(record: ScheduleRecord) -> Plan:
    """What became due before a schedule was made, or changed, is not for it. A moment of the same second still is.

    A schedule that happens once has neither start nor end.
    """
    settings = record.settings
    parsed = parse_expression(settings)
    once = isinstance(parsed, schedules.At)
    begin_ms = _whole_second(record.modified_ms)
    anchor_ms = _whole_second(record.created_ms)
    if settings.start_ms is not None and not once:
        begin_ms, anchor_ms = max(begin_ms, settings.start_ms), settings.start_ms
    return Plan(
        Occurrences(parsed, anchor_ms),
        begin_ms - 1,
        None if once else settings.end_ms,
        (settings.window_minutes or 0) * _MINUTE_MS,
    )


def parse_expression(settings: ScheduleSettings) -> schedules.Schedule:
    """Raises ValidationException, in the service's words."""
    try:
        return schedules.parse(settings.expression, timezone=settings.timezone, at_allowed=True)
    except schedules.InvalidScheduleExpression:
        raise ValidationException(f"Invalid Schedule Expression {settings.expression}.") from None
    except schedules.InvalidTimeZone:
        raise ValidationException(f"Invalid Schedule Expression Timezone {settings.timezone}.") from None


def check_dates(settings: ScheduleSettings, now_ms: int, *, known_start_ms: int | None = None) -> None:
    """Raises ValidationException for a start long past, unless it is the one that the schedule has already."""
    if isinstance(parse_expression(settings), schedules.At):
        return
    start_ms, end_ms = settings.start_ms, settings.end_ms
    if start_ms is not None and start_ms != known_start_ms and start_ms < now_ms - START_SLACK_MS:
        raise ValidationException("The StartDate you specify cannot be earlier than 5 minutes ago.")
    if end_ms is not None and end_ms <= now_ms:
        raise ValidationException("The EndDate you specify must be in the future.")
    if start_ms is not None and end_ms is not None and end_ms <= start_ms:
        raise ValidationException("The EndDate you specify must be later than the StartDate.")


def to_ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def utc_text(ms: int) -> str:
    """A moment as Scheduler writes it: 2022-03-22T18:59:43Z."""
    return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _whole_second(ms: int) -> int:
    return ms // _SECOND_MS * _SECOND_MS

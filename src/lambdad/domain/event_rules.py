"""Rules of event buses: which events go to which targets, and the schedules of those that make events themselves.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from lambdad.domain.errors import ValidationException
from lambdad.domain.event_buses import BusKey, event_time
from lambdad.domain.event_patterns import OR
from lambdad.domain.event_targets import Target

State = Literal["ENABLED", "DISABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"]
ENABLED: Final[State] = "ENABLED"
DISABLED: Final[State] = "DISABLED"

SCHEDULED_SOURCE: Final = "aws.events"
SCHEDULED_DETAIL_TYPE: Final = "Scheduled Event"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with its targets. `pattern` and `schedule` are the texts that were put; one of them may be empty.

    `role_arn` is shown as it was put. `scheduled_since_ms` is when the schedule was put, changed or enabled.
    """

    bus: BusKey
    name: str
    pattern: str = ""
    schedule: str = ""
    state: State = ENABLED
    description: str = ""
    role_arn: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    scheduled_since_ms: int = 0

    @property
    def arn(self) -> str:
        return self.bus.rule_arn(self.name)

    @property
    def enabled(self) -> bool:
        return self.state != DISABLED

    @property
    def mark(self) -> str:
        """The name under which is noted how far its schedule has come."""
        return f"events/{self.arn}"


def check_rule(bus: BusKey, pattern: str, schedule: str) -> None:
    """Raises ValidationException unless there is something to match, or to fire, on this bus."""
    if not pattern and not schedule:
        raise ValidationException("Parameter(s) EventPattern or ScheduleExpression must be specified.")
    if schedule and not bus.is_default:
        raise ValidationException("ScheduleExpression is supported only on the default event bus.")


def scheduled_event(rule: Rule, event_id: str, scheduled_ms: int) -> dict[str, Any]:
    """What a rule with a schedule sends at its time.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html
    """
    return {
        "version": "0",
        "id": event_id,
        "detail-type": SCHEDULED_DETAIL_TYPE,
        "source": SCHEDULED_SOURCE,
        "account": rule.bus.account_id,
        "time": event_time(scheduled_ms),
        "region": rule.bus.region,
        "resources": [rule.arn],
        "detail": {},
    }


def exact_sources(pattern: str) -> frozenset[str] | None:
    """The sources of which an event must have one to match, where a valid pattern says so; None for any source.

    A bus with hundreds of rules need not ask them all. Branches of a `$or` may name the source again: then any may do.
    """
    document = json.loads(pattern)
    sources = document.get("source")
    if OR in document or not isinstance(sources, list) or not all(isinstance(each, str) for each in sources):
        return None
    return frozenset(sources)

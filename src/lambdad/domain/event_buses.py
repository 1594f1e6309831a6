"""Event buses: their names, ARNs and limits, and the errors of EventBridge.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-bus.html and, for the limits,
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html

    ServiceError
    ├── EventsResourceNotFoundException   400
    ├── ResourceAlreadyExistsException    400
    ├── LimitExceededException            400
    ├── IllegalStatusException            400  a replay has ended already
    └── EventsPolicyLengthExceeded        400  PolicyLengthExceededException
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from lambdad.domain.errors import ServiceError, ValidationException

DEFAULT_BUS: Final = "default"
BUSES_MAX: Final = 100
"""In an account and region."""
RULES_MAX: Final = 300
"""On a bus."""
TARGETS_MAX: Final = 5
"""Of a rule."""
TAGS_MAX: Final = 50
POLICY_CHARACTERS_MAX: Final = 10_240

_BUS: Final = re.compile(
    r"(?:arn:aws[\w-]*:events:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):event-bus/)?(?P<name>[/._\-A-Za-z0-9]+)"
)
_RESERVED_TAG: Final = "aws:"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"

Event = Mapping[str, Any]
"""An event document: version, id, detail-type, source, account, time, region, resources, detail."""


class EventsResourceNotFoundException(ServiceError):
    code = "ResourceNotFoundException"
    status = 400


class ResourceAlreadyExistsException(ServiceError):
    code = "ResourceAlreadyExistsException"
    status = 400


class LimitExceededException(ServiceError):
    code = "LimitExceededException"
    status = 400


class IllegalStatusException(ServiceError):
    code = "IllegalStatusException"
    status = 400


class EventsPolicyLengthExceeded(ServiceError):
    code = "PolicyLengthExceededException"
    status = 400


def limit_exceeded() -> LimitExceededException:
    return LimitExceededException("The requested resource exceeds the maximum number allowed.")


def invalid_parameter(name: str, reason: str) -> ValidationException:
    """As EventBridge words what is wrong with a parameter."""
    return ValidationException(f"Parameter {name} is not valid. Reason: {reason}")


@dataclass(frozen=True, slots=True, order=True)
class BusKey:
    """One event bus: names are unique in an account and region."""

    account_id: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        return f"arn:aws:events:{self.region}:{self.account_id}:event-bus/{self.name}"

    @property
    def is_default(self) -> bool:
        return self.name == DEFAULT_BUS

    def rule_arn(self, rule: str) -> str:
        """The ARN of one of its rules, which names the bus unless it is the default one."""
        path = rule if self.is_default else f"{self.name}/{rule}"
        return f"arn:aws:events:{self.region}:{self.account_id}:rule/{path}"

    def not_found(self) -> EventsResourceNotFoundException:
        return EventsResourceNotFoundException(f"Event bus {self.name} does not exist.")

    def rule_not_found(self, rule: str) -> EventsResourceNotFoundException:
        return EventsResourceNotFoundException(f"Rule {rule} does not exist on EventBus {self.name}.")


@dataclass(frozen=True, slots=True)
class EventBus:
    """A bus as it was created. The default bus is there without being created; times are None until it is changed.

    `policy` is JSON text, empty when there is none. The dead-letter queue of a bus gets events that cannot be encrypted
    with a customer's key; no event is here, so it is shown as it was put and never used.
    """

    key: BusKey
    description: str = ""
    policy: str = ""
    dead_letter_arn: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    created_ms: int | None = None
    modified_ms: int | None = None


def parse_bus(text: str | None, account_id: str, region: str) -> BusKey:
    """The bus that a caller means by a name or an ARN; the default bus when it is None.

    Raises ValidationException for what is neither.
    """
    match = _BUS.fullmatch(text or DEFAULT_BUS)
    if match is None:
        raise invalid_parameter("EventBusName", "It is neither the name nor the ARN of an event bus.")
    return BusKey(match["account"] or account_id, match["region"] or region, match["name"])


def event_time(moment_ms: int) -> str:
    """A time as events have it, to the second."""
    return datetime.fromtimestamp(moment_ms // 1000, UTC).strftime(_TIME)


def check_new_bus_name(name: str) -> None:
    """Raises ValidationException: a slash is for the buses of partners."""
    if "/" in name:
        raise ValidationException("Event bus name must not contain '/'.")


def merged_tags(before: Mapping[str, str], added: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Tags with others, as requests have them, added. Raises ValidationException and LimitExceededException."""
    tags = dict(before)
    for tag in added:
        if tag["Key"].lower().startswith(_RESERVED_TAG):
            raise ValidationException("System tags cannot be added/updated by requester")
        tags[tag["Key"]] = tag["Value"]
    if len(tags) > TAGS_MAX:
        raise LimitExceededException(f"A resource can have at most {TAGS_MAX} tags.")
    return tags

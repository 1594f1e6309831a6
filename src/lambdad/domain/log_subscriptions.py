"""Subscription filters of log groups, and the events that a subscribed function gets.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html and
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutSubscriptionFilter.html

    ServiceError
    ├── LimitExceededException    400  a group has two filters already
    └── InvalidOperationException 400  the group's class knows no subscriptions
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from lambdad.domain import filter_patterns
from lambdad.domain.arns import FunctionReference, parse_function_name
from lambdad.domain.errors import ServiceError
from lambdad.domain.filter_patterns import FilterPattern
from lambdad.domain.logs import GroupKey, InvalidParameterException, LogEvent, LogResourceNotFoundException

FILTERS_MAX: Final = 2
"""So many filters a log group has at most."""
GZIP_LEVEL: Final = 6
BY_LOG_STREAM: Final = "ByLogStream"

_ARN: Final = re.compile(r"arn:aws[a-zA-Z-]*:(?P<vendor>[a-z0-9-]+):(?P<region>[^:]*):(?P<account>[^:]*):(?P<rest>.+)")
_ENVELOPE: Final = b'{"awslogs":{"data":"%b"}}'


class LimitExceededException(ServiceError):
    code = "LimitExceededException"
    status = 400


class InvalidOperationException(ServiceError):
    code = "InvalidOperationException"
    status = 400


def filter_not_found() -> LogResourceNotFoundException:
    return LogResourceNotFoundException("The specified subscription filter does not exist.")


def too_many_filters() -> LimitExceededException:
    return LimitExceededException("Resource limit exceeded.")


def not_permitted() -> InvalidParameterException:
    return InvalidParameterException(
        "Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute your "
        "function."
    )


@dataclass(frozen=True, slots=True)
class SubscriptionFilter:
    """Which events of a log group go to which function.

    `distribution` is how the shards of a Kinesis stream would be chosen: it is shown as it was put, and has no effect
    for a function, on AWS either, which gets the events of each log stream by themselves in any case.
    """

    group: GroupKey
    name: str
    pattern: str
    destination_arn: str
    created_ms: int
    distribution: str = BY_LOG_STREAM

    @property
    def function(self) -> FunctionReference:
        """The function, version or alias that the destination names."""
        return parse_function_name(self.destination_arn, self.group.account_id, self.group.region)


@dataclass(frozen=True, slots=True)
class SubscribedEvents:
    """Events of one log stream that have arrived, in the order of arrival, and the filters they are to go through."""

    group: GroupKey
    stream: str
    filters: Sequence[SubscriptionFilter]
    events: Sequence[LogEvent]


def check_destination(destination_arn: str, role_arn: str | None, group: GroupKey) -> None:
    """Let the ARN of a function in the group's account and region pass, to which no role is given.

    Raises InvalidParameterException: streams, delivery streams and logical destinations do not exist here.
    """
    match = _ARN.fullmatch(destination_arn)
    if match is None:
        raise InvalidParameterException(f"Invalid destinationArn: {destination_arn}")
    if match["vendor"] != "lambda":
        raise InvalidParameterException(
            f"PutSubscriptionFilter operation cannot work with destinationArn for vendor {match['vendor']}"
        )
    if role_arn is not None:
        raise InvalidParameterException("destinationArn for vendor lambda cannot be used with roleArn")
    if (match["account"], match["region"]) != (group.account_id, group.region):
        raise InvalidParameterException(
            "destinationArn for vendor lambda must be in the account and region of the log group"
        )
    try:
        parse_function_name(destination_arn, group.account_id, group.region)
    except ServiceError as error:
        raise InvalidParameterException(f"Invalid destinationArn: {destination_arn}") from error


@lru_cache(256)
def compiled(pattern: str) -> FilterPattern:
    """Read a filter pattern. Raises InvalidParameterException."""
    try:
        return filter_patterns.compile(pattern)
    except filter_patterns.InvalidPattern as error:
        raise InvalidParameterException(str(error)) from error


def payloads(
    found: SubscribedEvents, wanted: SubscriptionFilter, most_bytes: int
) -> Iterator[tuple[bytes | None, int]]:
    """The events for a function: those that match, divided so that none is larger than `most_bytes`.

    Beside each is how many log events it carries. It is None for one log event that is too large even by itself.
    """
    pattern = compiled(wanted.pattern)
    chosen = [event for event in found.events if pattern.matches(event.message)]
    rendered = [_rendered(event, pattern.extract(event.message)) for event in chosen]
    waiting = [rendered] if rendered else []
    while waiting:
        part = waiting.pop()
        payload = _payload(found, wanted, part)
        if len(payload) <= most_bytes:
            yield payload, len(part)
        elif len(part) == 1:
            yield None, 1
        else:
            half = len(part) // 2
            waiting += [part[half:], part[:half]]


def _rendered(event: LogEvent, extracted: dict[str, str]) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "id": event.event_id,
        "timestamp": event.position.timestamp_ms,
        "message": event.message,
    }
    if extracted:
        # TestMetricFilter has a dollar sign before the names, subscriptions have not.
        rendered["extractedFields"] = {name.removeprefix("$"): value for name, value in extracted.items()}
    return rendered


def _payload(found: SubscribedEvents, wanted: SubscriptionFilter, events: Sequence[dict[str, Any]]) -> bytes:
    document = {
        "messageType": "DATA_MESSAGE",
        "owner": found.group.account_id,
        "logGroup": found.group.name,
        "logStream": found.stream,
        "subscriptionFilters": [wanted.name],
        "logEvents": events,
    }
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return _ENVELOPE % base64.b64encode(gzip.compress(text, GZIP_LEVEL, mtime=0))

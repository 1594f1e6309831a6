"""The ARNs to which Lambda sends what became of asynchronous events: destinations and dead-letter queues.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
Destinations are standard queues and topics (not FIFO), functions, event buses, and buckets for what failed. A
dead-letter queue is a standard queue or topic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lambdad.domain.errors import InvalidParameterValueException

SQS: Final = "sqs"
SNS: Final = "sns"
LAMBDA: Final = "lambda"
EVENTS: Final = "events"
S3: Final = "s3"

_ARN: Final = re.compile(r"arn:aws:(sqs|sns|lambda|events|s3):([a-z0-9-]*):([0-9]{12})?:(.+)")
_RESOURCES: Final = {
    SQS: re.compile(r"([a-zA-Z0-9_-]{1,80})"),
    SNS: re.compile(r"([a-zA-Z0-9_-]{1,256})"),
    LAMBDA: re.compile(r"function:([a-zA-Z0-9_-]{1,64})(?::(\$LATEST|[a-zA-Z0-9_-]{1,128}))?"),
    EVENTS: re.compile(r"event-bus/([a-zA-Z0-9._-]{1,256})"),
    S3: re.compile(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])"),
}


@dataclass(frozen=True, slots=True)
class Destination:
    """A parsed ARN. `service` is botocore's name; a bucket has neither account nor region, both are empty then."""

    arn: str
    service: str
    account_id: str
    region: str
    name: str
    qualifier: str | None = None
    """The version or alias of a function."""


def parse(arn: str) -> Destination:
    """What an ARN names. Raises InvalidParameterValueException for what cannot be a destination."""
    destination = _parse(arn)
    if destination is None:
        raise invalid(arn)
    return destination


def parse_dead_letter(arn: str) -> Destination:
    """The queue or topic that an ARN names. Raises InvalidParameterValueException for everything else."""
    destination = _parse(arn)
    if destination is None or destination.service not in (SQS, SNS):
        raise InvalidParameterValueException(
            f"Invalid dead letter ARN: {arn} does not name a standard SQS queue or a standard SNS topic"
        )
    return destination


def invalid(arn: str) -> InvalidParameterValueException:
    """As AWS answers for an ARN that cannot be a destination, and for one that leads nowhere."""
    return InvalidParameterValueException(f"The destination ARN {arn} is invalid.")


def _parse(arn: str) -> Destination | None:
    match = _ARN.fullmatch(arn)
    if match is None:
        return None
    service, region, account_id = match[1], match[2], match[3] or ""
    resource = _RESOURCES[service].fullmatch(match[4])
    is_global = service == S3
    if resource is None or is_global != (region == "") or is_global != (account_id == ""):
        return None
    return Destination(arn, service, account_id, region, *resource.groups())

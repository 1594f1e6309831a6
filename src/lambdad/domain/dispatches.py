"""What services send when something has happened: an object, a message, an event, to a function or another target.

A dispatch waits in the durable queue until its target has taken it, or has refused it, or its policy is exhausted; then
it goes to its dead-letter queue, if it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

HTTP: Final = "http"
"""The `service` of a dispatch that is a POST to `target`, a URL; its parameters are `Headers` and `Body`, both text."""
LAMBDA: Final = "lambda"
"""The `service` of a dispatch to a function; its one parameter is `Payload`, JSON text."""
SQS: Final = "sqs"
"""Its `operation` is SendMessage, and the queue's URL is found from the ARN of the target: it is no parameter."""


@dataclass(frozen=True, slots=True)
class DispatchPolicy:
    """How often and how long a target is tried that cannot be reached or throttles. One that refuses is not retried."""

    max_attempts: int
    max_age_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message for a queue, should the dispatch fail.

    `error_attributes` gives, for ERROR_CODE, ERROR_MESSAGE, EXHAUSTED_RETRY_CONDITION and RETRY_ATTEMPTS, the names of
    the message attributes that carry what went wrong; what is not in it is not told.
    """

    queue_arn: str
    body: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """As SendMessage takes them."""
    error_attributes: Mapping[str, str] = field(default_factory=dict)
    group_id: str = ""
    """Of a FIFO queue."""
    deduplication_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """One call of an operation of a service, as botocore's models name both; parameters are text, numbers and bytes."""

    target: str
    """The ARN of what gets it, or a URL."""
    service: str
    operation: str = ""
    parameters: Mapping[str, Any]
    source: str
    """The ARN of what sends it: a bucket, topic, rule, schedule."""
    principal: str
    """The service that sends it, such as `events.amazonaws.com`: a function's policy has to let it in.

    Empty when a role of the account does.
    """
    account_id: str
    """On whose behalf."""
    region: str
    policy: DispatchPolicy
    dead_letter: DeadLetter | None = None

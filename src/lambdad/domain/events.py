"""Asynchronous work: the events that functions are to get, the deliveries of what became of them, and dispatches.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html
An event lives in the queue from the moment it is accepted until it has an `Ending`, and it gets exactly one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

LAMBDA_ARN_PREFIX = "arn:aws:lambda:"


class Condition(enum.StrEnum):
    """How an event has ended.

    The first four are what AWS writes into an invocation record; the others have no record, or none that is documented.
    """

    SUCCESS = "Success"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    EVENT_AGE_EXCEEDED = "EventAgeExceeded"
    ZERO_RESERVED_CONCURRENCY = "ZeroReservedConcurrency"
    RECURSIVE_INVOCATION = "RecursiveInvocation"
    FUNCTION_NOT_FOUND = "FunctionNotFound"
    DELIVERED = "Delivered"
    REFUSED = "Refused"
    PURGED = "Purged"


SUCCEEDED = frozenset({Condition.SUCCESS, Condition.DELIVERED})


class Purpose(enum.StrEnum):
    """What an event is for: to invoke a function, to tell a target what became of one that was, or a dispatch."""

    INVOCATION = "Invocation"
    DEAD_LETTER = "DeadLetterQueue"
    ON_SUCCESS = "OnSuccess"
    ON_FAILURE = "OnFailure"
    DISPATCH = "Dispatch"


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it waits in the queue. `lane` is the ARN of what it is for, and events of one lane wait together.

    The lane of an invocation is the function as it was named (with the version or alias, if any), that of a delivery is
    its target, that of a dispatch `<target> from <source>`. `payload` passes through unparsed. Times are milliseconds
    since the epoch.
    """

    id: int
    """Its number in the store, in the order of acceptance; 0 before it is stored."""
    lane: str
    request_id: str
    payload: bytes
    accepted_ms: int
    due_ms: int
    """When it is to be tried next."""
    purpose: Purpose = Purpose.INVOCATION
    trace: str = ""
    """The X-Ray trace header that came with it, or that the first attempt was given."""
    invocations: int = 0
    """How often it has been tried so far, throttles and system errors not counted."""
    backoffs: int = 0
    """How often in a row it was throttled, or met an error of the system."""
    error_code: int = 0
    """HTTP status of what went wrong last: 200 for an error of the function. A dead letter carries it."""
    error_message: str = ""
    source: str = ""
    """Of a delivery: the ARN of the function whose event it tells of, as it was invoked; of a dispatch: who sends."""

    @property
    def is_retried(self) -> bool:
        return self.invocations > 0 or self.backoffs > 0


@dataclass(frozen=True, slots=True)
class Ending:
    """The one outcome of an event."""

    event: Event
    condition: Condition
    ended_ms: int
    follow_ups: tuple[Event, ...] = ()
    """Accepted in the same instant as this is recorded: what destinations and the dead-letter queue are to get."""

    @property
    def succeeded(self) -> bool:
        return self.condition in SUCCEEDED


def is_function(lane: str) -> bool:
    """Whether a lane leads to a function rather than to another service."""
    return lane.startswith(LAMBDA_ARN_PREFIX)

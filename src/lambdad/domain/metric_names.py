"""The metrics of the namespace AWS/Lambda that lambdad counts, under CloudWatch's names.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
"""

from __future__ import annotations

import enum
from typing import Final

NAMESPACE: Final = "AWS/Lambda"


class MetricName(enum.StrEnum):
    """A metric of functions; `unit` is CloudWatch's word for what its values are."""

    INVOCATIONS = "Invocations"
    """Count: events that a function was given, whatever became of them."""
    ERRORS = "Errors"
    """Count: 1 for an invocation that failed, in the function or the runtime or by a timeout; 0 for any other."""
    THROTTLES = "Throttles"
    """Count: 1 for an invocation that was refused for want of concurrency; 0 for one that was let in."""
    DURATION = "Duration"
    """Milliseconds that the function took, without its initialization."""
    CONCURRENT_EXECUTIONS = "ConcurrentExecutions"
    """Count: how many invocations of the function ran when one more had begun, with that one."""
    ASYNC_EVENTS_RECEIVED = "AsyncEventsReceived"
    """Count: events accepted into the queue."""
    ASYNC_EVENT_AGE = "AsyncEventAge"
    """Milliseconds from an event's acceptance to an attempt to run it, of each attempt."""
    ASYNC_EVENTS_DROPPED = "AsyncEventsDropped"
    """Count: events that ended without having succeeded, whether or not a target was told of it."""
    DEAD_LETTER_ERRORS = "DeadLetterErrors"
    """Count: events that could not be sent to a dead-letter queue."""
    DESTINATION_DELIVERY_FAILURES = "DestinationDeliveryFailures"
    """Count: invocation records that could not be sent to a destination."""
    RECURSIVE_INVOCATIONS_DROPPED = "RecursiveInvocationsDropped"
    """Count: invocations that were stopped because the function was part of a loop."""

    @property
    def unit(self) -> str:
        return "Milliseconds" if self in (MetricName.ASYNC_EVENT_AGE, MetricName.DURATION) else "Count"

"""The metrics of the namespace AWS/Lambda that lambdad counts, under CloudWatch's names.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
"""

from __future__ import annotations

import enum


class MetricName(enum.StrEnum):
    """A metric of functions; `unit` is CloudWatch's word for what its values are."""

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
        return "Milliseconds" if self is MetricName.ASYNC_EVENT_AGE else "Count"

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
    POST_RUNTIME_EXTENSIONS_DURATION = "PostRuntimeExtensionsDuration"
    """Milliseconds from the runtime's request for another event to that of the last extension."""
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
    PROVISIONED_CONCURRENCY_INVOCATIONS = "ProvisionedConcurrencyInvocations"
    """Count: invocations that were run in a provisioned environment."""
    PROVISIONED_CONCURRENCY_SPILLOVER_INVOCATIONS = "ProvisionedConcurrencySpilloverInvocations"
    """Count: those of a version with provisioned environments that were run in another one, all of these being busy."""
    PROVISIONED_CONCURRENT_EXECUTIONS = "ProvisionedConcurrentExecutions"
    """Count: how many provisioned environments ran an event when one more had begun, with that one."""
    PROVISIONED_CONCURRENCY_UTILIZATION = "ProvisionedConcurrencyUtilization"
    """Count: the same as a part of all that are provisioned for the version, from 0 to 1."""
    SIGNATURE_VALIDATION_ERRORS = "SignatureValidationErrors"
    """Count: deployments that a code signing configuration let in although a signature was not accepted."""

    @property
    def unit(self) -> str:
        return "Milliseconds" if self in _IN_MILLISECONDS else "Count"


_IN_MILLISECONDS: Final = frozenset(
    {MetricName.ASYNC_EVENT_AGE, MetricName.DURATION, MetricName.POST_RUNTIME_EXTENSIONS_DURATION}
)

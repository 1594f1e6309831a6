"""Invocations that are accepted now and run later.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html
"""

from __future__ import annotations

from lambdad.domain.arns import FunctionReference
from lambdad.domain.errors import RequestEntityTooLargeException
from lambdad.domain.events import Event
from lambdad.domain.metric_names import MetricName
from lambdad.domain.tracing import accepted_trace
from lambdad.ports.clock import Clock
from lambdad.services.event_queue import EventQueue
from lambdad.services.identifiers import new_trace_digits
from lambdad.services.invoke import InvokeService
from lambdad.services.metrics import Metrics


class AsynchronousInvocations:
    """Accepts them. `payload_bytes` is the most that one may carry."""

    def __init__(
        self, queue: EventQueue, invoke: InvokeService, metrics: Metrics, clock: Clock, payload_bytes: int
    ) -> None:
        self._queue = queue
        self._invoke = invoke
        self._metrics = metrics
        self._clock = clock
        self._payload_bytes = payload_bytes

    async def accept(
        self, reference: FunctionReference, request_id: str, payload: bytes, trace: str | None = None
    ) -> str:
        """Put an invocation into the queue; it is on disk when this returns its trace header.

        Raises RequestEntityTooLargeException, ResourceNotFoundException and StoreUnavailable.
        """
        event = await self.event(reference, request_id, payload, trace)
        await self._queue.accept(event)
        self.accepted(reference)
        return event.trace

    async def event(
        self, reference: FunctionReference, request_id: str, payload: bytes, trace: str | None = None
    ) -> Event:
        """An invocation as the queue takes it; who puts it there tells `accepted`.

        Raises RequestEntityTooLargeException, ResourceNotFoundException and StoreUnavailable.
        """
        if len(payload) > self._payload_bytes:
            raise RequestEntityTooLargeException(
                f"{len(payload)} byte payload is too large for the Event invocation type "
                f"(limit {self._payload_bytes} bytes)"
            )
        await self.target(reference)
        now = self._clock.time()
        now_ms = int(now * 1000)
        header = accepted_trace(now, trace, new_trace_digits())
        return Event(0, reference.arn, request_id, payload, now_ms, now_ms, trace=header)

    def accepted(self, reference: FunctionReference) -> None:
        """Count an invocation that is in the queue."""
        key = reference.key
        self._metrics.count(key.account_id, key.region, key.name, reference.qualifier, MetricName.ASYNC_EVENTS_RECEIVED)

    async def target(self, reference: FunctionReference) -> None:
        """Raises ResourceNotFoundException when there is no such function."""
        await self._invoke.target(reference)

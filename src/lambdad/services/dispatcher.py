"""Sends what services emit when something has happened: to functions, and to other targets through the durable queue.

Permission of a function is looked at when the dispatch is accepted, as AWS does at each delivery. What a function may
not have, or is gone for, goes to the dead-letter queue of the dispatch, or is dropped with a line in the daemon's log.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-event-delivery.html: such errors are not retried.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from lambdad.domain.arns import parse_foreign_name
from lambdad.domain.dispatches import LAMBDA, Dispatch
from lambdad.domain.errors import ServiceError
from lambdad.domain.events import Event, Purpose
from lambdad.ports.clock import Clock
from lambdad.ports.permissions import Permissions
from lambdad.services.asynchronous import AsynchronousInvocations
from lambdad.services.attempts import function_reference
from lambdad.services.dispatch_attempts import FailedDispatch, dead_letter, dispatch_event
from lambdad.services.event_queue import EventQueue
from lambdad.services.identifiers import new_request_id

logger = logging.getLogger(__name__)


class Dispatcher:
    """Accepts dispatches."""

    def __init__(
        self, queue: EventQueue, invocations: AsynchronousInvocations, permissions: Permissions, clock: Clock
    ) -> None:
        self._queue = queue
        self._invocations = invocations
        self._permissions = permissions
        self._clock = clock

    async def accept(
        self, dispatches: Sequence[Dispatch], *, marks: Mapping[str, int] | None = None, trace: str = ""
    ) -> None:
        """Put dispatches into the queue, and note the marks, all or nothing; it is on disk when this returns.

        Raises StoreUnavailable.
        """
        found = [await self._event(dispatch, trace) for dispatch in dispatches]
        events = [event for event in found if event is not None]
        if len(events) == 1 and not marks:
            await self._queue.accept(events[0])
        elif events or marks:
            await self._queue.accept_together(events, marks or {})
        for event in events:
            if event.purpose is Purpose.INVOCATION:
                self._invocations.accepted(function_reference(event.lane))

    async def marks(self, prefix: str) -> Mapping[str, int]:
        """The marks whose names begin so. Raises StoreUnavailable."""
        return await self._queue.marks(prefix)

    async def forget_mark(self, name: str) -> None:
        """Have no such mark any more. Raises StoreUnavailable."""
        await self._queue.forget_mark(name)

    async def _event(self, dispatch: Dispatch, trace: str) -> Event | None:
        """What waits in the queue for a dispatch; None when it is dropped."""
        now_ms = int(self._clock.time() * 1000)
        if dispatch.service != LAMBDA:
            return dispatch_event(dispatch, now_ms, trace)
        try:
            return await self._invocation(dispatch, trace)
        except ServiceError as error:
            logger.warning("%s cannot invoke %s: %s", dispatch.source, dispatch.target, error.message)
            letter = dead_letter(dispatch, FailedDispatch.of(error.code, error.message))
            return None if letter is None else dispatch_event(letter, now_ms, trace)

    async def _invocation(self, dispatch: Dispatch, trace: str) -> Event:
        """Raises ServiceError when the function is gone, lets the sender not in, or cannot have so large an event."""
        reference = parse_foreign_name(dispatch.target, dispatch.account_id, dispatch.region)
        if not dispatch.principal:
            await self._permissions.check_account(reference, dispatch.account_id, "InvokeFunction")
        elif not await self._permissions.allows_service(
            reference, dispatch.principal, dispatch.source, dispatch.account_id
        ):
            await self._invocations.target(reference)
            raise NotPermitted(dispatch)
        payload = str(dispatch.parameters["Payload"]).encode()
        return await self._invocations.event(reference, new_request_id(), payload, trace)


class NotPermitted(ServiceError):
    """The function's policy does not let the sender in."""

    code = "AccessDeniedException"
    status = 403

    def __init__(self, dispatch: Dispatch) -> None:
        super().__init__(f"The resource policy of {dispatch.target} does not allow {dispatch.principal} to invoke it")

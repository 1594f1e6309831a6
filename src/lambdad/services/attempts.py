"""What is done with an event of the queue: a function is invoked, or a target gets a delivery or a dispatch.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Final

from lambdad.domain import quotas, retry_policy
from lambdad.domain.arns import FunctionReference, parse_function_name
from lambdad.domain.errors import (
    RecursiveInvocationException,
    ResourceNotFoundException,
    ServiceError,
    TooManyRequestsException,
)
from lambdad.domain.events import Condition, Ending, Event, Purpose, is_function
from lambdad.domain.invocations import Outcome
from lambdad.domain.metric_names import MetricName
from lambdad.domain.retry_policy import Attempt, RetryPolicy
from lambdad.ports.clock import Clock
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable
from lambdad.ports.store import StoreUnavailable
from lambdad.services.deliveries import Answer, Deliveries, follow_ups
from lambdad.services.dispatch_attempts import DispatchAttempts, is_dispatch, is_in_order
from lambdad.services.event_queue import Postponed
from lambdad.services.invoke import InvokeRequest, InvokeService, Target
from lambdad.services.metrics import Metrics

logger = logging.getLogger(__name__)

DELIVERIES_AT_ONCE: Final = 8
"""To one target."""
ERROR_MESSAGE_CHARACTERS: Final = 1024
"""So much of an error's message is kept: a dead letter carries no more."""
_FUNCTION_ERROR_CODE: Final = 200
_THROTTLED_CODE: Final = 429
_SYSTEM_ERROR_CODE: Final = 500
_FAILURE_METRICS: Final = {
    Purpose.DEAD_LETTER: MetricName.DEAD_LETTER_ERRORS,
    Purpose.ON_SUCCESS: MetricName.DESTINATION_DELIVERY_FAILURES,
    Purpose.ON_FAILURE: MetricName.DESTINATION_DELIVERY_FAILURES,
}


class Attempts:
    """The work of the queue. See `lambdad.services.event_queue.Work`.

    `delay_scale` multiplies the waits between attempts; `payload_bytes` is the most that an invocation may carry.
    """

    def __init__(
        self,
        invoke: InvokeService,
        deliveries: Deliveries,
        dispatches: DispatchAttempts,
        metrics: Metrics,
        clock: Clock,
        delay_scale: float,
        payload_bytes: int,
    ) -> None:
        self._invoke = invoke
        self._deliveries = deliveries
        self._dispatches = dispatches
        self._metrics = metrics
        self._clock = clock
        self._delay_scale = delay_scale
        self._payload_bytes = payload_bytes

    def concurrency(self, lane: str) -> int | None:
        if not is_function(lane):
            return 1 if is_in_order(lane) else DELIVERIES_AT_ONCE
        target = self._invoke.known_target(function_reference(lane))
        if target is None:
            return None
        return quotas.CONCURRENT_EXECUTIONS if target.reserved is None else target.reserved

    def max_age_ms(self, lane: str) -> int | None:
        if is_dispatch(lane):
            return None  # each has its own
        if not is_function(lane):
            return retry_policy.DELIVERY_AGE_MS
        target = self._invoke.known_target(function_reference(lane))
        return self._policy(target).max_event_age_ms if target is not None else None

    async def attempt(self, event: Event, begun: Callable[[], None]) -> Ending | Postponed:
        try:
            if event.purpose is Purpose.INVOCATION:
                return await self._run(event, begun)
            begun()
            if event.purpose is Purpose.DISPATCH:
                return await self._dispatches.attempt(event)
            return await self._deliver(event)
        except Exception as error:  # an event is not lost for a fault of ours: it is tried again, as after any other
            logger.exception("an attempt at event %d (request %s) failed", event.id, event.request_id)
            return self._broken_off(replace(event, backoffs=event.backoffs + 1), repr(error))

    def _broken_off(self, event: Event, reason: str) -> Ending | Postponed:
        """The same as after an error of the system, but for this event alone: others of its lane may fare better."""
        if event.purpose is Purpose.INVOCATION:
            failed = _failed(event, _SYSTEM_ERROR_CODE, reason)
            result = self._after(failed, self._policy(None), Attempt.SYSTEM_ERROR, None, None)
        else:
            result = self._undelivered(event, _SYSTEM_ERROR_CODE, reason, refused=False)
        return replace(result, holds_lane=False) if isinstance(result, Postponed) else result

    # Invocations

    async def _run(self, event: Event, begun: Callable[[], None]) -> Ending | Postponed:
        reference = function_reference(event.lane)
        try:
            target = await self._invoke.target(reference)
        except ResourceNotFoundException as error:
            return self._dropped(_failed(event, error.status, error.message), Condition.FUNCTION_NOT_FOUND, None)
        except StoreUnavailable as error:
            return self._backed_off(_failed(event, _SYSTEM_ERROR_CODE, str(error)), self._policy(None), None)
        policy = self._policy(target)
        age_ms = self._now_ms() - event.accepted_ms
        if age_ms >= policy.max_event_age_ms:
            return self._dropped(event, Condition.EVENT_AGE_EXCEEDED, target)
        if target.reserved == 0:
            return self._dropped(
                _failed(event, _THROTTLED_CODE, "Rate Exceeded."), Condition.ZERO_RESERVED_CONCURRENCY, target
            )
        request = InvokeRequest(reference, event.request_id, event.payload, trace=event.trace, begun=begun)
        try:
            version, outcome = await self._invoke.invoke(request)
        except RecursiveInvocationException as error:
            return self._dropped(_failed(event, error.status, error.message), Condition.RECURSIVE_INVOCATION, target)
        except TooManyRequestsException as error:
            return self._backed_off(_failed(event, error.status, error.message), policy, target, Attempt.THROTTLED)
        except ResourceNotFoundException as error:
            return self._dropped(_failed(event, error.status, error.message), Condition.FUNCTION_NOT_FOUND, None)
        except ServiceError as error:
            return self._backed_off(_failed(event, error.status, error.message), policy, target)
        except StoreUnavailable as error:
            return self._backed_off(_failed(event, _SYSTEM_ERROR_CODE, str(error)), policy, target)
        self._count(event, MetricName.ASYNC_EVENT_AGE, age_ms)
        event = replace(event, invocations=event.invocations + 1, backoffs=0)
        answer = Answer(version.version, outcome)
        if not outcome.failed:
            return self._ending(event, Condition.SUCCESS, target, answer)
        event = _failed(event, _FUNCTION_ERROR_CODE, _error_message(outcome))
        return self._after(event, policy, Attempt.FUNCTION_ERROR, target, answer)

    def _policy(self, target: Target | None) -> RetryPolicy:
        """That of the function as it was named; AWS's defaults when it is not known."""
        config = target.event_config if target is not None else None
        defaults = RetryPolicy(delay_scale=self._delay_scale)
        if config is None:
            return defaults
        retries, age_s = config.max_retry_attempts, config.max_event_age_s
        return RetryPolicy(
            defaults.max_retry_attempts if retries is None else retries,
            defaults.max_event_age_ms if age_s is None else age_s * 1000,
            self._delay_scale,
        )

    def _backed_off(
        self, event: Event, policy: RetryPolicy, target: Target | None, attempt: Attempt = Attempt.SYSTEM_ERROR
    ) -> Ending | Postponed:
        return self._after(replace(event, backoffs=event.backoffs + 1), policy, attempt, target, None)

    def _after(
        self, event: Event, policy: RetryPolicy, attempt: Attempt, target: Target | None, answer: Answer | None
    ) -> Ending | Postponed:
        """What an attempt that failed comes to."""
        now_ms = self._now_ms()
        step = retry_policy.next_step(policy, attempt, event.invocations, event.backoffs, now_ms - event.accepted_ms)
        if isinstance(step, Condition):
            return self._dropped(event, step, target, answer)
        return Postponed(replace(event, due_ms=now_ms + step), holds_lane=attempt is not Attempt.FUNCTION_ERROR)

    def _dropped(
        self, event: Event, condition: Condition, target: Target | None, answer: Answer | None = None
    ) -> Ending:
        self._count(event, MetricName.ASYNC_EVENTS_DROPPED)
        return self._ending(event, condition, target, answer)

    def _ending(self, event: Event, condition: Condition, target: Target | None, answer: Answer | None) -> Ending:
        now_ms = self._now_ms()
        if target is None:
            return Ending(event, condition, now_ms)
        return Ending(
            event, condition, now_ms, follow_ups(event, condition, target, answer, now_ms, self._payload_bytes)
        )

    # Deliveries

    async def _deliver(self, event: Event) -> Ending | Postponed:
        try:
            await self._deliveries.deliver(event)
        except NeighbourRefused as error:
            counted = replace(event, invocations=event.invocations + 1, backoffs=0)
            return self._undelivered(counted, error.status, str(error), refused=True)
        except NeighbourUnavailable as error:
            counted = replace(event, backoffs=event.backoffs + 1)
            return self._undelivered(counted, _SYSTEM_ERROR_CODE, str(error), refused=False)
        return Ending(replace(event, invocations=event.invocations + 1), Condition.DELIVERED, self._now_ms())

    def _undelivered(self, event: Event, code: int, reason: str, *, refused: bool) -> Ending | Postponed:
        now_ms = self._now_ms()
        step = retry_policy.next_delivery_step(
            refused, event.invocations, event.backoffs, now_ms - event.accepted_ms, self._delay_scale
        )
        event = _failed(event, code, reason)
        if not isinstance(step, Condition):
            return Postponed(replace(event, due_ms=now_ms + step), holds_lane=not refused)
        logger.warning(
            "%s of %s (request %s) cannot be sent to %s: %s",
            event.purpose,
            event.source,
            event.request_id,
            event.lane,
            reason,
        )
        if event.purpose in _FAILURE_METRICS:
            self._count(event, _FAILURE_METRICS[event.purpose])
        return Ending(event, step, now_ms)

    def _count(self, event: Event, name: MetricName, value: float = 1.0) -> None:
        reference = function_reference(event.source or event.lane)
        key = reference.key
        self._metrics.count(key.account_id, key.region, key.name, reference.qualifier, name, value)

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)


@lru_cache(4096)
def function_reference(arn: str) -> FunctionReference:
    """The function that an ARN names, as its own account would."""
    _, _, _, region, account_id, _ = arn.split(":", 5)
    return parse_function_name(arn, account_id, region)


def _failed(event: Event, code: int, message: str) -> Event:
    """The event with what went wrong; the message is cut, and is text that every store can take.

    A dead letter goes on carrying what went wrong with the event that it is made of.
    """
    if event.purpose is Purpose.DEAD_LETTER:
        return event
    text = message[:ERROR_MESSAGE_CHARACTERS].encode("utf-8", "replace").decode()
    return replace(event, error_code=code, error_message=text)


def _error_message(outcome: Outcome) -> str:
    """What the function's error says; its type when it says nothing."""
    try:
        document = json.loads(outcome.payload)
    except (ValueError, RecursionError):
        document = None
    message = document.get("errorMessage") if isinstance(document, dict) else None
    return message if isinstance(message, str) else outcome.error_type or ""

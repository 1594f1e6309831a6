"""What is done with a dispatch of the queue: its target is called, until it takes it, refuses it, or time is over.

A target that refuses is not asked again; one that cannot be reached, fails or throttles is, with waits that grow from
one second to five minutes: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-event-delivery.html.
What goes to a FIFO queue or topic goes in the order in which it was accepted, each tried until it has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from lambdad.domain import retry_policy
from lambdad.domain.dispatches import HTTP, SQS, DeadLetter, Dispatch, DispatchPolicy
from lambdad.domain.events import Condition, Ending, Event, Purpose
from lambdad.ports.clock import Clock
from lambdad.ports.neighbours import NeighbourRefused, Neighbours, NeighbourUnavailable
from lambdad.ports.web import Web
from lambdad.services.event_queue import Postponed
from lambdad.services.identifiers import new_request_id
from lambdad.services.queue_urls import QueueUrls

logger = logging.getLogger(__name__)

ERROR_MESSAGE_CHARACTERS: Final = 1024
DEAD_LETTER_POLICY: Final = DispatchPolicy(max_attempts=100, max_age_ms=retry_policy.DELIVERY_AGE_MS)
"""Of the messages to dead-letter queues. AWS documents no figure."""
MAX_ATTEMPTS: Final = "MaximumRetryAttempts"
MAX_AGE: Final = "MaximumEventAgeInSeconds"

_FROM: Final = " from "
_FIFO: Final = ".fifo"
_TOO_MANY_REQUESTS: Final = 429
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500
_ERROR_CODES: Final = (
    (("NotFound", "NonExistent", "DoesNotExist", "NoSuch"), "NO_RESOURCE"),
    (("AccessDenied", "Authorization", "Forbidden"), "NO_PERMISSIONS"),
    (("AlreadyExists",), "RESOURCE_ALREADY_EXISTS"),
    (("Invalid", "Validation", "TooLarge", "TooLong"), "INVALID_PARAMETER"),
)
"""EventBridge's words for what targets answer, by parts of the error's code: https://docs.aws.amazon.com/eventbridge/
latest/userguide/eb-rule-dlq.html"""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Dispatch).decode


@dataclass(frozen=True, slots=True)
class FailedDispatch:
    """Why a dispatch is given up; `exhausted` names the part of its policy that was, if that is the reason."""

    code: str
    message: str
    exhausted: str = ""
    retries: int = 0

    @classmethod
    def of(cls, code: str, message: str, retries: int = 0) -> FailedDispatch:
        """A refusal with an error code of the target."""
        known = (name for parts, name in _ERROR_CODES if any(part in code for part in parts))
        return cls(next(known, "SDK_CLIENT_ERROR"), message, retries=retries)


def dispatch_event(dispatch: Dispatch, now_ms: int, trace: str) -> Event:
    """A dispatch as it waits in the queue."""
    lane = f"{dispatch.target}{_FROM}{dispatch.source}"
    payload = _encode(dispatch)
    return Event(
        0, lane, new_request_id(), payload, now_ms, now_ms, Purpose.DISPATCH, trace=trace, source=dispatch.source
    )


def is_dispatch(lane: str) -> bool:
    """Whether dispatches wait in a lane."""
    return _FROM in lane


def is_in_order(lane: str) -> bool:
    """Whether what waits in a lane has to arrive in the order of its acceptance."""
    return lane.partition(_FROM)[0].endswith(_FIFO)


def dead_letter(dispatch: Dispatch, failed: FailedDispatch) -> Dispatch | None:
    """The message that tells of a dispatch that is given up; None when nobody is to be told."""
    letter = dispatch.dead_letter
    if letter is None:
        return None
    parameters: dict[str, Any] = {"MessageBody": letter.body}
    attributes = {**letter.attributes, **_error_attributes(letter, failed)}
    if attributes:
        parameters["MessageAttributes"] = attributes
    if letter.group_id:
        parameters["MessageGroupId"] = letter.group_id
    if letter.deduplication_id:
        parameters["MessageDeduplicationId"] = letter.deduplication_id
    return replace(
        dispatch,
        target=letter.queue_arn,
        service=SQS,
        operation="SendMessage",
        parameters=parameters,
        policy=DEAD_LETTER_POLICY,
        dead_letter=None,
    )


def _error_attributes(letter: DeadLetter, failed: FailedDispatch) -> Mapping[str, Any]:
    told = {
        "ERROR_CODE": failed.code,
        "ERROR_MESSAGE": failed.message[:ERROR_MESSAGE_CHARACTERS],
        "EXHAUSTED_RETRY_CONDITION": failed.exhausted,
        "RETRY_ATTEMPTS": str(failed.retries),
    }
    return {
        name: {"DataType": "Number" if key == "RETRY_ATTEMPTS" else "String", "StringValue": told[key]}
        for key, name in letter.error_attributes.items()
        if told[key]  # an attribute may not be empty
    }


class DispatchAttempts:
    """Tries dispatches. `delay_scale` multiplies the waits between attempts."""

    def __init__(self, neighbours: Neighbours, web: Web, clock: Clock, delay_scale: float) -> None:
        self._neighbours = neighbours
        self._web = web
        self._clock = clock
        self._delay_scale = delay_scale
        self._queue_urls = QueueUrls(neighbours)

    async def attempt(self, event: Event) -> Ending | Postponed:
        """Try a dispatch once; one that is to arrive in order, until it has ended."""
        dispatch = _decode(event.payload)
        result = await self._attempt(event, dispatch)
        while isinstance(result, Postponed) and is_in_order(event.lane):
            await self._clock.sleep((result.event.due_ms - self._now_ms()) / 1000)
            result = await self._attempt(result.event, dispatch)
        return result

    async def _attempt(self, event: Event, dispatch: Dispatch) -> Ending | Postponed:
        if self._now_ms() - event.accepted_ms >= dispatch.policy.max_age_ms:
            failed = FailedDispatch("TIMEOUT", event.error_message, MAX_AGE, max(event.backoffs - 1, 0))
            return self._given_up(event, dispatch, Condition.EVENT_AGE_EXCEEDED, failed)
        try:
            await self._send(dispatch, event.trace)
        except NeighbourRefused as error:
            refused = replace(event, invocations=event.invocations + 1, error_code=error.status)
            failed = FailedDispatch.of(error.code, error.message, event.backoffs)
            return self._given_up(refused, dispatch, Condition.REFUSED, failed)
        except NeighbourUnavailable as error:
            return self._after_failure(event, dispatch, str(error))
        except Exception as error:  # a fault of ours counts as one of the target: the policy and the dead letter hold
            logger.exception("a dispatch of %s to %s failed", dispatch.source, dispatch.target)
            return self._after_failure(event, dispatch, repr(error))
        return Ending(replace(event, invocations=event.invocations + 1), Condition.DELIVERED, self._now_ms())

    def _after_failure(self, event: Event, dispatch: Dispatch, reason: str) -> Ending | Postponed:
        now_ms, attempts = self._now_ms(), event.backoffs + 1
        failed_event = replace(
            event,
            backoffs=attempts,
            error_code=_SERVER_ERROR,
            error_message=reason[:ERROR_MESSAGE_CHARACTERS],
        )
        if attempts >= dispatch.policy.max_attempts:
            failed = FailedDispatch("ERROR_FROM_TARGET", reason, MAX_ATTEMPTS, attempts - 1)
            return self._given_up(failed_event, dispatch, Condition.RETRIES_EXHAUSTED, failed)
        left_ms = max(event.accepted_ms + dispatch.policy.max_age_ms - now_ms, 0)
        wait_ms = min(retry_policy.backoff_ms(attempts, self._delay_scale), left_ms)
        return Postponed(replace(failed_event, due_ms=now_ms + wait_ms), holds_lane=True)

    def _given_up(self, event: Event, dispatch: Dispatch, condition: Condition, failed: FailedDispatch) -> Ending:
        now_ms = self._now_ms()
        logger.warning("%s cannot send to %s: %s", dispatch.source, dispatch.target, failed.message)
        letter = dead_letter(dispatch, failed)
        follow_ups = () if letter is None else (dispatch_event(letter, now_ms, event.trace),)
        told = replace(event, error_message=failed.message[:ERROR_MESSAGE_CHARACTERS])
        return Ending(told, condition, now_ms, follow_ups)

    async def _send(self, dispatch: Dispatch, trace: str) -> None:
        if dispatch.service == HTTP:
            await self._post(dispatch)
            return
        parameters = dict(dispatch.parameters)
        caller = dispatch.account_id, dispatch.region
        if dispatch.service == SQS:
            url, region = await self._queue_urls.find(dispatch.target, dispatch.account_id, trace)
            parameters["QueueUrl"] = url
            caller = dispatch.account_id, region
            if trace:
                header = {"DataType": "String", "StringValue": trace}
                parameters["MessageSystemAttributes"] = {"AWSTraceHeader": header}
        account_id, region = caller
        try:
            answer = await self._neighbours.call(
                dispatch.service, dispatch.operation, parameters, account_id=account_id, region=region, trace=trace
            )
        except NeighbourRefused:
            self._queue_urls.forget(dispatch.target)
            raise
        if answer.get("FailedEntryCount"):  # PutEvents, which succeeds also when it takes nothing
            (entry,) = answer["Entries"]
            raise NeighbourRefused(str(entry.get("ErrorCode")), str(entry.get("ErrorMessage")), _CLIENT_ERROR)

    async def _post(self, dispatch: Dispatch) -> None:
        parameters = dispatch.parameters
        status = await self._web.post(dispatch.target, parameters["Headers"], str(parameters["Body"]).encode())
        if status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS:
            raise NeighbourUnavailable(f"{dispatch.target} answered {status}")
        if status >= _CLIENT_ERROR:
            raise NeighbourRefused("HTTPError", f"{dispatch.target} answered {status}", status)

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)

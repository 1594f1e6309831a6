"""What becomes of an asynchronous event after an attempt: it has ended, or it is tried again after a while.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html: an error of the function is retried
twice, after one minute and after two more. Throttles (429) and errors of the system (5xx) are retried for as long as
the event may live, six hours by default, with waits that grow from one second to five minutes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.events import Condition

FUNCTION_ERROR_DELAYS_MS: Final = (60_000, 120_000)
"""Before the first retry and before the second."""
BACKOFF_FIRST_MS: Final = 1_000
BACKOFF_LONGEST_MS: Final = 300_000
BACKOFF_SHORTEST_MS: Final = 10
"""However small people scale the waits, what is throttled is not asked for without pause."""
DELIVERY_ATTEMPTS: Final = 3
"""How often a target may refuse a delivery."""
DELIVERY_AGE_MS: Final = 3_600_000
"""How long a delivery waits for a target that does not answer. AWS documents no figure."""


class Attempt(enum.Enum):
    """How an attempt went."""

    SUCCEEDED = "succeeded"
    FUNCTION_ERROR = "function error"
    THROTTLED = "throttled"
    SYSTEM_ERROR = "system error"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often. `delay_scale` multiplies every wait, so that people's own tests need not last minutes."""

    max_retry_attempts: int = quotas.ASYNC_RETRY_ATTEMPTS_MAX
    max_event_age_ms: int = quotas.ASYNC_EVENT_AGE_S_MAX * 1000
    delay_scale: float = 1.0


def next_step(policy: RetryPolicy, attempt: Attempt, invocations: int, backoffs: int, age_ms: int) -> Condition | int:
    """The condition in which an event has ended, or the milliseconds until it is tried again.

    `invocations` counts the attempts that have reached the function, `backoffs` the throttles and system errors in a
    row, this one included. An event is never due later than its age allows: it ends there.
    """
    if attempt is Attempt.SUCCEEDED:
        return Condition.SUCCESS
    if attempt is Attempt.FUNCTION_ERROR and invocations > policy.max_retry_attempts:
        return Condition.RETRIES_EXHAUSTED
    left_ms = policy.max_event_age_ms - age_ms
    if left_ms <= 0:
        return Condition.EVENT_AGE_EXCEEDED
    if attempt is Attempt.FUNCTION_ERROR:
        place = min(invocations, len(FUNCTION_ERROR_DELAYS_MS)) - 1
        return min(round(FUNCTION_ERROR_DELAYS_MS[place] * policy.delay_scale), left_ms)
    return min(backoff_ms(backoffs, policy.delay_scale), left_ms)


def next_delivery_step(refused: bool, attempts: int, backoffs: int, age_ms: int, delay_scale: float) -> Condition | int:
    """The same for a delivery: `attempts` counts refusals, `backoffs` how often the target could not be reached."""
    if refused and attempts >= DELIVERY_ATTEMPTS:
        return Condition.REFUSED
    if age_ms >= DELIVERY_AGE_MS:
        return Condition.EVENT_AGE_EXCEEDED
    return min(backoff_ms(attempts if refused else backoffs, delay_scale), DELIVERY_AGE_MS - age_ms)


def backoff_ms(count: int, delay_scale: float) -> int:
    """The wait after so many throttles or system errors in a row, one at least."""
    unscaled = min(BACKOFF_FIRST_MS << min(count - 1, 20), BACKOFF_LONGEST_MS)
    return max(round(unscaled * delay_scale), BACKOFF_SHORTEST_MS)

"""What becomes of an event after each attempt, as AWS documents it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdad.domain.events import Condition
from lambdad.domain.retry_policy import (
    BACKOFF_SHORTEST_MS,
    DELIVERY_AGE_MS,
    Attempt,
    RetryPolicy,
    backoff_ms,
    next_delivery_step,
    next_step,
)

HOURS_MS = 3_600_000
DEFAULT = RetryPolicy()


def test_a_function_error_is_retried_after_one_minute_and_after_two_more() -> None:
    steps = [next_step(DEFAULT, Attempt.FUNCTION_ERROR, invocations, 0, 0) for invocations in (1, 2, 3)]
    assert steps == [60_000, 120_000, Condition.RETRIES_EXHAUSTED]


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_the_configured_number_of_retries(retries: int) -> None:
    policy = RetryPolicy(max_retry_attempts=retries)
    steps = [next_step(policy, Attempt.FUNCTION_ERROR, invocations, 0, 0) for invocations in range(1, retries + 2)]
    assert steps[-1] is Condition.RETRIES_EXHAUSTED
    assert all(isinstance(step, int) for step in steps[:-1])


def test_success_is_the_end_whatever_came_before() -> None:
    assert next_step(DEFAULT, Attempt.SUCCEEDED, 3, 7, 7 * HOURS_MS) is Condition.SUCCESS


@pytest.mark.parametrize("attempt", [Attempt.THROTTLED, Attempt.SYSTEM_ERROR])
def test_throttles_and_system_errors_wait_from_one_second_to_five_minutes(attempt: Attempt) -> None:
    waits = [next_step(DEFAULT, attempt, 0, backoffs, 0) for backoffs in range(1, 12)]
    assert waits[:9] == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000]
    assert waits[9:] == [300_000, 300_000]


@pytest.mark.parametrize("attempt", [Attempt.THROTTLED, Attempt.SYSTEM_ERROR])
def test_they_go_on_for_six_hours_and_no_longer(attempt: Attempt) -> None:
    assert next_step(DEFAULT, attempt, 0, 500, 6 * HOURS_MS - 1) == 1
    assert next_step(DEFAULT, attempt, 0, 500, 6 * HOURS_MS) is Condition.EVENT_AGE_EXCEEDED


def test_a_retry_that_would_come_too_late_is_due_when_the_event_is_too_old() -> None:
    policy = RetryPolicy(max_event_age_ms=90_000)
    assert next_step(policy, Attempt.FUNCTION_ERROR, 2, 0, 61_000) == 29_000


def test_the_last_error_counts_before_the_age() -> None:
    policy = RetryPolicy(max_retry_attempts=0, max_event_age_ms=60_000)
    assert next_step(policy, Attempt.FUNCTION_ERROR, 1, 0, 60_001) is Condition.RETRIES_EXHAUSTED


def test_the_waits_can_be_scaled() -> None:
    policy = RetryPolicy(delay_scale=0.001)
    assert next_step(policy, Attempt.FUNCTION_ERROR, 1, 0, 0) == 60
    assert next_step(policy, Attempt.THROTTLED, 0, 10, 0) == 300
    assert next_step(policy, Attempt.THROTTLED, 0, 1, 0) == BACKOFF_SHORTEST_MS


def test_a_delivery_that_is_refused_is_tried_three_times() -> None:
    steps = [next_delivery_step(True, attempts, 0, 0, 1.0) for attempts in (1, 2, 3)]
    assert steps == [1_000, 2_000, Condition.REFUSED]


def test_a_target_that_stays_away_is_given_an_hour() -> None:
    assert next_delivery_step(False, 0, 1, 0, 1.0) == 1_000
    assert next_delivery_step(False, 0, 20, DELIVERY_AGE_MS - 5, 1.0) == 5
    assert next_delivery_step(False, 0, 20, DELIVERY_AGE_MS, 1.0) is Condition.EVENT_AGE_EXCEEDED


@given(st.integers(1, 100_000), st.floats(0.0, 10.0))
def test_waits_never_shrink_nor_vanish(count: int, scale: float) -> None:
    assert BACKOFF_SHORTEST_MS <= backoff_ms(count, scale) <= backoff_ms(count + 1, scale)


@given(
    st.sampled_from(Attempt),
    st.integers(1, 4),
    st.integers(0, 1_000),
    st.integers(0, 8 * HOURS_MS),
    st.integers(0, 2),
    st.integers(60_000, 6 * HOURS_MS),
)
def test_every_event_ends(
    attempt: Attempt, invocations: int, backoffs: int, age_ms: int, retries: int, max_age_ms: int
) -> None:
    """A step is an end, or it lies ahead and within the event's age."""
    step = next_step(RetryPolicy(retries, max_age_ms), attempt, invocations, max(backoffs, 1), age_ms)
    if not isinstance(step, Condition):
        assert 0 < step <= max_age_ms - age_ms

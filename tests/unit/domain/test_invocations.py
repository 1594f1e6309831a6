"""The errors that the platform answers with, in AWS's words."""

from __future__ import annotations

import json

import pytest

from lambdad.domain import invocations
from lambdad.domain.invocations import ExitStatus, Outcome, PlatformError

ID = "11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize(
    ("error", "error_type", "message"),
    [
        (invocations.timed_out(ID, 3), "Sandbox.Timedout", f"RequestId: {ID} Error: Task timed out after 3.00 seconds"),
        (
            invocations.exited(ID, ExitStatus(code=1)),
            "Runtime.ExitError",
            f"RequestId: {ID} Error: Runtime exited with error: exit status 1",
        ),
        (
            invocations.exited(ID, ExitStatus(signal="killed")),
            "Runtime.ExitError",
            f"RequestId: {ID} Error: Runtime exited with error: signal: killed",
        ),
        (
            invocations.exited(ID, ExitStatus(code=0)),
            "Runtime.ExitError",
            f"RequestId: {ID} Error: Runtime exited without providing a reason",
        ),
        (
            invocations.failed(ID, invocations.INVALID_ENTRYPOINT, "why"),
            "Runtime.InvalidEntrypoint",
            f"RequestId: {ID} Error: why",
        ),
        (
            invocations.response_too_large(),
            "Function.ResponseSizeTooLarge",
            "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        ),
    ],
)
def test_platform_errors(error, error_type, message):
    assert (error.error_type, error.message) == (error_type, message)
    outcome = error.outcome()
    assert outcome.failed
    assert outcome.error_type == error_type
    assert json.loads(outcome.payload) == {"errorType": error_type, "errorMessage": message}


def test_a_platform_error_may_say_more():
    outcome = PlatformError("T", "m", {"trace": []}).outcome()
    assert outcome.payload == b'{"errorType":"T","errorMessage":"m","trace":[]}'


def test_an_outcome_without_an_error_type_is_a_success():
    assert not Outcome(b"").failed
    assert Outcome(b"", "").failed


@pytest.mark.parametrize(("duration_ms", "billed"), [(0.0, 0), (0.01, 1), (1.0, 1), (1.001, 2), (99.2, 100)])
def test_what_is_billed_is_rounded_up_to_the_millisecond(duration_ms, billed):
    assert invocations.billed_ms(duration_ms) == billed

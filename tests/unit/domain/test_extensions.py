"""What extensions are told, and what may follow what in their lives."""

from __future__ import annotations

import json
from itertools import product

import pytest

from lambdad.domain import extensions
from lambdad.domain.environment_variables import NOT_OF_EXTENSIONS, build_for_extensions
from lambdad.domain.errors import IllegalTransition
from lambdad.domain.extensions import TRANSITIONS, ExtensionState, ShutdownReason
from lambdad.domain.invocations import ExitStatus, ExtensionsTime

ILLEGAL = [pair for pair in product(ExtensionState, ExtensionState) if pair not in TRANSITIONS]


@pytest.mark.parametrize(("state", "following"), sorted(TRANSITIONS))
def test_what_is_in_the_table_happens(state: ExtensionState, following: ExtensionState) -> None:
    assert extensions.enter(state, following) is following


@pytest.mark.parametrize(("state", "following"), ILLEGAL)
def test_everything_else_is_refused(state: ExtensionState, following: ExtensionState) -> None:
    with pytest.raises(IllegalTransition):
        extensions.enter(state, following)


def test_nothing_comes_after_a_failure() -> None:
    failures = {ExtensionState.INIT_ERROR, ExtensionState.EXIT_ERROR}
    assert not [pair for pair in TRANSITIONS if pair[0] in failures]


def test_the_end_is_announced_with_its_reason() -> None:
    event = json.loads(extensions.shutdown_event(ShutdownReason.TIMEOUT, 676051))
    assert event == {"eventType": "SHUTDOWN", "shutdownReason": "timeout", "deadlineMs": 676051}


@pytest.mark.parametrize(
    ("state", "status", "error_type", "message"),
    [
        (ExtensionState.REGISTERED, ExitStatus(0), "Extension.Crash", "RequestId: r Error: exit code 0"),
        (ExtensionState.RUNNING, ExitStatus(2), "Extension.Crash", "RequestId: r Error: exit status 2"),
        (ExtensionState.READY, ExitStatus(signal="killed"), "Extension.Crash", "RequestId: r Error: signal: killed"),
        (ExtensionState.INIT_ERROR, ExitStatus(0), "Extension.InitError", "RequestId: r Error: exit code 0"),
        (ExtensionState.EXIT_ERROR, ExitStatus(1), "Extension.ExitError", "RequestId: r Error: exit status 1"),
        (ExtensionState.STARTED, ExitStatus(problem="x"), "Extension.LaunchError", "RequestId: r Error: x"),
    ],
)
def test_the_error_of_an_end(state: ExtensionState, status: ExitStatus, error_type: str, message: str) -> None:
    error = extensions.ended("r", state, status)
    assert (error.error_type, error.message) == (error_type, message)


def test_extensions_have_the_functions_variables_but_not_the_runtimes() -> None:
    variables = dict.fromkeys([*NOT_OF_EXTENSIONS, "OWN", "AWS_REGION", "AWS_LAMBDA_RUNTIME_API"], "x")
    assert set(build_for_extensions(variables)) == {"OWN", "AWS_REGION", "AWS_LAMBDA_RUNTIME_API"}


def test_how_long_they_took_is_told_whoever_is_first() -> None:
    told: list[float] = []
    early, late = ExtensionsTime(), ExtensionsTime()
    early.when_over(told.append)
    early.over(1.5)
    late.over(2.5)
    late.when_over(told.append)
    assert told == [1.5, 2.5]

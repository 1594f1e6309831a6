"""What the failures of extensions, and of what has them, lead to."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from lambdad.domain import extensions as rules
from lambdad.domain.extensions import ExtensionState
from lambdad.domain.invocations import ExitStatus
from lambdad.domain.lifecycle import State
from lambdad.services.environment import InitFailed
from unit.services.environments import REQUEST_ID, FakeExtension, Started, settled
from unit.services.extended_environments import SOON_MS, error_of, ready, scenario, settle


@scenario("a")
async def test_a_runtime_that_cannot_start_after_its_extensions_fails_the_initialization(s: Started) -> None:
    s.sandbox.start_failure = "no such interpreter"
    await s.attach()
    starting = asyncio.ensure_future(s.environment.initialize())
    FakeExtension(s.environment, "a")
    with pytest.raises(InitFailed) as failed:
        await asyncio.wait_for(starting, 5)
    assert failed.value.outcome.error_type == "Runtime.InvalidEntrypoint"


@pytest.mark.parametrize(
    ("status", "error_type", "reason"),
    [
        (ExitStatus(0), "Extension.Crash", "exit code 0"),
        (ExitStatus(3), "Extension.Crash", "exit status 3"),
        (ExitStatus(signal="killed"), "Extension.Crash", "signal: killed"),
        (
            ExitStatus(1, problem="fork/exec /opt/extensions/a: x"),
            "Extension.LaunchError",
            "fork/exec /opt/extensions/a: x",
        ),
    ],
)
def test_an_extension_that_ends_before_it_has_registered(status: ExitStatus, error_type: str, reason: str) -> None:
    @scenario("a")
    async def test(s: Started) -> None:
        s.sandbox.end_extension("a", status)
        s.invoke()
        await s.attach()
        await settle(lambda: s.outcomes)
        assert [error_of(outcome.payload) for outcome in s.outcomes] == [
            (error_type, f"RequestId: {REQUEST_ID} Error: {reason}")
        ]
        assert (
            f"INIT_REPORT Init Duration: 0.00 ms\tPhase: invoke\tStatus: error\tError Type: {error_type}" in s.log.text
        )
        await s.gone()

    test()


@scenario("a")
async def test_an_extension_that_ends_while_nobody_waits_fails_the_initialization(s: Started) -> None:
    await s.attach()
    starting = asyncio.ensure_future(s.environment.initialize())
    await settled()
    s.sandbox.end_extension("a", ExitStatus(1))
    with pytest.raises(InitFailed) as failed:
        await asyncio.wait_for(starting, 5)
    assert failed.value.outcome.error_type == "Extension.Crash"
    await s.gone()


@scenario("a", "b")
async def test_who_fails_to_initialize_is_not_waited_for_by_the_pool(s: Started) -> None:
    """Its other extensions have their two seconds, and the next environment need not wait for these."""
    await s.attach()
    starting = asyncio.ensure_future(s.environment.initialize())
    other = FakeExtension(s.environment, "b")
    other.next()
    s.sandbox.end_extension("a", ExitStatus(1))
    with pytest.raises(InitFailed):
        await asyncio.wait_for(starting, 5)
    assert s.environment.state is State.STOPPING
    await settle(lambda: other.events)
    assert other.events[0]["shutdownReason"] == "failure"


@scenario("a")
async def test_an_announced_failure_to_initialize_has_a_name_of_its_own(s: Started) -> None:
    await s.attach()
    s.invoke()
    extension = FakeExtension(s.environment, "a")
    s.environment.extensions.fail(extension.itself, ExtensionState.INIT_ERROR, "Extension.NoConfig")
    assert not s.outcomes  # how it ends is a part of the error
    s.sandbox.end_extension("a", ExitStatus(0))
    expected = ("Extension.InitError", f"RequestId: {REQUEST_ID} Error: exit code 0")
    assert [error_of(outcome.payload) for outcome in s.outcomes] == [expected]
    assert extension.itself.error_type == "Extension.NoConfig"


@scenario()
async def test_an_internal_extension_that_gives_up_ends_the_initialization_at_once(s: Started) -> None:
    await s.attach()
    s.invoke()
    extension = FakeExtension(s.environment, "inside", ["INVOKE"])
    s.environment.extensions.fail(extension.itself, ExtensionState.INIT_ERROR, "Extension.NoConfig")
    assert error_of(s.outcomes[0].payload)[0] == "Extension.InitError"
    await s.gone()


@scenario("a")
async def test_an_initialization_that_an_extension_holds_up_times_out(s: Started) -> None:
    await s.attach()
    extension = FakeExtension(s.environment, "a")
    with mock.patch("lambdad.domain.quotas.INIT_TIMEOUT_MS", SOON_MS):
        starting = asyncio.ensure_future(s.environment.initialize())
        await settled()
    s.runtime.next()
    with pytest.raises(InitFailed) as failed:
        await asyncio.wait_for(starting, 5)
    assert failed.value.outcome.error_type == "Sandbox.Timedout"
    extension.next()
    await settle(lambda: extension.events)
    assert extension.events[0]["shutdownReason"] == "timeout"


@scenario("a", timeout_s=0.03)
async def test_an_extension_that_is_not_done_in_time_resets_the_environment(s: Started) -> None:
    (extension,) = await ready(s, "a")
    s.invoke()
    s.runtime.respond(b"[4]")
    s.runtime.next()
    await settle(lambda: s.environment.state is State.STOPPING)
    assert [(outcome.payload, outcome.failed) for outcome in s.outcomes] == [(b"[4]", False)]
    assert "Task timed out after 0.03 seconds" in s.log.text
    assert "Status: timeout" in s.log.text
    extension.next()
    await settle(lambda: len(extension.events) == 2)
    assert extension.events[1]["shutdownReason"] == "timeout"


@scenario("a", timeout_s=0.03)
async def test_a_function_that_times_out_resets_the_environment(s: Started) -> None:
    (extension,) = await ready(s, "a")
    s.invoke()
    extension.next()
    await settle(lambda: s.outcomes)
    assert s.outcomes[0].error_type == "Sandbox.Timedout"
    await settle(lambda: len(extension.events) == 2)
    assert extension.events[1]["shutdownReason"] == "timeout"


@scenario("a")
async def test_an_extension_that_ends_within_an_invocation_fails_it(s: Started) -> None:
    await ready(s, "a")
    s.invoke()
    s.sandbox.end_extension("a", ExitStatus(7))
    assert [error_of(outcome.payload) for outcome in s.outcomes] == [
        ("Extension.Crash", f"RequestId: {REQUEST_ID} Error: exit status 7")
    ]
    assert "Status: error\tError Type: Extension.Crash" in s.log.text
    assert s.environment.state is State.STOPPING


@scenario("a")
async def test_an_extension_that_ends_after_the_answer_is_seen_in_the_log_only(s: Started) -> None:
    await ready(s, "a")
    s.invoke()
    s.runtime.respond(b"[5]")
    s.runtime.next()
    s.sandbox.end_extension("a", ExitStatus(0))
    assert [(outcome.payload, outcome.failed) for outcome in s.outcomes] == [(b"[5]", False)]
    assert "Status: error\tError Type: Extension.Crash" in s.log.text
    await s.gone()


@scenario("a")
async def test_an_extension_that_ends_between_invocations_ends_the_environment(s: Started) -> None:
    await ready(s, "a")
    s.sandbox.end_extension("a", ExitStatus(1))
    assert s.environment.state is State.STOPPING
    await s.gone()


@scenario("a")
async def test_an_announced_exit_has_a_name_of_its_own(s: Started) -> None:
    (extension,) = await ready(s, "a")
    s.invoke()
    s.environment.extensions.fail(extension.itself, ExtensionState.EXIT_ERROR, "Extension.LostServer")
    s.runtime.respond()
    s.runtime.next()
    assert s.environment.state is State.SETTLING
    s.sandbox.end_extension("a", ExitStatus(1))
    assert "Error Type: Extension.ExitError" in s.log.text


@scenario("a")
async def test_a_runtime_that_ends_is_answered_for_and_extensions_are_told(s: Started) -> None:
    with mock.patch.object(rules, "SHUTDOWN_MS", 60_000):
        (extension,) = await ready(s, "a")
        s.invoke()
        extension.next()
        s.sandbox.exit(ExitStatus(1))
        await settle(lambda: s.outcomes)
        assert s.outcomes[0].error_type == "Runtime.ExitError"
        await settle(lambda: len(extension.events) == 2)
        assert extension.events[1]["shutdownReason"] == "failure"
        assert "terminate_runtime" not in s.sandbox.calls
        assert not s.sandbox.was_killed
        s.sandbox.end_extension("a")
        await s.gone()
        assert s.sandbox.was_killed


@scenario("a")
async def test_a_runtime_that_ends_after_its_answer_fails_only_in_the_log(s: Started) -> None:
    await ready(s, "a")
    s.invoke()
    s.runtime.respond(b"[6]")
    s.sandbox.exit(ExitStatus(1))
    await settle(lambda: s.environment.state is not State.ANSWERED)
    assert not s.outcomes[0].failed
    fault = "Error: Runtime exited with error: exit status 1\nRuntime.ExitError\n"
    assert s.log.text.index(fault) < s.log.text.index("Status: error\tError Type: Runtime.ExitError")


@scenario("a")
async def test_when_everything_is_killed_it_is_the_runtimes_end_that_counts(s: Started) -> None:
    """As when memory runs out."""
    await ready(s, "a")
    s.invoke()
    s.sandbox.end_extension("a", ExitStatus(signal="killed"))
    assert not s.outcomes
    s.sandbox.exit(ExitStatus(signal="killed"))
    await settle(lambda: s.outcomes)
    assert s.outcomes[0].error_type == "Runtime.ExitError"
    await s.gone()

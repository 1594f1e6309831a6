"""Environments with extensions: who waits for whom, and what extensions are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from unittest import mock

import pytest

from lambdad.domain import extensions as rules
from lambdad.domain.invocations import ExitStatus
from lambdad.domain.lifecycle import State
from lambdad.services.extensions import ExtensionRefused
from unit.services.environments import REQUEST_ID, VERSION, FakeExtension, Started, invocation, settled
from unit.services.extended_environments import ready, scenario, settle

# Initializing


@scenario("a", "b")
async def test_the_runtime_starts_when_all_external_extensions_have_registered(s: Started) -> None:
    await s.attach()
    FakeExtension(s.environment, "a")
    await settled()
    assert "start_runtime" not in s.sandbox.calls
    FakeExtension(s.environment, "b")
    await settled()
    assert s.sandbox.calls == ["start_runtime"]


@scenario("a")
async def test_an_extension_that_registers_before_the_sandbox_is_known_waits_for_it(s: Started) -> None:
    FakeExtension(s.environment, "a")
    await s.attach()
    await settled()
    assert s.sandbox.calls == ["start_runtime"]


@scenario("a", "b")
async def test_it_is_initialized_when_the_runtime_and_all_extensions_have_asked(s: Started) -> None:
    await s.attach()
    first, last = FakeExtension(s.environment, "a"), FakeExtension(s.environment, "b")
    first.next()
    s.runtime.next()
    assert s.environment.state is State.SETTLING
    assert not s.idle
    last.next()
    assert s.environment.state is State.IDLE
    assert s.idle == [s.environment]
    await asyncio.wait_for(s.environment.initialize(), 1)


@scenario("a")
async def test_the_runtime_may_be_the_last_and_may_ask_twice(s: Started) -> None:
    await s.attach()
    extension = FakeExtension(s.environment, "a")
    s.runtime.next()
    s.runtime.next()
    assert s.environment.state is State.SETTLING
    extension.next()
    s.invoke()
    assert len(s.runtime.events) == 1


@scenario("a")
async def test_an_invocation_may_wait_for_the_initialization(s: Started) -> None:
    await s.attach()
    s.invoke()
    extension = FakeExtension(s.environment, "a")
    s.runtime.next()
    assert not s.runtime.events
    extension.next()
    assert s.environment.state is State.INVOKING
    assert [event["requestId"] for event in extension.events] == [REQUEST_ID]


@scenario()
async def test_an_internal_extension_takes_part_too(s: Started) -> None:
    await s.attach()
    extension = FakeExtension(s.environment, "inside", ["INVOKE"])
    s.runtime.next()
    assert s.environment.state is State.SETTLING
    extension.next()
    s.invoke()
    assert extension.events[0]["eventType"] == "INVOKE"
    assert s.sandbox.calls == []  # the runtime was there before


# Registering


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ExtensionRefused) as refused:
        call()
    return refused.value.error_type, str(refused.value)


@scenario("a")
async def test_nobody_registers_twice(s: Started) -> None:
    await s.attach()
    FakeExtension(s.environment, "a")
    FakeExtension(s.environment, "inside", ["INVOKE"])
    assert refusal(lambda: FakeExtension(s.environment, "a")) == (
        "Extension.InvalidExtensionState",
        "State transition from Registered to Registered failed for extension a. Error: State transition is not allowed",
    )
    assert refusal(lambda: FakeExtension(s.environment, "inside", ["INVOKE"])) == (
        "Extension.InvalidExtensionState",
        "Extension with this name already registered",
    )


@scenario("a")
async def test_events_that_nobody_or_no_internal_extension_can_have(s: Started) -> None:
    await s.attach()
    kind = "Extension.InvalidEventType"
    assert refusal(lambda: FakeExtension(s.environment, "a", ["RETIRE"])) == (kind, "RETIRE: ErrorInvalidEventType")
    assert refusal(lambda: FakeExtension(s.environment, "inside")) == (
        kind,
        "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension",
    )
    FakeExtension(s.environment, "a", [])  # a refusal is not the end


@scenario("a", "b")
async def test_there_are_ten_of_both_kinds_together(s: Started) -> None:
    await s.attach()
    for number in range(8):
        FakeExtension(s.environment, f"inside{number}", ["INVOKE"])
    assert refusal(lambda: FakeExtension(s.environment, "eleventh", ["INVOKE"])) == (
        "Extension.TooManyExtensions",
        "Extension limit (10) reached",
    )


@scenario()
async def test_registration_ends_with_the_initialization(s: Started) -> None:
    await s.ready()
    assert refusal(lambda: FakeExtension(s.environment, "inside", ["INVOKE"])) == (
        "Extension.RegistrationClosed",
        "Extension registration closed already",
    )
    assert not s.environment.extensions.is_registering


# Invoking


@scenario("a")
async def test_an_extension_is_told_of_an_invocation(s: Started) -> None:
    (extension,) = await ready(s, "a")
    s.invoke()
    assert extension.events == [
        {
            "eventType": "INVOKE",
            "deadlineMs": int(s.clock.time() * 1000) + 2000,
            "requestId": REQUEST_ID,
            "invokedFunctionArn": VERSION.key.arn,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1"},
        }
    ]


@scenario("a")
async def test_the_caller_is_answered_first_and_the_next_event_comes_when_all_are_done(s: Started) -> None:
    (extension,) = await ready(s, "a")
    s.invoke()
    with mock.patch.object(s.environment.log, "runtime_done") as runtime_done:
        s.runtime.respond(b"[2]")
        assert [outcome.payload for outcome in s.outcomes] == [b"[2]"]
        assert runtime_done.call_count == 0
        s.runtime.next()
        assert runtime_done.call_count == 1
    assert s.environment.state is State.SETTLING
    assert not s.environment.is_waiting  # and so it is not frozen
    assert len(s.idle) == 1
    assert "REPORT" not in s.log.text
    await s.clock.advance(0.5)
    extension.next()
    assert len(s.idle) == 2
    assert "Duration: 500.00 ms\tBilled Duration: 500 ms" in s.log.text


@scenario("a")
async def test_an_extension_may_be_done_before_the_runtime(s: Started) -> None:
    (extension,) = await ready(s, "a")
    s.invoke()
    extension.next()
    s.runtime.respond()
    s.runtime.next()
    assert s.environment.state is State.IDLE
    s.invoke()
    assert len(extension.events) == 2


@scenario("a")
async def test_one_that_did_not_subscribe_to_invocations_is_not_waited_for(s: Started) -> None:
    await s.attach()
    extension = FakeExtension(s.environment, "a", ["SHUTDOWN"])
    extension.next()
    s.runtime.next()
    s.invoke()
    s.runtime.respond()
    s.runtime.next()
    assert s.environment.state is State.IDLE
    assert extension.events == []


@scenario("a")
async def test_who_wants_the_log_waits_for_its_end(s: Started) -> None:
    (extension,) = await ready(s, "a")
    s.invoke(tail_log=True)
    s.runtime.respond(b"[3]")
    s.runtime.next()
    assert not s.outcomes
    extension.next()
    assert s.outcomes[0].payload == b"[3]"
    assert b"REPORT RequestId" in s.outcomes[0].log_tail


@scenario("a")
async def test_an_extension_that_lost_its_connection_gets_the_event_when_it_asks_again(s: Started) -> None:
    (extension,) = await ready(s, "a")
    extension.lose_connection()
    s.invoke()
    assert extension.events == []
    extension.next()
    assert len(extension.events) == 1
    s.runtime.respond()
    s.runtime.next()
    assert s.environment.state is State.SETTLING
    extension.next()
    assert s.environment.state is State.IDLE


# Shutting down


@scenario("a")
async def test_the_runtime_is_asked_to_end_before_extensions_are_told(s: Started) -> None:
    with mock.patch.multiple(rules, SHUTDOWN_MS=60_000, RUNTIME_SHUTDOWN_MS=60_000):
        s.sandbox.heeds_sigterm = False
        (extension,) = await ready(s, "a")
        s.environment.begin_stop()
        await settle(lambda: "terminate_runtime" in s.sandbox.calls)
        assert extension.events == []
        s.sandbox.exit(ExitStatus(0))
        await settle(lambda: extension.events)
        deadline_ms = int(s.clock.time() * 1000) + 60_000
        assert extension.events == [{"eventType": "SHUTDOWN", "shutdownReason": "spindown", "deadlineMs": deadline_ms}]
        assert not s.sandbox.was_killed
        s.sandbox.end_extension("a")
        await s.gone()


@scenario("a")
async def test_who_does_not_end_in_time_is_killed(s: Started) -> None:
    s.sandbox.heeds_sigterm = False
    (extension,) = await ready(s, "a")
    s.environment.begin_stop()
    await s.gone()
    assert extension.events
    assert s.sandbox.was_killed


@scenario("a")
async def test_a_frozen_environment_is_thawed_to_shut_down(s: Started) -> None:
    await ready(s, "a")
    s.environment.freeze()
    s.environment.begin_stop()
    await settle(lambda: "terminate_runtime" in s.sandbox.calls)
    assert s.sandbox.calls.index("thaw") < s.sandbox.calls.index("terminate_runtime")


@scenario("a")
async def test_one_that_did_not_subscribe_to_the_shutdown_is_not_waited_for(s: Started) -> None:
    with mock.patch.object(rules, "SHUTDOWN_MS", 60_000):
        await s.attach()
        extension = FakeExtension(s.environment, "a", ["INVOKE"])
        extension.next()
        s.runtime.next()
        s.environment.begin_stop()
        await s.gone()
        assert extension.events == []


@scenario("a")
async def test_a_kill_waits_for_nobody(s: Started) -> None:
    with mock.patch.multiple(rules, SHUTDOWN_MS=60_000, RUNTIME_SHUTDOWN_MS=60_000):
        s.sandbox.heeds_sigterm = False
        await ready(s, "a")
        s.environment.begin_stop()
        await settled()
        s.environment.kill()
        await s.gone()


@scenario()
async def test_without_extensions_an_environment_ends_at_once(s: Started) -> None:
    s.sandbox.heeds_sigterm = False
    await s.ready()
    s.environment.begin_stop()
    await s.gone()
    assert "terminate_runtime" not in s.sandbox.calls


@scenario()
async def test_a_runtime_with_an_internal_extension_is_asked_to_end(s: Started) -> None:
    await s.attach()
    extension = FakeExtension(s.environment, "inside", ["INVOKE"])
    extension.next()
    s.runtime.next()
    s.environment.begin_stop()
    await s.gone()
    assert "terminate_runtime" in s.sandbox.calls
    assert extension.events == []


@scenario("a")
async def test_what_was_answered_when_it_is_stopped_is_reported_as_it_was_answered(s: Started) -> None:
    (extension,) = await ready(s, "a")
    s.environment.invoke(invocation(), s.outcomes.append)
    s.runtime.respond()
    s.runtime.next()
    s.environment.begin_stop()
    extension.next()
    await settle(lambda: "REPORT" in s.log.text)
    assert "Status:" not in s.log.text


@scenario("a", "b")
async def test_the_next_event_waits_for_the_last_of_several_extensions(s: Started) -> None:
    first, last = await ready(s, "a", "b")
    s.invoke()
    s.runtime.respond()
    s.runtime.next()
    first.next()
    assert s.environment.state is State.SETTLING
    last.next()
    assert s.environment.state is State.IDLE


@scenario("a", "b")
async def test_nobody_registers_while_the_environment_ends(s: Started) -> None:
    await s.attach()
    FakeExtension(s.environment, "a")
    s.environment.begin_stop()
    with pytest.raises(ExtensionRefused) as refused:
        FakeExtension(s.environment, "b")
    assert refused.value.error_type == "Extension.RegistrationClosed"


@scenario("a")
async def test_the_time_of_the_shutdown_is_that_of_runtime_and_extensions_together(s: Started) -> None:
    with mock.patch.multiple(rules, SHUTDOWN_MS=60_000, RUNTIME_SHUTDOWN_MS=60_000):
        s.sandbox.heeds_sigterm = False
        (extension,) = await ready(s, "a")
        s.environment.begin_stop()
        await settle(lambda: "terminate_runtime" in s.sandbox.calls)
        await s.clock.advance(60.0)
        s.sandbox.exit(ExitStatus(0))
        await s.gone()
    assert extension.events
    assert s.sandbox.was_killed


@scenario("a")
async def test_how_an_extension_ends_that_was_told_to_is_no_failure(s: Started) -> None:
    (extension,) = await ready(s, "a")
    s.invoke()
    s.runtime.respond(b"[5]")
    s.environment.begin_stop()
    s.sandbox.end_extension("a", ExitStatus(3))
    await s.gone()
    assert extension.itself.error_type is None
    assert "exit status 3" not in s.log.text
    assert s.log.text.count("REPORT") == 1

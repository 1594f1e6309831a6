"""Provisioned environments of a host, whose runtimes are the test's to play."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from lambdad.domain.environment_variables import ON_DEMAND, PROVISIONED
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import ExitStatus
from lambdad.domain.lifecycle import State
from lambdad.domain.provisioned_concurrency import INIT_FAILURE, Allocation, ProvisionedUse, Status
from lambdad.services.provisioning import BACKOFF_S
from unit.services.environments import VERSION, FakeRuntime, invocation
from unit.services.hosts import RESERVE_MB, SANDBOX_MB, World, scenario, until

TYPE = "AWS_LAMBDA_INITIALIZATION_TYPE"
OTHER = replace(VERSION, revision_id="other")


async def provisioned(w: World, count: int, version: FunctionVersion = VERSION) -> list[FakeRuntime]:
    """So many more environments that are initialized; the runtimes of all."""
    before = len(w.runtimes)
    w.host.set_provisioned(version, count)
    for number in range(before + 1, before + count + 1):
        (await w.launched(number))[number - 1].next()
    await until(lambda: w.host.provisioned(version) == Allocation(count, count))
    return w.runtimes


async def served(
    w: World, runtime: FakeRuntime, use: ProvisionedUse | None, version: FunctionVersion = VERSION
) -> None:
    """An invocation that this runtime gets."""
    events = len(runtime.events)
    answer = w.invoke(version=version)
    await until(lambda: len(runtime.events) > events)
    runtime.respond()
    assert (await answer).provisioned == use
    runtime.next()


@scenario
async def test_environments_are_initialized_before_anybody_asks(w: World) -> None:
    assert w.host.provisioned(VERSION) == Allocation()
    w.host.set_provisioned(VERSION, 2)
    runtimes = await w.launched(2)
    assert w.host.provisioned(VERSION) == Allocation(2, 0)
    assert w.host.provisioned(VERSION).status(2) is Status.IN_PROGRESS
    runtimes[0].next()
    assert w.host.provisioned(VERSION) == Allocation(2, 1)
    runtimes[1].next()
    await until(lambda: w.host.provisioned(VERSION).status(2) is Status.READY)
    assert [spec.environment[TYPE] for spec in w.driver.specs] == [PROVISIONED, PROVISIONED]
    await served(w, runtimes[1], ProvisionedUse(False, 1, 2))
    assert len(w.driver.sandboxes) == 2


@scenario
async def test_what_they_cannot_take_spills_over(w: World) -> None:
    runtimes = await provisioned(w, 1)
    first = w.invoke()
    await until(lambda: runtimes[0].events)
    second = w.invoke()
    spilled = (await w.launched(2))[1]
    spilled.next()
    await until(lambda: spilled.events)
    assert w.driver.specs[1].environment[TYPE] == ON_DEMAND
    for runtime in (runtimes[0], spilled):
        runtime.respond()
        runtime.next()
    assert (await first).provisioned == ProvisionedUse(False, 1, 1)
    assert (await second).provisioned == ProvisionedUse(True, 1, 1)
    await served(w, runtimes[0], ProvisionedUse(False, 1, 1))  # though the other one was used last
    assert w.host.provisioned(VERSION) == Allocation(1, 1)


@scenario
async def test_a_version_without_says_nothing_of_them(w: World) -> None:
    await provisioned(w, 1)
    answer = w.invoke(version=OTHER)
    runtime = (await w.launched(2))[1]
    runtime.next()
    await until(lambda: runtime.events)
    runtime.respond()
    assert (await answer).provisioned is None


@scenario
async def test_an_invocation_that_waits_takes_one_that_becomes_ready(w: World) -> None:
    answer = w.invoke()
    await w.launched(1)
    w.host.set_provisioned(VERSION, 1)
    runtime = (await w.launched(2))[1]
    runtime.next()
    await until(lambda: runtime.events)
    runtime.respond()
    await answer


@scenario
async def test_they_stay_when_they_are_idle_and_are_frozen(w: World) -> None:
    reaping = asyncio.ensure_future(w.host.reap())
    runtimes = await provisioned(w, 1)
    on_demand = w.invoke(version=OTHER)
    other = (await w.launched(2))[1]
    other.next()
    await until(lambda: other.events)
    other.respond()
    other.next()
    await on_demand
    await w.clock.advance(0.02)
    await until(lambda: runtimes[0].environment.is_frozen)
    await w.clock.advance(500.0)
    await until(lambda: w.host.status()["environments"] == 1)
    assert w.host.provisioned(VERSION) == Allocation(1, 1)
    reaping.cancel()


@scenario
async def test_one_that_ends_is_replaced(w: World) -> None:
    runtimes = await provisioned(w, 2)
    await served(w, runtimes[1], ProvisionedUse(False, 1, 2))
    w.driver.sandboxes[1].exit(ExitStatus(signal="killed"))
    third = (await w.launched(3))[2]
    assert w.host.provisioned(VERSION) == Allocation(2, 1)
    third.next()
    assert w.host.provisioned(VERSION) == Allocation(2, 2)


@scenario
async def test_one_that_ends_unused_is_replaced_a_moment_later(w: World) -> None:
    await provisioned(w, 1)
    w.driver.sandboxes[0].exit(ExitStatus(signal="killed"))
    await until(lambda: w.host.status()["environments"] == 0)
    assert w.host.provisioned(VERSION).status(1) is Status.IN_PROGRESS
    await w.clock.advance(BACKOFF_S)
    (await w.launched(2))[1].next()
    assert w.host.provisioned(VERSION) == Allocation(1, 1)


@scenario
async def test_failing_initializations_are_tried_again_more_and_more_rarely(w: World) -> None:
    w.host.set_provisioned(VERSION, 1)
    for number, delay_s in enumerate((BACKOFF_S, 2 * BACKOFF_S, 4 * BACKOFF_S), start=1):
        runtimes = await w.launched(number)
        runtimes[-1].environment.init_failed(b"{}", "E")
        await until(lambda: w.host.status()["environments"] == 0)
        await until(lambda: w.host.provisioned(VERSION).reason)
        assert w.host.provisioned(VERSION) == Allocation(0, 0, INIT_FAILURE)
        assert w.host.provisioned(VERSION).status(1) is Status.FAILED
        await w.clock.advance(0.9 * delay_s)
        assert len(w.runtimes) == number
        await w.clock.advance(0.2 * delay_s)
    (await w.launched(4))[3].next()
    await until(lambda: w.host.provisioned(VERSION) == Allocation(1, 1))


@scenario
async def test_no_more_start_at_once_than_the_machine_can_do_with(w: World) -> None:
    w.host.set_provisioned(VERSION, 100)
    await w.launched(2)
    await w.clock.advance(0.0)
    assert len(w.runtimes) == 2
    w.runtimes[0].environment.init_failed(b"{}", "E")
    await until(lambda: w.host.provisioned(VERSION).reason)
    await w.clock.advance(0.0)
    assert len(w.runtimes) == 2  # the other 98 wait with it
    w.host.set_provisioned(VERSION, 3)
    assert w.host.provisioned(VERSION).reason == ""
    await w.launched(3)


@scenario
async def test_what_cannot_be_started_is_told(w: World) -> None:
    w.commands.is_installed = False
    w.host.set_provisioned(VERSION, 1)
    await until(lambda: w.host.provisioned(VERSION).reason)
    assert w.host.provisioned(VERSION).reason == "The runtime python3.11 is not installed on this machine."
    w.commands.is_installed = True
    w.commands.error = RuntimeError("a fault")
    await w.clock.advance(BACKOFF_S)
    await until(lambda: w.host.provisioned(VERSION).reason == "a fault")


@scenario
async def test_a_smaller_number_ends_idle_ones_at_once_and_busy_ones_after_their_event(w: World) -> None:
    runtimes = await provisioned(w, 3)
    answer = w.invoke()
    await until(lambda: runtimes[2].events)
    w.host.set_provisioned(VERSION, 1)
    await until(lambda: w.host.status()["environments"] == 1)
    assert w.host.provisioned(VERSION) == Allocation(1, 1)
    w.host.set_provisioned(VERSION, 0)
    assert w.host.provisioned(VERSION) == Allocation()
    runtimes[2].respond(b"done")
    assert (await answer).payload == b"done"
    runtimes[2].next()
    await until(lambda: w.host.status()["environments"] == 0)


@scenario
async def test_retiring_a_version_ends_them(w: World) -> None:
    await provisioned(w, 2)
    w.host.retire(VERSION)
    await until(lambda: w.host.status()["environments"] == 0)
    await w.clock.advance(100.0)
    assert len(w.runtimes) == 2
    w.host.set_provisioned(VERSION, 0)
    assert w.host.provisioned(VERSION) == Allocation()


@scenario
async def test_memory_is_had_of_others_first(w: World) -> None:
    runtimes = await provisioned(w, 1)
    idle = w.invoke(version=OTHER)
    other = (await w.launched(2))[1]
    other.next()
    await until(lambda: other.events)
    other.respond()
    other.next()
    await idle
    w.gauge.total_mb = RESERVE_MB + SANDBOX_MB
    third = w.invoke(version=replace(VERSION, revision_id="third"))
    await until(lambda: w.driver.sandboxes[1].closed)
    assert not w.driver.sandboxes[0].closed
    assert w.host.provisioned(VERSION) == Allocation(1, 1)
    w.gauge.total_mb = RESERVE_MB
    fourth = w.invoke(version=replace(VERSION, revision_id="fourth"))
    await until(lambda: w.driver.sandboxes[0].closed)
    state = w.host.provisioned(VERSION)
    assert state == Allocation(
        reason="We currently do not have sufficient capacity on this machine: its memory is in use"
    )
    assert state.status(1) is Status.FAILED
    await w.clock.advance(BACKOFF_S)
    assert len(w.driver.specs) == 4  # it does not start at the cost of what is running
    w.gauge.total_mb = None
    await w.clock.advance(2 * BACKOFF_S)
    (await w.launched(5))[4].next()
    await until(lambda: w.host.provisioned(VERSION) == Allocation(1, 1))
    del runtimes
    for answer in (third, fourth):
        answer.cancel()


@scenario
async def test_they_do_not_end_each_other(w: World) -> None:
    w.gauge.total_mb = RESERVE_MB + 2 * SANDBOX_MB
    w.host.set_provisioned(VERSION, 10)
    while not w.host.provisioned(VERSION).reason:
        number = len(w.runtimes) or 1
        for runtime in await w.launched(number):
            if runtime.environment.state is State.STARTING:
                runtime.next()
        await w.clock.advance(0.0)
    for _ in range(5):
        await w.clock.advance(30.0)
    state = w.host.provisioned(VERSION)
    assert state.status(10) is Status.FAILED
    assert 2 <= state.available == len(w.driver.living) == len(w.driver.specs)


@scenario
async def test_an_event_begins_at_once_in_one(w: World) -> None:
    runtimes = await provisioned(w, 1)
    outcomes = []
    assert w.host.begin(VERSION, invocation(), outcomes.append)
    runtimes[0].respond()
    assert outcomes[0].provisioned == ProvisionedUse(False, 1, 1)


@scenario
async def test_their_initialization_has_more_time(w: World) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib"""
    w.host.set_provisioned(VERSION, 1)
    w.host.set_provisioned(replace(OTHER, timeout_s=900), 1)
    runtimes = await w.launched(2)
    assert [runtime.environment._init_timeout_s() for runtime in runtimes] == [130, 900]

"""The host with sandboxes that are no processes: who gets which environment, also when things happen out of turn."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from lambdad.domain.invocations import ExitStatus
from lambdad.domain.lifecycle import State
from lambdad.ports.sandbox import Addresses
from unit.services.environments import VERSION
from unit.services.hosts import PROGRAM, World, scenario, until


@scenario
async def test_an_environment_is_used_again(w: World) -> None:
    for number in range(3):
        answer = w.invoke()
        if number == 0:
            (await w.launched(1))[0].next()
        await until(lambda n=number: len(w.runtimes[0].events) == n + 1)
        w.runtimes[0].respond(b"%d" % number)
        w.runtimes[0].next()
        assert (await answer).payload == b"%d" % number
    assert len(w.driver.sandboxes) == 1


@scenario
async def test_a_runtime_that_asks_before_its_launch_has_returned_serves_one_invocation_at_a_time(w: World) -> None:
    """The first initialization fails, so the invocation starts an environment of its own, which is very quick."""
    first = w.invoke()
    runtime = (await w.launched(1))[0]
    w.driver.while_launching = lambda: w.runtimes[1].next()
    runtime.environment.init_failed(b"{}", "E")
    await until(lambda: len(w.runtimes) == 2 and len(w.runtimes[1].events) == 1)
    w.driver.while_launching = lambda: None
    second = w.invoke()
    await w.launched(3)
    assert len(w.runtimes[1].events) == 1
    w.runtimes[1].respond(b"first")
    assert (await first).payload == b"first"
    w.runtimes[1].next()
    await until(lambda: len(w.runtimes[1].events) == 2)
    w.runtimes[1].respond(b"second")
    assert (await second).payload == b"second"


@scenario
async def test_an_initialization_that_fails_before_its_launch_has_returned_is_the_answer(w: World) -> None:
    answer = w.invoke()
    runtime = (await w.launched(1))[0]
    w.driver.while_launching = lambda: w.runtimes[1].environment.init_failed(b'{"errorType":"E2"}', "E2")
    runtime.environment.init_failed(b'{"errorType":"E1"}', "E1")
    assert (await answer).error_type == "E2"


@scenario
async def test_an_environment_that_ended_while_it_was_idle_is_not_used(w: World) -> None:
    answer = w.invoke()
    (await w.launched(1))[0].next()
    await until(lambda: w.runtimes[0].events)
    w.runtimes[0].respond()
    await answer
    w.runtimes[0].next()
    w.driver.sandboxes[0].exit(ExitStatus(code=0))
    for _ in range(2):  # its end is known, and not yet told to the pool
        await asyncio.sleep(0)
    another = w.invoke()
    (await w.launched(2))[1].next()
    await until(lambda: w.runtimes[1].events)
    w.runtimes[1].respond(b"another")
    assert (await another).payload == b"another"


@scenario
async def test_one_that_ends_in_the_moment_in_which_it_is_handed_over_is_replaced(w: World) -> None:
    answer = w.invoke()
    runtime = (await w.launched(1))[0]
    runtime.next()  # the invocation has been told of the environment, and does not run yet
    runtime.environment.begin_stop()
    await until(lambda: len(w.runtimes) == 2)
    (await w.launched(2))[1].next()
    await until(lambda: w.runtimes[1].events)
    w.runtimes[1].respond(b"replaced")
    assert (await answer).payload == b"replaced"


@scenario
async def test_what_cannot_be_launched_is_the_answer(w: World) -> None:
    w.driver.failure = "no such file"
    answer = json.loads((await w.invoke()).payload)
    assert answer["errorType"] == "Runtime.InvalidEntrypoint"
    assert answer["errorMessage"].endswith("Error: no such file")
    await until(lambda: w.host.status()["environments"] == 0)
    assert all(listener.closed for listener in w.listeners)


@scenario
async def test_an_error_of_ours_in_a_launch_is_told_and_leaves_no_environment(w: World) -> None:
    def fail() -> None:
        raise ValueError("embedded null byte")

    w.driver.while_launching = fail
    for _ in range(2):
        with pytest.raises(ValueError, match="null byte"):
            await w.invoke()
    await until(lambda: w.host.status()["environments"] == 0)
    w.driver.while_launching = lambda: None
    answer = w.invoke()
    (await w.launched(3))[2].next()
    await until(lambda: w.runtimes[2].events)
    w.runtimes[2].respond(b"works")
    assert (await answer).payload == b"works"


@scenario
async def test_an_error_before_the_launch_reaches_the_invocation(w: World) -> None:
    w.commands.error = RuntimeError("no runtime")
    with pytest.raises(RuntimeError, match="no runtime"):
        await w.invoke()


@scenario
async def test_a_retired_version_keeps_its_running_environments_only(w: World) -> None:
    answers = [w.invoke() for _ in range(2)]
    for runtime in await w.launched(2):
        runtime.next()
    await until(lambda: all(runtime.events for runtime in w.runtimes))
    w.runtimes[0].respond()
    w.runtimes[0].next()
    w.host.retire(VERSION)
    await until(lambda: w.host.status()["environments"] == 1)
    assert w.runtimes[1].environment.state is State.INVOKING
    w.runtimes[1].respond()
    w.runtimes[1].next()
    await asyncio.gather(*answers)
    await until(lambda: w.host.status()["environments"] == 0)


@scenario
async def test_who_waits_for_a_version_that_is_retired_still_gets_its_environment(w: World) -> None:
    answer = w.invoke()
    (runtime,) = await w.launched(1)
    w.host.retire(VERSION)
    runtime.next()
    await until(lambda: runtime.events)
    runtime.respond(b"done")
    assert (await answer).payload == b"done"
    assert w.host.status()["environments"] == 1
    runtime.next()
    await until(lambda: w.host.status()["environments"] == 0)
    assert len(w.runtimes) == 1


@scenario
async def test_a_package_is_in_use_while_an_environment_is_being_launched(w: World) -> None:
    unused: list[asyncio.Future[None]] = []

    async def directory_for(code_sha256: str) -> Path:
        unused.append(w.host.unused(code_sha256))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not unused[0].done()
        return Path("/code")

    w.code.directory_for = directory_for  # type: ignore[method-assign]
    answer = w.invoke()
    (runtime,) = await w.launched(1)
    w.host.retire(VERSION)
    runtime.next()
    await until(lambda: runtime.events)
    assert not unused[0].done()  # nor while what has been launched runs
    runtime.respond()
    runtime.next()
    await answer
    await asyncio.wait_for(unused[0], 5)


@scenario
async def test_a_package_is_unused_when_its_last_environment_has_ended(w: World) -> None:
    answer = w.invoke()
    (await w.launched(1))[0].next()
    await until(lambda: w.runtimes[0].events)
    unused = w.host.unused(VERSION.code_sha256)
    other = w.host.unused("f" * 64)
    await other
    assert not unused.done()
    w.host.retire(VERSION)
    w.runtimes[0].respond()
    w.runtimes[0].next()
    await answer
    await asyncio.wait_for(unused, 5)


@scenario
async def test_environments_end_when_they_have_been_idle_for_long(w: World) -> None:
    reaping = asyncio.ensure_future(w.host.reap())
    answer = w.invoke()
    (await w.launched(1))[0].next()
    await until(lambda: w.runtimes[0].events)
    w.runtimes[0].respond()
    w.runtimes[0].next()
    await answer
    await w.clock.advance(50.0)
    assert w.host.status()["environments"] == 1
    await w.clock.advance(20.0)
    await until(lambda: w.host.status()["environments"] == 0)
    reaping.cancel()


@scenario
async def test_draining_ends_what_is_starting_idle_and_running(w: World) -> None:
    running, starting = w.invoke(), w.invoke(version=replace(VERSION, revision_id="other"))
    runtimes = await w.launched(2)
    next(r for r in runtimes if r.environment.version.revision_id == "r").next()
    await until(lambda: w.host.status()["busy"] == 1)
    await asyncio.wait_for(w.host.drain(0.0), 5)
    assert w.host.status()["environments"] == 0
    assert (await running).error_type == "Runtime.ExitError"
    with pytest.raises(Exception, match="shutting down"):
        await starting
    assert all(sandbox.closed for sandbox in w.driver.sandboxes)


@scenario
async def test_an_invocation_that_is_given_up_leaves_its_environment_to_others(w: World) -> None:
    given_up, waiting = w.invoke(b"1"), w.invoke(b"2")
    runtimes = await w.launched(2)
    given_up.cancel()
    runtimes[0].next()
    await until(lambda: runtimes[0].events)
    assert runtimes[0].events[0].invocation.payload == b"2"
    runtimes[0].respond(b"done")
    assert (await waiting).payload == b"done"


@scenario
async def test_preparing_has_the_code_at_hand_and_the_driver_told(w: World) -> None:
    await w.host.prepare(VERSION)
    assert w.driver.prepared == [PROGRAM]
    w.commands.is_installed = False
    await w.host.prepare(VERSION)  # no error, and nothing to prepare
    assert w.driver.prepared == [PROGRAM]


@scenario
async def test_the_status_has_what_the_driver_says_of_itself(w: World) -> None:
    runtime = await w.make_idle(1)
    expected = {"driver": "fake", "isolated": True, "memory": "imagined", "environments": 1, "busy": 0}
    assert w.host.status() == {**expected, "frozen": 0}
    runtime.environment.freeze()
    assert w.host.status() == {**expected, "frozen": 1}


@scenario
async def test_an_idle_environment_is_frozen_and_thawed_for_its_next_event(w: World) -> None:
    runtime = await w.make_idle(1)
    await w.clock.advance(0.02)
    await until(lambda: runtime.environment.is_frozen)
    answer = w.invoke()
    await until(lambda: len(runtime.events) == 2)
    assert w.driver.sandboxes[0].calls == ["initialized", "freeze", "thaw"]
    runtime.respond(b"thawed")
    assert (await answer).payload == b"thawed"


@scenario
async def test_functions_share_the_network_unless_the_driver_has_addresses(w: World) -> None:
    await w.make_idle(1)
    variables = w.driver.specs[0].environment
    assert variables["AWS_LAMBDA_RUNTIME_API"] == w.listeners[0].address
    assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert w.listeners[0].is_open
    assert not w.endpoints


@scenario
async def test_in_a_network_of_their_own_they_are_answered_on_its_sockets(w: World) -> None:
    w.driver.addresses = Addresses("127.0.0.1:9001", "127.0.0.1:80")
    with socket.socket() as runtime_api, socket.socket() as endpoint:
        w.driver.listeners = (runtime_api, endpoint)
        runtime = await w.make_idle(1)
        variables = w.driver.specs[0].environment
        assert variables["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001"
        assert variables["AWS_ENDPOINT_URL"] == "http://127.0.0.1:80"
        assert not w.listeners[0].is_open
        assert w.listeners[0].adopted == [runtime_api]
        assert [each.listener for each in w.endpoints] == [endpoint]
        await runtime.environment.stop()
        assert w.listeners[0].closed
        assert w.endpoints[0].closed


@scenario
async def test_an_environment_that_ends_before_its_sandbox_is_there_leaves_nothing_open(w: World) -> None:
    w.driver.addresses = Addresses("127.0.0.1:9001", "127.0.0.1:80")
    with socket.socket() as runtime_api, socket.socket() as endpoint:
        w.driver.listeners = (runtime_api, endpoint)
        w.driver.while_launching = lambda: w.runtimes[-1].environment.begin_stop()
        answer = w.invoke()
        await until(lambda: w.endpoints and w.endpoints[0].closed)
        assert w.listeners[0].closed
        answer.cancel()

"""The host with sandboxes that are no processes: who gets which environment, also when things happen out of turn."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lambdad.adapters.clock import FakeClock
from lambdad.domain.invocations import ExitStatus, Outcome
from lambdad.domain.lifecycle import State
from lambdad.services.environment import Environment
from lambdad.services.pool import HostParts, LocalHost, RuntimeCommand
from unit.services.environments import VERSION, FakeDriver, FakeLog, FakeRuntime, invocation


class FakeListener:
    """Keeps the environment, so that the test can be its runtime."""

    address = "127.0.0.1:9001"

    def __init__(self, environment: Environment, opened: list[FakeListener]) -> None:
        self.runtime = FakeRuntime(environment)
        self.closed = False
        opened.append(self)

    async def open(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class FakeCommands:
    problem = ""
    error: Exception | None = None

    async def command(self, version: Any, code: Path) -> RuntimeCommand:
        if self.error is not None:
            raise self.error
        return RuntimeCommand(("/runtime",), "fake:1", "arn", "/runtime", "/bin", problem=self.problem)


class FakeCode:
    async def directory_for(self, code_sha256: str) -> Path:
        return Path("/code")


class World:
    """A host whose runtimes are the test's to play."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.driver = FakeDriver()
        self.commands = FakeCommands()
        self.listeners: list[FakeListener] = []
        driver: Any = self.driver
        self.host = LocalHost(
            HostParts(
                clock=self.clock,
                driver=driver,
                code=FakeCode(),
                commands=self.commands,
                listener=lambda environment: FakeListener(environment, self.listeners),
                log_sink=lambda version, stream: FakeLog(),
                endpoint_url=lambda: "http://127.0.0.1:4566",
                idle_s=60.0,
                processors=1,
            )
        )

    def invoke(self, payload: bytes = b"{}", version: Any = VERSION) -> asyncio.Task[Outcome]:
        return asyncio.ensure_future(self.host.invoke(version, invocation(payload=payload)))

    async def launched(self, count: int) -> list[FakeRuntime]:
        """The runtimes of all environments so far, once there are so many and the last has its sandbox."""
        await until(lambda: len(self.listeners) >= count and self.runtimes[count - 1].environment._sandbox)
        return self.runtimes

    @property
    def runtimes(self) -> list[FakeRuntime]:
        return [listener.runtime for listener in self.listeners]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def scenario(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        async def inside() -> None:
            world = World()
            try:
                await test(world)
            finally:
                await asyncio.wait_for(world.host.drain(0.0), 5)

        asyncio.run(inside())

    del run.__wrapped__  # pytest would take its parameter for a fixture
    return run


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

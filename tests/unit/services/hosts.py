"""A host with sandboxes that are no processes, whose runtimes are the test's to play."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lambdad.adapters.clock import FakeClock
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Outcome
from lambdad.domain.runtimes import Language
from lambdad.ports.sandbox import Program
from lambdad.services.environment import Environment
from lambdad.services.launching import LaunchParts, RuntimeCommand
from lambdad.services.pool import HostParts, LocalHost
from unit.services.environments import VERSION, FakeDriver, FakeLog, FakeRuntime, invocation

PROGRAM = Program(Language.PYTHON, Path("/python"))
RESERVE_MB = 100
SANDBOX_MB = 10


class FakeListener:
    """Keeps the environment, so that the test can be its runtime."""

    address = "127.0.0.1:9001"

    def __init__(self, environment: Environment, opened: list[FakeListener]) -> None:
        self.runtime = FakeRuntime(environment)
        self.closed = False
        self.is_open = False
        self.adopted: list[socket.socket] = []
        opened.append(self)

    async def open(self) -> None:
        self.is_open = True

    async def adopt(self, listener: socket.socket) -> None:
        self.adopted.append(listener)

    def close(self) -> None:
        self.closed = True


class FakeCommands:
    problem = ""
    error: Exception | None = None
    is_installed = True

    async def command(self, version: Any, code: Path, layers: Path | None) -> RuntimeCommand | None:
        if self.error is not None:
            raise self.error
        if not self.is_installed:
            return None
        return RuntimeCommand(PROGRAM, "fake:1", "arn", problem=self.problem)


class FakeGauge:
    """Memory that sandboxes take a part of."""

    def __init__(self, driver: FakeDriver) -> None:
        self._driver = driver
        self.total_mb: int | None = None

    def available_bytes(self, *, fresh: bool = False) -> int | None:
        if self.total_mb is None:
            return None
        taken = len(self._driver.living) + self._driver.made_ahead
        return (self.total_mb - taken * SANDBOX_MB) * 1024 * 1024


class FakeEndpoint:
    """What a host's `serve_endpoint` makes."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.closed = False

    def close(self) -> None:
        self.closed = True


class FakeCode:
    async def directory_for(self, code_sha256: str) -> Path:
        return Path("/code")

    async def layers_directory(self, digests: Sequence[str]) -> Path | None:
        return Path("/layers") if digests else None


async def own_variables(version: FunctionVersion) -> Mapping[str, str]:
    return version.environment


class World:
    """A host whose runtimes are the test's to play."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.driver = FakeDriver()
        self.commands = FakeCommands()
        self.code = FakeCode()
        self.listeners: list[FakeListener] = []
        self.endpoints: list[FakeEndpoint] = []
        self.gauge = FakeGauge(self.driver)
        driver: Any = self.driver
        self.host = LocalHost(
            HostParts(
                LaunchParts(
                    clock=self.clock,
                    driver=driver,
                    code=self.code,
                    commands=self.commands,
                    listener=lambda environment: FakeListener(environment, self.listeners),
                    log_sink=lambda version, stream: FakeLog(),
                    variables=own_variables,
                    endpoint_url=lambda: "http://127.0.0.1:4566",
                    serve_endpoint=self.serve_endpoint,
                ),
                memory=self.gauge,
                memory_reserve_mb=RESERVE_MB,
                idle_s=60.0,
                processors=1,
            )
        )

    async def serve_endpoint(self, listener: socket.socket) -> FakeEndpoint:
        self.endpoints.append(FakeEndpoint(listener))
        return self.endpoints[-1]

    async def make_idle(self, number: int, name: str = "r") -> FakeRuntime:
        """Have a version's environment, the `number`th of all, serve one invocation; it is idle then."""
        answer = self.invoke(version=replace(VERSION, revision_id=name))
        runtime = (await self.launched(number))[number - 1]
        runtime.next()
        await until(lambda: runtime.events)
        runtime.respond()
        await answer
        runtime.next()
        return runtime

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

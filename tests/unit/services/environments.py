"""Sandboxes without processes, for tests that play the runtime themselves."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lambdad.adapters.clock import FakeClock
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import ExitStatus, Invocation, Outcome
from lambdad.ports.sandbox import Address, Addresses, Places, Program, SandboxFailed, SandboxSpec
from lambdad.services.environment import Environment
from lambdad.services.function_log import Entry, Text
from lambdad.services.running import Running
from unit.services.fakes import draft

VERSION: FunctionVersion = replace(draft(), revision_id="r", timeout_s=2, code_sha256="0" * 64)
REQUEST_ID = "11111111-2222-4333-8444-555555555555"


class FakeSandbox:
    """A pipe, and an end that the test decides on; of each of the named extensions, too.

    `heeds_sigterm` says whether the runtime ends when it is asked to.
    """

    def __init__(self, extensions: Sequence[str] = ()) -> None:
        self.output_fd, self._input = os.pipe()
        os.set_blocking(self.output_fd, False)
        self.extension_output_fd, self._extension_input = os.pipe() if extensions else (-1, -1)
        if extensions:
            os.set_blocking(self.extension_output_fd, False)
        self.heeds_sigterm = True
        self.start_failure = ""
        self._ended_extensions: list[tuple[str, ExitStatus]] = []
        self._extension_ended: Callable[[str, ExitStatus], None] | None = None
        self._status: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self.listeners: Sequence[socket.socket] = ()
        self.was_killed = False
        self.closed = False
        self.calls: list[str] = []
        self.own: set[Address] = set()

    def write(self, data: bytes) -> None:
        os.write(self._input, data)

    def write_as_extension(self, data: bytes) -> None:
        os.write(self._extension_input, data)

    def end_extension(self, name: str, status: ExitStatus = ExitStatus(0)) -> None:  # noqa: B008 - it is immutable
        self._ended_extensions.append((name, status))
        if self._extension_ended is not None:
            self._extension_ended(name, status)

    def when_extension_ends(self, callback: Callable[[str, ExitStatus], None]) -> None:
        self._extension_ended = callback
        for name, status in self._ended_extensions:
            callback(name, status)

    async def start_runtime(self) -> None:
        self.calls.append("start_runtime")
        if self.start_failure:
            raise SandboxFailed(self.start_failure)

    def terminate_runtime(self) -> None:
        self.calls.append("terminate_runtime")
        if self.heeds_sigterm:
            self.exit(ExitStatus(signal="terminated"))

    async def connect(self, port: int) -> socket.socket:
        raise ConnectionRefusedError

    def exit(self, status: ExitStatus) -> None:
        if not self._status.done():
            os.close(self._input)
            self._status.set_result(status)

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._status)

    async def kill(self) -> None:
        self.was_killed = True
        self.exit(ExitStatus(signal="killed"))

    def close(self) -> None:
        os.close(self.output_fd)
        if self.extension_output_fd >= 0:
            os.close(self.extension_output_fd)
            os.close(self._extension_input)
        self.closed = True

    def initialized(self) -> None:
        self.calls.append("initialized")

    def freeze(self) -> None:
        self.calls.append("freeze")

    def thaw(self) -> None:
        self.calls.append("thaw")

    def owns(self, client: Address, server: Address) -> bool:
        return client in self.own

    def max_memory_bytes(self) -> int:
        return 50 * 1024 * 1024 - 1


async def settled() -> None:
    """What a first `next` leaves for a moment later has been done."""
    for _ in range(3):
        await asyncio.sleep(0)


class FakeLog:
    """A LogSink that shows what came."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self.full = False
        self.room = asyncio.Event()

    def append(self, now_ms: int, text: Text) -> None:
        self._entries.append((now_ms, text))

    def extend(self, entries: Sequence[Entry]) -> None:
        self._entries += entries

    async def drained(self) -> None:
        await self.room.wait()
        self.full = False

    @property
    def text(self) -> str:
        lines = [text if isinstance(text, str) else text() for _, text in self._entries]
        return "".join(line for line in lines if line is not None)


class FakeRuntime:
    """The side of the Runtime API: asks for events and keeps them."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.events: list[Running] = []

    def next(self) -> None:
        self.environment.next(self.events.append)

    def respond(self, payload: bytes = b"1") -> None:
        self.environment.respond(self.events[-1].invocation.request_id, payload, "application/json")


class FakeExtension:
    """The side of the Extensions API: registers, asks for events and keeps them."""

    def __init__(self, environment: Environment, name: str, events: Sequence[str] = ("INVOKE", "SHUTDOWN")) -> None:
        self._extensions = environment.extensions
        self.itself = self._extensions.register(name, events)
        self.events: list[dict[str, Any]] = []

    def next(self) -> None:
        self._extensions.next(self.itself, self.receive)

    def receive(self, event: bytes) -> None:
        self.events.append(json.loads(event))

    def lose_connection(self) -> None:
        self._extensions.lost(self.receive)


class FakeDriver:
    """Makes sandboxes, `room` of them at once; `while_launching` is called before the launch has returned."""

    name = "fake"
    isolated = True

    def __init__(self) -> None:
        self.sandboxes: list[FakeSandbox] = []
        self.specs: list[SandboxSpec] = []
        self.prepared: list[Program] = []
        self.failure = ""
        self.addresses: Addresses | None = None
        self.listeners: Sequence[socket.socket] = ()
        self.made_ahead = 0
        self.room: int | None = None
        self.while_launching: Callable[[], None] = lambda: None

    def places(self, program: Program, code: Any, layers: Any) -> Places:
        return Places(str(code), "/runtime", "/bin", "/lib")

    def prepare(self, program: Program) -> None:
        self.prepared.append(program)

    def describe(self) -> Mapping[str, Any]:
        return {"driver": self.name, "isolated": self.isolated, "memory": "imagined"}

    async def trim(self) -> bool:
        had_one = self.made_ahead > 0
        self.made_ahead -= had_one
        return had_one

    @property
    def living(self) -> list[FakeSandbox]:
        return [sandbox for sandbox in self.sandboxes if not sandbox.closed]

    async def launch(self, spec: SandboxSpec) -> FakeSandbox:
        self.specs.append(spec)
        await asyncio.sleep(0)
        if self.failure:
            raise SandboxFailed(self.failure)
        if self.room is not None and len(self.living) + self.made_ahead >= self.room:
            raise SandboxFailed("Cannot allocate memory", is_shortage=True)
        sandbox = FakeSandbox(spec.extensions)
        sandbox.listeners = self.listeners
        self.sandboxes.append(sandbox)
        self.while_launching()
        await asyncio.sleep(0)
        return sandbox

    async def close(self) -> None: ...


def invocation(request_id: str = REQUEST_ID, *, tail_log: bool = False, payload: bytes = b"{}") -> Invocation:
    return Invocation(request_id, VERSION.key.arn, payload, "Root=1", tail_log=tail_log)


class Started:
    """An environment with its surroundings."""

    def __init__(self, version: FunctionVersion = VERSION, extensions: Sequence[str] = ()) -> None:
        self.log = FakeLog()
        self.idle: list[Environment] = []
        self.ended: list[Environment] = []
        self.outcomes: list[Outcome] = []
        self.sandbox = FakeSandbox(extensions)
        self.clock = FakeClock()
        self.environment = Environment(
            version,
            self.clock,
            self.log,
            "stream",
            self.idle.append,
            self.ended.append,
            external_extensions=extensions,
        )
        self.runtime = FakeRuntime(self.environment)

    async def attach(self) -> Started:
        await self.environment.attach(self.sandbox)
        return self

    async def ready(self) -> Started:
        await self.attach()
        self.runtime.next()
        return self

    def invoke(self, request_id: str = REQUEST_ID, **options: Any) -> None:
        self.environment.invoke(invocation(request_id, **options), self.outcomes.append)

    async def gone(self) -> None:
        await asyncio.wait_for(asyncio.shield(self.environment.ended), 5)

    async def finish(self) -> None:
        """What every test ends with."""
        await asyncio.wait_for(self.environment.stop(), 5)

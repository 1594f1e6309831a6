"""The environments of this machine: started on demand, used again, stopped when idle. The local compute host.

Each version has a pool of its own. An invocation takes the environment that was used last, or starts another one and
takes whichever is free first, its own or somebody else's.
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import math
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from lambdad.domain import credentials, environment_variables
from lambdad.domain.environment_variables import Surroundings
from lambdad.domain.errors import InvalidRuntimeException, ServiceException
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Invocation, Outcome
from lambdad.domain.lifecycle import State
from lambdad.ports.clock import Clock
from lambdad.ports.compute import ResponseStream
from lambdad.ports.sandbox import SandboxDriver, SandboxFailed, SandboxSpec
from lambdad.services.environment import Environment, InitFailed, LogSink
from lambdad.services.running import ResponseChunks

_LEARNING_RATE: Final = 0.2
_WINDOW_S: Final = 1.0
_PATIENCE_S: Final = 0.05
_STOP_S: Final = 5.0
_BUSY: Final = frozenset({State.INVOKING, State.STREAMING})


class RuntimeListener(Protocol):
    """The Runtime API of one environment."""

    address: str

    async def open(self) -> None: ...

    def close(self) -> None: ...


class CodeDirectories(Protocol):
    """Unpacked packages by content hash."""

    async def directory_for(self, code_sha256: str) -> Path: ...


@dataclass(frozen=True, slots=True)
class RuntimeCommand:
    """How to start a version's runtime: the command, what it is called in logs, and where things are.

    `problem` says why the command cannot work, where that is known.
    """

    arguments: tuple[str, ...]
    version: str
    version_arn: str
    runtime_dir: str
    path: str
    problem: str = ""


class RuntimeCommands(Protocol):
    """Finds the command for a version whose code is in `code`; None when the runtime is not installed."""

    async def command(self, version: FunctionVersion, code: Path) -> RuntimeCommand | None: ...


@dataclass(frozen=True, slots=True)
class HostParts:
    """What a host is made of."""

    clock: Clock
    driver: SandboxDriver
    code: CodeDirectories
    commands: RuntimeCommands
    listener: Callable[[Environment], RuntimeListener]
    log_sink: Callable[[FunctionVersion, str], LogSink]
    endpoint_url: Callable[[], str]
    idle_s: float
    processors: int


class VersionPool:
    """The environments of one version in one configuration, and the invocations that wait for one.

    There are to be as many as it takes, by how long invocations and starts have taken so far, for each to be free
    before another one could have started. When invocations have waited for longer all the same, the number is doubled
    each time that this is looked at; when not one has finished meanwhile, all of them get one of their own.
    """

    def __init__(self, version: FunctionVersion, least: int) -> None:
        self.version = version
        self._least = least
        self.idle: list[Environment] = []
        self.all: set[Environment] = set()
        self.ready: set[Environment] = set()
        self.starting = 0
        self.retired = False
        self._shortest = [math.inf, math.inf]
        self._window_began = 0.0
        self.start_s = 0.0
        self.guard: asyncio.TimerHandle | None = None
        self._last_served = 0.0
        self._waiting: deque[tuple[float, asyncio.Future[Environment | None]]] = deque()

    def wait(self, now: float) -> asyncio.Future[Environment | None]:
        """A place in the queue: done with an environment, or with None when one failed to initialize."""
        waiter: asyncio.Future[Environment | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((now, waiter))
        return waiter

    def missing(self, now: float) -> int:
        """How many environments to start for those who wait."""
        waiting = len(self._waiting)
        ready = len(self.ready)
        if not self.start_s or not ready:
            return max(0, waiting - self.starting)
        # No fewer than the processors can run, or they would wait for each other's turn with lambdad.
        enough = max(math.ceil(waiting * self.service_s / self.start_s), self._least)
        patience_s = self.patience_s
        late = sum(1 for _ in itertools.takewhile(lambda place: now - place[0] >= patience_s, self._waiting))
        if now - self._last_served < patience_s:
            late = min(late, ready)
        # One that has answered, and has yet to ask for the next event, is as good as free.
        soon = sum(environment.state is State.ANSWERED for environment in self.ready)
        return max(0, min(enough - ready, waiting - soon) - self.starting, late - self.starting)

    @property
    def patience_s(self) -> float:
        """How long an invocation waits for an environment that was expected to be free sooner."""
        return max(2 * self.start_s, _PATIENCE_S)

    def take_idle(self) -> Environment | None:
        """The environment that was used last, of those that still live."""
        while self.idle:
            environment = self.idle.pop()
            if environment.state is State.IDLE:
                return environment
        return None

    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def offer(self, environment: Environment | None) -> bool:
        """Hand an environment, or the news that one could not start, to whoever has waited longest."""
        waiter = self._longest_waiting()
        if waiter is not None:
            waiter.set_result(environment)
        return waiter is not None

    def refuse(self, error: Exception) -> None:
        """Fail whoever has waited longest."""
        waiter = self._longest_waiting()
        if waiter is not None:
            waiter.set_exception(error)

    def _longest_waiting(self) -> asyncio.Future[Environment | None] | None:
        while self._waiting:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def served(self, now: float, seconds: float) -> None:
        """An invocation has taken so long. The shortest of late counts: load makes all of them longer."""
        self._last_served = now
        if now - self._window_began >= _WINDOW_S:
            self._window_began = now
            self._shortest = [self._shortest[1], seconds]
        elif seconds < self._shortest[1]:
            self._shortest[1] = seconds

    @property
    def service_s(self) -> float:
        """How long an invocation takes that need not wait for the processor."""
        shortest = min(self._shortest)
        return 0.0 if math.isinf(shortest) else shortest

    def started(self, seconds: float) -> None:
        """A start has taken so long."""
        self.start_s = seconds if not self.start_s else self.start_s + (seconds - self.start_s) * _LEARNING_RATE


class LocalHost:
    """Runs environments on this machine. See `lambdad.ports.compute.ComputeHost`."""

    def __init__(self, parts: HostParts) -> None:
        self._parts = parts
        self._pools: dict[str, VersionPool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._environments: set[Environment] = set()

    async def prepare(self, version: FunctionVersion) -> None:
        await self._parts.code.directory_for(version.code_sha256)

    def begin(self, version: FunctionVersion, invocation: Invocation, finish: Callable[[Outcome], None]) -> bool:
        pool = self._pools.get(version.revision_id)
        environment = pool.take_idle() if pool is not None else None
        if pool is None or environment is None:
            return False
        self._run(pool, environment, invocation, finish, None)
        return True

    async def invoke(self, version: FunctionVersion, invocation: Invocation) -> Outcome:
        return await self._outcome(self._pool(version), invocation, None)

    async def invoke_stream(self, version: FunctionVersion, invocation: Invocation) -> ResponseStream:
        chunks = ResponseChunks()
        outcome = asyncio.ensure_future(self._outcome(self._pool(version), invocation, chunks))
        await asyncio.wait((outcome, chunks.begun), return_when=asyncio.FIRST_COMPLETED)
        if outcome.done() and outcome.exception() is not None:
            outcome.result()
        return ResponseStream(chunks, outcome)

    async def _outcome(self, pool: VersionPool, invocation: Invocation, chunks: ResponseChunks | None) -> Outcome:
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def run(environment: Environment) -> None:
            self._run(pool, environment, invocation, lambda outcome: _resolve(done, outcome), chunks)

        environment = pool.take_idle() or await self._acquire(pool)
        if environment is not None:
            run(environment)
        else:
            # Initialize once more, now as a part of the invocation and within its timeout, as Lambda does.
            # https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-init-errors
            await self._launch(pool, self._log_stream(pool.version), run)
        return await done

    def _run(
        self,
        pool: VersionPool,
        environment: Environment,
        invocation: Invocation,
        finish: Callable[[Outcome], None],
        chunks: ResponseChunks | None,
    ) -> None:
        began = self._parts.clock.monotonic()

        def finished(outcome: Outcome) -> None:
            finish(outcome)
            now = self._parts.clock.monotonic()
            pool.served(now, now - began)

        environment.invoke(invocation, finished, chunks)

    def retire(self, version: FunctionVersion) -> None:
        pool = self._pools.pop(version.revision_id, None)
        if pool is None:
            return
        pool.retired = True
        for environment in list(pool.all):
            environment.retired = True
            if environment.state is State.IDLE and environment in pool.idle:
                environment.begin_stop()
        pool.idle.clear()

    def unused(self, code_sha256: str) -> asyncio.Future[None]:
        ends = [e.ended for e in self._environments if e.version.code_sha256 == code_sha256]
        return asyncio.ensure_future(_all_done(ends))

    def status(self) -> Mapping[str, Any]:
        return {
            "driver": self._parts.driver.name,
            "isolated": self._parts.driver.isolated,
            "environments": len(self._environments),
            "busy": sum(environment.state in _BUSY for environment in self._environments),
        }

    async def reap(self) -> None:
        """Stop environments that have been idle for too long, for ever; the application runs this as a task."""
        while True:
            await self._parts.clock.sleep(min(self._parts.idle_s / 4, 5.0))
            oldest = self._parts.clock.monotonic() - self._parts.idle_s
            for pool in list(self._pools.values()):
                for environment in [idle for idle in pool.idle if idle.idle_since <= oldest]:
                    pool.idle.remove(environment)
                    environment.begin_stop()

    async def drain(self, seconds: float) -> None:
        for pool in list(self._pools.values()):
            self.retire(pool.version)
        ends = [environment.ended for environment in self._environments if environment.state in _BUSY]
        if ends:
            await asyncio.wait(ends, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        stops = [asyncio.ensure_future(environment.stop()) for environment in self._environments]
        if stops:
            await asyncio.wait(stops, timeout=_STOP_S)
        await self._parts.driver.close()

    # Starting environments

    def _pool(self, version: FunctionVersion) -> VersionPool:
        pool = self._pools.get(version.revision_id)
        if pool is None:
            pool = self._pools[version.revision_id] = VersionPool(version, 2 * self._parts.processors)
        return pool

    async def _acquire(self, pool: VersionPool) -> Environment | None:
        """An environment that is free; None when the one that was started failed to initialize."""
        environment = await self._next_free(pool)
        while environment is not None and environment.state is not State.IDLE:
            environment = await self._next_free(pool)  # it has ended in the moment between
        return environment

    async def _next_free(self, pool: VersionPool) -> Environment | None:
        waiter = pool.wait(self._parts.clock.monotonic())
        self._start_missing(pool)
        try:
            return await waiter
        except asyncio.CancelledError:
            environment = waiter.result() if waiter.done() and not waiter.cancelled() else None
            if environment is not None:
                self._idle(pool, environment)
            raise

    def _start_missing(self, pool: VersionPool) -> None:
        for _ in range(pool.missing(self._parts.clock.monotonic())):
            pool.starting += 1
            self._spawn(self._start(pool))
        if pool.has_waiting() and pool.guard is None:
            pool.guard = asyncio.get_running_loop().call_later(pool.patience_s, self._look_again, pool)

    def _look_again(self, pool: VersionPool) -> None:
        pool.guard = None
        self._start_missing(pool)

    async def _start(self, pool: VersionPool) -> None:
        """Start an environment for the pool; on failure, the longest waiting invocation is told."""
        began = self._parts.clock.monotonic()
        try:
            environment = await self._launch(pool, self._log_stream(pool.version))
            await environment.initialize()
        except asyncio.CancelledError:
            pool.refuse(ServiceException("The service is shutting down."))
            raise
        except InitFailed:
            pool.offer(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the invocation that waits for it
            pool.refuse(error)
        else:
            pool.started(self._parts.clock.monotonic() - began)
        finally:
            pool.starting -= 1

    async def _launch(
        self, pool: VersionPool, log_stream: str, claim: Callable[[Environment], None] | None = None
    ) -> Environment:
        """Start a sandbox with the runtime in it. One that cannot be started fails as it initializes.

        `claim` gives the environment its first invocation before there is a runtime that could ask for one, or fail.
        Raises ServiceError.
        """
        parts, version = self._parts, pool.version
        code = await parts.code.directory_for(version.code_sha256)
        command = await parts.commands.command(version, code)
        if command is None:
            raise InvalidRuntimeException(f"The runtime {version.runtime} is not installed on this machine.")
        environment = Environment(
            version,
            parts.clock,
            parts.log_sink(version, log_stream),
            log_stream,
            on_idle=lambda idle: self._idle(pool, idle),
            on_end=lambda ended: self._ended(pool, ended, listener),
        )
        listener = parts.listener(environment)
        await listener.open()
        pool.all.add(environment)
        self._environments.add(environment)
        environment.retired = pool.retired
        environment.log_init_start(command.version, command.version_arn)
        around = Surroundings(
            runtime_api=listener.address,
            task_root=parts.driver.task_root(code),
            runtime_dir=command.runtime_dir,
            endpoint_url=parts.endpoint_url(),
            path=command.path,
            log_stream=log_stream,
            credentials=credentials.issue(version.key.account_id),
        )
        variables = environment_variables.build(version, around)
        spec = SandboxSpec(command.arguments, variables, code, version.memory_mb, version.ephemeral_storage_mb)
        if claim is not None:
            claim(environment)
        try:
            if command.problem:
                raise SandboxFailed(command.problem)
            await environment.attach(await parts.driver.launch(spec))
        except SandboxFailed as failure:
            environment.launch_failed(str(failure))
        except BaseException:
            environment.begin_stop()  # whatever it was, nothing else would end the environment
            raise
        return environment

    def _idle(self, pool: VersionPool, environment: Environment) -> None:
        pool.ready.add(environment)
        if environment.state is State.IDLE and not pool.offer(environment):
            if pool.retired:
                environment.begin_stop()
            else:
                pool.idle.append(environment)

    def _ended(self, pool: VersionPool, environment: Environment, listener: RuntimeListener) -> None:
        listener.close()
        pool.all.discard(environment)
        pool.ready.discard(environment)
        self._environments.discard(environment)
        if environment in pool.idle:
            pool.idle.remove(environment)

    def _log_stream(self, version: FunctionVersion) -> str:
        today = datetime.datetime.fromtimestamp(self._parts.clock.time(), datetime.UTC)
        return new_log_stream(f"{today:%Y/%m/%d}", version.version)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _resolve(done: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not done.done():
        done.set_result(outcome)


async def _all_done(ends: Sequence[asyncio.Future[None]]) -> None:
    if ends:
        await asyncio.wait(ends)


def new_log_stream(now: str, version: str) -> str:
    """AWS's name for the log stream of an environment: `2026/11/21/[$LATEST]<32 hex digits>`; `now` is `YYYY/MM/DD`."""
    return f"{now}/[{version}]{secrets.token_hex(16)}"

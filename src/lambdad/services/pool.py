"""The environments of this machine: started on demand, used again, stopped when idle. The local compute host.

Each version has a pool of its own. An invocation takes the environment that was used last, or starts another one and
takes whichever is free first, its own or somebody else's.
"""

from __future__ import annotations

import asyncio
import datetime
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from lambdad.ports.memory import MemoryGauge
from lambdad.ports.sandbox import Program, Sandbox, SandboxDriver, SandboxFailed, SandboxSpec
from lambdad.services.environment import Environment, InitFailed
from lambdad.services.environment_log import LogSink
from lambdad.services.freezer import Freezer
from lambdad.services.memory_reserve import MemoryReserve
from lambdad.services.running import ResponseChunks
from lambdad.services.version_pool import VersionPool

_STOP_S: Final = 5.0
_REAP_EVERY_S: Final = 5.0
_BUSY: Final = frozenset({State.INVOKING, State.STREAMING})
# What Lambda answers, as a ServiceException, when it has no room: neither the caller nor a quota is at fault, and SDKs
# try again after a 5xx. EC2ThrottledException is about a customer's own VPC, TooManyRequestsException about quotas.
_NO_CAPACITY: Final = "We currently do not have sufficient capacity on this machine: {}"


class Closable(Protocol):
    """Something that is open."""

    def close(self) -> None: ...


class RuntimeListener(Protocol):
    """The Runtime API of one environment."""

    address: str

    async def open(self) -> None:
        """Listen on a port of this machine, which is then in `address`."""

    async def adopt(self, listener: socket.socket) -> None:
        """Answer on a socket in the environment's own network, where nobody else can come from."""

    def close(self) -> None: ...


class CodeDirectories(Protocol):
    """Unpacked packages by content hash."""

    async def directory_for(self, code_sha256: str) -> Path: ...


@dataclass(frozen=True, slots=True)
class RuntimeCommand:
    """What runs a version: the program, and what it is called in logs. `problem` says why it cannot, where known."""

    program: Program
    version: str
    version_arn: str
    problem: str = ""


class RuntimeCommands(Protocol):
    """Finds the command for a version whose code is in `code`; None when the runtime is not installed."""

    async def command(self, version: FunctionVersion, code: Path) -> RuntimeCommand | None: ...


@dataclass(frozen=True, slots=True)
class HostParts:
    """What a host is made of. `serve_endpoint` has lambdad's endpoint answer on one more socket."""

    clock: Clock
    driver: SandboxDriver
    code: CodeDirectories
    commands: RuntimeCommands
    listener: Callable[[Environment], RuntimeListener]
    log_sink: Callable[[FunctionVersion, str], LogSink]
    endpoint_url: Callable[[], str]
    serve_endpoint: Callable[[socket.socket], Awaitable[Closable]]
    memory: MemoryGauge
    memory_reserve_mb: int
    idle_s: float
    processors: int


class LocalHost:
    """Runs environments on this machine. See `lambdad.ports.compute.ComputeHost`."""

    def __init__(self, parts: HostParts) -> None:
        self._parts = parts
        self._pools: dict[str, VersionPool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._environments: set[Environment] = set()
        self._freezer = Freezer(parts.clock)
        reserve_bytes = parts.memory_reserve_mb * 1024 * 1024
        self._reserve = MemoryReserve(parts.memory, parts.driver, reserve_bytes, self._take_oldest)

    async def prepare(self, version: FunctionVersion) -> None:
        code = await self._parts.code.directory_for(version.code_sha256)
        command = await self._parts.commands.command(version, code)
        if command is not None:
            self._parts.driver.prepare(command.program)

    def begin(self, version: FunctionVersion, invocation: Invocation, finish: Callable[[Outcome], None]) -> bool:
        pool = self._pools.get(version.environment_key)
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
        pool = self._pools.pop(version.environment_key, None)
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
            **self._parts.driver.describe(),
            "driver": self._parts.driver.name,
            "isolated": self._parts.driver.isolated,
            "environments": len(self._environments),
            "frozen": sum(environment.is_frozen for environment in self._environments),
            "busy": sum(environment.state in _BUSY for environment in self._environments),
        }

    async def reap(self) -> None:
        """Stop environments that have been idle for too long, or are in the way of others, for ever.

        The application runs this as a task.
        """
        while True:
            await self._parts.clock.sleep(min(self._parts.idle_s / 4, _REAP_EVERY_S))
            oldest = self._parts.clock.monotonic() - self._parts.idle_s
            for pool in list(self._pools.values()):
                for environment in [idle for idle in pool.idle if idle.idle_since <= oldest]:
                    pool.idle.remove(environment)
                    environment.begin_stop()
            await self._reserve.restore()

    def _take_oldest(self) -> Environment | None:
        """The environment that has been idle for longest, of all versions; it is no longer in its pool."""
        pools = [pool for pool in self._pools.values() if pool.idle]
        if not pools:
            return None
        # Each pool's are in the order in which they became idle.
        return min(pools, key=lambda pool: pool.idle[0].idle_since).idle.pop(0)

    async def drain(self, seconds: float) -> None:
        for pool in list(self._pools.values()):
            self.retire(pool.version)
        self._freezer.close()
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
        pool = self._pools.get(version.environment_key)
        if pool is None:
            pool = self._pools[version.environment_key] = VersionPool(version, 2 * self._parts.processors)
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
        await self._reserve.restore()
        opened: list[Closable] = []
        environment = Environment(
            version,
            parts.clock,
            parts.log_sink(version, log_stream),
            log_stream,
            on_idle=lambda idle: self._idle(pool, idle),
            on_end=lambda ended: self._ended(pool, ended, opened),
        )
        listener = parts.listener(environment)
        opened.append(listener)
        if parts.driver.addresses is None:
            await listener.open()
        pool.all.add(environment)
        self._environments.add(environment)
        environment.retired = pool.retired
        environment.log.init_start(command.version, command.version_arn)
        spec = self._spec(version, command, code, environment, listener)
        if claim is not None:
            claim(environment)
        try:
            if command.problem:
                raise SandboxFailed(command.problem)
            sandbox = await self._sandbox(spec)
            await self._connect(sandbox, listener, opened)
            await environment.attach(sandbox)
            if environment.state is State.DEAD:
                _close_all(opened)  # it was ended before its sandbox was there
        except SandboxFailed as failure:
            environment.launch_failed(str(failure))
        except BaseException:  # whatever it was, nothing else would end the environment
            environment.begin_stop()
            raise
        return environment

    def _spec(
        self,
        version: FunctionVersion,
        command: RuntimeCommand,
        code: Path,
        environment: Environment,
        listener: RuntimeListener,
    ) -> SandboxSpec:
        """What is to run, with the variables that a function finds."""
        driver = self._parts.driver
        places = driver.places(command.program, code)
        addresses = driver.addresses
        around = Surroundings(
            runtime_api=listener.address if addresses is None else addresses.runtime_api,
            task_root=places.task_root,
            runtime_dir=places.runtime_dir,
            endpoint_url=self._parts.endpoint_url() if addresses is None else f"http://{addresses.endpoint}",
            path=places.path,
            library_path=places.library_path,
            log_stream=environment.log_stream,
            credentials=credentials.issue(version.key.account_id),
        )
        variables = environment_variables.build(version, around)
        return SandboxSpec(command.program, variables, code, version.memory_mb, version.ephemeral_storage_mb)

    async def _sandbox(self, spec: SandboxSpec) -> Sandbox:
        """Launch a sandbox, at the cost of idle ones if it must be. Raises SandboxFailed and ServiceException."""
        while True:
            try:
                return await self._parts.driver.launch(spec)
            except SandboxFailed as failure:
                if not failure.is_shortage:
                    raise
                if not await self._reserve.evict():
                    raise ServiceException(_NO_CAPACITY.format(failure)) from failure

    async def _connect(self, sandbox: Sandbox, listener: RuntimeListener, opened: list[Closable]) -> None:
        """Answer in a sandbox's own network, where it has one. What has connected already has waited for this."""
        if not sandbox.listeners:
            return
        try:
            runtime_api, endpoint = sandbox.listeners
            await listener.adopt(runtime_api)
            opened.append(await self._parts.serve_endpoint(endpoint))
        except BaseException:  # also when it is cancelled: nobody else would end the sandbox
            await sandbox.kill()
            sandbox.close()
            raise

    def _idle(self, pool: VersionPool, environment: Environment) -> None:
        pool.ready.add(environment)
        if environment.state is State.IDLE and not pool.offer(environment):
            if pool.retired:
                environment.begin_stop()
            else:
                pool.idle.append(environment)
                self._freezer.is_idle(environment)

    def _ended(self, pool: VersionPool, environment: Environment, opened: Sequence[Closable]) -> None:
        _close_all(opened)
        self._freezer.forget(environment)
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


def _close_all(opened: Sequence[Closable]) -> None:
    for each in opened:
        each.close()


async def _all_done(ends: Sequence[asyncio.Future[None]]) -> None:
    if ends:
        await asyncio.wait(ends)


def new_log_stream(now: str, version: str) -> str:
    """AWS's name for the log stream of an environment: `2026/11/21/[$LATEST]<32 hex digits>`; `now` is `YYYY/MM/DD`."""
    return f"{now}/[{version}]{secrets.token_hex(16)}"

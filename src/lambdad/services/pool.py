"""The environments of this machine: started on demand, used again, stopped when idle. The local compute host.

Each version has a pool of its own. An invocation takes the environment that was used last, or starts another one and
takes whichever is free first, its own or somebody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lambdad.domain.environment_variables import ON_DEMAND
from lambdad.domain.errors import ServiceException
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Invocation, Outcome
from lambdad.domain.lifecycle import State
from lambdad.ports.compute import ResponseStream
from lambdad.ports.memory import MemoryGauge
from lambdad.services.environment import Environment, InitFailed
from lambdad.services.freezer import Freezer
from lambdad.services.launching import Launching, LaunchParts, Owner
from lambdad.services.memory_reserve import MemoryReserve
from lambdad.services.running import ResponseChunks
from lambdad.services.version_pool import VersionPool

_STOP_S: Final = 5.0
_REAP_EVERY_S: Final = 5.0
_BUSY: Final = frozenset({State.INVOKING, State.STREAMING})


@dataclass(frozen=True, slots=True)
class HostParts:
    """What a host is made of."""

    launch: LaunchParts
    memory: MemoryGauge
    memory_reserve_mb: int
    idle_s: float
    processors: int


class LocalHost:
    """Runs environments on this machine. See `lambdad.ports.compute.ComputeHost`."""

    def __init__(self, parts: HostParts) -> None:
        self._parts = parts
        self._clock = parts.launch.clock
        self._driver = parts.launch.driver
        self._pools: dict[str, VersionPool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._environments: set[Environment] = set()
        self._freezer = Freezer(self._clock)
        reserve_bytes = parts.memory_reserve_mb * 1024 * 1024
        self._reserve = MemoryReserve(parts.memory, self._driver, reserve_bytes, self._take_oldest)
        self._launching = Launching(parts.launch, self._reserve)

    async def prepare(self, version: FunctionVersion) -> None:
        await self._launching.prepare(version)

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
            await self._launch(pool, run)
        return await done

    def _run(
        self,
        pool: VersionPool,
        environment: Environment,
        invocation: Invocation,
        finish: Callable[[Outcome], None],
        chunks: ResponseChunks | None,
    ) -> None:
        began = self._clock.monotonic()

        def finished(outcome: Outcome) -> None:
            finish(outcome)
            now = self._clock.monotonic()
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
            **self._driver.describe(),
            "driver": self._driver.name,
            "isolated": self._driver.isolated,
            "environments": len(self._environments),
            "frozen": sum(environment.is_frozen for environment in self._environments),
            "busy": sum(environment.state in _BUSY for environment in self._environments),
        }

    async def reap(self) -> None:
        """Stop environments that have been idle for too long, or are in the way of others, for ever.

        The application runs this as a task.
        """
        while True:
            await self._clock.sleep(min(self._parts.idle_s / 4, _REAP_EVERY_S))
            oldest = self._clock.monotonic() - self._parts.idle_s
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
        await self._driver.close()

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
        waiter = pool.wait(self._clock.monotonic())
        self._start_missing(pool)
        try:
            return await waiter
        except asyncio.CancelledError:
            environment = waiter.result() if waiter.done() and not waiter.cancelled() else None
            if environment is not None:
                self._idle(pool, environment)
            raise

    def _start_missing(self, pool: VersionPool) -> None:
        for _ in range(pool.missing(self._clock.monotonic())):
            pool.starting += 1
            self._spawn(self._start(pool))
        if pool.has_waiting() and pool.guard is None:
            pool.guard = asyncio.get_running_loop().call_later(pool.patience_s, self._look_again, pool)

    def _look_again(self, pool: VersionPool) -> None:
        pool.guard = None
        self._start_missing(pool)

    async def _start(self, pool: VersionPool) -> None:
        """Start an environment for the pool; on failure, the longest waiting invocation is told."""
        began = self._clock.monotonic()
        try:
            environment = await self._launch(pool)
            await environment.initialize()
        except asyncio.CancelledError:
            pool.refuse(ServiceException("The service is shutting down."))
            raise
        except InitFailed:
            pool.offer(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the invocation that waits for it
            pool.refuse(error)
        else:
            pool.started(self._clock.monotonic() - began)
        finally:
            pool.starting -= 1

    async def _launch(
        self,
        pool: VersionPool,
        claim: Callable[[Environment], None] | None = None,
        initialization_type: str = ON_DEMAND,
    ) -> Environment:
        """Start an environment of the pool's version. Raises ServiceError."""

        def began(environment: Environment) -> None:
            pool.all.add(environment)
            self._environments.add(environment)
            environment.retired = pool.retired

        owner = Owner(began, lambda idle: self._idle(pool, idle), lambda ended: self._ended(pool, ended))
        return await self._launching.launch(pool.version, owner, claim, initialization_type)

    def _idle(self, pool: VersionPool, environment: Environment) -> None:
        pool.ready.add(environment)
        if environment.state is State.IDLE and not pool.offer(environment):
            if pool.retired:
                environment.begin_stop()
            else:
                pool.idle.append(environment)
                self._freezer.is_idle(environment)

    def _ended(self, pool: VersionPool, environment: Environment) -> None:
        self._freezer.forget(environment)
        pool.all.discard(environment)
        pool.ready.discard(environment)
        self._environments.discard(environment)
        if environment in pool.idle:
            pool.idle.remove(environment)

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

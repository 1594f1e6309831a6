"""The environments of this machine: started on demand, used again, stopped when idle. The local compute host.

Each version has a pool of its own. An invocation takes the environment that was used last, or starts another one and
takes whichever is free first, its own or somebody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from lambdad.domain import extensions
from lambdad.domain.environment_variables import ON_DEMAND, PROVISIONED
from lambdad.domain.errors import ServiceException
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Invocation, Outcome
from lambdad.domain.lifecycle import State
from lambdad.domain.provisioned_concurrency import Allocation
from lambdad.ports.compute import ResponseStream
from lambdad.ports.memory import MemoryGauge
from lambdad.services.code import archives
from lambdad.services.environment import Environment, InitFailed
from lambdad.services.freezer import Freezer
from lambdad.services.launching import Launching, LaunchParts, Owner
from lambdad.services.memory_reserve import MemoryReserve
from lambdad.services.provisioning import Provisioning
from lambdad.services.running import ResponseChunks
from lambdad.services.version_pool import VersionPool

_STOP_S: Final = 5.0
_REAP_EVERY_S: Final = 5.0
_BUSY: Final = frozenset({State.INVOKING, State.STREAMING, State.SETTLING})


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
        self._launches: dict[asyncio.Future[None], FunctionVersion] = {}
        self._freezer = Freezer(self._clock)
        reserve_bytes = parts.memory_reserve_mb * 1024 * 1024
        self._reserve = MemoryReserve(parts.memory, self._driver, reserve_bytes, self._take_oldest)
        self._launching = Launching(parts.launch, self._reserve)
        # Provisioned ones are not made at the cost of each other: there would be no end to it.
        self._spare = MemoryReserve(parts.memory, self._driver, reserve_bytes, self._take_oldest_on_demand)
        self._launching_provisioned = Launching(parts.launch, self._spare)
        self._provisioning = Provisioning(self._launch_provisioned, self._clock, 2 * parts.processors)

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
        use = None

        def finished(outcome: Outcome) -> None:
            outcome.provisioned = use
            finish(outcome)
            now = self._clock.monotonic()
            pool.served(now, now - began)

        environment.invoke(invocation, finished, chunks)
        if pool.provisioned.target:
            use = pool.use_of(environment)

    def set_provisioned(self, version: FunctionVersion, count: int) -> None:
        if count or version.environment_key in self._pools:
            self._provisioning.set(self._pool(version), count)

    def provisioned(self, version: FunctionVersion) -> Allocation:
        pool = self._pools.get(version.environment_key)
        return self._provisioning.state(pool) if pool is not None else Allocation()

    def retire(self, version: FunctionVersion) -> None:
        pool = self._pools.pop(version.environment_key, None)
        if pool is None:
            return
        pool.retired = True
        pool.provisioned.target = 0
        pool.provisioned.environments.clear()
        pool.provisioned.ready.clear()
        free = {*pool.idle, *pool.idle_provisioned}
        for environment in list(pool.all):
            environment.retired = True
            if environment.state is State.IDLE and environment in free:
                environment.begin_stop()
        pool.idle.clear()
        pool.idle_provisioned.clear()

    def unused(self, code_sha256: str) -> asyncio.Future[None]:
        return asyncio.ensure_future(self._unused(code_sha256))

    async def _unused(self, code_sha256: str) -> None:
        while True:
            ends = {environment.ended: environment.version for environment in self._environments} | self._launches
            users = [end for end, version in ends.items() if not end.done() and code_sha256 in archives(version)]
            if not users:
                return
            await asyncio.wait(users)

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
        oldest = self._take_oldest_on_demand()
        if oldest is None:
            oldest = _take_oldest(pool.idle_provisioned for pool in self._pools.values())
            if oldest is not None:
                self._provisioning.evicted(self._pools[oldest.version.environment_key], oldest)
        return oldest

    def _take_oldest_on_demand(self) -> Environment | None:
        """The same, of those that are not provisioned."""
        return _take_oldest(pool.idle for pool in self._pools.values())

    async def drain(self, seconds: float) -> None:
        await self._provisioning.close()
        for pool in list(self._pools.values()):
            self.retire(pool.version)
        self._freezer.close()
        shutdown_s = extensions.SHUTDOWN_MS / 1000
        until = self._clock.monotonic() + max(seconds, shutdown_s)
        busy = [environment for environment in self._environments if environment.state in _BUSY]
        if busy:
            # What extensions may take to shut down is a part of the time.
            spared_s = shutdown_s if any(environment.extensions.any for environment in busy) else 0.0
            await asyncio.wait([environment.ended for environment in busy], timeout=max(seconds - spared_s, 0.0))
        for task in list(self._tasks):
            task.cancel()
        stops = [asyncio.ensure_future(environment.stop()) for environment in self._environments]
        if stops:
            _, late = await asyncio.wait(stops, timeout=max(until - self._clock.monotonic(), 0.0))
            for environment in list(self._environments):
                environment.kill()
            if late:
                await asyncio.wait(late, timeout=_STOP_S)
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

    async def _launch(self, pool: VersionPool, claim: Callable[[Environment], None] | None = None) -> Environment:
        """Start an environment of the pool's version. Raises ServiceError."""
        with self._under_way(pool.version):
            return await self._launching.launch(pool.version, self._owner(pool), claim, ON_DEMAND)

    async def _launch_provisioned(self, pool: VersionPool) -> Environment:
        """Start one that is to stay, if there is the memory for it. Raises ServiceError."""
        await self._spare.require()
        with self._under_way(pool.version):
            return await self._launching_provisioned.launch(pool.version, self._owner(pool), None, PROVISIONED)

    @contextmanager
    def _under_way(self, version: FunctionVersion) -> Iterator[None]:
        """Have the archives of a version in use, also before there is an environment that has them."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._launches[ended] = version
        try:
            yield
        finally:
            del self._launches[ended]
            ended.set_result(None)

    def _owner(self, pool: VersionPool) -> Owner:
        def began(environment: Environment) -> None:
            pool.all.add(environment)
            if environment.initialization_type == PROVISIONED:
                pool.provisioned.environments.add(environment)
            self._environments.add(environment)
            environment.retired = pool.retired

        return Owner(began, lambda idle: self._idle(pool, idle), lambda ended: self._ended(pool, ended))

    def _idle(self, pool: VersionPool, environment: Environment) -> None:
        pool.ready.add(environment)
        is_provisioned = environment in pool.provisioned.environments
        if is_provisioned:
            pool.provisioned.ready.add(environment)
        if environment.state is State.IDLE and not pool.offer(environment):
            if environment.retired:
                environment.begin_stop()
            else:
                (pool.idle_provisioned if is_provisioned else pool.idle).append(environment)
                self._freezer.is_idle(environment)

    def _ended(self, pool: VersionPool, environment: Environment) -> None:
        self._freezer.forget(environment)
        pool.all.discard(environment)
        self._provisioning.ended(pool, environment)
        pool.ready.discard(environment)
        self._environments.discard(environment)
        for idle in (pool.idle, pool.idle_provisioned):
            if environment in idle:
                idle.remove(environment)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _resolve(done: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not done.done():
        done.set_result(outcome)


def _take_oldest(idle: Iterable[list[Environment]]) -> Environment | None:
    some = [each for each in idle if each]
    # Each pool's are in the order in which they became idle.
    return min(some, key=lambda each: each[0].idle_since).pop(0) if some else None

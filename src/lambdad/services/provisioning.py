"""Keeping environments of versions initialized, so many as were asked for, whether or not anybody invokes them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from lambdad.domain.errors import ServiceError
from lambdad.domain.lifecycle import State
from lambdad.domain.provisioned_concurrency import INIT_FAILURE, Allocation
from lambdad.ports.clock import Clock
from lambdad.services.environment import Environment, InitFailed
from lambdad.services.memory_reserve import NO_CAPACITY
from lambdad.services.version_pool import VersionPool

logger = logging.getLogger(__name__)

BACKOFF_S: Final = 1.0
"""After a start that failed, the next one waits for so long, and for twice as long after each further one."""
BACKOFF_S_MAX: Final = 60.0
_DOUBLINGS_MAX: Final = 10
_ENDING: Final = frozenset({State.STOPPING, State.DEAD, State.INIT_FAILED})


class Provisioning:
    """The provisioned environments of a host.

    `launch` starts one for a pool. At most `at_once` are starting at any time, those of all versions together.
    """

    def __init__(self, launch: Callable[[VersionPool], Awaitable[Environment]], clock: Clock, at_once: int) -> None:
        self._launch = launch
        self._clock = clock
        self._turns = asyncio.Semaphore(at_once)
        self._tasks: set[asyncio.Task[None]] = set()

    def set(self, pool: VersionPool, count: int) -> None:
        """From now on a pool is to have so many. Those that are too many end, the busy ones after their invocation."""
        provisioned = pool.provisioned
        provisioned.target = count
        provisioned.reason = ""
        provisioned.failures = 0
        provisioned.not_before = 0.0
        surplus = len(provisioned.environments) - count
        if surplus > 0:
            # Idle ones first, and of these and the others any: none of them has more to lose.
            for environment in sorted(provisioned.environments, key=_is_busy)[:surplus]:
                provisioned.discard(environment)
                environment.retired = True
                if environment in pool.idle_provisioned:
                    pool.idle_provisioned.remove(environment)
                    environment.begin_stop()
        self._fill(pool)

    def state(self, pool: VersionPool) -> Allocation:
        """What there is this instant."""
        living = [each for each in pool.provisioned.environments if each.state not in _ENDING]
        return Allocation(len(living), sum(each in pool.provisioned.ready for each in living), pool.provisioned.reason)

    def ended(self, pool: VersionPool, environment: Environment) -> None:
        """An environment of a pool is gone: if it was one of those that are wanted, there will be another one."""
        provisioned = pool.provisioned
        if environment not in provisioned.environments:
            return
        was_ready = environment in provisioned.ready
        provisioned.discard(environment)
        if was_ready and not environment.log.usage.invocations:
            self._failed(pool, "")  # it has come to its first `next` and no further: that may go on for ever
        self._fill(pool)

    def evicted(self, pool: VersionPool, environment: Environment) -> None:
        """An environment of a pool is to end because something else needs its memory."""
        pool.provisioned.discard(environment)
        self._failed(pool, NO_CAPACITY.format("its memory is in use"))

    async def close(self) -> None:
        """Start nothing any more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _fill(self, pool: VersionPool) -> None:
        provisioned = pool.provisioned
        if self._clock.monotonic() < provisioned.not_before:
            return  # `_again` comes back to it
        for _ in range(provisioned.target - len(provisioned.environments) - provisioned.starting):
            provisioned.starting += 1
            self._spawn(self._start(pool))

    async def _start(self, pool: VersionPool) -> None:
        provisioned = pool.provisioned
        try:
            async with self._turns:
                is_wanted = len(provisioned.environments) < provisioned.target
                if is_wanted and self._clock.monotonic() >= provisioned.not_before:
                    environment = await self._launch(pool)
                    await environment.initialize()
                    if environment in provisioned.environments:
                        provisioned.reason = ""
        except InitFailed:
            self._failed(pool, INIT_FAILURE)
        except ServiceError as error:
            self._failed(pool, error.message)
        except Exception as error:  # whatever it is, the next start waits for it, and the configuration says it
            logger.exception("A provisioned environment of %s could not be started", pool.version.arn)
            self._failed(pool, str(error))
        finally:
            provisioned.starting -= 1
        self._fill(pool)  # others may have ended meanwhile

    def _failed(self, pool: VersionPool, reason: str) -> None:
        """Have a pool's next start wait."""
        provisioned = pool.provisioned
        provisioned.reason = reason
        now = self._clock.monotonic()
        if pool.retired or now < provisioned.not_before:
            return  # others have failed with it, and it waits already
        if now - provisioned.not_before > BACKOFF_S_MAX:
            provisioned.failures = 0
        delay_s = min(BACKOFF_S * 2 ** min(provisioned.failures, _DOUBLINGS_MAX), BACKOFF_S_MAX)
        provisioned.failures += 1
        provisioned.not_before = now + delay_s
        self._spawn(self._again(pool, delay_s))

    async def _again(self, pool: VersionPool, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        pool.provisioned.not_before = min(pool.provisioned.not_before, self._clock.monotonic())  # it may wake early
        self._fill(pool)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_busy(environment: Environment) -> bool:
    return not environment.is_waiting

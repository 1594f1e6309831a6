"""A part of the machine's memory that is kept free, at the cost of what is idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from lambdad.domain.errors import ServiceException
from lambdad.ports.memory import MemoryGauge
from lambdad.ports.sandbox import SandboxDriver
from lambdad.services.environment import Environment

_PATIENCE_S: Final = 0.1
"""So long the memory of one with extensions is waited for before the next one goes: they may take seconds to end."""
# What Lambda answers, as a ServiceException, when it has no room: neither the caller nor a quota is at fault, and SDKs
# try again after a 5xx. EC2ThrottledException is about a customer's own VPC, TooManyRequestsException about quotas.
NO_CAPACITY: Final = "We currently do not have sufficient capacity on this machine: {}"


class MemoryReserve:
    """Ends what can be made again: first sandboxes without a function, then environments that are idle.

    `take_oldest` gives the environment that has been idle for longest, of all versions, which nobody will use then.
    """

    def __init__(
        self,
        gauge: MemoryGauge,
        driver: SandboxDriver,
        reserve_bytes: int,
        take_oldest: Callable[[], Environment | None],
    ) -> None:
        self._gauge = gauge
        self._driver = driver
        self._reserve_bytes = reserve_bytes
        self._take_oldest = take_oldest
        self._freeing = asyncio.Lock()
        self._ending: set[asyncio.Future[None]] = set()

    async def restore(self) -> None:
        """Evict until the reserve is there, or nothing is left to evict.

        The memory of one is back before the next, where no extension holds up its end.
        """
        if not self._is_short(fresh=False):
            return
        async with self._freeing:
            while self._is_short(fresh=True) and await self._evict():
                pass

    async def require(self) -> None:
        """Restore the reserve, or raise ServiceException when that cannot be."""
        await self.restore()
        if self._is_short(fresh=True):
            raise ServiceException(NO_CAPACITY.format("its memory is in use"))

    async def evict(self) -> bool:
        """Free what one sandbox takes; False when everything that there is is in use."""
        async with self._freeing:
            return await self._evict()

    async def _evict(self) -> bool:
        if await self._driver.trim():
            return True
        environment = self._take_oldest()
        if environment is not None:
            environment.begin_stop()
            self._ending.add(environment.ended)
            environment.ended.add_done_callback(self._ending.discard)
            await asyncio.wait((environment.ended,), timeout=_PATIENCE_S if environment.extensions.any else None)
            return True
        if self._ending:
            await asyncio.wait(self._ending, return_when=asyncio.FIRST_COMPLETED)
            return True
        return False

    def _is_short(self, *, fresh: bool) -> bool:
        available = self._gauge.available_bytes(fresh=fresh)
        return available is not None and available < self._reserve_bytes

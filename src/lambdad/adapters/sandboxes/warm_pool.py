"""Sandboxes of one kind that are made ahead, so that a function need not wait for one."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakSet

from lambdad.adapters.sandboxes.isolated import IsolatedSandbox
from lambdad.ports.sandbox import SandboxFailed

logger = logging.getLogger("lambdad")

DEMAND_WINDOW_S: Final = 10.0
"""So many sandboxes are kept ready as were asked for in this time."""
KEEP_S: Final = 600.0
"""One is kept ready for so long after the last was asked for."""


class WarmPool:
    """Makes sandboxes when they are asked for, and some more before: as many as demand of late, from one to `most`.

    Sandboxes that somebody waits for come first; those made ahead are made one after another, as `at_once` allows.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[IsolatedSandbox]],
        unused: Callable[[], None],
        least: int,
        most: int,
        at_once: int = 1,
    ) -> None:
        """`unused` is called when nothing was asked for in KEEP_S, and nothing that was made lives any more."""
        self._make_one = make
        self._unused = unused
        self._least = least
        self._most = most
        self._at_once = at_once
        self._loop = asyncio.get_running_loop()
        self._ready: deque[IsolatedSandbox] = deque()
        self._demand: deque[float] = deque(maxlen=most)
        self._awaited = 0
        self._makers: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._discarding: set[asyncio.Task[None]] = set()
        self._alive: WeakSet[IsolatedSandbox] = WeakSet()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._ready)

    async def take(self) -> IsolatedSandbox:
        """A sandbox without a function. Raises SandboxFailed."""
        self._demand.append(self._loop.time())
        while self._ready:
            sandbox = self._ready.popleft()
            if sandbox.is_alive:
                self._refill()
                return sandbox
            await sandbox.discard()
        self._awaited += 1
        try:
            return await self._make()
        finally:
            self._awaited -= 1
            self._refill()

    async def _make(self) -> IsolatedSandbox:
        sandbox = await self._make_one()
        self._alive.add(sandbox)
        return sandbox

    def expect(self) -> None:
        """One is likely to be asked for soon."""
        self._demand.append(self._loop.time())
        self._refill()

    @property
    def wanted(self) -> int:
        """How many are to be ready now."""
        now = self._loop.time()
        while self._demand and self._demand[0] < now - KEEP_S:
            self._demand.popleft()
        if not self._demand:
            return 0
        recent = sum(1 for asked in self._demand if asked >= now - DEMAND_WINDOW_S)
        return max(self._least, recent)

    async def trim(self) -> bool:
        """Give up one; False when there is none."""
        if not self._ready:
            return False
        self._demand.clear()  # it is not made again before somebody asks
        await self._ready.pop().discard()
        return True

    async def close(self) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._makers:
            task.cancel()
        await asyncio.gather(*self._makers, return_exceptions=True)
        while self._ready:
            await self._ready.popleft().discard()
        await asyncio.gather(*self._discarding)

    def _refill(self) -> None:
        if self._is_closed or self._awaited:
            return
        missing = self.wanted - len(self._ready) - len(self._makers)
        for _ in range(min(missing, self._at_once - len(self._makers))):
            task = self._loop.create_task(self._make_ahead())
            self._makers.add(task)
            task.add_done_callback(self._made_ahead)
        self._look_later()

    async def _make_ahead(self) -> None:
        self._ready.append(await self._make())

    def _made_ahead(self, task: asyncio.Task[None]) -> None:
        self._makers.discard(task)
        if task.cancelled() or self._is_closed:
            return
        error = task.exception()
        if error is None:
            self._refill()
        elif isinstance(error, (SandboxFailed, OSError)):
            logger.warning("A sandbox cannot be made ahead: %s", error)  # whoever needs one is told why
        else:
            raise error

    def _look_later(self) -> None:
        if self._is_closed:
            return
        wait_s = DEMAND_WINDOW_S if len(self._ready) > self._least else KEEP_S
        if self._timer is not None:
            if self._timer.when() <= self._loop.time() + wait_s:
                return
            self._timer.cancel()  # there are more than when it was set
        self._timer = self._loop.call_later(wait_s, self._shrink)

    def _shrink(self) -> None:
        """Demand is over, or was: make less ready, and in the end nothing."""
        self._timer = None
        while len(self._ready) > self.wanted:
            sandbox = self._ready.pop()
            task = self._loop.create_task(sandbox.discard())
            self._discarding.add(task)
            task.add_done_callback(self._discarding.discard)
        is_busy = self._awaited or self._makers or any(sandbox.is_alive for sandbox in self._alive)
        if not self.wanted and not is_busy:
            self._unused()
        else:
            self._look_later()

"""Sandboxes of one kind that are made ahead, so that a function need not wait for one."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final
from weakref import WeakSet

from lambdad.adapters.sandboxes.isolated import IsolatedSandbox
from lambdad.ports.sandbox import SandboxFailed

logger = logging.getLogger("lambdad")

DEMAND_WINDOW_S: Final = 10.0
"""So many sandboxes are kept ready as were asked for in this time."""
KEEP_S: Final = 600.0
"""Some are kept ready for so long after the last was asked for."""
REFILL_AFTER_S: Final = 0.01
"""A function has started by then."""
_STOPPING: Final = "lambdad is stopping"


class WarmPool:
    """Makes sandboxes when they are asked for, and some before: as many as of late, from `least` to `most`.

    Sandboxes that somebody waits for come first; those made ahead are made one after another, as `at_once` allows.
    """

    def __init__(
        self,
        make: Callable[[], Coroutine[Any, Any, IsolatedSandbox]],
        unused: Callable[[], None],
        least: int,
        most: int,
        at_once: int = 1,
    ) -> None:
        """`unused` is called when nothing was asked for in KEEP_S, and nothing that was made lives any more."""
        self._make = make
        self._unused = unused
        self._least = least
        self._most = most
        self._at_once = at_once
        self._loop = asyncio.get_running_loop()
        self._ready: deque[IsolatedSandbox] = deque()
        self._demand: deque[float] = deque(maxlen=most)
        self._waiting: deque[asyncio.Future[IsolatedSandbox]] = deque()
        self._makers: set[asyncio.Task[IsolatedSandbox]] = set()
        self._refilling: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._discarding: set[asyncio.Task[None]] = set()
        self._alive: WeakSet[IsolatedSandbox] = WeakSet()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._ready)

    async def take(self) -> IsolatedSandbox:
        """A sandbox without a function, the first that is there. Raises SandboxFailed."""
        self._demand.append(self._loop.time())
        while self._ready:
            sandbox = self._ready.popleft()
            if sandbox.is_alive:
                self._refill_later()
                return sandbox
            await sandbox.discard()
        if self._is_closed:
            raise SandboxFailed(_STOPPING)
        waiter: asyncio.Future[IsolatedSandbox] = self._loop.create_future()
        self._waiting.append(waiter)
        self._refill()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._made(waiter.result())
            raise

    def expect(self) -> None:
        """One is likely to be asked for soon."""
        self._demand.append(self._loop.time())
        self._refill_later()

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
        for timer in (self._timer, self._refilling):
            if timer is not None:
                timer.cancel()
        makers = list(self._makers)
        for task in makers:
            task.cancel()
        await asyncio.gather(*makers, return_exceptions=True)
        while self._next_waiting() is not None:
            self._waiting.popleft().set_exception(SandboxFailed(_STOPPING))
        while self._ready:
            await self._ready.popleft().discard()
        await asyncio.gather(*self._discarding)

    def _refill_later(self) -> None:
        """Make up for what was taken when its function has started: until then it needs the processor itself."""
        if self._is_closed:
            return
        if self._refilling is None:
            self._refilling = self._loop.call_later(REFILL_AFTER_S, self._refill)

    def _refill(self) -> None:
        if self._refilling is not None:
            self._refilling.cancel()
            self._refilling = None
        if self._is_closed:
            return
        ahead = min(self.wanted - len(self._ready), self._at_once)
        for _ in range((len(self._waiting) or ahead) - len(self._makers)):
            task = self._loop.create_task(self._make())
            self._makers.add(task)
            task.add_done_callback(self._finished)
        self._look_later()

    def _finished(self, task: asyncio.Task[IsolatedSandbox]) -> None:
        self._makers.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._alive.add(task.result())
            self._made(task.result())
        elif self._next_waiting() is not None:
            self._waiting.popleft().set_exception(error)
        elif isinstance(error, (SandboxFailed, OSError)):
            logger.warning("A sandbox cannot be made ahead: %s", error)  # whoever needs one is told why
            return
        else:
            raise error
        if not self._is_closed:
            self._refill()

    def _made(self, sandbox: IsolatedSandbox) -> None:
        """Hand it to whoever has waited longest, or keep it."""
        if self._next_waiting() is not None:
            self._waiting.popleft().set_result(sandbox)
        else:
            self._ready.append(sandbox)

    def _next_waiting(self) -> asyncio.Future[IsolatedSandbox] | None:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()  # it has given up
        return self._waiting[0] if self._waiting else None

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
        is_busy = self._waiting or self._makers or any(sandbox.is_alive for sandbox in self._alive)
        if not self.wanted and not is_busy:
            self._unused()
        else:
            self._look_later()

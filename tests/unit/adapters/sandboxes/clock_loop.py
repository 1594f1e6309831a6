"""An event loop whose time passes when a test says so."""

from __future__ import annotations

import asyncio


class ClockLoop(asyncio.SelectorEventLoop):
    """Timers are due by a clock of its own, which stands still."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    async def settle(self) -> None:
        """Let everything run that can run now."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, a timer at a time, and run what is due."""
        await self.settle()
        end = self._now + seconds
        while True:
            due = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
            if not due or min(due) > end:
                break
            self._now = max(self._now, min(due))
            await self.settle()
        self._now = end
        await self.settle()

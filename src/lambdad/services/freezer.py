"""Freezes idle environments, a moment after their last event; the next event thaws them.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
"""

from __future__ import annotations

import asyncio
from typing import Final

from lambdad.ports.clock import Clock
from lambdad.services.environment import Environment

FREEZE_AFTER_S: Final = 0.01
"""An environment that gets its next event sooner is spared both."""
# So long it freezes before others have their turn on the event loop.
_SLICE_S: Final = 0.002


class Freezer:
    """One timer for all environments of a host; none while nobody is about to be frozen."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._idle: dict[Environment, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def is_idle(self, environment: Environment) -> None:
        """An environment waits for its next event from now on. This is on the invoke path."""
        self._idle[environment] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FREEZE_AFTER_S, self._look)

    def forget(self, environment: Environment) -> None:
        """An environment has ended."""
        self._idle.pop(environment, None)

    def close(self) -> None:
        """Freeze nobody any more."""
        self._idle.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Freeze who has been idle for long enough; who has an event now is told of again when that is over."""
        began = self._clock.monotonic()
        for environment in list(self._idle):
            if not environment.is_waiting:
                del self._idle[environment]
            elif environment.idle_since + FREEZE_AFTER_S <= began:
                del self._idle[environment]
                environment.freeze()
                if self._clock.monotonic() - began > _SLICE_S:
                    break
        self._timer = None
        if self._idle:
            self._timer = asyncio.get_running_loop().call_later(FREEZE_AFTER_S, self._look)

"""The environments of one version in one configuration, and the invocations that wait for one."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from typing import Final

from lambdad.domain.functions import FunctionVersion
from lambdad.domain.lifecycle import State
from lambdad.domain.provisioned_concurrency import ProvisionedUse
from lambdad.services.environment import Environment

_LEARNING_RATE: Final = 0.2
_WINDOW_S: Final = 1.0
_PATIENCE_S: Final = 0.05


class Provisioned:
    """The environments that a version is to have at all times, and how their starts have gone.

    `ready` are those that are initialized. `reason` is why the last start failed, empty once one has succeeded; until
    `not_before` there is no further one.
    """

    def __init__(self) -> None:
        self.target = 0
        self.environments: set[Environment] = set()
        self.ready: set[Environment] = set()
        self.starting = 0
        self.reason = ""
        self.failures = 0
        self.not_before = 0.0

    def discard(self, environment: Environment) -> None:
        """It is none of them any more."""
        self.environments.discard(environment)
        self.ready.discard(environment)


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
        self.provisioned = Provisioned()
        self.idle_provisioned: list[Environment] = []
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
        if not self.start_s or not ready or math.isinf(self.service_s):
            return max(0, waiting - self.starting)  # nothing is known yet of how soon one will be free
        # No fewer than the processors can run, or they would wait for each other's turn with lambdad.
        enough = max(math.ceil(waiting * self.service_s / self.start_s), self._least)
        patience_s = self.patience_s
        late = sum(1 for _ in itertools.takewhile(lambda place: now - place[0] >= patience_s, self._waiting))
        if now - self._last_served < patience_s:
            late = min(late, ready)
        # One that has answered, and has yet to ask for the next event, is as good as free.
        soon = sum(
            environment.state is State.ANSWERED and not environment.extensions.busy for environment in self.ready
        )
        return max(0, min(enough - ready, waiting - soon) - self.starting, late - self.starting)

    @property
    def patience_s(self) -> float:
        """How long an invocation waits for an environment that was expected to be free sooner."""
        return max(2 * self.start_s, _PATIENCE_S)

    def take_idle(self) -> Environment | None:
        """The environment that was used last, of those that still live; a provisioned one if there is one."""
        for idle in (self.idle_provisioned, self.idle):
            while idle:
                environment = idle.pop()
                if environment.state is State.IDLE:
                    return environment
        return None

    def use_of(self, environment: Environment) -> ProvisionedUse | None:
        """What an invocation in this environment means for the provisioned ones; None for a version without."""
        provisioned = self.provisioned
        if not provisioned.target:
            return None
        is_spillover = environment not in provisioned.environments
        busy = len(provisioned.ready) - len(self.idle_provisioned)
        return ProvisionedUse(is_spillover, busy, provisioned.target)

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
        """How long an invocation takes that need not wait for the processor; infinite before one has ended."""
        return min(self._shortest)

    def started(self, seconds: float) -> None:
        """A start has taken so long."""
        self.start_s = seconds if not self.start_s else self.start_s + (seconds - self.start_s) * _LEARNING_RATE

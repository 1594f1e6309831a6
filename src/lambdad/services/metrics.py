"""What is counted of functions, on its way to where CloudWatch reads it.

Counting is an entry in a dictionary. Once a second what was counted is merged into the minutes of the store; a crash
loses what was counted since.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from lambdad.domain.metric_names import MetricName
from lambdad.ports.clock import Clock
from lambdad.ports.metrics import MetricKey, MetricStore, Statistics
from lambdad.ports.store import StoreUnavailable

logger = logging.getLogger(__name__)

FLUSH_S: Final = 1.0
EXPIRE_S: Final = 3600.0
KEPT_S: Final = 15 * 24 * 3600
"""How long CloudWatch keeps the statistics of single minutes."""
WAITING_MAX: Final = 100_000
"""So many minutes of metrics wait while the store cannot be written; then the oldest are discarded."""
_MINUTE_S: Final = 60

_Counted = tuple[str, str, str, str, MetricName, int]
"""Account, region, function, qualifier or nothing, metric, and the beginning of the minute."""


class Metrics:
    """Counts, and gives what was counted."""

    def __init__(self, store: MetricStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[_Counted, Statistics] = {}
        """What is not in the store yet, the oldest first."""
        self._writing = asyncio.Lock()
        self._failing = False
        self._expires_at = 0.0

    def count(
        self, account_id: str, region: str, function: str, qualifier: str | None, name: MetricName, value: float = 1.0
    ) -> None:
        """Add a value to the present minute of a function, and of its qualifier if it was invoked by one.

        Call it from the event loop; nothing is written yet.
        """
        minute_s = int(self._clock.time()) // _MINUTE_S * _MINUTE_S
        counted = (account_id, region, function, qualifier or "", name, minute_s)
        known = self._waiting.get(counted)
        self._waiting[counted] = known.including(value) if known else Statistics(1, value, value, value)

    async def read(
        self, account_id: str, region: str, *, function: str | None, name: str | None, since_s: int, until_s: int
    ) -> Sequence[tuple[MetricKey, Statistics]]:
        """What `MetricStore.read` gives, with what is still to be written. Raises StoreUnavailable."""
        async with self._writing:
            found = dict(
                await self._store.read(
                    account_id, region, function=function, name=name, since_s=since_s, until_s=until_s
                )
            )
            for key, counted in _by_dimension(self._waiting):
                if (
                    (key.account_id, key.region) == (account_id, region)
                    and function in (None, key.function)
                    and name in (None, key.name)
                    and since_s <= key.minute_s < until_s
                ):
                    found[key] = counted.merged(found[key]) if key in found else counted
        return sorted(found.items(), key=lambda item: item[0])

    async def flush(self) -> None:
        """Write what was counted so far. When that raises StoreUnavailable, it is kept for the next time."""
        async with self._writing:
            if not self._waiting:
                return
            written, self._waiting = self._waiting, {}
            try:
                await self._store.add(list(_by_dimension(written)))
            except StoreUnavailable:
                self._keep(written)
                raise

    async def run(self) -> None:
        """Flush regularly and forget what is old, for ever; the application runs this as a task."""
        while True:
            await self._clock.sleep(FLUSH_S)
            try:
                await self.flush()
                await self._expire()
            except StoreUnavailable as error:
                if not self._failing:
                    logger.error("Metrics cannot be written, and wait: %s", error)
                self._failing = True
            else:
                self._failing = False

    async def close(self) -> None:
        """Write what is left. Raises StoreUnavailable."""
        await self.flush()

    async def _expire(self) -> None:
        now = self._clock.time()
        if now >= self._expires_at:
            await self._store.expire(int(now) - KEPT_S)
            self._expires_at = now + EXPIRE_S

    def _keep(self, unwritten: dict[_Counted, Statistics]) -> None:
        """Put back what could not be written, before what was counted meanwhile."""
        for counted, statistics in self._waiting.items():
            known = unwritten.get(counted)
            unwritten[counted] = known.merged(statistics) if known else statistics
        for counted in list(unwritten)[:-WAITING_MAX]:
            del unwritten[counted]
        self._waiting = unwritten


def _by_dimension(waiting: Mapping[_Counted, Statistics]) -> Iterator[tuple[MetricKey, Statistics]]:
    """What was counted under each of AWS's dimensions: all of a function, and what was invoked by a qualifier."""
    functions: dict[MetricKey, Statistics] = {}
    for (account_id, region, function, qualifier, name, minute_s), counted in waiting.items():
        key = MetricKey(account_id, region, function, "", name, minute_s)
        functions[key] = functions[key].merged(counted) if key in functions else counted
        if qualifier:
            yield MetricKey(account_id, region, function, f"{function}:{qualifier}", name, minute_s), counted
    yield from functions.items()

"""What is counted of functions, on its way to where CloudWatch reads it.

Counting is a number at the end of a list; once a second statistics are made of the lists, and merged into the minutes
of the store. A crash loses what was counted since.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from lambdad.domain.arns import FunctionKey
from lambdad.domain.metric_names import NAMESPACE, MetricName
from lambdad.domain.provisioned_concurrency import ProvisionedUse
from lambdad.ports.clock import Clock
from lambdad.ports.metrics import MINUTE_S, Metric, MetricKey, MetricStore, Statistics
from lambdad.ports.store import StoreUnavailable

logger = logging.getLogger(__name__)

FLUSH_S: Final = 1.0
EXPIRE_S: Final = 3600.0
KEPT_S: Final = 15 * 24 * 3600
"""How long CloudWatch keeps the statistics of single minutes."""
SECONDS_KEPT_S: Final = 3 * 3600
"""How long it keeps those of single seconds."""
WAITING_MAX: Final = 100_000
"""So many minutes of metrics wait while the store cannot be written; then the oldest are discarded."""
WITH_VALUES_MAX: Final = 1000
"""So many of them wait with what percentiles are told from."""
OF_ACCOUNT: Final = frozenset({MetricName.INVOCATIONS, MetricName.ERRORS, MetricName.THROTTLES, MetricName.DURATION})
"""What is counted of all functions together, too."""

_Counted = tuple[str, str, str, str, MetricName, int]
"""Account, region, function, qualifier or nothing, metric, and the beginning of the minute."""
_Dimensions = tuple[tuple[str, str], ...]
_Invoked = tuple[FunctionKey, str | None, int]
"""Function, qualifier, and the beginning of the minute."""


class _Invocations:
    """Invocations in one minute, of a function or of several. What could not be measured of one is not in its list."""

    __slots__ = ("_statistics", "concurrent", "count", "durations_ms", "errors")

    def __init__(self) -> None:
        self.count = 0
        self.errors = 0
        self.durations_ms: list[float] = []
        self.concurrent: list[float] = []
        self._statistics: list[tuple[MetricName, Statistics]] = []

    @classmethod
    def together(cls, groups: Sequence[_Invocations]) -> _Invocations:
        if len(groups) == 1:
            return groups[0]
        found = cls()
        for group in groups:
            found.count += group.count
            found.errors += group.errors
            found.durations_ms += group.durations_ms
            found.concurrent += group.concurrent
        return found

    def statistics(self) -> Sequence[tuple[MetricName, Statistics]]:
        """Computed once: most often those of a function are also those of the account."""
        if not self._statistics:
            errors = {0.0: self.count - self.errors, 1.0: self.errors}
            self._statistics = [
                (MetricName.INVOCATIONS, Statistics.of_counts({1.0: self.count})),
                (MetricName.ERRORS, Statistics.of_counts({value: often for value, often in errors.items() if often})),
                (MetricName.THROTTLES, Statistics.of_counts({0.0: self.count})),
                (MetricName.CONCURRENT_EXECUTIONS, Statistics.of(self.concurrent)),
            ]
            if self.durations_ms:
                self._statistics.append((MetricName.DURATION, Statistics.of(self.durations_ms)))
        return self._statistics


class Metrics:
    """Counts, and gives what was counted."""

    def __init__(self, store: MetricStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._counted: dict[_Counted, list[float]] = {}
        self._invoked: dict[_Invoked, _Invocations] = {}
        self._waiting: dict[MetricKey, Statistics] = {}
        """What could not be written, the oldest first."""
        self._writing = asyncio.Lock()
        self._failing = False
        self._expires_at = 0.0

    def count(
        self, account_id: str, region: str, function: str, qualifier: str | None, name: MetricName, value: float = 1.0
    ) -> None:
        """Add a value to the present minute of a function, and of its qualifier if it was invoked by one.

        Call it from the event loop; nothing is written yet.
        """
        counted = (account_id, region, function, qualifier or "", name, _minute_of(self._clock.time()))
        self._counted.setdefault(counted, []).append(value)

    def invoked(
        self,
        key: FunctionKey,
        qualifier: str | None,
        began_s: float,
        concurrent: int,
        duration_ms: float | None,
        *,
        failed: bool,
    ) -> None:
        """Count an invocation that has ended, in the minute in which it began. Call it from the event loop.

        `concurrent` is how many of the function ran then. This is on the way of every invocation, and costs it 1 µs.
        """
        place = (key, qualifier, _minute_of(began_s))
        group = self._invoked.get(place)
        if group is None:
            group = self._invoked[place] = _Invocations()
        group.count += 1
        group.concurrent.append(concurrent)
        if duration_ms is not None:
            group.durations_ms.append(duration_ms)
        if failed:
            group.errors += 1

    def provisioned(self, key: FunctionKey, qualifier: str | None, use: ProvisionedUse) -> None:
        """Count how an invocation was run of a version that has provisioned environments. Call it from the event loop.

        https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html: the number that run, and its part of
        those that there are to be, are of an invocation in a provisioned environment.
        """

        def count(name: MetricName, value: float) -> None:
            self.count(key.account_id, key.region, key.name, qualifier, name, value)

        if use.is_spillover:
            count(MetricName.PROVISIONED_CONCURRENCY_SPILLOVER_INVOCATIONS, 1.0)
            return
        count(MetricName.PROVISIONED_CONCURRENCY_INVOCATIONS, 1.0)
        count(MetricName.PROVISIONED_CONCURRENT_EXECUTIONS, use.running)
        count(MetricName.PROVISIONED_CONCURRENCY_UTILIZATION, use.running / use.of)

    async def read(
        self, account_id: str, region: str, *, function: str | None, name: str | None, since_s: int, until_s: int
    ) -> Sequence[tuple[MetricKey, Statistics]]:
        """The minutes of functions, with what is still to be written. Raises StoreUnavailable."""
        with suppress(StoreUnavailable):  # then it waits, and is added here
            await self.flush()
        async with self._writing:
            found = dict(
                await self._store.read(account_id, region, NAMESPACE, name=name, since_s=since_s, until_s=until_s)
            )
            for key, counted in self._waiting.items():
                if (
                    (key.metric.account_id, key.metric.region) == (account_id, region)
                    and name in (None, key.metric.name)
                    and since_s <= key.start_s < until_s
                ):
                    found[key] = found[key].merged(counted) if key in found else counted
        wanted = [item for item in found.items() if function in (None, *_function_of(item[0].metric))]
        return sorted(wanted, key=lambda item: item[0])

    async def flush(self) -> None:
        """Write what was counted so far. When that raises StoreUnavailable, it is kept for the next time."""
        async with self._writing:
            for key, statistics in self._taken():
                known = self._waiting.get(key)
                self._waiting[key] = known.merged(statistics) if known else statistics
            if not self._waiting:
                return
            # Taken before: if the task is cancelled meanwhile, it is written all the same, and must not be again.
            written, self._waiting = list(self._waiting.items()), {}
            try:
                await self._store.add(written)
            except StoreUnavailable:
                self._keep(written[-WAITING_MAX:])
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
            await self._store.expire(int(now) - KEPT_S, int(now) - SECONDS_KEPT_S)
            self._expires_at = now + EXPIRE_S

    def _keep(self, unwritten: Sequence[tuple[MetricKey, Statistics]]) -> None:
        """Have it wait; what has waited for long is kept without its values, as they may be a thousand a minute."""
        old = len(unwritten) - WITH_VALUES_MAX
        self._waiting = {
            key: replace(statistics, values=None) if place < old else statistics
            for place, (key, statistics) in enumerate(unwritten)
        }

    def _taken(self) -> Iterator[tuple[MetricKey, Statistics]]:
        """What was counted since the last time, under each of AWS's sets of dimensions. A key may come twice."""
        counted, self._counted = self._counted, {}
        invoked, self._invoked = self._invoked, {}
        for (account_id, region, function, qualifier, name, minute_s), values in counted.items():
            statistics = Statistics.of(values)
            of_account: list[_Dimensions] = [()] if name in OF_ACCOUNT else []
            for dimensions in (*_dimensions_of(function, qualifier), *of_account):
                yield _key(account_id, region, dimensions, name, minute_s), statistics
        groups: dict[tuple[str, str, _Dimensions, int], list[_Invocations]] = {}
        for (key, by, minute_s), group in invoked.items():
            for dimensions in (*_dimensions_of(key.name, by), ()):
                groups.setdefault((key.account_id, key.region, dimensions, minute_s), []).append(group)
        for (account_id, region, dimensions, minute_s), several in groups.items():
            for name, statistics in _Invocations.together(several).statistics():
                if dimensions or name in OF_ACCOUNT:
                    yield _key(account_id, region, dimensions, name, minute_s), statistics


def _minute_of(moment_s: float) -> int:
    return int(moment_s) // MINUTE_S * MINUTE_S


def _dimensions_of(function: str, qualifier: str | None) -> list[_Dimensions]:
    """All of a function, and what was invoked by a qualifier."""
    of_function = ("FunctionName", function)
    return [(of_function,), (of_function, ("Resource", f"{function}:{qualifier}"))] if qualifier else [(of_function,)]


def _key(account_id: str, region: str, dimensions: _Dimensions, name: MetricName, minute_s: int) -> MetricKey:
    return MetricKey(Metric(account_id, region, NAMESPACE, name.value, dimensions), MINUTE_S, minute_s, name.unit)


def _function_of(metric: Metric) -> list[str]:
    return [value for name, value in metric.dimensions if name == "FunctionName"]

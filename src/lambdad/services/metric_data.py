"""CloudWatch's metrics: what is put is on disk when it is answered, and is read with what lambdad counts itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lambdad.domain.metric_data import LISTED_S, RECENTLY_S, percent_of, rounded_start_s
from lambdad.domain.metric_names import NAMESPACE
from lambdad.ports.clock import Clock
from lambdad.ports.metrics import MINUTE_S, SECOND_S, Metric, MetricKey, MetricStore, Statistics
from lambdad.services.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Datum:
    """Data of a metric at one moment, in seconds since the epoch."""

    metric: Metric
    unit: str
    moment_s: float
    statistics: Statistics
    is_high_resolution: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """From when until when, and in periods of how long."""

    start_s: float
    end_s: float
    period_s: int


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A period's place in an answer."""

    start_s: int
    unit: str


class MetricData:
    """Takes and gives metrics. Every method raises StoreUnavailable."""

    def __init__(self, store: MetricStore, counted: Metrics, clock: Clock) -> None:
        self._store = store
        self._counted = counted
        self._clock = clock

    async def put(self, data: Sequence[Datum]) -> None:
        """Keep data, all of it or nothing. It is on disk when this returns."""
        statistics: dict[MetricKey, Statistics] = {}
        for datum in data:
            for period_s in (MINUTE_S, SECOND_S) if datum.is_high_resolution else (MINUTE_S,):
                start_s = int(datum.moment_s // period_s) * period_s
                key = MetricKey(datum.metric, period_s, start_s, datum.unit)
                known = statistics.get(key)
                statistics[key] = known.merged(datum.statistics) if known else datum.statistics
        await self._store.add(list(statistics.items()))

    async def points(self, metric: Metric, span: Span, unit: str | None) -> list[tuple[Point, Statistics]]:
        """The statistics of each period that has data, oldest first; of each unit apart, or of one.

        Periods of less than a minute have data of metrics of high resolution only.
        """
        await self._settle(metric.namespace)
        start_s = rounded_start_s(span.start_s, span.period_s)
        rows = await self._store.read(
            metric.account_id,
            metric.region,
            metric.namespace,
            name=metric.name,
            dimensions=metric.dimensions,
            period_s=SECOND_S if span.period_s < MINUTE_S else MINUTE_S,
            since_s=start_s,
            until_s=int(-(-span.end_s // 1)),
        )
        found: dict[Point, Statistics] = {}
        for key, statistics in rows:
            if unit in (None, key.unit):
                point = Point(start_s + (key.start_s - start_s) // span.period_s * span.period_s, key.unit)
                found[point] = found[point].merged(statistics) if point in found else statistics
        return sorted(found.items(), key=lambda item: item[0])

    async def metrics(
        self, account_id: str, region: str, namespace: str | None, name: str | None, *, recently: bool
    ) -> Sequence[Metric]:
        """What has had data in the past two weeks, or `recently` in the past three hours."""
        await self._settle(namespace)
        since_s = int(self._clock.time()) - (RECENTLY_S if recently else LISTED_S)
        return await self._store.metrics(account_id, region, namespace=namespace, name=name, since_s=since_s)

    async def _settle(self, namespace: str | None) -> None:
        """Have what lambdad counts written, if it is asked for."""
        if namespace in (None, NAMESPACE):
            await self._counted.flush()


def value_of(statistic: str, statistics: Statistics) -> float | None:
    """One of `STATISTICS`, or a percentile; None when it cannot be told of these."""
    if statistic == "Average":
        return statistics.total / statistics.count if statistics.count else None
    if statistic == "SampleCount":
        return statistics.count
    if statistic == "Sum":
        return statistics.total
    if statistic == "Minimum":
        return statistics.minimum
    if statistic == "Maximum":
        return statistics.maximum
    percent = percent_of(statistic)
    return None if percent is None else statistics.percentile(percent)

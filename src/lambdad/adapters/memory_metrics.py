"""Metrics in memory, for tests: the contract of the real store without its disk and its threads."""

from __future__ import annotations

from collections.abc import Sequence

from lambdad.ports.metrics import MINUTE_S, Metric, MetricKey, Statistics
from lambdad.ports.store import StoreUnavailable


class MemoryMetricStore:
    """A MetricStore that forgets everything with its process."""

    def __init__(self) -> None:
        self._points: dict[MetricKey, Statistics] = {}
        self._closed = False

    async def add(self, statistics: Sequence[tuple[MetricKey, Statistics]]) -> None:
        self._check_open()
        for key, counted in statistics:
            known = self._points.get(key)
            self._points[key] = known.merged(counted) if known else counted

    async def read(
        self,
        account_id: str,
        region: str,
        namespace: str,
        *,
        name: str | None = None,
        dimensions: Sequence[tuple[str, str]] | None = None,
        period_s: int = MINUTE_S,
        since_s: int,
        until_s: int,
    ) -> Sequence[tuple[MetricKey, Statistics]]:
        self._check_open()
        return [
            (key, counted)
            for key, counted in sorted(self._points.items(), key=lambda item: item[0])
            if (key.metric.account_id, key.metric.region, key.metric.namespace) == (account_id, region, namespace)
            and name in (None, key.metric.name)
            and (dimensions is None or tuple(dimensions) == key.metric.dimensions)
            and key.period_s == period_s
            and since_s <= key.start_s < until_s
        ]

    async def metrics(
        self, account_id: str, region: str, *, namespace: str | None, name: str | None, since_s: int
    ) -> Sequence[Metric]:
        self._check_open()
        found = {key.metric for key in self._points if key.period_s == MINUTE_S and key.start_s >= since_s}
        return sorted(
            metric
            for metric in found
            if (metric.account_id, metric.region) == (account_id, region)
            and namespace in (None, metric.namespace)
            and name in (None, metric.name)
        )

    async def expire(self, minutes_before_s: int, seconds_before_s: int) -> int:
        self._check_open()
        expired = [
            key
            for key in self._points
            if key.start_s < (minutes_before_s if key.period_s == MINUTE_S else seconds_before_s)
        ]
        for key in expired:
            del self._points[key]
        return len(expired)

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

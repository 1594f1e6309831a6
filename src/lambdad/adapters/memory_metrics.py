"""Metrics in memory, for tests: the contract of the real store without its disk and its threads."""

from __future__ import annotations

from collections.abc import Sequence

from lambdad.ports.metrics import MetricKey, Statistics
from lambdad.ports.store import StoreUnavailable


class MemoryMetricStore:
    """A MetricStore that forgets everything with its process."""

    def __init__(self) -> None:
        self._minutes: dict[MetricKey, Statistics] = {}
        self._closed = False

    async def add(self, statistics: Sequence[tuple[MetricKey, Statistics]]) -> None:
        self._check_open()
        for key, counted in statistics:
            known = self._minutes.get(key)
            self._minutes[key] = known.merged(counted) if known else counted

    async def read(
        self, account_id: str, region: str, *, function: str | None, name: str | None, since_s: int, until_s: int
    ) -> Sequence[tuple[MetricKey, Statistics]]:
        self._check_open()
        return [
            (key, counted)
            for key, counted in sorted(self._minutes.items())
            if (key.account_id, key.region) == (account_id, region)
            and function in (None, key.function)
            and name in (None, key.name)
            and since_s <= key.minute_s < until_s
        ]

    async def expire(self, before_s: int) -> int:
        self._check_open()
        expired = [key for key in self._minutes if key.minute_s < before_s]
        for key in expired:
            del self._minutes[key]
        return len(expired)

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

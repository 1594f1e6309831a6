"""Metrics as CloudWatch keeps them: statistics of each minute, or second, under a name and dimensions.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

MINUTE_S: Final = 60
SECOND_S: Final = 1
VALUES_MAX: Final = 1000
"""So many different values of a minute are kept as they are."""
_DIGITS: Final = 3
"""With more of them, each is kept to so many significant digits: a percentile is off by 0.5 % at most."""


@dataclass(frozen=True, slots=True, order=True)
class Metric:
    """What has data: a name in a namespace, with its dimensions in the order of their names."""

    account_id: str
    region: str
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class MetricKey:
    """A metric in one period, in one unit: CloudWatch never merges data of several units."""

    metric: Metric
    period_s: int
    """MINUTE_S, or SECOND_S for metrics of high resolution, which are kept in both."""
    start_s: int
    """The beginning of the period, seconds since the epoch."""
    unit: str


@dataclass(frozen=True, slots=True)
class Statistics:
    """CloudWatch's statistic set, with the values that it is of."""

    count: float
    total: float
    minimum: float
    maximum: float
    values: Mapping[float, float] | None = field(default=None, repr=False)
    """How often each value occurred; None when a statistic set was put that does not tell."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Statistics:
        """The statistics of these values; there must be one."""
        return cls(len(values), sum(values), min(values), max(values), _bounded(Counter(values)))

    @classmethod
    def of_counts(cls, counts: Mapping[float, float]) -> Statistics:
        """The statistics of values that occurred more than once; there must be one."""
        total = sum(value * count for value, count in counts.items())
        return cls(sum(counts.values()), total, min(counts), max(counts), _bounded(counts))

    def merged(self, other: Statistics) -> Statistics:
        values = None
        if self.values is not None and other.values is not None:
            both = dict(self.values)
            for value, count in other.values.items():
                both[value] = both.get(value, 0) + count
            values = _bounded(both)
        return Statistics(
            self.count + other.count,
            self.total + other.total,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            values,
        )

    def percentile(self, percent: float) -> float | None:
        """The least value that is not below so many percent of all; None when that cannot be told.

        As in CloudWatch it cannot of sets of statistics whose values are not known, nor of negative values.
        """
        if not self.values or self.minimum < 0:
            return None
        left = self.count * percent / 100
        for value in sorted(self.values):
            left -= self.values[value]
            if left <= 0:
                return min(max(value, self.minimum), self.maximum)
        return self.maximum


def _bounded(values: Mapping[float, float]) -> Mapping[float, float]:
    if len(values) <= VALUES_MAX:
        return values
    rounded: dict[float, float] = {}
    for value, count in values.items():
        near = float(f"{value:.{_DIGITS}g}")
        rounded[near] = rounded.get(near, 0) + count
    return rounded


class MetricStore(Protocol):
    """Keeps metrics. Every method raises StoreUnavailable when it cannot do its part."""

    async def add(self, statistics: Sequence[tuple[MetricKey, Statistics]]) -> None:
        """Merge into what is kept of the same periods; it is on disk when this returns."""

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
        """The periods that begin at or after `since_s` and before `until_s`, in the order of their keys' fields.

        Of every name and with any dimensions, where none are given.
        """

    async def metrics(
        self, account_id: str, region: str, *, namespace: str | None, name: str | None, since_s: int
    ) -> Sequence[Metric]:
        """The metrics that have data since then, in the order of their fields."""

    async def expire(self, minutes_before_s: int, seconds_before_s: int) -> int:
        """Forget minutes and seconds that began before; returns how many are gone."""

    async def close(self) -> None: ...

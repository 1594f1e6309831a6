"""What is counted of functions, in the form in which CloudWatch keeps it: statistics of each minute.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, order=True)
class MetricKey:
    """One metric in one minute, under one of AWS's dimensions.

    That is FunctionName when `resource` is empty: the function with all its versions and aliases. Else it is Resource:
    what was invoked by the qualifier in `name:qualifier`.
    """

    account_id: str
    region: str
    function: str
    resource: str
    name: str
    minute_s: int
    """The beginning of the minute, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """CloudWatch's statistic set."""

    count: int
    total: float
    minimum: float
    maximum: float

    def including(self, value: float) -> Statistics:
        """These with one value more."""
        return Statistics(self.count + 1, self.total + value, min(self.minimum, value), max(self.maximum, value))

    def merged(self, other: Statistics) -> Statistics:
        return Statistics(
            self.count + other.count,
            self.total + other.total,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
        )


class MetricStore(Protocol):
    """Keeps metrics. Every method raises StoreUnavailable when it cannot do its part."""

    async def add(self, statistics: Sequence[tuple[MetricKey, Statistics]]) -> None:
        """Merge into what is kept of the same minutes."""

    async def read(
        self, account_id: str, region: str, *, function: str | None, name: str | None, since_s: int, until_s: int
    ) -> Sequence[tuple[MetricKey, Statistics]]:
        """The minutes that begin at or after `since_s` and before `until_s`, in the order of their keys' fields."""

    async def expire(self, before_s: int) -> int:
        """Forget minutes that began before; returns how many rows are gone."""

    async def close(self) -> None: ...

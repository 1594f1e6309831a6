"""What is put into CloudWatch's metrics, and what comes out of them."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_metrics import MemoryMetricStore
from lambdad.domain.arns import FunctionKey
from lambdad.domain.metric_data import LISTED_S, RECENTLY_S
from lambdad.ports.metrics import Metric, Statistics
from lambdad.ports.store import StoreUnavailable
from lambdad.services.metric_data import Datum, MetricData, Point, Span, value_of
from lambdad.services.metrics import Metrics

ACCOUNT, REGION = "000000000000", "us-east-1"
NOON_S = 1_700_049_600
METRIC = Metric(ACCOUNT, REGION, "My/App", "Records", (("a", "1"),))


class World:
    def __init__(self) -> None:
        self.store = MemoryMetricStore()
        self.clock = FakeClock(NOON_S)
        self.metrics = Metrics(self.store, self.clock)
        self.data = MetricData(self.store, self.metrics, self.clock)

    async def put(self, value: float, after_s: float = 0, unit: str = "Count", *, often: bool = False) -> None:
        await self.data.put([Datum(METRIC, unit, NOON_S + after_s, Statistics.of([value]), often)])

    async def sums(
        self, period_s: int = 60, start_s: float = 0, end_s: float = 3600, unit: str | None = None
    ) -> list[tuple[int, str, float]]:
        """Seconds after noon, unit and sum of each period."""
        span = Span(NOON_S + start_s, NOON_S + end_s, period_s)
        found = await self.data.points(METRIC, span, unit)
        return [(point.start_s - NOON_S, point.unit, statistics.total) for point, statistics in found]


def test_minutes_are_merged_into_periods_that_begin_where_is_asked() -> None:
    async def test() -> None:
        world = World()
        for minute in range(6):
            await world.put(1, 60 * minute + 59.9)
        await world.put(10, 60)
        assert await world.sums() == [(60 * n, "Count", 11.0 if n == 1 else 1.0) for n in range(6)]
        assert await world.sums(300) == [(0, "Count", 15.0), (300, "Count", 1.0)]
        assert await world.sums(120, start_s=60) == [(60, "Count", 12.0), (180, "Count", 2.0), (300, "Count", 1.0)]
        assert await world.sums(120, start_s=119) == await world.sums(120, start_s=60)
        assert await world.sums(60, end_s=60) == [(0, "Count", 1.0)]
        assert await world.sums(60, end_s=60.5) == [(0, "Count", 1.0), (60, "Count", 11.0)]

    asyncio.run(test())


def test_units_are_not_merged() -> None:
    async def test() -> None:
        world = World()
        await world.put(1, unit="Bytes")
        await world.put(2)
        await world.put(3, 60, unit="Bytes")
        assert await world.sums(300) == [(0, "Bytes", 4.0), (0, "Count", 2.0)]
        assert await world.sums(300, unit="Count") == [(0, "Count", 2.0)]
        assert await world.sums(300, unit="Seconds") == []

    asyncio.run(test())


def test_high_resolution_is_kept_in_seconds_and_in_minutes() -> None:
    async def test() -> None:
        world = World()
        for second in (0, 1, 11, 61):
            await world.put(1, second + 0.5, often=True)
        await world.put(100)
        assert await world.sums(1) == [(second, "Count", 1.0) for second in (0, 1, 11, 61)]
        assert await world.sums(10, start_s=9) == [(0, "Count", 2.0), (10, "Count", 1.0), (60, "Count", 1.0)]
        assert await world.sums() == [(0, "Count", 103.0), (60, "Count", 1.0)]

    asyncio.run(test())


def test_what_lambdad_counts_is_read_at_once() -> None:
    async def test() -> None:
        world = World()
        world.metrics.invoked(FunctionKey(ACCOUNT, REGION, "f"), None, NOON_S, 1, 5.0, failed=False)
        duration = Metric(ACCOUNT, REGION, "AWS/Lambda", "Duration", (("FunctionName", "f"),))
        assert duration in await world.data.metrics(ACCOUNT, REGION, None, None, recently=True)
        world.metrics.invoked(FunctionKey(ACCOUNT, REGION, "f"), None, NOON_S, 1, 7.0, failed=False)
        [(point, statistics)] = await world.data.points(duration, Span(NOON_S, NOON_S + 60, 60), None)
        assert (point, value_of("Average", statistics)) == (Point(NOON_S, "Milliseconds"), 6.0)

    asyncio.run(test())


def test_metrics_are_listed_while_they_have_data() -> None:
    async def test() -> None:
        world = World()
        await world.put(1)

        async def listed(*, recently: bool) -> list[Metric]:
            return list(await world.data.metrics(ACCOUNT, REGION, "My/App", "Records", recently=recently))

        assert await listed(recently=True) == [METRIC]
        await world.clock.advance(RECENTLY_S + 1)
        assert (await listed(recently=True), await listed(recently=False)) == ([], [METRIC])
        await world.clock.advance(LISTED_S)
        assert await listed(recently=False) == []

    asyncio.run(test())


def test_what_cannot_be_kept_is_said() -> None:
    async def test() -> None:
        world = World()
        await world.store.close()
        with pytest.raises(StoreUnavailable):
            await world.put(1)

    asyncio.run(test())


def test_statistics() -> None:
    some = Statistics.of([1.0, 2.0, 3.0, 10.0])
    names = ("SampleCount", "Sum", "Average", "Minimum", "Maximum", "p0", "p50", "p75", "p75.1", "p100", "p100.0")
    assert [value_of(name, some) for name in names] == [4, 16.0, 4.0, 1.0, 10.0, 1.0, 2.0, 3.0, 10.0, 10.0, 10.0]
    assert value_of("p50", Statistics.of_counts({1.0: 0.4, 7.0: 0.6})) == 7.0
    for unknown in ("p101", "p", "p-1", "tm99", "p1e1", "p99.99999999999"):
        assert value_of(unknown, some) is None
    assert value_of("p50", Statistics(2, 3.0, 1.0, 2.0)) is None  # nobody knows of what values
    assert value_of("p50", Statistics.of([-1.0, 1.0])) is None  # as in CloudWatch
    assert value_of("p50", some.merged(Statistics(2, 3.0, 1.0, 2.0))) is None


@given(
    st.lists(st.floats(0, 1e9), min_size=1, max_size=60),
    st.lists(st.floats(0, 1e9), min_size=1, max_size=60),
    st.integers(0, 100),
)
def test_percentiles_are_those_of_all_values(some: list[float], others: list[float], percent: int) -> None:
    every = sorted(some + others)
    expected = every[max(0, -(-len(every) * percent // 100) - 1)]
    assert Statistics.of(some).merged(Statistics.of(others)).percentile(percent) == pytest.approx(expected, rel=1e-9)

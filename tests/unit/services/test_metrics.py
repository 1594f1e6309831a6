"""Counting, and the way of what was counted to the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_metrics import MemoryMetricStore
from lambdad.domain.arns import FunctionKey
from lambdad.domain.metric_names import MetricName
from lambdad.domain.provisioned_concurrency import ProvisionedUse
from lambdad.ports.metrics import MetricKey, Statistics
from lambdad.ports.store import StoreUnavailable
from lambdad.services import metrics as service
from lambdad.services.metrics import EXPIRE_S, FLUSH_S, KEPT_S, SECONDS_KEPT_S, Metrics

ACCOUNT, REGION = "000000000000", "us-east-1"
AGE, RECEIVED = MetricName.ASYNC_EVENT_AGE, MetricName.ASYNC_EVENTS_RECEIVED
MINUTE_S = 1_700_000_040


class Store(MemoryMetricStore):
    """A store that a test can break, and that counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_broken = False
        self.written: list[int] = []
        self.expired: list[int] = []
        self.gate: asyncio.Event | None = None

    async def add(self, statistics: Sequence[tuple[MetricKey, Statistics]]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.is_broken:
            raise StoreUnavailable("the disk is full")
        self.written.append(len(statistics))
        await super().add(statistics)

    async def expire(self, minutes_before_s: int, seconds_before_s: int) -> int:
        assert seconds_before_s - minutes_before_s == KEPT_S - SECONDS_KEPT_S
        self.expired.append(minutes_before_s)
        return await super().expire(minutes_before_s, seconds_before_s)


def bare(counted: Statistics) -> Statistics:
    """Without the values, to be compared with what is written down by hand."""
    return replace(counted, values=None)


class World:
    def __init__(self) -> None:
        self.store = Store()
        self.clock = FakeClock(MINUTE_S)
        self.metrics = Metrics(self.store, self.clock)

    def count(self, name: MetricName = RECEIVED, value: float = 1.0, qualifier: str | None = None) -> None:
        self.metrics.count(ACCOUNT, REGION, "f", qualifier, name, value)

    async def read(self, **chosen: str | None) -> list[tuple[tuple[str, str, int], Statistics]]:
        wanted = {"function": None, "name": None, **chosen}
        found = await self.metrics.read(ACCOUNT, REGION, **wanted, since_s=0, until_s=2**40)
        return [
            ((dict(key.metric.dimensions).get("Resource", ""), key.metric.name, key.start_s), bare(counted))
            for key, counted in found
        ]


def test_values_of_a_minute_are_one_set_of_statistics() -> None:
    async def test() -> None:
        world = World()
        for value in (30.0, 5.0, 10.0):
            world.count(AGE, value)
        await world.clock.advance(60)
        world.count(AGE, 7.0)
        await world.metrics.flush()
        assert world.store.written == [2]
        assert await world.read() == [
            (("", AGE, MINUTE_S), Statistics(3, 45.0, 5.0, 30.0)),
            (("", AGE, MINUTE_S + 60), Statistics(1, 7.0, 7.0, 7.0)),
        ]

    asyncio.run(test())


def test_a_qualifier_counts_for_itself_and_for_the_function() -> None:
    async def test() -> None:
        world = World()
        world.count()
        world.count(qualifier="live")
        world.count(qualifier="live")
        world.count(qualifier="1")
        expected = [
            (("", RECEIVED, MINUTE_S), Statistics(4, 4.0, 1.0, 1.0)),
            (("f:1", RECEIVED, MINUTE_S), Statistics(1, 1.0, 1.0, 1.0)),
            (("f:live", RECEIVED, MINUTE_S), Statistics(2, 2.0, 1.0, 1.0)),
        ]
        assert await world.read() == expected
        await world.metrics.flush()
        assert await world.read() == expected

    asyncio.run(test())


def test_what_is_not_written_yet_is_read_too() -> None:
    async def test() -> None:
        world = World()
        world.count()
        await world.metrics.flush()
        world.count()
        world.count(AGE, 9.0)
        assert await world.read() == [
            (("", AGE, MINUTE_S), Statistics(1, 9.0, 9.0, 9.0)),
            (("", RECEIVED, MINUTE_S), Statistics(2, 2.0, 1.0, 1.0)),
        ]
        assert await world.read(name=AGE) == [(("", AGE, MINUTE_S), Statistics(1, 9.0, 9.0, 9.0))]
        assert await world.read(function="g") == []
        assert (
            list(await world.metrics.read(ACCOUNT, "eu-west-1", function=None, name=None, since_s=0, until_s=2**40))
            == []
        )
        for since_s, until_s in ((MINUTE_S + 1, 2**40), (0, MINUTE_S)):
            found = await world.metrics.read(ACCOUNT, REGION, function=None, name=AGE, since_s=since_s, until_s=until_s)
            assert list(found) == []

    asyncio.run(test())


def test_what_is_being_written_is_read_once() -> None:
    async def test() -> None:
        world = World()
        world.store.gate = asyncio.Event()
        world.count()
        flushing = asyncio.create_task(world.metrics.flush())
        await asyncio.sleep(0)
        world.count()
        reading = asyncio.create_task(world.read())
        await asyncio.sleep(0)
        world.store.gate.set()
        assert await reading == [(("", RECEIVED, MINUTE_S), Statistics(2, 2.0, 1.0, 1.0))]
        await flushing

    asyncio.run(test())


def test_it_is_written_every_second_while_there_is_something() -> None:
    async def test() -> None:
        world = World()
        running = asyncio.create_task(world.metrics.run())
        world.count()
        await world.clock.advance(FLUSH_S)
        assert world.store.written == [1]
        await world.clock.advance(5 * FLUSH_S)
        assert world.store.written == [1]
        world.count()
        running.cancel()
        await world.metrics.close()
        assert world.store.written == [1, 1]
        assert await world.read() == [(("", RECEIVED, MINUTE_S), Statistics(2, 2.0, 1.0, 1.0))]

    asyncio.run(test())


def test_what_could_not_be_written_is_written_later(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        world = World()
        running = asyncio.create_task(world.metrics.run())
        world.store.is_broken = True
        for value in (1.0, 2.0, 3.0):
            world.count(AGE, value)
            await world.clock.advance(FLUSH_S)
        assert await world.read() == [(("", AGE, MINUTE_S), Statistics(3, 6.0, 1.0, 3.0))]
        with pytest.raises(StoreUnavailable):
            await world.metrics.close()
        world.store.is_broken = False
        await world.clock.advance(FLUSH_S)
        assert world.store.written == [1]
        assert await world.read() == [(("", AGE, MINUTE_S), Statistics(3, 6.0, 1.0, 3.0))]
        running.cancel()

    asyncio.run(test())
    assert [record.message for record in caplog.records] == ["Metrics cannot be written, and wait: the disk is full"]


def test_little_waits_however_long_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "WAITING_MAX", 3)

    async def test() -> None:
        world = World()
        world.store.is_broken = True
        for _ in range(5):
            world.count()
            with pytest.raises(StoreUnavailable):
                await world.metrics.flush()
            await world.clock.advance(60)
        assert [minute_s for (_, _, minute_s), _ in await world.read()] == [MINUTE_S + 60 * n for n in (2, 3, 4)]

    asyncio.run(test())


def test_old_minutes_are_forgotten_now_and_then() -> None:
    async def test() -> None:
        world = World()
        running = asyncio.create_task(world.metrics.run())
        await world.clock.advance(FLUSH_S)
        assert world.store.expired == [MINUTE_S + FLUSH_S - KEPT_S]
        await world.clock.advance(EXPIRE_S - 2 * FLUSH_S)
        assert len(world.store.expired) == 1
        await world.clock.advance(2 * FLUSH_S)
        assert len(world.store.expired) == 2
        running.cancel()

    asyncio.run(test())


@pytest.mark.parametrize("name", list(MetricName))
def test_units_are_those_of_cloudwatch(name: MetricName) -> None:
    assert name.unit == (
        "Milliseconds" if name in ("AsyncEventAge", "Duration", "PostRuntimeExtensionsDuration") else "Count"
    )


def test_an_invocation_counts_for_its_function_its_qualifier_and_the_account() -> None:
    async def test() -> None:
        world = World()
        key = FunctionKey(ACCOUNT, REGION, "f")
        world.metrics.invoked(key, None, MINUTE_S + 59.9, 1, 10.0, failed=False)
        world.metrics.invoked(key, "live", MINUTE_S, 2, 30.0, failed=True)
        world.metrics.invoked(key, "live", MINUTE_S, 1, None, failed=True)
        world.metrics.invoked(FunctionKey(ACCOUNT, REGION, "g"), None, MINUTE_S + 60, 1, 5.0, failed=False)
        await world.metrics.flush()
        found = await world.store.read(ACCOUNT, REGION, "AWS/Lambda", since_s=MINUTE_S, until_s=MINUTE_S + 60)
        counted = {
            (each.metric.name, "/".join(value for _, value in each.metric.dimensions)): statistics
            for each, statistics in found
        }
        assert {place: (each.count, each.total) for place, each in counted.items()} == {
            ("Invocations", ""): (3, 3),
            ("Invocations", "f"): (3, 3),
            ("Invocations", "f/f:live"): (2, 2),
            ("Errors", ""): (3, 2),
            ("Errors", "f"): (3, 2),
            ("Errors", "f/f:live"): (2, 2),
            ("Throttles", ""): (3, 0),
            ("Throttles", "f"): (3, 0),
            ("Throttles", "f/f:live"): (2, 0),
            ("Duration", ""): (2, 40.0),
            ("Duration", "f"): (2, 40.0),
            ("Duration", "f/f:live"): (1, 30.0),
            ("ConcurrentExecutions", "f"): (3, 4),
            ("ConcurrentExecutions", "f/f:live"): (2, 3),
        }
        assert counted["ConcurrentExecutions", "f"].maximum == 2
        assert counted["Duration", ""].percentile(50) == 10.0
        assert await world.read(function="g", name="Invocations") == [
            (("", "Invocations", MINUTE_S + 60), Statistics(1, 1.0, 1.0, 1.0))
        ]

    asyncio.run(test())


def test_what_is_written_while_the_task_is_cancelled_is_written_once() -> None:
    class CancelledAfterwards(Store):
        async def add(self, statistics: Sequence[tuple[MetricKey, Statistics]]) -> None:
            await super().add(statistics)
            raise asyncio.CancelledError

    async def test() -> None:
        world = World()
        world.store = CancelledAfterwards()
        world.metrics = Metrics(world.store, world.clock)
        world.count()
        with pytest.raises(asyncio.CancelledError):
            await world.metrics.flush()
        await world.metrics.close()
        assert world.store.written == [1]
        assert await world.read() == [(("", RECEIVED, MINUTE_S), Statistics(1, 1.0, 1.0, 1.0))]

    asyncio.run(test())


def test_of_what_waits_for_long_the_values_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "WITH_VALUES_MAX", 2)

    async def test() -> None:
        world = World()
        world.store.is_broken = True
        for _ in range(3):
            world.count(AGE, 4.0)
            with pytest.raises(StoreUnavailable):
                await world.metrics.flush()
            await world.clock.advance(60)
        found = await world.metrics.read(ACCOUNT, REGION, function="f", name=AGE, since_s=0, until_s=2**40)
        assert [(each.total, each.percentile(50)) for _, each in found] == [(4.0, None), (4.0, 4.0), (4.0, 4.0)]

    asyncio.run(test())


def test_provisioned_environments_are_counted_apart_from_what_spills_over() -> None:
    async def test() -> None:
        world = World()
        key = FunctionKey(ACCOUNT, REGION, "f")
        for running in (1, 2):
            world.metrics.provisioned(key, "live", ProvisionedUse(False, running, 4))
        world.metrics.provisioned(key, "live", ProvisionedUse(True, 4, 4))
        found = {name: counted for (qualifier, name, _), counted in await world.read() if qualifier}
        assert found == {
            "ProvisionedConcurrencyInvocations": Statistics(2, 2.0, 1.0, 1.0),
            "ProvisionedConcurrencySpilloverInvocations": Statistics(1, 1.0, 1.0, 1.0),
            "ProvisionedConcurrentExecutions": Statistics(2, 3.0, 1.0, 2.0),
            "ProvisionedConcurrencyUtilization": Statistics(2, 0.75, 0.25, 0.5),
        }

    asyncio.run(test())

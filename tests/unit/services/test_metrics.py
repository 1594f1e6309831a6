"""Counting, and the way of what was counted to the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_metrics import MemoryMetricStore
from lambdad.domain.metric_names import MetricName
from lambdad.ports.metrics import MetricKey, Statistics
from lambdad.ports.store import StoreUnavailable
from lambdad.services import metrics as service
from lambdad.services.metrics import EXPIRE_S, FLUSH_S, KEPT_S, Metrics

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

    async def expire(self, before_s: int) -> int:
        self.expired.append(before_s)
        return await super().expire(before_s)


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
        return [((key.resource, key.name, key.minute_s), counted) for key, counted in found]


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
    assert name.unit == ("Milliseconds" if name == "AsyncEventAge" else "Count")

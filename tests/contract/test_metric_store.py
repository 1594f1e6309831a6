"""What every store of metrics does: the SQLite file and the in-memory twin alike."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdad.adapters.memory_metrics import MemoryMetricStore
from lambdad.adapters.sqlite_metrics import SqliteMetricStore
from lambdad.domain.metric_names import MetricName
from lambdad.ports.metrics import MetricKey, MetricStore, Statistics
from lambdad.ports.store import StoreUnavailable

ACCOUNT, REGION = "000000000000", "us-east-1"
MINUTE_S = 1_700_000_040
AGE, RECEIVED = MetricName.ASYNC_EVENT_AGE, MetricName.ASYNC_EVENTS_RECEIVED


def key(function: str = "f", resource: str = "", name: str = RECEIVED, minute: int = 0) -> MetricKey:
    return MetricKey(ACCOUNT, REGION, function, resource, name, MINUTE_S + 60 * minute)


def one(value: float = 1.0) -> Statistics:
    return Statistics(1, value, value, value)


@pytest.fixture(params=["sqlite", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Callable[[MetricStore], Awaitable[None]]], None]:
    """Runs a test with a new store."""
    numbers = itertools.count()

    @asynccontextmanager
    async def opened() -> AsyncIterator[MetricStore]:
        store: MetricStore
        store = (
            SqliteMetricStore(tmp_path / f"{next(numbers)}.db") if request.param == "sqlite" else MemoryMetricStore()
        )
        try:
            yield store
        finally:
            await store.close()

    def run(test: Callable[[MetricStore], Awaitable[None]]) -> None:
        async def with_store() -> None:
            async with opened() as store:
                await test(store)

        asyncio.run(with_store())

    return run


Run = Callable[[Callable[[MetricStore], Awaitable[None]]], None]


async def everything(store: MetricStore) -> list[tuple[MetricKey, Statistics]]:
    return list(await store.read(ACCOUNT, REGION, function=None, name=None, since_s=0, until_s=2**40))


def test_minutes_are_merged(run: Run) -> None:
    async def test(store: MetricStore) -> None:
        await store.add([(key(name=AGE), Statistics(2, 30.0, 10.0, 20.0)), (key(name=AGE, minute=1), one(7.0))])
        await store.add([(key(name=AGE), Statistics(1, 5.5, 5.5, 5.5)), (key(name=AGE), one(90.0))])
        assert await everything(store) == [
            (key(name=AGE), Statistics(4, 125.5, 5.5, 90.0)),
            (key(name=AGE, minute=1), one(7.0)),
        ]

    run(test)


def test_a_metric_is_one_dimension_of_one_function_in_one_place(run: Run) -> None:
    others = [
        key("g"),
        key(resource="f:live"),
        key(name=AGE),
        MetricKey("111111111111", REGION, "f", "", RECEIVED, MINUTE_S),
        MetricKey(ACCOUNT, "eu-west-1", "f", "", RECEIVED, MINUTE_S),
    ]

    async def test(store: MetricStore) -> None:
        await store.add([(each, one()) for each in [*others, key()]])
        assert await everything(store) == [(each, one()) for each in sorted([*others[:3], key()])]
        other = await store.read("111111111111", REGION, function=None, name=None, since_s=0, until_s=2**40)
        assert list(other) == [(others[3], one())]

    run(test)


def test_what_is_read_is_chosen_by_function_name_and_time(run: Run) -> None:
    every = [
        key(function, name=name, minute=minute)
        for function in ("f", "f2", "g")
        for name in (AGE, RECEIVED)
        for minute in range(3)
    ]

    async def test(store: MetricStore) -> None:
        await store.add([(each, one()) for each in reversed(every)])

        async def read(function: str | None, name: str | None, since_s: int, until_s: int) -> list[MetricKey]:
            found = await store.read(ACCOUNT, REGION, function=function, name=name, since_s=since_s, until_s=until_s)
            return [each for each, _ in found]

        assert await read(None, None, 0, 2**40) == every
        assert await read("f", None, 0, 2**40) == every[:6]
        assert await read("f2", AGE, 0, 2**40) == every[6:9]
        assert await read("g", RECEIVED, MINUTE_S, MINUTE_S + 60) == every[15:16]
        assert await read("g", RECEIVED, MINUTE_S + 1, MINUTE_S + 121) == every[16:18]
        assert await read("", None, 0, 2**40) == []

    run(test)


def test_what_began_before_expires(run: Run) -> None:
    async def test(store: MetricStore) -> None:
        await store.add([(key(function, minute=minute), one()) for function in ("f", "g") for minute in range(3)])
        await store.add([(key("old"), one())])
        assert await store.expire(MINUTE_S) == 0
        assert await store.expire(MINUTE_S + 60) == 3
        assert [each for each, _ in await everything(store)] == [
            key(function, minute=minute) for function in ("f", "g") for minute in (1, 2)
        ]
        await store.add([(key("old", minute=2), one(3.0))])
        assert (key("old", minute=2), one(3.0)) in await everything(store)

    run(test)


def test_a_closed_store_says_so(run: Run) -> None:
    async def test(store: MetricStore) -> None:
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.add([(key(), one())])
        with pytest.raises(StoreUnavailable):
            await everything(store)
        with pytest.raises(StoreUnavailable):
            await store.expire(0)

    run(test)


@settings(deadline=None, max_examples=30)
@given(
    batches=st.lists(
        st.lists(st.tuples(st.sampled_from(["f", "g"]), st.integers(0, 2), st.integers(0, 1000)), max_size=6),
        max_size=6,
    )
)
def test_both_stores_count_alike(tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple]]) -> None:
    async def test() -> None:
        stores = (MemoryMetricStore(), SqliteMetricStore(tmp_path_factory.mktemp("metrics") / "metrics.db"))
        for batch in batches:
            counted = [(key(function, minute=minute), one(float(value))) for function, minute, value in batch]
            for store in stores:
                await store.add(counted)
        assert await everything(stores[0]) == await everything(stores[1])
        for store in stores:
            await store.close()

    asyncio.run(test())


def test_metrics_are_there_after_a_restart(tmp_path: Path) -> None:
    async def test() -> None:
        store = SqliteMetricStore(tmp_path / "metrics.db")
        await store.add([(key(), one())])
        await store.close()
        store = SqliteMetricStore(tmp_path / "metrics.db")
        assert await everything(store) == [(key(), one())]
        await store.close()

    asyncio.run(test())


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreUnavailable, match="cannot open the database"):
        SqliteMetricStore(path)

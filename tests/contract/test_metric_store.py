"""What every store of metrics does: the SQLite file and the in-memory twin alike."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdad.adapters.memory_metrics import MemoryMetricStore
from lambdad.adapters.sqlite_metrics import MIGRATIONS, SqliteMetricStore
from lambdad.adapters.sqlite_schema import migrate
from lambdad.ports import metrics as port
from lambdad.ports.metrics import MINUTE_S, SECOND_S, Metric, MetricKey, MetricStore, Statistics
from lambdad.ports.store import StoreUnavailable

ACCOUNT, REGION = "000000000000", "us-east-1"
NOW_S = 1_700_000_040
NAMESPACE = "My/App"
AGE, RECEIVED = "Age", "Received"


def metric(function: str = "f", name: str = RECEIVED, **others: str) -> Metric:
    place = {"account_id": ACCOUNT, "region": REGION, "namespace": NAMESPACE, **others}
    return Metric(**place, name=name, dimensions=(("Function", function),))


def key(function: str = "f", name: str = RECEIVED, minute: int = 0, unit: str = "Count") -> MetricKey:
    return MetricKey(metric(function, name), MINUTE_S, NOW_S + 60 * minute, unit)


def one(value: float = 1.0) -> Statistics:
    return Statistics.of([value])


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


async def everything(store: MetricStore, period_s: int = MINUTE_S) -> list[tuple[MetricKey, Statistics]]:
    return list(await store.read(ACCOUNT, REGION, NAMESPACE, period_s=period_s, since_s=0, until_s=2**40))


def test_minutes_are_merged(run: Run) -> None:
    async def test(store: MetricStore) -> None:
        await store.add([(key(name=AGE), Statistics.of([10.0, 20.0])), (key(name=AGE, minute=1), one(7.0))])
        await store.add([(key(name=AGE), one(5.5)), (key(name=AGE), one(20.0))])
        assert await everything(store) == [
            (key(name=AGE), Statistics(4, 55.5, 5.5, 20.0, {10.0: 1, 20.0: 2, 5.5: 1})),
            (key(name=AGE, minute=1), Statistics(1, 7.0, 7.0, 7.0, {7.0: 1})),
        ]

    run(test)


def test_values_that_are_not_known_make_all_of_them_unknown(run: Run) -> None:
    async def test(store: MetricStore) -> None:
        await store.add([(key(), one(2.0))])
        await store.add([(key(), Statistics(2.5, 10.0, 1.0, 9.0))])
        await store.add([(key(), one(3.0))])
        assert await everything(store) == [(key(), Statistics(4.5, 15.0, 1.0, 9.0, None))]

    run(test)


def test_with_many_values_three_digits_are_kept_of_each(run: Run) -> None:
    async def test(store: MetricStore) -> None:
        await store.add([(key(), Statistics.of([1000.0 + value for value in range(port.VALUES_MAX)]))])
        [(_, exact)] = await everything(store)
        assert exact.percentile(50) == 1499.0
        await store.add([(key(), one(5000.0))])
        [(_, rounded)] = await everything(store)
        assert rounded.values is not None
        assert len(rounded.values) == 102
        assert (rounded.count, rounded.minimum, rounded.maximum) == (port.VALUES_MAX + 1, 1000.0, 5000.0)
        assert rounded.percentile(50) == pytest.approx(1500.0, rel=0.005)

    run(test)


def test_metrics_are_told_apart_by_every_field(run: Run) -> None:
    here = [key("g"), key(name=AGE), key(unit="Bytes"), key()]
    elsewhere = [
        MetricKey(metric(**place), MINUTE_S, NOW_S, "Count")
        for place in ({"account_id": "111111111111"}, {"region": "eu-west-1"}, {"namespace": "Other"})
    ]

    async def test(store: MetricStore) -> None:
        await store.add([(each, one()) for each in [*elsewhere, *here]])
        assert await everything(store) == [(each, one()) for each in sorted(here)]
        for each in elsewhere:
            place = each.metric.account_id, each.metric.region, each.metric.namespace
            assert list(await store.read(*place, since_s=0, until_s=2**40)) == [(each, one())]

    run(test)


def test_what_is_read_is_chosen_by_name_dimensions_and_time(run: Run) -> None:
    every = [
        key(function, name, minute) for name in (AGE, RECEIVED) for function in ("f", "f2", "g") for minute in range(3)
    ]

    async def test(store: MetricStore) -> None:
        await store.add([(each, one()) for each in reversed(every)])

        async def read(name: str | None, function: str | None, since_s: int, until_s: int) -> list[MetricKey]:
            dimensions = None if function is None else [("Function", function)]
            found = await store.read(
                ACCOUNT, REGION, NAMESPACE, name=name, dimensions=dimensions, since_s=since_s, until_s=until_s
            )
            return [each for each, _ in found]

        assert await read(None, None, 0, 2**40) == every
        assert await read(AGE, None, 0, 2**40) == every[:9]
        assert await read(AGE, "f2", 0, 2**40) == every[3:6]
        assert await read(RECEIVED, "g", NOW_S, NOW_S + 60) == every[15:16]
        assert await read(RECEIVED, "g", NOW_S + 1, NOW_S + 121) == every[16:18]
        assert await read("", None, 0, 2**40) == []
        nowhere = await store.read(ACCOUNT, REGION, NAMESPACE, dimensions=(), since_s=0, until_s=2**40)
        assert list(nowhere) == []

    run(test)


def test_seconds_are_beside_minutes(run: Run) -> None:
    second = MetricKey(metric(), SECOND_S, NOW_S, "Count")

    async def test(store: MetricStore) -> None:
        await store.add([(key(), one(1.0)), (second, one(2.0))])
        assert await everything(store) == [(key(), one(1.0))]
        assert await everything(store, SECOND_S) == [(second, one(2.0))]

    run(test)


def test_metrics_with_data_are_listed(run: Run) -> None:
    odd = Metric(ACCOUNT, REGION, "ä", 'b"[', (("n,", "v\u2028"), ("o", "'")))

    async def test(store: MetricStore) -> None:
        await store.add([(key("g", minute=1), one()), (key("f"), one()), (key("f", AGE), one())])
        await store.add([(MetricKey(odd, MINUTE_S, NOW_S, "None"), one()), (key("g"), one())])
        other = MetricKey(metric(region="eu-west-1"), MINUTE_S, NOW_S, "Count")
        await store.add([(other, one())])

        async def listed(namespace: str | None, name: str | None, since_s: int = 0) -> list[Metric]:
            found = await store.metrics(ACCOUNT, REGION, namespace=namespace, name=name, since_s=since_s)
            return list(found)

        assert await listed(None, None) == [metric("f", AGE), metric("f"), metric("g"), odd]
        assert await listed(NAMESPACE, RECEIVED) == [metric("f"), metric("g")]
        assert await listed(None, None, NOW_S + 1) == [metric("g")]
        assert await listed("None", None) == []

    run(test)


def test_what_began_before_expires(run: Run) -> None:
    async def test(store: MetricStore) -> None:
        second = MetricKey(metric(), SECOND_S, NOW_S + 60, "Count")
        await store.add([(key(function, minute=minute), one()) for function in ("f", "g") for minute in range(3)])
        await store.add([(key("old"), one()), (second, one())])
        assert await store.expire(NOW_S, NOW_S) == 0
        assert await store.expire(NOW_S + 60, NOW_S) == 3
        assert await everything(store, SECOND_S) == [(second, one())]
        assert await store.expire(NOW_S, NOW_S + 61) == 1
        assert await everything(store, SECOND_S) == []
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
            await store.expire(0, 0)
        with pytest.raises(StoreUnavailable):
            await store.metrics(ACCOUNT, REGION, namespace=None, name=None, since_s=0)

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


def test_what_an_older_lambdad_counted_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, MIGRATIONS[:1], "metrics")
        connection.execute("INSERT INTO series VALUES (7, ?, ?, 'f', '', 'AsyncEventAge')", (ACCOUNT, REGION))
        connection.execute(
            "INSERT INTO series VALUES (8, ?, ?, 'f', 'f:live', 'AsyncEventsReceived')", (ACCOUNT, REGION)
        )
        connection.execute("INSERT INTO minutes VALUES (7, ?, 2, 30.0, 10.0, 20.0), (8, ?, 1, 1, 1, 1)", (NOW_S, NOW_S))

    async def test() -> None:
        store = SqliteMetricStore(path)
        found = await store.read(ACCOUNT, REGION, "AWS/Lambda", since_s=0, until_s=2**40)
        function = ("FunctionName", "f")
        assert [(each.metric.name, each.metric.dimensions, each.unit, counted) for each, counted in found] == [
            ("AsyncEventAge", (function,), "Milliseconds", Statistics(2, 30.0, 10.0, 20.0)),
            ("AsyncEventsReceived", (function, ("Resource", "f:live")), "Count", Statistics(1, 1.0, 1.0, 1.0)),
        ]
        await store.close()

    asyncio.run(test())

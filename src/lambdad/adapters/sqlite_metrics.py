"""Metrics in a SQLite file of their own, so that counting never waits for functions or events to be written."""

from __future__ import annotations

import json
import sqlite3
import sys
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lambdad.adapters.sqlite_units import SqliteStatements, SqliteUnits, migrations_of
from lambdad.ports.metrics import MINUTE_S, Metric, MetricKey, Statistics

MIGRATIONS: Final = migrations_of("metrics")
_IDS_MAX: Final = 20_000
"""So many metrics are remembered by their number."""
_POINT: Final = "count, total, minimum, maximum, value_counts"


class _MetricTables(SqliteStatements):
    """The periods as SQL."""

    def __init__(self, connection: sqlite3.Connection, *, writable: bool) -> None:
        super().__init__(connection, writable=writable)
        self._ids: dict[Metric, int] = {}

    def undone(self) -> None:
        self._ids.clear()

    def add(self, statistics: Sequence[tuple[MetricKey, Statistics]]) -> None:
        for key, counted in statistics:
            number = self._ids.get(key.metric)
            if number is None:
                number = self._id(key.metric)
            place = number, key.period_s, key.start_s, key.unit
            known = self._rows(
                f"SELECT {_POINT} FROM points WHERE metric = ? AND period_s = ? AND start_s = ? AND unit = ?", place
            )
            merged = _statistics(*known[0]).merged(counted) if known else counted
            self._change(
                f"INSERT OR REPLACE INTO points (metric, period_s, start_s, unit, {_POINT})"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*place, merged.count, merged.total, merged.minimum, merged.maximum, _packed(merged.values)),
            )

    def _id(self, metric: Metric) -> int:
        fields = metric.account_id, metric.region, metric.namespace, metric.name, _text(metric.dimensions)
        self._change(
            "INSERT INTO metrics (account_id, region, namespace, name, dimensions) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            fields,
        )
        if len(self._ids) >= _IDS_MAX:
            self._ids.clear()
        number = self._ids[metric] = self._number(
            "SELECT id FROM metrics"
            " WHERE account_id = ? AND region = ? AND namespace = ? AND name = ? AND dimensions = ?",
            fields,
        )
        return number

    def read(
        self,
        metric: tuple[str, str, str, str | None, Sequence[tuple[str, str]] | None],
        period_s: int,
        since_s: int,
        until_s: int,
    ) -> list[tuple[MetricKey, Statistics]]:
        account_id, region, namespace, name, dimensions = metric
        rows = self._rows(
            f"SELECT name, dimensions, start_s, unit, {_POINT} FROM metrics JOIN points ON metric = id"
            " WHERE account_id = ? AND region = ? AND namespace = ?"
            " AND name = coalesce(?, name) AND dimensions = coalesce(?, dimensions)"
            " AND period_s = ? AND start_s >= ? AND start_s < ?",
            (
                *(account_id, region, namespace, name),
                None if dimensions is None else _text(dimensions),
                *(period_s, since_s, until_s),
            ),
        )
        found = [
            (
                MetricKey(Metric(account_id, region, namespace, row[0], _dimensions(row[1])), period_s, row[2], row[3]),
                _statistics(*row[4:]),
            )
            for row in rows
        ]
        return sorted(found, key=lambda item: item[0])

    def metrics(
        self, account_id: str, region: str, namespace: str | None, name: str | None, since_s: int
    ) -> list[Metric]:
        rows = self._rows(
            "SELECT namespace, name, dimensions FROM metrics WHERE account_id = ? AND region = ?"
            " AND namespace = coalesce(?, namespace) AND name = coalesce(?, name)"
            " AND EXISTS (SELECT 1 FROM points WHERE metric = id AND period_s = ? AND start_s >= ?)",
            (account_id, region, namespace, name, MINUTE_S, since_s),
        )
        return sorted(Metric(account_id, region, row[0], row[1], _dimensions(row[2])) for row in rows)

    def expire(self, minutes_before_s: int, seconds_before_s: int) -> int:
        expired = 0
        for condition, before_s in (("period_s = 60", minutes_before_s), ("period_s = 1", seconds_before_s)):
            count = self._number(f"SELECT count(*) FROM points WHERE {condition} AND start_s < ?", (before_s,))
            if count:
                self._change(f"DELETE FROM points WHERE {condition} AND start_s < ?", (before_s,))
            expired += count
        if expired:
            self._ids.clear()
            self._change("DELETE FROM metrics WHERE NOT EXISTS (SELECT 1 FROM points WHERE metric = id)", ())
        return expired


def _text(dimensions: Sequence[tuple[str, str]]) -> str:
    return json.dumps(dimensions, ensure_ascii=False, separators=(",", ":"))


def _dimensions(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in json.loads(text))


def _packed(values: Mapping[float, float] | None) -> bytes | None:
    if values is None:
        return None
    doubles = array("d", (number for item in values.items() for number in item))
    if sys.byteorder == "big":
        doubles.byteswap()
    return doubles.tobytes()


def _statistics(count: float, total: float, minimum: float, maximum: float, packed: bytes | None) -> Statistics:
    if packed is None:
        return Statistics(count, total, minimum, maximum)
    doubles = array("d", packed)
    if sys.byteorder == "big":
        doubles.byteswap()
    return Statistics(count, total, minimum, maximum, dict(zip(doubles[::2], doubles[1::2], strict=True)))


class SqliteMetricStore:
    """A MetricStore in the SQLite file `path`.

    Raises StoreUnavailable when the file cannot be opened as a database, NewerSchema when a newer lambdad wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._units = SqliteUnits(path, "metrics", MIGRATIONS, _MetricTables, readers=1)

    async def add(self, statistics: Sequence[tuple[MetricKey, Statistics]]) -> None:
        await self._units.write(lambda tables: tables.add(statistics))

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
        metric = account_id, region, namespace, name, dimensions
        return await self._units.read(lambda tables: tables.read(metric, period_s, since_s, until_s))

    async def metrics(
        self, account_id: str, region: str, *, namespace: str | None, name: str | None, since_s: int
    ) -> Sequence[Metric]:
        return await self._units.read(lambda tables: tables.metrics(account_id, region, namespace, name, since_s))

    async def expire(self, minutes_before_s: int, seconds_before_s: int) -> int:
        return await self._units.write(lambda tables: tables.expire(minutes_before_s, seconds_before_s))

    async def close(self) -> None:
        await self._units.close()

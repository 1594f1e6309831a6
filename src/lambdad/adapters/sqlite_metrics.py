"""Metrics in a SQLite file of their own, so that counting never waits for functions or events to be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lambdad.adapters.sqlite_units import SqliteStatements, SqliteUnits, migrations_of
from lambdad.ports.metrics import MetricKey, Statistics

MIGRATIONS: Final = migrations_of("metrics")


class _MetricTables(SqliteStatements):
    """The minutes as SQL."""

    def add(self, statistics: Sequence[tuple[MetricKey, Statistics]]) -> None:
        for key, counted in statistics:
            series = key.account_id, key.region, key.function, key.resource, key.name
            self._change(
                "INSERT INTO series (account_id, region, function, resource, name) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                series,
            )
            self._change(
                "INSERT INTO minutes SELECT id, ?, ?, ?, ?, ? FROM series"
                " WHERE account_id = ? AND region = ? AND function = ? AND resource = ? AND name = ?"
                " ON CONFLICT (series, minute_s) DO UPDATE"
                " SET count = count + excluded.count, total = total + excluded.total,"
                " minimum = min(minimum, excluded.minimum), maximum = max(maximum, excluded.maximum)",
                (key.minute_s, counted.count, counted.total, counted.minimum, counted.maximum, *series),
            )

    def read(
        self, account_id: str, region: str, function: str | None, name: str | None, since_s: int, until_s: int
    ) -> list[tuple[MetricKey, Statistics]]:
        rows = self._rows(
            "SELECT account_id, region, function, resource, name, minute_s, count, total, minimum, maximum"
            " FROM series JOIN minutes ON series = id WHERE account_id = ? AND region = ?"
            " AND function = coalesce(?, function) AND name = coalesce(?, name) AND minute_s >= ? AND minute_s < ?"
            " ORDER BY function, resource, name, minute_s",
            (account_id, region, function, name, since_s, until_s),
        )
        return [(MetricKey(*row[:6]), Statistics(*row[6:])) for row in rows]

    def expire(self, before_s: int) -> int:
        expired = self._number("SELECT count(*) FROM minutes WHERE minute_s < ?", (before_s,))
        if expired:
            self._change("DELETE FROM minutes WHERE minute_s < ?", (before_s,))
            self._change("DELETE FROM series WHERE NOT EXISTS (SELECT 1 FROM minutes WHERE series = id)", ())
        return expired


class SqliteMetricStore:
    """A MetricStore in the SQLite file `path`.

    Raises StoreUnavailable when the file cannot be opened as a database, NewerSchema when a newer lambdad wrote it.
    """

    def __init__(self, path: Path) -> None:
        self._units = SqliteUnits(path, "metrics", MIGRATIONS, _MetricTables, readers=1)

    async def add(self, statistics: Sequence[tuple[MetricKey, Statistics]]) -> None:
        await self._units.write(lambda tables: tables.add(statistics))

    async def read(
        self, account_id: str, region: str, *, function: str | None, name: str | None, since_s: int, until_s: int
    ) -> Sequence[tuple[MetricKey, Statistics]]:
        return await self._units.read(lambda tables: tables.read(account_id, region, function, name, since_s, until_s))

    async def expire(self, before_s: int) -> int:
        return await self._units.write(lambda tables: tables.expire(before_s))

    async def close(self) -> None:
        await self._units.close()

"""The store in one SQLite file: functions, versions, aliases and their configurations as SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from lambdad.adapters.records import decode, encode, version_number
from lambdad.adapters.sqlite_units import SqliteStatements, SqliteUnits, migrations_of
from lambdad.domain.arns import LATEST, FunctionKey
from lambdad.domain.functions import Alias, Function, FunctionVersion
from lambdad.domain.layers import LAYER_VERSIONS, archives_of
from lambdad.domain.record_kinds import RecordKind, joined, key_range, subtree

T = TypeVar("T")

MIGRATIONS = migrations_of("store")

# As the index has it that finds layer versions by their archives.
_IS_LAYER = f"kind = '{LAYER_VERSIONS.name}'"
_LAYER_CODE = "json_extract(record, '$.code_sha256')"


class SqliteTables(SqliteStatements):
    """The records as SQL."""

    def __init__(self, connection: sqlite3.Connection, *, writable: bool) -> None:
        super().__init__(connection, writable=writable)
        if writable:  # what is replaced is not left behind in the file: it may have been somebody's secret
            connection.execute("PRAGMA secure_delete = ON")

    def function(self, key: FunctionKey) -> Function | None:
        return self._one(
            Function,
            "SELECT record FROM functions WHERE account_id = ? AND region = ? AND name = ?",
            key.parts,
        )

    def put_function(self, function: Function) -> None:
        self._change(
            "INSERT INTO functions (account_id, region, name, record) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (account_id, region, name) DO UPDATE SET record = excluded.record",
            (*function.key.parts, encode(function)),
        )

    def delete_function(self, key: FunctionKey) -> None:
        self._delete_records(key)
        for table in ("aliases", "version_archives", "versions", "functions"):
            self._change(f"DELETE FROM {table} WHERE account_id = ? AND region = ? AND name = ?", key.parts)

    def remember_version_number(self, key: FunctionKey, next_number: int) -> None:
        self._change("INSERT OR REPLACE INTO version_numbers VALUES (?, ?, ?, ?)", (*key.parts, next_number))

    def remembered_version_number(self, key: FunctionKey) -> int:
        return self._number(
            "SELECT coalesce(max(next_number), 1) FROM version_numbers"
            " WHERE account_id = ? AND region = ? AND name = ?",
            key.parts,
        )

    def functions(self, account_id: str, region: str) -> Sequence[Function]:
        return self._all(
            Function,
            "SELECT record FROM functions WHERE account_id = ? AND region = ? ORDER BY name",
            (account_id, region),
        )

    def version(self, key: FunctionKey, version: str) -> FunctionVersion | None:
        return self._one(
            FunctionVersion,
            "SELECT record FROM versions WHERE account_id = ? AND region = ? AND name = ? AND number = ?",
            (*key.parts, version_number(version)),
        )

    def put_version(self, version: FunctionVersion) -> None:
        number = version_number(version.version)
        if number is None:
            raise ValueError(f"{version.version!r} is neither {LATEST} nor a version number")
        self._change(
            "INSERT INTO versions (account_id, region, name, number, code_sha256, code_size, record)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (account_id, region, name, number) DO UPDATE"
            " SET code_sha256 = excluded.code_sha256, code_size = excluded.code_size, record = excluded.record",
            (*version.key.parts, number, version.code_sha256, version.code_size, encode(version)),
        )
        self._delete_of_version("version_archives", version.key, number)
        for digest in set(archives_of(version.layers)):
            self._change("INSERT INTO version_archives VALUES (?, ?, ?, ?, ?)", (*version.key.parts, number, digest))

    def delete_version(self, key: FunctionKey, version: str) -> None:
        for table in ("version_archives", "versions"):
            self._delete_of_version(table, key, version_number(version))
        self._delete_records(key, version)

    def _delete_of_version(self, table: str, key: FunctionKey, number: int | None) -> None:
        self._change(
            f"DELETE FROM {table} WHERE account_id = ? AND region = ? AND name = ? AND number = ?",
            (*key.parts, number),
        )

    def versions(self, key: FunctionKey, after: int, limit: int) -> Sequence[FunctionVersion]:
        return self._all(
            FunctionVersion,
            "SELECT record FROM versions WHERE account_id = ? AND region = ? AND name = ? AND number > ?"
            " ORDER BY number LIMIT ?",
            (*key.parts, after, limit),
        )

    def latest_versions(self, account_id: str, region: str, after: str, limit: int) -> Sequence[FunctionVersion]:
        return self._all(
            FunctionVersion,
            "SELECT record FROM versions WHERE account_id = ? AND region = ? AND number = 0 AND name > ?"
            " ORDER BY name LIMIT ?",
            (account_id, region, after, limit),
        )

    def all_versions(
        self, account_id: str, region: str, after: tuple[str, int], limit: int
    ) -> Sequence[FunctionVersion]:
        return self._all(
            FunctionVersion,
            "SELECT record FROM versions WHERE account_id = ? AND region = ? AND (name, number) > (?, ?)"
            " ORDER BY name, number LIMIT ?",
            (account_id, region, *after, limit),
        )

    def versions_in_clear(self) -> Sequence[FunctionVersion]:
        return self._all(
            FunctionVersion,
            "SELECT record FROM versions WHERE json_extract(record, '$.environment') NOT IN ('{}', '')",
            (),
        )

    def alias(self, key: FunctionKey, name: str) -> Alias | None:
        return self._one(
            Alias,
            "SELECT record FROM aliases WHERE account_id = ? AND region = ? AND name = ? AND alias = ?",
            (*key.parts, name),
        )

    def put_alias(self, alias: Alias) -> None:
        self._change(
            "INSERT INTO aliases (account_id, region, name, alias, record) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (account_id, region, name, alias) DO UPDATE SET record = excluded.record",
            (*alias.key.parts, alias.name, encode(alias)),
        )

    def delete_alias(self, key: FunctionKey, name: str) -> None:
        self._change(
            "DELETE FROM aliases WHERE account_id = ? AND region = ? AND name = ? AND alias = ?",
            (*key.parts, name),
        )
        self._delete_records(key, name)

    def aliases(self, key: FunctionKey, after: str, limit: int) -> Sequence[Alias]:
        return self._all(
            Alias,
            "SELECT record FROM aliases WHERE account_id = ? AND region = ? AND name = ? AND alias > ?"
            " ORDER BY alias LIMIT ?",
            (*key.parts, after, limit),
        )

    def record(self, kind: RecordKind[T], *key: str) -> T | None:
        return self._one(kind.record, "SELECT record FROM records WHERE kind = ? AND key = ?", (kind.name, joined(key)))

    def put_record(self, kind: RecordKind[T], record: T) -> None:
        self._change(
            "INSERT OR REPLACE INTO records (kind, key, of_function, record) VALUES (?, ?, ?, ?)",
            (kind.name, joined(kind.key(record)), int(kind.of_function), encode(record)),
        )

    def delete_record(self, kind: RecordKind[T], *key: str) -> None:
        self._change("DELETE FROM records WHERE kind = ? AND key = ?", (kind.name, joined(key)))

    def records(self, kind: RecordKind[T], *scope: str, after: str = "", limit: int | None = None) -> Sequence[T]:
        start, end = key_range(scope, after)
        return self._all(
            kind.record,
            "SELECT record FROM records WHERE kind = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?",
            (kind.name, start, end, -1 if limit is None else limit),
        )

    def _delete_records(self, key: FunctionKey, *qualifier: str) -> None:
        """The records of a function, or those of one version or alias of it."""
        scope = subtree((*key.parts, *qualifier))
        self._change("DELETE FROM records WHERE of_function AND key >= ? AND key < ?", scope)

    def code_in_use(self) -> set[str]:
        return {
            digest
            for sql in (
                "SELECT DISTINCT code_sha256 FROM versions",
                "SELECT DISTINCT code_sha256 FROM version_archives",
                f"SELECT {_LAYER_CODE} FROM records WHERE {_IS_LAYER}",
            )
            for (digest,) in self._rows(sql, ())
        }

    def code_is_used(self, code_sha256: str) -> bool:
        return any(
            self._rows(sql, (code_sha256,))
            for sql in (
                "SELECT 1 FROM versions WHERE code_sha256 = ? LIMIT 1",
                "SELECT 1 FROM version_archives WHERE code_sha256 = ? LIMIT 1",
                f"SELECT 1 FROM records WHERE {_IS_LAYER} AND {_LAYER_CODE} = ? LIMIT 1",
            )
        )

    def code_bytes(self, account_id: str, region: str) -> int:
        place = (account_id, region)
        packages = "SELECT coalesce(sum(code_size), 0) FROM versions WHERE account_id = ? AND region = ?"
        layers = (
            "SELECT coalesce(sum(json_extract(record, '$.code_size')), 0) FROM records"
            f" WHERE {_IS_LAYER} AND key >= ? AND key < ?"
        )
        return self._number(packages, place) + self._number(layers, subtree(place))

    def function_count(self, account_id: str, region: str) -> int:
        return self._number("SELECT count(*) FROM functions WHERE account_id = ? AND region = ?", (account_id, region))

    def _one(self, cls: type[T], sql: str, values: Sequence[object]) -> T | None:
        rows = self._rows(sql, values)
        return decode(cls, rows[0][0]) if rows else None

    def _all(self, cls: type[T], sql: str, values: Sequence[object]) -> list[T]:
        return [decode(cls, record) for (record,) in self._rows(sql, values)]


class SqliteStore(SqliteUnits[SqliteTables]):
    """A `Store` in the SQLite file `path`."""

    def __init__(self, path: Path, *, readers: int = 2) -> None:
        super().__init__(path, "store", MIGRATIONS, SqliteTables, readers=readers)

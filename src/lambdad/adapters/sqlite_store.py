"""The store in one SQLite file: functions, versions, aliases and their configurations as SQL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from lambdad.adapters.records import decode, encode, version_number
from lambdad.adapters.sqlite_units import SqliteStatements, SqliteUnits, migrations_of
from lambdad.domain.arns import LATEST, FunctionKey
from lambdad.domain.functions import Alias, EventInvokeConfig, Function, FunctionVersion
from lambdad.domain.resource_policies import ResourcePolicy
from lambdad.domain.s3_notifications import BucketNotifications

T = TypeVar("T")

MIGRATIONS = migrations_of("store")


class SqliteTables(SqliteStatements):
    """The records as SQL."""

    def function(self, key: FunctionKey) -> Function | None:
        return self._one(
            Function,
            "SELECT record FROM functions WHERE account_id = ? AND region = ? AND name = ?",
            _columns(key),
        )

    def put_function(self, function: Function) -> None:
        self._change(
            "INSERT INTO functions (account_id, region, name, record) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (account_id, region, name) DO UPDATE SET record = excluded.record",
            (*_columns(function.key), encode(function)),
        )

    def delete_function(self, key: FunctionKey) -> None:
        for table in ("resource_policies", "event_invoke_configs", "aliases", "versions", "functions"):
            self._change(f"DELETE FROM {table} WHERE account_id = ? AND region = ? AND name = ?", _columns(key))

    def remember_version_number(self, key: FunctionKey, next_number: int) -> None:
        self._change("INSERT OR REPLACE INTO version_numbers VALUES (?, ?, ?, ?)", (*_columns(key), next_number))

    def remembered_version_number(self, key: FunctionKey) -> int:
        return self._number(
            "SELECT coalesce(max(next_number), 1) FROM version_numbers"
            " WHERE account_id = ? AND region = ? AND name = ?",
            _columns(key),
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
            (*_columns(key), version_number(version)),
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
            (*_columns(version.key), number, version.code_sha256, version.code_size, encode(version)),
        )

    def delete_version(self, key: FunctionKey, version: str) -> None:
        self._change(
            "DELETE FROM versions WHERE account_id = ? AND region = ? AND name = ? AND number = ?",
            (*_columns(key), version_number(version)),
        )
        self.delete_event_invoke_config(key, version)
        self.delete_resource_policy(key, version)

    def versions(self, key: FunctionKey, after: int, limit: int) -> Sequence[FunctionVersion]:
        return self._all(
            FunctionVersion,
            "SELECT record FROM versions WHERE account_id = ? AND region = ? AND name = ? AND number > ?"
            " ORDER BY number LIMIT ?",
            (*_columns(key), after, limit),
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

    def alias(self, key: FunctionKey, name: str) -> Alias | None:
        return self._one(
            Alias,
            "SELECT record FROM aliases WHERE account_id = ? AND region = ? AND name = ? AND alias = ?",
            (*_columns(key), name),
        )

    def put_alias(self, alias: Alias) -> None:
        self._change(
            "INSERT INTO aliases (account_id, region, name, alias, record) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (account_id, region, name, alias) DO UPDATE SET record = excluded.record",
            (*_columns(alias.key), alias.name, encode(alias)),
        )

    def delete_alias(self, key: FunctionKey, name: str) -> None:
        self._change(
            "DELETE FROM aliases WHERE account_id = ? AND region = ? AND name = ? AND alias = ?",
            (*_columns(key), name),
        )
        self.delete_event_invoke_config(key, name)
        self.delete_resource_policy(key, name)

    def aliases(self, key: FunctionKey, after: str, limit: int) -> Sequence[Alias]:
        return self._all(
            Alias,
            "SELECT record FROM aliases WHERE account_id = ? AND region = ? AND name = ? AND alias > ?"
            " ORDER BY alias LIMIT ?",
            (*_columns(key), after, limit),
        )

    def event_invoke_config(self, key: FunctionKey, qualifier: str) -> EventInvokeConfig | None:
        return self._one(
            EventInvokeConfig,
            "SELECT record FROM event_invoke_configs"
            " WHERE account_id = ? AND region = ? AND name = ? AND qualifier = ?",
            (*_columns(key), qualifier),
        )

    def put_event_invoke_config(self, config: EventInvokeConfig) -> None:
        self._change(
            "INSERT OR REPLACE INTO event_invoke_configs (account_id, region, name, qualifier, record)"
            " VALUES (?, ?, ?, ?, ?)",
            (*_columns(config.key), config.qualifier, encode(config)),
        )

    def delete_event_invoke_config(self, key: FunctionKey, qualifier: str) -> None:
        self._change(
            "DELETE FROM event_invoke_configs WHERE account_id = ? AND region = ? AND name = ? AND qualifier = ?",
            (*_columns(key), qualifier),
        )

    def event_invoke_configs(self, key: FunctionKey, after: str, limit: int) -> Sequence[EventInvokeConfig]:
        return self._all(
            EventInvokeConfig,
            "SELECT record FROM event_invoke_configs WHERE account_id = ? AND region = ? AND name = ? AND qualifier > ?"
            " ORDER BY qualifier LIMIT ?",
            (*_columns(key), after, limit),
        )

    def resource_policy(self, key: FunctionKey, qualifier: str) -> ResourcePolicy | None:
        return self._one(
            ResourcePolicy,
            "SELECT record FROM resource_policies WHERE account_id = ? AND region = ? AND name = ? AND qualifier = ?",
            (*_columns(key), qualifier),
        )

    def put_resource_policy(self, policy: ResourcePolicy) -> None:
        self._change(
            "INSERT OR REPLACE INTO resource_policies (account_id, region, name, qualifier, record)"
            " VALUES (?, ?, ?, ?, ?)",
            (*_columns(policy.key), policy.qualifier, encode(policy)),
        )

    def delete_resource_policy(self, key: FunctionKey, qualifier: str) -> None:
        self._change(
            "DELETE FROM resource_policies WHERE account_id = ? AND region = ? AND name = ? AND qualifier = ?",
            (*_columns(key), qualifier),
        )

    def bucket_notifications(self) -> Sequence[BucketNotifications]:
        return self._all(BucketNotifications, "SELECT record FROM bucket_notifications ORDER BY bucket", ())

    def put_bucket_notifications(self, configuration: BucketNotifications) -> None:
        self._change(
            "INSERT OR REPLACE INTO bucket_notifications (bucket, record) VALUES (?, ?)",
            (configuration.bucket, encode(configuration)),
        )

    def delete_bucket_notifications(self, bucket: str) -> None:
        self._change("DELETE FROM bucket_notifications WHERE bucket = ?", (bucket,))

    def code_in_use(self) -> set[str]:
        return {digest for (digest,) in self._rows("SELECT DISTINCT code_sha256 FROM versions", ())}

    def code_is_used(self, code_sha256: str) -> bool:
        return bool(self._rows("SELECT 1 FROM versions WHERE code_sha256 = ? LIMIT 1", (code_sha256,)))

    def code_bytes(self, account_id: str, region: str) -> int:
        return self._number(
            "SELECT coalesce(sum(code_size), 0) FROM versions WHERE account_id = ? AND region = ?",
            (account_id, region),
        )

    def function_count(self, account_id: str, region: str) -> int:
        return self._number("SELECT count(*) FROM functions WHERE account_id = ? AND region = ?", (account_id, region))

    def _one(self, cls: type[T], sql: str, values: Sequence[object]) -> T | None:
        rows = self._rows(sql, values)
        return decode(cls, rows[0][0]) if rows else None

    def _all(self, cls: type[T], sql: str, values: Sequence[object]) -> list[T]:
        return [decode(cls, record) for (record,) in self._rows(sql, values)]


def _columns(key: FunctionKey) -> tuple[str, str, str]:
    return key.account_id, key.region, key.name


class SqliteStore(SqliteUnits[SqliteTables]):
    """A `Store` in the SQLite file `path`."""

    def __init__(self, path: Path, *, readers: int = 2) -> None:
        super().__init__(path, "store", MIGRATIONS, SqliteTables, readers=readers)

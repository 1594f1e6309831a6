"""The store in memory, for tests: the contract of the real one without its disk and its threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from lambdad.adapters.records import decode, encode, version_number
from lambdad.domain.arns import LATEST, FunctionKey
from lambdad.domain.functions import Alias, Function, FunctionVersion
from lambdad.domain.layers import LAYER_VERSIONS, archives_of
from lambdad.domain.record_kinds import RecordKind, joined, key_range, subtree
from lambdad.ports.store import StoreUnavailable, Tables

T = TypeVar("T")


class MemoryTables:
    """The records as JSON in dictionaries, so that what is read shares nothing with what was written."""

    def __init__(self, base: MemoryTables | None = None) -> None:
        self.writable = True
        self._functions: dict[FunctionKey, str] = dict(base._functions) if base else {}
        self._versions: dict[tuple[FunctionKey, int], str] = dict(base._versions) if base else {}
        self._aliases: dict[tuple[FunctionKey, str], str] = dict(base._aliases) if base else {}
        self._records: dict[tuple[str, str], tuple[bool, str]] = dict(base._records) if base else {}
        self._version_numbers: dict[FunctionKey, int] = dict(base._version_numbers) if base else {}

    def function(self, key: FunctionKey) -> Function | None:
        return _record(Function, self._functions.get(key))

    def put_function(self, function: Function) -> None:
        self._check_writable()
        self._functions[function.key] = encode(function)

    def delete_function(self, key: FunctionKey) -> None:
        self._check_writable()
        self._functions.pop(key, None)
        for version in [place for place in self._versions if place[0] == key]:
            del self._versions[version]
        for alias in [place for place in self._aliases if place[0] == key]:
            del self._aliases[alias]
        self._delete_records(key)

    def remember_version_number(self, key: FunctionKey, next_number: int) -> None:
        self._check_writable()
        self._version_numbers[key] = next_number

    def remembered_version_number(self, key: FunctionKey) -> int:
        return self._version_numbers.get(key, 1)

    def functions(self, account_id: str, region: str) -> Sequence[Function]:
        keys = sorted(key for key in self._functions if (key.account_id, key.region) == (account_id, region))
        return [decode(Function, self._functions[key]) for key in keys]

    def version(self, key: FunctionKey, version: str) -> FunctionVersion | None:
        number = version_number(version)
        return None if number is None else _record(FunctionVersion, self._versions.get((key, number)))

    def put_version(self, version: FunctionVersion) -> None:
        self._check_writable()
        number = version_number(version.version)
        if number is None:
            raise ValueError(f"{version.version!r} is neither {LATEST} nor a version number")
        self._versions[version.key, number] = encode(version)

    def delete_version(self, key: FunctionKey, version: str) -> None:
        self._check_writable()
        number = version_number(version)
        if number is not None:
            self._versions.pop((key, number), None)
        self._delete_records(key, version)

    def versions(self, key: FunctionKey, after: int, limit: int) -> Sequence[FunctionVersion]:
        numbers = sorted(number for owner, number in self._versions if owner == key and number > after)
        return [decode(FunctionVersion, self._versions[key, number]) for number in numbers[:limit]]

    def latest_versions(self, account_id: str, region: str, after: str, limit: int) -> Sequence[FunctionVersion]:
        places = [(key, number) for key, number in self._places(account_id, region) if number == 0 and key.name > after]
        return self._page(places, limit)

    def all_versions(
        self, account_id: str, region: str, after: tuple[str, int], limit: int
    ) -> Sequence[FunctionVersion]:
        places = [(key, number) for key, number in self._places(account_id, region) if (key.name, number) > after]
        return self._page(places, limit)

    def versions_in_clear(self) -> Sequence[FunctionVersion]:
        every = (decode(FunctionVersion, record) for record in self._versions.values())
        return [version for version in every if version.environment]

    def alias(self, key: FunctionKey, name: str) -> Alias | None:
        return _record(Alias, self._aliases.get((key, name)))

    def put_alias(self, alias: Alias) -> None:
        self._check_writable()
        self._aliases[alias.key, alias.name] = encode(alias)

    def delete_alias(self, key: FunctionKey, name: str) -> None:
        self._check_writable()
        self._aliases.pop((key, name), None)
        self._delete_records(key, name)

    def aliases(self, key: FunctionKey, after: str, limit: int) -> Sequence[Alias]:
        names = sorted(name for owner, name in self._aliases if owner == key and name > after)
        return [decode(Alias, self._aliases[key, name]) for name in names[:limit]]

    def record(self, kind: RecordKind[T], *key: str) -> T | None:
        return _record(kind.record, self._records.get((kind.name, joined(key)), (False, None))[1])

    def put_record(self, kind: RecordKind[T], record: T) -> None:
        self._check_writable()
        self._records[kind.name, joined(kind.key(record))] = kind.of_function, encode(record)

    def delete_record(self, kind: RecordKind[T], *key: str) -> None:
        self._check_writable()
        self._records.pop((kind.name, joined(key)), None)

    def records(self, kind: RecordKind[T], *scope: str, after: str = "", limit: int | None = None) -> Sequence[T]:
        start, end = key_range(scope, after)
        places = sorted(place for place in self._records if place[0] == kind.name and start <= place[1] < end)
        return [decode(kind.record, self._records[place][1]) for place in places[:limit]]

    def _delete_records(self, key: FunctionKey, *qualifier: str) -> None:
        """The records of a function, or those of one version or alias of it."""
        start, end = subtree((*key.parts, *qualifier))
        for place, (of_function, _) in list(self._records.items()):
            if of_function and start <= place[1] < end:
                del self._records[place]

    def code_in_use(self) -> set[str]:
        used = {layer.code_sha256 for layer in self.records(LAYER_VERSIONS)}
        for record in self._versions.values():
            version = decode(FunctionVersion, record)
            used |= {version.code_sha256, *archives_of(version.layers)}
        return used

    def code_is_used(self, code_sha256: str) -> bool:
        return code_sha256 in self.code_in_use()

    def code_bytes(self, account_id: str, region: str) -> int:
        places = self._places(account_id, region)
        packages = sum(decode(FunctionVersion, self._versions[place]).code_size for place in places)
        return packages + sum(layer.code_size for layer in self.records(LAYER_VERSIONS, account_id, region))

    def function_count(self, account_id: str, region: str) -> int:
        return sum((key.account_id, key.region) == (account_id, region) for key in self._functions)

    def _places(self, account_id: str, region: str) -> Iterable[tuple[FunctionKey, int]]:
        return (place for place in self._versions if (place[0].account_id, place[0].region) == (account_id, region))

    def _page(self, places: Iterable[tuple[FunctionKey, int]], limit: int) -> list[FunctionVersion]:
        return [decode(FunctionVersion, self._versions[place]) for place in sorted(places)[:limit]]

    def _check_writable(self) -> None:
        if not self.writable:
            raise RuntimeError("a unit of work that only reads cannot change the store")


class MemoryStore:
    """A `Store` that forgets everything with its process. It belongs to one event loop at a time."""

    def __init__(self) -> None:
        self._tables = MemoryTables()
        self._tables.writable = False
        self._closed = False

    async def write(self, work: Callable[[Tables], T]) -> T:
        """Run `work` on a copy that replaces the tables when it succeeds."""
        self._check_open()
        await asyncio.sleep(0)  # as the real store does, let others run first: a service must not count on being alone
        tables = MemoryTables(self._tables)
        result = work(tables)
        tables.writable = False
        self._tables = tables
        return result

    async def read(self, work: Callable[[Tables], T]) -> T:
        self._check_open()
        await asyncio.sleep(0)
        return work(self._tables)

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")


def _record(cls: type[T], text: str | None) -> T | None:
    return None if text is None else decode(cls, text)

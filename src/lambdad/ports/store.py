"""Where functions, versions, aliases and their configurations are kept.

A unit of work is a plain function of a `Tables`; the store runs it atomically and answers when its changes are on disk.
Units of work run one after another, so one that reads and then writes sees nobody else's change in between.
Nothing here says what kind of database it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from lambdad.domain.arns import FunctionKey
from lambdad.domain.errors import LambdadError
from lambdad.domain.functions import Alias, Function, FunctionVersion
from lambdad.domain.record_kinds import RecordKind

T = TypeVar("T")
R = TypeVar("R")


class StoreUnavailable(LambdadError):
    """The store could not do its part: the disk is full or failing, or the store is closed. Later units may succeed."""


class Tables(Protocol):
    """The records as one unit of work sees them. Lists are ordered by name, versions by number with `$LATEST` first."""

    def function(self, key: FunctionKey) -> Function | None: ...

    def put_function(self, function: Function) -> None: ...

    def delete_function(self, key: FunctionKey) -> None:
        """Remove a function with its versions, its aliases and the records of all of them."""

    def remember_version_number(self, key: FunctionKey, next_number: int) -> None:
        """Keep the number that the next version is to have, beyond the deletion of the function."""

    def remembered_version_number(self, key: FunctionKey) -> int:
        """What was remembered for a function of this name; 1 if nothing was."""

    def functions(self, account_id: str, region: str) -> Sequence[Function]: ...

    def version(self, key: FunctionKey, version: str) -> FunctionVersion | None: ...

    def put_version(self, version: FunctionVersion) -> None: ...

    def delete_version(self, key: FunctionKey, version: str) -> None:
        """Remove a version with its records."""

    def versions(self, key: FunctionKey, after: int, limit: int) -> Sequence[FunctionVersion]:
        """Versions of one function whose number is above `after`; `$LATEST` is number 0, so -1 begins with it."""

    def latest_versions(self, account_id: str, region: str, after: str, limit: int) -> Sequence[FunctionVersion]:
        """`$LATEST` of every function whose name sorts after `after`."""

    def all_versions(
        self, account_id: str, region: str, after: tuple[str, int], limit: int
    ) -> Sequence[FunctionVersion]:
        """Every version of every function after (name, version number)."""

    def versions_in_clear(self) -> Sequence[FunctionVersion]:
        """Those of all accounts whose environment variables an older lambdad has stored as they are."""

    def alias(self, key: FunctionKey, name: str) -> Alias | None: ...

    def put_alias(self, alias: Alias) -> None: ...

    def delete_alias(self, key: FunctionKey, name: str) -> None:
        """Remove an alias with its records."""

    def aliases(self, key: FunctionKey, after: str, limit: int) -> Sequence[Alias]: ...

    def record(self, kind: RecordKind[R], *key: str) -> R | None:
        """The record of a kind that has this key."""

    def put_record(self, kind: RecordKind[R], record: R) -> None:
        """Add a record, or replace the one that has its key."""

    def delete_record(self, kind: RecordKind[R], *key: str) -> None:
        """Remove the record that has this key; nothing happens when there is none."""

    def records(self, kind: RecordKind[R], *scope: str, after: str = "", limit: int | None = None) -> Sequence[R]:
        """The records whose keys begin with `scope`, in order, from behind those whose next part is `after`."""

    def code_in_use(self) -> set[str]:
        """The digest of every package of a function's or layer's version, and of all that `archives_of` a version's
        layers are, which stay in use when the layer's versions are deleted.
        """

    def code_is_used(self, code_sha256: str) -> bool:
        """Whether `code_in_use` has it."""

    def code_bytes(self, account_id: str, region: str) -> int:
        """The zipped size of all versions of functions and layers together, as the storage quota counts it."""

    def function_count(self, account_id: str, region: str) -> int: ...


class Store(Protocol):
    """Runs units of work."""

    async def write(self, work: Callable[[Tables], T]) -> T:
        """Run `work`; when this returns, what it changed survives `kill -9`. An exception of `work` undoes it."""

    async def read(self, work: Callable[[Tables], T]) -> T:
        """Run `work`, which changes nothing, on a consistent view."""

    async def close(self) -> None: ...

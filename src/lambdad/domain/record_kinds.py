"""What kinds of records the store keeps beside functions, versions and aliases, and how each is found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

R = TypeVar("R")

SEPARATOR: Final = "\x1f"
"""Between the parts of a key: no name holds it, and it sorts before everything that names may hold."""

# What follows the separator: behind every key that goes on with a separator, and before those of longer names.
_BEHIND: Final = "\x20"
_LAST: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class RecordKind(Generic[R]):
    """One kind of record: a dataclass, the name that it has on disk, and the parts of a record's key.

    Records are listed in the order of their keys, part by part as text. Where `of_function`, the first four parts are
    account, region, name of the function and qualifier: the record goes when the function, version or alias does.
    """

    name: str
    record: type[R]
    key: Callable[[R], tuple[str, ...]]
    of_function: bool = False


def joined(parts: tuple[str, ...]) -> str:
    """The parts of a key, or its first ones, as one text that sorts as they do. Raises ValueError for odd parts."""
    if any(SEPARATOR in part for part in parts):
        raise ValueError(f"a part of the key {parts!r} holds a separator")
    return SEPARATOR.join(parts)


def key_range(scope: tuple[str, ...], after: str = "") -> tuple[str, str]:
    """From where to where, the end left out, the keys are that go on behind `scope` with a part beyond `after`."""
    start = joined((*scope, after)) + (_BEHIND if after else "")
    return start, joined(scope) + _BEHIND if scope else _LAST


def subtree(scope: tuple[str, ...]) -> tuple[str, str]:
    """From where to where, the end left out, the keys are that begin with `scope` or are it."""
    return joined(scope), joined(scope) + _BEHIND


def number_part(number: int) -> str:
    """A number as a part of a key, so that numbers sort by size."""
    return f"{number:018d}"

"""The durable queue, as those see it who put dispatches into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lambdad.domain.dispatches import Dispatch


class Dispatcher(Protocol):
    """Takes dispatches."""

    async def accept(
        self, dispatches: Sequence[Dispatch], *, marks: Mapping[str, int] | None = None, trace: str = ""
    ) -> None:
        """Take them, and note the marks, all or nothing; it is on disk when this returns. Raises StoreUnavailable."""


class Marks(Protocol):
    """The numbers that the queue keeps beside its dispatches. Both methods raise StoreUnavailable."""

    async def marks(self, prefix: str) -> Mapping[str, int]:
        """The marks whose names begin so."""

    async def forget_mark(self, name: str) -> None:
        """Have no such mark any more."""


class MarkingDispatcher(Dispatcher, Marks, Protocol):
    """Both, for who asks what has been sent before."""

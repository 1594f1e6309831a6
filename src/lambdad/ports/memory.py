"""How much memory this machine can still give."""

from __future__ import annotations

from typing import Protocol


class MemoryGauge(Protocol):
    """Looks at the machine's memory."""

    def available_bytes(self, *, fresh: bool = False) -> int | None:
        """What can be had without swapping; None where that cannot be known.

        The answer may be a moment old, unless it is to be `fresh`.
        """

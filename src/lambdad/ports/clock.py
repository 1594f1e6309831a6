"""Time, as the services see it: injectable, so that tests decide what it is."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall time for records and deadlines, monotonic time for durations, and waiting."""

    def time(self) -> float:
        """Seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds of this clock."""

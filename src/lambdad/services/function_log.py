"""The logs of environments on their way to CloudWatch Logs.

On the invoke path a record is put on a list and nothing more. Ten times a second, and whenever somebody is about to
read logs, the lists are handed over. A text may be a function, called at that moment: REPORT's memory figure is
measured then, once for all the invocations that an environment has finished since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from lambdad.domain.functions import FunctionVersion
from lambdad.services.logs import LogsService

Text = str | Callable[[], str | None]
Entry = tuple[int, Text]
"""Time in milliseconds since the epoch, and the text, or what gives it."""

HAND_OVER_S: Final = 0.1
HAND_OVER_ENTRIES: Final = 4096
HELD_BACK_BYTES: Final = 16 * 1024 * 1024


class FunctionLogs:
    """Opens the logs of environments and hands over what they have written."""

    def __init__(self, logs: LogsService) -> None:
        self._logs = logs
        self._waiting: dict[FunctionLog, None] = {}
        logs.before_reading(self.hand_over)

    def open(self, version: FunctionVersion, stream: str) -> FunctionLog:
        return FunctionLog(self._logs, self._waiting, version, stream)

    def hand_over(self) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        for log in waiting:
            log.hand_over()

    async def run(self) -> None:
        """Hand over regularly, for ever; the application runs this as a task."""
        while True:
            await asyncio.sleep(HAND_OVER_S)
            self.hand_over()


class FunctionLog:
    """The log of one environment: its stream in the function's log group."""

    def __init__(
        self, logs: LogsService, waiting: dict[FunctionLog, None], version: FunctionVersion, stream: str
    ) -> None:
        self._logs = logs
        self._waiting = waiting
        self._place = (version.key.account_id, version.key.region, version.logging.log_group, stream)
        self._entries: list[Entry] = []

    def append(self, now_ms: int, text: Text) -> None:
        """Add one entry."""
        if not self._entries:
            self._waiting[self] = None
        self._entries.append((now_ms, text))

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add several; much at once is handed over at once."""
        if not self._entries:
            self._waiting[self] = None
        self._entries += entries
        if len(self._entries) >= HAND_OVER_ENTRIES:
            self.hand_over()

    def hand_over(self) -> None:
        entries, self._entries = self._entries, []
        records = []
        for now_ms, text in entries:
            known = text if isinstance(text, str) else text()
            if known is not None:
                records.append((now_ms, known))
        if records:
            self._logs.append(*self._place, records)

    @property
    def full(self) -> bool:
        return self._logs.pending_bytes > HELD_BACK_BYTES

    async def drained(self) -> None:
        await self._logs.drained()

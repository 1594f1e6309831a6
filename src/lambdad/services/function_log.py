"""The log of one environment: its stream in the function's log group."""

from __future__ import annotations

from typing import Final

from lambdad.domain.functions import FunctionVersion
from lambdad.services.logs import LogsService
from lambdad.services.output import Record

HELD_BACK_BYTES: Final = 16 * 1024 * 1024


class FunctionLog:
    """A `lambdad.services.environment.LogSink` that writes to CloudWatch Logs."""

    def __init__(self, logs: LogsService, version: FunctionVersion, stream: str) -> None:
        self._logs = logs
        self._place = (version.key.account_id, version.key.region, version.logging.log_group, stream)

    def append(self, records: list[Record]) -> None:
        self._logs.append(*self._place, records)

    @property
    def full(self) -> bool:
        return self._logs.pending_bytes > HELD_BACK_BYTES

    async def drained(self) -> None:
        await self._logs.drained()

"""What one environment writes, and what lambdad says of it: its function's output, and the platform's lines."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from lambdad.domain import invocations, quotas
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Outcome
from lambdad.domain.platform_logs import PlatformLog, Report
from lambdad.ports.clock import Clock
from lambdad.ports.sandbox import Sandbox
from lambdad.services.function_log import Entry, Text
from lambdad.services.output import OutputRecords, Record
from lambdad.services.running import Running

READ_BYTES: Final = 64 * 1024
_MIB: Final = 1024 * 1024


class LogSink(Protocol):
    """Where the records of one environment go."""

    def append(self, now_ms: int, text: Text) -> None:
        """Add one entry; a text that is a function is asked for it a moment later."""

    def extend(self, entries: Sequence[Entry]) -> None: ...

    @property
    def full(self) -> bool:
        """Whether the sink has so much waiting that the function should be held back."""

    async def drained(self) -> None: ...


@dataclass(slots=True)
class Usage:
    """What an environment has used, for REPORT and status."""

    initialized_ms: float | None = None
    invocations: int = 0


class EnvironmentLog:
    """Reads a sandbox's pipe, measures its memory, and puts START, END, REPORT and errors between its lines.

    `tail_of` is the invocation whose caller wants the end of the log, if it does.
    """

    def __init__(self, version: FunctionVersion, clock: Clock, sink: LogSink) -> None:
        self.usage = Usage()
        self.tail_of: Running | None = None
        self._version = version
        self._clock = clock
        self._sink = sink
        self._platform_log = PlatformLog(version.logging)
        self._loop = asyncio.get_running_loop()
        self._output = OutputRecords()
        self._sandbox: Sandbox | None = None
        self._max_memory = 0
        self._measured = 0.0
        self._resuming: asyncio.Task[None] | None = None

    # The function's output

    def attach(self, sandbox: Sandbox) -> None:
        """Read what the sandbox writes, from now on."""
        self._sandbox = sandbox
        self._loop.add_reader(sandbox.output_fd, self._readable)

    def detach(self) -> None:
        """Read no more, as the process has ended."""
        if self._resuming is not None:
            self._resuming.cancel()
        if self._sandbox is not None:
            self._loop.remove_reader(self._sandbox.output_fd)

    def _readable(self) -> None:
        assert self._sandbox
        try:
            data = os.read(self._sandbox.output_fd, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._sandbox.output_fd)
            return
        self._append(self._output.feed(data, self._now_ms()))
        if self._sink.full:
            self._loop.remove_reader(self._sandbox.output_fd)
            self._resuming = self._loop.create_task(self._resume_reading())

    async def _resume_reading(self) -> None:
        await self._sink.drained()
        if self._sandbox is not None:
            self._loop.add_reader(self._sandbox.output_fd, self._readable)

    def drain(self) -> None:
        """Take what is in the pipe now: all that was written before the call that ends an invocation."""
        if self._sandbox is None:
            return
        for _ in range(2):
            try:
                data = os.read(self._sandbox.output_fd, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            self._append(self._output.feed(data, self._now_ms()))
            if len(data) < READ_BYTES:
                return

    def flush(self) -> None:
        """Between two invocations: a line without an end belongs to the first."""
        if self._output.holds_text:
            self._append(self._output.flush(self._now_ms()))

    def finish(self) -> None:
        """Nothing more will come: what is left is a record."""
        self._append(self._output.finish(self._now_ms()))

    # The platform's lines

    def init_start(self, runtime_version: str, runtime_version_arn: str) -> None:
        self._platform(self._platform_log.init_start(self._clock.time(), runtime_version, runtime_version_arn))

    def init_report(self, duration_ms: float, phase: str, status: str, error_type: str | None) -> None:
        self._platform(self._platform_log.init_report(self._clock.time(), duration_ms, phase, status, error_type))

    def start(self, running: Running) -> None:
        request_id = running.invocation.request_id
        self._platform(self._platform_log.start(self._clock.time(), request_id, self._version.version))

    def failed(self, message: str, error_type: str) -> None:
        self._platform(self._platform_log.failed(message, error_type))

    def report(self, running: Running, outcome: Outcome, duration_ms: float) -> None:
        """END and REPORT. Memory is measured when the record is written, unless its caller wants to see it."""
        request_id = running.invocation.request_id
        log = self._platform_log
        now = self._clock.time()
        if outcome.error_type == "Sandbox.Timedout":
            self._platform(log.timed_out(now, request_id, duration_ms / 1000))
        self._platform(log.end(request_id))
        ended = self._clock.monotonic()

        def report() -> str | None:
            return log.report(now, self._figures(running, outcome, duration_ms, ended))

        if running.invocation.tail_log:
            self._platform(report())
        else:
            self._sink.append(int(now * 1000), report)

    def _figures(self, running: Running, outcome: Outcome, duration_ms: float, ended: float) -> Report:
        """What REPORT says of an invocation that ended at `ended`; memory is measured if it was not since then."""
        if self._measured < ended:
            self.measure()
        init_ms = self.usage.initialized_ms if running.first else None
        timed_out = outcome.error_type == "Sandbox.Timedout"
        status = "timeout" if timed_out else "error" if outcome.is_of_platform else "success"
        return Report(
            running.invocation.request_id,
            duration_ms,
            invocations.billed_ms(duration_ms + (init_ms or 0.0)),
            self._version.memory_mb,
            -(-self._max_memory // _MIB),
            init_ms,
            status,
            outcome.error_type if status == "error" else None,
        )

    def measure(self) -> None:
        """Look at the memory that the sandbox has used so far."""
        if self._sandbox is not None:
            self._measured = self._clock.monotonic()
            self._max_memory = self._sandbox.max_memory_bytes()

    # Records

    def _append(self, records: list[Record]) -> None:
        if not records:
            return
        self._sink.extend(records)
        if self.tail_of is not None:
            for _, text in records[-quotas.LOG_TAIL_BYTES :]:
                self.tail_of.remember(text)

    def _platform(self, line: str | None) -> None:
        if line is None:
            return
        self._sink.append(self._now_ms(), line)
        if self.tail_of is not None:
            self.tail_of.remember(line, on_new_line=True)

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)

"""What one environment writes, and what lambdad says of it: its function's output, and the platform's lines."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from socket import socket
from typing import Any, Final, Protocol

from lambdad.domain import invocations, platform_logs, quotas
from lambdad.domain.environment_variables import ON_DEMAND
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Outcome
from lambdad.domain.platform_logs import Initialization, PlatformLog, Report
from lambdad.domain.telemetry import EXTENSION, FUNCTION, Subscription, span, tracing
from lambdad.ports.clock import Clock
from lambdad.ports.sandbox import Sandbox
from lambdad.services.function_log import Entry, Text
from lambdad.services.output import OutputRecords, Record
from lambdad.services.running import Running
from lambdad.services.telemetry import Telemetry

TIMED_OUT: Final = "Sandbox.Timedout"
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
    """Reads a sandbox's pipes, measures its memory, and puts START, END, REPORT and errors between its lines.

    Extensions that subscribe get the same as telemetry. `tail_of` is the invocation whose caller wants the end of the
    log, if it does.
    """

    def __init__(
        self, version: FunctionVersion, clock: Clock, sink: LogSink, initialization_type: str = ON_DEMAND
    ) -> None:
        self.usage = Usage()
        self.tail_of: Running | None = None
        self._version = version
        self._clock = clock
        self._sink = sink
        self._initialization_type = initialization_type
        self._platform_log = PlatformLog(version.logging)
        self._loop = asyncio.get_running_loop()
        self._pipes: list[OutputPipe] = []
        self._sandbox: Sandbox | None = None
        self._max_memory = 0
        self._measured = 0.0
        self._telemetry: Telemetry | None = None
        self._accepts_subscriptions = True
        self._init_started: tuple[float, Initialization] | None = None
        self._runtime_done_at: float | None = None

    # Telemetry

    @property
    def accepts_subscriptions(self) -> bool:
        """Whether extensions can subscribe: until the initialization is over."""
        return self._accepts_subscriptions

    def expect_extensions(self) -> None:
        """Extensions start with the environment: events are kept for them until `close_subscriptions`.

        To be called before `init_start`.
        """
        self._open_telemetry()

    def _open_telemetry(self) -> Telemetry:
        if self._telemetry is None:
            self._telemetry = Telemetry(self._clock, self._connect, in_json=self._platform_log.is_json)
        return self._telemetry

    async def _connect(self, port: int) -> socket:
        if self._sandbox is None:
            raise ConnectionError("there is no sandbox yet")
        return await self._sandbox.connect(port)

    def subscribe(self, name: str, wanted: Subscription) -> None:
        """An extension subscribes. Raises OtherApiInUse.

        An internal one, of a function without others, gets what is from now on, and the start of the initialization.
        """
        is_first = self._telemetry is None
        telemetry = self._open_telemetry()
        if is_first and self._init_started is not None:
            now, initialization = self._init_started
            telemetry.publish(now, "platform.initStart", initialization.started())
        telemetry.subscribe(name, wanted)
        kind = f"platform.{wanted.api.lower()}Subscription"
        record = {"name": name, "state": "Subscribed", "types": list(wanted.types)}
        now = self._clock.time()
        self._platform(self._platform_log.subscription(now, kind, record))
        telemetry.publish(now, kind, record)

    def close_subscriptions(self) -> None:
        """The initialization is over: nobody can subscribe any more."""
        self._accepts_subscriptions = False
        self._init_started = None
        if self._telemetry is not None:
            self._telemetry.close_subscriptions()
            if not self._telemetry.is_wanted:
                self._telemetry = None

    def freeze(self) -> None:
        """The processes stand still from now on: nothing is sent to them."""
        if self._telemetry is not None:
            self._telemetry.freeze()

    def thaw(self) -> None:
        """They go on."""
        if self._telemetry is not None:
            self._telemetry.thaw()

    async def flush_telemetry(self, deadline_s: float) -> None:
        """Send without delay from now on; return when all is sent, or after `deadline_s` seconds.

        To be called as the environment begins to shut down, and awaited before its extensions are killed.
        """
        if self._telemetry is not None:
            await self._telemetry.flush(deadline_s)

    # What the function and its extensions write

    def attach(self, sandbox: Sandbox) -> None:
        """Read what the sandbox writes, from now on."""
        self._sandbox = sandbox
        self._pipes.append(OutputPipe(sandbox.output_fd, FUNCTION, self))
        if sandbox.extension_output_fd >= 0:
            self._pipes.append(OutputPipe(sandbox.extension_output_fd, EXTENSION, self))

    def detach(self) -> None:
        """Take what is in the pipes, then read no more and send no more: the processes have ended, or are about to."""
        self.drain()
        for pipe in self._pipes:
            pipe.close()
        if self._telemetry is not None:
            self._telemetry.close()
            self._telemetry = None

    def drain(self) -> None:
        """Take what is in the pipes now: all that was written before the call that ends an invocation."""
        for pipe in self._pipes:
            pipe.drain()

    def flush(self) -> None:
        """Between two invocations: a line of the function without an end belongs to the first."""
        if self._pipes:
            self._pipes[0].flush()

    def finish(self) -> None:
        """Nothing more will come: what is left is a record."""
        for pipe in self._pipes:
            pipe.finish()

    # The platform's lines

    def init_start(self, runtime_version: str, runtime_version_arn: str) -> None:
        initialization = Initialization.of(
            self._version, self._initialization_type, runtime_version, runtime_version_arn
        )
        now = self._clock.time()
        self._init_started = now, initialization
        self._platform(self._platform_log.init_start(now, initialization))
        if self._telemetry is not None:
            self._telemetry.publish(now, "platform.initStart", initialization.started())

    def init_runtime_done(self, status: str, error_type: str | None = None) -> None:
        """The runtime has initialized, or failed to: its first `next`, its error, or its end."""
        phase = "invoke" if self.usage.invocations else "init"
        record = platform_logs.init_runtime_done(self._initialization_type, phase, status, error_type)
        now = self._clock.time()
        self._platform(self._platform_log.init_runtime_done(now, record))
        if self._telemetry is not None:
            self._telemetry.publish(now, "platform.initRuntimeDone", record)

    def init_report(self, duration_ms: float, phase: str, status: str, error_type: str | None) -> None:
        """The initialization is over, well or not: the runtime's and the extensions'."""
        record = platform_logs.init_report(self._initialization_type, phase, status, duration_ms, error_type)
        now = self._clock.time()
        self._platform(self._platform_log.init_report(now, record))
        if self._telemetry is not None:
            self._telemetry.publish(now, "platform.initReport", record)

    def extension_state(self, name: str, state: str, events: Sequence[str], error_type: str | None = None) -> None:
        """An extension has come as far in its initialization as `state` says, such as `Ready`."""
        record = platform_logs.extension(name, state, events, error_type)
        now = self._clock.time()
        self._platform(self._platform_log.extension(now, record))
        if self._telemetry is not None:
            self._telemetry.publish(now, "platform.extension", record)

    def start(self, running: Running) -> None:
        request_id = running.invocation.request_id
        now = self._clock.time()
        self._platform(self._platform_log.start(now, request_id, self._version.version))
        if self._telemetry is not None:
            record = platform_logs.start(request_id, self._version.version)
            self._telemetry.publish(now, "platform.start", _traced(record, running))

    def failed(self, message: str, error_type: str) -> None:
        self._platform(self._platform_log.failed(message, error_type))
        if self._telemetry is not None:
            self._telemetry.publish(self._clock.time(), "platform.fault", f"{message}\n{error_type}\n")

    def runtime_done(self, running: Running, outcome: Outcome, duration_ms: float) -> None:
        """The runtime has finished with an invocation, by its next `next` or its end; its extensions may go on.

        `duration_ms` is since it was given the event.
        """
        if self._telemetry is None and not self._platform_log.is_json:
            return  # most functions, on the way of every invocation
        status = _status(outcome)
        if self._telemetry is None and not self._platform_log.writes_runtime_done(status):
            return
        now = self._clock.time()
        ended = self._runtime_done_at = self._clock.monotonic()
        record: dict[str, Any] = {"requestId": running.invocation.request_id, "status": status}
        if status == "error":
            record["errorType"] = outcome.reported_type
        if not outcome.failed:
            record["spans"] = _runtime_spans(running, outcome, now - ended, duration_ms)
        produced = running.stream.size if running.stream is not None else len(outcome.payload)
        record["metrics"] = {
            "durationMs": round(duration_ms, 3),
            "producedBytes": 0 if outcome.failed else produced,
        }
        self._platform(self._platform_log.runtime_done(now, record))
        if self._telemetry is not None:
            self._telemetry.publish(now, "platform.runtimeDone", _traced(record, running))

    def report(self, running: Running, outcome: Outcome, duration_ms: float) -> None:
        """END and REPORT. Memory is measured when the record is written, unless somebody wants to see it."""
        request_id = running.invocation.request_id
        log = self._platform_log
        now = self._clock.time()
        if outcome.error_type == TIMED_OUT:
            self._platform(log.timed_out(now, request_id, duration_ms / 1000))
        self._platform(log.end(request_id))
        ended = self._clock.monotonic()
        if self._telemetry is not None:
            figures = self._figures(running, outcome, duration_ms, ended)
            self._platform(log.report(now, figures))
            self._publish_report(self._telemetry, running, figures, now, ended)
            return

        def report() -> str | None:
            return log.report(now, self._figures(running, outcome, duration_ms, ended))

        if running.invocation.tail_log:
            self._platform(report())
        else:
            self._sink.append(int(now * 1000), report)

    def _publish_report(
        self, telemetry: Telemetry, running: Running, figures: Report, now: float, ended: float
    ) -> None:
        if figures.status == "timeout":
            fault = platform_logs.timed_out(now, figures.request_id, figures.duration_ms / 1000)
            telemetry.publish(now, "platform.fault", fault)
        telemetry.publish(now, "platform.end", {"requestId": figures.request_id})
        record = figures.record()
        done, self._runtime_done_at = self._runtime_done_at, None
        if done is not None:
            # What extensions took after the runtime had finished.
            record["spans"] = [span("extensionOverhead", now - (ended - done), now)]
        telemetry.publish(now, "platform.report", _traced(record, running))

    def _figures(self, running: Running, outcome: Outcome, duration_ms: float, ended: float) -> Report:
        """What REPORT says of an invocation that ended at `ended`; memory is measured if it was not since then."""
        if self._measured < ended:
            self.measure()
        init_ms = self.usage.initialized_ms if running.first else None
        status = _status(outcome)
        return Report(
            running.invocation.request_id,
            duration_ms,
            invocations.billed_ms(duration_ms + (init_ms or 0.0)),
            self._version.memory_mb,
            -(-self._max_memory // _MIB),
            init_ms,
            status,
            outcome.reported_type if status == "error" else None,
        )

    def measure(self) -> None:
        """Look at the memory that the sandbox has used so far."""
        if self._sandbox is not None:
            self._measured = self._clock.monotonic()
            self._max_memory = self._sandbox.max_memory_bytes()

    # Records

    def wrote(self, kind: str, records: list[Record]) -> None:
        """The function or its extensions have written this."""
        self._sink.extend(records)
        if self.tail_of is not None:
            for _, text in records[-quotas.LOG_TAIL_BYTES :]:
                self.tail_of.remember(text)
        if self._telemetry is not None:
            self._telemetry.lines(kind, records)

    def wrote_all(self) -> None:
        """A pipe has no writers any more: "if any of the input streams are closed, then Lambda flushes the logs"."""
        if self._telemetry is not None:
            self._telemetry.hurry()

    @property
    def sink(self) -> LogSink:
        return self._sink

    def _platform(self, line: str | None) -> None:
        if line is None:
            return
        self._sink.append(self.now_ms(), line)
        if self.tail_of is not None:
            self.tail_of.remember(line, on_new_line=True)

    def now_ms(self) -> int:
        return int(self._clock.time() * 1000)


class OutputPipe:
    """One pipe of a sandbox, read as long as the log has room for it."""

    def __init__(self, fd: int, kind: str, log: EnvironmentLog) -> None:
        self._fd = fd
        self._kind = kind
        self._log = log
        self._records = OutputRecords()
        self._resuming: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._fd)
            self._log.wrote_all()
            return
        self._add(self._records.feed(data, self._log.now_ms()))
        if self._log.sink.full:
            self._loop.remove_reader(self._fd)
            self._resuming = self._loop.create_task(self._resume_reading())

    async def _resume_reading(self) -> None:
        await self._log.sink.drained()
        self._loop.add_reader(self._fd, self._readable)

    def drain(self) -> None:
        """Take what is in the pipe now."""
        for _ in range(2):
            try:
                data = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            self._add(self._records.feed(data, self._log.now_ms()))
            if len(data) < READ_BYTES:
                return

    def flush(self) -> None:
        if self._records.holds_text:
            self._add(self._records.flush(self._log.now_ms()))

    def finish(self) -> None:
        self._add(self._records.finish(self._log.now_ms()))

    def close(self) -> None:
        """Read no more."""
        if self._resuming is not None:
            self._resuming.cancel()
        self._loop.remove_reader(self._fd)

    def _add(self, records: list[Record]) -> None:
        if records:
            self._log.wrote(self._kind, records)


def _status(outcome: Outcome) -> str:
    """success, error or timeout. An error that the function's code raised is a success of the runtime.

    https://github.com/aws-samples/aws-lambda-extensions/issues/85
    """
    if outcome.error_type == TIMED_OUT:
        return "timeout"
    return "error" if outcome.is_of_platform else "success"


def _traced(record: dict[str, Any], running: Running) -> dict[str, Any]:
    context = tracing(running.invocation.trace_header)
    return record if context is None else record | {"tracing": context}


def _runtime_spans(running: Running, outcome: Outcome, epoch: float, duration_ms: float) -> list[dict[str, Any]]:
    """`epoch` is what makes the time of day of the monotonic times.

    https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html#Span
    """
    answered_ms = outcome.duration_ms or 0.0
    start = epoch + running.started
    answered = start + answered_ms / 1000
    began = answered if running.response_began is None else epoch + running.response_began
    spans = [span("responseLatency", start, began), span("responseDuration", began, answered)]
    if duration_ms > answered_ms:  # without extensions nobody waits to see when the runtime asks again
        spans.append(span("runtimeOverhead", answered, start + duration_ms / 1000))
    return spans

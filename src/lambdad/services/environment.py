"""One execution environment: a sandbox with a runtime in it, from its start to its end, one event at a time.

It is driven from three sides, all on the event loop: the pool assigns invocations, the runtime calls the Runtime API
(`next`, `response`, `error`, `init_error`), and the sandbox exits. Every step goes through the table in
`lambdad.domain.lifecycle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lambdad.domain import invocations, lifecycle, quotas
from lambdad.domain.environment_variables import ON_DEMAND
from lambdad.domain.errors import LambdadError
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import ExitStatus, Invocation, Outcome, PlatformError
from lambdad.domain.lifecycle import Event, State
from lambdad.ports.clock import Clock
from lambdad.ports.sandbox import Address, Sandbox
from lambdad.services.environment_log import EnvironmentLog, LogSink
from lambdad.services.running import ResponseChunks, Running


class StaleRequest(LambdadError):
    """The runtime answered a request that is not the one it has."""


class InitFailed(LambdadError):
    """The environment did not come to its first `next`. `outcome` is what an invocation of it would answer."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error_type)
        self.outcome = outcome


class Environment:
    """See the module. `on_idle` is called whenever the environment can take an invocation, `on_end` when it is gone."""

    def __init__(
        self,
        version: FunctionVersion,
        clock: Clock,
        log: LogSink,
        log_stream: str,
        on_idle: Callable[[Environment], None],
        on_end: Callable[[Environment], None],
        initialization_type: str = ON_DEMAND,
    ) -> None:
        self.version = version
        self.initialization_type = initialization_type
        self.log_stream = log_stream
        self.state = State.STARTING
        self.retired = False
        self.idle_since = 0.0
        self.is_frozen = False
        self._clock = clock
        self.log = EnvironmentLog(version, clock, log)
        self._on_idle = on_idle
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._launch_failure: str | None = None
        self._sandbox: Sandbox | None = None
        self._running: Running | None = None
        self._send: Callable[[Running], None] | None = None
        self._early: Callable[[], None] | None = None
        self._when_attached: list[Callable[[], None]] = []
        self._started = clock.monotonic()
        self._ending: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()

    # Starting

    async def attach(self, sandbox: Sandbox) -> None:
        """The sandbox has been launched: watch what it writes and when it ends. It ends now if it came too late."""
        if self._ending is not None:
            await sandbox.kill()
            sandbox.close()
            return
        self._sandbox = sandbox
        self.log.attach(sandbox)
        self._watcher = self._loop.create_task(self._watch(sandbox))
        early, self._early = self._early, None
        if early is not None:
            early()
        for callback in self._when_attached:
            callback()
        self._when_attached.clear()

    def owns_connection(self, client: Address, server: Address) -> bool | None:
        """Whether one of the environment's own processes has made a connection; None while there is no sandbox."""
        return self._sandbox.owns(client, server) if self._sandbox is not None else None

    def when_attached(self, callback: Callable[[], None]) -> None:
        """`callback` is called when there is a sandbox, which may be never."""
        self._when_attached.append(callback)

    def launch_failed(self, detail: str) -> None:
        """There is no sandbox: the initialization, or the invocation that includes it, ends with this."""
        self._launch_failure = detail
        if self._running is not None:
            error = invocations.invalid_entrypoint(self._running.invocation.request_id, detail)
            self._fail_init(error.outcome(), error.message)

    async def initialize(self) -> None:
        """Wait for the first `next`. Raises InitFailed after an error, an exit, or ten seconds.

        https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib
        """
        deadline = self._loop.call_later(quotas.INIT_TIMEOUT_MS / 1000, self._init_timed_out)
        try:
            if self._launch_failure is not None:
                self._fail_init(invocations.invalid_entrypoint("", self._launch_failure).outcome())
            await asyncio.shield(self._ready)
        except InitFailed:
            await self.stop()
            raise
        finally:
            deadline.cancel()

    def _init_timed_out(self) -> None:
        self._fail_init(PlatformError("Sandbox.Timedout", "Initialization timed out").outcome())

    def _fail_init(self, outcome: Outcome, exit_message: str = "") -> None:
        """An initialization ends badly; within an invocation, that ends with it.

        `exit_message` is for the log of the invocation whose runtime has ended.
        """
        self.log.drain()
        status = "timeout" if outcome.error_type == "Sandbox.Timedout" else "error"
        error_type = None if status == "timeout" else outcome.error_type
        running = self._running
        phase = "init" if running is None else "invoke"
        self.log.init_report(self._since_start_ms(), phase, status, error_type)
        if not self._ready.done():
            self._ready.set_exception(InitFailed(outcome))
            self._ready.exception()  # an environment that starts within an invocation has nobody waiting for it
        if running is not None:
            self.log.start(running)
            if exit_message:
                self.log.failed(exit_message, str(outcome.error_type))
            self._finish(outcome)
            self.begin_stop()

    # Invoking

    def invoke(
        self, invocation: Invocation, finish: Callable[[Outcome], None], stream: ResponseChunks | None = None
    ) -> None:
        """Give the environment an event; `finish` is called with the outcome, from within the runtime's own call.

        An environment that is still starting takes it too: its initialization then counts as part of the invocation.
        """
        now = self._clock.monotonic()
        timeout_s = self.version.timeout_s
        running = Running(
            invocation,
            started=now,
            deadline_ms=int((self._clock.time() + timeout_s) * 1000),
            finish=finish,
            stream=stream,
            first=self.log.usage.invocations == 0 and self.state is State.IDLE,
        )
        running.timeout = self._loop.call_later(timeout_s, self._timed_out, running)
        self._running = running
        self.log.usage.invocations += 1
        if invocation.tail_log:
            self.log.tail_of = running
        if self.state is not State.STARTING:
            self.log.start(running)
            self._assign(running)

    def _assign(self, running: Running) -> None:
        """Send the event; a runtime that has lost its connection gets it when it asks again."""
        if self.is_frozen:
            self.thaw()
        send = self._send
        if send is not None:
            self._send = None
            self.state = lifecycle.after(self.state, Event.ASSIGN)
            send(running)
            if running.invocation.begun is not None:
                running.invocation.begun()

    # The Runtime API

    def next(self, send: Callable[[Running], None]) -> None:
        """The runtime asks for an event; `send` will be called with it. Raises IllegalTransition."""
        if self._sandbox is None and self.state is State.STARTING:
            # A quick runtime is here before we have been told that it was started; its output cannot be read yet.
            self._send, self._early = send, self._first_next
            return
        asks_again = self.state is State.IDLE
        self.state = lifecycle.after(self.state, Event.NEXT)
        self._send = send
        is_first = not self._ready.done()
        if is_first:
            self.log.usage.initialized_ms = self._since_start_ms()
            self._ready.set_result(None)
            # Twice around the loop: whoever waits for the environment sends its event first.
            self._loop.call_soon(self._loop.call_soon, self._initialized)
        running = self._running
        if running is not None and running.answered:
            self._forget(running)
        elif running is not None:
            if is_first:
                self.log.start(running)
            self._assign(running)
            return
        if asks_again:
            return
        self.idle_since = self._clock.monotonic()
        if self.retired:
            self.begin_stop()
        else:
            self._on_idle(self)

    def _initialized(self) -> None:
        if self._sandbox is not None:
            self._sandbox.initialized()
        self.log.measure()

    def _first_next(self) -> None:
        if self._send is not None:
            self.next(self._send)

    @property
    def is_waiting(self) -> bool:
        """Whether it has nothing to run; one that has lost its runtime's connection may be idle and have an event."""
        return self.state is State.IDLE and self._running is None

    def freeze(self) -> None:
        """Stop its processes if it is idle: what a function has left running goes on with its next invocation."""
        if self.is_waiting and self._sandbox is not None and not self.is_frozen:
            self.is_frozen = True
            self._sandbox.freeze()

    def thaw(self) -> None:
        """Let its processes go on."""
        if self.is_frozen and self._sandbox is not None:
            self.is_frozen = False
            self._sandbox.thaw()

    def lost_runtime(self, send: Callable[[Running], None]) -> None:
        """The connection on which `send` would write is gone."""
        if self._send == send:
            self._send = None

    def respond(self, request_id: str, payload: bytes, content_type: str) -> None:
        """The function's answer. Raises StaleRequest or IllegalTransition."""
        self._answer(request_id, Event.RESPONSE, Outcome(payload, None, content_type))

    def reject_response(self, request_id: str) -> None:
        """The function's answer was too large. Raises StaleRequest or IllegalTransition."""
        self._answer(request_id, Event.RESPONSE, invocations.response_too_large().outcome())

    def fail(self, request_id: str, payload: bytes, error_type: str) -> None:
        """The function's error. Raises StaleRequest or IllegalTransition."""
        self._answer(request_id, Event.ERROR, Outcome(payload, error_type))

    def begin_response(self, request_id: str, content_type: str, hold: Callable[[bool], None]) -> ResponseChunks:
        """The function begins to stream its answer. Raises StaleRequest or IllegalTransition.

        `hold` stops and resumes the runtime's sending. A caller that wants no stream gets the parts in one at the end.
        """
        running = self._current(request_id)
        self.state = lifecycle.after(self.state, Event.RESPONSE_BEGINS)
        if running.stream is not None:
            running.stream.begin(content_type, hold)
            return running.stream
        running.collected = ResponseChunks(quotas.RESPONSE_BYTES)
        running.collected.begin(content_type, lambda _: None)
        return running.collected

    def end_response(self, request_id: str, error: Outcome | None) -> None:
        """The streamed answer is complete, or broke off with `error`. Raises StaleRequest or IllegalTransition."""
        running = self._current(request_id)
        chunks = running.stream or running.collected
        if error is not None or chunks is None:
            self._answer(request_id, Event.ERROR, error or Outcome(b""))
        elif chunks.is_too_large:
            self._answer(request_id, Event.RESPONSE, invocations.response_too_large(chunks.limit).outcome())
        else:
            payload = chunks.join() if running.stream is None else b""
            self._answer(request_id, Event.RESPONSE, Outcome(payload, None, chunks.content_type))

    def init_failed(self, payload: bytes, error_type: str) -> None:
        """The runtime could not initialize. Raises IllegalTransition."""
        if self._sandbox is None and self.state is State.STARTING:
            self._early = lambda: self.init_failed(payload, error_type)
            return
        self.state = lifecycle.after(self.state, Event.INIT_ERROR)
        self._fail_init(Outcome(payload, error_type))

    def _current(self, request_id: str) -> Running:
        running = self._running
        if running is None or running.invocation.request_id != request_id:
            raise StaleRequest(request_id)
        return running

    def _answer(self, request_id: str, event: Event, outcome: Outcome) -> None:
        self._current(request_id)
        self.state = lifecycle.after(self.state, event)
        self._finish(outcome)

    # Ends of an invocation

    def _finish(self, outcome: Outcome) -> None:
        running = self._running
        if running is None or running.answered:
            return
        duration_ms = (self._clock.monotonic() - running.started) * 1000
        if outcome.error_type == "Sandbox.Timedout":
            duration_ms = self.version.timeout_s * 1000.0
        outcome.duration_ms = duration_ms
        running.answered = True
        if running.stream is not None:
            running.stream.end()
        if not running.invocation.tail_log:
            running.finish(outcome)  # the caller first: what follows is for the log
        self.log.drain()
        self.log.flush()
        if self.state is not State.ANSWERED:
            self.log.measure()  # its process ends now, and takes with it what REPORT says of it
        self.log.report(running, outcome, duration_ms)
        if running.invocation.tail_log:
            outcome.log_tail = running.log_tail()
            running.finish(outcome)
        if self.state is not State.ANSWERED:
            self._forget(running)

    def _forget(self, running: Running) -> None:
        if running.timeout is not None:
            running.timeout.cancel()
        self._running = None
        self.log.tail_of = None

    def _timed_out(self, running: Running) -> None:
        if self._running is not running:
            return
        if not running.answered:
            outcome = invocations.timed_out(running.invocation.request_id, self.version.timeout_s).outcome()
            if self._ready.done():
                self._finish(outcome)
            else:
                self._fail_init(outcome)
        self.begin_stop()

    async def _watch(self, sandbox: Sandbox) -> None:
        """Wait for the process to end, and answer for it if it owes an answer."""
        status = await sandbox.wait()
        self.log.drain()
        self._exited(status)
        self.begin_stop()
        self.log.detach()
        await sandbox.kill()
        self.log.finish()
        sandbox.close()
        self.state = lifecycle.after(self.state, Event.EXIT)
        self.ended.set_result(None)
        self._on_end(self)

    def _exited(self, status: ExitStatus) -> None:
        running = self._running
        is_running = running is not None and not running.answered
        error = invocations.exited(running.invocation.request_id if running is not None else "", status)
        if not self._ready.done():
            self._fail_init(error.outcome(), error.message)
        elif is_running:
            self.log.finish()
            self.log.failed(error.message, error.error_type)
            self._finish(error.outcome())

    # Stopping

    def begin_stop(self) -> None:
        """End the environment; what it is running is answered as killed."""
        if self._ending is None and self.state is not State.DEAD:
            self.is_frozen = False  # the sandbox sees to it that it can end
            self.state = lifecycle.after(self.state, Event.STOP)
            self._ending = self._loop.create_task(self._stop())

    async def stop(self) -> None:
        """The same, returning when it is gone."""
        self.begin_stop()
        if self._ending is not None:
            await asyncio.shield(self._ending)

    async def _stop(self) -> None:
        if self._sandbox is None:
            self.state = lifecycle.after(self.state, Event.EXIT)
            self.ended.set_result(None)
            self._on_end(self)
            return
        await self._sandbox.kill()
        await self.ended

    def _since_start_ms(self) -> float:
        return (self._clock.monotonic() - self._started) * 1000

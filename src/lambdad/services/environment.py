"""One execution environment: a sandbox with a runtime in it, from its start to its end, one event at a time.

It is driven from three sides, all on the event loop: the pool assigns invocations, the runtime calls the Runtime API
(`next`, `response`, `error`, `init_error`), and the sandbox exits. Every step goes through the table in
`lambdad.domain.lifecycle`.

With extensions, an initialization and an invocation end when the runtime and all of them have asked for the next event.
The caller has the answer as soon as the runtime has given it.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html#runtimes-lifecycle-invoke
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from lambdad.domain import extensions, invocations, lifecycle, quotas
from lambdad.domain.environment_variables import ON_DEMAND, PROVISIONED
from lambdad.domain.errors import LambdadError
from lambdad.domain.extensions import ShutdownReason
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import ExitStatus, ExtensionsTime, Invocation, Outcome, PlatformError
from lambdad.domain.lifecycle import Event, State
from lambdad.ports.clock import Clock
from lambdad.services.environment_log import EnvironmentLog, LogSink
from lambdad.services.running import ResponseChunks, Running
from lambdad.services.sandboxed import Sandboxed


class StaleRequest(LambdadError):
    """The runtime answered a request that is not the one it has."""


class InitFailed(LambdadError):
    """The environment did not come to its first `next`. `outcome` is what an invocation of it would answer."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error_type)
        self.outcome = outcome


class Environment(Sandboxed):
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
        external_extensions: Sequence[str] = (),
    ) -> None:
        super().__init__(clock, EnvironmentLog(version, clock, log, initialization_type), external_extensions)
        self.version = version
        self.initialization_type = initialization_type
        self.log_stream = log_stream
        self.retired = False
        """Its owner's: it is to end when it is idle and nobody waits for it."""
        self.idle_since = 0.0
        self._on_idle = on_idle
        self._on_end = on_end
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._launch_failure: PlatformError | None = None
        self._running: Running | None = None
        self._send: Callable[[Running], None] | None = None
        self._early: Callable[[], None] | None = None
        self._started = clock.monotonic()

    # Starting

    def _attached(self) -> None:
        early, self._early = self._early, None
        if early is not None:
            early()

    def launch_failed(self, detail: str, error_type: str = invocations.INVALID_ENTRYPOINT) -> None:
        """There is no sandbox: the initialization, or the invocation that includes it, ends with this."""
        error = self._launch_failure = invocations.failed(self._request_id, error_type, detail)
        if self._running is not None:
            self._fail_init(error.outcome(), error.message)

    @property
    def _request_id(self) -> str:
        return self._running.invocation.request_id if self._running is not None else ""

    def _runtime_failed(self, detail: str) -> None:
        self._fail(invocations.failed(self._request_id, invocations.INVALID_ENTRYPOINT, detail))

    async def initialize(self) -> None:
        """Wait until it can take an invocation. Raises InitFailed after an error, an exit, or ten seconds.

        https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib
        """
        deadline = self._loop.call_later(self._init_timeout_s(), self._init_timed_out)
        try:
            if self._launch_failure is not None:
                self._fail_init(self._launch_failure.outcome())
            await asyncio.shield(self._ready)
        except InitFailed as failed:
            self.begin_stop(_reason_of(failed.outcome))
            if self._shutdown is None:
                await self.stop()
            raise
        finally:
            deadline.cancel()

    def _init_timeout_s(self) -> float:
        if self.initialization_type == PROVISIONED:
            return max(quotas.PROVISIONED_INIT_TIMEOUT_S_MIN, self.version.timeout_s)
        return quotas.INIT_TIMEOUT_MS / 1000

    def _init_timed_out(self) -> None:
        self._fail_init(PlatformError("Sandbox.Timedout", "Initialization timed out").outcome())

    def _fail_init(self, outcome: Outcome, exit_message: str = "") -> None:
        """An initialization ends badly; within an invocation, that ends with it.

        `exit_message` is for the log of the invocation whose runtime has ended.
        """
        self.log.drain()
        status = "timeout" if outcome.error_type == "Sandbox.Timedout" else "error"
        error_type = None if status == "timeout" else outcome.reported_type
        running = self._running
        phase = "init" if running is None else "invoke"
        if self._has_runtime and self.state is not State.SETTLING:
            self.log.init_runtime_done(status, error_type)
        self._tell_of_extensions()
        self.log.init_report(self._since_start_ms(), phase, status, error_type)
        if not self._ready.done():
            self._ready.set_exception(InitFailed(outcome))
            self._ready.exception()  # an environment that starts within an invocation has nobody waiting for it
        if running is not None:
            self.log.start(running)
            if exit_message:
                self.log.failed(exit_message, str(outcome.error_type))
            self._finish(outcome)
            self.begin_stop(_reason_of(outcome))

    def _tell_of_extensions(self) -> None:
        """The initialization is over: the log says what has become of each extension."""
        self.extensions.is_registering = False
        for extension in self.extensions.all:
            self.log.extension_state(extension.name, extension.state, extension.events, extension.error_type)

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
            if self.extensions.any:
                self.extensions.invoke(extensions.invoke_event(running.invocation, running.deadline_ms))
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
        is_ahead = bool(self.extensions.busy) and not asks_again
        if self.state is State.STARTING:
            self.log.init_runtime_done("success")
        elif self.extensions.any:
            self._runtime_is_done()
        self.state = lifecycle.after(self.state, Event.NEXT_AHEAD if is_ahead else Event.NEXT)
        self._send = send
        if not is_ahead:
            self._settled(asks_again)

    def _runtime_is_done(self) -> None:
        """The runtime asks for an event while there are extensions, which may have more to do than it."""
        running = self._running
        if self.state is State.ANSWERED and running is not None and running.outcome is not None:
            running.runtime_done = self._clock.monotonic()
            self.log.drain()
            self.log.flush()
            self.log.runtime_done(running, running.outcome, self._taken_ms(running))

    def _extensions_ready(self) -> None:
        if self.state is State.SETTLING:
            self.state = lifecycle.after(self.state, Event.EXTENSIONS_NEXT)
            self._settled(asks_again=False)

    def _settled(self, asks_again: bool) -> None:
        """The runtime and all extensions have asked for the next event."""
        is_first = not self._ready.done()
        if is_first:
            self._begin_life()
        running = self._running
        if running is not None and running.answered:
            if not running.reported:
                self._extensions_are_done(running)
            self._forget(running)
        elif running is not None:
            if is_first:
                self.log.start(running)
            self._assign(running)
            return
        if asks_again:
            return
        self.idle_since = self._clock.monotonic()
        self._on_idle(self)

    def _extensions_are_done(self, running: Running) -> None:
        """An invocation that was answered is over."""
        if running.outcome is None:
            return
        self._report(running, running.outcome, self._taken_ms(running))
        if running.outcome.extensions is not None and running.runtime_done is not None:
            running.outcome.extensions.over((self._clock.monotonic() - running.runtime_done) * 1000)

    def _begin_life(self) -> None:
        """The initialization has succeeded."""
        duration_ms = self.log.usage.initialized_ms = self._since_start_ms()
        self._tell_of_extensions()
        self.log.init_report(duration_ms, "init" if self._running is None else "invoke", "success", None)
        self.log.close_subscriptions()
        self._ready.set_result(None)
        # Twice around the loop: whoever waits for the environment sends its event first.
        self._loop.call_soon(self._loop.call_soon, self._initialized)

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
        running.response_began = self._clock.monotonic()
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
        self._fail_init(invocations.init_failure(payload, error_type))

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
        duration_ms = self._taken_ms(running)
        if outcome.error_type == "Sandbox.Timedout":
            duration_ms = self.version.timeout_s * 1000.0
        outcome.duration_ms = duration_ms
        running.answered = True
        running.outcome = outcome
        if self.extensions.any:
            outcome.extensions = ExtensionsTime()
        if running.stream is not None:
            running.stream.end()
        if not running.invocation.tail_log:
            running.finish(outcome)  # the caller first: what follows is for the log
        self.log.drain()
        self.log.flush()
        if self.extensions.any and self.state is State.ANSWERED:
            return  # REPORT is of what extensions take, too
        self.log.runtime_done(running, outcome, duration_ms)
        self._report(running, outcome, duration_ms)
        if self.state is not State.ANSWERED:
            self._forget(running)

    def _report(self, running: Running, outcome: Outcome, duration_ms: float) -> None:
        """The invocation is over, with this in the log; the caller may have been answered with something else."""
        running.reported = True
        if self.state not in (State.ANSWERED, State.IDLE):
            self.log.measure()  # its process ends now, and takes with it what REPORT says of it
        self.log.report(running, outcome, duration_ms)
        answer = running.outcome
        if running.invocation.tail_log and answer is not None:
            answer.log_tail = running.log_tail()
            running.finish(answer)

    def _taken_ms(self, running: Running) -> float:
        return (self._clock.monotonic() - running.started) * 1000

    def _fail_answered(self, running: Running, outcome: Outcome, duration_ms: float) -> None:
        """The caller has the answer, but what came after that fails: only the log tells of it."""
        if running.reported:
            return
        self.log.drain()
        if self.state is not State.SETTLING:
            self.log.runtime_done(running, outcome, duration_ms)
        self._report(running, outcome, duration_ms)

    def _forget(self, running: Running) -> None:
        if running.timeout is not None:
            running.timeout.cancel()
        self._running = None
        self.log.tail_of = None

    def _timed_out(self, running: Running) -> None:
        if self._running is not running:
            return
        outcome = invocations.timed_out(running.invocation.request_id, self.version.timeout_s).outcome()
        if running.answered:
            self._fail_answered(running, outcome, self.version.timeout_s * 1000.0)
        elif self._ready.done():
            self._finish(outcome)
        else:
            self._fail_init(outcome)
        self.begin_stop(ShutdownReason.TIMEOUT)

    def _exited(self, status: ExitStatus) -> None:
        running = self._running
        error = invocations.exited(self._request_id, status)
        if not self._ready.done():
            self._fail_init(error.outcome(), error.message)
        elif running is not None and not running.answered:
            self.log.finish()
            self.log.failed(error.message, error.error_type)
            self._finish(error.outcome())
        elif running is not None and running.outcome is not None:
            # One that we have ended had answered, and its extensions had not finished.
            outcome = running.outcome
            if self.state is not State.STOPPING:
                outcome = error.outcome()
                self.log.finish()
                self.log.failed(error.message, error.error_type)  # it was not done: it had not asked for the next event
            self._fail_answered(running, outcome, self._taken_ms(running))

    def _fail(self, error: PlatformError) -> None:
        running = self._running
        if not self._ready.done():
            self._fail_init(error.outcome(), error.message)
            return
        if running is not None:
            self.log.failed(error.message, error.error_type)
            if running.answered:
                self._fail_answered(running, error.outcome(), self._taken_ms(running))
            else:
                self._finish(error.outcome())
        self.begin_stop(ShutdownReason.FAILURE)

    def _gone(self) -> None:
        self._on_end(self)

    def _since_start_ms(self) -> float:
        return (self._clock.monotonic() - self._started) * 1000


def _reason_of(outcome: Outcome) -> ShutdownReason:
    return ShutdownReason.TIMEOUT if outcome.error_type == "Sandbox.Timedout" else ShutdownReason.FAILURE

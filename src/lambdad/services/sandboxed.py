"""The processes of one environment: from the launch of its sandbox until the last of them is gone."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

from lambdad.domain import extensions, lifecycle
from lambdad.domain.extensions import ShutdownReason
from lambdad.domain.invocations import ExitStatus, PlatformError
from lambdad.domain.lifecycle import Event, State
from lambdad.ports.clock import Clock
from lambdad.ports.sandbox import Address, Sandbox, SandboxFailed
from lambdad.services.environment_log import EnvironmentLog
from lambdad.services.extensions import Extension, Extensions, ExtensionsOwner

_KILLED_TOGETHER_S: Final = 0.5
"""When memory runs out everything is killed, in any order: then it is the end of the runtime that is told of."""


class Sandboxed(ABC):
    """A sandbox with a runtime and extensions in it. `ended` is done when all of them are gone.

    `external_extensions` are the names of the programs that start before the runtime.
    """

    def __init__(self, clock: Clock, log: EnvironmentLog, external_extensions: Sequence[str]) -> None:
        self.state = State.STARTING
        self.is_frozen = False
        self.log = log
        self.extensions = Extensions(
            external_extensions,
            ExtensionsOwner(self._start_when_registered, self._extensions_ready, self._extension_gave_up),
        )
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._sandbox: Sandbox | None = None
        self._when_attached: list[Callable[[], None]] = []
        self._starting: asyncio.Task[None] | None = None
        self._runtime_ended: asyncio.Future[None] = self._loop.create_future()
        self._shutdown: asyncio.Task[None] | None = None
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
        self._attached()
        for callback in self._when_attached:
            callback()
        self._when_attached.clear()
        if self.extensions.has_external:
            sandbox.when_extension_ends(self._extension_ended)
            self._start_when_registered()

    def owns_connection(self, client: Address, server: Address) -> bool | None:
        """Whether one of the environment's own processes has made a connection; None while there is no sandbox."""
        return self._sandbox.owns(client, server) if self._sandbox is not None else None

    def when_attached(self, callback: Callable[[], None]) -> None:
        """`callback` is called when there is a sandbox, which may be never."""
        self._when_attached.append(callback)

    @property
    def _has_runtime(self) -> bool:
        """Whether the runtime was started: external extensions come first."""
        return not self.extensions.has_external or self._starting is not None

    def _start_when_registered(self) -> None:
        """The runtime starts when all external extensions have registered, and the sandbox is there."""
        if self._sandbox is not None and not self._has_runtime and self.extensions.are_registered:
            self._starting = self._loop.create_task(self._start_runtime(self._sandbox))

    async def _start_runtime(self, sandbox: Sandbox) -> None:
        try:
            await sandbox.start_runtime()
        except SandboxFailed as failure:
            if self._ending is None:
                self._runtime_failed(str(failure))

    # Freezing

    @property
    @abstractmethod
    def is_waiting(self) -> bool:
        """Whether it has nothing to run."""

    def freeze(self) -> None:
        """Stop its processes if it is idle: what a function has left running goes on with its next invocation."""
        if self.is_waiting and self._sandbox is not None and not self.is_frozen:
            self.is_frozen = True
            self.log.freeze()
            self._sandbox.freeze()

    def thaw(self) -> None:
        """Let its processes go on."""
        if self.is_frozen and self._sandbox is not None:
            self.is_frozen = False
            self._sandbox.thaw()
            self.log.thaw()

    # Ends of processes

    async def _watch(self, sandbox: Sandbox) -> None:
        """Wait for the runtime to end. Everything else ends with it."""
        status = await sandbox.wait()
        self.log.drain()
        self._runtime_ended.set_result(None)
        self._exited(status)
        self.begin_stop(ShutdownReason.FAILURE)
        if self._shutdown is not None:
            await asyncio.wait((self._shutdown,))
        self.log.detach()
        await sandbox.kill()
        self.log.finish()
        sandbox.close()
        self._is_dead()

    def _extension_ended(self, name: str, status: ExitStatus) -> None:
        """None of them may end before it is told to: the environment ends with it."""
        extension = self.extensions.ended(name)
        if status.signal == "killed":
            self._loop.call_later(_KILLED_TOGETHER_S, self._extension_failed, extension, status)
        else:
            self._extension_failed(extension, status)

    def _extension_failed(self, extension: Extension, status: ExitStatus) -> None:
        if self._ending is None:
            error = extensions.ended(self._request_id, extension.state, status)
            extension.error_type = extension.error_type or error.error_type
            self._fail(error)

    def _extension_gave_up(self, extension: Extension) -> None:
        if self._ending is None:
            self._fail(extensions.gave_up(self._request_id, extension.state, extension.error_type or ""))

    # Stopping

    def begin_stop(self, reason: ShutdownReason = ShutdownReason.SPINDOWN) -> None:
        """End the environment; what it is running is answered as killed.

        Extensions are told before, and have two seconds in which the environment is still there.
        """
        if self._ending is not None or self.state is State.DEAD:
            return
        self.extensions.is_registering = False
        if self._sandbox is not None and self.extensions.any:
            self.thaw()
            self._shutdown = self._loop.create_task(self._shut_down(self._sandbox, reason))
        self.is_frozen = False  # the sandbox sees to it that it can end
        self.state = lifecycle.after(self.state, Event.STOP)
        self._ending = self._loop.create_task(self._stop())

    async def _shut_down(self, sandbox: Sandbox, reason: ShutdownReason) -> None:
        """What telemetry there is goes out meanwhile, for as long as there is somebody who may read it."""
        flush = self._loop.create_task(self.log.flush_telemetry(extensions.SHUTDOWN_MS / 1000))
        try:
            runtime_ended = self._runtime_ended if self._has_runtime else None
            await self.extensions.shut_down(reason, self._clock, sandbox, runtime_ended, flush)
            if self.extensions.any_left:
                await flush
        finally:
            flush.cancel()

    async def stop(self) -> None:
        """The same, returning when it is gone."""
        self.begin_stop()
        if self._ending is not None:
            await asyncio.shield(self._ending)

    def kill(self) -> None:
        """End the environment at once, whatever its extensions have yet to do."""
        self.begin_stop()
        if self._shutdown is not None:
            self._shutdown.cancel()

    async def _stop(self) -> None:
        if self._sandbox is None:
            self._is_dead()
            return
        if self._shutdown is not None:
            await asyncio.wait((self._shutdown,))
        await self._sandbox.kill()
        await self.ended

    def _is_dead(self) -> None:
        self.state = lifecycle.after(self.state, Event.EXIT)
        self.ended.set_result(None)
        self._gone()

    # What becomes of the initialization, or the invocation

    @property
    @abstractmethod
    def _request_id(self) -> str:
        """The invocation that an error is reported to, or nothing while there is none."""

    @abstractmethod
    def _attached(self) -> None:
        """There is a sandbox from now on."""

    @abstractmethod
    def _extensions_ready(self) -> None:
        """The last extension that was busy has asked for the next event; the runtime may have done so before."""

    @abstractmethod
    def _runtime_failed(self, detail: str) -> None:
        """The runtime could not be started when its extensions were there."""

    @abstractmethod
    def _fail(self, error: PlatformError) -> None:
        """An extension has failed: what is being done ends with this, and the environment too."""

    @abstractmethod
    def _exited(self, status: ExitStatus) -> None:
        """The runtime's process has ended: answer for it if it owes an answer."""

    @abstractmethod
    def _gone(self) -> None:
        """Nothing is left of it."""

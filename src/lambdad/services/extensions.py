"""The extensions of one environment: who has registered, who is still busy, and what they are told.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lambdad.domain import extensions
from lambdad.domain.errors import IllegalTransition, LambdadError
from lambdad.domain.extensions import EventType, ExtensionState, ShutdownReason
from lambdad.ports.clock import Clock
from lambdad.ports.sandbox import Sandbox

Send = Callable[[bytes], None]
"""Answers an extension's outstanding `next` with an event."""


class ExtensionRefused(LambdadError):
    """A call of an extension that Lambda answers with a 403. `error_type` is Lambda's name for the reason."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


@dataclass(slots=True, eq=False)
class Extension:
    """One extension. `error_type` is what it has said of its own failure."""

    name: str
    is_external: bool
    state: ExtensionState = ExtensionState.STARTED
    identifier: str = field(default_factory=lambda: str(uuid.uuid4()))
    events: tuple[EventType, ...] = ()
    error_type: str | None = None
    send: Send | None = None
    untold: bytes | None = None
    """An event for one that has lost its connection."""
    has_ended: bool = False

    def enter(self, state: ExtensionState) -> None:
        """Raises ExtensionRefused."""
        try:
            self.state = extensions.enter(self.state, state)
        except IllegalTransition:
            raise ExtensionRefused(
                "Extension.InvalidExtensionState",
                f"State transition from {self.state} to {state} failed for extension {self.name}. "
                "Error: State transition is not allowed",
            ) from None

    def tell(self, event: bytes) -> None:
        """Answer its `next`, now or when it asks again."""
        send, self.send = self.send, None
        if send is not None:
            send(event)
        else:
            self.untold = event


@dataclass(frozen=True, slots=True)
class ExtensionsOwner:
    """What an environment is told of its extensions.

    `registered`: all external ones are there, the runtime can start. `ready`: the last one that was busy has asked for
    the next event. `failed`: one that has no process of its own to end says that it has failed.
    """

    registered: Callable[[], None]
    ready: Callable[[], None]
    failed: Callable[[Extension], None]


class Extensions:
    """See the module. `names` are those of the external ones.

    `any` says whether one has registered, and `busy` who has yet to ask for the next event: both are looked at on
    every invocation.
    """

    def __init__(self, names: Sequence[str], owner: ExtensionsOwner) -> None:
        self.any = False
        self.busy: set[Extension] = set()
        self.is_registering = True
        self._owner = owner
        self._external = {name: Extension(name, is_external=True) for name in names}
        self._internal: dict[str, Extension] = {}
        self._registered: dict[str, Extension] = {}
        self._shutdown: bytes | None = None
        self._all_gone: asyncio.Future[None] | None = None

    # Who there is

    @property
    def names(self) -> tuple[str, ...]:
        """Of the external ones."""
        return tuple(self._external)

    @property
    def has_external(self) -> bool:
        return bool(self._external)

    @property
    def any_left(self) -> bool:
        """Whether one that has a process of its own still has it."""
        return any(not extension.has_ended for extension in self._external.values())

    @property
    def are_registered(self) -> bool:
        """Whether every external one has registered."""
        return all(extension.state is not ExtensionState.STARTED for extension in self._external.values())

    @property
    def all(self) -> Sequence[Extension]:
        """Those that were started or have registered."""
        return [*self._external.values(), *self._internal.values()]

    def find(self, identifier: str) -> Extension | None:
        """The extension that was given this identifier when it registered."""
        return self._registered.get(identifier)

    # What they call

    def register(self, name: str, events: Sequence[str]) -> Extension:
        """An extension is there and wants to be told of these events. Raises ExtensionRefused."""
        extension = self._external.get(name)
        types = tuple(_event_type(event, is_external=extension is not None) for event in events)
        if extension is None:
            extension = self._new_internal(name)
        elif not self.is_registering and extension.state is ExtensionState.STARTED:
            raise _closed()
        extension.enter(ExtensionState.REGISTERED)
        extension.events = types
        self._registered[extension.identifier] = extension
        self.busy.add(extension)
        self.any = True
        if extension.is_external and self.are_registered:
            self._owner.registered()
        return extension

    def _new_internal(self, name: str) -> Extension:
        if not self.is_registering:
            raise _closed()
        if name in self._internal:
            raise ExtensionRefused("Extension.InvalidExtensionState", "Extension with this name already registered")
        if len(self._external) + len(self._internal) >= extensions.MOST:
            raise ExtensionRefused(extensions.TOO_MANY, extensions.LIMIT_REACHED)
        extension = self._internal[name] = Extension(name, is_external=False)
        return extension

    def next(self, extension: Extension, send: Send) -> None:
        """An extension is done, and asks for the next event; `send` will be called with it. Raises ExtensionRefused."""
        if extension.untold is not None:
            event, extension.untold = extension.untold, None
            send(event)
            return
        if self._shutdown is not None:
            extension.send = send  # it has been told; all that it can do is to end
            return
        extension.enter(ExtensionState.READY)
        extension.send = send
        if extension in self.busy:
            self.busy.discard(extension)
            if not self.busy:
                self._owner.ready()

    def lost(self, send: Send) -> None:
        """The connection on which `send` would write is gone."""
        for extension in self._registered.values():
            if extension.send == send:
                extension.send = None

    def fail(self, extension: Extension, state: ExtensionState, error_type: str) -> None:
        """An extension says that it has failed, and should exit: `state` is INIT_ERROR or EXIT_ERROR.

        An external one is waited for: how it ends is a part of the error. Raises ExtensionRefused.
        """
        extension.enter(state)
        extension.error_type = error_type
        self.busy.add(extension)
        if not extension.is_external:
            self._owner.failed(extension)

    def ended(self, name: str) -> Extension:
        """The process of an external extension has ended."""
        extension = self._external[name]
        extension.has_ended = True
        if self._all_gone is not None and not self._all_gone.done() and not self._awaited():
            self._all_gone.set_result(None)
        return extension

    # What they are told

    def invoke(self, event: bytes) -> None:
        """Tell those that want to know of an invocation; they are busy until they ask again."""
        for extension in self._registered.values():
            if EventType.INVOKE in extension.events and extension.state is ExtensionState.READY:
                extension.state = ExtensionState.RUNNING
                self.busy.add(extension)
                extension.tell(event)

    async def shut_down(
        self,
        reason: ShutdownReason,
        clock: Clock,
        sandbox: Sandbox,
        runtime_ended: asyncio.Future[None] | None,
        flushed: asyncio.Future[None],
    ) -> None:
        """End the runtime, then let external extensions end. What is left after their time is the caller's to kill.

        `runtime_ended` is None where no runtime was started. `flushed` is done when all telemetry has been sent: that
        comes first, within the runtime's time, as who is told to end may do so at once.

        https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html#runtimes-lifecycle-shutdown
        """
        self.is_registering = False
        began = clock.monotonic()
        runtime_ms = extensions.INTERNAL_SHUTDOWN_MS if self._internal else extensions.RUNTIME_SHUTDOWN_MS
        limit_ms = extensions.SHUTDOWN_MS if self._external else runtime_ms
        deadline_ms = int(clock.time() * 1000) + limit_ms
        if runtime_ended is not None and not runtime_ended.done():
            sandbox.terminate_runtime()
            await asyncio.wait((runtime_ended,), timeout=runtime_ms / 1000)
        await asyncio.wait((flushed,), timeout=max(runtime_ms / 1000 - (clock.monotonic() - began), 0.0))
        self._shutdown = extensions.shutdown_event(reason, deadline_ms)
        told = self._awaited()
        if not told:
            return
        self._all_gone = asyncio.get_running_loop().create_future()
        for extension in told:
            extension.tell(self._shutdown)
        left_s = limit_ms / 1000 - (clock.monotonic() - began)
        await asyncio.wait((self._all_gone,), timeout=max(left_s, 0.0))

    def _awaited(self) -> Sequence[Extension]:
        """Those that are told of the shutdown and have not ended yet; others need not be waited for."""
        return [
            extension
            for extension in self._registered.values()
            if extension.is_external and EventType.SHUTDOWN in extension.events and not extension.has_ended
        ]


def _event_type(event: str, *, is_external: bool) -> EventType:
    """Raises ExtensionRefused."""
    try:
        found = EventType(event)
    except ValueError:
        raise ExtensionRefused("Extension.InvalidEventType", f"{event}: ErrorInvalidEventType") from None
    if found is EventType.SHUTDOWN and not is_external:
        raise ExtensionRefused("Extension.InvalidEventType", f"{event}: ShutdownEventNotSupportedForInternalExtension")
    return found


def _closed() -> ExtensionRefused:
    return ExtensionRefused("Extension.RegistrationClosed", "Extension registration closed already")

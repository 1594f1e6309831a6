"""The daemon's side of the extensions of an isolated sandbox: what their keeper tells, and what they write."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack

from lambdad.adapters.exit_statuses import exit_status
from lambdad.adapters.extension_ends import ExtensionEnds, not_executed
from lambdad.adapters.sandboxes.channel import Channel, Message
from lambdad.adapters.sandboxes.failures import failure_of
from lambdad.adapters.sandboxes.launcher import START_TIMEOUT_S, Launcher
from lambdad.adapters.sandboxes.limits import Limits
from lambdad.ports.sandbox import SandboxFailed, SandboxSpec
from lambdad_sandbox import wire


class Extensions:
    """The extensions of one sandbox, started by a keeper in it (`lambdad_sandbox.extensions`)."""

    def __init__(
        self, spec: SandboxSpec, pidfd: int, limits: Limits, user_id: int | None, own_network: bool, launcher: Launcher
    ) -> None:
        """Have them started in the sandbox of the process that `pidfd` is. Raises OSError."""
        self.ends = ExtensionEnds(spec.extensions)
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        message: Message = {
            "do": "extend",
            "names": list(spec.extensions),
            "environment": dict(spec.extension_environment),
            "user_id": user_id,
            "own_network": own_network,
        }
        with ExitStack() as undo, ExitStack() as sent:
            self.output_fd, output = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, self.output_fd)
            sent.callback(os.close, output)
            os.set_blocking(self.output_fd, False)
            self._channel = Channel(self._received, self._hung_up)
            undo.callback(self._channel.close)
            entries = limits.entries()
            sent.callback(wire.close_all, entries)
            launcher.send(message, [pidfd, output, *entries, self._channel.remote.fileno()])
            undo.pop_all()
        self._channel.remote.close()

    async def started(self) -> None:
        """Wait until each has been started. Raises SandboxFailed."""
        try:
            await asyncio.wait_for(asyncio.shield(self._started), START_TIMEOUT_S)
        except TimeoutError:
            raise SandboxFailed("the process that starts extensions does not answer") from None

    def _received(self, message: Message, descriptors: list[int]) -> None:
        wire.close_all(descriptors)
        if "started" in message:
            self._settle(None)
        elif "failed" in message:
            self._settle(failure_of(message))
        elif "problem" in message:
            self.ends.ended(message["extension"], not_executed(message["extension"], message["problem"]))
        else:
            self.ends.ended(message["extension"], exit_status(message["status"]))

    def _settle(self, failure: SandboxFailed | None) -> None:
        if self._started.done():
            return
        if failure is None:
            self._started.set_result(None)
        else:
            self._started.set_exception(failure)
            self._started.exception()

    def _hung_up(self) -> None:
        """The keeper has ended: all extensions have, or somebody in the sandbox has killed it."""
        self._settle(SandboxFailed("the sandbox has ended"))
        self.ends.all_killed()

    def end(self) -> None:
        """Take what the keeper has said last: the sandbox is no more."""
        if self._channel.is_open:
            self._channel.read()
            self._channel.close()
            self._hung_up()

    def close(self) -> None:
        """Let go of `output_fd`."""
        if self.output_fd >= 0:
            os.close(self.output_fd)
            self.output_fd = -1

"""The daemon's side of the launcher: the process that prepares roots and starts what lives in them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lambdad.adapters.sandboxes.channel import Channel, Message
from lambdad.adapters.sandboxes.failures import failure, failure_of
from lambdad.adapters.sandboxes.root_plan import SANDBOX_PACKAGE, RootPlan
from lambdad.ports.sandbox import SandboxFailed
from lambdad_sandbox import wire

START_TIMEOUT_S: Final = 20.0


class Answer:
    """A channel for one answer: the first message, or that there will be none."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[Message, list[int]]] = asyncio.get_running_loop().create_future()
        self.channel = Channel(self._received, self._ended)

    def _received(self, message: Message, descriptors: list[int]) -> None:
        if self._answer.done():
            wire.close_all(descriptors)
        elif "failed" in message:
            self._answer.set_exception(failure_of(message))
        else:
            self._answer.set_result((message, descriptors))

    def _ended(self) -> None:
        if not self._answer.done():
            self._answer.set_exception(SandboxFailed("the process that makes sandboxes has ended"))

    async def take(self) -> tuple[Message, list[int]]:
        """The answer. Raises SandboxFailed when it is that something failed, or nobody is left to give one."""
        self.channel.remote.close()
        try:
            return await asyncio.wait_for(asyncio.shield(self._answer), START_TIMEOUT_S)
        except TimeoutError:
            raise SandboxFailed("the process that makes sandboxes does not answer") from None


class Launcher:
    """One launcher process."""

    def __init__(self, hidden: Sequence[Path] = ()) -> None:
        """`hidden`: directories of the host that no root shows, not even as a part of something that it does show."""
        self._hidden = [str(path) for path in hidden]
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Answer | None = None
        self._starting = asyncio.Lock()
        self._roots = 0
        self._freezer: str | None = None
        self.number = 0
        """Which process it is: roots are gone with the one that made them."""

    @property
    def is_alive(self) -> bool:
        return self._control is not None and self._control.channel.is_open

    async def start(self) -> None:
        """Start it, again if it has died. Raises SandboxFailed when this user may not do here what it must."""
        async with self._starting:
            if self.is_alive:
                return
            await self._bury()
            control: Answer | None = None
            try:
                control = Answer()
                self._spawn(control)
                await control.take()
            except BaseException as error:  # also when it is cancelled: a process half started is buried
                if control is not None:
                    control.channel.close()
                await self._bury()
                if isinstance(error, OSError):
                    raise failure(error) from error
                raise
            self._control = control
            self.number += 1
            self._tell_freezer()

    def thaw_at_end(self, freezer: str | None) -> None:
        """Have the groups below a directory thawed when the daemon is gone: who is frozen in them cannot die."""
        self._freezer = freezer
        self._tell_freezer()

    def _tell_freezer(self) -> None:
        if self._freezer is not None and self.is_alive:
            fd = os.open(self._freezer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.send({"do": "freezer"}, [fd])
            os.close(fd)

    def _spawn(self, control: Answer) -> None:
        fd = control.channel.remote.fileno()
        command = [sys.executable, "-I", "-S", str(SANDBOX_PACKAGE / "start.py"), "launcher", str(fd)]
        self._process = subprocess.Popen(
            command, env={}, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(fd,)
        )

    async def _bury(self) -> None:
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None

    def send(self, message: Message, descriptors: Sequence[int]) -> None:
        """Raises OSError for want of descriptors. Without a launcher whoever waits for an answer hears of it."""
        if self._control is not None and self._control.channel.is_open:
            self._control.channel.send(message, descriptors)

    async def add_root(self, plan: RootPlan) -> str:
        """Make a root; its name. Raises SandboxFailed and OSError."""
        self._roots += 1
        name = f"root{self._roots}"
        answer = Answer()
        try:
            self.send(
                {"do": "root", "name": name, "plan": {**plan.plan, "hidden": self._hidden}},
                [answer.channel.remote.fileno()],
            )
            await answer.take()
        finally:
            answer.channel.close()
        return name

    def forget_root(self, name: str) -> None:
        """Take a root away that nothing is made in any more."""
        if name:
            self.send({"do": "forget", "name": name}, [])

    async def close(self) -> None:
        """End it, and with it everything that it has started."""
        if self._control is not None:
            self._control.channel.close()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)


def start_zygote(
    launcher: Launcher, root: str, arguments: Sequence[str], environment: Mapping[str, Any], control: Channel
) -> None:
    """Have a zygote run in a root; it says on `control` when it is ready."""
    message = {"do": "zygote", "root": root, "arguments": list(arguments), "environment": dict(environment)}
    launcher.send(message, [control.remote.fileno()])
    control.remote.close()

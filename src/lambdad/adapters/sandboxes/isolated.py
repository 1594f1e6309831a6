"""A sandbox in namespaces and limits of its own: what the isolating drivers have in common.

It is made before there is a function for it, and given one later. Its first process is known by a pidfd: when that one
is killed, everything in it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from lambdad.adapters.connection_owner import listener_inode, socket_inode
from lambdad.adapters.exit_statuses import EXCEEDED_MEMORY
from lambdad.adapters.loopback import connected
from lambdad.adapters.process_tree import holds_socket, terminate_first_child
from lambdad.adapters.sandboxes.extensions import Extensions
from lambdad.adapters.sandboxes.launcher import Answer, Launcher
from lambdad.adapters.sandboxes.limits import Limits, Machine
from lambdad.domain.invocations import ExitStatus
from lambdad.ports.sandbox import Address, SandboxFailed, SandboxSpec


def listener_of(fd: int) -> socket.socket:
    """A listening socket that came from another process."""
    listener = socket.socket(fileno=fd)
    listener.setblocking(False)
    return listener


class IsolatedSandbox(ABC):
    """A `lambdad.ports.sandbox.Sandbox`; `is_alive` until its processes are gone."""

    def __init__(self, machine: Machine, launcher: Launcher, user_id: int | None, own_network: bool) -> None:
        """Make its pipe and its limits. Raises OSError when the machine has no more."""
        self._loop = asyncio.get_running_loop()
        self._launcher = launcher
        self._user_id = user_id
        self._own_network = own_network
        self._extensions: Extensions | None = None
        self._limits = Limits(machine, self._destroy)
        try:
            self.output_fd, self._output = os.pipe2(os.O_CLOEXEC)
        except OSError:
            self._limits.close()
            raise
        os.set_blocking(self.output_fd, False)
        self.listeners: Sequence[socket.socket] = ()
        self._pid = 0
        self._pidfd = -1
        self._made: asyncio.Future[None] = self._loop.create_future()
        self._status: asyncio.Future[ExitStatus] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._is_frozen = False
        self._is_doomed = False
        self._max_memory = 0

    # Making

    async def made(self) -> None:
        """Wait until it is there, waiting for a function. Raises SandboxFailed; it has cleaned up then."""
        try:
            await asyncio.shield(self._made)
        except BaseException:  # also when the caller is cancelled: nobody else would end the sandbox
            await self.discard()
            raise

    @abstractmethod
    async def assign(self, spec: SandboxSpec) -> None:
        """Give it its function. Raises SandboxFailed, and OSError when its limits cannot be set."""

    async def _extend(self, spec: SandboxSpec) -> None:
        """Have its extensions started, with the function in its place; the runtime waits for its variables."""
        self._require_alive()
        self._extensions = Extensions(spec, self._pidfd, self._limits, self._user_id, self._own_network, self._launcher)
        await self._extensions.started()

    @property
    def extension_output_fd(self) -> int:
        return -1 if self._extensions is None else self._extensions.output_fd

    def when_extension_ends(self, callback: Callable[[str, ExitStatus], None]) -> None:
        if self._extensions is not None:
            self._extensions.ends.listen(callback)

    def _require_alive(self) -> None:
        if not self.is_alive:
            raise SandboxFailed("the sandbox has ended")

    async def discard(self) -> None:
        """End a sandbox that has no function."""
        await self.kill()
        self.close()

    @property
    def is_alive(self) -> bool:
        return not self._gone.done() and not self._status.done()

    def _born(self, pid: int, pidfd: int) -> None:
        """The first process is there."""
        self._pid, self._pidfd = pid, pidfd
        if self._is_doomed:
            self._destroy()

    def _close_output(self) -> None:
        """Let go of our copy of what the function writes to, when it has its own."""
        if self._output >= 0:
            os.close(self._output)
            self._output = -1

    def _abandon(self) -> None:
        """There will be no process: let go of what `__init__` has made."""
        self._limits.close()
        self._close_output()
        self.close()

    def _fail(self, failed: SandboxFailed) -> None:
        """It could not be made, or not be given its function."""
        if not self._made.done():
            self._made.set_exception(failed)
            self._made.exception()

    # Ending

    def _ended(self, status: ExitStatus) -> None:
        """The runtime's process has ended."""
        self._limits.ended()
        if not self._status.done():
            self._status.set_result(EXCEEDED_MEMORY if self._limits.was_exceeded else status)

    def _died(self) -> None:
        """The first process has ended, and all others with it."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._read_last_words()
        self._ended(ExitStatus(signal="killed"))
        if self._extensions is not None:
            self._extensions.end()
        if not self._made.done():
            self._made.set_exception(SandboxFailed("the sandbox ended before it was ready"))
            self._made.exception()
        self._max_memory = self._limits.max_memory_bytes()
        self._limits.close()
        self._close_output()
        for listener in self.listeners:
            listener.close()
        if not self._gone.done():
            self._gone.set_result(None)

    @abstractmethod
    def _read_last_words(self) -> None:
        """Take what the sandbox has said of its end, and stop listening."""

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._status)

    async def kill(self) -> None:
        self._destroy()
        await asyncio.shield(self._gone)

    def _destroy(self) -> None:
        """Kill the first process; one that is only being made, as soon as it is known."""
        self._is_doomed = True
        self.thaw()
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._limits.lift_cpu()

    def close(self) -> None:
        if self.output_fd >= 0:
            os.close(self.output_fd)
            self.output_fd = -1
        if self._extensions is not None:
            self._extensions.close()

    # Running

    @abstractmethod
    async def start_runtime(self) -> None:
        """Send the runtime the variables that it waits for, where they have not been sent with the function."""

    def terminate_runtime(self) -> None:
        if self.is_alive:
            terminate_first_child(self._pid)

    async def connect(self, port: int) -> socket.socket:
        if self._gone.done():
            raise ConnectionRefusedError("the sandbox has ended")
        if self._own_network:
            connection = await self._socket_inside()
        else:
            # On the network of the machine somebody else may listen there: what is sent is for this sandbox alone.
            inode = listener_inode(port)
            if inode is None or not holds_socket(self._pid, inode):
                raise ConnectionRefusedError(f"nothing of the sandbox listens on port {port}")
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        return await connected(connection, port)

    async def _socket_inside(self) -> socket.socket:
        """A socket of its own network. Raises OSError."""
        answer = Answer()
        try:
            self._launcher.send({"do": "socket"}, [self._pidfd, answer.channel.remote.fileno()])
            _, descriptors = await answer.take()
        except SandboxFailed as failed:
            raise ConnectionRefusedError(str(failed)) from failed
        finally:
            answer.channel.close()
        return socket.socket(fileno=descriptors[0])

    def initialized(self) -> None:
        if self.is_alive and not self._is_doomed:
            self._limits.limit_cpu()

    def freeze(self) -> None:
        # One that is to die must run for it: its end could be due while it is idle, for memory.
        if not self._is_frozen and not self._is_doomed and self._pidfd >= 0:
            self._is_frozen = True
            self._limits.freeze()

    def thaw(self) -> None:
        if self._is_frozen:
            self._is_frozen = False
            self._limits.thaw()

    def owns(self, client: Address, server: Address) -> bool:
        inode = socket_inode(client, server)
        return inode is not None and holds_socket(self._pid, inode)

    def max_memory_bytes(self) -> int:
        if not self._gone.done():
            self._max_memory = self._limits.max_memory_bytes()
        return self._max_memory

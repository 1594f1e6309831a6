"""Sockets on which the daemon talks with the processes of `lambdad_sandbox`, on the event loop."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from lambdad_sandbox import wire

Message = dict[str, Any]
Receiver = Callable[[Message, list[int]], None]

_SEND_BUFFER_BYTES: Final = 4 * wire.MESSAGE_BYTES


class Channel:
    """The daemon's end of a pair of sockets. `received` is called with each message, `ended` when there are no more."""

    def __init__(self, received: Receiver, ended: Callable[[], None]) -> None:
        self._received = received
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._socket, self.remote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._unsent: deque[tuple[Message, Sequence[int]]] = deque()
        self._loop.add_reader(self._socket.fileno(), self.read)
        self.is_open = True

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message when there is room. The descriptors must stay open until then: see `send_now`."""
        if self._unsent or not self._try(message, descriptors):
            self._unsent.append((message, [socket.dup(fd) for fd in descriptors]))
            self._loop.add_writer(self._socket.fileno(), self._writable)

    def _try(self, message: Message, descriptors: Sequence[int]) -> bool:
        try:
            wire.send(self._socket, message, descriptors)
        except BlockingIOError:
            return False
        except OSError:  # the other end is gone: `ended` is called, or has been
            return True
        return True

    def _writable(self) -> None:
        while self._unsent:
            message, descriptors = self._unsent[0]
            if not self._try(message, descriptors):
                return
            self._unsent.popleft()
            wire.close_all(descriptors)
        self._loop.remove_writer(self._socket.fileno())

    def read(self) -> None:
        """Take what has arrived."""
        while self.is_open:
            try:
                message, descriptors = wire.receive(self._socket)
            except BlockingIOError:
                return
            if message is None:
                self.close()
                self._ended()
                return
            self._received(message, descriptors)

    def close(self) -> None:
        """Hang up. Nothing is called any more."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self.remote.close()
        while self._unsent:
            wire.close_all(self._unsent.popleft()[1])

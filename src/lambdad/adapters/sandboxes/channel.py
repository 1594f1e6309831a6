"""Sockets on which the daemon talks with the processes of `lambdad_sandbox`, on the event loop."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from lambdad_sandbox import wire

Message = dict[str, Any]
Receiver = Callable[[Message, list[int]], None]

_SEND_BUFFER_BYTES: Final = 4 * wire.MESSAGE_BYTES
# The kernel lets an ordinary user have only so many descriptors on their way at once: there is room again when some
# have arrived, of which nobody tells us.
_SHORTAGES: Final = frozenset({errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM})
_TRY_AGAIN_S: Final = 0.005


class Channel:
    """The daemon's end of a pair of sockets. `received` is called with each message, `ended` when there are no more."""

    def __init__(self, received: Receiver, ended: Callable[[], None]) -> None:
        self._received = received
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._socket, self.remote = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._unsent: deque[tuple[bytes, Sequence[int]]] = deque()
        self._later: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._socket.fileno(), self.read)
        self.is_open = True

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message as soon as there is room; the caller may close the descriptors at once.

        Where nobody is at the other end any more it is lost: `ended` is called, or has been. Raises OSError for a
        message that nobody could receive, and for want of descriptors.
        """
        if not self.is_open:
            return
        data = json.dumps(message).encode()
        if len(data) > wire.MESSAGE_BYTES:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        if self._unsent or not self._try(data, descriptors):
            self._unsent.append((data, _duplicates(descriptors)))

    def _try(self, data: bytes, descriptors: Sequence[int]) -> bool:
        try:
            wire.send_bytes(self._socket, data, descriptors)
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._writable)
            return False
        except ConnectionError:
            return True
        except OSError as error:
            if error.errno not in _SHORTAGES:
                raise
            self._loop.remove_writer(self._socket.fileno())
            self._later = self._loop.call_later(_TRY_AGAIN_S, self._writable)
            return False
        return True

    def _writable(self) -> None:
        while self._unsent:
            data, descriptors = self._unsent[0]
            if not self._try(data, descriptors):
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
        if self._later is not None:
            self._later.cancel()
        self._socket.close()
        self.remote.close()
        while self._unsent:
            wire.close_all(self._unsent.popleft()[1])


def _duplicates(descriptors: Sequence[int]) -> list[int]:
    copies: list[int] = []
    try:
        for descriptor in descriptors:
            copies.append(os.dup(descriptor))
    except OSError:
        wire.close_all(copies)
        raise
    return copies

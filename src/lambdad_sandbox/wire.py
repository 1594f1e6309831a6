"""Messages between the daemon and the processes of this package: JSON objects and descriptors, over sockets that keep
messages whole (SOCK_SEQPACKET).
"""

from __future__ import annotations

import array
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Message = dict[str, Any]

MESSAGE_BYTES = 128 * 1024
"""More than any message has: the largest holds a function's variables, which Lambda limits to 4 KB."""
_MOST_DESCRIPTORS = 16


def send(channel: socket.socket, message: Message, descriptors: Iterable[int] = ()) -> None:
    """Send one message. Raises OSError when nobody is there to read it."""
    send_bytes(channel, json.dumps(message).encode(), descriptors)


def failed(error: Exception) -> Message:
    """What is said of something that went wrong: the reason, and the system's number for it."""
    return {"failed": str(error), "errno": getattr(error, "errno", None)}


def send_bytes(channel: socket.socket, data: bytes, descriptors: Iterable[int] = ()) -> None:
    """Send one message that is no JSON object."""
    carried = array.array("i", descriptors)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, carried.tobytes())] if carried else []
    channel.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> tuple[Message | None, list[int]]:
    """The next message, and the descriptors that came with it, not inheritable; (None, []) when there are no more."""
    data, descriptors = receive_bytes(channel)
    return (json.loads(data) if data else None), descriptors


def receive_bytes(channel: socket.socket) -> tuple[bytes, list[int]]:
    """The same, as it was sent; no bytes when there are no more messages."""
    space = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)
    try:
        data, ancillary, _, _ = channel.recvmsg(MESSAGE_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return b"", []
    carried = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            carried.frombytes(content[: len(content) - len(content) % carried.itemsize])
    descriptors = list(carried)
    if not data:
        close_all(descriptors)
        return b"", []
    return data, descriptors


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)

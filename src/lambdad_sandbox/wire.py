"""Messages between the daemon and the processes of this package: JSON objects, with descriptors, over seqpacket sockets."""

from __future__ import annotations

import array
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List, Optional

    Message = Dict[str, Any]

MESSAGE_BYTES = 128 * 1024
"""More than any message has: the largest holds a function's variables, which Lambda limits to 4 KB."""
_MOST_DESCRIPTORS = 16


def send(channel: socket.socket, message: "Message", descriptors: "Iterable[int]" = ()) -> None:
    """Send one message. Raises OSError when nobody is there to read it."""
    carried = array.array("i", descriptors)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, carried.tobytes())] if carried else []
    channel.sendmsg([json.dumps(message).encode()], ancillary, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> "tuple[Optional[Message], List[int]]":
    """The next message, and the descriptors that came with it, not inheritable; (None, []) when there are no more."""
    space = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)
    try:
        data, ancillary, _, _ = channel.recvmsg(MESSAGE_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None, []
    carried = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            carried.frombytes(content[: len(content) - len(content) % carried.itemsize])
    descriptors = list(carried)
    if not data:
        close_all(descriptors)
        return None, []
    return json.loads(data), descriptors


def close_all(descriptors: "Iterable[int]") -> None:
    for descriptor in descriptors:
        os.close(descriptor)

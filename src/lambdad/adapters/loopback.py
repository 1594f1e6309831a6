"""Connections to a port of this machine, or of a sandbox's own network."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

_CONNECT_TIMEOUT_S: Final = 2.0


async def connected(connection: socket.socket, port: int) -> socket.socket:
    """Connect a socket to a port of the loopback of the network that it was made in; a failure closes it.

    Raises OSError, TimeoutError among them.
    """
    connection.setblocking(False)
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    except BaseException:  # also when it is cancelled: nobody else would close it
        connection.close()
        raise
    return connection

"""How a batch of events gets to a listener inside a sandbox: by HTTP as an array, by TCP as a line each.

https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html#telemetry-api-destination

The listener is the function owner's code: of what it answers, a bounded amount is read, and only the status counts.
Whoever calls sets the time limit.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from socket import socket
from typing import Final

from lambdad.domain.errors import LambdadError

ANSWER_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 16 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)[ \r]")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_WITHOUT_BODY: Final = (b"204", b"304")
_GOOD: Final = range(200, 400)


class DeliveryFailed(LambdadError):
    """A subscriber did not take a batch."""


class HttpDelivery:
    """A request a batch, each on a connection of its own."""

    def __init__(self, connect: Callable[[], Awaitable[socket]], method: str, path: str, port: int) -> None:
        self._connect = connect
        self._head = (
            f"{method} {path} HTTP/1.1\r\nHost: sandbox.localdomain:{port}\r\nContent-Type: application/json\r\n"
            "Connection: close\r\nContent-Length: "
        ).encode()

    async def deliver(self, events: Sequence[bytes]) -> None:
        """Raises DeliveryFailed."""
        body = b"[" + b",".join(events) + b"]"
        loop = asyncio.get_running_loop()
        try:
            connection = await self._connect()
        except OSError as error:
            raise DeliveryFailed(str(error)) from error
        try:
            await loop.sock_sendall(connection, self._head + b"%d\r\n\r\n" % len(body) + body)
            status = await _answer(connection)
        except OSError as error:
            raise DeliveryFailed(str(error)) from error
        finally:
            connection.close()
        if status not in _GOOD:
            raise DeliveryFailed(f"the listener answered {status}")

    def close(self) -> None:
        """There is nothing open between two batches."""


class TcpDelivery:
    """One connection for all batches."""

    def __init__(self, connect: Callable[[], Awaitable[socket]]) -> None:
        self._connect = connect
        self._connection: socket | None = None

    async def deliver(self, events: Sequence[bytes]) -> None:
        """Raises DeliveryFailed."""
        lines = b"".join(event + b"\n" for event in events)
        loop = asyncio.get_running_loop()
        try:
            if self._connection is not None and _has_ended(self._connection):
                self.close()
            if self._connection is None:
                self._connection = await self._connect()
            await loop.sock_sendall(self._connection, lines)
        except OSError as error:
            self.close()
            raise DeliveryFailed(str(error)) from error
        except asyncio.CancelledError:
            self.close()  # who gets half a line must not get another after it
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _has_ended(connection: socket) -> bool:
    """Whether the other side has gone; anything that it has sent is thrown away."""
    try:
        return not connection.recv(_READ_BYTES)
    except BlockingIOError:
        return False


async def _answer(connection: socket) -> int:
    """The status of an answer, once it is complete, or as much of it is here as is read of any. Raises OSError."""
    loop = asyncio.get_running_loop()
    answer = b""
    while len(answer) < ANSWER_BYTES:
        data = await loop.sock_recv(connection, _READ_BYTES)
        answer += data
        if not data or _is_complete(answer):
            break
    status = _STATUS.match(answer)
    if status is None:
        raise ConnectionError("the listener's answer is not HTTP")
    return int(status[1])


def _is_complete(answer: bytes) -> bool:
    """Whether an answer that says how long it is is here; one that does not ends with its connection."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    status = _STATUS.match(answer)
    if status is not None and status[1] in _WITHOUT_BODY:
        return True
    length = _LENGTH.search(head + b"\r\n")
    return length is not None and len(body) >= int(length[1])

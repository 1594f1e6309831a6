"""An HTTP client that costs little, so that what is measured is the server: raw sockets, and only what is needed.

It reads answers with a Content-Length, which is what lambdad and the echo servers send.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop

CONNECT_TIMEOUT_S: Final = 30.0
ANSWER_TIMEOUT_S: Final = 120.0
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length:"
_STATUS: Final = slice(9, 12)
_CHUNK_BYTES: Final = 256 * 1024
_OK: Final = 200

Address = tuple[str, int]


class NotUnderstood(Exception):
    """The server has sent something that this client does not read, or has gone away."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a number of clients saw that asked again and again: answers a second, and the median time of one."""

    requests_per_s: float
    p50_s: float


@dataclass(frozen=True, slots=True)
class Burst:
    """What came of requests that were made all at once: the seconds until the last answer, and those that failed."""

    total_s: float
    failures: list[str] = field(default_factory=list)


def address_of(url: str) -> Address:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


def path_of(url: str) -> str:
    return urlsplit(url).path


def invoke_path(name: str) -> str:
    return f"/2015-03-31/functions/{name}/invocations"


def post(path: str, body: bytes) -> bytes:
    """A request, to be sent as it is."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + _HEAD_END + body


def _read_head(head: bytes) -> tuple[int, int]:
    """The status and the length of the body. Raises NotUnderstood."""
    at = head.lower().find(_LENGTH)
    if at < 0:
        raise NotUnderstood(f"an answer without a Content-Length: {head[:200]!r}")
    start = at + len(_LENGTH)
    end = head.find(b"\r\n", start)
    return int(head[_STATUS]), int(head[start : end if end >= 0 else None])


class Caller:
    """One keep-alive connection, blocking: for one request at a time."""

    def __init__(self, url: str) -> None:
        self._socket = socket.create_connection(address_of(url), CONNECT_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(ANSWER_TIMEOUT_S)

    def call(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; the answer's status and body. Raises NotUnderstood and OSError."""
        self._socket.sendall(request)
        received = b""
        while _HEAD_END not in received:
            received += self._receive()
        head, _, body = received.partition(_HEAD_END)
        status, length = _read_head(head)
        if len(body) < length:
            whole = bytearray(length)
            whole[: len(body)] = body
            rest = memoryview(whole)[len(body) :]
            while rest:
                count = self._socket.recv_into(rest)
                if not count:
                    raise NotUnderstood("the server has closed the connection")
                rest = rest[count:]
            body = bytes(whole)
        return status, body

    def _receive(self) -> bytes:
        data = self._socket.recv(_CHUNK_BYTES)
        if not data:
            raise NotUnderstood("the server has closed the connection")
        return data

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Connection(asyncio.Protocol):
    """One keep-alive connection that tells of each answer by calling `answered(status, body)`; small bodies only."""

    def __init__(self, answered: Callable[[_Connection, int, bytes], None], lost: Callable[[str], None]) -> None:
        self._answered = answered
        self._lost = lost
        self._received = b""
        self._transport: asyncio.Transport
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(str(exc or "the server has closed the connection"))

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(_HEAD_END)
        if end >= 0:
            try:
                status, length = _read_head(received[:end])
            except NotUnderstood as error:
                self._lost(str(error))
                self._transport.abort()
                return
            body = received[end + len(_HEAD_END) :]
            if len(body) >= length:
                self._received = b""
                self._answered(self, status, body)
                return
        self._received = received


class _Clients:
    """Connections to one server, and the future that is done when all is over."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connections: list[_Connection] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(
        self, count: int, answered: Callable[[_Connection, int, bytes], None], lost: Callable[[str], None]
    ) -> list[_Connection]:
        loop = asyncio.get_running_loop()
        opened = [
            (await loop.create_connection(lambda: _Connection(answered, lost), *self._address))[1] for _ in range(count)
        ]
        self._connections += opened
        return opened

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, problem: str) -> None:
        if not self.done.done():
            self.done.set_exception(NotUnderstood(problem))

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def load(url: str, request: bytes, clients: int, seconds: float) -> Load:
    """Have a number of clients ask as often as they get an answer. Raises NotUnderstood at any answer but a 200."""
    return uvloop.run(_load(address_of(url), request, clients, seconds))


async def _load(address: Address, request: bytes, count: int, seconds: float) -> Load:
    clients = _Clients(address)
    latencies: list[float] = []
    deadline = 0.0

    def answered(connection: _Connection, status: int, body: bytes) -> None:
        now = time.perf_counter()
        if status != _OK:
            clients.fail(f"HTTP {status}: {body[:200]!r}")
            return
        latencies.append(now - connection.sent_at)
        if now < deadline:
            connection.send(request)
        else:
            clients.finish()

    connections = await clients.connect(count, answered, clients.fail)
    began = time.perf_counter()
    deadline = began + seconds
    for connection in connections:
        connection.send(request)
    try:
        async with asyncio.timeout(seconds + ANSWER_TIMEOUT_S):
            await clients.done
    finally:
        taken = time.perf_counter() - began
        clients.finish()
        clients.close()
    return Load(len(latencies) / taken, median(latencies))


def burst(url: str, request: bytes, count: int) -> Burst:
    """Make a number of requests at once, each on a connection of its own that is open before the time is taken."""
    return uvloop.run(_burst(address_of(url), request, count))


async def _burst(address: Address, request: bytes, count: int) -> Burst:
    clients = _Clients(address)
    failures: list[str] = []
    left = count

    def ended() -> None:
        nonlocal left
        left -= 1
        if not left:
            clients.finish()

    def answered(connection: _Connection, status: int, body: bytes) -> None:
        if status != _OK or body != b"1":
            failures.append(f"HTTP {status}: {body[:200]!r}")
        ended()

    def lost(problem: str) -> None:
        if not clients.done.done():
            failures.append(problem)
            ended()

    connections = await clients.connect(count, answered, lost)
    began = time.perf_counter()
    for connection in connections:
        connection.send(request)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await clients.done
    except TimeoutError:
        failures.append(f"{left} of {count} have no answer after {ANSWER_TIMEOUT_S:.0f} s")
        clients.done.cancel()
    taken = time.perf_counter() - began
    clients.close()
    return Burst(taken, failures)

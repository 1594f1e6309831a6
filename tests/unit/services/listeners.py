"""The listeners of extensions that have subscribed to telemetry."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from lambdad.domain.telemetry import Api, Subscription, subscription

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
PATIENCE_S = 10.0


def wanted(*types: str, api: Api = Api.TELEMETRY, **destination: Any) -> Subscription:
    version = "2022-12-13" if api is Api.TELEMETRY else "2021-03-18"
    request = {
        "schemaVersion": version,
        "types": types or ["platform", "function", "extension"],
        "destination": destination or {"protocol": "HTTP", "URI": "http://sandbox:8080/in"},
        "buffering": {"maxItems": 1000, "timeoutMs": 100},
    }
    return subscription(api, json.dumps(request).encode())


TCP = {"protocol": "TCP", "port": 8081}


class Listener:
    """What an extension listens with: the other ends of the connections that are made to it."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[socket.socket] = asyncio.Queue()
        self.ports: list[int] = []
        self.refuses = False
        self._open: list[socket.socket] = []

    async def connect(self, port: int) -> socket.socket:
        self.ports.append(port)
        if self.refuses:
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self._open += [ours, theirs]
        self.connections.put_nowait(theirs)
        return ours

    async def accepted(self) -> socket.socket:
        return await asyncio.wait_for(self.connections.get(), PATIENCE_S)

    async def request(self, answer: bytes | None = OK) -> tuple[bytes, Any]:
        """The next request's head and its body; None for `answer` leaves it without one."""
        connection = await self.accepted()
        data = await self.read_until(connection, b"\r\n\r\n")
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += await self.read(connection)
        if answer is not None:
            await asyncio.get_running_loop().sock_sendall(connection, answer)
            connection.close()
        return head, json.loads(body)

    async def records(self, answer: bytes | None = OK) -> list[Any]:
        """What is in the next request."""
        _, events = await self.request(answer)
        return [event["record"] for event in events]

    async def read(self, connection: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()
        data = await asyncio.wait_for(loop.sock_recv(connection, 1 << 16), PATIENCE_S)
        assert data
        return data

    async def read_until(self, connection: socket.socket, end: bytes) -> bytes:
        data = b""
        while end not in data:
            data += await self.read(connection)
        return data

    def close(self) -> None:
        for end in self._open:
            end.close()

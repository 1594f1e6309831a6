"""Requests written byte by byte, as no client library would send them, and what comes back."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import struct
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from daemons import Daemon

PATIENCE_S = 20.0
"""A socket that has neither an answer nor an end by then is a hang."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Hung(AssertionError):
    """The daemon neither answered nor hung up."""


class Connection:
    """A socket to a daemon."""

    def __init__(self, daemon: Daemon, patience_s: float = PATIENCE_S) -> None:
        url = urlsplit(daemon.url)
        assert url.hostname is not None
        self.host = f"{url.hostname}:{url.port}"
        self._socket = socket.create_connection((url.hostname, url.port or 80), timeout=patience_s)
        self._received = self._socket.makefile("rb")

    def send(self, data: bytes) -> Connection:
        self._socket.sendall(data)
        return self

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Go away without a word: the peer sees a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._received.close()
        self._socket.close()

    def line(self) -> bytes:
        """The next line; empty at the end."""
        try:
            return self._received.readline()
        except TimeoutError:
            raise Hung(self.host) from None

    def answer(self, *, has_body: bool = True) -> Answer:
        """The next answer, parsed strictly. Raises EOFError when the daemon hung up instead."""
        first = self.line()
        if not first:
            raise EOFError
        matched = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", first)
        assert matched, first
        headers: dict[str, str] = {}
        while (line := self.line()) != b"\r\n":
            name, separator, value = line.decode("latin-1").rstrip("\r\n").partition(": ")
            assert separator, line
            headers[name.lower()] = value
        status = int(matched[1])
        without_body = not has_body or status in (100, 204, 304)
        return Answer(status, headers, b"" if without_body else self._body(headers))

    def _body(self, headers: dict[str, str]) -> bytes:
        try:
            if "content-length" in headers:
                size = int(headers["content-length"])
                body = self._received.read(size)
                assert len(body) == size, f"{len(body)} of {size} bytes"
                return body
            if headers.get("transfer-encoding") == "chunked":
                return self._chunks()
            return self._received.read()
        except TimeoutError:
            raise Hung(self.host) from None

    def _chunks(self) -> bytes:
        parts = io.BytesIO()
        while size := int(self.line().strip(), 16):
            parts.write(self._received.read(size))
            assert self._received.read(2) == b"\r\n"
        assert self.line() == b"\r\n"
        return parts.getvalue()

    def is_open(self) -> bool:
        """Whether the connection carries another request."""
        self.send(b"GET /_lambdad/health HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            return self.answer().status == 200
        except (EOFError, ConnectionError):
            return False

    def everything(self) -> bytes:
        """All that comes until the daemon hangs up. Raises Hung when it does not."""
        parts = []
        try:
            while data := self._socket.recv(65536):
                parts.append(data)
        except TimeoutError:
            raise Hung(b"".join(parts)[:200]) from None
        except ConnectionResetError:
            pass
        return b"".join(parts)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def get(daemon: Daemon, path: str) -> Answer:
    """An ordinary GET by the standard library's client."""
    connection = http.client.HTTPConnection(urlsplit(daemon.url).netloc, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())
    finally:
        connection.close()

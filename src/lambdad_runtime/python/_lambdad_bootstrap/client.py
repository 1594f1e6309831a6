"""The Runtime API over one raw keep-alive connection.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

An answer and the request for the next event leave in one write, marked `Lambda-Runtime-Acknowledge: with-next`: the
daemon may then acknowledge the answer together with the next event, which saves a wake-up on both sides. Servers that
do not know the header see ordinary HTTP/1.1 pipelining.
"""

from __future__ import annotations

import _socket  # `socket` builds enums of every constant first, which costs 2 ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

_VERSION_PATH = "/2018-06-01/runtime"
_RECEIVE_BYTES = 65536
_XRAY_CAUSE_MAX_BYTES = 64 * 1024

ERROR_CONTENT_TYPE = "application/vnd.aws.lambda.error+json"


class Disconnected(Exception):
    """The daemon closed the connection: this environment is no longer wanted."""


class RuntimeApiError(Exception):
    """The Runtime API refused to hand out an event."""


class Answer:
    """One POST for an invocation: its path under `/invocation/{id}`, its body and its headers."""

    __slots__ = ("body", "headers", "kind")

    def __init__(self, kind: str, body: bytes, content_type: str, headers: Mapping[str, bytes] | None = None) -> None:
        self.kind = kind  # "response" or "error"
        self.body = body
        self.headers = {"Content-Type": content_type.encode("ascii"), **(headers or {})}


def error_headers(error_type: str, xray_cause: bytes = b"") -> dict[str, bytes]:
    """The headers of an error answer. Class names may hold any character, so what a header cannot carry is escaped."""
    headers = {"Lambda-Runtime-Function-Error-Type": error_type.encode("unicode_escape")}
    if 0 < len(xray_cause) <= _XRAY_CAUSE_MAX_BYTES:
        headers["Lambda-Runtime-Function-XRay-Error-Cause"] = xray_cause
    return headers


class RuntimeClient:
    """A connection to the Runtime API at `address` (host:port). Every call raises Disconnected when it is closed."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
        self._socket = _socket.socket(family, _socket.SOCK_STREAM)
        self._socket.connect((host, int(port)))
        self._socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self._common_headers = f"Host: {address}\r\n".encode("ascii")
        self._next_request = self._head("GET", "/invocation/next", {}) + b"\r\n"
        self._received = b""
        self._acknowledgement = b""
        self._fills = 0

    def close(self) -> None:
        """Close this process's end; a child that has only inherited the connection leaves the parent's open."""
        self._socket.close()

    def request_invocation(self) -> None:
        """Ask for an event."""
        self._send(self._next_request)

    def receive_invocation(self) -> tuple[dict[str, str], bytes | bytearray]:
        """Wait for the event that was asked for: its headers (lower-case names) and body. Raises RuntimeApiError."""
        status, headers, body = self._receive()
        if status != 200:
            raise RuntimeApiError(f"/invocation/next answered {status}: {bytes(body[:200])!r}")
        return headers, body

    def answer_and_request_invocation(self, request_id: str, answer: Answer) -> None:
        """Send the outcome of an invocation and ask for the next event, in one write."""
        headers = {**answer.headers, "Lambda-Runtime-Acknowledge": b"with-next"}
        path = f"/invocation/{request_id}/{answer.kind}"
        self._send(self._post(path, headers, answer.body) + self._next_request)

    def receive_acknowledgement(self) -> tuple[int, bytes | bytearray]:
        """The status and body that the last POST was answered with."""
        if not self._received:
            self._fill()
        known = self._acknowledgement
        if known and self._received.startswith(known):
            self._received = self._received[len(known) :]
            return 202, b""
        before, fills = self._received, self._fills
        status, _, body = self._receive()
        if status == 202 and fills == self._fills:
            # It came whole. The daemon words it the same each time: from now on it is known by its bytes.
            self._acknowledgement = before[: len(before) - len(self._received)]
        return status, body

    def report_init_error(self, error_type: str, document: bytes) -> None:
        """Say that the initialization failed, and wait until the daemon knows."""
        headers = {"Content-Type": ERROR_CONTENT_TYPE.encode("ascii"), **error_headers(error_type)}
        self._send(self._post("/init/error", headers, document))
        self._receive()

    def _head(self, method: str, path: str, headers: Mapping[str, bytes]) -> bytes:
        lines = b"".join(name.encode("ascii") + b": " + value + b"\r\n" for name, value in headers.items())
        return f"{method} {_VERSION_PATH}{path} HTTP/1.1\r\n".encode("ascii") + self._common_headers + lines

    def _post(self, path: str, headers: Mapping[str, bytes], body: bytes) -> bytes:
        return self._head("POST", path, headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except ConnectionError:
            raise Disconnected from None

    def _receive(self) -> tuple[int, dict[str, str], bytes | bytearray]:
        head = self._take_until(b"\r\n\r\n").decode("utf-8", "replace")
        status_line, *lines = head.split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body: bytes | bytearray = self._take_chunks()
        else:
            body = self._take(int(headers.get("content-length", 0)))
        return int(status_line.split(" ", 2)[1]), headers, body

    def _fill(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except ConnectionError:
            raise Disconnected from None
        if not data:
            raise Disconnected
        self._received += data
        self._fills += 1

    def _take_until(self, end: bytes) -> bytes:
        while True:
            at = self._received.find(end)
            if at >= 0:
                taken = self._received[:at]
                self._received = self._received[at + len(end) :]
                return taken
            self._fill()

    def _take(self, size: int) -> bytes | bytearray:
        taken = self._received[:size]
        self._received = self._received[size:]
        if len(taken) == size:
            return taken
        self._fills += 1
        whole = bytearray(size)
        whole[: len(taken)] = taken
        rest = memoryview(whole)[len(taken) :]
        while rest:
            try:
                count = self._socket.recv_into(rest)
            except ConnectionError:
                raise Disconnected from None
            if not count:
                raise Disconnected
            rest = rest[count:]
        return whole

    def _take_chunks(self) -> bytes:
        chunks: list[bytes | bytearray] = []
        while True:
            size = int(self._take_until(b"\r\n").partition(b";")[0], 16)
            if size == 0:
                break
            chunks.append(self._take(size))
            self._take_until(b"\r\n")
        while self._take_until(b"\r\n"):
            pass  # trailers
        return b"".join(chunks)

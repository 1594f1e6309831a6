"""A small Runtime API server: it hands out events and keeps every request that the bootstrap makes."""

import base64
import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

PREFIX = "/2018-06-01/runtime/"
WAIT_S = 30.0


@dataclass
class Event:
    """An event to hand out, and how its answer is to be received."""

    request_id: str
    body: bytes
    headers: Mapping[str, str]
    status: int = 200
    is_chunked: bool = False
    answer_status: int = 202


@dataclass
class Request:
    """A request of the bootstrap. `output_length` is how much the function had printed when the request arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    output_length: int = 0

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def is_error(self) -> bool:
        """Whether this reports an error."""
        return self.path.endswith("/error")

    @property
    def trailing_error(self) -> Any:
        """The error document in the trailers of a streamed response."""
        return json.loads(base64.b64decode(self.trailers["lambda-runtime-function-error-body"]))


def read_headers(stream: BinaryIO) -> dict[str, str]:
    """The header lines up to the empty one, names in lower case."""
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return headers


def read_body(stream: BinaryIO, request: Request, on_chunk: Callable[[bytes], None]) -> None:
    """Read the body, of either kind, into the request."""
    if request.headers.get("transfer-encoding") != "chunked":
        request.body = stream.read(int(request.headers.get("content-length", 0)))
        return
    while size := int(stream.readline(), 16):
        request.chunks.append(stream.read(size))
        assert stream.readline() == b"\r\n"
        on_chunk(request.chunks[-1])
    request.trailers = read_headers(stream)
    request.body = b"".join(request.chunks)


def response(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None, is_chunked: bool = False
) -> bytes:
    """A response of the server, in one piece."""
    lines = [f"HTTP/1.1 {status} Some Reason", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if not is_chunked:
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
    size = max(1, len(body) // 3)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
    return "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode() + chunks


class FakeRuntimeApi:
    """The server. It serves one connection, as the bootstrap has one, and may send its responses in small pieces."""

    def __init__(self, output_length: Callable[[], int], piece_size: int | None = None) -> None:
        self.output_length = output_length
        self.piece_size = piece_size
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.events: queue.Queue[Event | None] = queue.Queue()
        self.answers: queue.Queue[Request] = queue.Queue()
        self.chunks: queue.Queue[bytes] = queue.Queue()
        self.asked_for_next: queue.Queue[str] = queue.Queue()
        self.statuses: dict[str, int] = {}
        self.connection: socket.socket | None = None
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Stop serving and close the connection."""
        self.listener.close()
        self.events.put(None)
        self.close_connection()

    def close_connection(self) -> None:
        """Close the connection under the bootstrap's feet."""
        if self.connection:
            with contextlib.suppress(OSError):  # the bootstrap was first
                self.connection.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Answer requests until the connection ends."""
        try:
            self.connection, _ = self.listener.accept()
        except OSError:
            return  # closed before the bootstrap came
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.connection, self.connection.makefile("rb") as stream:
            try:
                while line := stream.readline():
                    self.handle(line, stream)
            except OSError:
                pass  # the bootstrap has exited

    def handle(self, line: bytes, stream: BinaryIO) -> None:
        """Handle one request, and, when it comes with one for the next event, both."""
        assert self.connection
        method, path, _ = line.decode().split(" ")
        request = Request(method, path.removeprefix(PREFIX), read_headers(stream))
        read_body(stream, request, self.chunks.put)
        if method == "GET":
            self.asked_for_next.put("alone")
            self.send_event(b"")
            return
        request.output_length = self.output_length()
        status = self.statuses.get(request.path.split("/")[1], 202)
        acknowledgement = response(status, b'{"status":"OK"}\n')
        if request.headers.get("lambda-runtime-acknowledge") != "with-next":
            self.connection.sendall(acknowledgement)
            self.answers.put(request)
            return
        if status != 202:
            self.connection.sendall(acknowledgement)
            acknowledgement = b""
        assert stream.readline().decode().startswith(f"GET {PREFIX}invocation/next HTTP/1.1")
        read_headers(stream)
        self.asked_for_next.put("with response")
        self.answers.put(request)
        self.send_event(acknowledgement)

    def send_event(self, before: bytes) -> None:
        """Wait for an event, then send it, behind what is owed."""
        assert self.connection
        event = self.events.get()
        if event is None:
            return
        self.statuses[event.request_id] = event.answer_status
        headers = {"Lambda-Runtime-Aws-Request-Id": event.request_id, **event.headers}
        data = before + response(event.status, event.body, headers, event.is_chunked)
        size = self.piece_size or len(data)
        for at in range(0, len(data), size):
            self.connection.sendall(data[at : at + size])

"""An HTTP/1.1 server on asyncio and httptools: keep-alive, pipelining, chunked bodies, 100-continue, back-pressure.

Own code because it is on the invoke path; see docs/adr/0001-http-server.md for what was measured. A connection that is
slow, silent or broken costs its own memory and nothing else: bodies are held back when nobody reads them, and a sweep
closes connections that take too long over a request's head.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from http import HTTPStatus
from typing import Final, Protocol, cast

import httptools

from lambdad.ingress.messages import Body, BodyTooLarge, BrokenAnswer, ClientGone, Request, Response

logger = logging.getLogger(__name__)


class Handler(Protocol):
    """What answers requests."""

    def begin(self, request: Request, answer: Callable[[Response], None]) -> bool:
        """Take a request that is wholly there, and call `answer` later; False to have it answered by a task."""

    async def __call__(self, request: Request) -> Response: ...


HEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 30.0
# How long a body may pause.
BODY_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 300.0
# How long a client may read nothing of an answer that waits for it.
UNREAD_SECONDS: Final = 300.0
BACKLOG: Final = 2048
PIPELINED_REQUESTS: Final = 16
# Below this, head and body go out as one buffer; above, copying would cost more than a second buffer.
JOIN_BYTES: Final = 64 * 1024
# An answer may come before the request's body was read; so much more of it is swallowed to keep the connection.
DISCARD_BYTES: Final = 256 * 1024 * 1024

STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in HTTPStatus
}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def encode_head(response: Response, *, keep_alive: bool, takes_chunks: bool = True) -> bytes:
    """The status line and headers; the framing header follows from the body, unless `Content-Length` is given."""
    lines = []
    framed = False
    for name, value in response.headers:
        if name == "Content-Length":
            framed = True
        if "\n" in value or "\r" in value:
            # A function chooses some header values: a line break in one must not become a header of its own.
            value = " ".join(value.splitlines())
        lines.append(f"{name}: {value}\r\n")
    if framed:
        pass
    elif not isinstance(response.body, bytes):
        if takes_chunks:
            lines.append("Transfer-Encoding: chunked\r\n")
    elif response.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        lines.append(f"Content-Length: {len(response.body)}\r\n")
    lines.append("\r\n" if keep_alive else "Connection: close\r\n\r\n")
    status_line = STATUS_LINES.get(response.status) or b"HTTP/1.1 %d \r\n" % response.status
    return status_line + "".join(lines).encode("latin-1", "replace")


class HttpServer:
    """The connections of one listener, and what they answer with."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections: set[HttpConnection] = set()
        self.stopping = False
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Accept connections; returns the address that was bound. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: HttpConnection(self), host, port, backlog=BACKLOG)
        self._sweep()
        address = self._listener.sockets[0].getsockname()
        return address[0], address[1]

    async def listen_unix(self, path: str) -> None:
        """Accept connections on a Unix socket that only this user may open; a stale one goes. Raises OSError."""
        loop = asyncio.get_running_loop()
        with suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Set before it exists for others, so that there is no moment at which anybody could connect.
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        self._listener = await loop.create_unix_server(lambda: HttpConnection(self), sock=listener, backlog=BACKLOG)
        self._sweep()

    async def accept_on(self, listener: socket.socket) -> asyncio.Server:
        """Accept connections on a copy of one more socket, until what is returned is closed."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: HttpConnection(self), sock=listener.dup(), backlog=BACKLOG)

    async def stop(self, seconds: float) -> None:
        """Accept nothing more, let answers that are under way finish for so long, then close."""
        self.stopping = True
        if self._listener is not None:
            self._listener.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.close_when_idle()
        busy = [connection.answered() for connection in self.connections if connection.is_busy]
        if busy:
            await asyncio.wait(busy, timeout=seconds)
        for connection in list(self.connections):
            connection.abort_if_busy()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            connection.close_if_overdue(now)
        self._sweeper = loop.call_later(5.0, self._sweep)


class HttpConnection(asyncio.Protocol):
    """One client's connection. Requests are answered one at a time, in the order in which they came."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._client = ""
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        # What has come since a head, a part of a body or a request was complete: of a head, or what frames a body.
        self._head_bytes = 0
        self._in_head = True
        self._body: Body | None = None
        self._queue: deque[Request] = deque()
        self._writable: asyncio.Event | None = None
        self._since = self._loop.time()
        self._unread_bytes = 0
        self._unread_since = self._since
        self._reading = True
        self._gone = False
        self._refusal = b""
        self._task: asyncio.Task[None] | None = None
        self._begun: Request | None = None
        self._answered: asyncio.Future[None] | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if isinstance(peer, tuple) else ""
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._server.connections.discard(self)
        if self._body is not None:
            self._body.break_off()
        for request in self._queue:
            request.body.break_off()
        if self._writable is not None:
            self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._gone or self._refusal:
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, "Bad Request")
        else:
            if self._head_bytes > HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Request header fields too large")
        if not self.is_busy:
            self._go_on()

    def _decline_upgrade(self, rest: bytes) -> None:
        """Java offers h2c with its first request. An offer is ignored, and HTTP/1.1 goes on (RFC 9110, 7.8).

        The parser has stopped before the body, so a new one is given the same head without the offer.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")
            return
        self._headers.pop("upgrade", None)
        lines = [f"{name}: {value}\r\n" for name, value in self._headers.items()]
        start = b"%b %b HTTP/%b\r\n" % (method, self._target, self._parser.get_http_version().encode("ascii"))
        self._parser = httptools.HttpRequestParser(self)
        self._head_bytes = 0
        self.data_received(start + "".join(lines).encode("latin-1") + b"\r\n" + rest)

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = {}

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # trailers are no headers (RFC 9110, 6.5.1)
        key = name.decode("latin-1").lower()
        text = value.rstrip(b" \t").decode("latin-1")  # the parser leaves it on (RFC 9110, 5.5)
        if key in self._headers:
            # RFC 6265, 5.4: cookies are a list of another kind.
            text = f"{self._headers[key]}{'; ' if key == 'cookie' else ','}{text}"
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        self._in_head = False
        self._head_bytes = 0
        self._since = self._loop.time()
        expects = self._headers.get("expect", "").lower() == "100-continue"
        body = self._body = Body(self._send_continue if expects else _nothing, self._hold)
        body.announced = self._headers.get("content-length", "")
        keep_alive = self._parser.should_keep_alive()
        request = Request(
            self._parser.get_method().decode("ascii"), self._target.decode("latin-1"), self._headers, body, keep_alive
        )
        request.client = self._client
        # The version is asked for only where it may be the old one: who speaks that says `close`, or `keep-alive`.
        if (not keep_alive or "connection" in self._headers) and self._parser.get_http_version() == "1.0":
            request.keep_alive = request.takes_chunks = False
        self._queue.append(request)
        if len(self._queue) >= PIPELINED_REQUESTS:
            self._pause_reading()

    def on_body(self, chunk: bytes) -> None:
        self._head_bytes = 0
        if self._body is not None:
            self._since = self._loop.time()
            self._body.feed(chunk)

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        if self._body is not None:
            self._body.finish()
        self._in_head = True
        self._head_bytes = 0
        self._since = self._loop.time()

    # answering

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None or self._begun is not None

    def answered(self) -> asyncio.Future[None]:
        """Done when the request that is being answered has its answer."""
        if self._task is not None:
            return self._task
        if self._answered is None:
            self._answered = self._loop.create_future()
        return self._answered

    def _go_on(self) -> None:
        """Answer the next request: at once where the handler can, otherwise with a task."""
        if not self._queue:
            if self._refusal and not self._gone:
                self._hang_up()
            return
        request = self._queue[0]
        if request.body.complete and self._writable is None and self._server.handler.begin(request, self._answer):
            self._queue.popleft()
            self._begun = request
            self._resume_reading()
        else:
            self._task = self._loop.create_task(self._answer_all())

    def _answer(self, response: Response) -> None:
        """The answer to a request that the handler took at once."""
        request, self._begun = self._begun, None
        self._since = self._loop.time()
        if request is not None and not self._gone:
            keep_alive = request.keep_alive and not self._server.stopping
            self._write(response, request, keep_alive)
            if keep_alive:
                self._go_on()
            else:
                self._transport.close()
        if self._answered is not None:
            self._answered.set_result(None)

    async def _answer_all(self) -> None:
        """Answer what is queued, then end; the next request starts this anew."""
        try:
            while self._queue and not self._gone:
                request = self._queue.popleft()
                self._resume_reading()
                response = await self._server.handler(request)
                if self._gone:
                    if not isinstance(response.body, bytes):
                        await response.body.aclose()
                    return
                # A client that was not told to send its body does not: the connection ends, and the head says so.
                unasked = not request.body.complete and request.headers.get("expect", "").lower() == "100-continue"
                keep_alive = request.keep_alive and not self._server.stopping and not unasked
                await self._send(response, request, keep_alive)
                if not request.body.complete and not unasked:
                    keep_alive = await self._swallow(request) and keep_alive
                if not keep_alive:
                    self._transport.close()
                    return
            if self._refusal and not self._gone:
                self._hang_up()
        except ClientGone:
            self._transport.abort()
        except BrokenAnswer:
            self._transport.close()
        except asyncio.CancelledError:  # what a handler does for its client ends with the client
            self._transport.abort()
            raise
        finally:
            self._task = None
            self._since = self._loop.time()

    def _write(self, response: Response, request: Request, keep_alive: bool) -> None:
        """The head, with the body if it is all there."""
        head = encode_head(response, keep_alive=keep_alive, takes_chunks=request.takes_chunks)
        body = response.body
        if not isinstance(body, bytes) or not body or request.method == "HEAD":
            self._transport.write(head)
        elif len(body) <= JOIN_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    async def _send(self, response: Response, request: Request, keep_alive: bool) -> None:
        self._write(response, request, keep_alive)
        body = response.body
        if isinstance(body, bytes):
            if self._writable is not None:
                await self._writable.wait()
        elif request.method == "HEAD":
            await body.aclose()
        else:
            chunked = request.takes_chunks and all(name != "Content-Length" for name, _ in response.headers)
            await self._send_chunks(body, b"%x\r\n%b\r\n" if chunked else None)

    async def _send_chunks(self, body: AsyncGenerator[bytes, None], frame: bytes | None) -> None:
        """Each part as soon as it is there. A body that fails half way ends the connection, as HTTP/1.1 tells it."""
        async with aclosing(body) as chunks:
            try:
                async for chunk in chunks:
                    if chunk:
                        self._transport.write(chunk if frame is None else frame % (len(chunk), chunk))
                    if self._writable is not None:
                        await self._writable.wait()
                    if self._gone:
                        raise ClientGone
            except (ClientGone, BrokenAnswer):
                raise
            except Exception as error:  # whatever a body raises, the head is out: the truth is a cut connection
                logger.exception("a streamed body failed")
                raise ClientGone from error
        if frame is not None:
            self._transport.write(b"0\r\n\r\n")

    async def _swallow(self, request: Request) -> bool:
        try:
            return await request.body.discard(DISCARD_BYTES)
        except BodyTooLarge:
            return False

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer what cannot be parsed, after all that came before it, and hang up."""
        body = b'{"message":"%b"}' % message.encode()
        response = Response(status, [("Content-Type", "application/json")], body)
        self._refusal = encode_head(response, keep_alive=False) + body
        if self._body is not None and not self._body.complete:
            self._body.break_off()

    def _hang_up(self) -> None:
        self._transport.write(self._refusal)
        self._transport.close()
        self._gone = True

    # flow

    def _send_continue(self) -> None:
        if not self._gone:
            self._transport.write(_CONTINUE)

    def _hold(self, hold: bool) -> None:
        if hold:
            self._pause_reading()
        else:
            self._resume_reading()

    def _pause_reading(self) -> None:
        if self._reading and not self._gone:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and not self._gone:
            self._reading = True
            self._transport.resume_reading()

    def close_if_overdue(self, now: float) -> None:
        """Close a connection that has been sending a head, or nothing, or has read nothing, for too long."""
        unread_bytes = self._transport.get_write_buffer_size()
        if not unread_bytes or unread_bytes != self._unread_bytes:
            self._unread_bytes, self._unread_since = unread_bytes, now
        elif now - self._unread_since > UNREAD_SECONDS:
            self._transport.abort()
            return
        if self.is_busy:
            stalled = self._reading and self._body is not None and not self._body.complete
            if stalled and now - self._since > BODY_SECONDS:
                self._transport.abort()
            return
        allowed = HEAD_SECONDS if self._head_bytes else IDLE_SECONDS
        if now - self._since > allowed:
            self._transport.close()

    def close_when_idle(self) -> None:
        if not self.is_busy:
            self._transport.close()

    def abort_if_busy(self) -> None:
        """Cut it off in the middle of an answer; one that has been answered closes when its client has everything."""
        if self.is_busy:
            self._transport.abort()


def _nothing() -> None:
    """For requests that do not wait for a 100."""

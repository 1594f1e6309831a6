"""An HTTP request and a response, as the ingress passes them around."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Final

from lambdad.domain.errors import LambdadError

# The form of a target that clients send to proxies, and that every server has to accept (RFC 9112, 3.2.2).
_ABSOLUTE: Final = re.compile(r"https?://[^/?]*", re.IGNORECASE)


class ClientGone(LambdadError):
    """The client closed the connection before the request was complete or the answer was sent."""


class BrokenAnswer(LambdadError):
    """The body of an answer ends before its end: the connection is closed behind what there is of it."""


class BodyTooLarge(LambdadError):
    """A request's body is larger than the reader allows."""


class Body:
    """A request's body as it arrives. It is held back (`hold`) while more than `high_water` bytes wait to be read."""

    high_water = 1024 * 1024
    announced = ""
    """The Content-Length that the client sent, which the parser has found to be a number; empty when there is none."""

    def __init__(self, wanted: Callable[[], None], hold: Callable[[bool], None]) -> None:
        self._wanted = wanted
        self._hold = hold
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._reader: asyncio.Future[None] | None = None
        self._broken = False
        self._when_broken: Callable[[], object] | None = None
        self.complete = False

    def feed(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes > self.high_water:
            self._hold(True)
        self._wake()

    def finish(self) -> None:
        self.complete = True
        self._wake()

    def break_off(self) -> None:
        """The client went away."""
        self._broken = True
        self._wake()
        if self._when_broken is not None:
            self._when_broken()

    def when_broken(self, call: Callable[[], object]) -> None:
        """Have something called when the client goes away, be it before or after the body was complete."""
        self._when_broken = call
        if self._broken:
            call()

    @property
    def broken(self) -> bool:
        """Whether the client has gone away, be it before or after the body was complete."""
        return self._broken

    async def chunks(self) -> AsyncIterator[bytes]:
        """The parts of the body in order. Raises ClientGone when it breaks off."""
        self._wanted()
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._waiting_bytes -= len(chunk)
                if self._waiting_bytes <= self.high_water:
                    self._hold(False)
                yield chunk
            if self.complete:
                return
            await self._more()

    def whole(self) -> bytes | None:
        """The whole body if it is here in one piece, without taking it; None otherwise."""
        if not self.complete or len(self._chunks) > 1:
            return None
        return self._chunks[0] if self._chunks else b""

    def take_whole(self) -> bytes | None:
        """The whole body, if all of it is here; None otherwise."""
        if not self.complete:
            return None
        whole = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._waiting_bytes = 0
        self._hold(False)
        return whole

    def put_back(self, whole: bytes) -> None:
        """Undo the reading of the whole body, for somebody else to read it."""
        self._chunks.appendleft(whole)
        self._waiting_bytes += len(whole)

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge beyond `limit` bytes, and ClientGone when it breaks off."""
        if self.complete and len(self._chunks) <= 1:
            chunk = self._chunks.popleft() if self._chunks else b""
            self._waiting_bytes = 0
            if len(chunk) > limit:
                raise BodyTooLarge
            return chunk
        if self.announced and int(self.announced) > limit:
            raise BodyTooLarge
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge
            parts.append(chunk)
        return b"".join(parts)

    async def discard(self, limit: int) -> bool:
        """Read on and forget, so that a client that is still sending gets to read its answer; False beyond `limit`."""
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                return False
        return True

    async def _more(self) -> None:
        if self._broken:
            raise ClientGone
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Request:
    """A request's head, with its body still on the way. `path` and `query` are as sent; header names are lower case.

    `client` is the address that it came from, empty for a Unix socket.
    """

    __slots__ = ("body", "client", "headers", "keep_alive", "method", "path", "query", "takes_chunks")

    def __init__(self, method: str, target: str, headers: Mapping[str, str], body: Body, keep_alive: bool) -> None:
        if not target.startswith("/"):
            target = _ABSOLUTE.sub("", target)
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive
        self.takes_chunks = True
        self.client = ""


class Response:
    """An answer. A body that is a generator is sent chunk by chunk, each as soon as it is there.

    Framing is the server's business, unless a header named exactly `Content-Length` is given: that of an answer to
    HEAD, or of a generator of which it is known how many bytes will come.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | AsyncGenerator[bytes, None] = b"",
    ) -> None:
        self.status = status
        self.headers = list(headers)
        self.body = body

"""The bodies of requests: in memory while small, in a file beyond; out of the chunks that SDKs wrap around uploads."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

from lambdad.ingress.messages import Request

# The largest body that is kept in memory: what is larger goes to a file, however large it gets.
IN_MEMORY_BYTES: Final = 1024 * 1024
# The size of a chunk in hexadecimal with its signature, and a trailer, are far below.
_LINE_BYTES: Final = 4096


class Malformed(ValueError):
    """A body is not what its headers say."""


class ReceivedBody(NamedTuple):
    """A body as the client meant it. `trailers` are the headers that came after it; `file` is at its beginning."""

    file: IO[bytes]
    length: int
    trailers: dict[str, str]


class UploadChunks:
    """Takes apart `aws-chunked`: chunks with sizes, signatures that are not looked at, and trailers.

    See https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and the page on trailers beside it.
    """

    def __init__(self) -> None:
        self.trailers: dict[str, str] = {}
        self.complete = False
        self._buffer = bytearray()
        self._left = 0
        self._in_trailers = False
        self._after_data = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The content in what has come. Raises Malformed."""
        self._buffer += data
        while self._buffer and not self.complete:
            if self._left:
                part = bytes(self._buffer[: self._left])
                del self._buffer[: self._left]
                self._left -= len(part)
                self._after_data = not self._left
                yield part
                continue
            line = self._line()
            if line is None:
                return
            self._read_line(line)

    def finish(self) -> None:
        """Nothing more comes. Raises Malformed when the last chunk is missing."""
        if not self.complete and not self._in_trailers:
            raise Malformed("the last chunk is missing")

    def _line(self) -> str | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > _LINE_BYTES:
                raise Malformed("a chunk has no size")
            return None
        line = self._buffer[:end].rstrip(b"\r").decode("latin-1")
        del self._buffer[: end + 1]
        return line

    def _read_line(self, line: str) -> None:
        if self._in_trailers:
            name, _, value = line.partition(":")
            if name:
                self.trailers[name.strip().lower()] = value.strip()
            else:
                self.complete = True
        elif self._after_data:
            if line:
                raise Malformed("a chunk is longer than it says")
            self._after_data = False
        else:
            try:
                self._left = int(line.partition(";")[0], 16)
            except ValueError:
                raise Malformed("a chunk has no size") from None
            self._in_trailers = self._left == 0


def is_wrapped(request: Request) -> bool:
    """Whether the body is `aws-chunked`."""
    return request.headers.get("x-amz-content-sha256", "").startswith("STREAMING-")


async def receive(request: Request, directory: Path | None) -> ReceivedBody:
    """The whole body; `directory` is where a large one is written, in a file without a name.

    Raises Malformed, ClientGone and OSError.
    """
    unwrap = UploadChunks() if is_wrapped(request) else None
    if unwrap is None and request.body.complete:
        whole = request.body.whole()
        if whole is not None:
            return ReceivedBody(io.BytesIO(whole), len(whole), {})
    file: IO[bytes] = io.BytesIO()
    length = 0
    async for data in request.body.chunks():
        for part in (data,) if unwrap is None else unwrap.feed(data):
            length += len(part)
            if length > IN_MEMORY_BYTES and isinstance(file, io.BytesIO):
                small, file = file, tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 (it is returned)
                file.write(small.getbuffer())
            file.write(part)
    if unwrap is not None:
        unwrap.finish()
        said = request.headers.get("x-amz-decoded-content-length", "")
        if said.isdigit() and int(said) != length:
            raise Malformed(f"{length} bytes came where {said} were announced")
    file.seek(0)
    return ReceivedBody(file, length, unwrap.trailers if unwrap is not None else {})

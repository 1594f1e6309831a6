"""The content encoding `aws-chunked`: parts with signatures of their own, and headers after the last of them.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and the page on trailers beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from lambdad.domain.errors import ServiceError

NAME: Final = "aws-chunked"
# The size of a chunk in hexadecimal with its signature, and a trailer, are far below.
_LINE_BYTES: Final = 16 * 1024
_SIZE: Final = re.compile(r"[0-9a-fA-F]{1,16}")
_ABOUT_CHUNKS: Final = frozenset(
    {
        "content-encoding",
        "content-length",
        "transfer-encoding",
        "x-amz-content-sha256",
        "x-amz-decoded-content-length",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-trailer",
    }
)


class IncompleteBody(ServiceError):
    """A body that is not what its headers say, or ends too early."""

    code = "IncompleteBody"
    status = 400


class Chunks:
    """Takes a body apart as it comes. Signatures are not looked at."""

    def __init__(self) -> None:
        self.trailers: dict[str, str] = {}
        """The headers that came last, by their lower-case names."""
        self._complete = False
        self._buffer = bytearray()
        self._left = 0
        self._in_trailers = False
        self._after_data = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The content in what has come. What follows the trailers is ignored. Raises IncompleteBody."""
        self._buffer += data
        while self._buffer and not self._complete:
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
        """Nothing more comes. Raises IncompleteBody when the last chunk is missing."""
        if not self._complete and not self._in_trailers:
            raise IncompleteBody("The body ends before its last chunk.")

    def _line(self) -> str | None:
        end = self._buffer.find(b"\n", 0, _LINE_BYTES)
        if end < 0:
            if len(self._buffer) > _LINE_BYTES:
                raise IncompleteBody("A line between the chunks is too long.")
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
                self._complete = True
        elif self._after_data:
            if line:
                raise IncompleteBody("A chunk is longer than it says.")
            self._after_data = False
        else:
            digits = line.partition(";")[0].strip()
            if not _SIZE.fullmatch(digits):
                raise IncompleteBody("A chunk does not say its size.")
            self._left = int(digits, 16)
            self._in_trailers = self._left == 0


def is_chunked(headers: Mapping[str, str]) -> bool:
    """Whether a body is in this encoding, by its headers' lower-case names: some clients only say so in the hash."""
    return headers.get("x-amz-content-sha256", "").startswith("STREAMING-") or NAME in headers.get(
        "content-encoding", ""
    )


def plain_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of the same body without the encoding."""
    plain = {name: value for name, value in headers.items() if name not in _ABOUT_CHUNKS}
    others = [name.strip() for name in headers.get("content-encoding", "").split(",") if name.strip() not in ("", NAME)]
    if others:
        plain["content-encoding"] = ",".join(others)
    length = headers.get("x-amz-decoded-content-length", "")
    if length.isdecimal():
        plain["content-length"] = length
    return plain

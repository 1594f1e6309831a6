"""The content encoding `aws-chunked`: parts with signatures of their own, and trailers. Only what is inside goes on.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping

from lambdad.domain.errors import ServiceError

NAME = "aws-chunked"
_LINE_BYTES = 16 * 1024


class IncompleteBody(ServiceError):
    """A body that says it is aws-chunked, and is not, or ends too early."""

    code = "IncompleteBody"
    status = 400


def is_chunked(headers: Mapping[str, str]) -> bool:
    """Whether the body is in this encoding, by its headers' lower-case names: some clients only say so in the hash."""
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


_ABOUT_CHUNKS = frozenset(
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


async def decode(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """What is inside, as it comes; the trailers are dropped. Raises IncompleteBody."""
    waiting = bytearray()
    left = -1  # bytes of the part that are still to come, with the line break behind it; -1 between parts
    async for piece in body:
        waiting += piece
        while waiting:
            if left < 0:
                end = waiting.find(b"\r\n")
                if end < 0:
                    if len(waiting) > _LINE_BYTES:
                        raise IncompleteBody("a line is too long")
                    break
                size = _size(bytes(waiting[:end]))
                del waiting[: end + 2]
                if size == 0:
                    async for _ in body:  # trailers
                        pass
                    return
                left = size + 2
            data = bytes(waiting[: max(left - 2, 0)])
            taken = min(len(waiting), left)
            del waiting[:taken]
            left = left - taken or -1
            if data:
                yield data
    raise IncompleteBody("the body ends before its last chunk")


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    try:
        size = int(digits, 16)
    except ValueError:
        size = -1
    if size < 0:
        raise IncompleteBody(f"{digits[:32]!r} is no size of a chunk")
    return size

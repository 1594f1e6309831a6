"""Bodies with signatures of their own in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from lambdad.adapters.aws_chunked import IncompleteBody, decode, is_chunked, plain_headers

SIGNED = b"4;chunk-signature=0a\r\nabcd\r\n10;chunk-signature=0b\r\n0123456789\r\n5678\r\n0;chunk-signature=0c\r\n\r\n"
INSIDE = b"abcd0123456789\r\n5678"
TRAILED = b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"


def decoded(body: bytes, size: int) -> bytes:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async def scenario() -> bytes:
        return b"".join([part async for part in decode(pieces())])

    return asyncio.run(scenario())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 30, 1000])
def test_what_is_inside(size: int) -> None:
    assert decoded(SIGNED, size) == INSIDE
    assert decoded(TRAILED, size) == b"abc"
    assert decoded(b"0\r\n\r\n", size) == b""


@pytest.mark.parametrize(
    "body", [b"", b"3\r\nabc\r\n", b"3\r\nab", b"x\r\nabc\r\n0\r\n\r\n", b"-3\r\nabc", b"a" * 20_000]
)
def test_what_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(IncompleteBody):
        decoded(body, 1000)


def test_headers_of_the_plain_body() -> None:
    headers = {
        "content-encoding": "aws-chunked,gzip",
        "content-length": "1000",
        "content-type": "text/plain",
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "900",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    assert is_chunked(headers)
    plain = plain_headers(headers)
    assert plain == {"content-encoding": "gzip", "content-length": "900", "content-type": "text/plain"}
    assert not is_chunked(plain)
    assert is_chunked({"content-encoding": "aws-chunked"})

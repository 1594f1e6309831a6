"""Bodies with signatures of their own in them."""

from __future__ import annotations

import pytest

from lambdad.domain.aws_chunked import Chunks, IncompleteBody, is_chunked, plain_headers

SIGNED = b"4;chunk-signature=0a\r\nabcd\r\n10;chunk-signature=0b\r\n0123456789\r\n5678\r\n0;chunk-signature=0c\r\n\r\n"
INSIDE = b"abcd0123456789\r\n5678"
TRAILED = b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\nX-Amz-Trailer-Signature: 0a\r\n\r\n"


def taken_apart(body: bytes, at_once: int) -> tuple[bytes, dict[str, str]]:
    chunks = Chunks()
    pieces = (body[start : start + at_once] for start in range(0, len(body), at_once))
    content = b"".join(part for piece in pieces for part in chunks.feed(piece))
    chunks.finish()
    return content, chunks.trailers


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 30, 1000])
def test_what_is_inside(at_once: int) -> None:
    assert taken_apart(SIGNED, at_once) == (INSIDE, {})
    assert taken_apart(TRAILED, at_once) == (
        b"abc",
        {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-trailer-signature": "0a"},
    )
    assert taken_apart(b"0\r\n\r\n", at_once) == (b"", {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"3\r\nabc\r\n",
        b"3\r\nab",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"x\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc",
        b"1_0\r\nabc",
        b"f" * 17 + b"\r\n",
        b"a" * 20_000,
    ],
)
def test_what_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(IncompleteBody):
        taken_apart(body, 1000)


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

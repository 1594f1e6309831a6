"""The checksums of an upload, in its headers and behind its content."""

from __future__ import annotations

import base64
import zlib

import pytest

from lambdad.domain.errors import ServiceError
from lambdad_neighbours.integrity import integrity_of

CRC32 = base64.b64encode(zlib.crc32(b"content").to_bytes(4, "big")).decode()
NAME = "x-amz-checksum-crc32"


def outcome(headers: dict[str, str], trailers: dict[str, str], method: str = "PUT", query: str = "") -> str:
    try:
        checks = integrity_of(method, query, headers)
        if checks is None:
            return "nothing"
        for part in (b"con", b"tent"):
            checks.update(part)
        checks.finish(trailers)
    except ServiceError as error:
        return error.code
    return "good"


@pytest.mark.parametrize(
    ("headers", "trailers", "expected"),
    [
        ({}, {}, "nothing"),
        ({NAME: CRC32}, {}, "good"),
        ({NAME: "AAAAAA=="}, {}, "BadDigest"),
        ({NAME: "AAAA"}, {}, "InvalidRequest"),
        ({NAME: "?"}, {}, "InvalidRequest"),
        ({"content-md5": "mgNkuembtIDdJecZCMCDbQ=="}, {}, "BadDigest"),
        ({"content-md5": "mgNk"}, {}, "InvalidDigest"),
        ({"x-amz-trailer": NAME}, {NAME: CRC32}, "good"),
        ({"x-amz-trailer": NAME}, {NAME: "AAAAAA=="}, "BadDigest"),
        ({"x-amz-trailer": NAME}, {}, "MalformedTrailerError"),
        ({"x-amz-trailer": "x-amz-other"}, {}, "good"),
        ({"x-amz-checksum-algorithm": "CRC32"}, {}, "nothing"),
    ],
)
def test_what_is_checked(headers: dict[str, str], trailers: dict[str, str], expected: str) -> None:
    assert outcome(headers, trailers) == expected


def test_what_is_not_the_bodys() -> None:
    assert outcome({NAME: "AAAAAA=="}, {}, "POST", "uploadId=u") == "nothing"
    assert outcome({NAME: "AAAAAA=="}, {}, "GET") == "nothing"


def test_an_algorithm_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "awscrt.checksums", None)
    assert outcome({"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, {}) == "good"

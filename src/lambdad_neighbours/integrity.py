"""Whether an upload to S3 is what its checksums say, be they in its headers or in its trailers.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from lambdad.domain.errors import ServiceError
from lambdad_neighbours.checksums import Running, Unknown

logger = logging.getLogger(__name__)

_PREFIX: Final = "x-amz-checksum-"
_CHECKSUMS: Final = {f"{_PREFIX}{name.lower()}": name for name in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")}
"""From the header to the algorithm."""
_SIZES_BYTES: Final = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32, "MD5": 16}
_MD5: Final = "content-md5"


class BadDigest(ServiceError):
    """A checksum is not that of the content."""

    code = "BadDigest"
    status = HTTPStatus.BAD_REQUEST


class InvalidDigest(ServiceError):
    """Content-MD5 is no MD5 checksum."""

    code = "InvalidDigest"
    status = HTTPStatus.BAD_REQUEST


class InvalidRequest(ServiceError):
    """A checksum header holds something else."""

    code = "InvalidRequest"
    status = HTTPStatus.BAD_REQUEST


class MalformedTrailerError(ServiceError):
    """A trailer that was announced has not come."""

    code = "MalformedTrailerError"
    status = HTTPStatus.BAD_REQUEST


class Integrity:
    """The checks of one body. Those of algorithms for which no library is installed are left out."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        """`headers` have lower-case names. Raises InvalidDigest and InvalidRequest."""
        self._claimed = {name: _decoded(name, headers[name]) for name in (*_CHECKSUMS, _MD5) if name in headers}
        trailer = headers.get("x-amz-trailer", "").strip().lower()
        self._awaited = trailer if trailer in _CHECKSUMS else ""
        self._running: dict[str, Running] = {}
        for name in filter(None, (*self._claimed, self._awaited)):
            try:
                self._running[name] = Running(_algorithm(name))
            except Unknown as error:
                logger.info("a checksum is not checked: %s", error)

    def update(self, part: bytes) -> None:
        """What has come of the content."""
        for running in self._running.values():
            running.update(part)

    def finish(self, trailers: Mapping[str, str]) -> None:
        """All has come. Raises BadDigest, InvalidRequest and MalformedTrailerError."""
        if self._awaited:
            if self._awaited not in trailers:
                raise MalformedTrailerError(
                    "The request contained trailing data that was not well-formed or did not conform to our published "
                    "schema."
                )
            self._claimed[self._awaited] = _decoded(self._awaited, trailers[self._awaited])
        for name, running in self._running.items():
            if running.digest() == self._claimed[name]:
                continue
            if name == _MD5:
                raise BadDigest("The Content-MD5 you specified did not match what we received.")
            raise BadDigest(f"The {_algorithm(name)} you specified did not match the calculated checksum.")


def integrity_of(method: str, query: str, headers: Mapping[str, str]) -> Integrity | None:
    """What is to be checked of a request to S3; None when nothing is. Raises InvalidDigest and InvalidRequest.

    CompleteMultipartUpload has the object's checksum in the header, which is not that of its body.
    """
    if method not in ("PUT", "POST") or (method == "POST" and "uploadId=" in query):
        return None
    if _MD5 in headers or "x-amz-trailer" in headers or not _CHECKSUMS.keys().isdisjoint(headers):
        return Integrity(headers)
    return None


def _algorithm(name: str) -> str:
    return _CHECKSUMS.get(name, "MD5")


def _decoded(name: str, value: str) -> bytes:
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) == _SIZES_BYTES[_algorithm(name)]:
        return decoded
    if name == _MD5:
        raise InvalidDigest("The Content-MD5 you specified was invalid.")
    raise InvalidRequest(f"Value for {name} header is invalid.")

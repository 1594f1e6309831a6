"""The checksums of S3's objects that are not their ETags.

A multipart upload has either a checksum of its parts' checksums (COMPOSITE) or one of the whole (FULL_OBJECT), which
for a CRC follows from those of the parts: nothing is read again.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
"""

import base64
import hashlib
import importlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

COMPOSITE: Final = "COMPOSITE"
FULL_OBJECT: Final = "FULL_OBJECT"


class Crc(NamedTuple):
    """A CRC whose bits are reflected, with all bits set at its beginning and inverted at its end."""

    polynomial: int
    width_bits: int


CRCS: Final = {
    "CRC32": Crc(0xEDB88320, 32),
    "CRC32C": Crc(0x82F63B78, 32),
    "CRC64NVME": Crc(0x9A6C9329AC4BC9B5, 64),
}
_HASHES: Final = {"MD5": hashlib.md5, "SHA1": hashlib.sha1, "SHA256": hashlib.sha256}


class Unknown(ValueError):
    """A checksum that cannot be computed here: of an algorithm for which no library is installed."""


class Running:
    """A checksum of what comes in pieces. Raises Unknown when it is made."""

    def __init__(self, algorithm: str) -> None:
        self._hash = _HASHES[algorithm](usedforsecurity=False) if algorithm in _HASHES else None
        self._value = 0
        if self._hash is None:
            if algorithm not in CRCS:
                raise Unknown(algorithm)
            self._crc_update = _updater(algorithm)
            self._crc_bytes = CRCS[algorithm].width_bits // 8

    def update(self, piece: bytes) -> None:
        """What comes next."""
        if self._hash is not None:
            self._hash.update(piece)
        else:
            self._value = self._crc_update(piece, self._value)

    def digest(self) -> bytes:
        """The checksum of what has come."""
        return self._value.to_bytes(self._crc_bytes, "big") if self._hash is None else self._hash.digest()


def checksum_of(data: Iterable[bytes], algorithm: str) -> bytes:
    """The checksum of a value that comes in pieces. Raises Unknown."""
    running = Running(algorithm)
    for piece in data:
        running.update(piece)
    return running.digest()


def _updater(algorithm: str) -> Callable[[bytes, int], int]:
    if algorithm == "CRC32":
        return zlib.crc32
    try:
        library = importlib.import_module("awscrt.checksums")
    except ImportError:
        raise Unknown(f"{algorithm} needs the package awscrt") from None
    update: Callable[[bytes, int], int] = library.crc32c if algorithm == "CRC32C" else library.crc64nvme
    return update


def of_whole(parts: Sequence[tuple[bytes, int]], algorithm: str) -> bytes:
    """The CRC of a value from those of its parts, each with the part's length in bytes. Raises Unknown."""
    crc = CRCS.get(algorithm)
    if crc is None:
        raise Unknown(f"{algorithm} of a whole does not follow from its parts")
    value = 0
    for checksum, length in parts:
        value = _times(crc, _power_of_x(crc, 8 * length), value) ^ int.from_bytes(checksum, "big")
    return value.to_bytes(crc.width_bits // 8, "big")


def encoded(checksum: bytes) -> str:
    """As it stands in headers."""
    return base64.b64encode(checksum).decode()


def _times(crc: Crc, left: int, right: int) -> int:
    """The product of two polynomials modulo the CRC's; the highest bit is the coefficient of 1."""
    product = 0
    bit = 1 << (crc.width_bits - 1)
    while bit:
        if left & bit:
            product ^= right
        right = (right >> 1) ^ crc.polynomial if right & 1 else right >> 1
        bit >>= 1
    return product


def _power_of_x(crc: Crc, exponent: int) -> int:
    """x to the `exponent`, by squaring."""
    power = 1 << (crc.width_bits - 1)
    square = power >> 1
    while exponent:
        if exponent & 1:
            power = _times(crc, square, power)
        square = _times(crc, square, square)
        exponent >>= 1
    return power

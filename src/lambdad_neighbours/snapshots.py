"""Files with the state of one service: written whole beside the last one and renamed, so that one of the two is there.

lambdad state\\n   {"format": 1, "moto": "5.2.5", "service": "iam"}\\n   pickles   32 bytes: BLAKE2b of all before
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

FORMAT: Final = 1
_MAGIC: Final = b"lambdad state\n"
_DIGEST_BYTES: Final = 32
_HEADER_BYTES: Final = 4096
_READ_BYTES: Final = 1024 * 1024


class Damaged(ValueError):
    """A file is not a whole snapshot, or not one of a format that is known."""


class _Digesting:
    """A file to write to that takes the checksum of what is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self._file.write(data)


def write(file: IO[bytes], service: str, moto_version: str, dump: Callable[[Any], None]) -> bytes:
    """Write a snapshot; its checksum is the same for two that say the same. Raises OSError and what `dump` raises."""
    target = _Digesting(file)
    header = {"format": FORMAT, "moto": moto_version, "service": service}
    target.write(_MAGIC + json.dumps(header).encode() + b"\n")
    dump(target)
    digest = target.digest.digest()
    file.write(digest)
    return digest


def replace(temporary: Path, path: Path) -> None:
    """Put a written snapshot in its place, with the directory on disk. Raises OSError."""
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def open_checked(file: IO[bytes]) -> tuple[str, bytes]:
    """The version of moto that wrote the snapshot, and its checksum; the file is then where the pickles begin.
    Raises Damaged and OSError."""
    if file.readline(_HEADER_BYTES) != _MAGIC:
        raise Damaged("it does not begin as a state of lambdad does")
    try:
        header = json.loads(file.readline(_HEADER_BYTES))
        version, written_by = header["format"], str(header["moto"])
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged("its header cannot be read") from error
    if version != FORMAT:
        raise Damaged(f"its format is {version}, not {FORMAT}")
    begin = file.tell()
    left = file.seek(0, os.SEEK_END) - _DIGEST_BYTES
    if left < begin:
        raise Damaged("it is cut off")
    file.seek(0)
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    while left:
        data = file.read(min(left, _READ_BYTES))
        digest.update(data)
        left -= len(data)
    if file.read() != digest.digest():
        raise Damaged("its checksum is wrong: it is cut off or changed")
    file.seek(begin)
    return written_by, digest.digest()

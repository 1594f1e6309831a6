"""Deployment packages by the hash of their content.

Nothing above this port knows where the bytes are: on this machine, on another, or in an object store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from lambdad.domain.errors import LambdadError

CHUNK_BYTES = 1 << 20

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


class BlobNotFound(LambdadError):
    """The store has no blob of this hash."""

    def __init__(self, sha256_hex: str) -> None:
        super().__init__(f"there is no blob {sha256_hex}")
        self.sha256_hex = sha256_hex


class Received(Protocol):
    """Bytes that have come in and are not in the store yet."""

    @property
    def sha256_hex(self) -> str: ...

    @property
    def content(self) -> bytes | Path:
        """The bytes, or a file that has them: for whoever has to look at them before they are kept."""

    async def keep(self) -> None:
        """Put them into the store, as `put` does."""


class Blobs(Protocol):
    """A content-addressed store. Keys are SHA-256 hashes as 64 lower-case hexadecimal digits; others are ValueError."""

    async def put(self, sha256_hex: str, data: bytes) -> None:
        """Keep the bytes; when it returns they survive a crash. Nothing happens when they are there already.

        Raises ValueError when the hash is not that of the bytes.
        """

    def receive(self, chunks: AsyncIterator[bytes]) -> AbstractAsyncContextManager[Received]:
        """Take in bytes whose hash is not known before; those that are not kept are forgotten after the block.

        What `chunks` raises is raised here, and nothing stays of what has come.
        """

    async def get(self, sha256_hex: str) -> bytes:
        """All bytes of a blob; raises BlobNotFound."""

    def read(self, sha256_hex: str, chunk_bytes: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        """The bytes of a blob in order, each chunk but the last of that size.

        Raises BlobNotFound before the first chunk. A blob deleted meanwhile is read to its end.
        """

    async def exists(self, sha256_hex: str) -> bool:
        """Whether the store has the blob."""

    async def size_bytes(self, sha256_hex: str) -> int:
        """The size of a blob; raises BlobNotFound."""

    async def delete(self, sha256_hex: str) -> None:
        """Remove a blob; nothing happens when there is none."""

    async def list(self) -> list[str]:
        """The hashes of all blobs, sorted."""

    async def total_bytes(self) -> int:
        """The size of all blobs together."""


def checked_key(sha256_hex: str) -> str:
    """The key itself; ValueError for what is not a SHA-256 in lower-case hexadecimal digits."""
    if not _SHA256_HEX.fullmatch(sha256_hex):
        raise ValueError(f"{sha256_hex!r} is not a SHA-256 hash")
    return sha256_hex


def check_content(sha256_hex: str, data: bytes) -> None:
    """Raise ValueError unless the key is the hash of the bytes."""
    if hashlib.sha256(data).hexdigest() != checked_key(sha256_hex):
        raise ValueError(f"the bytes do not hash to {sha256_hex}")

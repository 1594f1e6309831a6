"""Blobs in a dictionary: for tests, and for a daemon that keeps nothing."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lambdad.ports.blobs import CHUNK_BYTES, BlobNotFound, check_content, checked_key


class MemoryBlobs:
    """The in-memory twin of FileBlobs."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    async def put(self, sha256_hex: str, data: bytes) -> None:
        check_content(sha256_hex, data)
        self._blobs[sha256_hex] = bytes(data)

    @asynccontextmanager
    async def receive(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[_Received]:
        content = b"".join([chunk async for chunk in chunks])
        yield _Received(self, hashlib.sha256(content).hexdigest(), content)

    async def get(self, sha256_hex: str) -> bytes:
        try:
            return self._blobs[checked_key(sha256_hex)]
        except KeyError:
            raise BlobNotFound(sha256_hex) from None

    async def read(self, sha256_hex: str, chunk_bytes: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        data = await self.get(sha256_hex)
        for start in range(0, len(data), chunk_bytes):
            yield data[start : start + chunk_bytes]

    async def exists(self, sha256_hex: str) -> bool:
        return checked_key(sha256_hex) in self._blobs

    async def size_bytes(self, sha256_hex: str) -> int:
        return len(await self.get(sha256_hex))

    async def delete(self, sha256_hex: str) -> None:
        self._blobs.pop(checked_key(sha256_hex), None)

    async def list(self) -> builtins.list[str]:
        return sorted(self._blobs)

    async def total_bytes(self) -> int:
        return sum(map(len, self._blobs.values()))


@dataclass(frozen=True, slots=True)
class _Received:
    blobs: MemoryBlobs
    sha256_hex: str
    content: bytes

    async def keep(self) -> None:
        await self.blobs.put(self.sha256_hex, self.content)

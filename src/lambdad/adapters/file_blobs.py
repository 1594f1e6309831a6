"""Blobs as files: `<directory>/ab/abcdef...`, written so that a crash at any instant leaves a whole file or none."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lambdad.ports.blobs import CHUNK_BYTES, BlobNotFound, check_content, checked_key

_UNFINISHED = "unfinished"


class FileBlobs:
    """A directory of blobs, which must belong to this process alone. File work runs in threads."""

    def __init__(self, directory: Path) -> None:
        """Open or create the directory, and remove what writes that a crash cut short have left in it."""
        self._directory = directory
        self._unfinished = directory / _UNFINISHED
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._unfinished.mkdir()

    async def put(self, sha256_hex: str, data: bytes) -> None:
        await asyncio.to_thread(self._put, sha256_hex, data)

    @contextlib.asynccontextmanager
    async def receive(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[_Received]:
        descriptor, unfinished = tempfile.mkstemp(dir=self._unfinished)
        try:
            with os.fdopen(descriptor, "wb") as file:
                digest = hashlib.sha256()
                async for chunk in chunks:
                    await asyncio.to_thread(_take, chunk, digest, file)
                await asyncio.to_thread(_sync, file)
            yield _Received(self, digest.hexdigest(), Path(unfinished))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)

    async def keep(self, sha256_hex: str, unfinished: Path) -> None:
        """Take up a file of this hash, which is on disk already, from the directory of unfinished ones."""
        await asyncio.to_thread(self._place, unfinished, self._path(sha256_hex))

    async def get(self, sha256_hex: str) -> bytes:
        path = self._path(sha256_hex)
        try:
            return await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            raise BlobNotFound(sha256_hex) from None

    async def read(self, sha256_hex: str, chunk_bytes: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        try:
            file = self._path(sha256_hex).open("rb")
        except FileNotFoundError:
            raise BlobNotFound(sha256_hex) from None
        with file:
            while chunk := await asyncio.to_thread(file.read, chunk_bytes):
                yield chunk

    async def exists(self, sha256_hex: str) -> bool:
        return self._path(sha256_hex).is_file()

    async def size_bytes(self, sha256_hex: str) -> int:
        try:
            return self._path(sha256_hex).stat().st_size
        except FileNotFoundError:
            raise BlobNotFound(sha256_hex) from None

    async def delete(self, sha256_hex: str) -> None:
        await asyncio.to_thread(self._delete, sha256_hex)

    async def list(self) -> builtins.list[str]:
        return await asyncio.to_thread(lambda: sorted(path.name for path in self._paths()))

    async def total_bytes(self) -> int:
        return await asyncio.to_thread(self._total_bytes)

    def _path(self, sha256_hex: str) -> Path:
        return self._directory / checked_key(sha256_hex)[:2] / sha256_hex

    def _paths(self) -> builtins.list[Path]:
        return list(self._directory.glob("[0-9a-f][0-9a-f]/*"))

    def _put(self, sha256_hex: str, data: bytes) -> None:
        check_content(sha256_hex, data)
        path = self._path(sha256_hex)
        if path.exists():
            sync_directory(path.parent)  # another writer may not have come that far yet
            return
        descriptor, unfinished = tempfile.mkstemp(dir=self._unfinished)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                _sync(file)
            self._place(Path(unfinished), path)
        except BaseException:  # whatever stopped it, half a file is not left behind
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
            raise

    def _place(self, unfinished: Path, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        sync_directory(self._directory)
        os.replace(unfinished, path)
        sync_directory(path.parent)

    def _delete(self, sha256_hex: str) -> None:
        path = self._path(sha256_hex)
        try:
            path.unlink()
        except FileNotFoundError:
            return
        sync_directory(path.parent)

    def _total_bytes(self) -> int:
        total = 0
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                total += path.stat().st_size
        return total


@dataclass(frozen=True, slots=True)
class _Received:
    blobs: FileBlobs
    sha256_hex: str
    content: Path

    async def keep(self) -> None:
        await self.blobs.keep(self.sha256_hex, self.content)


def _take(chunk: bytes, digest: hashlib._Hash, file: BinaryIO) -> None:
    digest.update(chunk)
    file.write(chunk)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""What every store of blobs does: the files and the in-memory twin alike."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lambdad.adapters.file_blobs import FileBlobs
from lambdad.adapters.memory_blobs import MemoryBlobs
from lambdad.ports.blobs import BlobNotFound, Blobs

ABSENT = "0" * 64


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["files", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return FileBlobs(tmp_path / "blobs") if request.param == "files" else MemoryBlobs()


async def put(blobs: Blobs, data: bytes) -> str:
    await blobs.put(sha256_of(data), data)
    return sha256_of(data)


async def chunks(blobs: Blobs, sha256_hex: str, chunk_bytes: int) -> list[bytes]:
    return [chunk async for chunk in blobs.read(sha256_hex, chunk_bytes)]


def test_what_is_put_can_be_had(blobs: Blobs):
    async def scenario() -> None:
        key = await put(blobs, b"abc")
        await put(blobs, b"abc")
        assert await blobs.exists(key)
        assert await blobs.get(key) == b"abc"
        assert await blobs.size_bytes(key) == 3
        assert await chunks(blobs, key, 2) == [b"ab", b"c"]

    asyncio.run(scenario())


def test_an_empty_blob(blobs: Blobs):
    async def scenario() -> None:
        key = await put(blobs, b"")
        assert await blobs.get(key) == b""
        assert await chunks(blobs, key, 2) == []

    asyncio.run(scenario())


def test_what_is_absent(blobs: Blobs):
    async def scenario() -> None:
        assert not await blobs.exists(ABSENT)
        await blobs.delete(ABSENT)
        for read in (blobs.get(ABSENT), blobs.size_bytes(ABSENT), chunks(blobs, ABSENT, 1)):
            with pytest.raises(BlobNotFound, match=ABSENT):
                await read

    asyncio.run(scenario())


def test_the_key_must_be_the_hash_of_the_bytes(blobs: Blobs):
    async def scenario() -> None:
        with pytest.raises(ValueError, match="do not hash"):
            await blobs.put(ABSENT, b"abc")
        assert not await blobs.exists(ABSENT)
        assert await blobs.list() == []

    asyncio.run(scenario())


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"])
def test_a_key_is_a_hash(blobs: Blobs, key: str):
    async def scenario() -> None:
        calls: list[Callable[[], object]] = [
            lambda: blobs.put(key, b""),
            lambda: blobs.get(key),
            lambda: chunks(blobs, key, 1),
            lambda: blobs.exists(key),
            lambda: blobs.size_bytes(key),
            lambda: blobs.delete(key),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="not a SHA-256"):
                await call()  # type: ignore[misc]

    asyncio.run(scenario())


def test_list_delete_and_total(blobs: Blobs):
    async def scenario() -> None:
        keys = [await put(blobs, bytes(size)) for size in (1, 10, 100)]
        assert await blobs.list() == sorted(keys)
        assert await blobs.total_bytes() == 111
        await blobs.delete(keys[1])
        assert not await blobs.exists(keys[1])
        assert await blobs.list() == sorted([keys[0], keys[2]])
        assert await blobs.total_bytes() == 101

    asyncio.run(scenario())


def test_a_blob_deleted_while_it_is_read_is_read_to_its_end(blobs: Blobs):
    async def scenario() -> None:
        key = await put(blobs, b"abcdef")
        reading = blobs.read(key, 2)
        read = [await anext(reading)]
        await blobs.delete(key)
        read += [chunk async for chunk in reading]
        assert read == [b"ab", b"cd", b"ef"]

    asyncio.run(scenario())


def test_many_writers_of_one_blob(blobs: Blobs):
    async def scenario() -> None:
        data = bytes(range(256)) * 4096
        await asyncio.gather(*(put(blobs, data) for _ in range(20)))
        assert await blobs.get(sha256_of(data)) == data
        assert await blobs.total_bytes() == len(data)

    asyncio.run(scenario())


async def parts(*chunks: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if error is not None:
        raise error


def test_bytes_that_come_in_parts(blobs: Blobs):
    async def scenario() -> None:
        async with blobs.receive(parts(b"ab", b"", b"c")) as received:
            key = received.sha256_hex
            assert key == sha256_of(b"abc")
            content = received.content
            assert (content if isinstance(content, bytes) else content.read_bytes()) == b"abc"
            assert not await blobs.exists(key)
            await received.keep()
            assert await blobs.get(key) == b"abc"
        assert await blobs.get(key) == b"abc"
        async with blobs.receive(parts(b"abc")) as again:
            await again.keep()
        assert await blobs.list() == [key]

    asyncio.run(scenario())


def test_what_has_come_and_is_not_kept_is_forgotten(blobs: Blobs, tmp_path: Path):
    async def scenario() -> None:
        async with blobs.receive(parts(b"abc")):
            pass
        with pytest.raises(ConnectionError, match="gone"):
            async with blobs.receive(parts(b"abc", error=ConnectionError("gone"))):
                pytest.fail("not all has come")
        assert await blobs.list() == []
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    asyncio.run(scenario())


def test_files_survive_and_leftovers_of_a_crash_do_not(tmp_path: Path):
    async def scenario() -> None:
        key = await put(FileBlobs(tmp_path), b"abc")
        leftover = tmp_path / "unfinished" / "tmp123"
        leftover.write_bytes(b"ab")
        again = FileBlobs(tmp_path)
        assert not leftover.exists()
        assert await again.list() == [key]
        assert await again.get(key) == b"abc"
        assert (tmp_path / key[:2] / key).read_bytes() == b"abc"

    asyncio.run(scenario())


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    async def scenario() -> None:
        blobs = FileBlobs(tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)
            with pytest.raises(OSError, match="No space left"):
                await put(blobs, b"abc")
        assert await blobs.list() == []
        assert list((tmp_path / "unfinished").iterdir()) == []
        assert await blobs.get(await put(blobs, b"abc")) == b"abc"

    asyncio.run(scenario())

"""The cache of unpacked packages."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from lambdad.adapters import unpacked_code
from lambdad.adapters.memory_blobs import MemoryBlobs
from lambdad.adapters.unpacked_code import UnpackedCode
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.ports.blobs import BlobNotFound


def package(content: bytes = b"1") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.py", content)
    return file.getvalue()


async def stored(blobs: MemoryBlobs, data: bytes) -> str:
    key = hashlib.sha256(data).hexdigest()
    await blobs.put(key, data)
    return key


@pytest.fixture
def unpackings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every directory that was unpacked, in order."""
    done: list[Path] = []
    unpack = unpacked_code.unpack

    def counted(data: bytes, directory: Path) -> None:
        done.append(directory)
        unpack(data, directory)

    monkeypatch.setattr(unpacked_code, "unpack", counted)
    return done


def test_concurrent_callers_wait_for_one_unpacking(tmp_path: Path, unpackings: list[Path]):
    async def scenario() -> None:
        blobs = MemoryBlobs()
        key = await stored(blobs, package())
        code = UnpackedCode(tmp_path, blobs)
        directories = await asyncio.gather(*(code.directory_for(key) for _ in range(10)))
        assert set(directories) == {tmp_path / key}
        assert (tmp_path / key / "a.py").read_bytes() == b"1"
        assert await UnpackedCode(tmp_path, blobs).directory_for(key) == tmp_path / key
        assert len(unpackings) == 1

    asyncio.run(scenario())


def test_a_caller_that_gives_up_does_not_stop_the_others(tmp_path: Path, unpackings: list[Path]):
    async def scenario() -> None:
        blobs = MemoryBlobs()
        key = await stored(blobs, package())
        code = UnpackedCode(tmp_path, blobs)
        first = asyncio.create_task(code.directory_for(key))
        second = asyncio.create_task(code.directory_for(key))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second / "a.py").exists()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert len(unpackings) == 1

    asyncio.run(scenario())


def test_forget_removes_and_the_next_call_unpacks_again(tmp_path: Path, unpackings: list[Path]):
    async def scenario() -> None:
        blobs = MemoryBlobs()
        key = await stored(blobs, package())
        code = UnpackedCode(tmp_path, blobs)
        await code.forget(key)
        await code.directory_for(key)
        await code.forget(key)
        assert list(tmp_path.iterdir()) == []
        assert (await code.directory_for(key) / "a.py").exists()
        assert len(unpackings) == 2

    asyncio.run(scenario())


def test_forget_during_the_unpacking(tmp_path: Path, unpackings: list[Path]):
    async def scenario() -> None:
        blobs = MemoryBlobs()
        key = await stored(blobs, package())
        code = UnpackedCode(tmp_path, blobs)
        unpacking = asyncio.create_task(code.directory_for(key))
        await asyncio.sleep(0)
        await code.forget(key)
        await unpacking
        assert list(tmp_path.iterdir()) == []

    asyncio.run(scenario())


def test_failures_are_told_to_every_caller_and_not_remembered(tmp_path: Path):
    async def scenario() -> None:
        blobs = MemoryBlobs()
        good, bad = package(), b"not a zip"
        key = hashlib.sha256(good).hexdigest()
        code = UnpackedCode(tmp_path, blobs)
        answers = await asyncio.gather(*(code.directory_for(key) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [BlobNotFound] * 3
        with pytest.raises(InvalidParameterValueException):
            await code.directory_for(await stored(blobs, bad))
        await stored(blobs, good)
        assert (await code.directory_for(key) / "a.py").exists()

    asyncio.run(scenario())


def test_leftovers_of_a_crash_are_removed_when_it_opens(tmp_path: Path):
    leftover = tmp_path / f".{'0' * 64}.abc.unfinished"
    leftover.mkdir()
    (leftover / "a.py").write_bytes(b"1")
    (tmp_path / ".tmp123.unfinished").write_bytes(b"a package that was being copied")
    UnpackedCode(tmp_path, MemoryBlobs())
    assert list(tmp_path.iterdir()) == []

"""The cache of unpacked packages."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from lambdad.adapters import unpacked_code
from lambdad.adapters.memory_blobs import MemoryBlobs
from lambdad.adapters.unpacked_code import UnpackedCode
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.layers import merged_sha256
from lambdad.ports.blobs import BlobNotFound


def package(content: bytes = b"1") -> bytes:
    return archive_of({"a.py": content})


def archive_of(contents: dict[str, bytes | str]) -> bytes:
    """Files by path; text is the target of a symbolic link, and a path with `+x` names a program."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name.removesuffix("+x"))
            info.create_system = 3
            mode = stat.S_IFLNK | 0o777 if isinstance(content, str) else stat.S_IFREG
            info.external_attr = (mode | (0o755 if name.endswith("+x") else 0o644)) << 16
            archive.writestr(info, content)
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


Files = dict[str, bytes | str]


def tree(directory: Path) -> Files:
    """What is in a directory, as `archive_of` takes it; directories by their names with a slash."""
    found: Files = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_dir():
            found[name + "/"] = b""
        else:
            found[name + ("+x" if path.stat().st_mode & 0o111 else "")] = path.read_bytes()
    return found


def merged(tmp_path: Path, *layers: Files) -> Files:
    async def scenario() -> Files:
        blobs = MemoryBlobs()
        digests = [await stored(blobs, archive_of(layer)) for layer in layers]
        directory = await UnpackedCode(tmp_path / "unpacked", blobs).layers_directory(digests)
        assert directory is not None
        for digest, layer in zip(digests, layers, strict=True):
            files = {name: content for name, content in tree(tmp_path / "unpacked" / digest).items() if name[-1] != "/"}
            assert files == layer, "a layer itself has changed"
        return tree(directory)

    return asyncio.run(scenario())


def test_later_layers_lie_over_earlier_ones(tmp_path: Path):
    first: Files = {"bin/tool+x": b"#!1", "python/a.py": b"1", "python/b.py": b"1", "lib/l.so": "../bin/tool"}
    second: Files = {"python/b.py": b"2", "python/c/d.py": b"2", "extensions/e+x": b"#!2"}
    assert merged(tmp_path, first, second) == {
        "bin/": b"",
        "bin/tool+x": b"#!1",
        "extensions/": b"",
        "extensions/e+x": b"#!2",
        "lib/": b"",
        "lib/l.so": "../bin/tool",
        "python/": b"",
        "python/a.py": b"1",
        "python/b.py": b"2",
        "python/c/": b"",
        "python/c/d.py": b"2",
    }


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"a": b"1"}, {"a/b": b"2"}, {"a/": b"", "a/b": b"2"}),
        ({"a/b": b"1", "a/c/d": b"1"}, {"a": b"2"}, {"a": b"2"}),
        ({"a": "c", "c/d": b"1"}, {"a/b": b"2"}, {"a/": b"", "a/b": b"2", "c/": b"", "c/d": b"1"}),
        ({"a/b": b"1", "c": b"1"}, {"a": "c", "c": b"2"}, {"a": "c", "c": b"2"}),
        ({"a": "b", "b": b"1"}, {"a": b"2"}, {"a": b"2", "b": b"1"}),
        ({"a": "b", "b": b"1"}, {"a": "d", "d": b"2"}, {"a": "d", "b": b"1", "d": b"2"}),
    ],
)
def test_where_layers_disagree_the_later_one_wins(tmp_path: Path, first: Files, second: Files, expected: Files):
    assert merged(tmp_path, first, second) == expected


def test_without_hard_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "no")

    monkeypatch.setattr(os, "link", refuse)
    files: Files = {"bin/tool+x": b"#!1", "link": "bin/tool"}
    assert merged(tmp_path, files, {"a": b"2"}) == {"a": b"2", "bin/": b"", **files}


def test_layers_are_merged_once_and_told_by_their_order(tmp_path: Path):
    async def scenario() -> None:
        blobs = MemoryBlobs()
        code = UnpackedCode(tmp_path, blobs)
        one, two = [await stored(blobs, package(content)) for content in (b"1", b"2")]
        assert await code.layers_directory([]) is None
        assert await code.layers_directory([one]) == tmp_path / one
        both = await asyncio.gather(*(code.layers_directory([one, two]) for _ in range(10)))
        directory = tmp_path / merged_sha256([one, two])
        assert set(both) == {directory}
        assert (directory / "a.py").read_bytes() == b"2"
        assert (directory / "a.py").samefile(tmp_path / two / "a.py")
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755
        other = await code.layers_directory([two, one])
        assert other is not None
        assert (other / "a.py").read_bytes() == b"1"
        assert await code.list() == sorted([one, two, directory.name, other.name])

        await code.forget(directory.name)
        assert await code.list() == sorted([one, two, other.name])
        assert (tmp_path / two / "a.py").read_bytes() == b"2"
        assert await UnpackedCode(tmp_path, blobs).layers_directory([one, two]) == directory

    asyncio.run(scenario())


def test_layers_that_cannot_be_merged_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    async def scenario() -> None:
        blobs = MemoryBlobs()
        code = UnpackedCode(tmp_path, blobs)
        one, two = [await stored(blobs, package(content)) for content in (b"1", b"2")]
        with monkeypatch.context() as patched:
            patched.setattr(os, "link", refuse)
            with pytest.raises(OSError, match="full"):
                await code.layers_directory([one, two])
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([one, two])
        assert await code.layers_directory([one, two]) is not None
        with pytest.raises(BlobNotFound):
            await code.layers_directory([one, "f" * 64])

    asyncio.run(scenario())

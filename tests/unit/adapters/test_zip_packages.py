"""Archives, read and unpacked for real: good ones, broken ones, and ones made to do harm."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
import struct
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdad.adapters import zip_packages
from lambdad.adapters.zip_packages import inspect, unpack
from lambdad.domain.errors import InvalidParameterValueException

NOT_UNZIPPABLE = "Could not unzip uploaded file. Please check your file, then try to upload again."


def info(name: str, mode: int = stat.S_IFREG | 0o644, system: int = 3) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.filename = made.orig_filename = name
    made.external_attr = mode << 16
    made.create_system = system
    return made


def zipped(*entries: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicate names are wanted here
        for name, data in entries:
            archive.writestr(info(name) if isinstance(name, str) else name, data, method)
    return file.getvalue()


def link(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    return info(name, stat.S_IFLNK | 0o777), target.encode()


def refusal(data: bytes, directory: Path, max_unzipped_bytes: int = 1_000_000) -> str:
    """The message of both `inspect` and `unpack`, which has left nothing behind."""
    with pytest.raises(InvalidParameterValueException) as of_inspect:
        inspect(data, max_unzipped_bytes)
    with pytest.raises(InvalidParameterValueException) as of_unpack:
        unpack(data, directory / "code", max_unzipped_bytes)
    assert of_inspect.value.message == of_unpack.value.message
    assert list(directory.iterdir()) == []
    return of_inspect.value.message


def everything(root: Path) -> dict[str, bytes | str | None]:
    """The tree as {relative path: bytes, or link target, or None for a directory}."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = None if path.is_dir() else path.read_bytes()
    return found


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_package_is_unpacked(tmp_path: Path, method: int):
    data = zipped(
        ("handler.py", b"x = 1\n" * 100), ("lib/", b""), ("lib/deep/a.py", b""), ("./b.py", b"b"), method=method
    )
    unpack(data, tmp_path / "code")
    assert everything(tmp_path / "code") == {
        "b.py": b"b",
        "handler.py": b"x = 1\n" * 100,
        "lib": None,
        "lib/deep": None,
        "lib/deep/a.py": b"",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["code"]


def test_inspect_gives_what_the_api_reports(tmp_path: Path):
    data = zipped(("a", b"x" * 1000), ("b", b"y"))
    (tmp_path / "package.zip").write_bytes(data)
    found = inspect(data)
    assert found.code_sha256 == base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert found.sha256_hex == hashlib.sha256(data).hexdigest()
    assert (found.code_size, found.unzipped_bytes) == (len(data), 1001)
    assert inspect(tmp_path / "package.zip") == found


def test_permissions_are_kept_and_open_to_every_user_whatever_the_umask(tmp_path: Path):
    data = zipped(
        (info("bootstrap", stat.S_IFREG | 0o700), b"#!"),
        (info("private", stat.S_IFREG | 0o600), b""),
        (info("made-on-windows.py", 0, system=0), b""),
        (info("d/", stat.S_IFDIR | 0o700), b""),
        ("e/f", b""),
    )
    mask = os.umask(0o077)
    try:
        unpack(data, tmp_path / "code")
    finally:
        os.umask(mask)
    modes = {p.name: oct(stat.S_IMODE(p.stat().st_mode)) for p in [tmp_path / "code", *(tmp_path / "code").rglob("*")]}
    assert modes == {
        "code": "0o755",
        "bootstrap": "0o755",
        "private": "0o644",
        "made-on-windows.py": "0o644",
        "d": "0o755",
        "e": "0o755",
        "f": "0o644",
    }


def test_links_inside_are_kept(tmp_path: Path):
    data = zipped(("lib/libx.so.1", b"ELF"), link("lib/libx.so", "libx.so.1"), link("current", "lib"))
    unpack(data, tmp_path / "code")
    assert everything(tmp_path / "code") == {
        "current": "lib",
        "lib": None,
        "lib/libx.so": "libx.so.1",
        "lib/libx.so.1": b"ELF",
    }
    assert (tmp_path / "code/current/libx.so").read_bytes() == b"ELF"


def test_zip64_and_data_descriptors(tmp_path: Path):
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    file = Unseekable()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w", force_zip64=True) as entry:
        entry.write(b"content")
    unpack(file.getvalue(), tmp_path / "code")
    assert everything(tmp_path / "code") == {"a": b"content"}


def test_bytes_before_the_archive_are_no_hindrance(tmp_path: Path):
    unpack(b"#!/bin/sh\n" + zipped(("a", b"1")), tmp_path / "code")
    assert everything(tmp_path / "code") == {"a": b"1"}


@pytest.mark.parametrize("data", [b"", zipped()], ids=["no bytes", "no entries"])
def test_empty(data: bytes, tmp_path: Path):
    assert refusal(data, tmp_path) == "Uploaded file must be a non-empty zip"


@pytest.mark.parametrize(
    "data",
    [
        b"not a zip",
        b"PK\5\6",
        base64.b64encode(zipped(("a", b"1"))),
        zipped(("a", b"1" * 100))[:-1],
        zipped(("a", b"1" * 100))[:40],
        zipped(("a", b"1" * 100))[10:],
        zipped(("../a", b"1")),
        zipped(("/a", b"1")),
        zipped(("..\\a", b"1")),
        zipped(("a\0b", b"1")),
        zipped(("a", b"1"), ("a", b"2")),
        zipped(("a", b"1"), ("a/b", b"2")),
        zipped(link("a", "/etc/passwd")),
        zipped(link("a", "../b")),
        zipped(link("a", "b" * 5000)),
        zipped(link("d", "/tmp"), ("d/x", b"1")),
        zipped((info("tty", stat.S_IFCHR | 0o666), b"")),
        zipped(("a", b"1" * 100), method=zipfile.ZIP_BZIP2),
        zipped(("a", b"1" * 100), method=zipfile.ZIP_LZMA),
    ],
)
def test_broken_and_harmful_archives(data: bytes, tmp_path: Path):
    assert refusal(data, tmp_path) == NOT_UNZIPPABLE


def test_too_big(tmp_path: Path):
    data = zipped(("a", bytes(600)), ("b", bytes(400)))
    assert refusal(data, tmp_path, 1000) == "Unzipped size must be smaller than 1000 bytes"
    unpack(data, tmp_path / "code", 1001)


def test_encrypted(tmp_path: Path):
    data = bytearray(zipped(("a", b"1" * 100)))
    data[data.index(b"PK\1\2") + 8] |= 1
    assert refusal(bytes(data), tmp_path) == NOT_UNZIPPABLE


def test_a_wrong_checksum(tmp_path: Path):
    data = zipped(("good", b"1"), ("a", b"content"), method=zipfile.ZIP_STORED)
    assert refusal(data.replace(b"content", b"c0ntent"), tmp_path) == NOT_UNZIPPABLE


def test_more_or_fewer_bytes_than_declared(tmp_path: Path):
    """With the checksum of what a reader that believes the declared size would see."""
    for declared, checksum in ((b"1" * 10, zlib.crc32(b"1" * 10)), (b"1" * 2000, zlib.crc32(b"1" * 1000))):
        data = bytearray(zipped(("a", b"1" * 1000)))
        entry = data.index(b"PK\1\2")
        struct.pack_into("<I", data, entry + 16, checksum)
        struct.pack_into("<I", data, entry + 24, len(declared))
        if len(declared) > 1000:
            assert refusal(bytes(data), tmp_path) == NOT_UNZIPPABLE
        else:
            unpack(bytes(data), tmp_path / "code")
            assert everything(tmp_path / "code") == {"a": declared}
            (tmp_path / "code/a").unlink()
            (tmp_path / "code").rmdir()


def test_entries_that_share_one_body(tmp_path: Path):
    """The overlapping kind of zip bomb: every line of the table of contents points to the same compressed bytes."""
    data = zipped(("a", bytes(100_000)))
    start = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    line = data[start:end]
    lines = b"".join(line.replace(b"a", bytes([name])) for name in b"abcdefgh")
    tail = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 8, 8, len(lines), start, 0)
    assert refusal(data[:start] + lines + tail, tmp_path) == NOT_UNZIPPABLE


def test_nothing_is_left_when_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(zipped(("a", b"1")), tmp_path / "code")
    assert list(tmp_path.iterdir()) == []


def test_the_final_name_appears_only_when_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    sync = zip_packages._sync

    def watched(files: list[Path], directories: list[Path]) -> None:
        seen.append((tmp_path / "code").exists())
        sync(files, directories)

    monkeypatch.setattr(zip_packages, "_sync", watched)
    unpack(zipped(("a", b"1")), tmp_path / "code")
    assert seen == [False]
    assert (tmp_path / "code" / "a").read_bytes() == b"1"


def test_a_directory_that_exists_is_left_alone(tmp_path: Path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code/mine").write_bytes(b"1")
    unpack(zipped(("a", b"1")), tmp_path / "code")
    assert everything(tmp_path / "code") == {"mine": b"1"}
    assert [path.name for path in tmp_path.iterdir()] == ["code"]


SAMPLE = zipped(("handler.py", b"x = 1\n" * 30), ("d/", b""), ("d/a", b"2"), link("d/l", "a"), ("b", os.urandom(60)))


@settings(max_examples=600, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(SAMPLE)),
    st.binary(max_size=20),
)
def test_mutated_archives_give_the_one_error_or_unpack(changes: list[tuple[int, int]], cut: int, more: bytes):
    data = bytearray(SAMPLE)
    for at, value in changes:
        data[at] = value
    mutated = bytes(data) if cut % 3 else bytes(data[:cut]) + more
    with tempfile.TemporaryDirectory() as directory:
        try:
            inspect(mutated)
        except InvalidParameterValueException:
            with pytest.raises(InvalidParameterValueException):
                unpack(mutated, Path(directory) / "code")
            assert os.listdir(directory) == []
        else:
            unpack(mutated, Path(directory) / "code")
            assert os.listdir(directory) == ["code"]

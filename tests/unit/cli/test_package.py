"""Directories made into archives, and archives as they are."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from lambdad.adapters.zip_packages import inspect
from lambdad.cli import package
from lambdad.cli.failures import CommandFailed
from lambdad.cli.package import Archive, Directory, open_sources


def no_note(line: str) -> None:
    raise AssertionError(line)


def entries(packed: bytes) -> dict[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        return {entry.filename: entry for entry in archive.infolist()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "pkg").mkdir(parents=True)
    (root / "app.py").write_text("def handler(event, context): ...\n")
    (root / "pkg" / "data.txt").write_text("data " * 1000)
    (root / "bootstrap").write_text("#!/bin/sh\n")
    (root / "bootstrap").chmod(0o755)
    (root / "app.py").chmod(0o640)
    return root


def test_the_same_files_make_the_same_bytes(project: Path) -> None:
    first = Directory(project, no_note).package()
    for path in project.rglob("*"):
        os.utime(path, (1, 1))
    twin = project.with_name("twin")
    project.rename(twin)
    assert Directory(twin, no_note).package() == first


def test_names_are_sorted_and_modes_are_kept(project: Path) -> None:
    found = entries(Directory(project, no_note).package())
    assert list(found) == ["app.py", "bootstrap", "pkg/data.txt"]
    assert found["bootstrap"].external_attr >> 16 == stat.S_IFREG | 0o755
    assert found["app.py"].external_attr >> 16 == stat.S_IFREG | 0o640
    assert {entry.date_time for entry in found.values()} == {(1980, 1, 1, 0, 0, 0)}
    assert found["pkg/data.txt"].compress_size < found["pkg/data.txt"].file_size == 5000


def test_what_is_ignored_stays_out(project: Path) -> None:
    for name in (".git/config", "__pycache__/a.pyc", ".venv/lib/x.py", "node_modules/.cache/x", "node_modules/y/i.js"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    (project / ".lambdaignore").write_text("# mine\npkg/\n*.md\n!KEEP.md\n")
    (project / "README.md").write_text("x")
    (project / "KEEP.md").write_text("x")
    assert Directory(project, no_note).names == ["KEEP.md", "app.py", "bootstrap", "node_modules/y/i.js"]


def test_a_link_that_stays_inside_is_kept_as_a_link(project: Path) -> None:
    (project / "pkg" / "again.py").symlink_to("../app.py")
    (project / "alias").symlink_to("pkg")
    packed = Directory(project, no_note).package()
    found = entries(packed)
    assert stat.S_ISLNK(found["pkg/again.py"].external_attr >> 16)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.read("pkg/again.py") == b"../app.py"
        assert archive.read("alias") == b"pkg"


def test_the_daemon_takes_a_package_with_links(project: Path) -> None:
    (project / "pkg" / "again.py").symlink_to("../app.py")
    packed = Directory(project, no_note).package()
    assert inspect(packed).code_size == len(packed)


def test_what_a_link_leads_to_outside_is_packaged_itself(project: Path) -> None:
    outside = project.with_name("outside")
    outside.mkdir()
    (outside / "lib.py").write_text("lib")
    (project / "vendored").symlink_to(outside)
    (project / "absolute.py").symlink_to(project / "app.py")
    packed = Directory(project, no_note).package()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.read("vendored/lib.py") == b"lib"
        assert archive.read("absolute.py") == (project / "app.py").read_bytes()
    assert all(stat.S_ISREG(entry.external_attr >> 16) for entry in entries(packed).values())


def test_what_cannot_be_packaged_is_named(project: Path) -> None:
    outside = project.with_name("outside")
    outside.mkdir()
    (outside / "back").symlink_to(outside)
    (project / "circle").symlink_to(outside)
    (project / "nothing").symlink_to("/nowhere/at/all")
    os.mkfifo(project / "pipe")
    notes: list[str] = []
    names = Directory(project, notes.append).names
    assert names == ["app.py", "bootstrap", "pkg/data.txt"]
    assert sorted(notes) == [
        "circle/back is left out: it is a link to a directory that it is in",
        "nothing is left out: it is a link to nothing",
        "pipe is left out: it is not a file",
    ]


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandFailed, match="there is nothing to package in"):
        Directory(tmp_path / "empty", no_note)


def test_too_much_zipped_is_refused_with_the_largest_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "noise.bin").write_bytes(os.urandom(200_000))
    monkeypatch.setattr(package.quotas, "ZIPPED_BYTES", 100_000)
    with pytest.raises(CommandFailed) as failed:
        Directory(project, no_note).package()
    assert failed.value.message == (
        "the package is more than 97.7 KB zipped, which is the most that Lambda takes. Largest: noise.bin (195.3 KB), "
        "pkg/data.txt (4.9 KB), app.py (33 B). List in .lambdaignore what to leave out."
    )


def test_too_much_unzipped_is_refused_before_it_is_zipped(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package.quotas, "UNZIPPED_BYTES", 5000)
    monkeypatch.setattr(package.zipfile, "ZipFile", None)
    with pytest.raises(CommandFailed, match=r"the package is 4.9 KB unzipped; Lambda takes less than 4.9 KB"):
        Directory(project, no_note).package()


def test_an_archive_is_sent_as_it_is(project: Path, tmp_path: Path) -> None:
    packed = Directory(project, no_note).package()
    (tmp_path / "function.zip").write_bytes(packed)
    sources = open_sources(tmp_path / "function.zip", no_note)
    assert sources.package() == packed
    assert sources.names == ["app.py", "bootstrap", "pkg/data.txt"]
    assert sources.is_executable("bootstrap")
    assert not sources.is_executable("app.py")
    assert sources.read("app.py") == (project / "app.py").read_bytes()


def test_an_archive_above_the_quota_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.zip"
    path.write_bytes(b"x" * 2048)
    monkeypatch.setattr(package.quotas, "ZIPPED_BYTES", 1024)
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(CommandFailed, match=r"large.zip is 2.0 KB; Lambda takes at most 1.0 KB zipped"):
        Archive(path)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("x")
    with pytest.raises(CommandFailed, match=r"app.py is neither a directory nor a .zip archive"):
        Archive(tmp_path / "app.py")


def test_a_damaged_source_is_named(project: Path, tmp_path: Path) -> None:
    packed = bytearray(Directory(project, no_note).package())
    packed[40] ^= 0xFF
    (tmp_path / "damaged.zip").write_bytes(packed)
    with pytest.raises(CommandFailed, match=r"app.py in the archive cannot be read"):
        Archive(tmp_path / "damaged.zip").read("app.py")

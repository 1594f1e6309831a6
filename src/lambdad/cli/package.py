"""Deployment packages: what is in a directory or an archive, and a directory made into an archive.

The same files make the same bytes: entries are sorted, carry one fixed time, and keep their permissions.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

from lambdad.cli.failures import CommandFailed
from lambdad.cli.ignore import IGNORE_FILE, IgnoreRules
from lambdad.cli.output import Advance, progress_bar, size_text
from lambdad.domain import quotas

_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES: Final = 256 * 1024
_NAMED: Final = 3

Note = Callable[[str], None]
"""Takes a line about something that was left out."""


class Sources(Protocol):
    """The files of a package, by their names in it."""

    @property
    def names(self) -> Sequence[str]:
        """Every file, sorted."""

    def read(self, name: str) -> bytes:
        """What a file holds. Raises OSError."""

    def is_executable(self, name: str) -> bool:
        """Whether a file can be run once it is unpacked."""

    def package(self) -> bytes:
        """The archive. Raises CommandFailed when Lambda would not take it for its size."""


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    mode: int
    size_bytes: int
    link: str | None = None


class Directory:
    """A directory to package. `note` is told of what cannot be packaged. Raises OSError, CommandFailed."""

    def __init__(self, root: Path, note: Note) -> None:
        self._root = root.resolve(strict=True)
        self._note = note
        ignore_file = self._root / IGNORE_FILE
        self._rules = IgnoreRules(ignore_file.read_text().splitlines() if ignore_file.is_file() else ())
        self._files = dict(sorted(self._walk(self._root, "", (self._root,))))
        if not self._files:
            raise CommandFailed(f"there is nothing to package in {root}")

    @property
    def names(self) -> Sequence[str]:
        return list(self._files)

    def read(self, name: str) -> bytes:
        return self._files[name].path.read_bytes()

    def is_executable(self, name: str) -> bool:
        return bool(self._files[name].mode & stat.S_IXUSR)

    def package(self) -> bytes:
        total_bytes = sum(file.size_bytes for file in self._files.values())
        if total_bytes >= quotas.UNZIPPED_BYTES:
            limit = f"Lambda takes less than {size_text(quotas.UNZIPPED_BYTES)}"
            raise self._too_large(f"the package is {size_text(total_bytes)} unzipped; {limit}")
        archive = io.BytesIO()
        with progress_bar("Zipping", total_bytes) as advance, zipfile.ZipFile(archive, "w") as written:
            for name, file in self._files.items():
                _write(written, name, file, advance)
                if archive.tell() > quotas.ZIPPED_BYTES:
                    break
        if archive.tell() > quotas.ZIPPED_BYTES:
            limit = size_text(quotas.ZIPPED_BYTES)
            raise self._too_large(f"the package is more than {limit} zipped, which is the most that Lambda takes")
        return archive.getvalue()

    def _too_large(self, fact: str) -> CommandFailed:
        largest = sorted(self._files.items(), key=lambda item: -item[1].size_bytes)[:_NAMED]
        named = ", ".join(f"{name} ({size_text(file.size_bytes)})" for name, file in largest)
        return CommandFailed(f"{fact}. Largest: {named}. List in {IGNORE_FILE} what to leave out.")

    def _walk(self, directory: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[tuple[str, _File]]:
        """The files below a directory, by name. `above` are the real directories that we are in."""
        with os.scandir(directory) as entries:
            for entry in entries:
                name = prefix + entry.name
                path = Path(entry.path)
                if self._rules.ignores(name, is_directory=entry.is_dir()):
                    continue
                if entry.is_symlink() and (link := self._link_inside(path, name)) is not None:
                    yield name, _File(path, stat.S_IFLNK | 0o777, 0, link)
                elif entry.is_dir():
                    real = path.resolve()
                    if real in above:
                        self._note(f"{name} is left out: it is a link to a directory that it is in")
                    else:
                        yield from self._walk(path, f"{name}/", (*above, real))
                elif entry.is_file():
                    status = entry.stat()
                    yield name, _File(path, stat.S_IFREG | stat.S_IMODE(status.st_mode), status.st_size)
                else:
                    kind = "a link to nothing" if entry.is_symlink() else "not a file"
                    self._note(f"{name} is left out: it is {kind}")

    def _link_inside(self, path: Path, name: str) -> str | None:
        """What to store for a link that stays in the package; None for another, whose target is packaged instead."""
        link = os.readlink(path)
        target = os.path.normpath(os.path.join(os.path.dirname(name), link))
        is_inside = not os.path.isabs(link) and target.split("/")[0] != ".." and path.exists()
        return link if is_inside and path.resolve().is_relative_to(self._root) else None


def _write(archive: zipfile.ZipFile, name: str, file: _File, advance: Advance) -> None:
    entry = zipfile.ZipInfo(name, date_time=_EARLIEST)
    entry.create_system = 3  # Unix: the upper half of external_attr is the file's mode
    entry.external_attr = file.mode << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    if file.link is not None:
        archive.writestr(entry, file.link)
        return
    with file.path.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(_CHUNK_BYTES):
            target.write(chunk)
            advance(len(chunk))


class Archive:
    """A .zip file to deploy as it is. Raises OSError, CommandFailed."""

    def __init__(self, path: Path) -> None:
        size_bytes = path.stat().st_size
        if size_bytes > quotas.ZIPPED_BYTES:
            limit = size_text(quotas.ZIPPED_BYTES)
            raise CommandFailed(f"{path} is {size_text(size_bytes)}; Lambda takes at most {limit} zipped")
        self._bytes = path.read_bytes()
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(self._bytes))
        except zipfile.BadZipFile as error:
            raise CommandFailed(f"{path} is neither a directory nor a .zip archive") from error

    @cached_property
    def names(self) -> Sequence[str]:
        return sorted(entry.filename for entry in self._archive.infolist() if not entry.is_dir())

    def read(self, name: str) -> bytes:
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # damaged, or encrypted
            raise CommandFailed(f"{name} in the archive cannot be read: {error}") from error

    def is_executable(self, name: str) -> bool:
        return bool(self._archive.getinfo(name).external_attr >> 16 & stat.S_IXUSR)

    def package(self) -> bytes:
        return self._bytes


def open_sources(path: Path, note: Note) -> Sources:
    """What is to be deployed: a directory, or an archive. Raises OSError, CommandFailed."""
    return Directory(path, note) if path.is_dir() else Archive(path)

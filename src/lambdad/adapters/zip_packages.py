"""Reading and unpacking the .zip archives of deployment packages. Blocking: call it in a thread.

An archive comes from whoever may upload one, so nothing in it is believed: the rules of `domain.packages` are checked
before anything is unpacked, and no entry yields more bytes than its table of contents declares.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from lambdad.adapters.file_blobs import sync_directory
from lambdad.domain import packages
from lambdad.domain.packages import Entry, PackageInfo
from lambdad.domain.quotas import UNZIPPED_BYTES

UNFINISHED_SUFFIX = ".unfinished"

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Binary = io.BytesIO | io.BufferedReader

_CHUNK_BYTES = 1 << 18
_MADE_ON_UNIX = (3, 19)  # "version made by": Unix, and macOS
_MAX_TARGET_BYTES = 4095
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_IS_ENCRYPTED = 0x01 | 0x40  # general purpose bits: encrypted, and strongly encrypted

# What zipfile raises, beside its own BadZipFile, for archives that it cannot read.
_UNREADABLE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def inspect(package: bytes | Path, max_unzipped_bytes: int = UNZIPPED_BYTES) -> PackageInfo:
    """Check an archive to its last byte, as Lambda does when it is uploaded, and say what it is.

    Raises InvalidParameterValueException with AWS's message when it cannot be a deployment package.
    """
    with _opened(package) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        code_size = file.seek(0, os.SEEK_END)
        with _archive(file, max_unzipped_bytes) as (archive, contents):
            for info, entry in contents:
                if not entry.is_directory:
                    for _ in _content(archive, info):
                        pass
            unzipped_bytes = sum(entry.size_bytes for _, entry in contents)
    return PackageInfo(packages.code_sha256(sha256), code_size, unzipped_bytes)


def unpack(package: bytes | Path, directory: Path, max_unzipped_bytes: int = UNZIPPED_BYTES) -> None:
    """Unpack an archive so that `directory` either holds all of it, on disk, or does not exist.

    When the directory exists already, it stays as it is. Raises InvalidParameterValueException as `inspect` does, and
    OSError when the disk refuses.
    """
    with _opened(package) as file, _archive(file, max_unzipped_bytes) as (archive, contents):
        directory.parent.mkdir(parents=True, exist_ok=True)
        with made_whole(directory) as unfinished:
            _write(archive, contents, unfinished)


@contextmanager
def made_whole(directory: Path) -> Iterator[Path]:
    """A directory to fill, which takes the place of `directory` at the end of the block, unless there is one by then.

    It lies beside it (its name ends in `.unfinished`: a crash may leave it). Raises OSError when the disk refuses.
    """
    unfinished = Path(tempfile.mkdtemp(UNFINISHED_SUFFIX, f".{directory.name}.", directory.parent))
    try:
        yield unfinished
        try:
            unfinished.rename(directory)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        sync_directory(directory.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _opened(package: bytes | Path) -> Iterator[_Binary]:
    with io.BytesIO(package) if isinstance(package, bytes) else package.open("rb") as file:
        yield file


_Contents = list[tuple[zipfile.ZipInfo, Entry]]


@contextmanager
def _archive(file: _Binary, max_unzipped_bytes: int) -> Iterator[tuple[zipfile.ZipFile, _Contents]]:
    """The archive and its table of contents, which has passed every check."""
    if file.seek(0, os.SEEK_END) == 0:
        raise packages.empty()
    with _reading():
        archive = zipfile.ZipFile(file)
    with archive:
        infos = archive.infolist()
        if len(infos) > packages.MAX_ENTRIES or any(info.compress_type not in _METHODS for info in infos):
            raise packages.not_unzippable()
        contents = [(info, _entry(archive, info)) for info in infos]
        packages.check([entry for _, entry in contents], max_unzipped_bytes)
        yield archive, contents


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    mode = info.external_attr >> 16 if info.create_system in _MADE_ON_UNIX else 0
    is_encrypted = bool(info.flag_bits & _IS_ENCRYPTED)
    target = None
    if stat.S_ISLNK(mode) and not is_encrypted and info.file_size <= _MAX_TARGET_BYTES:
        target = os.fsdecode(b"".join(_content(archive, info)))
    # zipfile cuts `filename` at a NUL; the name as recorded is `orig_filename`.
    return Entry(
        name=info.orig_filename,
        size_bytes=info.file_size,
        compressed_bytes=info.compress_size,
        offset=info.header_offset,
        mode=mode,
        is_encrypted=is_encrypted,
        target=target,
    )


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """An entry's bytes: as many as declared, with the checksum declared, or InvalidParameterValueException."""
    with _reading():
        source = archive.open(info)
    with source:
        remaining_bytes = info.file_size
        while True:
            with _reading():
                chunk = source.read(_CHUNK_BYTES)
            if not chunk:
                break
            remaining_bytes -= len(chunk)
            if remaining_bytes < 0:
                raise packages.not_unzippable()
            yield chunk
    if remaining_bytes:
        raise packages.not_unzippable()


@contextmanager
def _reading() -> Iterator[None]:
    """Turn what zipfile raises for a broken archive into AWS's error; a failing disk stays an OSError."""
    try:
        yield
    except _UNREADABLE as error:
        raise packages.not_unzippable() from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: an offset in the archive points before its start
            raise
        raise packages.not_unzippable() from error


def _write(archive: zipfile.ZipFile, contents: _Contents, root: Path) -> None:
    """Write all entries under `root` and make them survive a power cut."""
    directories = _make_directories([entry for _, entry in contents], root)
    files = []
    for info, entry in contents:
        if not entry.is_directory and not entry.is_symlink:
            files.append(root.joinpath(*entry.path))
            _write_file(files[-1], entry.permissions, _content(archive, info))
    # Links come last, so that nothing is ever written through one.
    for _, entry in contents:
        if entry.is_symlink:
            _as_new(root.joinpath(*entry.path).symlink_to, entry.target or "")
    _sync(files, directories)


def _make_directories(entries: list[Entry], root: Path) -> list[Path]:
    """Make every directory that the entries name or imply, 0755 whatever the umask is; return them with the root."""
    wanted = set()
    for entry in entries:
        path = entry.path if entry.is_directory else entry.path[:-1]
        while path and path not in wanted:
            wanted.add(path)
            path = path[:-1]
    directories = [root, *(root.joinpath(*path) for path in sorted(wanted, key=len))]
    for directory in directories:
        if directory != root:
            _as_new(directory.mkdir)
        directory.chmod(0o755)
    return directories


def _write_file(path: Path, permissions: int, content: Iterator[bytes]) -> None:
    descriptor = _as_new(os.open, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        for chunk in content:
            file.write(chunk)
        os.fchmod(file.fileno(), permissions)


def _as_new(make: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
    """Make a file, directory or link that must not be there yet.

    It can be there: a file system that does not tell `a.py` from `A.py` has one place for both.
    """
    try:
        return make(*arguments, **options)
    except FileExistsError:
        raise packages.not_unzippable() from None


def _sync(files: list[Path], directories: list[Path]) -> None:
    """Flush files and directories to disk, after all are written: the first flush then takes most of them along."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for directory in directories:
        sync_directory(directory)

"""Several unpacked layers as one tree, as Lambda extracts them into `/opt`. Blocking: call it in a thread."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lambdad.adapters.file_blobs import sync_directory
from lambdad.adapters.zip_packages import made_whole

# What a file system answers that has no hard links, has too many of a file, or lies across another.
_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})


def merge(layers: Sequence[Path], directory: Path) -> None:
    """Lay directories over each other, later ones over earlier ones, so that `directory` holds all or does not exist.

    Files are hard links where they can be: nobody may write to them. Where one layer has a file and another a
    directory, the later one wins. When the directory exists already, it stays as it is. Raises OSError when the disk
    refuses.
    """
    with made_whole(directory) as unfinished:
        for layer in layers:
            _lay(layer, unfinished)


def _lay(source: Path, target: Path) -> None:
    """Lay what is in one directory over what is in another one.

    Links are never followed: one of an earlier layer that stands where a later one has a directory is replaced.
    """
    target.chmod(0o755)
    with os.scandir(source) as entries:
        for entry in entries:
            place = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                if not _is_directory(place):
                    _remove(place)
                    place.mkdir()
                _lay(Path(entry.path), place)
            else:
                _remove(place)
                _link(Path(entry.path), place)
    sync_directory(target)


def _is_directory(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def _remove(path: Path) -> None:
    if _is_directory(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    with source.open("rb") as original, target.open("xb") as copy:
        shutil.copyfileobj(original, copy)
        os.fchmod(copy.fileno(), stat.S_IMODE(os.fstat(original.fileno()).st_mode))
        copy.flush()
        os.fsync(copy.fileno())

"""Disks that are full, and what a daemon may say about them."""

from __future__ import annotations

import errno
import io
from pathlib import Path

DISK_MB = 24
EXPECTED = (
    r"the store cannot be used",
    r"Logs cannot be written",
    r"[Nn]o space left on device",
    r"database or disk is full",
    r"disk I/O error",
)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            while fits(file, size):
                pass
    return filler


def fits(file: io.FileIO, size: int) -> bool:
    try:
        file.write(b"x" * size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True

"""The data directory, and the lock that keeps a second daemon out of it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from lambdad.domain.errors import LambdadError


class DataDirInUse(LambdadError):
    """Another daemon holds the data directory; `pid` is its process, where it says."""

    def __init__(self, directory: Path, pid: str) -> None:
        super().__init__(f"the data directory {directory} is in use by another lambdad, process {pid or 'unknown'}")
        self.pid = pid


class DataDir:
    """Makes the directory and holds it until `release`; the kernel lets go when the process dies."""

    def __init__(self, directory: Path) -> None:
        """Raises DataDirInUse and OSError."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.path = directory
        self._file = os.open(directory / "lambdad.pid", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            raise DataDirInUse(directory, pid) from None
        os.truncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.truncate(self._file, 0)
        os.close(self._file)

"""Unpacked deployment packages on this machine's disk, made from blobs when an environment first needs them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from lambdad.adapters.zip_packages import UNFINISHED_SUFFIX, unpack
from lambdad.ports.blobs import Blobs, checked_key

_UNPACKED_AT_ONCE = 2


class UnpackedCode:
    """A cache: losing it costs the time to unpack again. The directory must belong to this process alone."""

    def __init__(self, directory: Path, blobs: Blobs) -> None:
        """Open or create the cache and remove what a crash has left half unpacked, or half removed."""
        self._directory = directory
        self._blobs = blobs
        self._unpacking: dict[str, asyncio.Task[Path]] = {}
        self._turns = asyncio.Semaphore(_UNPACKED_AT_ONCE)  # each takes a processor and the disk
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        for leftover in directory.glob(f".*{UNFINISHED_SUFFIX}"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()

    async def directory_for(self, sha256_hex: str) -> Path:
        """The directory with the package's files, readable by every user; unpacked now if it is not there yet.

        Callers that come while it is being unpacked wait for that one, and one that gives up does not stop it for the
        others. Raises BlobNotFound, and InvalidParameterValueException for a blob that is not a deployment package.
        """
        directory = self._directory / checked_key(sha256_hex)
        task = self._unpacking.get(sha256_hex)
        if task is None:
            if directory.is_dir():
                return directory
            task = asyncio.create_task(self._unpack(sha256_hex, directory))
            self._unpacking[sha256_hex] = task
            task.add_done_callback(lambda done: self._unpacked(sha256_hex, done))
        return await asyncio.shield(task)

    async def forget(self, sha256_hex: str) -> None:
        """Remove the unpacked files; nothing happens when there are none. No environment may be using them."""
        directory = self._directory / checked_key(sha256_hex)
        task = self._unpacking.get(sha256_hex)
        if task is not None:
            await asyncio.wait([task])
        if not directory.is_dir():
            return
        leaving = Path(tempfile.mkdtemp(UNFINISHED_SUFFIX, ".", self._directory))
        directory.rename(leaving)
        await asyncio.to_thread(shutil.rmtree, leaving, ignore_errors=True)

    async def _unpack(self, sha256_hex: str, directory: Path) -> Path:
        async with self._turns:
            # In a file beside it, since a package may be as large as what it unpacks to.
            with tempfile.NamedTemporaryFile(dir=self._directory, prefix=".", suffix=UNFINISHED_SUFFIX) as package:
                async for chunk in self._blobs.read(sha256_hex):
                    await asyncio.to_thread(package.write, chunk)
                package.flush()
                await asyncio.to_thread(unpack, Path(package.name), directory)
        return directory

    def _unpacked(self, sha256_hex: str, task: asyncio.Task[Path]) -> None:
        del self._unpacking[sha256_hex]
        if not task.cancelled():
            task.exception()  # every caller may have given up; whoever waits is told by the await

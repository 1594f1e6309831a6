"""Unpacked deployment packages and layers on this machine's disk, made from blobs when first needed."""

from __future__ import annotations

import asyncio
import builtins
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from lambdad.adapters.merged_layers import merge
from lambdad.adapters.zip_packages import UNFINISHED_SUFFIX, unpack
from lambdad.domain.layers import merged_sha256
from lambdad.ports.blobs import Blobs, checked_key

_MADE_AT_ONCE = 2
_ANY_HASH = "[0-9a-f]" * 64


class UnpackedCode:
    """A cache: losing it costs the time to unpack again. The directory must belong to this process alone."""

    def __init__(self, directory: Path, blobs: Blobs) -> None:
        """Open or create the cache and remove what a crash has left half unpacked, or half removed."""
        self._directory = directory
        self._blobs = blobs
        self._making: dict[str, asyncio.Task[Path]] = {}
        self._turns = asyncio.Semaphore(_MADE_AT_ONCE)  # each takes a processor and the disk
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
        return await self._directory_of(sha256_hex, lambda directory: self._unpack(sha256_hex, directory))

    async def layers_directory(self, digests: Sequence[str]) -> Path | None:
        """The tree of layers, later ones over earlier ones, readable by every user; None for no layers.

        One layer is its own tree; several are merged now if they have not been yet. Raises as `directory_for` does.
        """
        if not digests:
            return None
        if len(digests) == 1:
            return await self.directory_for(digests[0])
        return await self._directory_of(merged_sha256(digests), lambda directory: self._merge(digests, directory))

    async def forget(self, sha256_hex: str) -> None:
        """Remove the files of a package, or of merged layers; nothing happens when there are none.

        No environment may be using them.
        """
        directory = self._directory / checked_key(sha256_hex)
        task = self._making.get(sha256_hex)
        if task is not None:
            await asyncio.wait([task])
        if not directory.is_dir():
            return
        leaving = Path(tempfile.mkdtemp(UNFINISHED_SUFFIX, ".", self._directory))
        directory.rename(leaving)
        await asyncio.to_thread(shutil.rmtree, leaving, ignore_errors=True)

    async def list(self) -> builtins.list[str]:
        """The hashes of all packages and merged layers that there are directories of, sorted."""
        return await asyncio.to_thread(lambda: sorted(path.name for path in self._directory.glob(_ANY_HASH)))

    async def _directory_of(self, sha256_hex: str, make: Callable[[Path], Awaitable[None]]) -> Path:
        directory = self._directory / checked_key(sha256_hex)
        task = self._making.get(sha256_hex)
        if task is None:
            if directory.is_dir():
                return directory
            task = asyncio.create_task(_made(make, directory))
            self._making[sha256_hex] = task
            task.add_done_callback(lambda done: self._is_made(sha256_hex, done))
        return await asyncio.shield(task)

    async def _unpack(self, sha256_hex: str, directory: Path) -> None:
        async with self._turns:
            # In a file beside it, since a package may be as large as what it unpacks to.
            with tempfile.NamedTemporaryFile(dir=self._directory, prefix=".", suffix=UNFINISHED_SUFFIX) as package:
                async for chunk in self._blobs.read(sha256_hex):
                    await asyncio.to_thread(package.write, chunk)
                package.flush()
                await asyncio.to_thread(unpack, Path(package.name), directory)

    async def _merge(self, digests: Sequence[str], directory: Path) -> None:
        layers = [await self.directory_for(digest) for digest in digests]
        async with self._turns:
            await asyncio.to_thread(merge, layers, directory)

    def _is_made(self, sha256_hex: str, task: asyncio.Task[Path]) -> None:
        del self._making[sha256_hex]
        if not task.cancelled():
            task.exception()  # every caller may have given up; whoever waits is told by the await


async def _made(make: Callable[[Path], Awaitable[None]], directory: Path) -> Path:
    await make(directory)
    return directory

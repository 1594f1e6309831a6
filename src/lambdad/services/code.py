"""Deployment packages on their way into the blob store and out of it.

A package is stored once by its hash, and removed when no version refers to it and no environment runs it. While a
function is being created or updated its package is held, so that a deletion at the same moment cannot take it away.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from lambdad.domain import quotas
from lambdad.domain.errors import CodeStorageExceededException, RequestEntityTooLargeException
from lambdad.domain.packages import PackageInfo
from lambdad.ports.blobs import Blobs
from lambdad.ports.store import Store, StoreUnavailable, Tables


class UnpackedPackages(Protocol):
    """Packages as directories."""

    async def directory_for(self, sha256_hex: str) -> Path: ...

    async def forget(self, sha256_hex: str) -> None: ...


class CodeService:
    """Adds, reads and removes packages."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        unpacked: UnpackedPackages,
        inspect: Callable[[bytes], PackageInfo],
        unused: Callable[[str], asyncio.Future[None]],
    ) -> None:
        """`unused` gives a future that is done when no environment runs the package."""
        self._store = store
        self._blobs = blobs
        self._unpacked = unpacked
        self._inspect = inspect
        self._unused = unused
        self._held: Counter[str] = Counter()
        self._releases: set[asyncio.Task[None]] = set()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, package: bytes) -> AsyncIterator[PackageInfo]:
        """Check a package and keep it, unpacked and durable, for the time of the block.

        Raises as `inspect` does, and StoreUnavailable when the disk is full or failing.
        """
        info = await self.inspect(package)
        digest = info.sha256_hex
        async with self._turn(digest):
            self._held[digest] += 1
        try:
            try:
                await self._blobs.put(digest, package)
                await self._unpacked.directory_for(digest)
            except OSError as error:
                raise StoreUnavailable(f"the package cannot be kept: {error}") from error
            yield info
        finally:
            self._held[digest] -= 1
            if not self._held[digest]:
                del self._held[digest]
            self.release([digest])

    async def inspect(self, package: bytes) -> PackageInfo:
        """Check a package and keep nothing (`DryRun`).

        Raises InvalidParameterValueException for what is not a deployment package, RequestEntityTooLargeException for
        one that is too large to be sent in a request.
        """
        if len(package) > quotas.ZIPPED_BYTES:
            raise RequestEntityTooLargeException(f"Zipped size must be smaller than {quotas.ZIPPED_BYTES} bytes")
        return await asyncio.to_thread(self._inspect, package)

    def release(self, digests: Iterable[str]) -> None:
        """Remove those packages that nothing refers to any more, as soon as no environment runs them."""
        for digest in set(digests):
            task = asyncio.get_running_loop().create_task(self._release(digest))
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)

    async def _release(self, digest: str) -> None:
        if await self._is_used(digest):
            return
        await self._unused(digest)
        async with self._turn(digest):
            if not await self._is_used(digest):
                # The blob goes last: by it `collect` finds what a crash in between would leave.
                await self._unpacked.forget(digest)
                await self._blobs.delete(digest)

    def _turn(self, digest: str) -> asyncio.Lock:
        """What keeps a package from being taken up while it is being removed."""
        return self._turns.setdefault(digest, asyncio.Lock())

    async def _is_used(self, digest: str) -> bool:
        return digest in self._held or await self._store.read(lambda tables: tables.code_is_used(digest))

    async def collect(self) -> None:
        """Remove what a crash has left: packages that were stored for a function that never was."""
        used = await self._store.read(lambda tables: tables.code_in_use())
        self.release(digest for digest in await self._blobs.list() if digest not in used)

    def read(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a package, in parts."""
        return self._blobs.read(digest)

    async def settle(self) -> None:
        """Wait for removals that are under way, except those that wait for an environment to end."""
        if self._releases:
            await asyncio.wait(set(self._releases), timeout=1.0)


def check_storage(tables: Tables, account_id: str, region: str, adding: int) -> None:
    """The 75 GB of an account's packages in a region. Raises CodeStorageExceededException."""
    if tables.code_bytes(account_id, region) + adding > quotas.CODE_STORAGE_BYTES:
        raise CodeStorageExceededException("Code storage limit exceeded.")

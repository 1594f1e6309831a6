"""Deployment packages and archives of layers on their way into the blob store and out of it.

A package is stored once by its hash, and removed when no version refers to it and no environment runs it. While a
function is being created or updated its package is held, so that a deletion at the same moment cannot take it away.
What several layers are when merged is known by a hash too, is made of the layers when it is needed, and goes likewise.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from lambdad.domain import packages, quotas
from lambdad.domain.errors import CodeStorageExceededException, RequestEntityTooLargeException
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.layers import archives_of
from lambdad.domain.packages import PackageInfo
from lambdad.ports.blobs import Blobs
from lambdad.ports.store import Store, StoreUnavailable, Tables

Package = bytes | AsyncGenerator[bytes, None]
"""A package that came in the request, or one that is on its way from somewhere else, in parts."""


class UnpackedPackages(Protocol):
    """Packages as directories."""

    async def directory_for(self, sha256_hex: str) -> Path: ...

    async def forget(self, sha256_hex: str) -> None: ...

    async def list(self) -> list[str]:
        """The hashes of all packages and merged layers that there are directories of."""


class CodeService:
    """Adds, reads and removes packages."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        unpacked: UnpackedPackages,
        inspect: Callable[[bytes | Path], PackageInfo],
        unused: Callable[[str], asyncio.Future[None]],
    ) -> None:
        """`unused` gives a future that is done when no environment runs the package, or has it as a layer."""
        self._store = store
        self._blobs = blobs
        self._unpacked = unpacked
        self._inspect = inspect
        self._unused = unused
        self._held: Counter[str] = Counter()
        self._releases: set[asyncio.Task[None]] = set()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, package: Package) -> AsyncIterator[PackageInfo]:
        """Check a package and keep it, unpacked and durable, for the time of the block.

        Raises as `inspect` does, and StoreUnavailable when the disk is full or failing.
        """
        async with self._checked(package) as (info, keep), self.retain([info.sha256_hex]):
            with _disk():
                await keep()
                await self._unpacked.directory_for(info.sha256_hex)
            yield info

    @asynccontextmanager
    async def retain(self, digests: Iterable[str]) -> AsyncIterator[None]:
        """Have nothing of these removed for the time of the block, at whose end some version may refer to them."""
        taken: list[str] = []
        try:
            for digest in digests:
                async with self._turn(digest):
                    self._held[digest] += 1
                    taken.append(digest)
            yield
        finally:
            self._held -= Counter(taken)
            self.release(taken)

    async def inspect(self, package: Package) -> PackageInfo:
        """Check a package and keep nothing (`DryRun`).

        Raises InvalidParameterValueException for what is not a deployment package, RequestEntityTooLargeException for
        one that is too large to be sent in a request, and what a package that comes in parts raises on its way.
        """
        async with self._checked(package) as (info, _):
            return info

    @asynccontextmanager
    async def _checked(self, package: Package) -> AsyncIterator[tuple[PackageInfo, Callable[[], Awaitable[None]]]]:
        """What a package is, and what keeps it. One that comes in parts is never in memory as a whole."""
        if isinstance(package, bytes):
            if len(package) > quotas.ZIPPED_BYTES:
                raise RequestEntityTooLargeException(f"Zipped size must be smaller than {quotas.ZIPPED_BYTES} bytes")
            info = await asyncio.to_thread(self._inspect, package)
            yield info, partial(self._blobs.put, info.sha256_hex, package)
            return
        async with aclosing(package), AsyncExitStack() as stack:
            with _disk():
                received = await stack.enter_async_context(self._blobs.receive(_bounded(package)))
                info = await asyncio.to_thread(self._inspect, received.content)
            yield info, received.keep

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
        self.release({*await self._blobs.list(), *await self._unpacked.list()} - used)

    def read(self, digest: str) -> AsyncIterator[bytes]:
        """The bytes of a package, in parts."""
        return self._blobs.read(digest)

    async def settle(self) -> None:
        """Wait for removals that are under way, except those that wait for an environment to end."""
        if self._releases:
            await asyncio.wait(set(self._releases), timeout=1.0)


async def _bounded(package: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """The parts of a package, unless it is larger than all that it may unpack to."""
    size_bytes = 0
    async for chunk in package:
        size_bytes += len(chunk)
        if size_bytes > quotas.UNZIPPED_BYTES:
            raise packages.too_large()
        yield chunk


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"the package cannot be kept: {error}") from error


def archives(version: FunctionVersion) -> tuple[str, ...]:
    """What has to be kept for a version: its package and its layers. `release` takes it when the version is gone."""
    return (version.code_sha256, *archives_of(version.layers))


def check_storage(tables: Tables, account_id: str, region: str, adding: int) -> None:
    """The 75 GB of an account's packages and layers in a region. Raises CodeStorageExceededException."""
    if tables.code_bytes(account_id, region) + adding > quotas.CODE_STORAGE_BYTES:
        raise CodeStorageExceededException("Code storage limit exceeded.")

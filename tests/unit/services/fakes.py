"""The services' surroundings in memory: packages that need no disk, a host that runs nothing, runtimes by name."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_blobs import MemoryBlobs
from lambdad.adapters.memory_cipher import MemoryCipher
from lambdad.adapters.memory_metrics import MemoryMetricStore
from lambdad.adapters.memory_neighbours import MemoryNeighbours
from lambdad.adapters.memory_store import MemoryStore
from lambdad.domain import destinations
from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference
from lambdad.domain.code_signing import PackageSignature, invalid
from lambdad.domain.destinations import Destination
from lambdad.domain.events import Purpose
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Invocation, Outcome
from lambdad.domain.logging_configs import default_logging
from lambdad.domain.packages import PackageInfo
from lambdad.domain.provisioned_concurrency import Allocation
from lambdad.domain.runtimes import Language
from lambdad.ports.runtimes import InstalledRuntime
from lambdad.services.aliases import AliasesService
from lambdad.services.code import CodeService
from lambdad.services.code_signing import CodeSigningService
from lambdad.services.concurrency import ConcurrencyService
from lambdad.services.environment_encryption import EnvironmentEncryption
from lambdad.services.event_invoke_configs import EventInvokeConfigsService
from lambdad.services.functions import FunctionsService
from lambdad.services.invoke import InvokeService, Targets
from lambdad.services.layers import LayersService
from lambdad.services.metrics import Metrics
from lambdad.services.permissions import PermissionsService
from lambdad.services.provisioned_concurrency import ProvisionedConcurrencyService
from lambdad.services.runtime_management import RuntimeManagementService

KEY = FunctionKey("000000000000", "us-east-1", "f")
SIGNING_PROFILE = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/Mine/abcdefghij"


class FakeUnpacked:
    async def directory_for(self, sha256_hex: str) -> Path:
        return Path("/nowhere") / sha256_hex

    async def forget(self, sha256_hex: str) -> None: ...

    async def list(self) -> list[str]:
        return []


class FakeRuntimes:
    """A machine with `installed` interpreters, the last of which is the newest."""

    def __init__(self) -> None:
        self.installed = [(3, 11, 7)]

    async def require(self, name: str) -> InstalledRuntime:
        return InstalledRuntime(name, Language.PYTHON, self.installed[-1], Path("/python3.11"), "fake")

    async def find(self, name: str) -> InstalledRuntime | None:
        return await self.require(name)

    async def find_version(self, name: str, version: tuple[int, ...]) -> InstalledRuntime | None:
        if version not in self.installed:
            return None
        return InstalledRuntime(name, Language.PYTHON, version, Path("/python3.11"), "fake")


class FakeHost:
    """Answers with the version that ran, when told to."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.retired: list[str] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.holds = False
        self.wanted: dict[str, int] = {}
        self.there: dict[str, Allocation] = {}
        """Of provisioned environments: how many each version is to have, and what it has."""

    def begin(self, version: FunctionVersion, invocation: Invocation, finish: Callable[[Outcome], None]) -> bool:
        return False

    async def invoke(self, version: FunctionVersion, invocation: Invocation) -> Outcome:
        self.ran.append(version.version)
        if self.holds:
            gate = asyncio.get_running_loop().create_future()
            self.waiting.append(gate)
            await gate
        return Outcome(invocation.payload)

    def set_provisioned(self, version: FunctionVersion, count: int) -> None:
        self.wanted[version.version] = count
        if not count:
            del self.wanted[version.version]

    def provisioned(self, version: FunctionVersion) -> Allocation:
        return self.there.get(version.version, Allocation())

    def retire(self, version: FunctionVersion) -> None:
        self.retired.append(version.revision_id)


class FakeDestinations:
    """Lets every target pass that is not named `absent`."""

    def __init__(self) -> None:
        self.checked: list[tuple[str, str, Purpose]] = []

    async def check(self, version: FunctionVersion, destination: Destination, purpose: Purpose) -> None:
        self.checked.append((version.role, destination.arn, purpose))
        if destination.name == "absent":
            raise destinations.invalid(destination.arn)


class FakeSignatures:
    """Packages are known by their content: those in `known` are signed, and `changed` is not believed."""

    def __init__(self, now_s: float) -> None:
        def signed(
            profile_version_arn: str, expires_at_s: float = now_s + 1, revoked: bool = False
        ) -> PackageSignature:
            return PackageSignature(profile_version_arn, "job", now_s - 1, expires_at_s, revoked)

        self.known = {
            b"good": signed(SIGNING_PROFILE),
            b"other": signed(SIGNING_PROFILE.replace("Mine", "Other")),
            b"expired": signed(SIGNING_PROFILE, now_s),
            b"revoked": signed(SIGNING_PROFILE, revoked=True),
        }

    async def verify(self, package: AsyncIterator[bytes]) -> PackageSignature | None:
        content = b"".join([part async for part in package])
        if content == b"changed":
            raise invalid("it was changed")
        return self.known.get(content)


class World:
    """The services, put together as the application does."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.blobs = MemoryBlobs()
        self.host = FakeHost()
        self.clock = FakeClock()
        self.destinations = FakeDestinations()
        self.neighbours = MemoryNeighbours(services=("kms",))
        self.environments = EnvironmentEncryption(MemoryCipher(), self.neighbours)
        self.changes: list[FunctionKey] = []
        self.targets = Targets(self.store)
        self.concurrency = ConcurrencyService(self.store, self._changed)
        self.code = CodeService(self.store, self.blobs, FakeUnpacked(), _inspect, _unused)
        host: Any = self.host
        self.runtimes = FakeRuntimes()
        runtimes: Any = self.runtimes
        self.metrics = Metrics(MemoryMetricStore(), self.clock)
        self.signatures = FakeSignatures(self.clock.time())
        self.code_signing = CodeSigningService(self.store, self.signatures, self.code.read, self.metrics, self.clock)
        self.layers = LayersService(self.store, self.code, self.code_signing, self.clock)
        self.functions = FunctionsService(
            self.store,
            self.code,
            host,
            runtimes,
            self.clock,
            self.destinations,
            self.environments,
            self.layers,
            self.code_signing,
            created=self.targets.remember,
            changed=self._changed,
        )
        self.aliases = AliasesService(self.store, self._changed)
        self.provisioned = ProvisionedConcurrencyService(self.store, host, self.concurrency, self.clock, self._changed)
        self.runtime_management = RuntimeManagementService(self.store, runtimes, host, self._changed)
        self.event_invoke_configs = EventInvokeConfigsService(self.store, self.clock, self.destinations, self._changed)
        self.permissions = PermissionsService(self.store, self._changed)
        self.invoke = InvokeService(self.targets, self.concurrency, host, self.clock, self.metrics)

    def _changed(self, key: FunctionKey) -> None:
        self.changes.append(key)
        self.targets.forget(key)
        self.concurrency.recount(key)
        self.provisioned.function_changed(key)

    async def create(self, code: bytes = b"one", key: FunctionKey = KEY, **fields: Any) -> FunctionVersion:
        return await self.functions.create(draft(key, **fields), code, {}, False)


def scenario(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Run an asynchronous test in a world of its own."""

    def run() -> None:
        async def inside() -> None:
            await test(World())

        asyncio.run(inside())

    run.__name__ = test.__name__
    return run


def draft(key: FunctionKey = KEY, **fields: Any) -> FunctionVersion:
    return FunctionVersion(
        key=key,
        version=LATEST,
        role="arn:aws:iam::000000000000:role/r",
        runtime="python3.11",
        handler="a.b",
        code_sha256="",
        code_size=0,
        logging=default_logging(key.name),
        revision_id="",
        last_modified="",
        **fields,
    )


def reference(qualifier: str | None = None, key: FunctionKey = KEY) -> FunctionReference:
    return FunctionReference(key, qualifier)


def _inspect(package: bytes) -> PackageInfo:
    digest = hashlib.sha256(package).digest()
    return PackageInfo(base64.b64encode(digest).decode(), len(package), len(package))


def _unused(code_sha256: str) -> asyncio.Future[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done

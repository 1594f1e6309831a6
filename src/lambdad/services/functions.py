"""Functions and their published versions: create, change, publish, list, delete."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from lambdad.domain import destinations, environment_variables
from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference, is_version
from lambdad.domain.code_signing import PackageSignature
from lambdad.domain.errors import (
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.events import Purpose
from lambdad.domain.functions import (
    Function,
    FunctionVersion,
    new_revision_id,
    timestamp,
)
from lambdad.domain.layers import LayerUse, archives_of
from lambdad.domain.logging_configs import merged_logging
from lambdad.domain.packages import PackageInfo
from lambdad.domain.runtimes import UpdateRuntimeOn
from lambdad.domain.sealed_environments import SealedEnvironment
from lambdad.ports.clock import Clock
from lambdad.ports.compute import ComputeHost
from lambdad.ports.destinations import DestinationCheck
from lambdad.ports.runtimes import Runtimes
from lambdad.ports.store import Store, Tables
from lambdad.services import runtime_versions
from lambdad.services.code import CodeService, Package, archives, check_storage
from lambdad.services.code_signing import CodeSigningService, require_config
from lambdad.services.environment_encryption import EnvironmentEncryption
from lambdad.services.layers import LayersService, check_unzipped, require_archives
from lambdad.services.references import check_revision, find_version, require_function, require_unqualified
from lambdad.services.version_pages import Page, decode_marker, page_of

UPDATE_IN_PROGRESS = "The operation cannot be performed at this time. An update is in progress for resource: {}"


@dataclass(frozen=True, slots=True)
class FunctionDetails:
    """A version with what belongs to its function, as GetFunction answers."""

    version: FunctionVersion
    function: Function


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """How many functions an account has in a region, and the bytes of their packages."""

    functions: int
    code_bytes: int


class FunctionsService:
    """Operations on functions.

    `created` is told of every new function, `changed` of every one whose versions, aliases or limits have changed.
    """

    def __init__(
        self,
        store: Store,
        code: CodeService,
        host: ComputeHost,
        runtimes: Runtimes,
        clock: Clock,
        destinations: DestinationCheck,
        environments: EnvironmentEncryption,
        layers: LayersService,
        code_signing: CodeSigningService,
        created: Callable[[FunctionVersion], None],
        changed: Callable[[FunctionKey], None],
    ) -> None:
        self._created = created
        self._store = store
        self._code = code
        self._host = host
        self._runtimes = runtimes
        self._clock = clock
        self._destinations = destinations
        self.environments = environments
        self._layers = layers
        self._code_signing = code_signing
        self._changed = changed

    async def create(
        self,
        draft: FunctionVersion,
        package: Package,
        tags: Mapping[str, str],
        publish: bool,
        layers: Sequence[str] = (),
        code_signing_config_arn: str = "",
    ) -> FunctionVersion:
        """Create a function from a draft of its `$LATEST`. Returns what the API shows: version 1 if published.

        `layers` are ARNs of layer versions.
        """
        draft = replace(await self._checked(draft), layers=await self._layers.resolve(draft, layers))
        await self._check_dead_letter(draft)
        async with self._kept(draft.layers), self._code.hold(package) as info:
            signature = await self._code_signing.check(
                code_signing_config_arn, draft.key, info.sha256_hex, draft.layers
            )
            latest = self._stamped(_with_code(draft, info, signature))

            def work(tables: Tables) -> FunctionVersion:
                if code_signing_config_arn:
                    require_config(tables, code_signing_config_arn)
                if tables.function(latest.key) is not None:
                    raise ResourceConflictException(f"Function already exist: {latest.key.name}")
                check_storage(tables, latest.key.account_id, latest.key.region, info.code_size)
                _check_contents(tables, latest)
                number = tables.remembered_version_number(latest.key)
                tables.put_function(
                    Function(latest.key, dict(tags), number, code_signing_config_arn=code_signing_config_arn)
                )
                tables.put_version(latest)
                return self._publish(tables, latest, None) if publish else latest

            shown = await self._store.write(work)
            self._created(latest)  # at once: whatever changes it is told of later
        return shown

    async def get(self, reference: FunctionReference) -> FunctionDetails:
        def work(tables: Tables) -> FunctionDetails:
            function = require_function(tables, reference)
            return FunctionDetails(find_version(tables, reference)[0], function)

        details = await self._store.read(work)
        return replace(details, version=await runtime_versions.as_run(self._runtimes, details.version))

    async def update_code(
        self,
        reference: FunctionReference,
        package: Package,
        *,
        architecture: str | None = None,
        revision_id: str | None = None,
        publish: bool = False,
        dry_run: bool = False,
    ) -> FunctionVersion:
        """Replace the code of `$LATEST`; with `dry_run` only say what it would become."""
        key = require_unqualified(reference)
        details = await self.get(reference)
        current, signing = details.version, details.function.code_signing_config_arn
        check_revision(current.revision_id, revision_id)

        runtime_version = await runtime_versions.after_update(self._runtimes, current)

        def renewed(
            latest: FunctionVersion, info: PackageInfo, signature: PackageSignature | None = None
        ) -> FunctionVersion:
            changed = replace(_with_code(latest, info, signature), architecture=architecture or latest.architecture)
            return self._stamped(replace(changed, runtime_version=runtime_version))

        if dry_run and not signing:
            return renewed(current, await self._code.inspect(package))
        async with self._code.hold(package) as info:
            signature = await self._code_signing.check(signing, key, info.sha256_hex, ())
            if dry_run:
                return renewed(current, info, signature)

            def work(tables: Tables) -> tuple[FunctionVersion, FunctionVersion]:
                latest = self._latest(tables, reference, revision_id)
                _check_still(latest, _interpreter(latest) == _interpreter(current))
                check_storage(tables, key.account_id, key.region, info.code_size - latest.code_size)
                updated = renewed(latest, info, signature)
                _check_contents(tables, updated)
                tables.put_version(updated)
                return latest, self._publish(tables, updated, None) if publish else updated

            replaced, updated = await self._store.write(work)
        self._retire(replaced)
        return updated

    async def update_configuration(
        self, reference: FunctionReference, changes: Mapping[str, Any], revision_id: str | None
    ) -> FunctionVersion:
        """Change fields of `$LATEST`.

        `changes` are fields of FunctionVersion, but logging as a mapping and layers as ARNs.
        """
        require_unqualified(reference)
        details = await self.get(reference)
        current = details.version
        reseals = not changes.keys().isdisjoint(("environment", "kms_key_arn"))
        if "environment" in changes:
            changes = {**changes, "sealed_environment": None}
        if "layers" in changes:
            changes = {**changes, "layers": await self._layers.resolve(current, changes["layers"])}
        wanted = await self._checked(_changed_configuration(current, changes), current)
        if "dead_letter_arn" in changes:
            await self._check_dead_letter(wanted)
        changes = {**changes, "runtime_version": wanted.runtime_version}
        if reseals:
            changes = {**changes, "environment": {}, "sealed_environment": wanted.sealed_environment}

        def work(tables: Tables) -> tuple[FunctionVersion, FunctionVersion]:
            latest = self._latest(tables, reference, revision_id)
            _check_still(latest, _interpreter(latest) == _interpreter(current))
            _check_still(latest, not reseals or _seal(latest) == _seal(current))
            updated = self._stamped(_changed_configuration(latest, changes))
            _check_contents(tables, updated)
            tables.put_version(updated)
            return latest, updated

        layers = changes.get("layers", ())
        async with self._kept(layers):
            await self._code_signing.check(details.function.code_signing_config_arn, current.key, None, layers)
            replaced, updated = await self._store.write(work)
        self._retire(replaced)
        return updated

    async def publish(
        self, reference: FunctionReference, description: str | None, code_sha256: str | None, revision_id: str | None
    ) -> FunctionVersion:
        """Publish `$LATEST`; the last version again when nothing has changed since. `code_sha256` is in base64.

        Raises ResourceNotFoundException, PreconditionFailedException, InvalidParameterValueException for other code
        than was expected, and CodeStorageExceededException.
        """
        require_unqualified(reference)

        def work(tables: Tables) -> FunctionVersion:
            latest = self._latest(tables, reference, revision_id)
            current = hex_to_base64(latest.code_sha256)
            if code_sha256 is not None and code_sha256 != current:
                raise InvalidParameterValueException(
                    f"CodeSHA256 ({code_sha256}) is different from current CodeSHA256 in $LATEST ({current}). "
                    "Please try again with the CodeSHA256 in $LATEST."
                )
            return self._publish(tables, latest, description)

        published = await self._store.write(work)
        self._changed(reference.key)
        return published

    async def delete(self, reference: FunctionReference) -> None:
        """Delete a function, or the one version that the reference names."""
        if reference.qualifier is None:
            await self._delete_function(reference)
        else:
            await self._delete_version(reference, reference.qualifier)

    async def _delete_function(self, reference: FunctionReference) -> None:
        def work(tables: Tables) -> Sequence[FunctionVersion]:
            function = require_function(tables, reference)
            versions = tables.versions(reference.key, -1, 1_000_000)
            # https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html: numbers are not used again
            tables.remember_version_number(reference.key, function.next_version)
            tables.delete_function(reference.key)
            return versions

        for version in await self._store.write(work):
            self._retire(version)

    async def _delete_version(self, reference: FunctionReference, qualifier: str) -> None:
        def work(tables: Tables) -> FunctionVersion | None:
            require_function(tables, reference)
            if qualifier == LATEST:
                raise InvalidParameterValueException("$LATEST version cannot be deleted without deleting the function.")
            if not is_version(qualifier):
                raise InvalidParameterValueException("Deletion of aliases is not currently supported.")
            referring = [a.name for a in tables.aliases(reference.key, "", 1_000_000) if qualifier in a.versions]
            if referring:
                raise ResourceConflictException(
                    f"Unable to delete version because the following aliases reference it: [{', '.join(referring)}]"
                )
            version = tables.version(reference.key, qualifier)
            if version is not None:
                tables.delete_version(reference.key, qualifier)
            return version

        deleted = await self._store.write(work)
        if deleted is not None:
            self._retire(deleted)

    async def put_recursion_config(self, reference: FunctionReference, recursive_loop: str) -> None:
        """Say what becomes of recursive loops of a function: `Allow` or `Terminate`."""
        key = require_unqualified(reference)

        def work(tables: Tables) -> None:
            tables.put_function(replace(require_function(tables, reference), recursive_loop=recursive_loop))

        await self._store.write(work)
        self._changed(key)

    async def recursion_config(self, reference: FunctionReference) -> str:
        """What becomes of recursive loops of a function: `Allow` or `Terminate`."""
        require_unqualified(reference)
        return await self._store.read(lambda tables: require_function(tables, reference).recursive_loop)

    async def list_functions(
        self, account_id: str, region: str, *, all_versions: bool, marker: str | None, limit: int
    ) -> Page:
        after_name, after_number = decode_marker(marker)

        def work(tables: Tables) -> Sequence[FunctionVersion]:
            if all_versions:
                return tables.all_versions(account_id, region, (after_name, after_number), limit + 1)
            return tables.latest_versions(account_id, region, after_name, limit + 1)

        return page_of(await self._store.read(work), limit)

    async def list_versions(self, reference: FunctionReference, marker: str | None, limit: int) -> Page:
        key = require_unqualified(reference)
        _, after = decode_marker(marker)

        def work(tables: Tables) -> Sequence[FunctionVersion]:
            require_function(tables, reference)
            return tables.versions(key, after, limit + 1)

        return page_of(await self._store.read(work), limit)

    def code(self, version: FunctionVersion) -> AsyncIterator[bytes]:
        """The package of a version, as it was uploaded."""
        return self._code.read(version.code_sha256)

    async def version_with_code(self, key: FunctionKey, code_sha256: str) -> FunctionVersion | None:
        """One of a function's versions that have this package, if there is one."""

        def work(tables: Tables) -> FunctionVersion | None:
            versions = tables.versions(key, -1, 1_000_000)
            return next((version for version in versions if version.code_sha256 == code_sha256), None)

        return await self._store.read(work)

    async def usage(self, account_id: str, region: str) -> AccountUsage:
        """What an account has in a region."""

        def work(tables: Tables) -> AccountUsage:
            return AccountUsage(tables.function_count(account_id, region), tables.code_bytes(account_id, region))

        return await self._store.read(work)

    # Shared steps

    async def _checked(self, version: FunctionVersion, before: FunctionVersion | None = None) -> FunctionVersion:
        """The version with the interpreter that will run it, and its variables encrypted; `before` is what it changes.

        Raises InvalidParameterValueException.
        """
        environment_variables.check(version)
        runtime_version = await runtime_versions.after_update(self._runtimes, version, before)
        return await self.environments.seal(replace(version, runtime_version=runtime_version), before)

    @asynccontextmanager
    async def _kept(self, layers: Sequence[LayerUse]) -> AsyncIterator[None]:
        """Have the archives of layers stay for the time of the block. Raises InvalidParameterValueException."""
        async with self._code.retain(archives_of(layers)):
            if layers:  # one may have gone since it was resolved
                await self._store.read(lambda tables: require_archives(tables, layers))
            yield

    async def _check_dead_letter(self, version: FunctionVersion) -> None:
        """Whether a version's failed events can go where it wants them. Raises InvalidParameterValueException."""
        if version.dead_letter_arn:
            target = destinations.parse_dead_letter(version.dead_letter_arn)
            await self._destinations.check(version, target, Purpose.DEAD_LETTER)

    def _latest(self, tables: Tables, reference: FunctionReference, revision_id: str | None) -> FunctionVersion:
        latest = tables.version(reference.key, LATEST)
        if latest is None:
            raise reference.not_found()
        check_revision(latest.revision_id, revision_id)
        return latest

    def _publish(self, tables: Tables, latest: FunctionVersion, description: str | None) -> FunctionVersion:
        function = tables.function(latest.key)
        if function is None:
            raise ResourceNotFoundException(f"Function not found: {latest.key.arn}")
        last = tables.version(latest.key, str(function.next_version - 1)) if function.next_version > 1 else None
        if last is not None and latest.same_content(last):
            return last
        # A version counts for itself: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
        check_storage(tables, latest.key.account_id, latest.key.region, latest.code_size)
        published = replace(
            latest,
            version=str(function.next_version),
            description=latest.description if description is None else description,
            latest_description=latest.description,
            revision_id=new_revision_id(),
            configuration_revision_id="",
            last_modified=timestamp(self._clock.time()),
        )
        tables.put_version(published)
        tables.put_function(replace(function, next_version=function.next_version + 1))
        return published

    def _stamped(self, version: FunctionVersion) -> FunctionVersion:
        return replace(
            version,
            revision_id=new_revision_id(),
            configuration_revision_id="",
            last_modified=timestamp(self._clock.time()),
        )

    def _retire(self, version: FunctionVersion) -> None:
        self._changed(version.key)
        self._host.retire(version)
        self._code.release(archives(version))


def hex_to_base64(digest: str) -> str:
    """`CodeSha256` as the API shows it."""
    return base64.b64encode(bytes.fromhex(digest)).decode("ascii")


def _check_contents(tables: Tables, version: FunctionVersion) -> None:
    """Whether code and layers are there, and not too large together. Raises InvalidParameterValueException."""
    require_archives(tables, version.layers)
    check_unzipped(version)


def _with_code(
    version: FunctionVersion, info: PackageInfo, signature: PackageSignature | None = None
) -> FunctionVersion:
    return replace(
        version,
        code_sha256=info.sha256_hex,
        code_size=info.code_size,
        code_unzipped_bytes=info.unzipped_bytes,
        signing_profile_version_arn=signature.profile_version_arn if signature else "",
        signing_job_arn=signature.job_arn if signature else "",
    )


def _changed_configuration(latest: FunctionVersion, changes: Mapping[str, Any]) -> FunctionVersion:
    fields = dict(changes)
    if "logging" in fields:
        fields["logging"] = merged_logging(latest.logging, fields["logging"])
    return replace(latest, **fields)


def _check_still(latest: FunctionVersion, is_same: bool) -> None:
    """Raises ResourceConflictException where what a change was made from has been changed meanwhile."""
    if not is_same:
        raise ResourceConflictException(UPDATE_IN_PROGRESS.format(latest.key.arn))


def _interpreter(version: FunctionVersion) -> tuple[str, str, str]:
    """What the interpreter that is recorded of a version follows from; where it is held, that is itself."""
    held = version.runtime_version if version.update_runtime_on == UpdateRuntimeOn.MANUAL else ""
    return version.runtime, version.update_runtime_on, held


def _seal(version: FunctionVersion) -> tuple[str, SealedEnvironment | None]:
    return version.kms_key_arn, version.sealed_environment

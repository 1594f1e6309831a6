"""Layers: publishing versions of them, finding them again, and what functions may use.

https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.arns import FunctionKey
from lambdad.domain.errors import (
    AccessDeniedException,
    InvalidParameterValueException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.functions import FunctionVersion, new_revision_id, timestamp
from lambdad.domain.layers import (
    GET_LAYER_VERSION,
    LAYER_POLICIES,
    LAYER_VERSIONS,
    LAYERS,
    VERSION_END,
    Layer,
    LayerKey,
    LayerPolicy,
    LayerUse,
    LayerVersion,
    parse_version_arn,
    version_part,
)
from lambdad.domain.resource_policies import AccessRequest, Grant, Statement, account_root, allows
from lambdad.ports.clock import Clock
from lambdad.ports.store import Store, Tables
from lambdad.services.code import CodeService, Package, check_storage
from lambdad.services.code_signing import CodeSigningService
from lambdad.services.permissions import check_size

REVISION_MISMATCH: Final = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetLayerVersionPolicy API to retrieve the latest Revision Id"
)
_READ_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class LayerDetails:
    """What a request to publish says of a version, beside its archive."""

    description: str = ""
    license_info: str = ""
    compatible_runtimes: tuple[str, ...] = ()
    compatible_architectures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LayersPage:
    """A part of a list of versions, and after what the next part begins; empty for the last one."""

    versions: Sequence[LayerVersion]
    next_after: str = ""


class LayersService:
    """Operations on layers. An `account_id` and `region` are those of the caller."""

    def __init__(self, store: Store, code: CodeService, code_signing: CodeSigningService, clock: Clock) -> None:
        self._store = store
        self._code = code
        self._code_signing = code_signing
        self._clock = clock

    async def publish(self, key: LayerKey, package: Package, details: LayerDetails) -> LayerVersion:
        """Make the next version of a layer, which is a new one if there is none of this name.

        Raises as `CodeService.hold` does, and CodeStorageExceededException.
        """
        async with self._code.hold(package) as info:
            signature = await self._code_signing.signature_of(info.sha256_hex)

            def work(tables: Tables) -> LayerVersion:
                check_storage(tables, key.account_id, key.region, info.code_size)
                layer = tables.record(LAYERS, *key.parts) or Layer(key)
                version = LayerVersion(
                    key,
                    layer.next_version,
                    info.sha256_hex,
                    info.code_size,
                    info.unzipped_bytes,
                    timestamp(self._clock.time()),
                    details.description,
                    details.license_info,
                    details.compatible_runtimes,
                    details.compatible_architectures,
                    signature.profile_version_arn if signature else "",
                    signature.job_arn if signature else "",
                )
                tables.put_record(LAYERS, replace(layer, next_version=layer.next_version + 1))
                tables.put_record(LAYER_VERSIONS, version)
                return version

            return await self._store.write(work)

    async def get(self, account_id: str, region: str, key: LayerKey, version: int) -> LayerVersion:
        """A version of a layer of the account, or of one that lets the account use it.

        Raises ResourceNotFoundException and AccessDeniedException.
        """
        check_number(version)

        def work(tables: Tables) -> LayerVersion:
            found = _usable(tables, account_id, region, key, version)
            if found is None:
                raise ResourceNotFoundException("The resource you requested does not exist.")
            return found

        return await self._store.read(work)

    async def delete(self, key: LayerKey, version: int) -> None:
        """Remove a version, if there is one; functions that use it keep their copy of it."""
        check_number(version)

        def work(tables: Tables) -> LayerVersion | None:
            found = _find(tables, key, version)
            tables.delete_record(LAYER_VERSIONS, *_place(key, version))
            tables.delete_record(LAYER_POLICIES, *_place(key, version))
            return found

        deleted = await self._store.write(work)
        if deleted is not None:
            self._code.release([deleted.code_sha256])

    async def list_layers(
        self,
        account_id: str,
        region: str,
        *,
        runtime: str | None = None,
        architecture: str | None = None,
        after: str = "",
        limit: int = quotas.LIST_PAGE,
    ) -> LayersPage:
        """The newest version of each layer that fits, by names; `after` is a name."""

        def work(tables: Tables) -> LayersPage:
            found: list[LayerVersion] = []
            for layer in _layers(tables, account_id, region, after):
                newest = next(_fitting(tables, layer.key, runtime, architecture), None)
                if newest is None:
                    continue
                if len(found) == limit:
                    return LayersPage(found, found[-1].key.name)
                found.append(newest)
            return LayersPage(found)

        return await self._store.read(work)

    async def list_versions(
        self,
        key: LayerKey,
        *,
        runtime: str | None = None,
        architecture: str | None = None,
        after: str = "",
        limit: int = quotas.LIST_PAGE,
    ) -> LayersPage:
        """The versions of a layer that fit, newest first; `after` is the number of a version."""
        beyond = version_part(_number(after)) if after else ""

        def work(tables: Tables) -> LayersPage:
            found: list[LayerVersion] = []
            for version in _fitting(tables, key, runtime, architecture, beyond):
                if len(found) == limit:
                    return LayersPage(found, str(found[-1].version))
                found.append(version)
            return LayersPage(found)

        return await self._store.read(work)

    def read(self, version: LayerVersion) -> AsyncIterator[bytes]:
        """The archive of a version, as it was published."""
        return self._code.read(version.code_sha256)

    async def version_with_code(self, key: LayerKey, code_sha256: str) -> LayerVersion | None:
        """One of a layer's versions that have this archive, if there is one."""

        def work(tables: Tables) -> LayerVersion | None:
            versions = _fitting(tables, key, None, None)
            return next((version for version in versions if version.code_sha256 == code_sha256), None)

        return await self._store.read(work)

    # Permissions

    async def add_permission(
        self, key: LayerKey, version: int, grant: Grant, revision_id: str | None
    ) -> tuple[Statement, str]:
        """Let others use a version; the statement, and the revision id that the policy has then.

        Raises ResourceNotFoundException, InvalidParameterValueException, PreconditionFailedException,
        ResourceConflictException for an id that is taken, and PolicyLengthExceededException.
        """
        check_number(version)

        def work(tables: Tables) -> tuple[Statement, str]:
            _require(tables, key, version)
            policy = tables.record(LAYER_POLICIES, *_place(key, version)) or LayerPolicy(key, version, (), "")
            _check_revision(policy, revision_id)
            if any(statement.sid == grant.sid for statement in policy.statements):
                raise ResourceConflictException(
                    f"The statement id ({grant.sid}) provided already exists. Please provide a new statement id, "
                    "or remove the existing statement."
                )
            statement = grant.statement(key.version_arn(version))
            changed = LayerPolicy(key, version, (*policy.statements, statement), new_revision_id())
            check_size(changed.document())
            tables.put_record(LAYER_POLICIES, changed)
            return statement, changed.revision_id

        return await self._store.write(work)

    async def remove_permission(self, key: LayerKey, version: int, sid: str, revision_id: str | None) -> None:
        """Remove a statement. Raises ResourceNotFoundException and PreconditionFailedException."""
        check_number(version)

        def work(tables: Tables) -> None:
            policy = _require_policy(tables, key, version)
            left = tuple(statement for statement in policy.statements if statement.sid != sid)
            if len(left) == len(policy.statements):
                raise ResourceNotFoundException(f"Statement {sid} is not found in resource policy.")
            _check_revision(policy, revision_id)
            if left:
                tables.put_record(LAYER_POLICIES, replace(policy, statements=left, revision_id=new_revision_id()))
            else:
                tables.delete_record(LAYER_POLICIES, *_place(key, version))

        await self._store.write(work)

    async def policy(self, key: LayerKey, version: int) -> LayerPolicy:
        """Who else may use a version. Raises ResourceNotFoundException."""
        check_number(version)
        return await self._store.read(lambda tables: _require_policy(tables, key, version))

    # Functions

    async def resolve(self, version: FunctionVersion, arns: Sequence[str]) -> tuple[LayerUse, ...]:
        """The layers that a function is to use, in order.

        Neither the runtimes nor the architectures that a layer says it is for are looked at, as Lambda does not.
        Raises InvalidParameterValueException, and AccessDeniedException for a layer of another account that does not
        let this one use it, or of another region.
        """
        if len(arns) > quotas.LAYERS:
            raise InvalidParameterValueException(f"Cannot reference more than {quotas.LAYERS} layers.")
        places = [parse_version_arn(arn) for arn in arns]
        for index, (key, _) in enumerate(places):
            for other in range(index):
                if places[other][0] == key:
                    raise InvalidParameterValueException(
                        "Two different versions of the same layer are not allowed to be referenced in the same "
                        f"function. {arns[other]} and {arns[index]} are versions of the same layer."
                    )
        owner = version.key

        def work(tables: Tables) -> tuple[LayerUse, ...]:
            return tuple(_use(tables, owner, *place) for place in places)

        return await self._store.read(work) if places else ()


def require_archives(tables: Tables, layers: Sequence[LayerUse]) -> None:
    """Whether the archives of layers are still kept, in the unit of work that has a function use them.

    A layer version may have been deleted since it was resolved. Raises InvalidParameterValueException.
    """
    for layer in layers:
        if not tables.code_is_used(layer.code_sha256):
            raise _absent(layer.arn)


def check_unzipped(version: FunctionVersion) -> None:
    """The 250 MB that code and layers may have together when unpacked. Raises InvalidParameterValueException."""
    of_layers = sum(layer.unzipped_bytes for layer in version.layers)
    if of_layers > quotas.UNZIPPED_BYTES:
        raise InvalidParameterValueException(
            f"Layers consume more than the available size of {quotas.UNZIPPED_BYTES} bytes"
        )
    together = version.code_unzipped_bytes + of_layers
    if together > quotas.UNZIPPED_BYTES:
        raise InvalidParameterValueException(
            "Function code combined with layers exceeds the maximum allowed size of "
            f"{quotas.UNZIPPED_BYTES} bytes. The actual size is {together} bytes."
        )


def check_number(version: int) -> None:
    """Whether a number can be that of a version. Raises InvalidParameterValueException."""
    if version < 1:
        raise InvalidParameterValueException("Layer Version Cannot be less than 1.")


def access_denied(account_id: str, key: LayerKey, action: str, version: int | None = None) -> AccessDeniedException:
    """What a caller is told about a layer of another account, or of another region."""
    arn = key.arn if version is None else key.version_arn(version)
    return AccessDeniedException(
        f"User: {account_root(account_id)} is not authorized to perform: lambda:{action} on resource: {arn} "
        f"because no resource-based policy allows the lambda:{action} action"
    )


def _absent(arn: str) -> InvalidParameterValueException:
    return InvalidParameterValueException(f"Layer version {arn} does not exist.")


def _number(after: str) -> int:
    try:
        number = int(after)
    except ValueError:
        number = 0
    if not 0 < number < VERSION_END:
        raise InvalidParameterValueException("Invalid marker")
    return number


def _place(key: LayerKey, version: int) -> tuple[str, ...]:
    return (*key.parts, version_part(version))


def _find(tables: Tables, key: LayerKey, version: int) -> LayerVersion | None:
    return tables.record(LAYER_VERSIONS, *_place(key, version)) if version < VERSION_END else None


def _require(tables: Tables, key: LayerKey, version: int) -> LayerVersion:
    found = _find(tables, key, version)
    if found is None:
        raise ResourceNotFoundException(f"Layer version {key.version_arn(version)} does not exist.")
    return found


def _require_policy(tables: Tables, key: LayerKey, version: int) -> LayerPolicy:
    _require(tables, key, version)
    policy = tables.record(LAYER_POLICIES, *_place(key, version))
    if policy is None:
        raise ResourceNotFoundException("No policy is associated with the given resource.")
    return policy


def _check_revision(policy: LayerPolicy, given: str | None) -> None:
    if given is not None and given != policy.revision_id:
        raise PreconditionFailedException(REVISION_MISMATCH)


def _usable(tables: Tables, account_id: str, region: str, key: LayerKey, version: int) -> LayerVersion | None:
    """A version, if there is one, that the account may use in the region. Raises AccessDeniedException."""
    found = _find(tables, key, version) if key.region == region else None
    if key.region == region and key.account_id == account_id:
        return found
    policy = tables.record(LAYER_POLICIES, *_place(key, version)) if found else None
    request = AccessRequest(GET_LAYER_VERSION, account_root(account_id))
    if policy is None or not allows(policy.statements, request):
        raise access_denied(account_id, key, "GetLayerVersion", version)
    return found


def _use(tables: Tables, owner: FunctionKey, key: LayerKey, version: int) -> LayerUse:
    if key.account_id == owner.account_id and key.region != owner.region:
        raise InvalidParameterValueException(
            f"Layers are not in the same region as the function. Layers are expected to be in region {owner.region}."
        )
    found = _usable(tables, owner.account_id, owner.region, key, version)
    if found is None:
        raise _absent(key.version_arn(version))
    return found.use


def _layers(tables: Tables, account_id: str, region: str, after: str) -> Iterator[Layer]:
    """Layers by name, also those that have no version left."""
    while True:
        layers = tables.records(LAYERS, account_id, region, after=after, limit=_READ_AT_ONCE)
        yield from layers
        if len(layers) < _READ_AT_ONCE:
            return
        after = layers[-1].key.name


def _fitting(
    tables: Tables, key: LayerKey, runtime: str | None, architecture: str | None, after: str = ""
) -> Iterator[LayerVersion]:
    """Versions of a layer that fit, newest first."""
    while True:
        versions = tables.records(LAYER_VERSIONS, *key.parts, after=after, limit=_READ_AT_ONCE)
        yield from (version for version in versions if version.fits(runtime, architecture))
        if len(versions) < _READ_AT_ONCE:
            return
        after = version_part(versions[-1].version)

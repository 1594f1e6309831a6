"""Aliases: pointers to versions, with weighted routing.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-aliases.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference, is_version
from lambdad.domain.errors import (
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.functions import Alias, FunctionVersion, new_revision_id
from lambdad.ports.store import Store, Tables
from lambdad.services.provisioned_concurrency import check_alias
from lambdad.services.references import check_revision, require_function, require_unqualified


class AliasesService:
    """Operations on aliases. `changed` is told of the function whose alias has changed."""

    def __init__(self, store: Store, changed: Callable[[FunctionKey], None]) -> None:
        self._store = store
        self._changed = changed

    async def create(
        self, reference: FunctionReference, name: str, version: str, description: str, weights: Mapping[str, float]
    ) -> Alias:
        key = require_unqualified(reference)

        def work(tables: Tables) -> Alias:
            require_function(tables, reference)
            alias = _routed(Alias(key, name, version, description, new_revision_id()), weights)
            if tables.alias(key, name) is not None:
                raise ResourceConflictException(f"Alias already exists: {alias.arn}")
            _check_versions(tables, alias)
            tables.put_alias(alias)
            return alias

        alias = await self._store.write(work)
        self._changed(key)
        return alias

    async def get(self, reference: FunctionReference, name: str) -> Alias:
        key = require_unqualified(reference)

        def work(tables: Tables) -> Alias:
            require_function(tables, reference)
            return _require_alias(tables, key, name)

        return await self._store.read(work)

    async def update(
        self,
        reference: FunctionReference,
        name: str,
        *,
        version: str | None,
        description: str | None,
        weights: Mapping[str, float] | None,
        revision_id: str | None,
    ) -> Alias:
        key = require_unqualified(reference)

        def work(tables: Tables) -> Alias:
            require_function(tables, reference)
            alias = _require_alias(tables, key, name)
            check_revision(alias.revision_id, revision_id)
            alias = replace(
                alias,
                function_version=version or alias.function_version,
                description=alias.description if description is None else description,
                revision_id=new_revision_id(),
            )
            if weights is not None:
                alias = _routed(alias, weights)
            _check_versions(tables, alias)
            check_alias(tables, alias)
            tables.put_alias(alias)
            return alias

        alias = await self._store.write(work)
        self._changed(key)
        return alias

    async def delete(self, reference: FunctionReference, name: str) -> None:
        """Remove an alias; it is no error when there is none, only when there is no function."""
        key = require_unqualified(reference)

        def work(tables: Tables) -> None:
            require_function(tables, reference)
            tables.delete_alias(key, name)

        await self._store.write(work)
        self._changed(key)

    async def list(
        self, reference: FunctionReference, version: str | None, after: str, limit: int
    ) -> tuple[Sequence[Alias], str | None]:
        """A page of aliases, of those that point to `version` if it is given, and the name after which to go on."""
        key = require_unqualified(reference)

        def work(tables: Tables) -> Sequence[Alias]:
            require_function(tables, reference)
            if version is None:
                return tables.aliases(key, after, limit + 1)
            pointing = [alias for alias in tables.aliases(key, after, 1_000_000) if version in alias.versions]
            return pointing[: limit + 1]

        aliases = await self._store.read(work)
        shown = aliases[:limit]
        return shown, shown[-1].name if len(aliases) > limit else None


def _require_alias(tables: Tables, key: FunctionKey, name: str) -> Alias:
    alias = tables.alias(key, name)
    if alias is None:
        raise ResourceNotFoundException(f"Cannot find alias arn: {key.qualified_arn(name)}")
    return alias


def _routed(alias: Alias, weights: Mapping[str, float]) -> Alias:
    if len(weights) > 1:
        raise InvalidParameterValueException("Number of items in AdditionalVersionWeights cannot be greater than 1.")
    if not weights:
        return replace(alias, additional_version=None, additional_weight=0.0)
    ((version, weight),) = weights.items()
    if not is_version(version):
        raise InvalidParameterValueException(f"Invalid function version {version}.")
    return replace(alias, additional_version=version, additional_weight=weight)


def _check_versions(tables: Tables, alias: Alias) -> None:
    if alias.additional_version is not None:
        if LATEST in alias.versions:
            raise InvalidParameterValueException(
                "$LATEST is not supported for an alias pointing to more than 1 version"
            )
        if alias.additional_version == alias.function_version:
            raise InvalidParameterValueException(
                f"Invalid function version {alias.additional_version}. "
                f"Function version {alias.additional_version} is already included in routing configuration."
            )
    versions = [_require_version(tables, alias.key, version) for version in alias.versions]
    # https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html
    if len({version.role for version in versions}) > 1:
        raise InvalidParameterValueException("Both versions of a weighted alias must have the same execution role.")
    if len({version.dead_letter_arn for version in versions}) > 1:
        raise InvalidParameterValueException(
            "Both versions of a weighted alias must have the same dead-letter queue configuration, or none."
        )


def _require_version(tables: Tables, key: FunctionKey, name: str) -> FunctionVersion:
    version = tables.version(key, name)
    if version is None:
        raise ResourceNotFoundException(f"Function not found: {key.qualified_arn(name)}")
    return version

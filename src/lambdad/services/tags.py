"""The tags of functions, code signing configurations and event source mappings.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, Protocol

from lambdad.domain import quotas
from lambdad.domain.arns import FunctionReference
from lambdad.domain.errors import InvalidParameterValueException, ResourceNotFoundException
from lambdad.domain.tags import (
    CODE_SIGNING_CONFIG,
    EVENT_SOURCE_MAPPING,
    RESOURCE_TAGS,
    TOO_MANY_TAGS,
    ResourceTags,
    check,
)
from lambdad.ports.store import Store, Tables
from lambdad.services.references import require_function

_NOT_FOUND: Final = {
    CODE_SIGNING_CONFIG: (
        "The code signing configuration cannot be found. Check that the provided code signing configuration is not "
        "deleted: {}"
    ),
    EVENT_SOURCE_MAPPING: "The resource you requested does not exist.",
}


class TaggedResources(Protocol):
    """Knows the resources of one kind."""

    async def exists(self, arn: str) -> bool: ...


class TagsService:
    """Reads and changes tags.

    The methods of one resource take a function's reference, or the ARN of anything else. They raise
    ResourceNotFoundException for what is not there.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._resources: dict[str, TaggedResources] = {}

    def register(self, kind: str, resources: TaggedResources) -> None:
        """Say who knows the resources of a kind, which is the word before the last colon of their ARNs."""
        self._resources[kind] = resources

    async def put_new(self, arn: str, tags: Mapping[str, str]) -> None:
        """The tags that a resource other than a function is created with.

        Raises InvalidParameterValueException; `lambdad.domain.tags.check` tells before the resource is there.
        """
        check(tags)
        if tags:
            await self._store.write(lambda tables: tables.put_record(RESOURCE_TAGS, ResourceTags(arn, dict(tags))))

    async def forget(self, arn: str) -> None:
        """A resource other than a function is gone, and its tags with it."""
        await self._store.write(lambda tables: tables.delete_record(RESOURCE_TAGS, arn))

    async def get(self, resource: FunctionReference | str) -> Mapping[str, str]:
        await self._require(resource)
        return await self._store.read(lambda tables: _tags(tables, resource))

    async def add(self, resource: FunctionReference | str, tags: Mapping[str, str]) -> None:
        """Raises InvalidParameterValueException for reserved keys, and when there would be too many."""
        check(tags)
        await self._require(resource)

        def work(tables: Tables) -> None:
            merged = {**_tags(tables, resource), **tags}
            if len(merged) > quotas.TAGS:
                raise InvalidParameterValueException(TOO_MANY_TAGS)
            _put(tables, resource, merged)

        await self._store.write(work)

    async def remove(self, resource: FunctionReference | str, names: Iterable[str]) -> None:
        gone = set(names)
        await self._require(resource)

        def work(tables: Tables) -> None:
            tags = _tags(tables, resource)
            _put(tables, resource, {name: value for name, value in tags.items() if name not in gone})

        await self._store.write(work)

    async def _require(self, resource: FunctionReference | str) -> None:
        """Functions are looked for where their tags are."""
        if isinstance(resource, FunctionReference):
            return
        kind = resource.split(":")[5]
        known = self._resources.get(kind)
        if known is None or not await known.exists(resource):
            raise ResourceNotFoundException(_NOT_FOUND.get(kind, f"The {kind} does not exist: {{}}").format(resource))


def _tags(tables: Tables, resource: FunctionReference | str) -> Mapping[str, str]:
    if isinstance(resource, FunctionReference):
        return require_function(tables, resource).tags
    found = tables.record(RESOURCE_TAGS, resource)
    return found.tags if found is not None else {}


def _put(tables: Tables, resource: FunctionReference | str, tags: Mapping[str, str]) -> None:
    if isinstance(resource, FunctionReference):
        tables.put_function(replace(require_function(tables, resource), tags=tags))
    elif tags:
        tables.put_record(RESOURCE_TAGS, ResourceTags(resource, tags))
    else:
        tables.delete_record(RESOURCE_TAGS, resource)

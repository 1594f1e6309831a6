"""The tags of functions, code signing configurations and event source mappings.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

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


Exists = Callable[[Tables, str], bool]
"""Whether there is a resource of one kind with this ARN."""


def put_new(tables: Tables, arn: str, tags: Mapping[str, str]) -> None:
    """The tags that a resource other than a function is created with, in the unit of work that creates it.

    Raises InvalidParameterValueException.
    """
    check(tags)
    if tags:
        tables.put_record(RESOURCE_TAGS, ResourceTags(arn, dict(tags)))


def forget(tables: Tables, arn: str) -> None:
    """A resource other than a function goes, and its tags with it."""
    tables.delete_record(RESOURCE_TAGS, arn)


class TagsService:
    """Reads and changes tags.

    The methods of one resource take a function's reference, or the ARN of anything else. They raise
    ResourceNotFoundException for what is not there.
    """

    def __init__(self, store: Store, resources: Mapping[str, Exists]) -> None:
        """`resources` are the kinds beside functions, by the word before the last colon of their ARNs."""
        self._store = store
        self._resources = resources

    async def get(self, resource: FunctionReference | str) -> Mapping[str, str]:
        return await self._store.read(lambda tables: self._tags(tables, resource))

    async def add(self, resource: FunctionReference | str, tags: Mapping[str, str]) -> None:
        """Raises InvalidParameterValueException for reserved keys, and when there would be too many."""
        check(tags)

        def work(tables: Tables) -> None:
            merged = {**self._tags(tables, resource), **tags}
            if len(merged) > quotas.TAGS:
                raise InvalidParameterValueException(TOO_MANY_TAGS)
            _put(tables, resource, merged)

        await self._store.write(work)

    async def remove(self, resource: FunctionReference | str, names: Iterable[str]) -> None:
        gone = set(names)

        def work(tables: Tables) -> None:
            tags = self._tags(tables, resource)
            _put(tables, resource, {name: value for name, value in tags.items() if name not in gone})

        await self._store.write(work)

    def _tags(self, tables: Tables, resource: FunctionReference | str) -> Mapping[str, str]:
        """Raises ResourceNotFoundException."""
        if isinstance(resource, FunctionReference):
            return require_function(tables, resource).tags
        kind = resource.split(":")[5]
        exists = self._resources.get(kind)
        if exists is None or not exists(tables, resource):
            raise ResourceNotFoundException(_NOT_FOUND.get(kind, f"The {kind} does not exist: {{}}").format(resource))
        found = tables.record(RESOURCE_TAGS, resource)
        return found.tags if found is not None else {}


def _put(tables: Tables, resource: FunctionReference | str, tags: Mapping[str, str]) -> None:
    if isinstance(resource, FunctionReference):
        tables.put_function(replace(require_function(tables, resource), tags=tags))
    elif tags:
        tables.put_record(RESOURCE_TAGS, ResourceTags(resource, tags))
    else:
        forget(tables, resource)

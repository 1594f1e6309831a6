"""The tags of functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.arns import FunctionReference
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.ports.store import Store, Tables
from lambdad.services.functions import require_function

TOO_MANY_TAGS: Final = "Number of tags exceeds resource tag limit."


class TagsService:
    """Reads and changes tags. Every method raises ResourceNotFoundException for an unknown function."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, reference: FunctionReference) -> Mapping[str, str]:
        return await self._store.read(lambda tables: require_function(tables, reference).tags)

    async def add(self, reference: FunctionReference, tags: Mapping[str, str]) -> None:
        def work(tables: Tables) -> None:
            function = require_function(tables, reference)
            merged = {**function.tags, **tags}
            if len(merged) > quotas.TAGS:
                raise InvalidParameterValueException(TOO_MANY_TAGS)
            tables.put_function(replace(function, tags=merged))

        await self._store.write(work)

    async def remove(self, reference: FunctionReference, names: Iterable[str]) -> None:
        gone = set(names)

        def work(tables: Tables) -> None:
            function = require_function(tables, reference)
            left = {name: value for name, value in function.tags.items() if name not in gone}
            tables.put_function(replace(function, tags=left))

        await self._store.write(work)

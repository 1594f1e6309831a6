"""Tags of what is not a function, on the in-memory store. Those of functions are in the api tier."""

from __future__ import annotations

import asyncio

import pytest

from lambdad.adapters.memory_store import MemoryStore
from lambdad.domain import quotas
from lambdad.domain.errors import InvalidParameterValueException, ResourceNotFoundException
from lambdad.domain.tags import CODE_SIGNING_CONFIG, EVENT_SOURCE_MAPPING, check
from lambdad.services.tags import TagsService, forget, put_new

PLACE = "arn:aws:lambda:us-east-1:000000000000"
MAPPING = f"{PLACE}:event-source-mapping:01234567-89ab-cdef-0123-456789abcdef"
CONFIG = f"{PLACE}:code-signing-config:csc-0123456789abcdef0"


def service(*arns: str) -> tuple[MemoryStore, TagsService, set[str]]:
    """The service, and the mappings and configurations that it knows."""
    there = set(arns)
    store = MemoryStore()
    kinds = {kind: lambda tables, arn: arn in there for kind in (CODE_SIGNING_CONFIG, EVENT_SOURCE_MAPPING)}
    return store, TagsService(store, kinds), there


def test_resources_keep_their_tags_until_they_are_gone() -> None:
    async def run() -> None:
        store, tags, there = service(MAPPING)
        await store.write(lambda tables: put_new(tables, MAPPING, {"a": "1"}))
        await tags.add(MAPPING, {"b": "2", "a": "3"})
        assert await tags.get(MAPPING) == {"a": "3", "b": "2"}
        await tags.remove(MAPPING, ["a", "never"])
        assert await tags.get(MAPPING) == {"b": "2"}
        await store.write(lambda tables: forget(tables, MAPPING))
        assert await tags.get(MAPPING) == {}
        await tags.remove(MAPPING, ["b"])
        there.clear()
        for call in (tags.get(MAPPING), tags.add(MAPPING, {"a": "b"}), tags.remove(MAPPING, ["a"])):
            with pytest.raises(ResourceNotFoundException, match=r"^The resource you requested does not exist\.$"):
                await call

    asyncio.run(run())


def test_each_kind_is_asked_for_its_own() -> None:
    async def run() -> None:
        _, tags, _ = service(MAPPING)
        assert await tags.get(MAPPING) == {}
        with pytest.raises(ResourceNotFoundException, match="The code signing configuration cannot be found"):
            await tags.get(CONFIG)
        with pytest.raises(ResourceNotFoundException, match="The capacity-provider does not exist"):
            await tags.get(f"{PLACE}:capacity-provider:none")

    asyncio.run(run())


def test_tags_are_checked_wherever_they_come_from() -> None:
    async def run() -> None:
        store, tags, _ = service(CONFIG)
        full = {f"tag-{number}": "x" for number in range(quotas.TAGS)}
        await store.write(lambda tables: put_new(tables, CONFIG, full))
        for refused in ({"one": "more"}, {"aws:mine": "x"}, {"AWS:mine": "x"}, {**full, "one": "more"}):
            with pytest.raises(InvalidParameterValueException):
                await tags.add(CONFIG, refused)
        await tags.add(CONFIG, {"tag-0": "replaced"})
        assert await tags.get(CONFIG) == {**full, "tag-0": "replaced"}
        with pytest.raises(InvalidParameterValueException, match="reserved for internal use"):
            await store.write(lambda tables: put_new(tables, CONFIG, {"aws:x": "y"}))

    asyncio.run(run())
    with pytest.raises(InvalidParameterValueException, match="exceeds resource tag limit"):
        check({str(number): "" for number in range(quotas.TAGS + 1)})

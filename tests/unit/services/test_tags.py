"""Tags of what is not a function, on the in-memory store. Those of functions are in the api tier."""

from __future__ import annotations

import asyncio

import pytest

from lambdad.adapters.memory_store import MemoryStore
from lambdad.domain import quotas
from lambdad.domain.errors import InvalidParameterValueException, ResourceNotFoundException
from lambdad.domain.tags import CODE_SIGNING_CONFIG, EVENT_SOURCE_MAPPING, check
from lambdad.services.tags import TagsService

PLACE = "arn:aws:lambda:us-east-1:000000000000"
MAPPING = f"{PLACE}:event-source-mapping:01234567-89ab-cdef-0123-456789abcdef"
CONFIG = f"{PLACE}:code-signing-config:csc-0123456789abcdef0"


class Known:
    """The resources of a kind."""

    def __init__(self, *arns: str) -> None:
        self.arns = set(arns)

    async def exists(self, arn: str) -> bool:
        return arn in self.arns


def test_resources_keep_their_tags_until_they_are_gone() -> None:
    async def run() -> None:
        mappings = Known(MAPPING)
        tags = TagsService(MemoryStore())
        tags.register(EVENT_SOURCE_MAPPING, mappings)
        await tags.put_new(MAPPING, {"a": "1"})
        await tags.add(MAPPING, {"b": "2", "a": "3"})
        assert await tags.get(MAPPING) == {"a": "3", "b": "2"}
        await tags.remove(MAPPING, ["a", "never"])
        assert await tags.get(MAPPING) == {"b": "2"}
        await tags.forget(MAPPING)
        assert await tags.get(MAPPING) == {}
        await tags.remove(MAPPING, ["b"])
        mappings.arns.clear()
        for call in (tags.get(MAPPING), tags.add(MAPPING, {"a": "b"}), tags.remove(MAPPING, ["a"])):
            with pytest.raises(ResourceNotFoundException, match=r"^The resource you requested does not exist\.$"):
                await call

    asyncio.run(run())


def test_each_kind_is_asked_for_its_own() -> None:
    async def run() -> None:
        tags = TagsService(MemoryStore())
        tags.register(EVENT_SOURCE_MAPPING, Known(MAPPING, CONFIG))
        tags.register(CODE_SIGNING_CONFIG, Known())
        assert await tags.get(MAPPING) == {}
        with pytest.raises(ResourceNotFoundException, match="The code signing configuration cannot be found"):
            await tags.get(CONFIG)
        with pytest.raises(ResourceNotFoundException, match="The capacity-provider does not exist"):
            await tags.get(f"{PLACE}:capacity-provider:none")

    asyncio.run(run())


def test_tags_are_checked_wherever_they_come_from() -> None:
    async def run() -> None:
        tags = TagsService(MemoryStore())
        tags.register(CODE_SIGNING_CONFIG, Known(CONFIG))
        full = {f"tag-{number}": "x" for number in range(quotas.TAGS)}
        await tags.put_new(CONFIG, full)
        for refused in ({"one": "more"}, {"aws:mine": "x"}, {"AWS:mine": "x"}, {**full, "one": "more"}):
            with pytest.raises(InvalidParameterValueException):
                await tags.add(CONFIG, refused)
        await tags.add(CONFIG, {"tag-0": "replaced"})
        assert await tags.get(CONFIG) == {**full, "tag-0": "replaced"}
        with pytest.raises(InvalidParameterValueException, match="reserved for internal use"):
            await tags.put_new(CONFIG, {"aws:x": "y"})

    asyncio.run(run())
    with pytest.raises(InvalidParameterValueException, match="exceeds resource tag limit"):
        check({str(number): "" for number in range(quotas.TAGS + 1)})

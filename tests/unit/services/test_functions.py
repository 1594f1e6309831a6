"""Functions, versions and what they leave behind, on the in-memory adapters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from lambdad.domain.errors import PreconditionFailedException, ResourceConflictException, ResourceNotFoundException
from unit.services.fakes import World, reference


def scenario(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Run an asynchronous test in a world of its own."""

    def run() -> None:
        async def inside() -> None:
            await test(World())

        asyncio.run(inside())

    run.__name__ = test.__name__
    return run


@scenario
async def test_what_was_created_is_there(world: World) -> None:
    created = await world.create(memory_mb=512)
    details = await world.functions.get(reference())
    assert details.version == created
    assert details.version.memory_mb == 512
    assert details.version.runtime_version == "python:3.11.7"


@scenario
async def test_a_name_is_taken_once(world: World) -> None:
    await world.create()
    with pytest.raises(ResourceConflictException, match="Function already exist: f"):
        await world.create(b"two")


@scenario
async def test_unchanged_code_publishes_the_same_version(world: World) -> None:
    await world.create()
    first = await world.functions.publish(reference(), None, None, None)
    assert (await world.functions.publish(reference(), None, None, None)).version == first.version == "1"
    await world.functions.update_configuration(reference(), {"memory_mb": 256}, None)
    assert (await world.functions.publish(reference(), None, None, None)).version == "2"
    assert (await world.functions.get(reference("1"))).version.memory_mb == 128


@scenario
async def test_a_change_retires_the_environments_of_what_it_replaces(world: World) -> None:
    created = await world.create()
    await world.functions.update_code(reference(), b"two")
    assert world.host.retired == [created.revision_id]


@scenario
async def test_a_stale_revision_changes_nothing(world: World) -> None:
    created = await world.create()
    with pytest.raises(PreconditionFailedException):
        await world.functions.update_code(reference(), b"two", revision_id="not-it")
    assert (await world.functions.get(reference())).version == created


@scenario
async def test_a_package_stays_while_a_version_has_it(world: World) -> None:
    first = await world.create(b"one")
    await world.functions.publish(reference(), None, None, None)
    await world.functions.update_code(reference(), b"two")
    await world.code.settle()
    assert await world.blobs.exists(first.code_sha256)
    await world.functions.delete(reference("1"))
    await world.code.settle()
    assert not await world.blobs.exists(first.code_sha256)
    await world.functions.delete(reference())
    await world.code.settle()
    assert await world.blobs.list() == []


@scenario
async def test_a_package_of_a_refused_function_does_not_stay(world: World) -> None:
    created = await world.create(b"one")
    with pytest.raises(ResourceConflictException):
        await world.create(b"two")
    await world.code.settle()
    assert await world.blobs.list() == [created.code_sha256]


@scenario
async def test_a_version_that_an_alias_points_to_cannot_be_deleted(world: World) -> None:
    await world.create()
    await world.functions.publish(reference(), None, None, None)
    await world.aliases.create(reference(), "PROD", "1", "", {})
    with pytest.raises(ResourceConflictException, match=r"aliases reference it: \[PROD\]"):
        await world.functions.delete(reference("1"))


@scenario
async def test_deleting_a_function_takes_everything(world: World) -> None:
    await world.create()
    await world.functions.publish(reference(), None, None, None)
    await world.functions.delete(reference())
    for qualifier in (None, "1"):
        with pytest.raises(ResourceNotFoundException):
            await world.functions.get(reference(qualifier))

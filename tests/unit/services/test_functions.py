"""Functions, versions and what they leave behind, on the in-memory adapters."""

from __future__ import annotations

import pytest

from lambdad.domain.errors import (
    InvalidParameterValueException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.events import Purpose
from unit.services.fakes import KEY, World, reference, scenario

QUEUE = "arn:aws:sqs:us-east-1:000000000000:dlq"


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
    await world.functions.update_code(reference(), b"two")
    await world.functions.publish(reference(), None, None, None)
    await world.aliases.create(reference(), "PROD", "1", "", {"2": 0.5})
    for version in ("1", "2"):
        with pytest.raises(ResourceConflictException, match=r"aliases reference it: \[PROD\]"):
            await world.functions.delete(reference(version))


@scenario
async def test_deleting_a_function_takes_everything(world: World) -> None:
    await world.create()
    await world.functions.publish(reference(), None, None, None)
    await world.functions.delete(reference())
    for qualifier in (None, "1"):
        with pytest.raises(ResourceNotFoundException):
            await world.functions.get(reference(qualifier))


@scenario
async def test_a_dead_letter_queue_is_checked_when_it_is_set_and_published_with_the_version(world: World) -> None:
    created = await world.create(dead_letter_arn=QUEUE)
    assert world.destinations.checked == [(created.role, QUEUE, Purpose.DEAD_LETTER)]
    assert (await world.functions.publish(reference(), None, None, None)).dead_letter_arn == QUEUE
    await world.functions.update_configuration(reference(), {"timeout_s": 9}, None)
    assert len(world.destinations.checked) == 1
    updated = await world.functions.update_configuration(reference(), {"dead_letter_arn": ""}, None)
    assert updated.dead_letter_arn == ""
    assert len(world.destinations.checked) == 1
    assert (await world.functions.get(reference("1"))).version.dead_letter_arn == QUEUE


@scenario
async def test_a_dead_letter_queue_is_checked_for_the_role_that_comes_with_it(world: World) -> None:
    await world.create()
    role = "arn:aws:iam::000000000000:role/other"
    await world.functions.update_configuration(reference(), {"role": role, "dead_letter_arn": QUEUE}, None)
    assert world.destinations.checked == [(role, QUEUE, Purpose.DEAD_LETTER)]


@scenario
async def test_a_dead_letter_queue_that_is_none_changes_nothing(world: World) -> None:
    absent = "arn:aws:sns:us-east-1:000000000000:absent"
    with pytest.raises(InvalidParameterValueException):
        await world.create(dead_letter_arn=absent)
    created = await world.create()
    for arn in (absent, f"{QUEUE}.fifo", "arn:aws:lambda:us-east-1:000000000000:function:g"):
        with pytest.raises(InvalidParameterValueException, match="ARN.*" + arn):
            await world.functions.update_configuration(reference(), {"dead_letter_arn": arn}, None)
    assert (await world.functions.get(reference())).version == created


@scenario
async def test_recursive_loops_are_terminated_unless_they_are_allowed(world: World) -> None:
    await world.create()
    assert await world.functions.recursion_config(reference()) == "Terminate"
    world.changes.clear()
    await world.functions.put_recursion_config(reference(), "Allow")
    assert world.changes == [KEY]
    assert await world.functions.recursion_config(reference()) == "Allow"
    await world.functions.publish(reference(), None, None, None)
    assert await world.functions.recursion_config(reference()) == "Allow"
    with pytest.raises(InvalidParameterValueException, match="permitted on Lambda functions only"):
        await world.functions.put_recursion_config(reference("1"), "Allow")
    await world.functions.delete(reference())
    with pytest.raises(ResourceNotFoundException):
        await world.functions.recursion_config(reference())

"""Which interpreter a version is to have, by its runtime management configuration."""

from __future__ import annotations

import pytest

from lambdad.domain.errors import (
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.runtimes import UpdateRuntimeOn
from lambdad.ports.runtimes import InstalledRuntime
from unit.services.fakes import World, reference, scenario

OLD, NEW = (3, 11, 7), (3, 11, 9)
ARN = "arn:aws:lambda:us-east-1::runtime:python-{}"


async def shown(world: World, qualifier: str | None = None) -> str:
    """What `RuntimeVersionConfig` is made of."""
    return (await world.functions.get(reference(qualifier))).version.runtime_version


async def put(world: World, mode: UpdateRuntimeOn, arn: str | None = None, qualifier: str | None = None) -> None:
    await world.runtime_management.put(reference(qualifier), mode, arn)


@scenario
async def test_auto_follows_what_is_installed(world: World) -> None:
    await world.create()
    await world.functions.publish(reference(), None, None, None)
    assert (await world.runtime_management.get(reference())).update_runtime_on == "Auto"
    world.runtimes.installed.append(NEW)
    assert await shown(world) == await shown(world, "1") == "python:3.11.9"


@scenario
async def test_function_update_goes_on_with_a_change_of_the_function(world: World) -> None:
    await world.create()
    await put(world, UpdateRuntimeOn.FUNCTION_UPDATE)
    world.runtimes.installed.append(NEW)
    assert await shown(world) == "python:3.11.7"
    await world.functions.update_configuration(reference(), {"timeout_s": 9}, None)
    assert await shown(world) == "python:3.11.9"
    world.runtimes.installed.append((3, 11, 10))
    assert await shown(world) == "python:3.11.9"
    await world.functions.update_code(reference(), b"two")
    assert await shown(world) == "python:3.11.10"


@scenario
async def test_manual_holds_what_its_arn_names(world: World) -> None:
    world.runtimes.installed.append(NEW)
    await world.create()
    await put(world, UpdateRuntimeOn.MANUAL, ARN.format("3.11.7"))
    assert await shown(world) == "python:3.11.7"
    await world.functions.update_configuration(reference(), {"timeout_s": 9}, None)
    await world.functions.update_code(reference(), b"two")
    assert await shown(world) == "python:3.11.7"
    with pytest.raises(InvalidParameterValueException) as caught:
        await world.functions.update_configuration(reference(), {"runtime": "python3.12"}, None)
    assert caught.value.message == (
        "Cannot change runtime identifier when runtime management configuration is set to 'Manual'. "
        "Change the runtime management configuration to 'Auto' or 'FunctionUpdate', then retry."
    )
    await put(world, UpdateRuntimeOn.AUTO)
    assert await shown(world) == "python:3.11.9"


@scenario
async def test_an_interpreter_that_is_held_meanwhile_is_not_let_go(world: World) -> None:
    world.runtimes.installed.append(NEW)
    await world.create()
    require = world.runtimes.require

    async def held_meanwhile(name: str) -> InstalledRuntime:
        world.runtimes.require = require  # type: ignore[method-assign]
        await put(world, UpdateRuntimeOn.MANUAL, ARN.format("3.11.7"))
        return await require(name)

    for update in (
        lambda: world.functions.update_code(reference(), b"two"),
        lambda: world.functions.update_configuration(reference(), {"timeout_s": 9}, None),
    ):
        await put(world, UpdateRuntimeOn.AUTO)
        world.runtimes.require = held_meanwhile  # type: ignore[method-assign]
        with pytest.raises(ResourceConflictException, match=r"An update is in progress for resource: .*:function:f$"):
            await update()
        assert await shown(world) == "python:3.11.7"
        await update()
        assert await shown(world) == "python:3.11.7"


@scenario
async def test_each_version_has_its_own_and_begins_with_that_of_latest(world: World) -> None:
    await world.create()
    await put(world, UpdateRuntimeOn.MANUAL, ARN.format("3.11.7"))
    await world.functions.publish(reference(), None, None, None)
    await put(world, UpdateRuntimeOn.AUTO)
    world.runtimes.installed.append(NEW)
    assert (await shown(world), await shown(world, "1")) == ("python:3.11.9", "python:3.11.7")
    await put(world, UpdateRuntimeOn.AUTO, qualifier="1")
    assert await shown(world, "1") == "python:3.11.9"
    assert (await world.functions.publish(reference(), None, None, None)).version == "1"  # nothing else has changed


@scenario
async def test_environments_of_before_end(world: World) -> None:
    created = await world.create()
    await put(world, UpdateRuntimeOn.FUNCTION_UPDATE)
    assert world.host.retired == [created.revision_id]


@pytest.mark.parametrize(
    ("mode", "arn"),
    [
        (UpdateRuntimeOn.MANUAL, None),
        (UpdateRuntimeOn.AUTO, ARN.format("3.11.7")),
        (UpdateRuntimeOn.FUNCTION_UPDATE, ARN.format("3.11.7")),
        (UpdateRuntimeOn.MANUAL, ARN.format("3.11.8")),
        (UpdateRuntimeOn.MANUAL, "arn:aws:lambda:us-east-1::runtime:nodejs-3.11.7"),
        (UpdateRuntimeOn.MANUAL, "arn:aws:lambda:us-east-1::runtime:8eeff65f6809a3ce81507fe733fe09b835899b99"),
        (UpdateRuntimeOn.MANUAL, "arn:aws:lambda:us-east-1:000000000000:runtime/mine/version/1"),
    ],
)
def test_what_makes_no_sense_is_refused(mode: UpdateRuntimeOn, arn: str | None) -> None:
    @scenario
    async def refused(world: World) -> None:
        before = await world.create()
        with pytest.raises(InvalidParameterValueException):
            await put(world, mode, arn)
        assert (await world.functions.get(reference())).version == before

    refused()


@scenario
async def test_only_versions_have_one(world: World) -> None:
    await world.create()
    await world.aliases.create(reference(), "live", "$LATEST", "", {})
    with pytest.raises(InvalidParameterValueException):
        await world.runtime_management.get(reference("live"))
    for qualifier in ("7", "gone"):
        with pytest.raises(ResourceNotFoundException):
            await put(world, UpdateRuntimeOn.AUTO, qualifier=qualifier)

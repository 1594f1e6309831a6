"""Policies of functions, versions and aliases, on the in-memory adapters."""

from __future__ import annotations

import re

import pytest

from lambdad.domain import quotas
from lambdad.domain.errors import (
    AccessDeniedException,
    InvalidParameterValueException,
    PolicyLengthExceededException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
    ServiceError,
)
from lambdad.domain.resource_policies import Grant
from unit.services.fakes import KEY, World, reference, scenario

INVOKE = "lambda:InvokeFunction"
GROUP = "arn:aws:logs:us-east-1:000000000000:log-group:/x:*"
LOGS = Grant("logs", INVOKE, "logs.amazonaws.com", GROUP, "000000000000")
FRIEND = Grant("friend", INVOKE, "111111111111")


async def create_whole(world: World) -> None:
    """A function with the version 1 and the alias PROD to it."""
    await world.create()
    await world.functions.publish(reference(), None, None, None)
    await world.aliases.create(reference(), "PROD", "1", "", {})


async def revision(world: World, qualifier: str | None) -> str:
    if qualifier == "PROD":
        return (await world.aliases.get(reference(), "PROD")).revision_id
    return (await world.functions.get(reference(qualifier))).version.revision_id


async def enters(world: World, qualifier: str | None, account_id: str = "111111111111") -> bool:
    try:
        await world.permissions.check_account(reference(qualifier), account_id, "InvokeFunction")
    except AccessDeniedException:
        return False
    return True


@pytest.mark.parametrize("qualifier", [None, "1", "PROD"])
def test_a_permission_is_for_the_arn_that_it_was_given_for(qualifier: str | None) -> None:
    @scenario
    async def run(world: World) -> None:
        await create_whole(world)
        statement = await world.permissions.add(reference(qualifier), FRIEND, None)
        assert statement.resource == reference(qualifier).arn
        for other in (None, "$LATEST", "1", "PROD"):
            assert await enters(world, other) is (other == qualifier), other
        assert not await enters(world, qualifier, "222222222222")
        await world.permissions.remove(reference(qualifier), "friend", None)
        assert not await enters(world, qualifier)

    run()


@pytest.mark.parametrize("qualifier", [None, "1", "PROD"])
def test_every_change_is_a_new_revision_and_told_of(qualifier: str | None) -> None:
    @scenario
    async def run(world: World) -> None:
        await create_whole(world)
        before = {other: await revision(world, other) for other in (None, "1", "PROD")}
        world.changes.clear()
        await world.permissions.add(reference(qualifier), FRIEND, before[qualifier])
        policy, added = await world.permissions.get(reference(qualifier))
        assert [statement.sid for statement in policy.statements] == ["friend"]
        after = {other: await revision(world, other) for other in (None, "1", "PROD")}
        assert after == {**before, qualifier: added}
        assert added != before[qualifier]
        for stale in (
            world.permissions.add(reference(qualifier), LOGS, before[qualifier]),
            world.permissions.remove(reference(qualifier), "friend", before[qualifier]),
        ):
            with pytest.raises(PreconditionFailedException, match="Call the GetPolicy API to retrieve the latest"):
                await stale
        await world.permissions.remove(reference(qualifier), "friend", added)
        assert await revision(world, qualifier) not in (added, before[qualifier])
        assert world.changes == [KEY, KEY]

    run()


@scenario
async def test_environments_outlive_a_change_of_permissions(world: World) -> None:
    await create_whole(world)
    before = {q: (await world.functions.get(reference(q))).version.environment_key for q in (None, "1")}
    for qualifier in (None, "1"):
        await world.permissions.add(reference(qualifier), FRIEND, None)
        await world.permissions.add(reference(qualifier), LOGS, None)
        version = (await world.functions.get(reference(qualifier))).version
        assert version.environment_key == before[qualifier] != version.revision_id
    assert world.host.retired == []


@scenario
async def test_environments_do_not_outlive_a_change_of_configuration(world: World) -> None:
    await world.create()
    await world.permissions.add(reference(), FRIEND, None)
    used = (await world.functions.get(reference())).version
    updated = await world.functions.update_configuration(reference(), {"timeout_s": 9}, None)
    assert updated.environment_key == updated.revision_id != used.environment_key
    await world.permissions.add(reference(), LOGS, None)
    published = await world.functions.publish(reference(), None, None, None)
    assert published.environment_key == published.revision_id
    assert (await world.functions.publish(reference(), None, None, None)) == published


@scenario
async def test_a_service_needs_a_permission_for_its_source(world: World) -> None:
    await world.create()
    asked = (reference(), "logs.amazonaws.com", GROUP, "000000000000")
    assert not await world.permissions.allows_service(*asked)
    await world.permissions.add(reference(), LOGS, None)
    assert await world.permissions.allows_service(*asked)
    for wrong in (
        (reference("$LATEST"), *asked[1:]),
        (reference(), "s3.amazonaws.com", *asked[2:]),
        (*asked[:2], GROUP.replace("/x", "/y"), asked[3]),
        (*asked[:3], "111111111111"),
    ):
        assert not await world.permissions.allows_service(*wrong)


@scenario
async def test_a_policy_goes_with_its_function(world: World) -> None:
    await world.create()
    await world.permissions.add(reference(), FRIEND, None)
    await world.functions.delete(reference())
    assert not await enters(world, None)
    await world.create()
    assert not await enters(world, None)


REFUSED: list[tuple[str | None, Grant, type[ServiceError], str]] = [
    (
        None,
        FRIEND,
        ResourceConflictException,
        "The statement id (friend) provided already exists. Please provide a new statement id, or remove the existing "
        "statement.",
    ),
    ("$LATEST", FRIEND, InvalidParameterValueException, "We currently do not support adding policies for $LATEST."),
    ("7", FRIEND, ResourceNotFoundException, f"Function not found: {KEY.arn}:7"),
    ("TEST", FRIEND, ResourceNotFoundException, f"Cannot find alias arn: {KEY.arn}:TEST"),
    (
        None,
        Grant("x", INVOKE, "nobody"),
        InvalidParameterValueException,
        "The provided principal was invalid. Please check the principal and try again.",
    ),
]


@pytest.mark.parametrize(("qualifier", "grant", "error", "message"), REFUSED)
def test_what_cannot_be_added(qualifier: str | None, grant: Grant, error: type[ServiceError], message: str) -> None:
    @scenario
    async def run(world: World) -> None:
        await world.create()
        await world.permissions.add(reference(), FRIEND, None)
        before = await world.permissions.get(reference())
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            await world.permissions.add(reference(qualifier), grant, None)
        assert await world.permissions.get(reference()) == before

    run()


@scenario
async def test_a_function_that_is_not_there(world: World) -> None:
    with pytest.raises(ResourceNotFoundException, match=f"^Function not found: {KEY.arn}$"):
        await world.permissions.add(reference(), FRIEND, None)
    assert not await enters(world, None)


@scenario
async def test_what_is_not_there_cannot_be_read_or_removed(world: World) -> None:
    await world.create()
    with pytest.raises(ResourceNotFoundException, match=r"^The resource you requested does not exist\.$"):
        await world.permissions.get(reference())
    with pytest.raises(ResourceNotFoundException, match=r"^No policy is associated with the given resource\.$"):
        await world.permissions.remove(reference(), "friend", None)
    await world.permissions.add(reference(), FRIEND, None)
    with pytest.raises(ResourceNotFoundException, match=r"^Statement fiend is not found in resource policy\.$"):
        await world.permissions.remove(reference(), "fiend", None)
    await world.permissions.remove(reference(), "friend", None)
    with pytest.raises(ResourceNotFoundException, match=r"^The resource you requested does not exist\.$"):
        await world.permissions.get(reference())


@scenario
async def test_a_policy_has_a_largest_size(world: World) -> None:
    await world.create()

    async def fill() -> None:
        for number in range(quotas.RESOURCE_POLICY_BYTES):
            await world.permissions.add(reference(), Grant(f"s{number}", INVOKE, "111111111111"), None)

    message = r"^The final policy size \((\d+)\) is bigger than the limit \(20480\)\.$"
    with pytest.raises(PolicyLengthExceededException, match=message) as caught:
        await fill()
    size = len((await world.permissions.get(reference()))[0].document())
    tried = re.fullmatch(message, caught.value.message)
    assert tried is not None
    assert size <= quotas.RESOURCE_POLICY_BYTES < int(tried[1]) < size + 300

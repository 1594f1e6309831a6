"""Policies of functions, versions and aliases, on the in-memory adapters."""

from __future__ import annotations

import json
import re
from dataclasses import replace

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
from lambdad.domain.resource_policies import ANONYMOUS, AccessRequest, Grant
from lambdad.services.permissions import PermissionsService
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
    (
        None,
        Grant("x", INVOKE, "*", function_url_auth_type="NONE"),
        InvalidParameterValueException,
        "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action",
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


@scenario
async def test_a_policy_of_the_largest_size_can_be_made_smaller(world: World) -> None:
    """Also one that was put in letters which take more room as JSON is written here."""
    await world.create()
    letters = [{"StringEquals": {"aws:SourceArn": "é" * 4000}}, {}]
    statements = [
        {"Sid": sid, "Effect": "Allow", "Principal": "*", "Action": INVOKE, "Resource": "*", "Condition": condition}
        for sid, condition in zip(("long", "short"), letters, strict=True)
    ]
    await world.permissions.put(reference(), json.dumps({"Statement": statements}, ensure_ascii=False), None)
    await world.permissions.remove(reference(), "short", None)
    assert (await world.permissions.get(reference()))[0].sids == ["long"]


def policy_of(effect: str, principal: object = "*", **members: object) -> str:
    statement = {"Sid": "put", "Effect": effect, "Principal": principal, "Action": INVOKE, "Resource": "*", **members}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.parametrize("qualifier", [None, "1", "PROD"])
def test_a_whole_policy_replaces_what_was_added(qualifier: str | None) -> None:
    @scenario
    async def run(world: World) -> None:
        await create_whole(world)
        await world.permissions.add(reference(qualifier), FRIEND, None)
        before = await revision(world, qualifier)
        text = policy_of("Allow", {"AWS": "222222222222"})
        put = await world.permissions.put(reference(qualifier), text, before)
        assert put == await revision(world, qualifier) != before
        assert (await world.permissions.get(reference(qualifier)))[0].document() == text
        assert [await enters(world, qualifier, account) for account in ("1" * 12, "2" * 12)] == [False, True]
        for stale in (
            world.permissions.put(reference(qualifier), text, before),
            world.permissions.delete(reference(qualifier), before),
        ):
            with pytest.raises(PreconditionFailedException):
                await stale
        with pytest.raises(ResourceConflictException, match=r"The statement id \(put\) provided already exists"):
            await world.permissions.add(reference(qualifier), replace(FRIEND, sid="put"), None)
        await world.permissions.add(reference(qualifier), FRIEND, None)
        assert [await enters(world, qualifier, account) for account in ("1" * 12, "2" * 12)] == [True, True]
        await world.permissions.remove(reference(qualifier), "put", None)
        assert [await enters(world, qualifier, account) for account in ("1" * 12, "2" * 12)] == [True, False]
        await world.permissions.delete(reference(qualifier), await revision(world, qualifier))
        assert not await enters(world, qualifier)
        with pytest.raises(ResourceNotFoundException, match="No policy is associated with the given resource"):
            await world.permissions.delete(reference(qualifier), None)

    run()


@scenario
async def test_a_denial_keeps_everyone_out_also_a_function_s_own_account(world: World) -> None:
    await create_whole(world)
    own = KEY.account_id
    assert await enters(world, "PROD", own)
    assert world.permissions.is_open(reference("PROD"))
    await world.permissions.put(reference("PROD"), policy_of("Deny"), None)
    assert not world.permissions.is_open(reference("PROD"))
    await world.permissions.add(reference("PROD"), FRIEND, None)
    await world.permissions.add(reference("PROD"), LOGS, None)
    for account in (own, "111111111111"):
        with pytest.raises(
            AccessDeniedException, match=f"arn:aws:iam::{account}:root is not authorized .* with an explicit deny in a"
        ):
            await world.permissions.check_account(reference("PROD"), account, "InvokeFunction")
    assert not await world.permissions.allows_service(reference("PROD"), "logs.amazonaws.com", GROUP, own)
    assert await enters(world, None, own)
    assert await enters(world, "1", own)

    again = PermissionsService(world.store, lambda key: None)  # as after a restart
    assert not again.is_open(reference("PROD"))
    with pytest.raises(AccessDeniedException):
        await again.check_account(reference("PROD"), own, "InvokeFunction")
    await again.check_account(reference("1"), own, "InvokeFunction")
    assert again.is_open(reference("1"))

    await world.permissions.delete(reference("PROD"), None)
    assert await enters(world, "PROD", own)


@scenario
async def test_time_is_a_condition(world: World) -> None:
    await world.create()
    permissions = PermissionsService(world.store, lambda key: None, lambda: 1_795_262_400.0)
    for when, expected in (("2026-11-21T12:00:01Z", True), ("2026-11-21T12:00:00Z", False)):
        condition = {"DateLessThan": {"aws:CurrentTime": when}, "NumericGreaterThan": {"aws:EpochTime": "1795262399"}}
        await permissions.put(reference(), policy_of("Allow", Condition=condition), None)
        request = AccessRequest(INVOKE, ANONYMOUS)
        assert await permissions.allows(reference(), request) is expected


@pytest.mark.parametrize(
    ("qualifier", "document", "error", "message"),
    [
        ("$LATEST", policy_of("Allow"), InvalidParameterValueException, "do not support adding policies for $LATEST"),
        ("7", policy_of("Allow"), ResourceNotFoundException, f"Function not found: {KEY.arn}:7"),
        ("TEST", policy_of("Allow"), ResourceNotFoundException, f"Cannot find alias arn: {KEY.arn}:TEST"),
        (None, "{}", InvalidParameterValueException, "The provided policy document is invalid: it has no statement."),
        (None, policy_of("Deny") + " " * 21_000, PolicyLengthExceededException, "is bigger than the limit (20480)"),
    ],
)
def test_what_cannot_be_put(qualifier: str | None, document: str, error: type[ServiceError], message: str) -> None:
    @scenario
    async def run(world: World) -> None:
        await world.create()
        await world.permissions.add(reference(), FRIEND, None)
        before = await world.permissions.get(reference())
        with pytest.raises(error, match=re.escape(message)):
            await world.permissions.put(reference(qualifier), document, None)
        assert await world.permissions.get(reference()) == before
        assert await enters(world, None, KEY.account_id)

    run()

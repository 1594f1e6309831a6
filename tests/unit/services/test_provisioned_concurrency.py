"""Configurations of provisioned concurrency: what may be configured, and what the host is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lambdad.domain.errors import (
    InvalidParameterValueException,
    ProvisionedConcurrencyConfigNotFoundException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.provisioned_concurrency import INIT_FAILURE, Allocation, Status
from lambdad.services.provisioned_concurrency import ProvisionedConcurrencyService
from unit.services.fakes import KEY, FakeHost, World, reference
from unit.services.fakes import scenario as in_world
from unit.services.hosts import until

NAMESPACE = (KEY.account_id, KEY.region)
OTHER = replace(KEY, name="other")


async def publish(world: World, versions: int = 1) -> None:
    """A function with versions 1 to `versions`."""
    await world.create()
    for number in range(versions):
        if number:
            await world.functions.update_code(reference(), f"code {number}".encode())
        await world.functions.publish(reference(), None, None, None)


async def alias(world: World, name: str, version: str) -> None:
    await world.aliases.create(reference(), name, version, "", {})


async def move(world: World, name: str, version: str | None, weights: dict[str, float] | None = None) -> None:
    await world.aliases.update(reference(), name, version=version, description=None, weights=weights, revision_id=None)


async def refused(world: World, qualifier: str | None, requested: int = 1) -> str:
    with pytest.raises((InvalidParameterValueException, ResourceConflictException)) as caught:
        await world.provisioned.put(reference(qualifier), requested)
    return f"{caught.value.code}: {caught.value.message}"


@in_world
async def test_the_host_is_told_and_what_it_has_is_shown(world: World) -> None:
    await publish(world)
    put = await world.provisioned.put(reference("1"), 3)
    assert (put.allocation, put.config.requested) == (Allocation(), 3)
    assert world.host.wanted == {"1": 3}
    for there, status in (
        (Allocation(2, 1), Status.IN_PROGRESS),
        (Allocation(3, 3), Status.READY),
        (Allocation(2, 2, INIT_FAILURE), Status.FAILED),
    ):
        world.host.there["1"] = there
        state = await world.provisioned.get(reference("1"))
        assert (state.allocation, state.allocation.status(3)) == (there, status)
    await world.provisioned.delete(reference("1"))
    assert world.host.wanted == {}
    with pytest.raises(ProvisionedConcurrencyConfigNotFoundException, match="No Provisioned Concurrency Config found"):
        await world.provisioned.get(reference("1"))
    await world.provisioned.delete(reference("1"))


@in_world
async def test_unpublished_versions_have_none(world: World) -> None:
    await publish(world)
    await alias(world, "latest", "$LATEST")
    message = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    for qualifier in ("$LATEST", "latest", None):
        assert await refused(world, qualifier) == f"InvalidParameterValueException: {message}"
    await alias(world, "live", "1")
    await world.provisioned.put(reference("live"), 1)
    with pytest.raises(InvalidParameterValueException, match="unpublished"):
        await move(world, "live", "$LATEST")


@in_world
async def test_what_is_not_there_is_not_found(world: World) -> None:
    await publish(world)
    for call in (world.provisioned.put(reference("7"), 1), world.provisioned.get(reference("7"))):
        with pytest.raises(ResourceNotFoundException, match=r"Function not found: .*:f:7$"):
            await call
    with pytest.raises(ResourceNotFoundException, match=r"Cannot find alias arn: .*:f:gone$"):
        await world.provisioned.put(reference("gone"), 1)
    with pytest.raises(ResourceNotFoundException, match="Function not found"):
        await world.provisioned.list(reference(key=OTHER), "", 5)


@in_world
async def test_an_alias_and_its_version_cannot_both_have_it(world: World) -> None:
    await publish(world, 2)
    await alias(world, "live", "1")
    await world.provisioned.put(reference("live"), 1)
    assert await refused(world, "1") == (
        "ResourceConflictException: Version is pointed by a Provisioned Concurrency alias"
    )
    await world.provisioned.put(reference("2"), 1)
    message = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
    with pytest.raises(ResourceConflictException, match=message):
        await move(world, "live", "2")
    await alias(world, "next", "2")
    assert await refused(world, "next") == f"ResourceConflictException: {message}"


@in_world
async def test_environments_move_with_the_alias(world: World) -> None:
    await publish(world, 2)
    await alias(world, "live", "1")
    await world.provisioned.put(reference("live"), 10)
    await move(world, "live", "2")
    await until(lambda: world.host.wanted == {"2": 10})
    await move(world, "live", None, {"1": 0.25})
    await until(lambda: world.host.wanted == {"2": 8, "1": 2})
    world.host.there.update({"1": Allocation(2, 2), "2": Allocation(8, 5)})
    assert (await world.provisioned.get(reference("live"))).allocation == Allocation(10, 7)
    assert await refused(world, "live", 20) == (
        "InvalidParameterValueException: Alias with weights can not be used with Provisioned Concurrency"
    )
    await move(world, "live", None, {})
    await until(lambda: world.host.wanted == {"2": 10})
    await world.aliases.delete(reference(), "live")
    await until(lambda: world.host.wanted == {})


@in_world
async def test_two_aliases_share_their_version(world: World) -> None:
    await publish(world)
    for name, requested in (("a", 2), ("b", 3)):
        await alias(world, name, "1")
        await world.provisioned.put(reference(name), requested)
    assert world.host.wanted == {"1": 5}
    world.host.there["1"] = Allocation(4, 3)
    states, following = await world.provisioned.list(reference(), "", 5)
    assert {state.config.qualifier: state.allocation for state in states} == {
        "a": Allocation(2, 2),
        "b": Allocation(2, 1),
    }
    assert following is None
    page, following = await world.provisioned.list(reference(), "", 1)
    assert ([state.config.qualifier for state in page], following) == (["a"], "a")
    rest, following = await world.provisioned.list(reference(), "a", 1)
    assert ([state.config.qualifier for state in rest], following) == (["b"], None)


@in_world
async def test_the_end_of_a_version_or_function_is_the_end_of_it(world: World) -> None:
    await publish(world, 2)
    for version in ("1", "2"):
        await world.provisioned.put(reference(version), 1)
    await world.functions.delete(reference("1"))
    await until(lambda: world.host.wanted == {"2": 1})
    await world.functions.delete(reference())
    await until(lambda: world.host.wanted == {})
    assert await world.concurrency.unreserved_limit(NAMESPACE) == 1000


@in_world
async def test_no_more_than_the_reservation(world: World) -> None:
    await publish(world, 2)
    await world.concurrency.put(reference(), 5)
    await world.provisioned.put(reference("1"), 3)
    message = (
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
    )
    assert await refused(world, "2", 3) == f"InvalidParameterValueException: {message}"
    await world.provisioned.put(reference("2"), 2)
    await world.provisioned.put(reference("1"), 2)  # in place of the 3, not beside them
    with pytest.raises(InvalidParameterValueException) as caught:
        await world.concurrency.put(reference(), 3)
    assert caught.value.message == (
        "ReservedConcurrentExecutions  3 should not be lower than function's total provisioned concurrency [4]."
    )
    await world.concurrency.put(reference(), 4)
    assert await world.concurrency.unreserved_limit(NAMESPACE) == 996  # a part of the reservation, not beside it


@in_world
async def test_a_hundred_executions_stay_unreserved(world: World) -> None:
    await publish(world)
    await world.create(key=OTHER)
    await world.concurrency.put(reference(key=OTHER), 400)
    assert await refused(world, "1", 601) == (
        "InvalidParameterValueException: Specified ConcurrentExecutions for function is greater than account's "
        "unreserved concurrency [600]."
    )
    assert await refused(world, "1", 501) == (
        "InvalidParameterValueException: Specified ConcurrentExecutions for function decreases account's "
        "UnreservedConcurrentExecution below its minimum value of [100]."
    )
    await world.provisioned.put(reference("1"), 500)
    assert await world.concurrency.unreserved_limit(NAMESPACE) == 100
    with pytest.raises(InvalidParameterValueException, match="below its minimum value of \\[100\\]"):
        await world.concurrency.put(reference(key=OTHER), 401)


@in_world
async def test_what_others_have_provisioned_within_their_reservation_counts_once(world: World) -> None:
    await publish(world)
    await world.create(key=OTHER)
    await world.functions.publish(reference(key=OTHER), None, None, None)
    await world.concurrency.put(reference(key=OTHER), 400)
    await world.provisioned.put(reference("1", OTHER), 300)
    await world.provisioned.put(reference("1"), 500)
    await world.concurrency.put(reference(key=OTHER), 400)
    assert await world.concurrency.unreserved_limit(NAMESPACE) == 100


@in_world
async def test_a_daemon_that_starts_takes_up_what_was_configured(world: World) -> None:
    await publish(world)
    await world.provisioned.put(reference("1"), 2)
    host: Any = FakeHost()
    restarted = ProvisionedConcurrencyService(
        world.store, host, world.concurrency, world.clock, changed=lambda key: None
    )
    await restarted.start()
    assert host.wanted == {"1": 2}
    await restarted.close()

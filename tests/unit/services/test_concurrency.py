"""Reservations and the account's limit, counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lambdad.domain import quotas
from lambdad.domain.errors import (
    InvalidParameterValueException,
    ResourceNotFoundException,
    TooManyRequestsException,
)
from unit.services.fakes import KEY, World, reference
from unit.services.test_functions import scenario

NAMESPACE = (KEY.account_id, KEY.region)
OTHER = replace(KEY, name="other")
ELSEWHERE = replace(KEY, region="eu-west-1")


async def reason_of(world: World, reserved: int | None, key=KEY) -> str:
    with pytest.raises(TooManyRequestsException) as refused:
        await world.concurrency.enter(key, reserved)
    return str(refused.value.fields["Reason"])


@scenario
async def test_a_reservation_is_read_as_it_was_put(world: World) -> None:
    await world.create()
    assert await world.concurrency.get(reference()) is None
    for reserved in (5, 0):
        assert await world.concurrency.put(reference(), reserved) == reserved
        assert await world.concurrency.get(reference()) == reserved
    await world.concurrency.delete(reference())
    assert await world.concurrency.get(reference()) is None


@scenario
async def test_a_function_that_is_not_there_has_no_reservation(world: World) -> None:
    for call in (
        world.concurrency.put(reference(), 1),
        world.concurrency.get(reference()),
        world.concurrency.delete(reference()),
    ):
        with pytest.raises(ResourceNotFoundException):
            await call


@scenario
async def test_versions_and_aliases_have_no_reservation(world: World) -> None:
    await world.create()
    for call in (
        world.concurrency.put(reference("1"), 1),
        world.concurrency.get(reference("live")),
        world.concurrency.delete(reference("1")),
    ):
        with pytest.raises(InvalidParameterValueException):
            await call


@scenario
async def test_a_hundred_executions_stay_unreserved(world: World) -> None:
    await world.create()
    await world.create(key=OTHER)
    most = quotas.CONCURRENT_EXECUTIONS - quotas.UNRESERVED_CONCURRENT_EXECUTIONS_MIN
    await world.concurrency.put(reference(), most)
    assert await world.concurrency.unreserved_limit(NAMESPACE) == 100
    with pytest.raises(InvalidParameterValueException, match="below its minimum value of \\[100\\]"):
        await world.concurrency.put(reference(key=OTHER), 1)
    await world.concurrency.put(reference(key=OTHER), 0)
    await world.concurrency.put(reference(), most)  # its own old reservation does not count
    with pytest.raises(InvalidParameterValueException):
        await world.concurrency.put(reference(), most + 1)


@scenario
async def test_regions_do_not_share_their_limit(world: World) -> None:
    await world.create()
    await world.create(key=ELSEWHERE)
    await world.concurrency.put(reference(), 900)
    await world.concurrency.put(reference(key=ELSEWHERE), 900)
    assert await world.concurrency.unreserved_limit((KEY.account_id, "us-west-2")) == 1000


@scenario
async def test_functions_without_a_reservation_share_what_is_left(world: World) -> None:
    await world.create()
    await world.concurrency.put(reference(), 900)
    keys = [OTHER if number % 2 else replace(KEY, name="third") for number in range(100)]
    admissions = [await world.concurrency.enter(key, None) for key in keys]
    assert await reason_of(world, None, OTHER) == "ConcurrentInvocationLimitExceeded"
    await world.concurrency.enter(KEY, 900)  # the reserved ones are still there
    await world.concurrency.enter(ELSEWHERE, None)
    assert world.concurrency.running() == 102
    world.concurrency.leave(admissions[1])
    await world.concurrency.enter(OTHER, None)


@scenario
async def test_a_reservation_is_a_cap_on_its_function_alone(world: World) -> None:
    admissions = [await world.concurrency.enter(KEY, 3) for _ in range(3)]
    assert await reason_of(world, 3) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    await world.concurrency.enter(OTHER, 1)
    world.concurrency.leave(admissions[0])
    await world.concurrency.enter(KEY, 3)


@scenario
async def test_zero_throttles_everything(world: World) -> None:
    assert await reason_of(world, 0) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert world.concurrency.running() == 0


@scenario
async def test_what_is_refused_is_not_counted(world: World) -> None:
    admission = await world.concurrency.enter(KEY, 1)
    for _ in range(5):
        await reason_of(world, 1)
    world.concurrency.leave(admission)
    assert world.concurrency.running() == 0
    await world.concurrency.enter(KEY, 1)


@scenario
async def test_deleting_a_function_gives_its_reservation_back(world: World) -> None:
    await world.create()
    await world.concurrency.put(reference(), 900)
    assert await world.concurrency.unreserved_limit(NAMESPACE) == 100
    await world.functions.delete(reference())
    assert await world.concurrency.unreserved_limit(NAMESPACE) == 1000


@scenario
async def test_the_limit_is_known_once_it_was_asked_for(world: World) -> None:
    await world.create()
    assert not world.concurrency.can_tell(KEY)
    await world.concurrency.enter(KEY, None)
    assert world.concurrency.can_tell(KEY)
    await world.concurrency.put(reference(), 1)
    assert not world.concurrency.can_tell(KEY)


@scenario
async def test_what_is_provisioned_is_set_aside_for_its_version(world: World) -> None:
    await world.create()
    world.concurrency.set_provisioned(KEY, {"1": 2})
    assert await world.concurrency.unreserved_limit(NAMESPACE) == 998
    own = [await world.concurrency.enter(KEY, None, "1") for _ in range(2)]
    assert [each.provisioned for each in own] == ["1", "1"]
    spilled = await world.concurrency.enter(KEY, None, "1")
    assert spilled.provisioned is None
    for _ in range(997):
        await world.concurrency.enter(OTHER, None)
    assert await reason_of(world, None, OTHER) == "ConcurrentInvocationLimitExceeded"
    assert await reason_of(world, None) == "ConcurrentInvocationLimitExceeded"  # $LATEST has no part in it
    world.concurrency.leave(own[0])
    assert await reason_of(world, None, OTHER) == "ConcurrentInvocationLimitExceeded"
    assert (await world.concurrency.enter(KEY, None, "1")).provisioned == "1"


@scenario
async def test_what_is_provisioned_is_part_of_the_reservation(world: World) -> None:
    world.concurrency.set_provisioned(KEY, {"1": 2})
    assert (await world.concurrency.enter(KEY, 3)).running == 1
    assert await reason_of(world, 3) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    for running in (2, 3):
        admission = await world.concurrency.enter(KEY, 3, "1")
        assert (admission.running, admission.provisioned) == (running, "1")
    with pytest.raises(TooManyRequestsException):
        await world.concurrency.enter(KEY, 3, "1")


@scenario
async def test_limits_hold_while_what_is_provisioned_moves_to_another_version(world: World) -> None:
    world.concurrency.set_provisioned(KEY, {"1": 2})
    admissions = [await world.concurrency.enter(KEY, 3, version) for version in ("1", "1", "2")]
    world.concurrency.set_provisioned(KEY, {"2": 2})
    with pytest.raises(TooManyRequestsException):
        await world.concurrency.enter(KEY, 3, "2")
    world.concurrency.leave(admissions[0])
    assert (await world.concurrency.enter(KEY, 3, "2")).provisioned == "2"

    rest = [await world.concurrency.enter(OTHER, None) for _ in range(997)]
    for admission in (admissions[1], admissions[2]):
        world.concurrency.leave(admission)
    world.concurrency.set_provisioned(OTHER, {"1": 500})
    for _ in range(2):
        await world.concurrency.enter(OTHER, None, "1")
    assert world.concurrency.running() == quotas.CONCURRENT_EXECUTIONS
    with pytest.raises(TooManyRequestsException) as refused:
        await world.concurrency.enter(OTHER, None, "1")
    assert refused.value.fields["Reason"] == "ConcurrentInvocationLimitExceeded"
    world.concurrency.leave(rest[0])
    await world.concurrency.enter(OTHER, None, "1")


@scenario
async def test_invocations_of_a_function_with_a_reservation_make_the_limit_known_too(world: World) -> None:
    world.concurrency.set_provisioned(KEY, {"1": 1})
    await world.concurrency.enter(KEY, 3, "1")
    assert world.concurrency.can_tell(KEY)


@scenario
async def test_what_is_provisioned_no_more_is_forgotten_with_its_last_invocation(world: World) -> None:
    world.concurrency.set_provisioned(KEY, {"1": 1})
    admission = await world.concurrency.enter(KEY, None, "1")
    world.concurrency.set_provisioned(KEY, {})
    assert await world.concurrency.unreserved_limit(NAMESPACE) == 1000
    world.concurrency.leave(admission)
    assert world.concurrency.running() == 0
    assert not world.concurrency._provisioned

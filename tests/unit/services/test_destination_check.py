"""A target is looked for when it is configured."""

from __future__ import annotations

import asyncio

import pytest

from lambdad.adapters.memory_neighbours import MemoryNeighbours
from lambdad.domain import destinations
from lambdad.domain.arns import FunctionKey
from lambdad.domain.errors import InvalidParameterValueException, ServiceException
from lambdad.domain.events import Purpose
from lambdad.ports.neighbours import NeighbourUnavailable
from lambdad.services.destination_check import DestinationCheck
from unit.services.fakes import KEY, World, draft, reference

ROLE = "arn:aws:iam::000000000000:role/r"
TARGETS = [
    "arn:aws:sqs:eu-west-1:111111111111:q",
    "arn:aws:sns:eu-west-1:000000000000:t",
    "arn:aws:events:eu-west-1:000000000000:event-bus/b",
    "arn:aws:s3:::bucket",
]


def check(neighbours: MemoryNeighbours, arn: str, purpose: Purpose = Purpose.ON_FAILURE) -> None:
    async def scenario() -> None:
        world = World()
        version = await world.create()
        await world.aliases.create(reference(), "live", "$LATEST", "", {})
        checking = DestinationCheck(neighbours, world.store)
        await checking.check(version, destinations.parse(arn), purpose)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("arn", "operation", "region"),
    [
        (TARGETS[0], "GetQueueUrl", "eu-west-1"),
        (TARGETS[1], "GetTopicAttributes", "eu-west-1"),
        (TARGETS[2], "DescribeEventBus", "eu-west-1"),
        (TARGETS[3], "HeadBucket", "us-east-1"),
    ],
)
def test_what_is_there_passes(arn: str, operation: str, region: str) -> None:
    neighbours = MemoryNeighbours(TARGETS)
    check(neighbours, arn)
    (call,) = neighbours.calls
    assert (call.operation, call.region, call.account_id) == (operation, region, "000000000000")


@pytest.mark.parametrize("arn", TARGETS)
def test_what_is_not_there_is_invalid(arn: str) -> None:
    with pytest.raises(InvalidParameterValueException) as caught:
        check(MemoryNeighbours(), arn)
    assert caught.value.message == f"The destination ARN {arn} is invalid."


def test_a_dead_letter_queue_that_is_not_there_is_called_one() -> None:
    with pytest.raises(InvalidParameterValueException) as caught:
        check(MemoryNeighbours(), TARGETS[0], Purpose.DEAD_LETTER)
    assert caught.value.message == f"Invalid dead letter ARN: {TARGETS[0]} does not exist"


@pytest.mark.parametrize("arn", TARGETS)
def test_without_an_endpoint_people_are_told_how_to_have_one(arn: str) -> None:
    service = arn.split(":")[2]
    with pytest.raises(InvalidParameterValueException) as caught:
        check(MemoryNeighbours(TARGETS, services=()), arn)
    assert caught.value.message == (
        f"lambdad cannot look for {arn}: it knows no endpoint of {service}. Start it with --neighbour {service}=URL."
    )


def test_a_service_that_does_not_answer_is_named() -> None:
    neighbours = MemoryNeighbours(TARGETS)
    neighbours.failure = NeighbourUnavailable("sqs does not answer: Read timeout")
    with pytest.raises(ServiceException) as caught:
        check(neighbours, TARGETS[0])
    assert caught.value.message == f"lambdad cannot look for {TARGETS[0]}: sqs does not answer: Read timeout"
    assert caught.value.status == 500


@pytest.mark.parametrize("qualifier", ["", ":$LATEST", ":live"])
def test_a_function_that_is_there_passes(qualifier: str) -> None:
    neighbours = MemoryNeighbours()
    check(neighbours, KEY.arn + qualifier)
    assert neighbours.calls == []


@pytest.mark.parametrize(
    "arn",
    [
        f"{KEY.arn}:1",
        f"{KEY.arn}:absent",
        f"{KEY.arn}-absent",
        KEY.arn.replace("us-east-1", "eu-west-1"),
    ],
)
def test_a_function_that_is_not_there_is_invalid(arn: str) -> None:
    with pytest.raises(InvalidParameterValueException, match="is invalid"):
        check(MemoryNeighbours(), arn)


def test_a_function_of_another_account_is_invalid() -> None:
    async def scenario() -> None:
        world = World()
        key = FunctionKey("111111111111", "us-east-1", "f")
        elsewhere = await world.functions.create(draft(key), b"one", {}, False)
        here = await world.create()
        checking = DestinationCheck(MemoryNeighbours(), world.store)
        with pytest.raises(InvalidParameterValueException, match="is invalid"):
            await checking.check(here, destinations.parse(key.arn), Purpose.ON_SUCCESS)
        await checking.check(elsewhere, destinations.parse(key.arn), Purpose.ON_SUCCESS)

    asyncio.run(scenario())

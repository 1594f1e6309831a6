"""Configurations of asynchronous invocations, on the in-memory adapters."""

from __future__ import annotations

import re

import pytest

from lambdad.domain.errors import InvalidParameterValueException, ResourceNotFoundException
from lambdad.domain.events import Purpose
from lambdad.domain.functions import EventInvokeConfig
from lambdad.services.event_invoke_configs import EventInvokeSettings
from unit.services.fakes import KEY, World, reference, scenario

PLACE = "us-east-1:000000000000"
QUEUE = f"arn:aws:sqs:{PLACE}:outcomes"
TOPIC = f"arn:aws:sns:{PLACE}:outcomes"
BUS = f"arn:aws:events:{PLACE}:event-bus/default"
BUCKET = "arn:aws:s3:::failures"
FUNCTION = f"arn:aws:lambda:{PLACE}:function:other:PROD"
LATEST_ARN = f"{KEY.arn}:$LATEST"


def config_refused(on_success: str, on_failure: str) -> str:
    """What is said of destinations that cannot be: a pattern."""
    return re.escape(
        f"The provided destination config DestinationConfig(onSuccess={on_success}, onFailure={on_failure}) is invalid."
    )


@scenario
async def test_put_replaces_and_update_changes(world: World) -> None:
    await world.create()
    await world.event_invoke_configs.put(reference(), {"max_retry_attempts": 0, "on_failure": BUCKET})
    await world.clock.advance(1.5)
    replaced = await world.event_invoke_configs.put(reference(), {"max_event_age_s": 60, "on_success": QUEUE})
    assert replaced == EventInvokeConfig(KEY, "$LATEST", world.clock.time(), None, 60, QUEUE, None)
    await world.clock.advance(1.5)
    changed = await world.event_invoke_configs.update(reference(), {"max_retry_attempts": 0, "on_failure": TOPIC})
    assert changed == EventInvokeConfig(KEY, "$LATEST", world.clock.time(), 0, 60, QUEUE, TOPIC)
    removed = await world.event_invoke_configs.update(reference(), {"on_success": ""})
    assert (removed.on_success, removed.on_failure) == (None, TOPIC)
    assert await world.event_invoke_configs.get(reference("$LATEST")) == removed


@scenario
async def test_a_function_a_version_and_an_alias_are_configured_apart(world: World) -> None:
    await world.create()
    await world.functions.publish(reference(), None, None, None)
    await world.aliases.create(reference(), "PROD", "1", "", {})
    for number, qualifier in enumerate([None, "1", "PROD"]):
        put = await world.event_invoke_configs.put(reference(qualifier), {"max_retry_attempts": number})
        assert put.arn == f"{KEY.arn}:{qualifier or '$LATEST'}"
    for number, qualifier in enumerate(["$LATEST", "1", "PROD"]):
        assert (await world.event_invoke_configs.get(reference(qualifier))).max_retry_attempts == number


@scenario
async def test_every_change_is_told_of(world: World) -> None:
    await world.create()
    world.changes.clear()
    await world.event_invoke_configs.put(reference(), {"max_retry_attempts": 1})
    await world.event_invoke_configs.update(reference(), {"max_retry_attempts": 2})
    await world.event_invoke_configs.delete(reference())
    assert world.changes == [KEY, KEY, KEY]


@scenario
async def test_there_must_be_something_to_set(world: World) -> None:
    await world.create()
    nothing: EventInvokeSettings = {}
    for change in (world.event_invoke_configs.put, world.event_invoke_configs.update):
        with pytest.raises(InvalidParameterValueException, match="You must specify at least one of error handling"):
            await change(reference(), nothing)


@scenario
async def test_what_does_not_exist_cannot_be_configured(world: World) -> None:
    settings: EventInvokeSettings = {"max_retry_attempts": 1, "on_failure": QUEUE}
    configs = world.event_invoke_configs
    for changing in (configs.put(reference(), settings), configs.update(reference(), settings)):
        with pytest.raises(ResourceNotFoundException, match=re.escape("The function doesn't exist.")):
            await changing
    with pytest.raises(ResourceNotFoundException, match=re.escape("The function doesn't exist.")):
        await configs.list(reference(), "", 50)
    await world.create()
    for qualifier in ("1", "PROD"):
        for change in (configs.put, configs.update):
            with pytest.raises(ResourceNotFoundException, match=re.escape("The function doesn't exist.")):
                await change(reference(qualifier), settings)
        with pytest.raises(ResourceNotFoundException, match=re.escape("The function doesn't exist.")):
            await configs.delete(reference(qualifier))
    assert world.destinations.checked == []
    assert await configs.list(reference(), "", 50) == ([], None)


@scenario
async def test_where_there_is_no_configuration_that_is_said(world: World) -> None:
    await world.create()
    said = re.escape(f"The function {LATEST_ARN} doesn't have an EventInvokeConfig")
    with pytest.raises(ResourceNotFoundException, match=said):
        await world.event_invoke_configs.get(reference())
    with pytest.raises(ResourceNotFoundException, match=said):
        await world.event_invoke_configs.update(reference(), {"max_retry_attempts": 1})
    await world.event_invoke_configs.put(reference(), {"max_retry_attempts": 1})
    await world.event_invoke_configs.delete(reference())
    with pytest.raises(ResourceNotFoundException, match=said):
        await world.event_invoke_configs.delete(reference())


@scenario
async def test_destinations_are_checked_for_the_role_of_the_version_that_is_meant(world: World) -> None:
    first = await world.create()
    await world.functions.publish(reference(), None, None, None)
    await world.aliases.create(reference(), "PROD", "1", "", {})
    role = "arn:aws:iam::000000000000:role/other"
    await world.functions.update_configuration(reference(), {"role": role}, None)
    await world.event_invoke_configs.put(reference("PROD"), {"on_success": BUS, "on_failure": BUCKET})
    assert world.destinations.checked == [
        (first.role, BUS, Purpose.ON_SUCCESS),
        (first.role, BUCKET, Purpose.ON_FAILURE),
    ]
    world.destinations.checked.clear()
    await world.event_invoke_configs.put(reference(), {"on_success": FUNCTION, "on_failure": ""})
    await world.event_invoke_configs.update(reference(), {"max_retry_attempts": 1})
    assert world.destinations.checked == [(role, FUNCTION, Purpose.ON_SUCCESS)]


@scenario
async def test_a_destination_that_does_not_exist_changes_nothing(world: World) -> None:
    await world.create()
    before = await world.event_invoke_configs.put(reference(), {"on_failure": QUEUE})
    absent = f"arn:aws:sqs:{PLACE}:absent"
    for change in (world.event_invoke_configs.put, world.event_invoke_configs.update):
        with pytest.raises(InvalidParameterValueException, match=f"The destination ARN {absent} is invalid"):
            await change(reference(), {"on_failure": absent})
    assert await world.event_invoke_configs.get(reference()) == before


@scenario
async def test_a_kind_of_destination_that_aws_does_not_have_is_refused(world: World) -> None:
    await world.create()
    put = world.event_invoke_configs.put
    for arn in (
        f"{QUEUE}.fifo",
        f"{TOPIC}.fifo",
        f"arn:aws:kinesis:{PLACE}:stream/s",
        "kafka://topic",
        "arn:aws:s3:::",
    ):
        with pytest.raises(
            InvalidParameterValueException, match=config_refused("null", f"OnFailure(destination={arn})")
        ):
            await put(reference(), {"on_failure": arn})
    success, failure = f"OnSuccess(destination={BUCKET})", f"OnFailure(destination={BUCKET})"
    with pytest.raises(InvalidParameterValueException, match=config_refused(success, failure)):
        await put(reference(), {"on_success": BUCKET, "on_failure": BUCKET})
    assert world.destinations.checked == []


@scenario
async def test_a_function_is_no_destination_of_its_own(world: World) -> None:
    await world.create()
    for arn in (KEY.arn, LATEST_ARN):
        with pytest.raises(InvalidParameterValueException, match="You can't specify the function as a destination for"):
            await world.event_invoke_configs.put(reference(), {"on_failure": arn})
    elsewhere = KEY.arn.replace("us-east-1", "eu-west-1")
    assert (await world.event_invoke_configs.put(reference(), {"on_failure": elsewhere})).on_failure == elsewhere


@scenario
async def test_a_configuration_goes_with_what_it_is_for(world: World) -> None:
    await world.create()
    await world.functions.publish(reference(), None, None, None)
    await world.functions.update_configuration(reference(), {"timeout_s": 9}, None)
    await world.functions.publish(reference(), None, None, None)
    await world.aliases.create(reference(), "PROD", "1", "", {})
    for qualifier in (None, "1", "2", "PROD"):
        await world.event_invoke_configs.put(reference(qualifier), {"max_retry_attempts": 1})

    async def configured() -> list[str]:
        return [config.qualifier for config in (await world.event_invoke_configs.list(reference(), "", 50))[0]]

    assert await configured() == ["$LATEST", "1", "2", "PROD"]
    await world.functions.delete(reference("2"))
    assert await configured() == ["$LATEST", "1", "PROD"]
    await world.aliases.delete(reference(), "PROD")
    assert await configured() == ["$LATEST", "1"]
    await world.functions.delete(reference())
    await world.create()
    assert await configured() == []


@scenario
async def test_lists_come_in_pages(world: World) -> None:
    await world.create()
    for name in ("A", "B", "C"):
        await world.aliases.create(reference(), name, "$LATEST", "", {})
        await world.event_invoke_configs.put(reference(name), {"max_retry_attempts": 1})
    first, after = await world.event_invoke_configs.list(reference(), "", 2)
    assert ([config.qualifier for config in first], after) == (["A", "B"], "B")
    rest, end = await world.event_invoke_configs.list(reference(), "B", 2)
    assert ([config.qualifier for config in rest], end) == (["C"], None)

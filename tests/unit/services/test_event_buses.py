"""Buses, their policies and tags."""

from __future__ import annotations

import json

from lambdad.domain.event_buses import BUSES_MAX, BusKey
from unit.services.event_worlds import ACCOUNT, BUS, NOW_MS, OTHER, REGION, World, refused, scenario


@scenario
async def test_the_default_bus_is_there_in_every_account_and_region(world: World) -> None:
    elsewhere = BusKey("222222222222", "eu-west-1", "default")
    for key in (BUS, elsewhere):
        assert [bus.key for bus in world.buses.event_buses(key.account_id, key.region)] == [key]
        assert world.buses.event_bus(key).created_ms is None
    await world.buses.update_event_bus(BUS, description="ours")
    assert world.buses.event_bus(BUS).description == "ours"
    assert world.buses.event_bus(elsewhere).description == ""


@scenario
async def test_a_bus_from_its_creation_to_its_deletion(world: World) -> None:
    assert await refused(world.buses.put_policy(OTHER, "{}")) == (
        "ValidationException",
        "Parameter Policy is not valid. Reason: It is not a policy document.",
    )
    bus = await world.buses.create_event_bus(OTHER, description="d", tags=[{"Key": "k", "Value": "v"}])
    assert (bus.tags, bus.created_ms) == ({"k": "v"}, NOW_MS)
    assert await refused(world.buses.create_event_bus(OTHER)) == (
        "ResourceAlreadyExistsException",
        "Event bus orders already exists.",
    )
    await world.clock.advance(1)
    changed = await world.buses.update_event_bus(OTHER, dead_letter_arn="arn:q")
    assert (changed.description, changed.dead_letter_arn) == ("d", "arn:q")
    assert (changed.created_ms, changed.modified_ms) == (NOW_MS, NOW_MS + 1000)
    assert [each.key.name for each in world.buses.event_buses(ACCOUNT, REGION)] == ["default", "orders"]
    world = await world.restarted()
    assert world.buses.event_bus(OTHER) == changed
    await world.rule("r", None, OTHER)
    assert await refused(world.buses.delete_event_bus(OTHER)) == (
        "ValidationException",
        "Event bus can't be deleted since it has rules.",
    )
    await world.rules.remove_targets(OTHER, "r", ["0"])
    await world.rules.delete_rule(OTHER, "r")
    await world.buses.delete_event_bus(OTHER)
    await world.buses.delete_event_bus(OTHER)
    assert await refused(world.buses.update_event_bus(OTHER)) == (
        "ResourceNotFoundException",
        "Event bus orders does not exist.",
    )
    world = await world.restarted()
    assert [each.key for each in world.buses.event_buses(ACCOUNT, REGION)] == [BUS]


@scenario
async def test_names_that_no_bus_gets(world: World) -> None:
    assert (await refused(world.buses.create_event_bus(BUS)))[0] == "ResourceAlreadyExistsException"
    assert await refused(world.buses.create_event_bus(BusKey(ACCOUNT, REGION, "a/b"))) == (
        "ValidationException",
        "Event bus name must not contain '/'.",
    )
    assert await refused(world.buses.delete_event_bus(BUS)) == (
        "ValidationException",
        "Cannot delete event bus default.",
    )


@scenario
async def test_there_are_at_most_a_hundred(world: World) -> None:
    for n in range(BUSES_MAX - 1):
        await world.buses.create_event_bus(BusKey(ACCOUNT, REGION, f"b{n}"))
    assert await refused(world.buses.create_event_bus(OTHER)) == (
        "LimitExceededException",
        "The requested resource exceeds the maximum number allowed.",
    )
    await world.buses.create_event_bus(BusKey(ACCOUNT, "eu-west-1", "b"))


@scenario
async def test_permissions_are_kept_in_the_policy(world: World) -> None:
    await world.buses.put_permission(BUS, "s", "events:PutEvents", "*")
    await world.buses.put_permission(BUS, "t", "events:PutEvents", "222222222222")
    await world.buses.remove_permission(BUS, "s")
    policy = json.loads(world.buses.event_bus(BUS).policy)
    assert [each["Sid"] for each in policy["Statement"]] == ["t"]
    assert await refused(world.buses.remove_permission(BUS, "s")) == (
        "ResourceNotFoundException",
        "Statement with the provided id does not exist.",
    )
    await world.buses.remove_permission(BUS, None)
    assert world.buses.event_bus(BUS).policy == ""
    assert await refused(world.buses.remove_permission(BUS, "t")) == (
        "ResourceNotFoundException",
        "EventBus does not have a policy.",
    )


@scenario
async def test_tags_of_buses_and_rules(world: World) -> None:
    await world.rule()
    await world.buses.put_tags(BUS, None, lambda tags: {**tags, "a": "1"})
    await world.buses.put_tags(BUS, "r", lambda tags: {**tags, "b": "2"})
    assert (world.buses.event_bus(BUS).tags, world.rules.rule(BUS, "r").tags) == ({"a": "1"}, {"b": "2"})
    assert await refused(world.buses.put_tags(BUS, "none", dict)) == (
        "ResourceNotFoundException",
        "Rule none does not exist on EventBus default.",
    )

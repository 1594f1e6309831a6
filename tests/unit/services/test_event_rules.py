"""Rules, targets and schedules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambdad.domain.event_buses import RULES_MAX
from lambdad.ports.store import StoreUnavailable
from unit.services.event_worlds import BUS, FUNCTION, NOW_MS, OTHER, QUEUE, World, arn, payloads, refused, scenario

PATTERN = json.dumps({"source": ["shop"]})
LIMIT = "LimitExceededException", "The requested resource exceeds the maximum number allowed."
UNKNOWN_RULE = "ResourceNotFoundException", "Rule none does not exist on EventBus default."
UNKNOWN_BUS = "ResourceNotFoundException", "Event bus orders does not exist."


def target(name: str, target_arn: str = FUNCTION, **fields: Any) -> dict[str, Any]:
    return {"Id": name, "Arn": target_arn, **fields}


@scenario
async def test_a_rule_put_again_keeps_its_targets_and_tags(world: World) -> None:
    await world.rules.put_rule(BUS, "r", pattern=PATTERN, description="d", tags=[{"Key": "a", "Value": "1"}])
    await world.rules.put_targets(BUS, "r", [target("t")])
    rule = await world.rules.put_rule(
        BUS, "r", pattern=json.dumps({"source": ["x"]}), tags=[{"Key": "b", "Value": "2"}]
    )
    assert (rule.description, rule.tags, [each.id for each in rule.targets]) == ("", {"a": "1"}, ["t"])
    await world.put()
    assert world.queue.take() == []
    await world.put({"Source": "x"})
    assert len(world.queue.take()) == 1
    world = await world.restarted()
    assert world.rules.rules(BUS) == [rule]
    await world.put({"Source": "x"})
    assert len(world.queue.take()) == 1


@scenario
async def test_what_could_not_be_stored_has_not_changed(world: World) -> None:
    await world.rules.put_rule(BUS, "r", pattern=PATTERN)
    await world.rules.put_targets(BUS, "r", [target("t")])
    rules = world.rules.rules(BUS)
    await world.store.close()
    for change in (
        world.rules.put_rule(BUS, "r", pattern='{"source": ["x"]}'),
        world.rules.put_rule(BUS, "new", schedule="rate(1 minute)"),
        world.rules.set_state(BUS, "r", "DISABLED"),
        world.rules.remove_targets(BUS, "r", ["t"]),
    ):
        with pytest.raises(StoreUnavailable):
            await change
    assert world.rules.rules(BUS) == rules
    await world.put()
    await world.clock.advance(120)
    assert len(world.queue.take()) == 1


@scenario
async def test_what_is_no_rule(world: World) -> None:
    put = world.rules.put_rule
    assert await refused(put(BUS, "r")) == (
        "ValidationException",
        "Parameter(s) EventPattern or ScheduleExpression must be specified.",
    )
    assert await refused(put(BUS, "r", schedule="rate(1 hours)")) == (
        "ValidationException",
        "Parameter ScheduleExpression is not valid.",
    )
    code, message = await refused(put(BUS, "r", pattern="{"))
    assert code == "InvalidEventPatternException"
    assert message.startswith("Event pattern is not valid. Reason: ")
    assert await refused(put(OTHER, "r", pattern=PATTERN)) == UNKNOWN_BUS
    assert world.rules.rules(BUS) == []


@scenario
async def test_there_are_at_most_300_on_a_bus(world: World) -> None:
    for n in range(RULES_MAX):
        await world.rules.put_rule(BUS, f"r{n}", pattern=PATTERN)
    assert await refused(world.rules.put_rule(BUS, "more", pattern=PATTERN)) == LIMIT
    await world.rules.put_rule(BUS, "r0", pattern=PATTERN)


@scenario
async def test_a_rule_with_targets_is_not_deleted(world: World) -> None:
    await world.rule()
    assert await refused(world.rules.delete_rule(BUS, "r")) == (
        "ValidationException",
        "Rule can't be deleted since it has targets.",
    )
    assert await world.rules.remove_targets(BUS, "r", ["0"]) == []
    await world.rules.delete_rule(BUS, "r")
    await world.rules.delete_rule(BUS, "r")
    assert world.rules.rules(BUS) == []
    await world.put()
    assert world.queue.take() == []
    assert await refused(world.rules.delete_rule(OTHER, "r")) == UNKNOWN_BUS


@scenario
async def test_what_is_not_there_is_not_found(world: World) -> None:
    for call in (
        world.rules.set_state(BUS, "none", "ENABLED"),
        world.rules.put_targets(BUS, "none", [target("t")]),
        world.rules.remove_targets(BUS, "none", ["t"]),
    ):
        assert await refused(call) == UNKNOWN_RULE


@scenario
async def test_targets_are_replaced_by_their_ids(world: World) -> None:
    await world.rule()
    await world.rules.put_targets(BUS, "r", [target("0", QUEUE), target("1"), target("1", Input="1")])
    targets = world.rules.rule(BUS, "r").targets
    assert [(each.id, each.arn, each.input) for each in targets] == [("0", QUEUE, ""), ("1", FUNCTION, "1")]
    assert world.rules.rule_names_by_target(BUS, QUEUE) == ["r"]
    assert world.rules.rule_names_by_target(BUS, arn("sqs", "other")) == []
    failed = await world.rules.remove_targets(BUS, "r", ["1", "x", "x"])
    assert [(each.target_id, each.error_code) for each in failed] == [("x", "ResourceNotFoundException")]
    assert [each.id for each in world.rules.rule(BUS, "r").targets] == ["0"]


@scenario
async def test_a_rule_has_at_most_five_targets(world: World) -> None:
    await world.rules.put_rule(BUS, "r", pattern=PATTERN)
    six = [target(str(n)) for n in range(6)]
    assert await refused(world.rules.put_targets(BUS, "r", six)) == LIMIT
    assert world.rules.rule(BUS, "r").targets == ()
    await world.rules.put_targets(BUS, "r", six[:5])
    assert await refused(world.rules.put_targets(BUS, "r", six[5:])) == LIMIT
    await world.rules.put_targets(BUS, "r", six[:1])


@scenario
async def test_what_cannot_be_served_is_a_failed_entry(world: World) -> None:
    world.absent = {"firehose", "sqs"}
    await world.rules.put_rule(BUS, "r", pattern=PATTERN)
    role = {"RoleArn": "arn:aws:iam::111122223333:role/r"}
    failed = await world.rules.put_targets(
        BUS,
        "r",
        [
            target("ecs", arn("ecs", "cluster/c"), **role),
            target("firehose", arn("firehose", "deliverystream/s"), **role),
            target("kinesis", arn("kinesis", "stream/s"), **role),
            target("dead", DeadLetterConfig={"Arn": QUEUE}),
        ],
    )
    assert [(each.target_id, each.error_message) for each in failed] == [
        ("ecs", "Targets of the service ecs are not supported by lambdad."),
        ("firehose", "The service firehose has no endpoint in lambdad."),
        ("dead", "The service sqs has no endpoint in lambdad."),
    ]
    assert [each.id for each in world.rules.rule(BUS, "r").targets] == ["kinesis"]


@scenario
async def test_a_bad_target_refuses_the_whole_request(world: World) -> None:
    await world.rules.put_rule(BUS, "r", pattern=PATTERN)
    code, message = await refused(world.rules.put_targets(BUS, "r", [target("a"), target("b", "x")]))
    assert code == "ValidationException"
    assert message == "Parameter x is not valid. Reason: Provided Arn is not in correct format."
    assert world.rules.rule(BUS, "r").targets == ()


async def scheduled(world: World, expression: str = "rate(1 minute)") -> str:
    rule = await world.rules.put_rule(BUS, "r", schedule=expression)
    await world.rules.put_targets(BUS, "r", [target("t")])
    return rule.mark


def times(world: World) -> list[str]:
    return [event["time"][11:19] for event in payloads(world.queue.take())]


@scenario
async def test_a_schedule_goes_on_after_a_restart(world: World) -> None:
    await scheduled(world)
    await world.clock.advance(61)
    assert times(world) == ["22:14:20"]
    await world.stop()
    await world.clock.advance(120)
    world = await world.restarted()
    await world.clock.advance(1)
    assert times(world) == ["22:15:20", "22:16:20"]


@scenario
async def test_a_rule_that_is_disabled_does_not_fire_and_begins_anew(world: World) -> None:
    await scheduled(world)
    await world.clock.advance(61)
    await world.rules.set_state(BUS, "r", "DISABLED")
    await world.clock.advance(129)
    assert times(world) == ["22:14:20"]
    await world.rules.set_state(BUS, "r", "ENABLED")
    await world.clock.advance(61)
    assert times(world) == ["22:17:30"]
    assert world.rules.rule(BUS, "r").scheduled_since_ms == NOW_MS + 190_000


@scenario
async def test_another_expression_begins_anew_and_the_same_does_not(world: World) -> None:
    await scheduled(world)
    await world.clock.advance(30)
    await world.rules.put_rule(BUS, "r", schedule="rate(1 minute)", description="other")
    await world.clock.advance(31)
    assert times(world) == ["22:14:20"]
    await world.rules.put_rule(BUS, "r", schedule="rate(2 minutes)")
    await world.clock.advance(121)
    assert times(world) == ["22:16:21"]
    await world.rules.put_rule(BUS, "r", pattern=PATTERN)
    await world.clock.advance(600)
    assert times(world) == []


@scenario
async def test_a_deleted_rule_fires_no_more_and_is_forgotten(world: World) -> None:
    mark = await scheduled(world)
    await world.clock.advance(61)
    assert world.queue.take()
    assert mark in world.queue.kept
    await world.rules.remove_targets(BUS, "r", ["t"])
    await world.rules.delete_rule(BUS, "r")
    await world.clock.advance(600)
    assert (world.queue.take(), world.queue.kept) == ([], {})


@scenario
async def test_an_occurrence_waits_for_the_disk(world: World) -> None:
    await scheduled(world)
    world.queue.failing = True
    await world.clock.advance(65)
    world.queue.failing = False
    await world.clock.advance(2)
    assert times(world) == ["22:14:20"]


@scenario
async def test_a_rule_may_match_and_have_a_schedule(world: World) -> None:
    await world.rules.put_rule(BUS, "r", schedule="cron(30 22 * * ? *)", pattern=PATTERN)
    await world.rules.put_targets(BUS, "r", [target("t")])
    await world.put()
    assert times(world) == ["22:13:20"]
    await world.clock.advance(1200)
    assert times(world) == ["22:30:00"]

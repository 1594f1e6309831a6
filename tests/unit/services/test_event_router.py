"""The way of events from PutEvents to targets, other buses and archives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambdad.domain.event_buses import BusKey
from lambdad.domain.event_targets import log_stream
from lambdad.domain.logs import GroupKey
from lambdad.ports.store import StoreUnavailable
from unit.services.event_worlds import (
    ACCOUNT,
    BUS,
    FUNCTION,
    NOW_MS,
    OTHER,
    QUEUE,
    REGION,
    World,
    arn,
    payloads,
    scenario,
)

FRIEND = "222222222222"
TO_OTHER = {"Arn": OTHER.arn}


@scenario
async def test_an_event_goes_to_the_targets_of_the_rules_that_match(world: World) -> None:
    await world.rule("a", {"source": ["shop"]}, BUS, {"Arn": FUNCTION}, {"Arn": QUEUE})
    await world.rule("b", {"source": [{"prefix": "sh"}], "detail": {"n": [1]}})
    await world.rule("c", {"source": ["other"]})
    results = await world.put({"Detail": '{"n": 1}'}, {"Detail": '{"n": 2}'})
    taken = world.queue.take()
    assert [(each.source.rsplit("/", 1)[1], each.service) for each in taken] == [
        ("a", "lambda"),
        ("a", "sqs"),
        ("b", "lambda"),
        ("a", "lambda"),
        ("a", "sqs"),
    ]
    event = json.loads(taken[0].parameters["Payload"])
    assert event == {
        "version": "0",
        "id": results[0].event_id,
        "detail-type": "Order",
        "source": "shop",
        "account": ACCOUNT,
        "time": "2023-11-14T22:13:20Z",
        "region": REGION,
        "resources": [],
        "detail": {"n": 1},
    }
    assert len({result.event_id for result in results}) == 2


@scenario
async def test_entries_fail_by_themselves(world: World) -> None:
    await world.rule()
    results = await world.put({"Detail": "{"}, {}, {"Source": ""}, {"Source": "aws.s3"})
    assert [(bool(each.event_id), each.error_code) for each in results] == [
        (False, "MalformedDetail"),
        (True, ""),
        (False, "InvalidArgument"),
        (False, "NotAuthorizedForSourceException"),
    ]
    assert len(world.queue.take()) == 1


@scenario
async def test_a_disabled_rule_gets_nothing(world: World) -> None:
    await world.rule()
    await world.rules.set_state(BUS, "r", "DISABLED")
    await world.put()
    assert world.queue.take() == []
    await world.rules.set_state(BUS, "r", "ENABLED")
    await world.put()
    assert len(world.queue.take()) == 1


@scenario
async def test_a_rule_sees_the_events_of_its_own_bus(world: World) -> None:
    await world.buses.create_event_bus(OTHER)
    await world.rule("default")
    await world.rule("orders", None, OTHER)
    await world.put({"EventBusName": "orders"}, {"EventBusName": OTHER.arn})
    assert {each.source for each in world.queue.take()} == {OTHER.rule_arn("orders")}
    await world.put({"EventBusName": "none"}, account_id=ACCOUNT)
    await world.buses.receive(FRIEND, REGION, "default", [])
    await world.put(account_id=FRIEND)
    assert world.queue.take() == []


@scenario
async def test_full_events_are_received_as_they_are(world: World) -> None:
    await world.rule(pattern={"source": ["aws.s3"]})
    event = {"id": "1", "source": "aws.s3", "detail-type": "Object Created", "time": "x", "detail": {"ü": 1}}
    await world.buses.receive(ACCOUNT, REGION, "default", [event, event], "Root=1")
    assert payloads(world.queue.accepted) == [event, event]
    assert world.queue.traces == ["Root=1"] * 2


@scenario
async def test_traces_go_along(world: World) -> None:
    await world.rule()
    await world.put({"TraceHeader": "Root=1"}, {}, {"TraceHeader": "Root=1"}, trace="Root=2")
    assert world.queue.traces == ["Root=1", "Root=2", "Root=1"]  # in the order of the entries


@scenario
async def test_another_account_needs_a_permission(world: World) -> None:
    await world.rule()
    entry = {"EventBusName": BUS.arn}
    (result,) = await world.put(entry, account_id=FRIEND)
    assert (result.event_id, result.error_code) == ("", "AccessDeniedException")
    assert result.error_message == (
        f"User: arn:aws:iam::{FRIEND}:root is not authorized to perform: events:PutEvents on resource: {BUS.arn} "
        "because no resource-based policy allows the events:PutEvents action"
    )
    await world.buses.put_permission(BUS, "friend", "events:PutEvents", FRIEND)
    (result,) = await world.put(entry, account_id=FRIEND)
    assert result.event_id
    (event,) = payloads(world.queue.take())
    assert event["account"] == FRIEND
    await world.buses.remove_permission(BUS, "friend")
    (result,) = await world.put(entry, account_id=FRIEND)
    assert result.error_code == "AccessDeniedException"


@scenario
async def test_a_rule_sends_on_to_another_bus(world: World) -> None:
    await world.buses.create_event_bus(OTHER)
    await world.rule("on", None, BUS, TO_OTHER)
    await world.rule("last", None, OTHER)
    results = await world.put({"Detail": '{"n": 1}'})
    (dispatch,) = world.queue.take()
    assert dispatch.source == OTHER.rule_arn("last")
    event = json.loads(dispatch.parameters["Payload"])
    assert (event["id"], event["account"], event["detail"]) == (results[0].event_id, ACCOUNT, {"n": 1})


@scenario
async def test_buses_that_send_to_each_other_end(world: World) -> None:
    third = BusKey(ACCOUNT, REGION, "third")
    for key in (OTHER, third):
        await world.buses.create_event_bus(key)
    await world.rule("on", None, BUS, TO_OTHER, {"Arn": BUS.arn}, {"Arn": FUNCTION})
    await world.rule("back", None, OTHER, {"Arn": BUS.arn}, {"Arn": third.arn}, {"Arn": FUNCTION})
    await world.rule("never", None, third)
    await world.put()
    # The event itself, the one that the default bus sends itself, and the one that has come to the other bus.
    assert sorted(each.source for each in world.queue.take()) == sorted(
        [BUS.rule_arn("on"), BUS.rule_arn("on"), OTHER.rule_arn("back")]
    )


@scenario
async def test_what_would_go_to_a_third_bus_goes_to_the_dead_letter_queue(world: World) -> None:
    await world.buses.create_event_bus(OTHER)
    await world.rule("on", None, BUS, TO_OTHER)
    await world.rule("back", None, OTHER, {"Arn": BUS.arn, "DeadLetterConfig": {"Arn": QUEUE}})
    await world.put()
    (dispatch,) = world.queue.take()
    assert dispatch.target == QUEUE
    code = dispatch.parameters["MessageAttributes"]["ERROR_CODE"]["StringValue"]
    assert code == "THIRD_ACCOUNT_HOP_DETECTED"


@scenario
async def test_a_bus_that_does_not_take_an_event_leaves_it_to_the_dead_letter_queue(world: World) -> None:
    dead = {"DeadLetterConfig": {"Arn": QUEUE}}
    gone, closed = arn("events", "event-bus/gone"), arn("events", "event-bus/default", FRIEND)
    await world.rule("r", None, BUS, {"Arn": gone, **dead}, {"Arn": closed, **dead}, {"Arn": gone})
    await world.put()
    codes = [each.parameters["MessageAttributes"]["ERROR_CODE"]["StringValue"] for each in world.queue.take()]
    assert codes == ["NO_RESOURCE", "NO_PERMISSIONS"]
    policy = {
        "Effect": "Allow",
        "Principal": {"AWS": ACCOUNT},
        "Action": "events:PutEvents",
        "Resource": "*",
        "Condition": {"ArnEquals": {"aws:SourceArn": BUS.rule_arn("r")}},
    }
    await world.buses.put_policy(BusKey(FRIEND, REGION, "default"), json.dumps({"Statement": policy}))
    await world.rule("there", None, BusKey(FRIEND, REGION, "default"))
    await world.put()
    assert [each.service for each in world.queue.take()] == ["sqs", "lambda"]


@scenario
async def test_the_stream_of_a_log_group_is_there_before_the_event(world: World) -> None:
    logs = {"Arn": arn("logs", "log-group:/aws/events/g")}
    rule = await world.rule("r", None, BUS, logs, {"Arn": arn("logs", "log-group:/aws/events/none")})
    await world.put()
    await world.put()
    assert world.logs.groups[GroupKey(ACCOUNT, REGION, "/aws/events/g")] == {log_stream(rule)}
    assert [each.parameters["logStreamName"] for each in world.queue.take()] == [log_stream(rule)] * 4


@scenario
async def test_the_time_of_arrival_is_a_variable(world: World) -> None:
    template = {"InputTransformer": {"InputTemplate": "[<aws.events.event.ingestion-time>, <aws.events.rule-name>]"}}
    await world.rule("r", None, BUS, {"Arn": FUNCTION, **template})
    await world.clock.advance(10)
    await world.put()
    assert payloads(world.queue.take()) == [["2023-11-14T22:13:30Z", "r"]]


@scenario
async def test_nothing_is_acknowledged_that_is_not_on_disk(world: World) -> None:
    await world.rule()
    world.queue.failing = True
    with pytest.raises(StoreUnavailable):
        await world.put()


@scenario
async def test_texts_that_utf_8_does_not_know_pass(world: World) -> None:
    transformer = {"InputPathsMap": {"a": "$.detail.a"}, "InputTemplate": '{"value": <a>, "text": "<a>"}'}
    await world.rule("r", None, BUS, {"Arn": FUNCTION}, {"Arn": FUNCTION, "InputTransformer": transformer})
    await world.put({"Detail": '{"a": "\\ud800"}'})
    taken = world.queue.take()
    assert all(each.parameters["Payload"].encode() for each in taken)
    whole, transformed = payloads(taken)
    assert whole["detail"] == {"a": "\ud800"}
    assert transformed == {"value": "\ud800", "text": "\ufffd"}


@scenario
async def test_a_schedule_fires_with_its_mark(world: World) -> None:
    rule = await world.rules.put_rule(BUS, "r", schedule="rate(1 minute)")
    await world.rules.put_targets(BUS, "r", [{"Id": "a", "Arn": FUNCTION}, {"Id": "b", "Arn": QUEUE}])
    await world.clock.advance(61)
    taken = world.queue.take()
    assert [each.service for each in taken] == ["lambda", "sqs"]
    (event,) = payloads(taken[:1])
    assert event.pop("id")
    assert event == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": "2023-11-14T22:14:20Z",
        "region": REGION,
        "resources": [rule.arn],
        "detail": {},
    }
    assert world.queue.kept == {f"events/{rule.arn}": NOW_MS + 60_000}


@scenario
async def test_a_schedule_without_targets_advances(world: World) -> None:
    rule = await world.rules.put_rule(BUS, "r", schedule="rate(1 minute)")
    await world.clock.advance(121)
    assert world.queue.kept == {rule.mark: NOW_MS + 120_000}


@scenario
async def test_a_scheduled_event_may_go_to_another_bus(world: World) -> None:
    await world.buses.create_event_bus(OTHER)
    await world.rules.put_rule(BUS, "r", schedule="rate(1 minute)")
    await world.rules.put_targets(BUS, "r", [{"Id": "a", "Arn": OTHER.arn}])
    await world.rule("there", {"source": ["aws.events"]}, OTHER)
    await world.clock.advance(61)
    (event,) = payloads(world.queue.take())
    assert event["resources"] == [BUS.rule_arn("r")]


def _big(n: int) -> dict[str, Any]:
    return {"source": [f"s{n}"], "detail": {"n": [{"numeric": [">", n]}]}}


@scenario
async def test_of_hundreds_of_rules_only_those_for_the_source_are_asked(world: World) -> None:
    for n in range(300):
        await world.rules.put_rule(BUS, f"r{n}", pattern=json.dumps(_big(n)))
    catalog = world.buses._catalog
    assert [active.rule.name for active in catalog.candidates(BUS, "s7")] == ["r7"]

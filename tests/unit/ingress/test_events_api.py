"""The EventBridge API through the protocol layer, on the in-memory store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lambdad.domain.errors import ServiceError
from lambdad.ingress.events_api import operations
from lambdad.ingress.messages import Body, Request
from lambdad.ingress.operations import Call
from lambdad.ingress.wire.service import Service
from unit.services.event_worlds import ACCOUNT, BUS, FUNCTION, NOW_MS, OTHER, QUEUE, REGION, World

PATTERN = json.dumps({"source": ["shop"]})
NOW_S = NOW_MS // 1000
FRIEND = "222222222222"


class Api:
    """Calls operations by AWS's names, as JSON in and JSON out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._service = Service.load("events")
        self._handlers = operations(world.buses)

    async def send(self, operation: str, params: Any, account_id: str) -> tuple[int, Any]:
        headers = {"x-amz-target": f"AWSEvents.{operation}"}
        request = Request("POST", "/", headers, Body(lambda: None, lambda held: None), True)
        try:
            route = self._service.match(request)
            parsed = self._service.parse(route, request, json.dumps(params).encode())
            call = Call("events", operation, account_id, REGION, "request")
            response = self._service.render(operation, await self._handlers[operation](call, parsed), "request")
        except ServiceError as error:
            response = self._service.render_error(error, "request", operation)
        assert isinstance(response.body, bytes)
        return response.status, json.loads(response.body or b"null")

    async def __call__(self, operation: str, account_id: str = ACCOUNT, **params: Any) -> Any:
        status, document = await self.send(operation, params, account_id)
        assert status == 200, document
        return document

    async def refused(self, operation: str, account_id: str = ACCOUNT, **params: Any) -> tuple[int, str, str]:
        status, document = await self.send(operation, params, account_id)
        assert status != 200, document
        return status, document["__type"], document["message"]


def scenario(test: Callable[[Api], Awaitable[None]]) -> Callable[[], None]:
    """Run an asynchronous test with an API of its own."""

    def run() -> None:
        async def inside() -> None:
            world = World()
            await world.start()
            try:
                await asyncio.wait_for(test(Api(world)), 30)
            finally:
                await world.stop()

        asyncio.run(inside())

    run.__name__ = test.__name__
    return run


def test_every_operation_is_one_of_the_model_and_named_after_it() -> None:
    names = Service.load("events").operation_names
    for name, handler in operations(World().buses).items():
        assert name in names
        function = getattr(handler, "func", handler)
        assert function.__name__.replace("_", "") == name.lower()


@scenario
async def test_buses(api: Api) -> None:
    created = await api("CreateEventBus", Name="orders", Description="d", Tags=[{"Key": "k", "Value": "v"}])
    assert created == {"EventBusArn": OTHER.arn, "Description": "d"}
    described = await api("DescribeEventBus", Name=OTHER.arn)
    assert described == {
        "Name": "orders",
        "Arn": OTHER.arn,
        "Description": "d",
        "CreationTime": NOW_S,
        "LastModifiedTime": NOW_S,
    }
    assert await api("DescribeEventBus") == {"Name": "default", "Arn": BUS.arn}
    updated = await api("UpdateEventBus", Name="orders", Description="new", DeadLetterConfig={"Arn": QUEUE})
    assert updated == {
        "Arn": OTHER.arn,
        "Name": "orders",
        "Description": "new",
        "DeadLetterConfig": {"Arn": QUEUE},
    }
    listed = await api("ListEventBuses", NamePrefix="or")
    assert listed == {"EventBuses": [{**described, "Description": "new"}]}
    assert await api("ListTagsForResource", ResourceARN=OTHER.arn) == {"Tags": [{"Key": "k", "Value": "v"}]}
    assert not await api("DeleteEventBus", Name="orders")
    assert await api.refused("DescribeEventBus", Name="orders") == (
        400,
        "ResourceNotFoundException",
        "Event bus orders does not exist.",
    )


@scenario
async def test_lists_come_in_pages(api: Api) -> None:
    names = [f"b{n}" for n in range(5)]
    for name in names:
        await api("CreateEventBus", Name=name)
    first = await api("ListEventBuses", NamePrefix="b", Limit=2)
    second = await api("ListEventBuses", NamePrefix="b", Limit=2, NextToken=first["NextToken"])
    third = await api("ListEventBuses", NamePrefix="b", NextToken=second["NextToken"])
    assert [bus["Name"] for each in (first, second, third) for bus in each["EventBuses"]] == names
    assert "NextToken" not in third
    for params in ({"NamePrefix": "x", "NextToken": first["NextToken"]}, {"NextToken": "x"}, {"NextToken": "W10="}):
        assert await api.refused("ListEventBuses", **params) == (
            400,
            "ValidationException",
            "Parameter NextToken is not valid.",
        )


@pytest.mark.parametrize(
    ("operation", "params", "message"),
    [
        ("CreateEventBus", {"Name": "b", "KmsKeyIdentifier": "k"}, "KmsKeyIdentifier is not supported"),
        ("UpdateEventBus", {"LogConfig": {"Level": "INFO"}}, "LogConfig is not supported"),
        ("CreateEventBus", {"Name": "b", "EventSourceName": "aws.partner/a/b"}, "EventSourceName is not supported"),
        (
            "CreateArchive",
            {"ArchiveName": "a", "EventSourceArn": BUS.arn, "KmsKeyIdentifier": "k"},
            "KmsKeyIdentifier is not supported",
        ),
        ("PutEvents", {"Entries": [{}], "EndpointId": "a.b"}, "EndpointId is not supported"),
        ("PutPermission", {"Action": "events:PutEvents"}, "Parameter(s) Principal, StatementId must be specified."),
        (
            "PutPermission",
            {"Action": "events:PutRule", "Principal": "*", "StatementId": "s"},
            "Provided value in parameter 'action' is not supported.",
        ),
        (
            "PutPermission",
            {
                "Action": "events:PutEvents",
                "Principal": "*",
                "StatementId": "s",
                "Condition": {"Type": "StringLike", "Key": "aws:PrincipalOrgID", "Value": "o"},
            },
            "Provided value in parameter 'condition' is not supported.",
        ),
        ("PutPermission", {"Policy": "{}", "StatementId": "s"}, "Policy cannot be combined"),
        ("RemovePermission", {}, "Parameter(s) StatementId or RemoveAllPermissions must be specified."),
        ("TagResource", {"ResourceARN": QUEUE, "Tags": []}, f"Parameter {QUEUE} is not valid."),
        ("PutRule", {"Name": "r", "EventBusName": "a b", "EventPattern": "{}"}, "1 validation error detected"),
        ("CreateArchive", {"ArchiveName": "a", "EventSourceArn": BUS.rule_arn("r")}, "Parameter EventSourceArn is not"),
        ("ListArchives", {"NamePrefix": "a", "State": "ENABLED"}, "At most one filter is allowed for ListArchives."),
        ("ListReplays", {"NamePrefix": "a", "State": "RUNNING"}, "At most one filter is allowed for ListReplays."),
    ],
)
def test_what_is_not_valid(operation: str, params: dict[str, Any], message: str) -> None:
    @scenario
    async def refused(api: Api) -> None:
        status, code, text = await api.refused(operation, **params)
        assert (status, code) == (400, "ValidationException")
        assert text.startswith(message)

    refused()


@scenario
async def test_rules(api: Api) -> None:
    arn = BUS.rule_arn("r")
    put = {"Name": "r", "EventPattern": PATTERN, "Description": "d", "RoleArn": "arn:role"}
    assert await api("PutRule", **put, Tags=[{"Key": "k", "Value": "v"}]) == {"RuleArn": arn}
    shown = {**put, "Arn": arn, "State": "ENABLED", "EventBusName": "default"}
    assert await api("DescribeRule", Name="r") == {**shown, "CreatedBy": ACCOUNT}
    assert await api("ListRules") == {"Rules": [shown]}
    assert not await api("DisableRule", Name="r")
    assert (await api("DescribeRule", Name="r"))["State"] == "DISABLED"
    assert not await api("EnableRule", Name="r", EventBusName=BUS.arn)
    assert await api("ListTagsForResource", ResourceARN=arn) == {"Tags": [{"Key": "k", "Value": "v"}]}
    assert not await api("TagResource", ResourceARN=arn, Tags=[{"Key": "l", "Value": "w"}])
    assert not await api("UntagResource", ResourceARN=arn, TagKeys=["k"])
    assert await api("ListTagsForResource", ResourceARN=arn) == {"Tags": [{"Key": "l", "Value": "w"}]}
    assert not await api("DeleteRule", Name="r")
    unknown = 400, "ResourceNotFoundException", "Rule r does not exist on EventBus default."
    assert await api.refused("DescribeRule", Name="r") == unknown
    assert await api.refused("ListTagsForResource", ResourceARN=arn) == unknown


@scenario
async def test_targets(api: Api) -> None:
    await api("CreateEventBus", Name="orders")
    assert await api("PutRule", Name="r", EventPattern=PATTERN, EventBusName="orders") == {
        "RuleArn": OTHER.rule_arn("r")
    }
    target = {
        "Id": "b",
        "Arn": FUNCTION,
        "InputTransformer": {"InputPathsMap": {"s": "$.source"}, "InputTemplate": '"<s>"'},
        "RetryPolicy": {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 60},
        "DeadLetterConfig": {"Arn": QUEUE},
    }
    rule = {"Rule": "r", "EventBusName": "orders"}
    ecs = {"Id": "ecs", "Arn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/c"}
    assert await api("PutTargets", **rule, Targets=[target, {"Id": "a", "Arn": QUEUE}, ecs]) == {
        "FailedEntryCount": 1,
        "FailedEntries": [
            {
                "TargetId": "ecs",
                "ErrorCode": "ValidationException",
                "ErrorMessage": "Targets of the service ecs are not supported by lambdad.",
            }
        ],
    }
    assert await api("ListTargetsByRule", **rule) == {"Targets": [{"Id": "a", "Arn": QUEUE}, target]}
    names = {"TargetArn": FUNCTION, "EventBusName": "orders"}
    assert await api("ListRuleNamesByTarget", **names) == {"RuleNames": ["r"]}
    assert await api("ListRuleNamesByTarget", TargetArn=FUNCTION) == {"RuleNames": []}
    await api("PutEvents", Entries=[{"Source": "shop", "DetailType": "d", "Detail": "{}", "EventBusName": "orders"}])
    assert [each.service for each in api.world.queue.take()] == ["lambda", "sqs"]
    assert await api("RemoveTargets", **rule, Ids=["a", "x"]) == {
        "FailedEntryCount": 1,
        "FailedEntries": [
            {
                "TargetId": "x",
                "ErrorCode": "ResourceNotFoundException",
                "ErrorMessage": "Rule r does not have a target with the Id x.",
            }
        ],
    }


@scenario
async def test_put_events(api: Api) -> None:
    answer = await api(
        "PutEvents",
        Entries=[{"Source": "shop", "DetailType": "d", "Detail": "{}", "Time": NOW_S}, {"Source": "shop"}],
    )
    (accepted, failed) = answer["Entries"]
    assert answer["FailedEntryCount"] == 1
    assert list(accepted) == ["EventId"]
    assert failed == {
        "ErrorCode": "InvalidArgument",
        "ErrorMessage": "Parameter DetailType is not valid. Reason: DetailType is a required argument.",
    }
    status, code, message = await api.refused("PutEvents", Entries=[{"Source": "s"}] * 11)
    assert (status, code) == (400, "ValidationException")
    assert message.endswith("Member must have length less than or equal to 10")
    too_large = {"Source": "s", "DetailType": "d", "Detail": json.dumps("x" * 1024 * 1024)}
    assert await api.refused("PutEvents", Entries=[too_large]) == (
        400,
        "ValidationException",
        "Total size of the entries in the request is over the limit.",
    )


@scenario
async def test_permissions(api: Api) -> None:
    grant = {"Action": "events:PutEvents", "Principal": FRIEND, "StatementId": "s"}
    entry = {"Source": "shop", "DetailType": "d", "Detail": "{}", "EventBusName": BUS.arn}
    refused = await api("PutEvents", account_id=FRIEND, Entries=[entry])
    assert refused["Entries"][0]["ErrorCode"] == "AccessDeniedException"
    assert not await api("PutPermission", **grant)
    assert (await api("PutEvents", account_id=FRIEND, Entries=[entry]))["FailedEntryCount"] == 0
    policy = (await api("DescribeEventBus"))["Policy"]
    assert json.loads(policy)["Statement"][0]["Sid"] == "s"
    assert not await api("RemovePermission", StatementId="s")
    assert not await api("PutPermission", Policy=policy)
    assert not await api("RemovePermission", RemoveAllPermissions=True)
    assert "Policy" not in await api("DescribeEventBus")
    status, code, _ = await api.refused("DescribeEventBus", account_id=FRIEND, Name=BUS.arn)
    assert (status, code) == (400, "AccessDeniedException")


@scenario
async def test_archives_and_replays(api: Api) -> None:
    arn = f"arn:aws:events:{REGION}:{ACCOUNT}:archive/a"
    assert await api(
        "CreateArchive", ArchiveName="a", EventSourceArn=BUS.arn, EventPattern=PATTERN, RetentionDays=1
    ) == {"ArchiveArn": arn, "State": "ENABLED", "CreationTime": NOW_S}
    await api("PutEvents", Entries=[{"Source": "shop", "DetailType": "d", "Detail": "{}"}] * 2)
    assert (await api("UpdateArchive", ArchiveName="a", Description="d"))["ArchiveArn"] == arn
    described = await api("DescribeArchive", ArchiveName="a")
    assert described.pop("SizeBytes") > 300
    assert described == {
        "ArchiveArn": arn,
        "ArchiveName": "a",
        "EventSourceArn": BUS.arn,
        "Description": "d",
        "EventPattern": PATTERN,
        "State": "ENABLED",
        "RetentionDays": 1,
        "EventCount": 2,
        "CreationTime": NOW_S,
    }
    (listed,) = (await api("ListArchives", EventSourceArn=BUS.arn))["Archives"]
    assert (listed["ArchiveName"], listed["EventCount"]) == ("a", 2)
    assert await api("ListArchives", State="DISABLED") == {"Archives": []}

    replay = f"arn:aws:events:{REGION}:{ACCOUNT}:replay/r"
    destination = {"Arn": BUS.arn, "FilterArns": [BUS.rule_arn("x")]}
    window = {"EventStartTime": NOW_S - 60, "EventEndTime": NOW_S + 60}
    started = await api("StartReplay", ReplayName="r", EventSourceArn=arn, Destination=destination, **window)
    assert started == {"ReplayArn": replay, "State": "STARTING", "ReplayStartTime": NOW_S}
    await api.world.clock.advance(1)
    described = await api("DescribeReplay", ReplayName="r")
    assert NOW_S < described.pop("ReplayEndTime") < NOW_S + 1
    listed_fields = {
        "ReplayName": "r",
        "EventSourceArn": arn,
        "State": "COMPLETED",
        **window,
        "EventLastReplayedTime": NOW_S,
        "ReplayStartTime": NOW_S,
    }
    assert described == {**listed_fields, "ReplayArn": replay, "Destination": destination}
    (listed,) = (await api("ListReplays", State="COMPLETED"))["Replays"]
    assert {**listed, "ReplayEndTime": 0} == {**listed_fields, "ReplayEndTime": 0}
    assert await api.refused("CancelReplay", ReplayName="r") == (
        400,
        "IllegalStatusException",
        "Replay r is not in a valid state for this operation.",
    )
    for wrong in ("arn:aws:events:us-east-1:111122223333:rule/r", f"arn:aws:events:{REGION}:{FRIEND}:archive/a"):
        status, code, message = await api.refused(
            "StartReplay", ReplayName="s", EventSourceArn=wrong, Destination=destination, **window
        )
        assert (status, code) == (400, "ValidationException")
        assert message.startswith("Parameter EventSourceArn is not valid. Reason: ")
    assert not await api("DeleteArchive", ArchiveName="a")
    assert await api.refused("DescribeArchive", ArchiveName="a") == (
        400,
        "ResourceNotFoundException",
        "Archive a does not exist.",
    )

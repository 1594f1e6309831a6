"""EventBridge Scheduler: its whole API with boto3, the documented commands, and schedules that reach their targets."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ParamValidationError
from botocore.loaders import Loader
from botocore.model import ServiceModel

from api_calls import new_account, refusal
from daemons import ROLE, Daemon, create_python
from lambdad.ingress.scheduler_api import operations

ACCOUNT = "000000000000"
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:demo"
OFF = {"Mode": "OFF"}
WAIT_S = 20.0
DEEP = '{"Item": {"a": ' + '{"M": {"a": ' * 400 + '{"S": "b"}' + "}}" * 400 + "}}"

CLI_BLOCK = """
aws scheduler create-schedule --name {name} \
  --schedule-expression 'rate(5 minutes)' \
  --target '{{"RoleArn": "{role}", "Arn": "{arn}", "Input": "{{\\"a\\": 1}}"}}' \
  --flexible-time-window '{{ "Mode": "OFF"}}'
"""


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def at(moment: datetime) -> str:
    return moment.strftime("at(%Y-%m-%dT%H:%M:%S)")


def target(**more: Any) -> dict[str, Any]:
    return {"Arn": FUNCTION, "RoleArn": ROLE, **more}


@pytest.fixture(scope="module")
def scheduler(shared_daemon: Daemon) -> Any:
    return shared_daemon.client("scheduler")


@pytest.fixture
def alone(shared_daemon: Daemon) -> Any:
    """A client of an account that nobody else uses."""
    return shared_daemon.client("scheduler", account_id=new_account())


@pytest.fixture
def create(scheduler: Any, unique: Callable[[str], str]) -> Callable[..., str]:
    """Create a schedule, far from due when nothing else is said; returns its name."""

    def make(**parameters: Any) -> str:
        name = unique("schedule")
        defaults = {
            "Name": name,
            "ScheduleExpression": "rate(365 days)",
            "StartDate": in_seconds(86400),
            "Target": target(),
            "FlexibleTimeWindow": OFF,
        }
        scheduler.create_schedule(**{**defaults, **parameters})
        return name

    return make


def test_what_was_created_is_shown(scheduler: Any, unique: Callable[[str], str]) -> None:
    name, start = unique("schedule"), in_seconds(3600).replace(microsecond=0)
    what: dict[str, Any] = {
        "ScheduleExpression": "cron(0 2 ? * MON-FRI *)",
        "ScheduleExpressionTimezone": "Europe/Berlin",
        "StartDate": start,
        "EndDate": start + timedelta(days=1),
        "Description": "nightly",
        "State": "DISABLED",
        "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15},
        "ActionAfterCompletion": "DELETE",
        "Target": {
            "Arn": f"arn:aws:events:us-east-1:{ACCOUNT}:event-bus/default",
            "RoleArn": ROLE,
            "Input": "{}",
            "EventBridgeParameters": {"DetailType": "type", "Source": "my.source"},
            "RetryPolicy": {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0},
            "DeadLetterConfig": {"Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:dead"},
        },
    }
    arn = f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule/default/{name}"
    assert scheduler.create_schedule(Name=name, **what)["ScheduleArn"] == arn
    found = scheduler.get_schedule(Name=name)
    del found["ResponseMetadata"]
    created, modified = found.pop("CreationDate"), found.pop("LastModificationDate")
    assert found == {"Name": name, "GroupName": "default", "Arn": arn, **what}
    assert created == modified
    assert abs(created - datetime.now(UTC)) < timedelta(minutes=1)


def test_an_update_replaces_everything(scheduler: Any, create: Callable[..., str]) -> None:
    name = create(Description="old", State="DISABLED", ScheduleExpressionTimezone="Asia/Tokyo")
    updated = scheduler.update_schedule(
        Name=name, ScheduleExpression="rate(1 days)", StartDate=in_seconds(60), Target=target(), FlexibleTimeWindow=OFF
    )
    found = scheduler.get_schedule(Name=name)
    assert found["Arn"] == updated["ScheduleArn"]
    assert (found["State"], found["ScheduleExpressionTimezone"]) == ("ENABLED", "UTC")
    assert "Description" not in found
    assert found["ActionAfterCompletion"] == "NONE"
    assert found["Target"]["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}
    assert found["LastModificationDate"] > found["CreationDate"]


def test_a_request_repeated_with_its_token(scheduler: Any, create: Callable[..., str]) -> None:
    start = in_seconds(86400)
    name = create(ClientToken="token", StartDate=start)
    again = {
        "Name": name,
        "ScheduleExpression": "rate(365 days)",
        "StartDate": start,
        "Target": target(),
        "FlexibleTimeWindow": OFF,
    }
    assert scheduler.create_schedule(ClientToken="token", **again)["ScheduleArn"].endswith(name)
    conflict = ("ConflictException", 409, f"Schedule {name} already exists.")
    assert refusal(scheduler.create_schedule, **again) == conflict
    assert refusal(scheduler.create_schedule, ClientToken="token", **{**again, "State": "DISABLED"}) == conflict


def test_what_does_not_exist(scheduler: Any) -> None:
    missing = ("ResourceNotFoundException", 404, "Schedule nobody does not exist.")
    whole = {"ScheduleExpression": "rate(1 day)", "Target": target(), "FlexibleTimeWindow": OFF}
    assert refusal(scheduler.get_schedule, Name="nobody") == missing
    assert refusal(scheduler.delete_schedule, Name="nobody") == missing
    assert refusal(scheduler.update_schedule, Name="nobody", **whole) == missing
    missing = ("ResourceNotFoundException", 404, "Schedule group nobody does not exist.")
    assert refusal(scheduler.create_schedule, Name="a", GroupName="nobody", **whole) == missing
    assert refusal(scheduler.get_schedule_group, Name="nobody") == missing
    assert refusal(scheduler.delete_schedule_group, Name="nobody") == missing
    assert refusal(scheduler.list_schedules, GroupName="nobody") == missing
    arn = f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule-group/nobody"
    assert refusal(scheduler.list_tags_for_resource, ResourceArn=arn) == missing


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ScheduleExpression": "rate(5)"}, "Invalid Schedule Expression rate(5)."),
        ({"ScheduleExpression": "cron(* * * * * *)"}, "Invalid Schedule Expression cron(* * * * * *)."),
        ({"ScheduleExpressionTimezone": "Mars/Olympus"}, "Mars/Olympus"),
        ({"StartDate": datetime(2020, 1, 1, tzinfo=UTC)}, "The StartDate you specify cannot be earlier than 5 minutes"),
        ({"EndDate": datetime(2020, 1, 1, tzinfo=UTC)}, "EndDate"),
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE"}}, "MaximumWindowInMinutes"),
        ({"FlexibleTimeWindow": {"Mode": "OFF", "MaximumWindowInMinutes": 1}}, "MaximumWindowInMinutes"),
        ({"FlexibleTimeWindow": {"Mode": "SOMETIMES"}}, "at 'flexibleTimeWindow.mode' failed to satisfy constraint"),
        ({"KmsKeyArn": f"arn:aws:kms:us-east-1:{ACCOUNT}:key/k"}, "KmsKeyArn"),
        ({"Target": target(Arn="nothing")}, "Provided Arn is not in correct format."),
        ({"Target": target(Arn=f"arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/c")}, "ecs is not a supported service"),
        ({"Target": target(EcsParameters={"TaskDefinitionArn": "a"})}, "EcsParameters"),
        ({"Target": target(Input="{")}, "JSON"),
        ({"Target": target(RoleArn="nobody")}, "at 'target.roleArn' failed to satisfy constraint"),
        ({"Target": target(Arn="arn:aws:scheduler:::aws-sdk:sqs:listQueues")}, "listQueues is not a supported api"),
        (
            {"Target": target(Arn="arn:aws:scheduler:::aws-sdk:dynamodb:putItem", Input=DEEP)},
            "Invalid RequestJson provided. Reason: it is nested too deeply.",
        ),
        ({"Target": target(Arn="arn:aws:scheduler:::aws-sdk:sqs:fly")}, "fly is not a supported api"),
        ({"Target": target(Arn="arn:aws:scheduler:::aws-sdk:sqs:createQueue", Input='{"Name": "q"}')}, "Name"),
    ],
)
def test_what_is_refused(scheduler: Any, create: Callable[..., str], parameters: Any, message: str) -> None:
    refused = refusal(create, **parameters)
    assert (refused.code, refused.status) == ("ValidationException", 400)
    assert message in refused.message


def test_every_operation_of_the_model_is_there() -> None:
    model = ServiceModel(Loader().load_service_model("scheduler", "service-2"), "scheduler")
    service: Any = None
    assert set(operations(service)) == set(model.operation_names)


def test_a_role_is_required(create: Callable[..., str]) -> None:
    with pytest.raises(ParamValidationError):
        create(Target={"Arn": FUNCTION})


def test_groups(alone: Any, shared_daemon: Daemon) -> None:
    (default,) = alone.list_schedule_groups()["ScheduleGroups"]
    assert (default["Name"], default["State"]) == ("default", "ACTIVE")
    arn = alone.create_schedule_group(Name="nightly", Tags=[{"Key": "team", "Value": "a"}])["ScheduleGroupArn"]
    whole = {"ScheduleExpression": "rate(1 day)", "Target": target(), "FlexibleTimeWindow": OFF, "State": "DISABLED"}
    for name in ("b", "a"):
        made = alone.create_schedule(Name=name, GroupName="nightly", **whole)
        assert made["ScheduleArn"].endswith(f":schedule/nightly/{name}")
    found = alone.get_schedule_group(Name="nightly")
    assert (found["Arn"], found["State"]) == (arn, "ACTIVE")
    assert found["CreationDate"] == found["LastModificationDate"]
    assert refusal(alone.create_schedule_group, Name="nightly").code == "ConflictException"
    assert refusal(alone.delete_schedule_group, Name="default").code == "ValidationException"
    assert refusal(alone.get_schedule, Name="a").code == "ResourceNotFoundException"
    alone.delete_schedule(Name="b", GroupName="nightly")
    assert [each["Name"] for each in alone.list_schedules(GroupName="nightly")["Schedules"]] == ["a"]
    alone.delete_schedule_group(Name="nightly")
    assert refusal(alone.get_schedule_group, Name="nightly").code == "ResourceNotFoundException"
    assert alone.list_schedules()["Schedules"] == []


def test_tags_of_groups(alone: Any) -> None:
    arn = alone.create_schedule_group(Name="g", Tags=[{"Key": "a", "Value": "1"}])["ScheduleGroupArn"]
    alone.tag_resource(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "3"}])
    tags = {tag["Key"]: tag["Value"] for tag in alone.list_tags_for_resource(ResourceArn=arn)["Tags"]}
    assert tags == {"a": "3", "b": "2"}
    alone.untag_resource(ResourceArn=arn, TagKeys=["a"])
    assert alone.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
    assert refusal(alone.tag_resource, ResourceArn=arn, Tags=[{"Key": "aws:a", "Value": "1"}]).status == 400
    foreign = f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule-group/default"
    assert refusal(alone.list_tags_for_resource, ResourceArn=foreign).status == 404
    schedule = f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule/default/a"
    assert refusal(alone.list_tags_for_resource, ResourceArn=schedule).code == "ValidationException"


def test_lists_are_paged_and_filtered(alone: Any) -> None:
    for name in ("a1", "a2", "b1"):
        alone.create_schedule_group(Name=name)
        alone.create_schedule(
            Name=name,
            ScheduleExpression="rate(1 day)",
            Target=target(),
            FlexibleTimeWindow=OFF,
            State="DISABLED" if name != "a2" else "ENABLED",
            StartDate=in_seconds(3600),
        )
    pages = list(alone.get_paginator("list_schedules").paginate(PaginationConfig={"PageSize": 2}))
    assert [[each["Name"] for each in page["Schedules"]] for page in pages] == [["a1", "a2"], ["b1"]]
    assert pages[0]["Schedules"][0]["Target"] == {"Arn": FUNCTION}
    assert [each["Name"] for each in alone.list_schedules(NamePrefix="a", State="ENABLED")["Schedules"]] == ["a2"]
    pages = list(alone.get_paginator("list_schedule_groups").paginate(PaginationConfig={"PageSize": 3}))
    assert [[each["Name"] for each in page["ScheduleGroups"]] for page in pages] == [["a1", "a2", "b1"], ["default"]]
    found = alone.list_schedule_groups(NamePrefix="a", MaxResults=1)
    assert [each["Name"] for each in found["ScheduleGroups"]] == ["a1"]
    assert refusal(alone.list_schedules, NextToken="nonsense").code == "ValidationException"
    assert refusal(alone.list_schedules, NextToken=found["NextToken"]).code == "ValidationException"


def test_the_documented_command(shared_daemon: Daemon, scheduler: Any, unique: Callable[[str], str]) -> None:
    name = unique("schedule")
    command = CLI_BLOCK.format(name=name, role=ROLE, arn=FUNCTION.replace("demo", unique("missing")))
    done = subprocess.run(["sh", "-c", command], env=shared_daemon.cli_environ(), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ScheduleArn"].endswith(name)
    assert scheduler.get_schedule(Name=name)["Target"]["Input"] == '{"a": 1}'
    scheduler.delete_schedule(Name=name)


# What fires


SHOW = """
import json, time

def handler(event, context):
    knock(DOOR, json.dumps({"event": event, "at": time.time()}))
"""


@pytest.fixture
def shown(aws_lambda: Any, unique: Callable[[str], str], knock: str, door: Any) -> Callable[[], dict[str, Any]]:
    """What the function `shown.arn` is invoked with, once it is."""
    name = unique()
    create_python(aws_lambda, name, f"{knock}\nDOOR = {door.address!r}\n{SHOW}")

    def await_shown() -> dict[str, Any]:
        visitor = door.await_knock()
        visitor.let_in()
        said: dict[str, Any] = json.loads(visitor.said)
        return said

    await_shown.arn = FUNCTION.replace("demo", name)  # type: ignore[attr-defined]
    return await_shown


def test_a_function_is_invoked_at_the_right_second(scheduler: Any, create: Callable[..., str], shown: Any) -> None:
    due = in_seconds(3).replace(microsecond=0)
    text = json.dumps({"arn": "<aws.scheduler.schedule-arn>", "time": "<aws.scheduler.scheduled-time>"})
    name = create(ScheduleExpression=at(due), Target=target(Arn=shown.arn, Input=text), ActionAfterCompletion="DELETE")
    assert scheduler.get_schedule(Name=name)["State"] == "ENABLED"
    said = shown()
    assert said["event"] == {
        "arn": f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule/default/{name}",
        "time": due.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    assert 0 <= said["at"] - due.timestamp() < 5
    deadline = time.monotonic() + WAIT_S
    while scheduler.list_schedules(NamePrefix=name)["Schedules"]:
        assert time.monotonic() < deadline, "the schedule was not deleted after its completion"
        time.sleep(0.02)


def test_a_rate_begins_at_once_and_sends_the_default_notification(create: Callable[..., str], shown: Any) -> None:
    name = create(ScheduleExpression="rate(1 days)", StartDate=in_seconds(1), Target=target(Arn=shown.arn))
    event = shown()["event"]
    assert (event["source"], event["detail-type"], event["detail"]) == ("aws.scheduler", "Scheduled Event", "{}")
    assert event["resources"] == [f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule/default/{name}"]


def test_templated_and_universal_targets_are_called(shared_daemon: Daemon, create: Callable[..., str]) -> None:
    sqs, dynamodb = shared_daemon.client("sqs"), shared_daemon.client("dynamodb")
    name = create(State="DISABLED")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    soon = at(in_seconds(3))
    create(ScheduleExpression=soon, Target=target(Arn=queue, Input="templated"))
    universal = json.dumps({"QueueUrl": url, "MessageBody": "universal"})
    create(ScheduleExpression=soon, Target=target(Arn="arn:aws:scheduler:::aws-sdk:sqs:sendMessage", Input=universal))
    item = json.dumps({"TableName": name, "Item": {"id": {"S": "<aws.scheduler.execution-id>"}}})
    create(ScheduleExpression=soon, Target=target(Arn="arn:aws:scheduler:::aws-sdk:dynamodb:putItem", Input=item))
    missing = f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/{name}"
    create(
        ScheduleExpression=soon,
        Target=target(
            Arn=missing, Input="dead", KinesisParameters={"PartitionKey": "k"}, DeadLetterConfig={"Arn": queue}
        ),
    )
    messages: dict[str, Any] = {}
    deadline = time.monotonic() + WAIT_S
    while len(messages) < 3 and time.monotonic() < deadline:
        answer = sqs.receive_message(
            QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        messages |= {message["Body"]: message for message in answer.get("Messages", ())}
    assert set(messages) == {"templated", "universal", "dead"}
    attributes = {key: value["StringValue"] for key, value in messages["dead"]["MessageAttributes"].items()}
    assert attributes["TARGET_ARN"] == missing
    assert {"SCHEDULE_ARN", "SCHEDULED_TIME", "EXECUTION_ID", "ERROR_CODE", "ERROR_MESSAGE"} <= set(attributes)
    items: list[Any] = []
    while not items and time.monotonic() < deadline:
        items = dynamodb.scan(TableName=name)["Items"]
        time.sleep(0.05)
    assert len(items[0]["id"]["S"]) == 16

"""EventBridge through boto3 and the AWS CLI against the real daemon: from PutEvents to what functions and queues get.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api_calls import refusal
from daemons import Daemon, create_python
from queued_events import await_lines, awaited

ACCOUNT, REGION = "000000000000", "us-east-1"
PRINTS = """
import json

def handler(event, context):
    print("got " + json.dumps(event))
"""
SOON_S = 30.0


class Bus:
    """A bus of its own in a daemon, and functions that print what they get."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self.name = name
        self.arn = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{name}"
        self.connect(daemon)
        self.events.create_event_bus(Name=name)

    def connect(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.events, self.functions, self.logs = (daemon.client(name) for name in ("events", "lambda", "logs"))
        self.queues = daemon.client("sqs")

    def function(self, name: str, rule_arn: str) -> str:
        """A function that the rule may invoke; returns its ARN."""
        arn: str = create_python(self.functions, name, PRINTS)["FunctionArn"]
        self.functions.add_permission(
            FunctionName=name,
            StatementId="events",
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
            SourceArn=rule_arn,
        )
        return arn

    def rule(self, name: str, pattern: Any) -> str:
        arn: str = self.events.put_rule(Name=name, EventBusName=self.name, EventPattern=json.dumps(pattern))["RuleArn"]
        return arn

    def targets(self, rule: str, *targets: dict[str, Any]) -> None:
        given = [{"Id": str(n), **target} for n, target in enumerate(targets)]
        assert self.events.put_targets(Rule=rule, EventBusName=self.name, Targets=given)["FailedEntryCount"] == 0

    def put(self, *details: Any, source: str = "shop", **fields: Any) -> list[str]:
        """Puts events; returns their ids."""
        entry = {"Source": source, "DetailType": "Order", "EventBusName": self.name, **fields}
        answer = self.events.put_events(Entries=[{**entry, "Detail": json.dumps(detail)} for detail in details])
        assert answer["FailedEntryCount"] == 0
        return [each["EventId"] for each in answer["Entries"]]

    def got(self, function: str, count: int) -> list[Any]:
        """What a function has got; there are so many."""
        lines = await_lines(self.daemon, function, "got ", count, SOON_S)
        return [json.loads(line.removeprefix("got ")) for line in lines]

    def queue(self, name: str) -> tuple[str, str]:
        """The URL and the ARN of a new queue."""
        url = self.queues.create_queue(QueueName=name)["QueueUrl"]
        return url, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

    def message(self, url: str) -> dict[str, Any]:
        """The next message of a queue."""
        found: list[dict[str, Any]] = []

        def received() -> bool:
            found.extend(self.queues.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages", []))
            return bool(found)

        awaited(received, SOON_S)
        self.queues.delete_message(QueueUrl=url, ReceiptHandle=found[0]["ReceiptHandle"])
        return found[0]


@pytest.fixture
def bus(shared_daemon: Daemon, unique: Callable[[str], str]) -> Bus:
    return Bus(shared_daemon, unique("bus"))


def test_an_event_reaches_the_function_of_a_rule(bus: Bus, unique: Callable[[str], str]) -> None:
    name = unique("fn")
    function = bus.function(name, bus.rule("r", {"source": ["shop"], "detail": {"total": [{"numeric": [">", 10]}]}}))
    transformer = {
        "InputPathsMap": {"order": "$.detail.order"},
        "InputTemplate": '{"text": "order <order> by <aws.events.rule-name>"}',
    }
    bus.targets("r", {"Arn": function}, {"Arn": function, "InputTransformer": transformer})
    (event_id, _) = bus.put({"order": "o-1", "total": 11}, {"order": "o-2", "total": 9})
    bus.put({"order": "o-3", "total": 11}, source="other")
    found = bus.got(name, 2)
    whole = next(each for each in found if "id" in each)
    assert datetime.fromisoformat(whole.pop("time")) <= datetime.now(UTC)
    assert whole == {
        "version": "0",
        "id": event_id,
        "detail-type": "Order",
        "source": "shop",
        "account": ACCOUNT,
        "region": REGION,
        "resources": [],
        "detail": {"order": "o-1", "total": 11},
    }
    assert [each for each in found if "id" not in each] == [{"text": "order o-1 by r"}]


def test_an_event_reaches_a_queue_a_log_group_and_another_bus(
    bus: Bus, shared_daemon: Daemon, unique: Callable[[str], str]
) -> None:
    other, group = Bus(shared_daemon, unique("bus")), f"/aws/events/{unique('group')}"
    bus.logs.create_log_group(logGroupName=group)
    url, arn = bus.queue(unique("queue"))
    other_url, other_arn = bus.queue(unique("queue"))
    bus.rule("r", {"source": ["shop"]})
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"
    bus.targets("r", {"Arn": arn, "InputPath": "$.detail"}, {"Arn": logs}, {"Arn": other.arn})
    other.rule("there", {"source": ["shop"]})
    other.targets("there", {"Arn": other_arn})
    (event_id,) = bus.put({"n": 1})
    assert json.loads(bus.message(url)["Body"]) == {"n": 1}
    assert json.loads(bus.message(other_url)["Body"])["id"] == event_id
    awaited(lambda: len(bus.logs.filter_log_events(logGroupName=group)["events"]) == 1, SOON_S)
    (logged,) = bus.logs.filter_log_events(logGroupName=group)["events"]
    assert json.loads(logged["message"])["id"] == event_id


def test_what_a_function_may_not_have_goes_to_the_dead_letter_queue(bus: Bus, unique: Callable[[str], str]) -> None:
    url, arn = bus.queue(unique("dead"))
    function = create_python(bus.functions, unique("fn"), PRINTS)["FunctionArn"]
    rule = bus.rule("r", {"source": ["shop"]})
    bus.targets("r", {"Arn": function, "DeadLetterConfig": {"Arn": arn}})
    (event_id,) = bus.put({"n": 1})
    message = bus.message(url)
    assert json.loads(message["Body"])["id"] == event_id
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert (attributes["RULE_ARN"], attributes["TARGET_ARN"]) == (rule, function)
    assert attributes["ERROR_CODE"] == "NO_PERMISSIONS"


def test_a_replay_repeats_what_an_archive_has(bus: Bus, unique: Callable[[str], str]) -> None:
    archive, replay = unique("archive"), unique("replay")
    created = bus.events.create_archive(
        ArchiveName=archive, EventSourceArn=bus.arn, EventPattern=json.dumps({"detail": {"n": [1]}})
    )
    bus.put({"n": 1}, {"n": 2})
    described = bus.events.describe_archive(ArchiveName=archive)
    assert (described["EventCount"], described["State"]) == (1, "ENABLED")
    assert described["SizeBytes"] > 100
    url, arn = bus.queue(unique("queue"))
    bus.rule("r", {"source": ["shop"]})
    bus.targets("r", {"Arn": arn})
    now = datetime.now(UTC)
    bus.events.start_replay(
        ReplayName=replay,
        EventSourceArn=created["ArchiveArn"],
        EventStartTime=now - timedelta(minutes=5),
        EventEndTime=now + timedelta(minutes=5),
        Destination={"Arn": bus.arn},
    )
    event = json.loads(bus.message(url)["Body"])
    assert (event["detail"], event["replay-name"]) == ({"n": 1}, replay)
    awaited(lambda: bus.events.describe_replay(ReplayName=replay)["State"] == "COMPLETED", SOON_S)
    assert bus.events.describe_archive(ArchiveName=archive)["EventCount"] == 1
    error = refusal(bus.events.cancel_replay, ReplayName=replay)
    assert error == ("IllegalStatusException", 400, f"Replay {replay} is not in a valid state for this operation.")


def test_a_bus_of_another_account_needs_a_permission(bus: Bus, shared_daemon: Daemon) -> None:
    friend = shared_daemon.client("events", account_id="222222222222")
    entry = {"Source": "shop", "DetailType": "d", "Detail": "{}", "EventBusName": bus.arn}
    (refused,) = friend.put_events(Entries=[entry])["Entries"]
    assert refused["ErrorCode"] == "AccessDeniedException"
    bus.events.put_permission(
        EventBusName=bus.name, Action="events:PutEvents", Principal="222222222222", StatementId="friend"
    )
    assert friend.put_events(Entries=[entry])["FailedEntryCount"] == 0


def test_everything_survives_a_crash(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        bus = Bus(daemon, "orders")
        function = bus.function("f", bus.rule("r", {"source": ["shop"]}))
        bus.targets("r", {"Arn": function})
        archive = bus.events.create_archive(ArchiveName="a", EventSourceArn=bus.arn)["ArchiveArn"]
        ids = bus.put({"n": 1}, {"n": 2})
        daemon.kill()
        daemon.start()
        bus.connect(daemon)
        assert {event["id"] for event in bus.got("f", 2)} == set(ids)
        assert bus.events.describe_archive(ArchiveName="a")["EventCount"] == 2
        assert bus.events.list_archives()["Archives"][0]["EventSourceArn"] == bus.arn
        assert archive.endswith("archive/a")
        (target,) = bus.events.list_targets_by_rule(Rule="r", EventBusName="orders")["Targets"]
        assert target["Arn"] == function
        more = bus.put({"n": 3})
        assert {event["id"] for event in bus.got("f", 3)} == {*ids, *more}


# The block of the seeds, as it is written there but for the number of the account.
SCHEDULE = """
aws events put-rule --name nightly-job --schedule-expression "rate(1 day)"
aws lambda add-permission \\
  --function-name hello-lambda \\
  --statement-id ev-perm \\
  --action lambda:InvokeFunction \\
  --principal events.amazonaws.com \\
  --source-arn arn:aws:events:us-east-1:000000000000:rule/nightly-job
aws events put-targets \\
  --rule nightly-job \\
  --targets "Id"="1","Arn"="$(aws lambda get-function --function-name hello-lambda --query 'Configuration.FunctionArn' --output text)"
"""  # noqa: E501 (a command that is one line in the seeds)


def test_the_commands_of_the_seeds_for_a_schedule(daemon: Daemon) -> None:
    function = create_python(daemon.client("lambda"), "hello-lambda", PRINTS)["FunctionArn"]
    done = subprocess.run(
        ["bash", "-euc", SCHEDULE],
        env=daemon.cli_environ(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    events = daemon.client("events")
    rule = events.describe_rule(Name="nightly-job")
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 day)", "ENABLED")
    assert events.list_targets_by_rule(Rule="nightly-job")["Targets"] == [{"Id": "1", "Arn": function}]
    assert events.list_rule_names_by_target(TargetArn=function)["RuleNames"] == ["nightly-job"]


def test_the_schedule_of_another_bus_is_refused(bus: Bus) -> None:
    error = refusal(bus.events.put_rule, Name="r", EventBusName=bus.name, ScheduleExpression="rate(1 minute)")
    assert error == ("ValidationException", 400, "ScheduleExpression is supported only on the default event bus.")
    error = refusal(bus.events.describe_rule, Name="r")
    assert error == ("ResourceNotFoundException", 400, "Rule r does not exist on EventBus default.")


def test_an_event_reaches_a_topic_a_state_machine_and_streams(
    bus: Bus, shared_daemon: Daemon, unique: Callable[[str], str]
) -> None:
    name, role = unique("target"), f"arn:aws:iam::{ACCOUNT}:role/r"
    sns, machines = (shared_daemon.client(service) for service in ("sns", "stepfunctions"))
    streams, firehose, s3 = (shared_daemon.client(service) for service in ("kinesis", "firehose", "s3"))
    url, queue = bus.queue(name)
    topic = sns.create_topic(Name=name)["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    definition = {"StartAt": "P", "States": {"P": {"Type": "Pass", "End": True}}}
    machine = machines.create_state_machine(name=name, definition=json.dumps(definition), roleArn=role)
    streams.create_stream(StreamName=name, ShardCount=1)
    stream = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"
    s3.create_bucket(Bucket=name)
    delivery = firehose.create_delivery_stream(
        DeliveryStreamName=name,
        ExtendedS3DestinationConfiguration={"RoleARN": role, "BucketARN": f"arn:aws:s3:::{name}"},
    )
    bus.rule("r", {"source": ["shop"]})
    bus.targets(
        "r",
        {"Arn": topic},
        {"Arn": delivery["DeliveryStreamARN"], "RoleArn": role},
        {"Arn": machine["stateMachineArn"], "RoleArn": role, "InputPath": "$.detail"},
        {"Arn": stream, "RoleArn": role, "KinesisParameters": {"PartitionKeyPath": "$.detail.order"}},
    )
    (event_id,) = bus.put({"order": "o-1"})
    assert json.loads(bus.message(url)["Body"])["id"] == event_id

    def executions() -> list[Any]:
        return list(machines.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"])

    (execution,) = awaited(executions, SOON_S)
    assert execution["name"].startswith(event_id)
    described = machines.describe_execution(executionArn=execution["executionArn"])
    assert json.loads(described["input"]) == {"order": "o-1"}
    shard = streams.describe_stream(StreamName=name)["StreamDescription"]["Shards"][0]["ShardId"]
    iterator = streams.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    (record,) = awaited(lambda: streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"], SOON_S)
    assert (record["PartitionKey"], json.loads(record["Data"])["id"]) == ("o-1", event_id)
    (delivered,) = awaited(lambda: s3.list_objects_v2(Bucket=name).get("Contents", []), SOON_S)
    assert event_id.encode() in s3.get_object(Bucket=name, Key=delivered["Key"])["Body"].read()

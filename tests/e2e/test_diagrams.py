"""Architectures of the seeds, "Architectures & Diagrams": C, the scheduled task, and D, the worker with a DLQ.

A, the thumbnail pipeline, is `test_thumbnails.py`.
"""

from __future__ import annotations

import json

from daemons import Daemon, create_python
from neighbours import Queue
from queued_events import await_lines, sums

STOPS_INSTANCES = """
import boto3

ec2 = boto3.client("ec2")


def handler(event, context):
    filters = [
        {"Name": "tag:Schedule", "Values": ["office-hours"]},
        {"Name": "instance-state-name", "Values": ["running"]},
    ]
    reservations = ec2.describe_instances(Filters=filters)["Reservations"]
    found = [instance["InstanceId"] for each in reservations for instance in each["Instances"]]
    if found:
        ec2.stop_instances(InstanceIds=found)
    print("Stopped: " + ",".join(sorted(found)))
    print("Event: " + event["source"] + " " + event["detail-type"] + " " + event["resources"][0])
"""
PROCESSES = """
import json


def handler(event, context):
    (record,) = event["Records"]
    order = json.loads(record["body"])["order"]
    print("Processing order " + str(order))
    if order < 0:
        raise ValueError("there is no such order")
"""
RULE_ARN = "arn:aws:events:us-east-1:000000000000:rule/every-minute"
FIRED_WITHIN_S = 75.0
"""A cron expression that is true each minute is so within one."""
ATTEMPTS = 3


def test_c_a_scheduled_ops_task(daemon: Daemon) -> None:
    """EventBridge (cron) -> Lambda -> the API of EC2."""
    ec2, events, aws_lambda = daemon.client("ec2"), daemon.client("events"), daemon.client("lambda")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    ids = []
    for schedule in ("office-hours", "always"):
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Schedule", "Value": schedule}]}]
        made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags)
        ids.append(made["Instances"][0]["InstanceId"])

    created = create_python(aws_lambda, "stops-instances", STOPS_INSTANCES, Timeout=60)
    aws_lambda.add_permission(
        FunctionName="stops-instances",
        StatementId="rule",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=RULE_ARN,
    )
    events.put_rule(Name="every-minute", ScheduleExpression="cron(* * * * ? *)")
    events.put_targets(Rule="every-minute", Targets=[{"Id": "1", "Arn": created["FunctionArn"]}])

    lines = await_lines(daemon, "stops-instances", "Stopped: ", 1, seconds=FIRED_WITHIN_S)
    assert lines == [f"Stopped: {ids[0]}"]
    event = await_lines(daemon, "stops-instances", "Event: ", 1)
    assert event == [f"Event: aws.events Scheduled Event {RULE_ARN}"]
    reservations = ec2.describe_instances(InstanceIds=ids)["Reservations"]
    states = {each["InstanceId"]: each["State"]["Name"] for found in reservations for each in found["Instances"]}
    assert states[ids[0]] in ("stopping", "stopped")
    assert states[ids[1]] == "running"


def test_d_a_worker_that_polls_a_queue_with_a_dead_letter_queue(daemon: Daemon) -> None:
    """Producer -> SQS -> Lambda (process) -> on failure an SQS queue of dead letters; metrics and logs."""
    aws_lambda, sqs = daemon.client("lambda"), daemon.client("sqs")
    dead_letters, orders = Queue(sqs, "dead-letters"), Queue(sqs, "orders")
    redrive = json.dumps({"deadLetterTargetArn": dead_letters.arn, "maxReceiveCount": str(ATTEMPTS)})
    attributes = {"RedrivePolicy": redrive, "VisibilityTimeout": "1"}
    sqs.set_queue_attributes(QueueUrl=orders.url, Attributes=attributes)
    create_python(aws_lambda, "worker", PROCESSES, Timeout=1)
    aws_lambda.create_event_source_mapping(FunctionName="worker", EventSourceArn=orders.arn, BatchSize=1)

    sqs.send_message(QueueUrl=orders.url, MessageBody=json.dumps({"order": 1}))
    failed = sqs.send_message(QueueUrl=orders.url, MessageBody=json.dumps({"order": -1}))["MessageId"]

    (letter,) = dead_letters.await_messages(1)
    assert (json.loads(letter["Body"]), letter["MessageId"]) == ({"order": -1}, failed)
    lines = await_lines(daemon, "worker", "Processing order ", 1 + ATTEMPTS)
    assert sorted(lines) == ["Processing order -1"] * ATTEMPTS + ["Processing order 1"]
    metrics = sums(daemon, "worker")
    assert (metrics["Invocations"], metrics["Errors"]) == (1 + ATTEMPTS, ATTEMPTS)
    assert orders.take() == []

"""Functions whose own uploads and messages start them again are stopped after sixteen rounds, as on AWS.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html names SQS, S3 and SNS. boto3 inside a function
sends the trace of the invocation along, and what S3 and SNS emit goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from daemons import Daemon, create_python
from faults.events import await_idle
from queued_events import HASTY, await_dead, await_lines, awaited, sums, waiting

ROUNDS = 16
STOPPED = "recursive loop"
COPIES = """
import boto3

s3 = boto3.client("s3")

def handler(event, context):
    (record,) = event["Records"]
    bucket, key = record["s3"]["bucket"]["name"], record["s3"]["object"]["key"]
    number = int(key) + 1
    print("round", number)
    if number < 40:
        s3.put_object(Bucket=bucket, Key=str(number), Body=b"again")
"""
PUBLISHES = """
import boto3

sns = boto3.client("sns")

def handler(event, context):
    (record,) = event["Records"]
    number = int(record["Sns"]["Message"]) + 1
    print("round", number)
    if number < 40:
        sns.publish(TopicArn=record["Sns"]["TopicArn"], Message=str(number))
"""

SENDS = """
import os
import boto3

sqs = boto3.client("sqs")

def handler(event, context):
    (record,) = event["Records"]
    number = int(record["body"]) + 1
    print("round", number)
    if number < 40:
        sqs.send_message_batch(
            QueueUrl=os.environ["QUEUE_URL"], Entries=[{"Id": "1", "MessageBody": str(number)}]
        )
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("loops") / "data", HASTY) as own:
        yield own


def create(daemon: Daemon, name: str, source: str, principal: str) -> str:
    """Returns the ARN of a function that a service may invoke."""
    functions = daemon.client("lambda")
    arn = str(create_python(functions, name, source, Timeout=60, MemorySize=256)["FunctionArn"])
    functions.add_permission(
        FunctionName=name,
        StatementId="loop",
        Action="lambda:InvokeFunction",
        Principal=f"{principal}.amazonaws.com",
    )
    return arn


def assert_stopped(daemon: Daemon, name: str) -> None:
    (event,) = await_dead(daemon, name)
    assert (event["condition"], event["invocations"]) == ("RecursiveInvocation", 0)
    assert STOPPED in event["error_message"]
    assert await_lines(daemon, name, "round", ROUNDS) == [f"round {number}" for number in range(1, ROUNDS + 1)]
    assert awaited(lambda: not waiting(daemon, name))


def test_a_function_that_writes_to_the_bucket_that_starts_it(daemon: Daemon) -> None:
    name = "loop-bucket"
    arn = create(daemon, name, COPIES, "s3")
    s3: Any = daemon.client("s3")
    s3.create_bucket(Bucket="loop")
    s3.put_bucket_notification_configuration(
        Bucket="loop",
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [{"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    s3.put_object(Bucket="loop", Key="0", Body=b"first")
    assert_stopped(daemon, name)
    assert len(s3.list_objects_v2(Bucket="loop")["Contents"]) == ROUNDS + 1


def test_a_function_that_publishes_to_the_topic_that_starts_it(daemon: Daemon) -> None:
    name = "loop-topic"
    arn = create(daemon, name, PUBLISHES, "sns")
    sns: Any = daemon.client("sns")
    topic = sns.create_topic(Name="loop")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    sns.publish(TopicArn=topic, Message="0")
    assert_stopped(daemon, name)


def test_a_function_that_writes_to_a_bucket_whose_topic_starts_it(daemon: Daemon) -> None:
    """The trace goes on over S3, and then SNS."""
    source = COPIES.replace(
        '(record,) = event["Records"]',
        '(record,) = json.loads(event["Records"][0]["Sns"]["Message"])["Records"]',
    )
    name = "loop-round-about"
    arn = create(daemon, name, f"import json\n{source}", "sns")
    s3, sns = daemon.client("s3"), daemon.client("sns")
    s3.create_bucket(Bucket="round-about")
    topic = sns.create_topic(Name="round-about")["TopicArn"]
    s3.put_bucket_notification_configuration(
        Bucket="round-about",
        NotificationConfiguration={"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]},
    )
    await_idle(daemon)  # or the function would hear of the event that S3 tries a topic with
    sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=arn)
    s3.put_object(Bucket="round-about", Key="0", Body=b"first")
    assert_stopped(daemon, name)


def test_a_function_that_sends_to_the_queue_that_it_reads(daemon: Daemon) -> None:
    name, functions, sqs = "loop-queue", daemon.client("lambda"), daemon.client("sqs")
    url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    create_python(functions, name, SENDS, MemorySize=256, Timeout=60, Environment={"Variables": {"QUEUE_URL": url}})
    source = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    mapping_id = functions.create_event_source_mapping(FunctionName=name, EventSourceArn=source)["UUID"]
    sqs.send_message(QueueUrl=url, MessageBody="0")
    awaited(lambda: sums(daemon, name).get("RecursiveInvocationsDropped"))
    assert await_lines(daemon, name, "round", ROUNDS) == [f"round {number}" for number in range(1, ROUNDS + 1)]
    functions.delete_event_source_mapping(UUID=mapping_id)

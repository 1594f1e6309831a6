"""Neighbours elsewhere: SQS of ElasticMQ and DynamoDB of DynamoDB Local, behind the daemon's one endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from daemons import Daemon, create_python
from external_servers import DynamoDbLocal, ElasticMq, require_servers
from queued_events import HASTY, awaited, send

QUEUE_ARN = "arn:aws:sqs:us-east-1:000000000000:{}"
USES_BOTH = """
import boto3

sqs = boto3.client("sqs")
table = boto3.resource("dynamodb").Table("orders")


def handler(event, context):
    url = sqs.get_queue_url(QueueName="from-a-function")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=f"order {event['id']}")
    table.put_item(Item={"id": event["id"], "price": 12})
    return table.get_item(Key={"id": "of the client"})["Item"]["note"]
"""
FAILS = """
def handler(event, context):
    raise ValueError("no luck")
"""
WORKS = """
def handler(event, context):
    return {"got": event}
"""


class Place(NamedTuple):
    """The servers, and the daemon that leads to them."""

    sqs: Any
    dynamodb: Any
    daemon: Daemon


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    require_servers()
    directory = tmp_path_factory.mktemp("servers")
    with ElasticMq(directory) as sqs, DynamoDbLocal(directory) as dynamodb:
        options = ("--neighbour", f"sqs={sqs.url}", "--neighbour", f"dynamodb={dynamodb.url}", *HASTY)
        with Daemon(directory / "data", options) as daemon:
            yield Place(sqs.client(), dynamodb.client(), daemon)


def new_queue(sqs: Any, name: str) -> str:
    return str(sqs.create_queue(QueueName=name)["QueueUrl"])


def take(sqs: Any, url: str) -> list[dict[str, Any]]:
    """Wait for messages, and take those that are there."""

    def receive() -> list[dict[str, Any]]:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        return list(answer.get("Messages", []))

    messages = awaited(receive)
    for message in messages:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return messages


def test_a_client_uses_sqs_at_the_daemons_endpoint(place: Place) -> None:
    through = place.daemon.client("sqs")
    new_queue(through, "of-a-client")
    own_url = place.sqs.get_queue_url(QueueName="of-a-client")["QueueUrl"]
    through_url = through.get_queue_url(QueueName="of-a-client")["QueueUrl"]
    through.send_message(
        QueueUrl=through_url,
        MessageBody="h\u00e9llo",
        MessageAttributes={"kind": {"DataType": "String", "StringValue": "greeting"}},
    )
    (message,) = take(place.sqs, own_url)
    assert message["Body"] == "h\u00e9llo"
    assert message["MessageAttributes"]["kind"]["StringValue"] == "greeting"
    with pytest.raises(through.exceptions.QueueDoesNotExist):
        through.get_queue_url(QueueName="nobody-made-it")


def test_a_client_and_a_function_use_both(place: Place) -> None:
    through = place.daemon.client("dynamodb")
    through.create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    assert place.dynamodb.list_tables()["TableNames"] == ["orders"]
    through.put_item(TableName="orders", Item={"id": {"S": "of the client"}, "note": {"S": "by way of the daemon"}})
    url = new_queue(place.sqs, "from-a-function")

    aws_lambda = place.daemon.client("lambda")
    create_python(aws_lambda, "uses-both", USES_BOTH, Timeout=30)
    answer = aws_lambda.invoke(FunctionName="uses-both", Payload=json.dumps({"id": "7"}))
    payload = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, payload
    assert payload == "by way of the daemon"
    assert [message["Body"] for message in take(place.sqs, url)] == ["order 7"]
    item = place.dynamodb.get_item(TableName="orders", Key={"id": {"S": "7"}})["Item"]
    assert item == {"id": {"S": "7"}, "price": {"N": "12"}}


def test_a_dead_letter_queue_gets_what_has_failed(place: Place) -> None:
    url = new_queue(place.sqs, "dead-letters")
    aws_lambda = place.daemon.client("lambda")
    create_python(aws_lambda, "fails", FAILS, DeadLetterConfig={"TargetArn": QUEUE_ARN.format("dead-letters")})
    request_id = send(aws_lambda, "fails", {"order": 1})
    (letter,) = take(place.sqs, url)
    assert json.loads(letter["Body"]) == {"order": 1}
    attributes = {name: value["StringValue"] for name, value in letter["MessageAttributes"].items()}
    assert attributes["RequestID"] == request_id
    assert (attributes["ErrorCode"], attributes["ErrorMessage"]) == ("200", "no luck")


def test_a_destination_gets_what_has_succeeded(place: Place) -> None:
    url = new_queue(place.sqs, "successes")
    aws_lambda = place.daemon.client("lambda")
    create_python(aws_lambda, "works", WORKS)
    aws_lambda.put_function_event_invoke_config(
        FunctionName="works", DestinationConfig={"OnSuccess": {"Destination": QUEUE_ARN.format("successes")}}
    )
    request_id = send(aws_lambda, "works", {"order": 2})
    (message,) = take(place.sqs, url)
    record = json.loads(message["Body"])
    assert record["requestContext"]["requestId"] == request_id
    assert record["requestContext"]["condition"] == "Success"
    assert record["responsePayload"] == {"got": {"order": 2}}

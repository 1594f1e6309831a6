"""Functions that read a queue of ElasticMQ and a table's stream of DynamoDB Local."""

from __future__ import annotations

import json
from pathlib import Path

from daemons import Daemon, create_python
from documented_events import PRINTS
from external_servers import DynamoDbLocal, ElasticMq, require_servers
from queued_events import await_lines, awaited

QUEUE_ARN = "arn:aws:sqs:us-east-1:000000000000:orders"


def test_a_queue_and_a_stream_of_other_servers(tmp_path: Path) -> None:
    require_servers()
    with ElasticMq(tmp_path) as sqs, DynamoDbLocal(tmp_path) as dynamodb:
        services = {"sqs": sqs.url, "dynamodb": dynamodb.url, "dynamodbstreams": dynamodb.url}
        options = [part for name, url in services.items() for part in ("--neighbour", f"{name}={url}")]
        with Daemon(tmp_path / "data", tuple(options)) as daemon:
            functions, tables = daemon.client("lambda"), daemon.client("dynamodb")
            url = sqs.client().create_queue(QueueName="orders")["QueueUrl"]
            table = tables.create_table(
                TableName="orders",
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
                StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
            )["TableDescription"]
            # DynamoDB Local says that it is in the region "ddblocal", which is none; it does not insist.
            stream_arn = table["LatestStreamArn"].replace(":ddblocal:", ":us-east-1:")
            for name, arn, settings in (
                ("reads-queue", QUEUE_ARN, {}),
                ("reads-table", stream_arn, {"StartingPosition": "TRIM_HORIZON"}),
            ):
                create_python(functions, name, PRINTS)
                functions.create_event_source_mapping(FunctionName=name, EventSourceArn=arn, **settings)

            sqs.client().send_message(QueueUrl=url, MessageBody="order 1")
            tables.put_item(TableName="orders", Item={"id": {"S": "1"}})

            (line,) = await_lines(daemon, "reads-queue", "Event: ", 1)
            (record,) = json.loads(line.removeprefix("Event: "))["Records"]
            assert (record["body"], record["eventSourceARN"]) == ("order 1", QUEUE_ARN)
            (line,) = await_lines(daemon, "reads-table", "Event: ", 1)
            (record,) = json.loads(line.removeprefix("Event: "))["Records"]
            assert (record["eventName"], record["dynamodb"]["NewImage"]) == ("INSERT", {"id": {"S": "1"}})
            told = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

            def is_empty() -> bool:
                counts = sqs.client().get_queue_attributes(QueueUrl=url, AttributeNames=told)["Attributes"]
                return all(counts[name] == "0" for name in told)

            assert awaited(is_empty)

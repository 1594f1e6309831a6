"""Functions that read queues and streams, as AWS's tutorials have them, with the events that its guides show.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-example.html
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from daemons import Daemon, create_python
from documented_events import MD5, PRINTS, UUID, assert_like
from queued_events import await_lines, awaited, log_lines
from shells import Shell

ACCOUNT_ID = "111122223333"
PLACE = "us-east-1:000000000000"
# Word for word, but for the account, the region and the name of the code's file.
TUTORIAL = """
def lambda_handler(event, context):
    for message in event['Records']:
        process_message(message)
    print("done")

def process_message(message):
    try:
        print(f"Processed message {message['body']}")
        # TODO: Do interesting work based on the new message
    except Exception as err:
        print("An error occurred")
        raise err
"""
INPUT = {
    "Records": [
        {
            "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
            "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
            "body": "test",
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1545082649183",
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": "1545082649185",
            },
            "messageAttributes": {},
            "md5OfBody": "098f6bcd4621d373cade4e832627b4f6",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:111122223333:my-queue",
            "awsRegion": "us-east-1",
        }
    ]
}
# https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
STANDARD = {
    "Records": [
        {
            "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
            "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
            "body": "Test message.",
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1545082649183",
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": "1545082649185",
            },
            "messageAttributes": {
                "myAttribute": {
                    "stringValue": "myValue",
                    "stringListValues": [],
                    "binaryListValues": [],
                    "dataType": "String",
                }
            },
            "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
            "awsRegion": "us-east-2",
        }
    ]
}
# https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html, of a FIFO queue
FIFO = {
    "Records": [
        {
            "messageId": "11d6ee51-4cc7-4302-9e22-7cd8afdaadf5",
            "receiptHandle": "AQEBBX8nesZEXmkhsmZeyIE8iQAMig7qw...",
            "body": "Test message.",
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1573251510774",
                "SequenceNumber": "18849496460467696128",
                "MessageGroupId": "1",
                "SenderId": "AIDAIO23YVJENQZJOL4VO",
                "MessageDeduplicationId": "1",
                "ApproximateFirstReceiveTimestamp": "1573251510774",
            },
            "messageAttributes": {},
            "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:fifo.fifo",
            "awsRegion": "us-east-2",
        }
    ]
}
# https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
KINESIS = {
    "Records": [
        {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": "1",
                "sequenceNumber": "49590338271490256608559692538361571095921575989136588898",
                "data": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==",
                "approximateArrivalTimestamp": 1545084650.987,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": "shardId-000000000006:49590338271490256608559692538361571095921575989136588898",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
            "awsRegion": "us-east-2",
            "eventSourceARN": "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream",
        }
    ]
}
MILLISECONDS = re.compile(r"\d{13}")
RECEIPT = re.compile(r"[A-Za-z0-9+/=.]+")
SENDER = re.compile(r"AIDA[0-9A-Z]{17}")
OF_QUEUES: dict[str, Any] = {
    "messageId": UUID,
    "receiptHandle": RECEIPT,
    "SentTimestamp": MILLISECONDS,
    "ApproximateFirstReceiveTimestamp": MILLISECONDS,
    "SenderId": SENDER,
    "md5OfBody": MD5,
    "awsRegion": "us-east-1",
}
PROMPT_S = 0.5
"""What an idle, warm function is given a message within; measured are some 10 ms."""
READS = "import time\n\ndef handler(event, context):\n    print('read at', time.time())\n"


def read(daemon: Daemon, name: str, source: str, handler: str, **settings: Any) -> str:
    """Make a function and have it read a source; returns the mapping's UUID."""
    functions = daemon.client("lambda")
    create_python(functions, name, handler)
    mapping_id: str = functions.create_event_source_mapping(FunctionName=name, EventSourceArn=source, **settings)[
        "UUID"
    ]
    awaited(lambda: functions.get_event_source_mapping(UUID=mapping_id)["State"] == "Enabled")
    return mapping_id


def event_of(daemon: Daemon, name: str) -> Any:
    (line,) = await_lines(daemon, name, "Event: ", 1)
    return json.loads(line.removeprefix("Event: "))


def test_the_tutorial(daemon: Daemon, tmp_path: Path) -> None:
    shell = Shell(daemon, tmp_path)
    shell.create_function("ProcessSQSRecord", TUTORIAL)
    shell.invoke("ProcessSQSRecord", json.dumps(INPUT))
    await_lines(daemon, "ProcessSQSRecord", "Processed message test", 1)

    # The AWS CLI in version 1 does not look for AWS_ENDPOINT_URL when it calls SQS.
    sqs = 'aws --endpoint-url "$AWS_ENDPOINT_URL" sqs'
    url = shell.json(f"{sqs} create-queue --queue-name my-queue")["QueueUrl"]
    made = shell.json(
        "aws lambda create-event-source-mapping --function-name ProcessSQSRecord  --batch-size 10 "
        f"--event-source-arn arn:aws:sqs:{PLACE}:my-queue"
    )
    listed = shell.json(
        f"aws lambda list-event-source-mappings --function-name ProcessSQSRecord "
        f"--event-source-arn arn:aws:sqs:{PLACE}:my-queue"
    )
    assert [each["UUID"] for each in listed["EventSourceMappings"]] == [made["UUID"]]
    shell(f"{sqs} send-message --queue-url {url} --message-body 'test message'")
    await_lines(daemon, "ProcessSQSRecord", "Processed message test message", 1)
    shell(f"aws lambda delete-event-source-mapping --uuid {made['UUID']}")


def test_the_event_of_a_standard_queue(shared_daemon: Daemon, unique: Any) -> None:
    name, sqs = unique("my-queue"), shared_daemon.client("sqs")
    url, arn = sqs.create_queue(QueueName=name)["QueueUrl"], f"arn:aws:sqs:{PLACE}:{name}"
    read(shared_daemon, name, arn, PRINTS)
    attributes = {"myAttribute": {"DataType": "String", "StringValue": "myValue"}}
    sqs.send_message(QueueUrl=url, MessageBody="Test message.", MessageAttributes=attributes)
    event = event_of(shared_daemon, name)
    # AWS's sample has no digest of the attributes, AWS's events do.
    assert MD5.fullmatch(event["Records"][0].pop("md5OfMessageAttributes"))
    assert_like(event, STANDARD, OF_QUEUES | {"eventSourceARN": arn})


def test_the_event_of_a_fifo_queue(shared_daemon: Daemon, unique: Any) -> None:
    name, sqs = f"{unique('fifo')}.fifo", shared_daemon.client("sqs")
    url = sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})["QueueUrl"]
    arn, function = f"arn:aws:sqs:{PLACE}:{name}", name.removesuffix(".fifo")
    read(shared_daemon, function, arn, PRINTS)
    sqs.send_message(QueueUrl=url, MessageBody="Test message.", MessageGroupId="1", MessageDeduplicationId="1")
    varying = OF_QUEUES | {"SequenceNumber": re.compile(r"\d{20}"), "eventSourceARN": arn}
    assert_like(event_of(shared_daemon, function), FIFO, varying)


def test_the_event_of_a_stream(shared_daemon: Daemon, unique: Any) -> None:
    name, kinesis = unique("lambda-stream"), shared_daemon.client("kinesis")
    kinesis.create_stream(StreamName=name, ShardCount=1)
    arn = f"arn:aws:kinesis:{PLACE}:stream/{name}"
    read(shared_daemon, name, arn, PRINTS, StartingPosition="LATEST")
    kinesis.put_record(StreamName=name, PartitionKey="1", Data=b"Hello, this is a test.")
    event = event_of(shared_daemon, name)
    arrived_s = event["Records"][0]["kinesis"].pop("approximateArrivalTimestamp")
    assert abs(arrived_s - time.time()) < 60
    sample = json.loads(json.dumps(KINESIS))
    del sample["Records"][0]["kinesis"]["approximateArrivalTimestamp"]
    varying = {
        "sequenceNumber": re.compile(r"\d+"),
        "eventID": re.compile(r"shardId-\d{12}:\d+"),
        "invokeIdentityArn": re.compile(r"arn:aws:iam::\d{12}:role/lambda-role"),
        "awsRegion": "us-east-1",
        "eventSourceARN": arn,
    }
    assert_like(event, sample, varying)


def test_a_shard_that_is_split_is_followed_by_its_children(shared_daemon: Daemon, unique: Any) -> None:
    name, kinesis = unique("split"), shared_daemon.client("kinesis")
    kinesis.create_stream(StreamName=name, ShardCount=1)
    shows = "def handler(event, context):\n    print('from', event['Records'][0]['eventID'].partition(':')[0])\n"
    read(shared_daemon, name, f"arn:aws:kinesis:{PLACE}:stream/{name}", shows, StartingPosition="TRIM_HORIZON")
    kinesis.put_record(StreamName=name, PartitionKey="1", Data=b"before")
    (before,) = await_lines(shared_daemon, name, "from", 1)
    (shard,) = kinesis.list_shards(StreamName=name)["Shards"]
    assert before == f"from {shard['ShardId']}"
    kinesis.split_shard(StreamName=name, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(2**127))
    for hash_key in (0, 2**127):
        kinesis.put_record(StreamName=name, PartitionKey="1", ExplicitHashKey=str(hash_key), Data=b"behind")
    children = {f"from {each['ShardId']}" for each in kinesis.list_shards(StreamName=name)["Shards"]} - {before}
    assert len(children) == 2
    awaited(lambda: children <= set(log_lines(shared_daemon, name)))


def test_the_changes_of_a_table_in_their_order(shared_daemon: Daemon, unique: Any) -> None:
    name, dynamodb = unique("table"), shared_daemon.client("dynamodb")
    table = dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "Id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "Id", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )["TableDescription"]
    arn = table["LatestStreamArn"]
    read(shared_daemon, name, arn, PRINTS, StartingPosition="TRIM_HORIZON", BatchSize=1)
    keys = {"Id": {"N": "101"}}
    dynamodb.put_item(TableName=name, Item={**keys, "Message": {"S": "New item!"}})
    dynamodb.put_item(TableName=name, Item={**keys, "Message": {"S": "This item has changed"}})
    dynamodb.delete_item(TableName=name, Key=keys)
    lines = await_lines(shared_daemon, name, "Event: ", 3)
    records = [json.loads(line.removeprefix("Event: "))["Records"][0] for line in lines]
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "REMOVE"]
    for record in records:
        assert record["dynamodb"]["Keys"] == keys
        told = (record["eventSource"], record["eventSourceARN"], record["awsRegion"])
        assert told == ("aws:dynamodb", arn, "us-east-1")
    assert records[0]["dynamodb"]["NewImage"] == {**keys, "Message": {"S": "New item!"}}
    assert records[1]["dynamodb"]["OldImage"] == records[0]["dynamodb"]["NewImage"]


def test_a_message_reaches_an_idle_function_at_once(shared_daemon: Daemon, unique: Any) -> None:
    name, sqs = unique("prompt"), shared_daemon.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    read(shared_daemon, name, f"arn:aws:sqs:{PLACE}:{name}", READS)
    took_s = []
    for number in range(1, 6):
        sent = time.time()
        sqs.send_message(QueueUrl=url, MessageBody="now")
        lines = awaited(lambda count=number: found if len(found := _reads(shared_daemon, name)) == count else [])
        took_s.append(lines[-1] - sent)
    assert sorted(took_s)[2] < PROMPT_S, took_s


def _reads(daemon: Daemon, name: str) -> list[float]:
    return [float(line.removeprefix("read at ")) for line in log_lines(daemon, name) if line.startswith("read at ")]


def test_a_mapping_goes_on_after_a_restart(daemon: Daemon) -> None:
    sqs = daemon.client("sqs")
    sqs.create_queue(QueueName="kept")
    mapping_id = read(daemon, "kept", f"arn:aws:sqs:{PLACE}:kept", PRINTS, BatchSize=7)
    daemon.stop()
    daemon.start()
    functions = daemon.client("lambda")
    awaited(lambda: functions.get_event_source_mapping(UUID=mapping_id)["State"] == "Enabled")
    assert functions.get_event_source_mapping(UUID=mapping_id)["BatchSize"] == 7
    sqs = daemon.client("sqs")
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="kept")["QueueUrl"], MessageBody="x")
    await_lines(daemon, "kept", "Event: ", 1)

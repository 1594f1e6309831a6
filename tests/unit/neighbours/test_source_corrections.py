"""Queues and streams of the real process, where moto alone would do what AWS does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from unit.neighbours.child_process import Child

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"
ENTERED = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-00000000-000000000000000000000000"}}


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with Child(tmp_path_factory.mktemp("sources")) as child:
        yield child


def traces(sqs: Any, url: str, count: int) -> dict[str, str | None]:
    """By the bodies of so many messages."""
    found: dict[str, str | None] = {}
    while len(found) < count:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"])
        for each in answer["Messages"]:
            found[each["Body"]] = each["Attributes"].get("AWSTraceHeader")
    return found


def test_a_message_carries_the_trace_of_its_request_or_its_own(child: Child) -> None:
    sqs = child.client("sqs")
    url = sqs.create_queue(QueueName="traced")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="without")

    def add(params: dict[str, Any], **_: Any) -> None:
        params["headers"]["X-Amzn-Trace-Id"] = TRACE

    sqs.meta.events.register("before-call", add)
    sqs.send_message(QueueUrl=url, MessageBody="sent")
    sqs.send_message(QueueUrl=url, MessageBody="entered", MessageSystemAttributes=ENTERED)
    entries = [
        {"Id": "1", "MessageBody": "in a batch"},
        {"Id": "2", "MessageBody": "entered in a batch", "MessageSystemAttributes": ENTERED},
    ]
    sqs.send_message_batch(QueueUrl=url, Entries=entries)
    entered = ENTERED["AWSTraceHeader"]["StringValue"]
    assert traces(sqs, url, 5) == {
        "without": None,
        "sent": TRACE,
        "entered": entered,
        "in a batch": TRACE,
        "entered in a batch": entered,
    }


def records(kinesis: Any, shard_id: str) -> list[bytes]:
    iterator = kinesis.get_shard_iterator(StreamName="s", ShardId=shard_id, ShardIteratorType="TRIM_HORIZON")
    answer = kinesis.get_records(ShardIterator=iterator["ShardIterator"])
    return [record["Data"] for record in answer["Records"]]


def test_a_shard_keeps_its_records_when_it_is_split_or_merged(child: Child) -> None:
    kinesis = child.client("kinesis")
    kinesis.create_stream(StreamName="s", ShardCount=1)
    (parent,) = kinesis.list_shards(StreamName="s")["Shards"]
    kinesis.put_record(StreamName="s", PartitionKey="k", Data=b"before")
    kinesis.split_shard(StreamName="s", ShardToSplit=parent["ShardId"], NewStartingHashKey=str(2**127))
    kinesis.put_record(StreamName="s", PartitionKey="k", Data=b"after")
    shards = [each["ShardId"] for each in kinesis.list_shards(StreamName="s")["Shards"]]
    assert records(kinesis, parent["ShardId"]) == [b"before"]
    assert sorted(records(kinesis, each) for each in shards[1:]) == [[], [b"after"]]
    kinesis.merge_shards(StreamName="s", ShardToMerge=shards[1], AdjacentShardToMerge=shards[2])
    merged = kinesis.list_shards(StreamName="s")["Shards"][-1]["ShardId"]
    assert records(kinesis, merged) == []
    assert sorted(records(kinesis, each) for each in shards[1:]) == [[], [b"after"]]


def received(sqs: Any, url: str, count: int = 10, wait_s: int = 0) -> list[str]:
    """The bodies of what one request gets."""
    answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=count, WaitTimeSeconds=wait_s)
    return [each["Body"] for each in answer.get("Messages") or ()]


def fifo(sqs: Any, name: str, *bodies: str) -> str:
    """A queue with messages whose group is their first letter."""
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true", "VisibilityTimeout": "1"}
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    for body in bodies:
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=body[0])
    return str(url)


def test_messages_of_a_group_come_again_in_their_order(child: Child) -> None:
    sqs = child.client("sqs")
    url = fifo(sqs, "again.fifo", "a1", "b1", "a2", "a3")
    assert received(sqs, url) == ["a1", "b1", "a2", "a3"]
    assert received(sqs, url) == []
    assert received(sqs, url, wait_s=5) == ["a1", "b1", "a2", "a3"]


def test_a_group_waits_for_its_message_that_is_hidden(child: Child) -> None:
    sqs = child.client("sqs")
    url = fifo(sqs, "held.fifo", "a1", "a2", "b1")
    taken = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1, VisibilityTimeout=60)["Messages"][0]
    assert received(sqs, url) == ["b1"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=taken["ReceiptHandle"])
    assert received(sqs, url) == ["a2"]


def test_what_is_sent_again_to_a_fifo_queue_comes_once_also_when_it_has_been_deleted(child: Child) -> None:
    sqs = child.client("sqs")
    url = fifo(sqs, "once.fifo", "a1")
    taken = sqs.receive_message(QueueUrl=url)["Messages"][0]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=taken["ReceiptHandle"])
    for body in ("a1", "a2"):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="a")
    assert received(sqs, url) == ["a2"]


def test_the_sequence_numbers_of_a_fifo_queue_rise(child: Child) -> None:
    sqs = child.client("sqs")
    url = fifo(sqs, "numbered.fifo", "a1")
    entries = [{"Id": body, "MessageBody": body, "MessageGroupId": body[0]} for body in ("b1", "a2")]
    sent = sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]
    answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"])
    numbers = [each["Attributes"]["SequenceNumber"] for each in answer["Messages"]]
    assert numbers == sorted(set(numbers), key=int)
    assert {len(number) for number in numbers} == {20}
    assert [each["SequenceNumber"] for each in sent] == numbers[1:]


def table(child: Child, name: str) -> str:
    """The ARN of the stream of a new table."""
    made = child.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "Id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "Id", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return str(made["TableDescription"]["LatestStreamArn"])


def changes(child: Child, arn: str) -> list[dict[str, Any]]:
    streams = child.client("dynamodbstreams")
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]
    found: list[dict[str, Any]] = streams.get_records(ShardIterator=iterator)["Records"]
    return found


def test_each_change_of_a_table_is_one_record_and_what_changes_nothing_is_none(child: Child) -> None:
    dynamodb, arn = child.client("dynamodb"), table(child, "changed")
    key, words = {"Id": {"N": "101"}}, ("New item!", "This item has changed")
    for word in (words[0], words[0], words[1]):
        dynamodb.update_item(
            TableName="changed",
            Key=key,
            UpdateExpression="SET Message = :word",
            ExpressionAttributeValues={":word": {"S": word}},
        )
    dynamodb.put_item(TableName="changed", Item={**key, "Message": {"S": words[1]}})
    dynamodb.delete_item(TableName="changed", Key=key)
    made, changed, gone = changes(child, arn)
    assert [each["eventName"] for each in (made, changed, gone)] == ["INSERT", "MODIFY", "REMOVE"]
    assert made["dynamodb"]["NewImage"] == {**key, "Message": {"S": words[0]}}
    assert made["eventVersion"] == "1.1"
    # The sizes of https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html, where these changes are the example.
    assert [each["dynamodb"]["SizeBytes"] for each in (made, changed)] == [26, 59]


def test_the_size_of_a_record_counts_every_type(child: Child) -> None:
    arn = table(child, "sized")
    item = {
        "Id": {"N": "-1200.50"},  # 2 + 4, in the key and in the image
        "b": {"B": b"abc"},  # 1 + 3
        "s": {"SS": ["x", "yz"]},  # 1 + 3
        "n": {"NULL": True},  # 1 + 1
        "l": {"L": [{"BOOL": False}, {"M": {"k": {"S": "v"}}}]},  # 1 + 3 + 2 + 1 + (3 + 1 + 2)
    }
    child.client("dynamodb").put_item(TableName="sized", Item=item)
    (record,) = changes(child, arn)
    assert record["dynamodb"]["SizeBytes"] == 2 * (2 + 4) + 4 + 4 + 2 + 13


def test_a_stream_that_a_table_does_not_have_is_not_found(child: Child) -> None:
    streams, arn = child.client("dynamodbstreams"), table(child, "streamed")
    other = f"{arn.rpartition('/')[0]}/2020-01-01T00:00:00.000"
    with pytest.raises(streams.exceptions.ResourceNotFoundException, match=f"Stream: {other} not found"):
        streams.describe_stream(StreamArn=other)
    dynamodb = child.client("dynamodb")
    dynamodb.update_table(TableName="streamed", StreamSpecification={"StreamEnabled": False})
    with pytest.raises(streams.exceptions.ResourceNotFoundException, match=f"Stream: {arn} not found"):
        streams.describe_stream(StreamArn=arn)
    dynamodb.put_item(TableName="streamed", Item={"Id": {"N": "1"}})
    switched_on = dynamodb.update_table(
        TableName="streamed", StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    )["TableDescription"]
    assert changes(child, switched_on["LatestStreamArn"]) == []

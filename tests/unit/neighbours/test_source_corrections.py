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

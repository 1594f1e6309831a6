"""Records of Kinesis and DynamoDB Streams as functions get them, and what is told of records that are given up.

https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html and
https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html have the events,
https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html and
https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html the records of failures.
"""

from __future__ import annotations

import datetime
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lambdad.domain import destinations
from lambdad.domain.dispatches import Dispatch, DispatchPolicy
from lambdad.domain.event_source_mappings import EventSource, EventSourceMapping, SourceKind
from lambdad.domain.record_kinds import RecordKind

RETRIES_EXHAUSTED: Final = "RetryAttemptsExhausted"
AGE_EXCEEDED: Final = "RecordAgeExceeded"
PRINCIPAL: Final = "lambda.amazonaws.com"
FAILURE_POLICY: Final = DispatchPolicy(max_attempts=100, max_age_ms=24 * 3600 * 1000)
"""Of what is told of a failure. AWS documents no figure."""
_BATCH_INFO: Final = {SourceKind.STREAM: "KinesisBatchInfo", SourceKind.TABLE_STREAM: "DDBStreamBatchInfo"}


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One record. Records with the same `partition` are to be processed in their order."""

    sequence_number: str
    partition: str
    arrived_s: float
    document: Mapping[str, Any]
    """As it stands in an event."""


@dataclass(frozen=True, slots=True)
class Shard:
    id: str
    parents: tuple[str, ...] = ()
    is_closed: bool = False
    """Nothing is added to it any more."""


@dataclass(frozen=True, slots=True)
class ShardCheckpoint:
    """How far a mapping has come in a shard. Before the first record `from_s` says where to begin; None: the oldest."""

    account_id: str
    region: str
    uuid: str
    shard_id: str
    sequence_number: str = ""
    from_s: float | None = None
    is_finished: bool = False


SHARD_CHECKPOINTS: Final = RecordKind(
    "event_source_checkpoint",
    ShardCheckpoint,
    lambda checkpoint: (checkpoint.account_id, checkpoint.region, checkpoint.uuid, checkpoint.shard_id),
)


def stream_record(raw: Mapping[str, Any], shard_id: str, source: EventSource, role: str) -> StreamRecord:
    """Of a record as GetRecords of Kinesis gives it; its data is base64 on both sides."""
    arrived_s = float(raw.get("ApproximateArrivalTimestamp") or 0.0)
    sequence_number, partition = str(raw["SequenceNumber"]), str(raw["PartitionKey"])
    document = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": partition,
            "sequenceNumber": sequence_number,
            "data": raw["Data"],
            "approximateArrivalTimestamp": arrived_s,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard_id}:{sequence_number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": role,
        "awsRegion": source.region,
        "eventSourceARN": source.arn,
    }
    return StreamRecord(sequence_number, partition, arrived_s, document)


def table_record(raw: Mapping[str, Any], source: EventSource) -> StreamRecord:
    """Of a record as GetRecords of DynamoDB Streams gives it. AWS rounds its time down, not every such service does.

    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_StreamRecord.html
    """
    change = dict(raw["dynamodb"])
    arrived_s = float(change.get("ApproximateCreationDateTime") or 0.0)
    change["ApproximateCreationDateTime"] = float(math.floor(arrived_s))
    change["SequenceNumber"] = sequence_number = str(change["SequenceNumber"])
    document = {
        "eventID": raw["eventID"],
        "eventName": raw["eventName"],
        "eventVersion": raw.get("eventVersion", "1.1"),
        "eventSource": "aws:dynamodb",
        "awsRegion": source.region,
        "dynamodb": change,
        **({"userIdentity": _identity(raw["userIdentity"])} if raw.get("userIdentity") else {}),
        "eventSourceARN": source.arn,
    }
    partition = json.dumps(change.get("Keys"), sort_keys=True)
    return StreamRecord(sequence_number, partition, arrived_s, document)


def _identity(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Who has deleted an item that had expired. GetRecords names the same members with capitals.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html
    """
    return {name[:1].lower() + name[1:]: value for name, value in raw.items()}


def lanes(records: Sequence[StreamRecord], count: int) -> Sequence[Sequence[StreamRecord]]:
    """Records in at most `count` parts, those with the same partition in the same part, each in order."""
    parts: dict[int, list[StreamRecord]] = {}
    for record in records:
        parts.setdefault(zlib.crc32(record.partition.encode("utf-8", "surrogatepass")) % count, []).append(record)
    return list(parts.values())


@dataclass(frozen=True, slots=True)
class FailedBatch:
    """A batch that is given up. `version` is empty when the function has not run for it at all."""

    records: Sequence[StreamRecord]
    shard_id: str
    condition: str
    attempts: int
    request_id: str
    version: str


def failure_dispatch(mapping: EventSourceMapping, failed: FailedBatch, now_s: float, key_id: str) -> Dispatch | None:
    """What tells the mapping's destination of a batch; None when it has none. `key_id` is part of an object's key."""
    if not mapping.on_failure:
        return None
    target = destinations.parse(mapping.on_failure)
    document = _failure_document(mapping, failed, now_s)
    operation, parameters = "SendMessage", {"MessageBody": json.dumps(document)}
    if target.service == destinations.SNS:
        operation, parameters = "Publish", {"TopicArn": target.arn, "Message": json.dumps(document)}
    elif target.service == destinations.S3:
        event = {"Records": [record.document for record in failed.records]}
        operation, parameters = (
            "PutObject",
            {
                "Bucket": target.name,
                "Key": _object_key(mapping, failed.shard_id, now_s, key_id),
                "Body": json.dumps({**document, "payload": json.dumps(event)}),
                "ContentType": "application/json",
            },
        )
    return Dispatch(
        target=target.arn,
        service=target.service,
        operation=operation,
        parameters=parameters,
        source=mapping.arn,
        principal=PRINCIPAL,
        account_id=mapping.account_id,
        region=target.region or mapping.region,
        policy=FAILURE_POLICY,
    )


def _failure_document(mapping: EventSourceMapping, failed: FailedBatch, now_s: float) -> dict[str, Any]:
    first, last, source = failed.records[0], failed.records[-1], mapping.source
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": failed.request_id,
            "functionArn": mapping.function.arn,
            "condition": failed.condition,
            "approximateInvokeCount": failed.attempts,
        }
    }
    if failed.version:
        document["responseContext"] = {
            "statusCode": 200,
            "executedVersion": failed.version,
            "functionError": "Unhandled",
        }
    return document | {
        "version": "1.0",
        "timestamp": _timestamp(now_s),
        _BATCH_INFO[source.kind]: {
            "shardId": failed.shard_id,
            "startSequenceNumber": first.sequence_number,
            "endSequenceNumber": last.sequence_number,
            "approximateArrivalOfFirstRecord": _arrival(first, source),
            "approximateArrivalOfLastRecord": _arrival(last, source),
            "batchSize": len(failed.records),
            "streamArn": source.arn,
        },
    }


def _object_key(mapping: EventSourceMapping, shard_id: str, now_s: float, key_id: str) -> str:
    """https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html"""
    moment = datetime.datetime.fromtimestamp(now_s, datetime.UTC)
    return f"aws/lambda/{mapping.uuid}/{shard_id}/{moment:%Y/%m/%d}/{moment:%Y-%m-%dT%H.%M.%S}-{key_id}"


def _arrival(record: StreamRecord, source: EventSource) -> str:
    """DynamoDB knows the second, `2019-11-14T00:13:19Z`, and Kinesis the millisecond."""
    if source.kind is SourceKind.STREAM:
        return _timestamp(record.arrived_s)
    return f"{datetime.datetime.fromtimestamp(record.arrived_s, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def _timestamp(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"

"""Messages of SQS as functions get them, and what functions answer about each message of a batch.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html#sample-standard-message-queue-event
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from lambdad.domain.event_source_mappings import BATCH_BYTES_MAX, EventSource

TRACE_ATTRIBUTE: Final = "AWSTraceHeader"
_BEFORE, _BETWEEN, _AFTER = b'{"Records":[', b",", b"]}"


def queue_record(message: Mapping[str, Any], source: EventSource) -> dict[str, Any]:
    """The record of an event for a message as ReceiveMessage gives it."""
    record: dict[str, Any] = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message.get("Body", ""),
        "attributes": dict(message.get("Attributes") or {}),
        "messageAttributes": {
            name: _attribute(value) for name, value in (message.get("MessageAttributes") or {}).items()
        },
    }
    if message.get("MD5OfMessageAttributes"):
        record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return record | {
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": source.arn,
        "awsRegion": source.region,
    }


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    """A binary value is base64 on both sides."""
    shown: dict[str, Any] = {}
    if value.get("StringValue") is not None:
        shown["stringValue"] = value["StringValue"]
    if value.get("BinaryValue") is not None:
        shown["binaryValue"] = value["BinaryValue"]
    return shown | {
        "stringListValues": list(value.get("StringListValues") or ()),
        "binaryListValues": list(value.get("BinaryListValues") or ()),
        "dataType": value.get("DataType", "String"),
    }


def encoded(record: Mapping[str, Any]) -> bytes:
    """A record as it stands in an event."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def event(records: Iterable[bytes], more: Mapping[str, Any] | None = None) -> bytes:
    """The event of a batch of encoded records, with what else stands in it."""
    end = _AFTER if not more else b"]," + encoded(more)[1:]
    return _BEFORE + _BETWEEN.join(records) + end


def fitting(sizes: Sequence[int]) -> int:
    """How many records, of these sizes in bytes, one event can have: at least one."""
    total = len(_BEFORE) + len(_AFTER)
    for place, size in enumerate(sizes):
        total += size + len(_BETWEEN)
        if total > BATCH_BYTES_MAX:
            return max(place, 1)
    return len(sizes)


def failed_items(response: bytes, items: Collection[str]) -> Collection[str] | None:
    """The items of a batch that a function with ReportBatchItemFailures says have failed; None for all of them.

    An answer that is nothing, or says of no item that it failed, is a success. One that cannot be read, or names what
    was not in the batch, is a failure of all: https://docs.aws.amazon.com/lambda/latest/dg/
    services-sqs-errorhandling.html#services-sqs-batchfailurereporting
    """
    try:
        document = json.loads(response) if response.strip() else None
    except (ValueError, RecursionError):
        return None
    if document is None:
        return ()
    if not isinstance(document, dict):
        return None
    reported = document.get("batchItemFailures")
    if reported is None:
        return ()
    if not isinstance(reported, list):
        return None
    failed = []
    for each in reported:
        item = each.get("itemIdentifier") if isinstance(each, dict) else None
        if not isinstance(item, str) or item not in items:
            return None
        failed.append(item)
    return failed

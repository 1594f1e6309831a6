"""Records of streams as functions get them, and what is told of those that are given up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lambdad.domain.event_source_mappings import parse_source
from lambdad.domain.stream_events import FailedBatch, StreamRecord, failure_dispatch, table_record
from unit.services.sources import STREAM, TABLE, mapping

QUEUE = "arn:aws:sqs:us-east-1:000000000000:letters"


def removal(**more: Any) -> dict[str, Any]:
    """As GetRecords of DynamoDB Streams gives it."""
    change = {"Keys": {"id": {"S": "1"}}, "SequenceNumber": "7", "ApproximateCreationDateTime": 1573690399.973}
    return {"eventID": "e", "eventName": "REMOVE", "eventVersion": "1.1", "dynamodb": change, **more}


def test_who_deleted_an_expired_item_is_named_as_functions_and_filters_expect() -> None:
    raw = removal(userIdentity={"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"})
    document = table_record(raw, parse_source(TABLE)).document
    assert document["userIdentity"] == {"principalId": "dynamodb.amazonaws.com", "type": "Service"}
    assert "userIdentity" not in table_record(removal(), parse_source(TABLE)).document


def test_a_change_of_a_table_shows_the_second() -> None:
    record = table_record(removal(), parse_source(TABLE))
    assert record.document["dynamodb"]["ApproximateCreationDateTime"] == 1573690399
    assert record.arrived_s == 1573690399.973


@pytest.mark.parametrize(
    ("source", "info", "first", "last"),
    [
        (STREAM, "KinesisBatchInfo", "2019-11-14T00:13:19.000Z", "2019-11-14T00:13:19.973Z"),
        (TABLE, "DDBStreamBatchInfo", "2019-11-14T00:13:19Z", "2019-11-14T00:13:19Z"),
    ],
)
def test_the_times_of_records_that_were_given_up(source: str, info: str, first: str, last: str) -> None:
    records = [StreamRecord(str(time_s), "p", time_s, {}) for time_s in (1573690399.0, 1573690399.973)]
    failed = FailedBatch(records, "shard", "RetryAttemptsExhausted", 1, "request", "$LATEST")
    told = failure_dispatch(replace(mapping(source), on_failure=QUEUE), failed, 1573690429.717, "key")
    assert told is not None
    document = json.loads(told.parameters["MessageBody"])
    assert document["timestamp"] == "2019-11-14T00:13:49.717Z"
    shown = document[info]
    assert (shown["approximateArrivalOfFirstRecord"], shown["approximateArrivalOfLastRecord"]) == (first, last)

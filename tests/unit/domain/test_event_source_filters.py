"""What filters of event sources let pass, by the form of the data and of the pattern.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html,
https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis-filtering.html
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.event_source_filters import SourceFilters

JSON, PLAIN = '{"City": "Seattle", "n": 1}', "Seattle"
MATCHES_JSON, MATCHES_PLAIN = '{"body": {"City": ["Seattle"]}}', '{"body": ["Seattle"]}'


def message(body: str) -> dict[str, Any]:
    return {"body": body, "attributes": {"SenderId": "me"}, "messageId": "1"}


@pytest.mark.parametrize(
    ("body", "pattern", "passes"),
    [
        (JSON, MATCHES_JSON, True),
        (JSON, '{"body": {"City": ["Paris"]}}', False),
        (JSON, MATCHES_PLAIN, False),
        (PLAIN, MATCHES_PLAIN, True),
        (PLAIN, '{"body": ["Paris"]}', False),
        (PLAIN, MATCHES_JSON, False),
        (PLAIN, '{"body": {"City": [{"exists": false}]}}', False),
        (JSON, '{"body": {"City": [{"exists": false}]}}', False),
        (JSON, '{"body": {"Town": [{"exists": false}]}}', True),
        ('[{"City": "Seattle"}]', MATCHES_JSON, True),
        ("12", '{"body": ["12"]}', True),
        (JSON, '{"messageId": ["1"]}', True),
        (PLAIN, '{"messageId": ["2"]}', False),
    ],
)
def test_messages(body: str, pattern: str, passes: bool) -> None:
    assert SourceFilters([pattern], "sqs").let_pass(message(body)) is passes


def test_one_of_several_filters_is_enough_and_none_lets_everything_pass() -> None:
    assert SourceFilters([MATCHES_PLAIN, MATCHES_JSON], "sqs").let_pass(message(JSON))
    assert SourceFilters([], "sqs").let_pass(message("anything"))


@pytest.mark.parametrize(
    ("data", "pattern", "passes"),
    [
        (JSON.encode(), '{"data": {"City": ["Seattle"]}}', True),
        (JSON.encode(), '{"data": ["Seattle"]}', False),
        (b"Seattle", '{"data": ["Seattle"]}', True),
        (b"\xff\xfe", '{"data": {"City": ["Seattle"]}}', False),
        (b"Seattle", '{"partitionKey": ["k"]}', True),
        (b"Seattle", '{"partitionKey": ["other"]}', False),
    ],
)
def test_records_of_a_stream(data: bytes, pattern: str, passes: bool) -> None:
    record = {"kinesis": {"data": base64.b64encode(data).decode(), "partitionKey": "k"}, "eventName": "e"}
    assert SourceFilters([pattern], "kinesis").let_pass(record) is passes


def test_records_of_a_table() -> None:
    record = {"eventName": "INSERT", "dynamodb": {"NewImage": {"n": {"N": "1"}}}}
    inserted = json.dumps({"eventName": ["INSERT"], "dynamodb": {"NewImage": {"n": {"N": ["1"]}}}})
    assert SourceFilters([inserted], "dynamodbstreams").let_pass(record)
    assert not SourceFilters(['{"eventName": ["REMOVE"]}'], "dynamodbstreams").let_pass(record)


@pytest.mark.parametrize("pattern", ["", "{", "[]", '{"body": "x"}', '{"body": [{"unknown": 1}]}'])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidParameterValueException, match="Invalid filter pattern definition"):
        SourceFilters([pattern], "sqs")

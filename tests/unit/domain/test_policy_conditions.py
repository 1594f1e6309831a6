"""The operators of IAM's conditions."""

from __future__ import annotations

from typing import Any

import pytest

from lambdad.domain.policy_conditions import MalformedPolicy, parse_conditions

NOON, DAY = "2026-11-21T12:00:00Z", "2026-11-21"
QUEUE = "arn:aws:sqs:us-east-1:111111111111:q"


def holds(operator: str, wanted: Any, value: str | None) -> bool:
    (condition,) = parse_conditions({operator: {"aws:Key": wanted}})
    return condition.holds({} if value is None else {"aws:key": value})


@pytest.mark.parametrize(
    ("operator", "wanted", "yes", "no"),
    [
        ("StringEquals", "a*", ["a*"], ["ab", "A*"]),
        ("StringEquals", ["a", "b"], ["a", "b"], ["c"]),
        ("StringNotEquals", ["a", "b"], ["c"], ["a", "b"]),
        ("StringEqualsIgnoreCase", "Ab", ["aB"], ["b"]),
        ("StringNotEqualsIgnoreCase", "Ab", ["b"], ["aB"]),
        ("StringLike", "a*c?", ["abcd", "acd"], ["abc", "xacd"]),
        ("StringNotLike", "a*", ["b"], ["a", "ab"]),
        ("NumericEquals", 10, ["10", "10.0"], ["11", "ten"]),
        ("NumericNotEquals", "10", ["11"], ["10.0"]),
        ("NumericLessThan", "10", ["9.5", "-1"], ["10", "ten"]),
        ("NumericLessThanEquals", "10", ["10"], ["10.5"]),
        ("NumericGreaterThan", "10", ["11"], ["10"]),
        ("NumericGreaterThanEquals", "10", ["10"], ["9"]),
        ("DateEquals", NOON, [NOON, "2026-11-21T13:00:00+01:00", "1795262400"], ["2026-11-21T12:00:01Z", "noon"]),
        ("DateNotEquals", NOON, ["2026-11-21T12:00:01Z"], [NOON]),
        ("DateLessThan", NOON, [DAY], [NOON]),
        ("DateLessThanEquals", NOON, [NOON], ["2026-11-22"]),
        ("DateGreaterThan", DAY, [NOON], [DAY]),
        ("DateGreaterThanEquals", "1795262400", [NOON], [DAY]),
        ("Bool", True, ["true", "True"], ["false"]),
        ("Bool", "false", ["false"], ["true"]),
        ("IpAddress", "10.1.0.0/16", ["10.1.255.1"], ["10.2.0.1", "::1", "nowhere"]),
        ("IpAddress", ["10.1.2.3", "2001:db8::/32"], ["10.1.2.3", "2001:db8::7"], ["10.1.2.4"]),
        ("NotIpAddress", "10.1.0.0/16", ["10.2.0.1"], ["10.1.0.1"]),
        ("ArnEquals", "arn:aws:sqs:*:111111111111:*", [QUEUE], ["arn:aws:sns:us-east-1:111111111111:q"]),
        ("ArnLike", QUEUE, [QUEUE], [f"{QUEUE}2", "q"]),
        ("ArnLike", "*", [QUEUE], []),
        ("ArnNotLike", "arn:aws:sqs:*:*:*", ["arn:aws:s3:::b"], [QUEUE]),
        ("ArnNotEquals", QUEUE, ["arn:aws:s3:::b"], [QUEUE]),
        ("ForAnyValue:StringEquals", ["a", "b"], ["b"], ["c"]),
        ("ForAllValues:StringLike", ["a*"], ["ab"], ["b"]),
        ("StringEqualsIfExists", "a", ["a"], ["b"]),
    ],
)
def test_operators(operator: str, wanted: Any, yes: list[str], no: list[str]) -> None:
    assert [holds(operator, wanted, value) for value in yes] == [True] * len(yes)
    assert [holds(operator, wanted, value) for value in no] == [False] * len(no)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("StringEquals", False),
        ("StringLike", False),
        ("StringNotEquals", True),
        ("StringNotLike", True),
        ("StringEqualsIfExists", True),
        ("StringNotEqualsIfExists", True),
        ("ForAnyValue:StringEquals", False),
        ("ForAnyValue:StringNotEquals", False),
        ("ForAllValues:StringEquals", True),
    ],
)
def test_a_request_that_lacks_the_key(operator: str, expected: bool) -> None:
    assert holds(operator, "a", None) is expected


def test_null_asks_whether_there_is_a_value() -> None:
    assert holds("Null", "true", None)
    assert not holds("Null", "true", "a")
    assert holds("Null", "false", "")
    assert not holds("Null", False, None)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ([], "Condition must be an object"),
        ({"StringEquals": {}}, "StringEquals must have keys"),
        ({"StringEquals": "a"}, "StringEquals must have keys"),
        ({"StringEqual": {"k": "a"}}, "StringEqual is not supported"),
        ({"BinaryEquals": {"k": "a"}}, "BinaryEquals is not supported"),
        ({"NullIfExists": {"k": "true"}}, "NullIfExists is not supported"),
        ({"ForSomeValue:StringEquals": {"k": "a"}}, "is not supported"),
        ({"StringEquals": {"k": []}}, "the condition key k has no value"),
        ({"StringEquals": {"k": None}}, "neither text nor a number"),
        ({"StringEquals": {"k": ["a", {}]}}, "neither text nor a number"),
        ({"StringEquals": {"k": "${aws:PrincipalAccount}"}}, "policy variables are not supported"),
        ({"Bool": {"k": "yes"}}, "yes is neither true nor false"),
        ({"Null": {"k": "1"}}, "1 is neither true nor false"),
        ({"NumericEquals": {"k": "ten"}}, "ten is not a value of the condition operator NumericEquals"),
        ({"DateLessThan": {"k": "noon"}}, "noon is not a value"),
        ({"NotIpAddress": {"k": "10.0.0.0/33"}}, "is not a value"),
        ({"ArnLike": {"k": "my-bucket"}}, "my-bucket is not a value"),
    ],
)
def test_what_is_no_condition(block: Any, message: str) -> None:
    with pytest.raises(MalformedPolicy) as caught:
        parse_conditions(block)
    assert message in str(caught.value)

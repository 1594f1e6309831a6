"""Filter policies: which messages they let pass, by attributes or by body, and which policies are none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambdad.domain.sns_filter_policies import ATTRIBUTES, BODY, InvalidFilterPolicy, compile_filter_policy
from lambdad.domain.sns_requests import MessageAttribute

TEXT = {"t": MessageAttribute("String", "soccer")}
NUMBER = {"n": MessageAttribute("Number", "100.50")}
ARRAY = {"a": MessageAttribute("String.Array", '["rugby", "Tennis", 3, true, null]')}
ADDRESS = {"ip": MessageAttribute("String", "10.0.0.7")}
BINARY = {"b": MessageAttribute("Binary", "AQI=")}
EVERYTHING = TEXT | NUMBER | ARRAY | ADDRESS | BINARY


def wants(policy: Any, message: str = "m", scope: str = ATTRIBUTES, attributes: Any = EVERYTHING) -> bool:
    compiled = compile_filter_policy(json.dumps(policy), scope)
    assert compiled is not None
    return compiled.matches(message, attributes)


@pytest.mark.parametrize(
    "policy",
    [
        {"t": ["rugby", "soccer"]},
        {"t": [{"prefix": "soc"}]},
        {"t": [{"suffix": "cer"}]},
        {"t": [{"wildcard": "s*er"}]},
        {"t": [{"equals-ignore-case": "SOCCER"}]},
        {"t": [{"anything-but": "rugby"}]},
        {"t": [{"anything-but": ["rugby", "tennis"]}]},
        {"t": [{"anything-but": {"prefix": "rug"}}]},
        {"t": [{"anything-but": {"suffix": "by"}}]},
        {"t": [{"exists": True}]},
        {"gone": [{"exists": False}]},
        {"n": [100.5]},
        {"n": [{"numeric": ["=", 100.5]}]},
        {"n": [{"numeric": [">", 100, "<=", 200]}]},
        {"n": [{"anything-but": [100, 500]}]},
        {"a": ["rugby"]},
        {"a": [3]},
        {"a": [True]},
        {"a": [None]},
        {"a": [{"prefix": "Ten"}]},
        {"a": [{"anything-but": ["rugby"]}]},
        {"ip": [{"cidr": "10.0.0.0/24"}]},
        {"t": ["soccer"], "n": [{"numeric": ["<", 101]}]},
        {"$or": [{"t": ["rugby"]}, {"n": [100.5]}]},
        {"ip": ["10.0.0.7"], "$or": [{"t": ["soccer"]}, {"n": [1]}]},
    ],
    ids=json.dumps,
)
def test_a_message_passes_by_its_attributes(policy: Any) -> None:
    assert wants(policy)


@pytest.mark.parametrize(
    "policy",
    [
        {"t": ["rugby"]},
        {"t": ["SOCCER"]},
        {"t": [{"anything-but": ["soccer"]}]},
        {"t": [{"anything-but": {"prefix": "soc"}}]},
        {"t": [{"exists": False}]},
        {"gone": [{"exists": True}]},
        {"gone": [{"anything-but": ["x"]}]},
        {"n": [100]},
        {"n": ["100.50"]},
        {"n": [{"numeric": [">", 100.5]}]},
        {"a": ["cricket"]},
        {"a": [False]},
        {"ip": [{"cidr": "10.0.1.0/24"}]},
        {"b": [{"exists": True}]},
        {"t": ["soccer"], "n": [1]},
        {"$or": [{"t": ["rugby"]}, {"n": [1]}]},
    ],
    ids=json.dumps,
)
def test_a_message_is_kept_out_by_its_attributes(policy: Any) -> None:
    assert not wants(policy)


def test_an_attribute_that_its_type_does_not_fit_is_a_text() -> None:
    attributes = {"n": MessageAttribute("Number", "many"), "a": MessageAttribute("String.Array", "[")}
    assert wants({"n": ["many"], "a": ["["]}, attributes=attributes)


def test_a_message_passes_by_its_body() -> None:
    body = json.dumps({"store": {"name": "x", "tags": ["a", "b"]}, "price": 7, "gone": None, "t": True})
    for policy in (
        {"store": {"name": ["x"]}},
        {"store": {"tags": ["b"]}, "price": [{"numeric": [">=", 7]}]},
        {"gone": [None], "t": [True]},
        {"$or": [{"price": [8]}, {"store": {"name": [{"prefix": "x"}]}}]},
    ):
        assert wants(policy, body, BODY, {})
    for policy in ({"store": {"name": ["y"]}}, {"price": ["7"]}, {"store": {"none": [{"exists": True}]}}):
        assert not wants(policy, body, BODY, {})


@pytest.mark.parametrize("message", ["m", "[1]", '"a"', "", "[" * 100_000])
def test_a_body_that_is_no_object_passes_no_policy(message: str) -> None:
    assert not wants({"a": [{"exists": False}]}, message, BODY)


@pytest.mark.parametrize("text", ["", " ", "{}"])
def test_no_policy_lets_everything_pass(text: str) -> None:
    assert compile_filter_policy(text) is None


@pytest.mark.parametrize(
    ("policy", "scope", "reason"),
    [
        ("{", ATTRIBUTES, "failed to parse JSON."),
        ("[" * 100_000, ATTRIBUTES, "failed to parse JSON."),
        ("[]", ATTRIBUTES, "Filter is not an object"),
        ('{"a": "b"}', ATTRIBUTES, '"a" must be an object or an array'),
        ('{"a": []}', ATTRIBUTES, "Empty arrays are not allowed"),
        ('{"a": [{"around": 1}]}', ATTRIBUTES, "Unrecognized match type around"),
        ('{"a": [[1]]}', ATTRIBUTES, "Match value must be String, number, true, false, or null"),
        ('{"a": [{"exists": 1}]}', ATTRIBUTES, "exists match pattern must be either true or false."),
        ('{"a": [{"numeric": ["<", "1"]}]}', ATTRIBUTES, "Value of < must be numeric"),
        (
            '{"a": {"b": ["c"]}}',
            ATTRIBUTES,
            "Filter policy scope MessageAttributes does not support nested filter policy",
        ),
        (
            '{"$or": [{"a": {"b": ["c"]}}, {"d": [1]}]}',
            ATTRIBUTES,
            "Filter policy scope MessageAttributes does not support nested filter policy",
        ),
        (
            json.dumps({str(number): ["a"] for number in range(6)}),
            BODY,
            "Filter policy can not have more than 5 keys",
        ),
        (json.dumps({"a": list(range(31)), "b": list(range(5))}), ATTRIBUTES, "Filter policy is too complex"),
        (json.dumps({"a": {"b": {"c": list(range(51))}}}), BODY, "Filter policy is too complex"),
        (json.dumps({"a": ["x" * 256 * 1024]}), ATTRIBUTES, "Filter policy is too large"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_policy_is_refused(policy: str, scope: str, reason: str) -> None:
    with pytest.raises(InvalidFilterPolicy) as raised:
        compile_filter_policy(policy, scope)
    assert raised.value.message == reason


def test_policies_at_the_limits_are_accepted() -> None:
    """AWS's own example: 3 x 4 x 2 x 3 of two nested fields are 72 of 150 combinations."""
    assert compile_filter_policy(json.dumps({"a": list(range(30)), "b": list(range(5))})) is not None
    example = {"a": {"b": {"c": [1, 2, 3, 4]}}, "d": {"e": [1, 2, 3]}}
    assert compile_filter_policy(json.dumps(example), BODY) is not None
    branches = {"source": [1, 2, 3], "$or": [{"m": list(range(25))}, {"n": list(range(25))}]}
    assert compile_filter_policy(json.dumps(branches)) is not None

"""Input transformers: the examples of AWS's documentation, and what it says beside them.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdad.domain.input_transformers import (
    MISSING,
    InvalidTransformer,
    parse_path,
    parse_transformer,
)

EVENT: dict[str, Any] = {
    "version": "0",
    "id": "7bf73129-1428-4cd3-a780-95db273d1602",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "123456789012",
    "time": "2015-11-11T21:29:54Z",
    "region": "us-east-1",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-abcd1111"],
    "detail": {"instance-id": "i-0123456789", "state": "RUNNING"},
}
PATHS = {
    "timestamp": "$.time",
    "instance": "$.detail.instance-id",
    "state": "$.detail.state",
    "resource": "$.resources[0]",
    "detail": "$.detail",
    "nothing": "$.detail.nothing",
}
RULE_ARN, RULE_NAME = "arn:aws:events:us-east-1:123456789012:rule/example", "example"
INGESTED = "2015-11-11T21:29:55Z"


def transformed(template: str, paths: dict[str, str] | None = None, event: dict[str, Any] | None = None) -> str:
    transformer = parse_transformer(template, PATHS if paths is None else paths)
    return transformer.render(event or EVENT, RULE_ARN, RULE_NAME, INGESTED)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('"instance <instance> is in <state>"', "instance i-0123456789 is in RUNNING"),
        (r'"instance \"<instance>\" is in <state>"', 'instance "i-0123456789" is in RUNNING'),
        ('{"instance" : <instance>, "state": <state>}', {"instance": "i-0123456789", "state": "RUNNING"}),
        (
            '{"instance" : <instance>, "state": "<state>",'
            r' "instanceStatus": "instance \"<instance>\" is in <state>"}',
            {
                "instance": "i-0123456789",
                "state": "RUNNING",
                "instanceStatus": 'instance "i-0123456789" is in RUNNING',
            },
        ),
        (
            '{"instance" : <instance>, "state": [ 9, <state>, true ], "Transformed" : "Yes"}',
            {"instance": "i-0123456789", "state": [9, "RUNNING", True], "Transformed": "Yes"},
        ),
        (
            '{"instance": <instance>, "ruleArn": <aws.events.rule-arn>, "ruleName": <aws.events.rule-name>,'
            ' "originalEvent": <aws.events.event.json>}',
            {"instance": "i-0123456789", "ruleArn": RULE_ARN, "ruleName": RULE_NAME, "originalEvent": EVENT},
        ),
        ('"<aws.events.rule-name> triggered"', "example triggered"),
    ],
)
def test_the_documented_examples(template: str, expected: Any) -> None:
    assert json.loads(transformed(template)) == expected


def test_predefined_variables_need_no_path() -> None:
    text = transformed('{"at": <aws.events.event.ingestion-time>, "event": <aws.events.event>}', {})
    without_detail = {name: value for name, value in EVENT.items() if name != "detail"}
    assert json.loads(text) == {"at": INGESTED, "event": without_detail}


def test_objects_stay_objects_and_lose_their_quotes_in_strings() -> None:
    assert json.loads(transformed('{"detail": <detail>}')) == {"detail": EVENT["detail"]}
    assert json.loads(transformed('"Detail is <detail>"')) == "Detail is {instance-id:i-0123456789,state:RUNNING}"


def test_values_of_other_types_are_json() -> None:
    event = {"detail": {"number": 1.5, "yes": True, "null": None, "list": [1, "a"]}}
    paths = {name: f"$.detail.{name}" for name in event["detail"]}
    text = transformed('[<number>, <yes>, <null>, <list>, "<number> <yes> <list>"]', paths, event)
    assert json.loads(text) == [1.5, True, None, [1, "a"], "1.5 true [1,a]"]


def test_a_path_that_leads_nowhere_makes_no_variable() -> None:
    assert transformed('"[<nothing>]"') == '"[]"'
    assert json.loads(transformed('{"a": <nothing>}')) == {"a": ""}


def test_strings_are_escaped_outside_quotes_and_put_in_as_they_are_within() -> None:
    event = {"detail": {"text": 'say "hi"\n'}}
    paths = {"text": "$.detail.text"}
    assert json.loads(transformed('{"text": <text>}', paths, event)) == {"text": 'say "hi"\n'}
    assert transformed('"<text>"', paths, event) == '"say "hi"\n"'


def test_lines_of_strings_are_kept() -> None:
    assert transformed('"<instance>"\n"<state>"') == '"i-0123456789"\n"RUNNING"'


@pytest.mark.parametrize(
    ("template", "paths", "reason"),
    [
        ('"<unknown>"', {}, "contains invalid placeholder unknown"),
        ("instance <instance> is up", PATHS, "line: 1, column: 1"),
        ('{"a": <instance>', PATHS, "line: 1, column: 8"),
        ('{"a":\n <instance> x}', PATHS, "line: 2, column: 4"),
        ("  ", {}, "line: 1, column: 1"),
        ('"<a>"', {"a": "detail.a"}, "detail.a does not begin with [$]"),
        ('"<a>"', {"a": "$.a[b]"}, r"cannot be read from column 4 on"),
        ('"<a>"', {"a": "$..a"}, "cannot be read from column 2 on"),
        ('"x"', {"aws.events.rule-arn": "$.a"}, "is not the name of a variable"),
        ('"x"', {"AWSName": "$.a"}, "is not the name of a variable"),
        ("[" * 100_000, {}, "line: 1, column: 1"),
    ],
)
def test_what_is_no_transformer(template: str, paths: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidTransformer, match=reason):
        parse_transformer(template, paths)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", EVENT),
        ("$.detail-type", "EC2 Instance State-change Notification"),
        ("$.resources[0]", EVENT["resources"][0]),
        ("$.resources[1]", MISSING),
        ("$.resources[*]", EVENT["resources"]),
        ("$.detail.*", ["i-0123456789", "RUNNING"]),
        ("$.source.x", MISSING),
        ("$.source[0]", MISSING),
        ("$.source.*", []),
        ("$.none", MISSING),
    ],
)
def test_paths(path: str, expected: Any) -> None:
    assert parse_path(path).find(EVENT) == expected


def test_elements_of_every_element() -> None:
    event = {"detail": {"items": [{"id": 1}, {}, {"id": 3}]}}
    assert parse_path("$.detail.items[*].id").find(event) == [1, 3]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_a_value_is_the_same_json_afterwards(value: Any) -> None:
    assert json.loads(transformed('{"v": <v>}', {"v": "$.v"}, {"v": value})) == {"v": value}

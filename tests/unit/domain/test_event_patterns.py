"""Event patterns, by the examples of EventBridge's guide and of AWS's own matcher.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambdad.domain.event_patterns import (
    NAMES_MAX,
    OR_COMBINATIONS_MAX,
    InvalidEventPatternException,
    compile_pattern,
)

INSTANCE = {
    "version": "0",
    "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "111122223333",
    "time": "2017-12-22T18:43:48Z",
    "region": "us-west-1",
    "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
    "detail": {
        "instance-id": "i-1234567890abcdef0",
        "state": "terminated",
        "c-count": 5,
        "d-count": 3,
        "x-limit": 301.8,
        "source-ip": "10.0.0.33",
    },
}


def matches(pattern: Any, event: Any) -> bool:
    return compile_pattern(json.dumps(pattern)).matches(event)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"source": ["aws.ec2"]}, True),
        ({"source": ["aws.s3"]}, False),
        ({"source": ["aws.s3", "aws.ec2"]}, True),
        ({"source": ["AWS.EC2"]}, False),
        (
            {
                "source": ["aws.ec2"],
                "detail-type": ["EC2 Instance State-change Notification"],
                "detail": {"state": ["terminated"]},
            },
            True,
        ),
        ({"source": ["aws.ec2"], "detail": {"state": ["running"]}}, False),
        ({"source": ["aws.ec2"], "no-such-field": ["x"]}, False),
        ({"resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0", "other"]}, True),
        ({"resources": ["arn:aws:ec2:us-west-1:123456789012:instance:i-1234567890abcdef0"]}, False),
        (
            {
                "time": [{"prefix": "2017-12-22"}],
                "detail": {
                    "state": [{"anything-but": "initializing"}],
                    "c-count": [{"numeric": [">", 0, "<=", 5]}],
                    "d-count": [{"numeric": ["<", 10]}],
                    "x-limit": [{"anything-but": [100, 200, 300]}],
                    "source-ip": [{"cidr": "10.0.0.0/8"}],
                },
            },
            True,
        ),
    ],
)
def test_whole_events(pattern: Any, expected: bool) -> None:
    assert matches(pattern, INSTANCE) is expected


FIELD = [
    # exact values; https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns-null-values.html
    (["a"], "a", True),
    ([""], "", True),
    ([""], None, False),
    ([None], None, True),
    ([None], "", False),
    ([None], "null", False),
    ([True], True, True),
    ([True], "true", False),
    ([True], 1, False),
    ([1], True, False),
    ([False], 0, False),
    ([100], 100, True),
    ([300], 300.0, True),
    ([3.0e2], 300, True),
    ([5], "5", False),
    (["5"], 5, False),
    ([111122223333], 111122223333, True),
    ([111122223333], 111122223334, False),
    ([{"exactly": "a"}], "a", True),
    (["::1"], "0:0:0:0:0:0:0:1", True),
    (["10:30"], "10:30", True),
    # prefix, suffix
    ([{"prefix": "2017-10-02"}], "2017-10-02T18:43:48Z", True),
    ([{"prefix": "2017-10-02"}], "2017-10-03T18:43:48Z", False),
    ([{"prefix": "5"}], 55, False),
    ([{"prefix": {"equals-ignore-case": "EventB"}}], "EVENTBRIDGE", True),
    ([{"prefix": {"equals-ignore-case": "EventB"}}], "xEventB", False),
    ([{"suffix": ".png"}], "a.png", True),
    ([{"suffix": ".png"}], "a.PNG", False),
    ([{"suffix": {"equals-ignore-case": ".png"}}], "a.PNG", True),
    ([{"suffix": {"equals-ignore-case": ".png"}}], "a.jpg", False),
    ([{"equals-ignore-case": "alice"}], "ALICE", True),
    ([{"equals-ignore-case": "alice"}], "alicia", False),
    ([{"equals-ignore-case": "5"}], 5, False),
    # anything-but
    ([{"anything-but": "initializing"}], "running", True),
    ([{"anything-but": "initializing"}], "initializing", False),
    ([{"anything-but": "initializing"}], None, True),
    ([{"anything-but": "5"}], 5, True),
    ([{"anything-but": 123}], 123.0, False),
    ([{"anything-but": 123}], 124, True),
    ([{"anything-but": 123}], "123", True),
    ([{"anything-but": ["stopped", "overloaded"]}], "overloaded", False),
    ([{"anything-but": ["stopped", "overloaded"]}], "running", True),
    ([{"anything-but": [100, 200, 300]}], 200, False),
    ([{"anything-but": [100, 200, 300]}], 201, True),
    ([{"anything-but": {"equals-ignore-case": "initializing"}}], "INITIALIZING", False),
    ([{"anything-but": {"equals-ignore-case": ["initializing", "stopped"]}}], "StopPed", False),
    ([{"anything-but": {"equals-ignore-case": ["initializing", "stopped"]}}], "running", True),
    ([{"anything-but": {"prefix": "init"}}], "initializing", False),
    ([{"anything-but": {"prefix": "init"}}], "running", True),
    ([{"anything-but": {"prefix": ["init", "error"]}}], "error-5", False),
    ([{"anything-but": {"prefix": ["init", "error"]}}], 7, True),
    ([{"anything-but": {"suffix": ".txt"}}], "a.txt", False),
    ([{"anything-but": {"suffix": [".txt", ".rtf"]}}], "a.rtf", False),
    ([{"anything-but": {"suffix": [".txt", ".rtf"]}}], "a.png", True),
    ([{"anything-but": {"wildcard": "*/lib/*"}}], "/usr/lib/x", False),
    ([{"anything-but": {"wildcard": ["*/lib/*", "*/bin/*"]}}], "/usr/bin/x", False),
    ([{"anything-but": {"wildcard": ["*/lib/*", "*/bin/*"]}}], "/usr/share/x", True),
    # any of several
    (["a", {"prefix": "b"}, {"numeric": ["=", 7]}], "bc", True),
    (["a", {"prefix": "b"}, {"numeric": ["=", 7]}], 7, True),
    (["a", {"prefix": "b"}, {"numeric": ["=", 7]}], "c", False),
    # numeric
    ([{"numeric": [">", 0, "<=", 5]}], 5, True),
    ([{"numeric": [">", 0, "<=", 5]}], 0, False),
    ([{"numeric": [">", 0, "<=", 5]}], 0.000001, True),
    ([{"numeric": [">", 0, "<=", 5]}], 5.000001, False),
    ([{"numeric": [">=", 0, "<", 5]}], 5, False),
    ([{"numeric": [">=", 0, "<", 5]}], 0, True),
    ([{"numeric": ["<", 10]}], 9.999, True),
    ([{"numeric": ["<", 10]}], 10, False),
    ([{"numeric": ["<=", 10]}], 10, True),
    ([{"numeric": [">", -1.5]}], -1.5, False),
    ([{"numeric": [">=", -1.5]}], -1.5, True),
    ([{"numeric": ["=", 3.018e2]}], 301.8, True),
    ([{"numeric": ["=", 3.018e2]}], "301.8", False),
    ([{"numeric": ["=", 1]}], True, False),
    ([{"numeric": ["<=", 5_000_000_000]}], 5_000_000_000, True),
    ([{"numeric": [">=", -5_000_000_000]}], -5e9, True),
    ([{"numeric": [">", 0]}], 5_000_000_001, False),
    # exists
    ([{"exists": True}], None, True),
    ([{"exists": True}], "", True),
    ([{"exists": True}], [], False),
    ([{"exists": True}], {}, False),
    ([{"exists": True}], {"x": 1}, False),
    ([{"exists": False}], "a", False),
    ([{"exists": False}], None, False),
    ([{"exists": False}], {"x": 1}, True),
    ([{"exists": False}], [], True),
    ([{"exists": False}, "a"], "a", True),
    ([{"exists": False}, "a"], "b", False),
    # cidr
    ([{"cidr": "10.0.0.0/24"}], "10.0.0.255", True),
    ([{"cidr": "10.0.0.0/24"}], "10.0.1.0", False),
    ([{"cidr": "10.0.0.7/32"}], "10.0.0.7", True),
    ([{"cidr": "0.0.0.0/0"}], "::1", False),
    ([{"cidr": "2001:db8::/32"}], "2001:DB8:0:1::9", True),
    ([{"cidr": "2001:db8::/32"}], "2001:db9::", False),
    ([{"cidr": "10.0.0.0/24"}], "host.example.com", False),
    ([{"cidr": "10.0.0.0/24"}], 10, False),
    # wildcard
    ([{"wildcard": "dir/*.png"}], "dir/a.png", True),
    ([{"wildcard": "dir/*.png"}], "dir/.png", True),
    ([{"wildcard": "dir/*.png"}], "dir/a.png.txt", False),
    ([{"wildcard": "*"}], "", True),
    ([{"wildcard": "*"}], 1, False),
    ([{"wildcard": "abc"}], "abc", True),
    ([{"wildcard": "a*a"}], "a", False),
    ([{"wildcard": "a*a"}], "aa", True),
    ([{"wildcard": "*ab*ba*"}], "aba", False),
    ([{"wildcard": "*ab*ba*"}], "abba", True),
    ([{"wildcard": r"dir/\*.png"}], "dir/*.png", True),
    ([{"wildcard": r"dir/\*.png"}], "dir/a.png", False),
    ([{"wildcard": r"c:\\*"}], "c:\\temp", True),
    # arrays: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns-arrays.html
    (["b", "x"], ["a", "b"], True),
    (["x"], ["a", "b"], False),
    (["x"], [["a"], ["b", ["x"]]], True),
    ([{"anything-but": "a"}], ["a", "b"], True),
    ([{"anything-but": ["a", "b"]}], ["a", "b"], False),
    ([{"anything-but": "a"}], [], False),
    ([{"exists": True}], [{}], False),
]


@pytest.mark.parametrize(("values", "value", "expected"), FIELD, ids=[f"{v!r}-{e!r}" for v, e, _ in FIELD])
def test_one_field(values: list[Any], value: Any, expected: bool) -> None:
    assert matches({"detail": {"x": values}}, {"detail": {"x": value}}) is expected


def test_an_absent_field() -> None:
    pattern = {"detail": {"c-count": [{"exists": False}]}}
    assert matches(pattern, {"detail": {"state": "running"}})
    assert matches(pattern, {"detail": "text"})
    assert matches(pattern, {})
    assert not matches(pattern, {"detail": {"c-count": 0}})
    assert not matches(pattern, {"detail": [{"c-count": 0}, {}]})
    assert not matches({"detail": {"x": [{"anything-but": "a"}]}}, {"detail": {}})
    assert not matches({"x": [None]}, {})
    both = {"a": {"b": [{"exists": False}], "c": [1]}}
    assert matches(both, {"a": [{"c": 1}, {"d": 2}]})
    assert not matches(both, {"a": [{"c": 1}, {"b": 2}]})


EMPLOYEES = [
    {"firstName": "John", "lastName": "Doe"},
    {"firstName": "Anna", "lastName": "Smith"},
    {"firstName": "Peter", "lastName": "Jones"},
]


@pytest.mark.parametrize("employees", [EMPLOYEES, [EMPLOYEES[:2], EMPLOYEES[2:]]])
def test_fields_of_one_element_of_an_array(employees: Any) -> None:
    event = {"employees": employees}
    assert matches({"employees": {"firstName": ["Anna"]}}, event)
    assert matches({"employees": {"firstName": ["Anna"], "lastName": ["Smith"]}}, event)
    assert not matches({"employees": {"firstName": ["Anna"], "lastName": ["Jones"]}}, event)


@pytest.mark.parametrize(
    "pattern", [{"detail": {"state": {"status": ["running"]}}}, {"detail": {"state.status": ["running"]}}]
)
@pytest.mark.parametrize(
    "event", [{"detail": {"state": {"status": "running"}}}, {"detail": {"state.status": "running"}}]
)
def test_names_with_dots(pattern: Any, event: Any) -> None:
    assert matches(pattern, event)
    assert matches({"detail.state.status": ["running"]}, event)
    assert not matches({"detail.state.status": ["stopped"]}, event)
    assert not matches({"detail.state.status": [{"exists": False}]}, event)
    assert matches({"detail.state": {"status": {"x": [{"exists": False}]}}}, event)


def test_a_value_and_fields_below_it() -> None:
    pattern = {"a": [1], "a.b": [2]}
    assert matches(pattern, {"a": [1, {"b": 2}]})
    assert matches(pattern, {"a": 1, "a.b": 2})
    assert not matches(pattern, {"a": {"b": 2}})


def test_the_later_condition_counts() -> None:
    assert compile_pattern('{"a": [1], "a": [2]}').matches({"a": 2})
    assert not compile_pattern('{"a": [1], "a": [2]}').matches({"a": 1})
    assert not compile_pattern('{"a": {"b": [1]}, "a": {"c": [2]}}').matches({"a": {"c": 2}})


OR = {
    "source": ["aws.cloudwatch"],
    "$or": [
        {"metricName": ["CPUUtilization", "ReadLatency"]},
        {
            "metricType": ["MetricType"],
            "namespace": ["AWS/EC2", "AWS/ES"],
            "$or": [{"metricId": [1234]}, {"spaceId": [1000]}],
        },
        {"scope": ["Service"]},
    ],
}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"metricName": "ReadLatency"}, True),
        ({"scope": "Service"}, True),
        ({"metricType": "MetricType", "namespace": "AWS/ES", "metricId": 1234}, True),
        ({"metricType": "MetricType", "namespace": "AWS/ES", "spaceId": 1000}, True),
        ({"metricType": "MetricType", "namespace": "AWS/ES"}, False),
        ({"metricType": "MetricType", "metricId": 1234}, False),
        ({}, False),
    ],
)
def test_or(event: dict[str, Any], expected: bool) -> None:
    assert matches(OR, {"source": "aws.cloudwatch"} | event) is expected
    assert not matches(OR, {"source": "aws.ec2"} | event)


def test_or_below_a_field_and_beside_another() -> None:
    pattern = {
        "$or": [{"metricName": ["A"]}, {"namespace": ["B"]}],
        "detail": {"$or": [{"c": [{"numeric": [">", 0]}]}, {"d": [{"exists": False}]}]},
    }
    assert matches(pattern, {"metricName": "A", "detail": {"c": 1, "d": 1}})
    assert matches(pattern, {"namespace": "B", "detail": {}})
    assert not matches(pattern, {"namespace": "B", "detail": {"d": 1}})
    assert not matches(pattern, {"detail": {}})


@pytest.mark.parametrize(
    ("pattern", "event"),
    [
        ({"$or": {"a": [1]}}, {"$or": {"a": 1}}),
        ({"$or": ["x", "y"]}, {"$or": "y"}),
        ({"$or": [{"prefix": "x"}, {"numeric": ["=", 1]}]}, {"$or": "xy"}),
        ({"$or": [{"exists": True}]}, {"$or": 1}),
    ],
)
def test_or_as_the_name_of_a_field(pattern: Any, event: Any) -> None:
    assert matches(pattern, event)
    assert not matches(pattern, {})


REFUSED = [
    ("[]", "Filter is not an object"),
    ('"x"', "Filter is not an object"),
    ("null", "Filter is not an object"),
    ("{}", "Empty objects are not allowed"),
    ('{"a": {}}', "Empty objects are not allowed"),
    ('{"$or": [{}, {"a": [1]}]}', "Empty objects are not allowed"),
    ('{"a": []}', "Empty arrays are not allowed"),
    ('{"slug": "some-pipeline"}', '"slug" must be an object or an array'),
    ('{"a": {"b": null}}', '"b" must be an object or an array'),
    ('{"a": [["x"]]}', "Match value must be String, number, true, false, or null"),
    ('{"a": [{}]}', "Match expression name not found"),
    ('{"a": [{"contains": "x"}]}', "Unrecognized match type contains"),
    ('{"$or": [{"a": ["x"]}]}', "Unrecognized match type a"),
    ('{"a": [{"prefix": "x", "suffix": "y"}]}', "Only one key allowed in match expression"),
    ('{"a": [{"exactly": 5}]}', "exact match pattern must be a string"),
    ('{"a": [{"prefix": 5}]}', "prefix match pattern must be a string"),
    ('{"a": [{"prefix": ["x"]}]}', "prefix match pattern must be a string"),
    ('{"a": [{"prefix": {}}]}', "Prefix expression name not found"),
    ('{"a": [{"prefix": {"suffix": "x"}}]}', "Unsupported prefix pattern: suffix"),
    ('{"a": [{"prefix": {"equals-ignore-case": 5}}]}', "equals-ignore-case match pattern must be a string"),
    ('{"a": [{"prefix": {"equals-ignore-case": "x", "y": 1}}]}', "Only one key allowed in match expression"),
    ('{"a": [{"suffix": null}]}', "suffix match pattern must be a string"),
    ('{"a": [{"suffix": {"prefix": "x"}}]}', "Unsupported suffix pattern: prefix"),
    ('{"a": [{"equals-ignore-case": ["x"]}]}', "equals-ignore-case match pattern must be a string"),
    ('{"a": [{"exists": "false"}]}', "exists match pattern must be either true or false."),
    ('{"a": [{"exists": 0}]}', "exists match pattern must be either true or false."),
    ('{"a": [{"anything-but": null}]}', "Value of anything-but must be an array or single string/number value."),
    ('{"a": [{"anything-but": true}]}', "Value of anything-but must be an array or single string/number value."),
    ('{"a": [{"anything-but": [null]}]}', "Inside anything but list, start|null|boolean is not supported."),
    ('{"a": [{"anything-but": [{"prefix": "x"}]}]}', "Inside anything but list, start|null|boolean is not supported."),
    (
        '{"a": [{"anything-but": ["x", 1]}]}',
        "Inside anything but list, either all values are number or string, mixed type is not supported",
    ),
    (
        '{"a": [{"anything-but": []}]}',
        "Inside anything but list, either all values are number or string, mixed type is not supported",
    ),
    ('{"a": [{"anything-but": 1e10}]}', "Value must be between -5.0E9 and 5.0E9, inclusive"),
    ('{"a": [{"anything-but": {}}]}', "Anything-But expression name not found"),
    ('{"a": [{"anything-but": {"numeric": ["=", 1]}}]}', "Unsupported anything-but pattern: numeric"),
    ('{"a": [{"anything-but": {"prefix": ""}}]}', "Null prefix/suffix not allowed"),
    ('{"a": [{"anything-but": {"suffix": 5}}]}', "prefix/suffix match pattern must be a string"),
    (
        '{"a": [{"anything-but": {"equals-ignore-case": [5]}}]}',
        "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported.",
    ),
    ('{"a": [{"anything-but": {"wildcard": "**"}}]}', "Consecutive wildcard characters at pos 1"),
    ('{"a": [{"numeric": 5}]}', "Value of numeric must be an array."),
    ('{"a": [{"numeric": []}]}', "Invalid member in numeric match: ]"),
    ('{"a": [{"numeric": [5]}]}', "Invalid member in numeric match: 5"),
    ('{"a": [{"numeric": ["!=", 5]}]}', "Unrecognized numeric range operator: !="),
    ('{"a": [{"numeric": ["=", "5"]}]}', "Value of equals must be numeric"),
    ('{"a": [{"numeric": [">", "0"]}]}', "Value of > must be numeric"),
    ('{"a": [{"numeric": ["<=", true]}]}', "Value of <= must be numeric"),
    ('{"a": [{"numeric": [">"]}]}', "Value of > must be numeric"),
    ('{"a": [{"numeric": ["<", 10, ">", 0]}]}', "Too many elements in numeric expression"),
    ('{"a": [{"numeric": [">", 0, 5]}]}', "Bad value in numeric range: 5"),
    ('{"a": [{"numeric": [">", 0, ">", 5]}]}', "Bad numeric range operator: >"),
    ('{"a": [{"numeric": [">", 0, "<", "5"]}]}', "Value of < must be numeric"),
    ('{"a": [{"numeric": [">", 0, "<", 5, "="]}]}', "Too many terms in numeric range expression"),
    ('{"a": [{"numeric": [">", 5, "<", 5]}]}', "Bottom must be less than top"),
    ('{"a": [{"numeric": ["<", 5000000001]}]}', "Value must be between -5.0E9 and 5.0E9, inclusive"),
    ('{"a": [{"cidr": 5}]}', "prefix match pattern must be a string"),
    ('{"a": [{"cidr": "10.0.0.0"}]}', "Malformed CIDR, one '/' required"),
    ('{"a": [{"cidr": "10.0.0.0/x"}]}', "Malformed CIDR, mask bits must be an integer"),
    ('{"a": [{"cidr": "10.0.0.0/-1"}]}', "Malformed CIDR, mask bits must not be negative"),
    ('{"a": [{"cidr": "10.0.0.0/33"}]}', "IPv4 mask bits must be < 33"),
    ('{"a": [{"cidr": "::/129"}]}', "IPv6 mask bits must be < 129"),
    ('{"a": [{"cidr": "example.com/8"}]}', "Nonstandard IP address: example.com"),
    ('{"a": [{"wildcard": 5}]}', "wildcard match pattern must be a string"),
    ('{"a": [{"wildcard": "a**"}]}', "Consecutive wildcard characters at pos 2"),
    ('{"a": [{"wildcard": "é\\\\n"}]}', "Invalid escape character at pos 3"),
    ('{"a": [{"wildcard": "a\\\\"}]}', "Invalid escape character at pos 2"),
    ('{"a": [NaN]}', "Unrecognized token 'NaN'"),
    ('{"a": [1', "Expecting ',' delimiter at line: 1, column: 9"),
    ("", "Expecting value at line: 1, column: 1"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=[text for text, _ in REFUSED])
def test_refusals(text: str, reason: str) -> None:
    with pytest.raises(InvalidEventPatternException) as caught:
        compile_pattern(text)
    assert caught.value.message == f"Event pattern is not valid. Reason: {reason}"


def test_limits() -> None:
    names = ".".join("a" * NAMES_MAX)
    assert matches({names: [{"exists": False}]}, {})
    with pytest.raises(InvalidEventPatternException, match="more than 100 levels"):
        compile_pattern(json.dumps({f"{names}.a": [1]}))
    branches = [{"a": [number]} for number in range(10)]
    least_too_many = {"x": {"$or": branches}, "y": {"$or": branches}, "z": {"$or": [*branches, {"a": [10]}]}}
    with pytest.raises(InvalidEventPatternException, match=f"more than {OR_COMBINATIONS_MAX} combinations"):
        compile_pattern(json.dumps(least_too_many))
    just_enough = least_too_many | {"z": {"$or": branches}}
    assert matches(just_enough, {"x": {"a": 9}, "y": {"a": 0}, "z": {"a": 5}})


def test_nesting_that_python_cannot_follow() -> None:
    with pytest.raises(InvalidEventPatternException, match="nested too deeply"):
        compile_pattern('{"a":' * 100_000)

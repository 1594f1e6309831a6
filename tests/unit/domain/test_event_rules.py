"""Rules: their ARNs and events, and the names of buses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambdad.domain.errors import ServiceError
from lambdad.domain.event_buses import BusKey, check_new_bus_name, event_time, merged_tags, parse_bus
from lambdad.domain.event_rules import Rule, check_rule, exact_sources, scheduled_event

ACCOUNT, REGION = "123456789012", "us-east-1"
DEFAULT, BUS = BusKey(ACCOUNT, REGION, "default"), BusKey(ACCOUNT, REGION, "orders")


def test_the_bus_is_in_the_arn_unless_it_is_the_default_one() -> None:
    assert Rule(DEFAULT, "r").arn == "arn:aws:events:us-east-1:123456789012:rule/r"
    assert Rule(BUS, "r").arn == "arn:aws:events:us-east-1:123456789012:rule/orders/r"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, DEFAULT),
        ("orders", BUS),
        (BUS.arn, BUS),
        ("arn:aws:events:eu-west-1:999999999999:event-bus/b", BusKey("999999999999", "eu-west-1", "b")),
    ],
)
def test_buses_are_named_by_name_or_arn(text: str | None, expected: BusKey) -> None:
    assert parse_bus(text, ACCOUNT, REGION) == expected


@pytest.mark.parametrize(
    "text", ["a b", "arn:aws:events:us-east-1:1:event-bus/b", "arn:aws:sqs:us-east-1:123456789012:q"]
)
def test_what_names_no_bus(text: str) -> None:
    with pytest.raises(ServiceError, match="Parameter EventBusName is not valid"):
        parse_bus(text, ACCOUNT, REGION)


def test_new_names_have_no_slash() -> None:
    check_new_bus_name("a.b-c_d")
    with pytest.raises(ServiceError, match=r"Event bus name must not contain '/'."):
        check_new_bus_name("aws.partner/a")


def test_a_rule_matches_or_has_a_schedule_on_the_default_bus() -> None:
    check_rule(DEFAULT, "", "rate(1 minute)")
    check_rule(BUS, "{}", "")
    with pytest.raises(ServiceError, match="EventPattern or ScheduleExpression must be specified"):
        check_rule(DEFAULT, "", "")
    with pytest.raises(ServiceError, match=r"ScheduleExpression is supported only on the default event bus."):
        check_rule(BUS, "", "rate(1 minute)")


def test_the_documented_scheduled_event() -> None:
    """https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-run-lambda-schedule.html"""
    rule = Rule(DEFAULT, "MyScheduledRule", schedule="rate(1 minute)")
    assert scheduled_event(rule, "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", 1_444_299_218_999) == {
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": "2015-10-08T10:13:38Z",
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/MyScheduledRule"],
        "detail": {},
    }


def test_times_are_to_the_second() -> None:
    assert event_time(1_700_000_000_999) == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"source": ["a", "b"], "detail": {"x": [1]}}, {"a", "b"}),
        ({"source": [{"prefix": "a"}]}, None),
        ({"source": ["a", None]}, None),
        ({"detail-type": ["a"]}, None),
        ({"source": ["a"], "$or": [{"source": ["b"]}, {"detail-type": ["c"]}]}, None),
    ],
)
def test_the_sources_that_a_pattern_insists_on(pattern: Any, expected: set[str] | None) -> None:
    assert exact_sources(json.dumps(pattern)) == expected


def test_tags_are_merged_and_limited() -> None:
    assert merged_tags({"a": "1", "b": "2"}, [{"Key": "b", "Value": "3"}]) == {"a": "1", "b": "3"}
    with pytest.raises(ServiceError, match="System tags"):
        merged_tags({}, [{"Key": "aws:x", "Value": ""}])
    with pytest.raises(ServiceError, match="at most 50 tags"):
        merged_tags({str(n): "" for n in range(50)}, [{"Key": "more", "Value": ""}])

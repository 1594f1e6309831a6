"""The policies of buses: statements of PutPermission, documents, and what they let in.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-bus-perms.html
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambdad.domain.errors import ServiceError
from lambdad.domain.event_bus_policies import (
    PUT_EVENTS,
    Access,
    allows,
    check_policy,
    with_statement,
    without_statement,
)
from lambdad.domain.event_buses import BusKey

OWNER, FRIEND, STRANGER = "111122223333", "222222222222", "333333333333"
BUS = BusKey(OWNER, "us-east-1", "orders")


def lets_in(policy: str, account_id: str, **context: str) -> bool:
    about = {name.replace("_", ":", 1): value for name, value in context.items()}
    return allows(policy, Access(PUT_EVENTS, account_id, BUS, about))


def document(**fields: Any) -> str:
    statement = {"Sid": "s", "Effect": "Allow", "Principal": "*", "Action": PUT_EVENTS, "Resource": BUS.arn, **fields}
    return check_policy(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


def test_without_a_policy_only_the_own_account_gets_in() -> None:
    assert lets_in("", OWNER)
    assert not lets_in("", FRIEND)


def test_a_statement_lets_an_account_in() -> None:
    policy = with_statement("", BUS, "friend", PUT_EVENTS, FRIEND, None)
    assert json.loads(policy) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "friend",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{FRIEND}:root"},
                "Action": "events:PutEvents",
                "Resource": BUS.arn,
            }
        ],
    }
    assert lets_in(policy, FRIEND)
    assert not lets_in(policy, STRANGER)
    policy = with_statement(policy, BUS, "all", PUT_EVENTS, "*", None)
    assert lets_in(policy, STRANGER)
    policy = with_statement(policy, BUS, "all", PUT_EVENTS, STRANGER, None)
    assert [each["Sid"] for each in json.loads(policy)["Statement"]] == ["friend", "all"]
    assert without_statement(without_statement(policy, "all"), "friend") == ""


def test_what_is_not_there_cannot_be_removed() -> None:
    with pytest.raises(ServiceError, match=r"EventBus does not have a policy."):
        without_statement("", "s")
    with pytest.raises(ServiceError, match=r"Statement with the provided id does not exist."):
        without_statement(document(), "other")


def test_no_account_is_in_an_organization() -> None:
    condition = {"Type": "StringEquals", "Key": "aws:PrincipalOrgID", "Value": "o-1"}
    assert not lets_in(with_statement("", BUS, "org", PUT_EVENTS, "*", condition), FRIEND)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Principal": {"AWS": FRIEND}}, True),
        ({"Principal": {"AWS": [STRANGER, f"arn:aws:iam::{FRIEND}:role/x"]}}, True),
        ({"Principal": {"Service": "s3.amazonaws.com"}}, False),
        ({"Action": ["events:PutRule", "events:Put*"]}, True),
        ({"Action": "events:PutRule"}, False),
        ({"Resource": "arn:aws:events:us-east-1:*:event-bus/o*"}, True),
        ({"Resource": "arn:aws:events:us-east-1:111122223333:event-bus/other"}, False),
        ({"Condition": {"StringEquals": {"events:source": ["shop", "x"]}}}, True),
        ({"Condition": {"StringLike": {"events:source": "s*"}}}, True),
        ({"Condition": {"StringEquals": {"events:source": "other"}}}, False),
        ({"Condition": {"StringEquals": {"events:source": "shop", "aws:PrincipalAccount": STRANGER}}}, False),
        ({"Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:events:*:*:rule/*"}}}, False),
    ],
)
def test_documents(fields: dict[str, Any], expected: bool) -> None:
    assert lets_in(document(**fields), FRIEND, events_source="shop") is expected


def test_the_rule_that_sends_may_be_asked_for() -> None:
    policy = document(Condition={"ArnEquals": {"aws:SourceArn": "arn:aws:events:us-east-1:222222222222:rule/r"}})
    assert lets_in(policy, FRIEND, aws_sourcearn="arn:aws:events:us-east-1:222222222222:rule/r")
    assert not lets_in(policy, FRIEND, aws_sourcearn="arn:aws:events:us-east-1:222222222222:rule/s")


def test_a_denial_holds_for_the_own_account_too() -> None:
    policy = document(Effect="Deny", Condition={"StringEquals": {"events:source": "shop"}})
    assert not lets_in(policy, OWNER, events_source="shop")
    assert lets_in(policy, OWNER, events_source="other")
    unknown = document(Effect="Deny", Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})
    assert not lets_in(unknown, OWNER)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"Statement": 1}',
        '{"Statement": [1]}',
        '{"Statement": [{"Effect": "Allow"}]}',
        '{"Statement": {"Effect": "Maybe", "Principal": "*", "Action": "a", "Resource": "*"}}',
        '{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "a", "Resource": "*", "Condition": []}}',
        '{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "a", "Resource": "*", "Condition": {"Bool": {}}}}',  # noqa: E501
    ],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(ServiceError, match="Parameter Policy is not valid"):
        check_policy(text)


def test_a_policy_has_a_limit() -> None:
    with pytest.raises(ServiceError) as caught:
        document(Sid="s" * 10_240)
    assert caught.value.code == "PolicyLengthExceededException"

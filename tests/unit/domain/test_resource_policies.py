"""Statements as AddPermission makes them, and what they allow."""

from __future__ import annotations

import json
import time

import pytest

from lambdad.domain.arns import FunctionKey
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.resource_policies import AccessRequest, Grant, ResourcePolicy, Statement, allows, arn_like

KEY = FunctionKey("123456789012", "us-east-2", "my-function")
BUCKET = "arn:aws:s3:::my-bucket"
INVOKE = "lambda:InvokeFunction"
CALLER = "arn:aws:iam::111111111111:root"


def statement(principal: str, action: str = INVOKE, **conditions: str) -> Statement:
    return Grant("s", action, principal, **conditions).statement(KEY.arn)  # type: ignore[arg-type]


def allowed(one: Statement, principal: str, action: str = INVOKE, **context: str) -> bool:
    names = {"arn": "AWS:SourceArn", "account": "AWS:SourceAccount"}
    return allows((one,), AccessRequest(action, principal, {names[name]: value for name, value in context.items()}))


def test_a_statement_and_a_policy_are_written_as_lambda_writes_them() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/permissions-function-services.html"""
    one = Grant("s3-account", INVOKE, "s3.amazonaws.com", BUCKET, "123456789012").statement(KEY.arn)
    written = (
        '{"Sid":"s3-account","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},'
        '"Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:us-east-2:123456789012:function:my-function",'
        '"Condition":{"StringEquals":{"AWS:SourceAccount":"123456789012"},'
        '"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::my-bucket"}}}'
    )
    policy = ResourcePolicy(KEY, "", (one,))
    assert policy.document() == '{"Version":"2012-10-17","Id":"default","Statement":[' + written + "]}"


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("s3.amazonaws.com", {"Service": "s3.amazonaws.com"}),
        ("logs.us-east-1.amazonaws.com", {"Service": "logs.us-east-1.amazonaws.com"}),
        ("alexa-appkit.amazon.com", {"Service": "alexa-appkit.amazon.com"}),
        ("111111111111", {"AWS": CALLER}),
        (CALLER, {"AWS": CALLER}),
        ("arn:aws:iam::111111111111:role/a/b", {"AWS": "arn:aws:iam::111111111111:role/a/b"}),
        ("*", "*"),
    ],
)
def test_principals(given: str, written: object) -> None:
    document = statement(given).document()
    assert document["Principal"] == written
    assert "Condition" not in document


@pytest.mark.parametrize(
    "given",
    [
        "amazonaws.com",
        "example.com",
        "11111111111",
        "arn:aws:s3:::b",
        "arn:aws:iam::1:root",
        "x.amazonaws.com.evil",
        "",
    ],
)
def test_what_is_no_principal_is_refused(given: str) -> None:
    with pytest.raises(InvalidParameterValueException, match="The provided principal was invalid"):
        statement(given)


def test_every_condition_is_under_its_operator() -> None:
    grant = Grant(
        "s",
        "lambda:InvokeFunctionUrl",
        "*",
        principal_org_id="o-a1b2c3d4e5f",
        event_source_token="token",
        function_url_auth_type="NONE",
        invoked_via_function_url=True,
    )
    assert grant.statement(KEY.arn).document()["Condition"] == {
        "StringEquals": {
            "aws:PrincipalOrgID": "o-a1b2c3d4e5f",
            "lambda:EventSourceToken": "token",
            "lambda:FunctionUrlAuthType": "NONE",
        },
        "Bool": {"lambda:InvokedViaFunctionUrl": "true"},
    }


@pytest.mark.parametrize(
    ("granted", "wanted", "expected"),
    [
        (INVOKE, INVOKE, True),
        ("lambda:invokefunction", INVOKE, True),
        ("lambda:*", INVOKE, True),
        ("*", INVOKE, True),
        ("lambda:GetFunction", INVOKE, False),
        ("lambda:InvokeFunctionUrl", INVOKE, False),
    ],
)
def test_actions(granted: str, wanted: str, expected: bool) -> None:
    assert allowed(statement("*", granted), CALLER, wanted) is expected


@pytest.mark.parametrize(
    ("granted", "wanted", "expected"),
    [
        ("s3.amazonaws.com", "s3.amazonaws.com", True),
        ("s3.amazonaws.com", "sns.amazonaws.com", False),
        ("s3.amazonaws.com", CALLER, False),
        ("111111111111", CALLER, True),
        ("111111111111", "arn:aws:iam::111111111111:role/r", True),
        ("111111111111", "arn:aws:iam::222222222222:root", False),
        ("111111111111", "s3.amazonaws.com", False),
        ("arn:aws:iam::111111111111:role/r", "arn:aws:iam::111111111111:role/r", True),
        ("arn:aws:iam::111111111111:role/r", "arn:aws:iam::111111111111:role/other", False),
        ("arn:aws:iam::111111111111:role/r", CALLER, False),
        ("*", CALLER, True),
        ("*", "sns.amazonaws.com", True),
    ],
)
def test_who_is_covered(granted: str, wanted: str, expected: bool) -> None:
    assert allowed(statement(granted), wanted) is expected


def test_all_conditions_must_hold() -> None:
    one = statement("s3.amazonaws.com", source_arn=BUCKET, source_account="123456789012")
    assert allowed(one, "s3.amazonaws.com", arn=BUCKET, account="123456789012")
    assert not allowed(one, "s3.amazonaws.com", arn=BUCKET, account="111111111111")
    assert not allowed(one, "s3.amazonaws.com", arn=BUCKET + "2", account="123456789012")
    assert not allowed(one, "s3.amazonaws.com", arn=BUCKET)
    assert not allowed(one, "s3.amazonaws.com")


@pytest.mark.parametrize(
    "condition",
    [
        {"principal_org_id": "o-a1b2c3d4e5f"},
        {"event_source_token": "token"},
        {"function_url_auth_type": "NONE"},
        {"invoked_via_function_url": True},
        {"invoked_via_function_url": False},
    ],
)
def test_a_condition_on_what_a_request_does_not_have_does_not_hold(condition: dict[str, str]) -> None:
    assert not allowed(statement("*", **condition), CALLER)


def test_one_statement_is_enough_and_none_is_not() -> None:
    request = AccessRequest(INVOKE, CALLER)
    assert allows((statement("s3.amazonaws.com"), statement("111111111111")), request)
    assert not allows((), request)


@pytest.mark.parametrize(
    ("pattern", "arn", "expected"),
    [
        (BUCKET, BUCKET, True),
        ("arn:aws:s3:::my-*", BUCKET, True),
        ("arn:aws:s3:::my-bucke?", BUCKET, True),
        ("arn:aws:s3:::my-bucket?", BUCKET, False),
        ("arn:aws:s3:::*", BUCKET, True),
        ("arn:*:s3:::my-bucket", BUCKET, True),
        ("arn:aws:*:my-bucket", BUCKET, False),
        (
            "arn:aws:logs:*:123456789012:log-group:/aws/*:*",
            "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/x:*",
            True,
        ),
        ("arn:aws:execute-api:us-east-1:1:a/*/GET/*", "arn:aws:execute-api:us-east-1:1:a/prod/GET/pets", True),
        ("arn:aws:execute-api:us-east-1:1:a/*/GET/*", "arn:aws:execute-api:us-east-1:1:a/prod/POST/pets", False),
        ("arn:aws:s3:::a[b]", "arn:aws:s3:::ab", False),
        ("arn:aws:s3:::*", "no ARN", False),
    ],
)
def test_arn_like_matches_part_by_part(pattern: str, arn: str, expected: bool) -> None:
    assert arn_like(pattern, arn) is expected


def test_no_pattern_takes_for_ever() -> None:
    began = time.process_time()
    assert not arn_like("arn:aws:s3:::" + "*a" * 1000 + "b", "arn:aws:s3:::" + "a" * 1000)
    assert time.process_time() - began < 5


def test_a_policy_is_json() -> None:
    policy = ResourcePolicy(KEY, "PROD", (statement("*"), statement("111111111111")))
    assert [one["Principal"] for one in json.loads(policy.document())["Statement"]] == ["*", {"AWS": CALLER}]

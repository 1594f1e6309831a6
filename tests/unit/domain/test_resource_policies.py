"""Statements as AddPermission makes them, and what they allow."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from lambdad.domain.arns import FunctionKey
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.policy_conditions import arn_like
from lambdad.domain.resource_policies import (
    ANONYMOUS,
    INVOKE_FUNCTION_URL,
    AccessRequest,
    Grant,
    ResourcePolicy,
    Statement,
    Verdict,
    allows,
    check_policy,
    compiled,
    policy_document,
    verdict,
)

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
        {"action": INVOKE_FUNCTION_URL, "function_url_auth_type": "NONE"},
        {"invoked_via_function_url": True},
        {"invoked_via_function_url": False},
    ],
)
def test_a_condition_on_what_a_request_does_not_have_does_not_hold(condition: dict[str, str]) -> None:
    one = statement("*", **condition)
    assert not allowed(one, CALLER, one.action)


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


ROLE = "arn:aws:iam::111111111111:role/team/r"


def one_statement(**members: object) -> dict[str, object]:
    statement: dict[str, object] = {"Effect": "Allow", "Principal": "*", "Action": INVOKE, "Resource": KEY.arn}
    statement.update(members)
    return {name: value for name, value in statement.items() if value is not None}


def policy_of(*statements: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def decided(*statements: object, principal: str = CALLER, action: str = INVOKE, **context: str) -> Verdict:
    document = policy_of(*statements)
    check_policy(document, KEY.arn)
    request = AccessRequest(action, principal, {name.replace("_", ":"): value for name, value in context.items()})
    return verdict(compiled(document), request)


def test_a_denial_wins_whatever_else_is_allowed() -> None:
    everyone = one_statement(Action="lambda:*")
    denial = one_statement(Effect="Deny", Principal={"AWS": ["111111111111"]}, Action="lambda:Invoke*")
    for statements in ((everyone, denial), (denial, everyone)):
        assert decided(*statements) is Verdict.DENY
        assert decided(*statements, principal=ROLE) is Verdict.DENY
        assert decided(*statements, principal="arn:aws:iam::222222222222:root") is Verdict.ALLOW
        assert decided(*statements, action="lambda:GetFunction") is Verdict.ALLOW
    assert decided(denial, principal="s3.amazonaws.com") is Verdict.NONE


def test_several_principals_actions_and_resources() -> None:
    wide = one_statement(
        Principal={"Service": ["s3.amazonaws.com", "sns.amazonaws.com"], "AWS": ["222222222222", ROLE]},
        Action=["lambda:GetFunction", "lambda:invokefunction"],
        Resource=["arn:aws:lambda:*:*:function:my-*", KEY.arn],
    )
    for principal in ("s3.amazonaws.com", "sns.amazonaws.com", "arn:aws:iam::222222222222:user/u", ROLE):
        assert decided(wide, principal=principal) is Verdict.ALLOW
        assert decided(wide, principal=principal, action="lambda:InvokeFunctionUrl") is Verdict.NONE
    for principal in ("sqs.amazonaws.com", CALLER, ANONYMOUS):
        assert decided(wide, principal=principal) is Verdict.NONE


def test_a_session_of_a_role_is_the_role() -> None:
    of_role = one_statement(Principal={"AWS": ROLE})
    session = "arn:aws:sts::111111111111:assumed-role/{}/s"
    assert decided(of_role, principal=session.format("r")) is Verdict.ALLOW
    assert decided(of_role, principal=session.format("other")) is Verdict.NONE
    assert decided(of_role, principal=session.format("r").replace("1" * 12, "2" * 12)) is Verdict.NONE


def test_only_what_everyone_may_is_for_those_who_have_not_signed() -> None:
    assert decided(one_statement(), principal=ANONYMOUS) is Verdict.ALLOW
    assert decided(one_statement(Principal={"AWS": "*"}), principal=ANONYMOUS) is Verdict.ALLOW
    assert decided(one_statement(Principal={"AWS": "111111111111"}), principal=ANONYMOUS) is Verdict.NONE
    account = {"StringEquals": {"aws:PrincipalAccount": "111111111111"}}
    assert decided(one_statement(Condition=account), principal=ANONYMOUS) is Verdict.NONE
    assert decided(one_statement(Condition=account)) is Verdict.ALLOW


def test_not_action_is_every_other_action() -> None:
    statement = one_statement(Action=None, NotAction=["lambda:InvokeFunctionUrl", "lambda:Delete*"])
    assert decided(statement) is Verdict.ALLOW
    assert decided(statement, action="lambda:DeleteFunction") is Verdict.NONE


def test_conditions_of_a_document() -> None:
    condition = {
        "Bool": {"lambda:InvokedViaFunctionUrl": "true"},
        "NotIpAddress": {"AWS:SourceIp": "10.0.0.0/8"},
        "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/team/*"},
    }
    denial = one_statement(Effect="Deny", Condition=condition)
    context = {"lambda_InvokedViaFunctionUrl": "true", "aws_SourceIp": "192.0.2.1"}
    assert decided(denial, principal=ROLE, **context) is Verdict.DENY
    assert decided(denial, principal=CALLER, **context) is Verdict.NONE
    assert decided(denial, principal=ROLE, **{**context, "aws_SourceIp": "10.1.1.1"}) is Verdict.NONE


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        ("[" * 20_000, "it is not JSON"),
        ("[]", "must be an object with the members"),
        ('{"Statement": [], "Statement": []}', "an object has a member twice"),
        (json.dumps({"Statement": []}), "it has no statement"),
        (json.dumps({"Version": "2012-10-17"}), "it has no statement"),
        (json.dumps({"Version": "2026-01-01", "Statement": [one_statement()]}), "Version must be 2012-10-17"),
        (policy_of("all"), "a statement must be an object"),
        (policy_of(one_statement(NotPrincipal={"AWS": "*"})), "the member NotPrincipal of a statement"),
        (policy_of(one_statement(Resource=None, NotResource="*")), "the member NotResource of a statement"),
        (policy_of(one_statement(Sid="a b")), "a b is not a statement id"),
        (policy_of(one_statement(Sid="a"), one_statement(Sid="a")), "statement ids must be unique"),
        (policy_of(one_statement(Effect="allow")), "Effect must be Allow or Deny"),
        (policy_of(one_statement(Action=None)), "either Action or NotAction"),
        (policy_of(one_statement(NotAction=INVOKE)), "either Action or NotAction"),
        (policy_of(one_statement(Action=[])), "Action must be text or a list of texts"),
        (policy_of(one_statement(Action="s3:GetObject")), "s3:getobject is not an action of Lambda"),
        (policy_of(one_statement(Principal=None)), "Principal must be"),
        (policy_of(one_statement(Principal={"Federated": "x"})), "Principal must be"),
        (policy_of(one_statement(Principal={"AWS": "nobody"})), "nobody is not a principal"),
        (policy_of(one_statement(Principal={"AWS": "s3.amazonaws.com"})), "is not a principal of the kind AWS"),
        (policy_of(one_statement(Principal={"Service": "*"})), "is not a principal of the kind Service"),
        (policy_of(one_statement(Resource=None)), "Resource must be text"),
        (policy_of(one_statement(Resource=[KEY.arn, f"{KEY.arn}:PROD"])), ":PROD is not arn:aws:lambda"),
        (policy_of(one_statement(Condition={"StringEquals": {"aws:SourceVpc": "v"}})), "aws:sourcevpc is not"),
        (policy_of(one_statement(Condition={"Near": {"aws:SourceArn": "v"}})), "Near is not supported"),
        (policy_of(one_statement(Effect="Deny", Action="lambda:*")), "can deny only actions that begin with"),
        (policy_of(one_statement(Effect="Deny", Action=None, NotAction=INVOKE)), "can deny only actions"),
    ],
)
def test_a_document_that_cannot_be_enforced_is_refused(document: str, message: str) -> None:
    with pytest.raises(InvalidParameterValueException) as caught:
        check_policy(document, KEY.arn)
    assert caught.value.message.startswith("The provided policy document is invalid: ")
    assert message in caught.value.message


def test_what_was_put_is_shown_as_it_was_put_and_what_is_added_comes_behind() -> None:
    text = f' {{"Statement": {json.dumps(one_statement(Sid="put", Principal={"AWS": "111111111111"}))} }}'
    policy = ResourcePolicy(KEY, "", put=text)
    assert policy.document() == text
    assert policy.sids == ["put"]
    added = replace(policy, statements=(statement("s3.amazonaws.com"),))
    first, second = json.loads(added.document())["Statement"]
    assert (first["Sid"], first["Principal"]) == ("put", {"AWS": "111111111111"})
    assert (second["Sid"], second["Principal"]) == ("s", {"Service": "s3.amazonaws.com"})
    assert added.sids == ["put", "s"]
    assert added.without("s") == policy
    left = added.without("put")
    assert left is not None
    assert left.document() == policy_document(added.statements)
    assert policy.without("put") is None
    assert left.without("s") is None

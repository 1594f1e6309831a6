"""Resource-based policies: AddPermission, RemovePermission, GetPolicy, and invocations from other accounts.

https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api_calls import Refusal, new_account, refusal, send
from daemons import Daemon, create_python

OWNER = "000000000000"
COUNTS = "n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return [n, context.invoked_function_arn]\n"
INVOKE = "lambda:InvokeFunction"


def denied(arn: str, account_id: str, action: str = "InvokeFunction") -> Refusal:
    return Refusal(
        "AccessDeniedException",
        403,
        f"User: arn:aws:iam::{account_id}:root is not authorized to perform: lambda:{action} on resource: {arn} "
        f"because no resource-based policy allows the lambda:{action} action",
    )


@pytest.fixture
def arn(aws_lambda: Any) -> str:
    """A function that counts, with the version 1 and the alias `live` to it."""
    created = create_python(aws_lambda, f"shared-{uuid.uuid4().hex[:8]}", COUNTS, Publish=True)
    unqualified, _, version = created["FunctionArn"].rpartition(":")
    aws_lambda.create_alias(FunctionName=unqualified, Name="live", FunctionVersion=version)
    return str(unqualified)


@pytest.fixture
def friend(shared_daemon: Daemon) -> tuple[str, Any]:
    """Another account, and its client."""
    account_id = new_account()
    return account_id, shared_daemon.client("lambda", account_id=account_id)


def let_in(aws_lambda: Any, arn: str, principal: str, sid: str = "friend", **options: Any) -> dict[str, Any]:
    answer = aws_lambda.add_permission(FunctionName=arn, StatementId=sid, Action=INVOKE, Principal=principal, **options)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    statement: dict[str, Any] = json.loads(answer["Statement"])
    return statement


def test_a_policy_is_what_was_added(aws_lambda: Any, arn: str) -> None:
    bucket = "arn:aws:s3:::amzn-s3-demo-bucket"
    first = let_in(aws_lambda, arn, "s3.amazonaws.com", "s3", SourceArn=bucket, SourceAccount="111122223333")
    assert first == {
        "Sid": "s3",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": INVOKE,
        "Resource": arn,
        "Condition": {"StringEquals": {"AWS:SourceAccount": "111122223333"}, "ArnLike": {"AWS:SourceArn": bucket}},
    }
    second = let_in(aws_lambda, arn, "111122223333", "account")
    assert second["Principal"] == {"AWS": "arn:aws:iam::111122223333:root"}
    of_alias = let_in(aws_lambda, arn, "*", "org", Qualifier="live", PrincipalOrgID="o-a1b2c3d4e5f")
    assert (of_alias["Principal"], of_alias["Resource"]) == ("*", f"{arn}:live")
    assert of_alias["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5f"}}
    of_version = let_in(aws_lambda, arn, "alexa-appkit.amazon.com", "skill", Qualifier="1", EventSourceToken="skill-id")
    assert of_version["Condition"] == {"StringEquals": {"lambda:EventSourceToken": "skill-id"}}

    got = aws_lambda.get_policy(FunctionName=arn)
    assert json.loads(got["Policy"]) == {"Version": "2012-10-17", "Id": "default", "Statement": [first, second]}
    assert got["RevisionId"] == aws_lambda.get_function_configuration(FunctionName=arn)["RevisionId"]
    got = aws_lambda.get_policy(FunctionName=f"{arn}:live")
    assert json.loads(got["Policy"])["Statement"] == [of_alias]
    assert got["RevisionId"] == aws_lambda.get_alias(FunctionName=arn, Name="live")["RevisionId"]

    removed = aws_lambda.remove_permission(FunctionName=arn, StatementId="s3")
    assert removed["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert json.loads(aws_lambda.get_policy(FunctionName=arn)["Policy"])["Statement"] == [second]


def test_refusals(aws_lambda: Any, arn: str) -> None:
    gone = Refusal("ResourceNotFoundException", 404, "The resource you requested does not exist.")
    assert refusal(aws_lambda.get_policy, FunctionName=arn) == gone
    stale = aws_lambda.get_function_configuration(FunctionName=arn)["RevisionId"]
    wanted = {"FunctionName": arn, "StatementId": "one", "Action": INVOKE, "Principal": "111122223333"}
    aws_lambda.add_permission(**wanted, RevisionId=stale)
    assert refusal(aws_lambda.add_permission, **wanted) == (
        "ResourceConflictException",
        409,
        "The statement id (one) provided already exists. Please provide a new statement id, or remove the existing "
        "statement.",
    )
    assert refusal(aws_lambda.remove_permission, FunctionName=arn, StatementId="one", RevisionId=stale) == (
        "PreconditionFailedException",
        412,
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetPolicy API to retrieve the latest Revision Id",
    )
    stopped = refusal(aws_lambda.update_function_configuration, FunctionName=arn, Timeout=9, RevisionId=stale)
    assert (stopped.code, stopped.status) == ("PreconditionFailedException", 412)
    assert refusal(aws_lambda.remove_permission, FunctionName=arn, StatementId="two") == (
        "ResourceNotFoundException",
        404,
        "Statement two is not found in resource policy.",
    )
    unknown = refusal(aws_lambda.add_permission, **{**wanted, "Principal": "nobody", "StatementId": "three"})
    assert unknown[:2] == ("InvalidParameterValueException", 400)
    for constraint in ({"Action": "s3:GetObject"}, {"StatementId": "a b"}, {"SourceAccount": "1"}):
        assert refusal(aws_lambda.add_permission, **{**wanted, **constraint}).code == "ValidationException"


def test_a_policy_that_becomes_too_long(aws_lambda: Any, arn: str) -> None:
    long = "arn:aws:s3:::" + "b" * 9_000
    let_in(aws_lambda, arn, "s3.amazonaws.com", "one", SourceArn=long)
    let_in(aws_lambda, arn, "s3.amazonaws.com", "two", SourceArn=long)
    refused = refusal(
        aws_lambda.add_permission,
        FunctionName=arn,
        StatementId="three",
        Action=INVOKE,
        Principal="s3.amazonaws.com",
        SourceArn=long,
    )
    assert refused[:2] == ("PolicyLengthExceededException", 400)
    assert refused.message.endswith("is bigger than the limit (20480).")


@pytest.mark.parametrize("qualifier", [None, "1", "live"])
@pytest.mark.parametrize(
    "principal", ["{}", "arn:aws:iam::{}:root", "*"], ids=["account id", "account ARN", "everyone"]
)
def test_another_account_invokes_what_it_is_allowed_to(
    aws_lambda: Any, arn: str, friend: tuple[str, Any], principal: str, qualifier: str | None
) -> None:
    account_id, client = friend
    named = f"{arn}:{qualifier}" if qualifier else arn
    assert refusal(client.invoke, FunctionName=named) == denied(named, account_id)
    let_in(aws_lambda, named, principal.format(account_id))
    for number in (1, 2):
        answer = client.invoke(FunctionName=named)
        assert json.loads(answer["Payload"].read()) == [number, named]
    other = arn if qualifier else f"{arn}:1"
    assert refusal(client.invoke, FunctionName=other) == denied(other, account_id)
    aws_lambda.remove_permission(FunctionName=named, StatementId="friend")
    assert refusal(client.invoke, FunctionName=named) == denied(named, account_id)


def test_every_way_of_invoking(shared_daemon: Daemon, aws_lambda: Any, arn: str, friend: tuple[str, Any]) -> None:
    account_id, client = friend

    def invoke_async(name: str) -> int:
        path = f"/2014-11-13/functions/{name}/invoke-async/"
        return send(shared_daemon, "POST", path, b"{}", account_id=account_id).status

    ways: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (client.invoke, {"InvocationType": "RequestResponse"}),
        (client.invoke, {"InvocationType": "Event"}),
        (client.invoke, {"InvocationType": "DryRun"}),
        (client.invoke_with_response_stream, {}),
    ]
    for call, options in ways:
        assert refusal(call, FunctionName=arn, **options) == denied(arn, account_id)
    assert invoke_async(arn) == 403
    let_in(aws_lambda, arn, account_id)
    for (call, options), status in zip(ways, (200, 202, 204, 200), strict=True):
        answer = call(FunctionName=arn, **options)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status
        if call == client.invoke_with_response_stream:
            parts = [event["PayloadChunk"]["Payload"] for event in answer["EventStream"] if "PayloadChunk" in event]
            assert json.loads(b"".join(parts))[1] == arn
    assert invoke_async(arn) == 202


def test_a_permission_to_invoke_is_none_to_do_more(aws_lambda: Any, arn: str, friend: tuple[str, Any]) -> None:
    account_id, client = friend
    aws_lambda.add_permission(FunctionName=arn, StatementId="all", Action="lambda:*", Principal=account_id)
    assert client.invoke(FunctionName=arn)["StatusCode"] == 200
    assert refusal(client.get_function, FunctionName=arn) == denied(arn, account_id, "GetFunction")
    assert refusal(client.get_policy, FunctionName=arn) == denied(arn, account_id, "GetPolicy")
    assert refusal(client.remove_permission, FunctionName=arn, StatementId="all") == denied(
        arn, account_id, "RemovePermission"
    )


def test_conditions_are_held_to(aws_lambda: Any, arn: str, friend: tuple[str, Any]) -> None:
    """A caller has no source, no organization and no function URL, so no statement that asks for one lets it in."""
    account_id, client = friend
    conditions: list[dict[str, Any]] = [
        {"SourceArn": "arn:aws:s3:::*"},
        {"SourceAccount": account_id},
        {"PrincipalOrgID": "o-a1b2c3d4e5f"},
        {"InvokedViaFunctionUrl": True},
    ]
    for number, condition in enumerate(conditions):
        let_in(aws_lambda, arn, "*", f"s{number}", **condition)
    assert refusal(client.invoke, FunctionName=arn) == denied(arn, account_id)


def test_a_function_that_is_not_there_is_not_spoken_of(friend: tuple[str, Any]) -> None:
    account_id, client = friend
    absent = f"arn:aws:lambda:us-east-1:{OWNER}:function:absent"
    assert refusal(client.invoke, FunctionName=absent) == denied(absent, account_id)


def test_environments_stay_when_permissions_change(aws_lambda: Any, arn: str) -> None:
    def count() -> int:
        return int(json.loads(aws_lambda.invoke(FunctionName=arn)["Payload"].read())[0])

    assert count() == 1
    let_in(aws_lambda, arn, "111122223333")
    assert count() == 2
    aws_lambda.remove_permission(FunctionName=arn, StatementId="friend")
    assert count() == 3
    aws_lambda.update_function_configuration(FunctionName=arn, Timeout=9)
    assert count() == 1


def test_a_policy_goes_with_its_function(aws_lambda: Any, arn: str, friend: tuple[str, Any]) -> None:
    account_id, client = friend
    let_in(aws_lambda, arn, account_id)
    let_in(aws_lambda, f"{arn}:live", account_id)
    aws_lambda.delete_alias(FunctionName=arn, Name="live")
    assert refusal(client.invoke, FunctionName=f"{arn}:live") == denied(f"{arn}:live", account_id)
    aws_lambda.delete_function(FunctionName=arn)
    create_python(aws_lambda, arn, COUNTS)
    assert refusal(client.invoke, FunctionName=arn) == denied(arn, account_id)


def test_a_policy_survives_a_crash(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        owner = daemon.client("lambda")
        arn = create_python(owner, "f", COUNTS)["FunctionArn"]
        let_in(owner, arn, "111111111111")
        before = owner.get_policy(FunctionName=arn)
        daemon.kill()
        daemon.start()
        after = daemon.client("lambda").get_policy(FunctionName=arn)
        assert [after[name] for name in ("Policy", "RevisionId")] == [before[name] for name in ("Policy", "RevisionId")]
        assert daemon.client("lambda", account_id="111111111111").invoke(FunctionName=arn)["StatusCode"] == 200
        assert refusal(daemon.client("lambda", account_id="222222222222").invoke, FunctionName=arn).status == 403

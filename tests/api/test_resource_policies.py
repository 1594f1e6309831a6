"""PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy: whole policies, and that they are enforced.

The AWS CLI leaves these operations out, so there is no test with it.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from api_calls import Refusal, new_account, refusal, send
from daemons import Daemon, create_python

OWNER = "000000000000"
INVOKE = "lambda:InvokeFunction"
SOURCE = "def handler(event, context): return context.invoked_function_arn"


@pytest.fixture
def arn(aws_lambda: Any) -> str:
    """A function with the version 1 and the alias `live` to it."""
    created = create_python(aws_lambda, f"policy-{uuid.uuid4().hex[:8]}", SOURCE, Publish=True)
    unqualified, _, version = created["FunctionArn"].rpartition(":")
    aws_lambda.create_alias(FunctionName=unqualified, Name="live", FunctionVersion=version)
    return str(unqualified)


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=1)


def allow(resource: str, principal: Any, **members: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": INVOKE, "Resource": resource, **members}


def explicitly_denied(arn: str, account_id: str) -> Refusal:
    return Refusal(
        "AccessDeniedException",
        403,
        f"User: arn:aws:iam::{account_id}:root is not authorized to perform: lambda:InvokeFunction on resource: {arn} "
        "with an explicit deny in a resource-based policy",
    )


def test_a_policy_is_shown_as_it_was_put(aws_lambda: Any, arn: str) -> None:
    for resource in (arn, f"{arn}:1", f"{arn}:live"):
        text = document(allow(resource, {"AWS": ["111122223333", "arn:aws:iam::444455556666:role/r"]}, Sid="friends"))
        put = aws_lambda.put_resource_policy(ResourceArn=resource, Policy=text)
        assert put["Policy"] == text
        got = aws_lambda.get_resource_policy(ResourceArn=resource)
        assert (got["Policy"], got["RevisionId"]) == (text, put["RevisionId"])
        assert aws_lambda.get_policy(FunctionName=resource)["Policy"] == text
        aws_lambda.add_permission(FunctionName=resource, StatementId="s3", Action=INVOKE, Principal="s3.amazonaws.com")
        both = json.loads(aws_lambda.get_resource_policy(ResourceArn=resource)["Policy"])["Statement"]
        assert [statement["Sid"] for statement in both] == ["friends", "s3"]
        aws_lambda.remove_permission(FunctionName=resource, StatementId="friends")
        left = json.loads(aws_lambda.get_policy(FunctionName=resource)["Policy"])["Statement"]
        assert [statement["Sid"] for statement in left] == ["s3"]
        deleted = aws_lambda.delete_resource_policy(ResourceArn=resource)
        assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
        gone = Refusal("ResourceNotFoundException", 404, "The resource you requested does not exist.")
        assert refusal(aws_lambda.get_resource_policy, ResourceArn=resource) == gone


def test_revisions_are_preconditions(aws_lambda: Any, arn: str) -> None:
    stale = aws_lambda.get_function_configuration(FunctionName=arn)["RevisionId"]
    text = document(allow(arn, "*"))
    current = aws_lambda.put_resource_policy(ResourceArn=arn, Policy=text, RevisionId=stale)["RevisionId"]
    assert current == aws_lambda.get_function_configuration(FunctionName=arn)["RevisionId"] != stale
    for call, wanted in (
        (aws_lambda.put_resource_policy, {"Policy": text}),
        (aws_lambda.delete_resource_policy, {}),
    ):
        refused = refusal(call, ResourceArn=arn, RevisionId=stale, **wanted)
        assert refused[:2] == ("PreconditionFailedException", 412)
    aws_lambda.delete_resource_policy(ResourceArn=arn, RevisionId=current)


def test_a_denial_wins_for_every_way_to_invoke(shared_daemon: Daemon, aws_lambda: Any, arn: str) -> None:
    account_id = new_account()
    friend = shared_daemon.client("lambda", account_id=account_id)
    resource = f"{arn}:live"
    everyone = allow(resource, "*", Action="lambda:*")
    aws_lambda.put_resource_policy(ResourceArn=resource, Policy=document(everyone))
    assert json.loads(friend.invoke(FunctionName=resource)["Payload"].read()) == resource
    assert json.loads(aws_lambda.invoke(FunctionName=resource)["Payload"].read()) == resource

    denial = {**everyone, "Effect": "Deny", "Principal": {"AWS": [account_id, OWNER]}, "Action": "lambda:Invoke*"}
    aws_lambda.put_resource_policy(ResourceArn=resource, Policy=document(everyone, denial))
    for client, caller in ((friend, account_id), (aws_lambda, OWNER)):
        denied = explicitly_denied(resource, caller)
        assert refusal(client.invoke, FunctionName=resource) == denied
        assert refusal(client.invoke, FunctionName=resource, InvocationType="Event") == denied
        assert refusal(client.invoke_with_response_stream, FunctionName=resource) == denied
    assert json.loads(aws_lambda.invoke(FunctionName=arn)["Payload"].read()) == arn
    of_third = shared_daemon.client("lambda", account_id=new_account())
    assert json.loads(of_third.invoke(FunctionName=resource)["Payload"].read()) == resource

    aws_lambda.put_resource_policy(ResourceArn=arn, Policy=document({**denial, "Resource": arn}))
    answer = send(shared_daemon, "POST", f"/2014-11-13/functions/{arn}/invoke-async/", {}, account_id=OWNER)
    assert answer.status == 403
    aws_lambda.delete_resource_policy(ResourceArn=arn)
    answer = send(shared_daemon, "POST", f"/2014-11-13/functions/{arn}/invoke-async/", {}, account_id=OWNER)
    assert answer.status == 202


def test_the_address_of_a_caller_is_a_condition(shared_daemon: Daemon, aws_lambda: Any, arn: str) -> None:
    def put(network: str) -> None:
        denial = {**allow(arn, "*"), "Effect": "Deny", "Condition": {"NotIpAddress": {"aws:SourceIp": network}}}
        aws_lambda.put_resource_policy(ResourceArn=arn, Policy=document(allow(arn, "*"), denial))

    asynchronous = f"/2014-11-13/functions/{arn}/invoke-async/"
    for network, statuses in (("127.0.0.0/8", [200, 200, 202]), ("192.0.2.0/24", [403, 403, 403])):
        put(network)
        answers = [
            send(shared_daemon, "POST", f"/2015-03-31/functions/{arn}/invocations", {}, account_id=account_id)
            for account_id in (OWNER, new_account())
        ]
        answers.append(send(shared_daemon, "POST", asynchronous, {}, account_id=OWNER))
        assert [answer.status for answer in answers] == statuses


def test_a_denial_is_kept_over_a_crash(daemon: Daemon) -> None:
    client = daemon.client("lambda")
    arn = create_python(client, "kept", SOURCE)["FunctionArn"]
    client.put_resource_policy(ResourceArn=arn, Policy=document({**allow(arn, "*"), "Effect": "Deny"}))
    daemon.kill()
    daemon.start()
    client = daemon.client("lambda")
    for _ in range(2):
        assert refusal(client.invoke, FunctionName=arn) == explicitly_denied(arn, OWNER)


def test_refusals(shared_daemon: Daemon, aws_lambda: Any, arn: str) -> None:
    cases = [
        (arn, "no JSON", "The provided policy document is invalid: it is not JSON."),
        (
            arn,
            document(allow(f"{arn}:live", "*")),
            f"The provided policy document is invalid: the resource {arn}:live is not {arn}, which the policy is for.",
        ),
        (
            arn,
            document(allow(arn, "*", Condition={"StringEquals": {"aws:SourceVpc": "vpc-1"}})),
            "The provided policy document is invalid: the condition key aws:sourcevpc is not supported by lambdad.",
        ),
        (f"{arn}:$LATEST", document(allow(arn, "*")), "We currently do not support adding policies for $LATEST."),
    ]
    for resource, text, message in cases:
        refused = refusal(aws_lambda.put_resource_policy, ResourceArn=resource, Policy=text)
        assert refused == ("InvalidParameterValueException", 400, message)
    long = document(allow(arn, "*")) + " " * 20_480
    assert refusal(aws_lambda.put_resource_policy, ResourceArn=arn, Policy=long).code == "ValidationException"
    absent = "arn:aws:lambda:us-east-1:000000000000:function:absent"
    for call, more in (
        (aws_lambda.put_resource_policy, {"Policy": document(allow(absent, "*"))}),
        (aws_lambda.get_resource_policy, {}),
        (aws_lambda.delete_resource_policy, {}),
    ):
        assert refusal(call, ResourceArn=absent, **more)[:2] == ("ResourceNotFoundException", 404)
        assert refusal(call, ResourceArn="absent", **more).code == "ValidationException"
    foreign = shared_daemon.client("lambda", account_id=new_account())
    refused = refusal(foreign.put_resource_policy, ResourceArn=arn, Policy=document(allow(arn, "*")))
    assert refused.code == "AccessDeniedException"

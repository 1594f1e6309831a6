"""The forms in which a function can be named, and the namespaces that names are in.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_RequestParameters
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from api_calls import new_account, refusal
from daemons import create_python

ACCOUNT = "000000000000"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function"
SAYS_ARN = "def handler(event, context):\n    return [context.function_name, context.invoked_function_arn]\n"
SAYS_WHERE = "import os\n\ndef handler(event, context):\n    return [os.environ['AWS_REGION'], event]\n"
MISMATCH = (
    "InvalidParameterValueException",
    400,
    "The derived qualifier from the function name does not match the specified qualifier.",
)
FORMS = {
    "name": "{name}",
    "with marker": "function:{name}",
    "partial ARN": ACCOUNT + ":function:{name}",
    "ARN": ARN + ":{name}",
}


@pytest.fixture(scope="module")
def name(aws_lambda: Any) -> Iterator[str]:
    """A function with the version 1 and the alias `live` to it; its name has every kind of character."""
    name = "Names-of_functions-42"
    create_python(aws_lambda, name, SAYS_ARN, Publish=True)
    aws_lambda.update_function_configuration(FunctionName=name, Timeout=9)
    aws_lambda.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    yield name
    aws_lambda.delete_function(FunctionName=name)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    ("qualifier", "version"), [(None, "$LATEST"), ("$LATEST", "$LATEST"), ("1", "1"), ("live", "1")]
)
def test_every_form_finds_the_function(
    aws_lambda: Any, name: str, form: str, qualifier: str | None, version: str
) -> None:
    named = form.format(name=name)
    ways = [{"FunctionName": named}]
    if qualifier is not None:
        ways = [
            {"FunctionName": named, "Qualifier": qualifier},
            {"FunctionName": f"{named}:{qualifier}"},
            {"FunctionName": f"{named}:{qualifier}", "Qualifier": qualifier},
        ]
    arn = f"{ARN}:{name}" if qualifier is None else f"{ARN}:{name}:{qualifier}"
    for way in ways:
        configuration = aws_lambda.get_function_configuration(**way)
        assert (configuration["Version"], configuration["FunctionArn"]) == (version, arn), way
        assert configuration["FunctionName"] == name
        assert aws_lambda.get_function(**way)["Configuration"]["FunctionArn"] == arn, way
        answer = aws_lambda.invoke(**way)
        assert answer["ExecutedVersion"] == version, way
        assert answer["Payload"].read() == f'["{name}", "{arn}"]'.encode(), way


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_operation_takes_every_form(aws_lambda: Any, name: str, form: str) -> None:
    named = form.format(name=name)
    arn = f"{ARN}:{name}"
    assert aws_lambda.update_function_configuration(FunctionName=named, Timeout=9)["FunctionArn"] == arn
    assert aws_lambda.list_versions_by_function(FunctionName=named)["Versions"][0]["FunctionArn"] == f"{arn}:$LATEST"
    assert aws_lambda.create_alias(FunctionName=named, Name="other", FunctionVersion="1")["AliasArn"] == f"{arn}:other"
    assert aws_lambda.get_alias(FunctionName=named, Name="other")["AliasArn"] == f"{arn}:other"
    assert len(aws_lambda.list_aliases(FunctionName=named)["Aliases"]) == 2
    aws_lambda.update_alias(FunctionName=named, Name="other", Description="x")
    aws_lambda.delete_alias(FunctionName=named, Name="other")
    aws_lambda.put_function_concurrency(FunctionName=named, ReservedConcurrentExecutions=1)
    assert aws_lambda.get_function_concurrency(FunctionName=named)["ReservedConcurrentExecutions"] == 1
    aws_lambda.delete_function_concurrency(FunctionName=named)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_function_can_be_created_under_every_form(aws_lambda: Any, unique: Any, form: str) -> None:
    name = unique()
    created = create_python(aws_lambda, form.format(name=name), SAYS_ARN)
    assert (created["FunctionName"], created["FunctionArn"]) == (name, f"{ARN}:{name}")
    aws_lambda.delete_function(FunctionName=form.format(name=name))
    assert refusal(aws_lambda.get_function, FunctionName=name).status == 404


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_two_qualifiers_must_agree(aws_lambda: Any, name: str, form: str) -> None:
    way = {"FunctionName": f"{form.format(name=name)}:1", "Qualifier": "live"}
    assert refusal(aws_lambda.get_function, **way) == MISMATCH
    assert refusal(aws_lambda.get_function_configuration, **way) == MISMATCH
    assert refusal(aws_lambda.invoke, **way) == MISMATCH
    assert refusal(aws_lambda.delete_function, **way) == MISMATCH


def test_a_function_may_be_called_function(shared_daemon: Any) -> None:
    client = shared_daemon.client("lambda", account_id=new_account())
    create_python(client, "function", SAYS_ARN, Publish=True)
    for named in ("function", "function:function", "function:function:1"):
        assert client.get_function(FunctionName=named)["Configuration"]["FunctionName"] == "function"


@pytest.mark.parametrize("call", ["get_function", "get_function_configuration", "invoke"])
@pytest.mark.parametrize("qualifier", ["2", "nobody", "007"])
def test_a_qualifier_that_is_not_there_is_not_found(aws_lambda: Any, name: str, call: str, qualifier: str) -> None:
    assert refusal(getattr(aws_lambda, call), FunctionName=name, Qualifier=qualifier) == (
        "ResourceNotFoundException",
        404,
        f"Function not found: {ARN}:{name}:{qualifier}",
    )


def test_another_region_is_not_reachable(aws_lambda: Any, name: str) -> None:
    elsewhere = f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:{name}"
    expected = (
        "ResourceNotFoundException",
        404,
        "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
    )
    assert refusal(aws_lambda.get_function, FunctionName=elsewhere) == expected
    assert refusal(aws_lambda.invoke, FunctionName=elsewhere) == expected


@pytest.mark.parametrize("form", ["111122223333:function:{}", "arn:aws:lambda:us-east-1:111122223333:function:{}"])
def test_another_account_is_not_authorized(aws_lambda: Any, name: str, form: str) -> None:
    def denied(action: str) -> tuple[str, int, str]:
        return (
            "AccessDeniedException",
            403,
            f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: lambda:{action} on resource: "
            f"arn:aws:lambda:us-east-1:111122223333:function:{name} because no resource-based policy allows the "
            f"lambda:{action} action",
        )

    named = form.format(name)
    assert refusal(aws_lambda.get_function, FunctionName=named) == denied("GetFunction")
    assert refusal(aws_lambda.invoke, FunctionName=named) == denied("InvokeFunction")
    assert refusal(aws_lambda.delete_function, FunctionName=named) == denied("DeleteFunction")
    assert refusal(create_python, client=aws_lambda, name=named, source=SAYS_ARN) == denied("CreateFunction")


@pytest.mark.parametrize(
    "wrong", ["with space", "a/b", "a:b:c", "ü", "fn!", "arn:aws:s3:::bucket", "fn:", ":1", "fn:a b"]
)
def test_what_is_no_name_is_refused(aws_lambda: Any, wrong: str) -> None:
    for call in (aws_lambda.get_function, aws_lambda.list_aliases, aws_lambda.invoke):
        answer = refusal(call, FunctionName=wrong)
        assert answer[:2] == ("ValidationException", 400)
        assert answer.message.startswith(
            f"1 validation error detected: Value '{wrong}' at 'functionName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?"
        )


@pytest.mark.parametrize("named", ["a.b", "nobody:$LATEST.PUBLISHED"])
def test_what_can_be_asked_for_and_cannot_be_created(aws_lambda: Any, named: str) -> None:
    """The service model has dots in the names that most operations take, and not in those of CreateFunction."""
    absent = ("ResourceNotFoundException", 404, f"Function not found: {ARN}:{named}")
    for call in (aws_lambda.get_function, aws_lambda.delete_function, aws_lambda.invoke):
        assert refusal(call, FunctionName=named) == absent
    assert refusal(create_python, client=aws_lambda, name=named, source=SAYS_ARN)[:2] == ("ValidationException", 400)


def test_a_name_has_64_characters_at_most(aws_lambda: Any, unique: Any) -> None:
    longest = unique().ljust(64, "x")
    assert create_python(aws_lambda, longest, SAYS_ARN)["FunctionName"] == longest
    assert refusal(create_python, client=aws_lambda, name=f"{longest}x", source=SAYS_ARN) == (
        "ValidationException",
        400,
        f"1 validation error detected: Value '{longest}x' at 'functionName' failed to satisfy constraint: "
        "Member must have length less than or equal to 64",
    )
    aws_lambda.delete_function(FunctionName=longest)


@pytest.mark.parametrize("qualifier", ["with space", "a:b", "x" * 129])
def test_what_is_no_qualifier_is_refused(aws_lambda: Any, name: str, qualifier: str) -> None:
    answer = refusal(aws_lambda.get_function, FunctionName=name, Qualifier=qualifier)
    assert answer[:2] == ("ValidationException", 400)
    assert f"Value '{qualifier}' at 'qualifier' failed to satisfy constraint: " in answer.message


def test_creation_takes_no_qualifier(aws_lambda: Any, unique: Any) -> None:
    assert refusal(create_python, client=aws_lambda, name=f"{unique()}:live", source=SAYS_ARN)[:2] == (
        "InvalidParameterValueException",
        400,
    )


def test_every_account_and_region_is_a_namespace(shared_daemon: Any, unique: Any) -> None:
    """A client chooses the account by an access key that is twelve digits, and the region as with AWS."""
    name = unique()
    places = [(account, region) for account in (new_account(), new_account()) for region in ("us-east-1", "eu-west-3")]
    clients = {
        (account, region): shared_daemon.client("lambda", account_id=account, region=region)
        for account, region in places
    }
    for memory, place in enumerate(places, 200):
        arn = create_python(clients[place], name, SAYS_WHERE, MemorySize=memory)["FunctionArn"]
        assert arn == f"arn:aws:lambda:{place[1]}:{place[0]}:function:{name}"
    for memory, place in enumerate(places, 200):
        listed = clients[place].list_functions()["Functions"]
        assert [(function["FunctionName"], function["MemorySize"]) for function in listed] == [(name, memory)]
        answer = clients[place].invoke(FunctionName=name, Payload=b'"hello"')
        assert answer["Payload"].read() == f'["{place[1]}", "hello"]'.encode()
    clients[places[0]].delete_function(FunctionName=name)
    assert refusal(clients[places[0]].get_function, FunctionName=name).status == 404
    for place in places[1:]:
        assert clients[place].get_function(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_every_other_key_is_of_the_default_account(shared_daemon: Any, unique: Any) -> None:
    name = unique()
    create_python(shared_daemon.client("lambda", account_id="test"), name, SAYS_ARN)
    for key in ("AKIAIOSFODNN7EXAMPLE", "somebody", "1234"):
        client = shared_daemon.client("lambda", account_id=key)
        assert client.get_function(FunctionName=name)["Configuration"]["FunctionArn"] == f"{ARN}:{name}"

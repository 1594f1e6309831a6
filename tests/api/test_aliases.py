"""CreateAlias, GetAlias, UpdateAlias, DeleteAlias, ListAliases, and the traffic that an alias divides.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-aliases.html
"""

from __future__ import annotations

import contextlib
import http.client
import math
import re
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import pytest

from api_calls import refusal
from daemons import Daemon, create_python

SAYS_VERSION = "def handler(event, context):\n    return context.function_version\n"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
INVOCATIONS = 10_000
WEIGHT = 0.1
# Six and a half standard deviations of a binomial count: a fair one is further away once in 10^10 times.
TOLERANCE = math.ceil(6.5 * math.sqrt(INVOCATIONS * WEIGHT * (1 - WEIGHT)))


@pytest.fixture
def function(aws_lambda: Any, unique: Any) -> str:
    """The name of a function with the versions 1 to 3."""
    name: str = unique()
    create_python(aws_lambda, name, SAYS_VERSION, Publish=True)
    for timeout in (11, 12):
        aws_lambda.update_function_configuration(FunctionName=name, Timeout=timeout)
        aws_lambda.publish_version(FunctionName=name)
    return name


def arn(name: str) -> str:
    return f"arn:aws:lambda:us-east-1:000000000000:function:{name}"


def weights(version: str, weight: float) -> dict[str, Any]:
    return {"AdditionalVersionWeights": {version: weight}}


def without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_an_alias_comes_back_as_it_was_created(aws_lambda: Any, function: str) -> None:
    created = aws_lambda.create_alias(FunctionName=function, Name="live", FunctionVersion="1", Description="Live")
    assert created.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    assert re.fullmatch(UUID, created["RevisionId"])
    assert created == {
        "AliasArn": f"{arn(function)}:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "Live",
        "RevisionId": created["RevisionId"],
    }
    assert without_metadata(aws_lambda.get_alias(FunctionName=function, Name="live")) == created


def test_an_alias_leads_to_its_version(aws_lambda: Any, function: str) -> None:
    aws_lambda.create_alias(FunctionName=function, Name="live", FunctionVersion="2")
    for named in ({"FunctionName": function, "Qualifier": "live"}, {"FunctionName": f"{arn(function)}:live"}):
        answer = aws_lambda.invoke(**named)
        assert (answer["ExecutedVersion"], answer["Payload"].read()) == ("2", b'"2"')
        configuration = aws_lambda.get_function_configuration(**named)
        assert (configuration["Version"], configuration["Timeout"]) == ("2", 11)
        assert configuration["FunctionArn"] == f"{arn(function)}:live"
    aws_lambda.update_alias(FunctionName=function, Name="live", FunctionVersion="3")
    assert aws_lambda.invoke(FunctionName=function, Qualifier="live")["Payload"].read() == b'"3"'


def test_an_alias_can_lead_to_latest(aws_lambda: Any, function: str) -> None:
    aws_lambda.create_alias(FunctionName=function, Name="next", FunctionVersion="$LATEST")
    answer = aws_lambda.invoke(FunctionName=function, Qualifier="next")
    assert (answer["ExecutedVersion"], answer["Payload"].read()) == ("$LATEST", b'"$LATEST"')


def test_an_update_changes_what_it_names(aws_lambda: Any, function: str) -> None:
    options = {"FunctionName": function, "Name": "live"}
    first = aws_lambda.create_alias(**options, FunctionVersion="1", Description="Old", RoutingConfig=weights("2", 0.1))
    second = aws_lambda.update_alias(**options, Description="New")
    assert (second["FunctionVersion"], second["Description"]) == ("1", "New")
    assert second["RoutingConfig"] == weights("2", 0.1)
    assert second["RevisionId"] != first["RevisionId"]
    third = aws_lambda.update_alias(**options, FunctionVersion="3")
    assert (third["FunctionVersion"], third["Description"]) == ("3", "New")
    assert third["RoutingConfig"] == weights("2", 0.1)
    assert aws_lambda.update_alias(**options, RoutingConfig=weights("1", 1.0))["RoutingConfig"] == weights("1", 1.0)
    assert "RoutingConfig" not in aws_lambda.update_alias(**options, RoutingConfig={})
    aws_lambda.update_alias(**options, RoutingConfig=weights("1", 0.5))
    assert "RoutingConfig" not in aws_lambda.update_alias(**options, RoutingConfig={"AdditionalVersionWeights": {}})
    assert aws_lambda.update_alias(**options, Description="")["Description"] == ""


def test_an_update_with_an_old_revision_id_changes_nothing(aws_lambda: Any, function: str) -> None:
    options = {"FunctionName": function, "Name": "live"}
    first = aws_lambda.create_alias(**options, FunctionVersion="1")["RevisionId"]
    second = aws_lambda.update_alias(**options, FunctionVersion="2", RevisionId=first)["RevisionId"]
    assert refusal(aws_lambda.update_alias, **options, FunctionVersion="3", RevisionId=first) == (
        "PreconditionFailedException",
        412,
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
    )
    now = aws_lambda.get_alias(**options)
    assert (now["FunctionVersion"], now["RevisionId"]) == ("2", second)


def test_a_deleted_alias_is_gone(aws_lambda: Any, function: str) -> None:
    options = {"FunctionName": function, "Name": "live"}
    aws_lambda.create_alias(**options, FunctionVersion="1")
    assert aws_lambda.invoke(FunctionName=function, Qualifier="live")["StatusCode"] == 200
    assert aws_lambda.delete_alias(**options)["ResponseMetadata"]["HTTPStatusCode"] == 204
    missing = ("ResourceNotFoundException", 404, f"Cannot find alias arn: {arn(function)}:live")
    assert refusal(aws_lambda.get_alias, **options) == missing
    assert refusal(aws_lambda.update_alias, **options, Description="x") == missing
    not_found = ("ResourceNotFoundException", 404, f"Function not found: {arn(function)}:live")
    assert refusal(aws_lambda.invoke, FunctionName=function, Qualifier="live") == not_found
    assert refusal(aws_lambda.get_function, FunctionName=function, Qualifier="live") == not_found
    assert aws_lambda.delete_alias(**options)["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_the_aliases_are_listed_by_name(aws_lambda: Any, function: str) -> None:
    for name, version, routing in [("c", "1", {}), ("a", "2", weights("3", 0.5)), ("b", "3", {}), ("B", "1", {})]:
        aws_lambda.create_alias(FunctionName=function, Name=name, FunctionVersion=version, RoutingConfig=routing)

    def names(**options: Any) -> list[str]:
        return [alias["Name"] for alias in aws_lambda.list_aliases(FunctionName=function, **options)["Aliases"]]

    assert names() == ["B", "a", "b", "c"]
    assert names(FunctionVersion="1") == ["B", "c"]
    assert names(FunctionVersion="3") == ["a", "b"]
    assert names(FunctionVersion="$LATEST") == []
    listed = aws_lambda.list_aliases(FunctionName=function)["Aliases"]
    assert listed == [
        without_metadata(aws_lambda.get_alias(FunctionName=function, Name=alias["Name"])) for alias in listed
    ]


def test_a_name_that_is_taken_is_refused(aws_lambda: Any, function: str) -> None:
    options = {"FunctionName": function, "Name": "live"}
    aws_lambda.create_alias(**options, FunctionVersion="1")
    assert refusal(aws_lambda.create_alias, **options, FunctionVersion="2") == (
        "ResourceConflictException",
        409,
        f"Alias already exists: {arn(function)}:live",
    )
    assert aws_lambda.get_alias(**options)["FunctionVersion"] == "1"


def test_an_alias_needs_a_version_that_exists(aws_lambda: Any, function: str) -> None:
    options = {"FunctionName": function, "Name": "live"}
    missing = ("ResourceNotFoundException", 404, f"Function not found: {arn(function)}:99")
    assert refusal(aws_lambda.create_alias, **options, FunctionVersion="99") == missing
    assert refusal(aws_lambda.create_alias, **options, FunctionVersion="1", RoutingConfig=weights("99", 0.5)) == missing
    aws_lambda.create_alias(**options, FunctionVersion="1")
    assert refusal(aws_lambda.update_alias, **options, FunctionVersion="99") == missing
    assert refusal(aws_lambda.update_alias, **options, RoutingConfig=weights("99", 0.5)) == missing


def test_aliases_need_their_function(aws_lambda: Any, unique: Any) -> None:
    name = unique()
    missing = ("ResourceNotFoundException", 404, f"Function not found: {arn(name)}")
    options = {"FunctionName": name, "Name": "live"}
    assert refusal(aws_lambda.create_alias, **options, FunctionVersion="1") == missing
    assert refusal(aws_lambda.get_alias, **options) == missing
    assert refusal(aws_lambda.update_alias, **options) == missing
    assert refusal(aws_lambda.delete_alias, **options) == missing
    assert refusal(aws_lambda.list_aliases, FunctionName=name) == missing


@pytest.mark.parametrize(
    ("version", "routing", "message"),
    [
        (
            "1",
            {"AdditionalVersionWeights": {"2": 0.1, "3": 0.1}},
            "Number of items in AdditionalVersionWeights cannot be greater than 1.",
        ),
        ("$LATEST", weights("1", 0.1), "$LATEST is not supported for an alias pointing to more than 1 version"),
        (
            "1",
            weights("1", 0.1),
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
    ],
    ids=["three versions", "latest", "the same version"],
)
def test_a_routing_that_makes_no_sense_is_refused(
    aws_lambda: Any, function: str, version: str, routing: Any, message: str
) -> None:
    options = {"FunctionName": function, "Name": "live"}
    expected = ("InvalidParameterValueException", 400, message)
    assert refusal(aws_lambda.create_alias, **options, FunctionVersion=version, RoutingConfig=routing) == expected
    assert aws_lambda.list_aliases(FunctionName=function)["Aliases"] == []


@pytest.mark.parametrize("name", ["42", "with space", "$LATEST", "a:b", "x" * 129])
def test_a_name_that_is_none_is_refused(aws_lambda: Any, function: str, name: str) -> None:
    answer = refusal(aws_lambda.create_alias, FunctionName=function, Name=name, FunctionVersion="1")
    assert answer[:2] == ("ValidationException", 400)
    assert f"Value '{name}' at 'name' failed to satisfy constraint: " in answer.message


@pytest.mark.parametrize("name", ["-1", "1a", "v1", "LATEST", "_"])
def test_a_name_may_look_like_a_version(aws_lambda: Any, function: str, name: str) -> None:
    aws_lambda.create_alias(FunctionName=function, Name=name, FunctionVersion="2")
    for named in ({"FunctionName": f"{function}:{name}"}, {"FunctionName": arn(function), "Qualifier": name}):
        found = aws_lambda.get_function_configuration(**named)
        assert (found["Version"], found["FunctionArn"]) == ("2", f"{arn(function)}:{name}")
        assert aws_lambda.invoke(**named)["ExecutedVersion"] == "2"
    assert refusal(aws_lambda.delete_function, FunctionName=f"{function}:{name}") == (
        "InvalidParameterValueException",
        400,
        "Deletion of aliases is not currently supported.",
    )


def test_a_number_with_zeros_before_it_is_no_version(aws_lambda: Any, function: str) -> None:
    named, target = f"{function}:01", f"{arn(function)}:01"
    missing = ("ResourceNotFoundException", 404, f"Function not found: {target}")
    permission = {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    assert refusal(aws_lambda.get_function, FunctionName=named) == missing
    assert refusal(aws_lambda.invoke, FunctionName=named) == missing
    assert refusal(aws_lambda.add_permission, FunctionName=named, **permission) == missing
    assert refusal(aws_lambda.create_alias, FunctionName=function, Name="x", FunctionVersion="01") == missing
    provisioned = {"FunctionName": named, "ProvisionedConcurrentExecutions": 1, "Qualifier": "01"}
    assert refusal(aws_lambda.put_provisioned_concurrency_config, **provisioned) == missing
    aws_lambda.delete_function(FunctionName=named)
    assert aws_lambda.get_function_configuration(FunctionName=f"{function}:1")["Version"] == "1"


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_a_weight_is_a_share(shared_daemon: Any, function: str, weight: float) -> None:
    routing = weights("2", weight)
    options = {"FunctionName": function, "Name": "live", "FunctionVersion": "1", "RoutingConfig": routing}
    answer = refusal(shared_daemon.client("lambda", parameter_validation=False).create_alias, **options)
    assert answer[:2] == ("ValidationException", 400)
    assert "at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: " in answer.message


def test_latest_takes_no_share(aws_lambda: Any, function: str) -> None:
    routing = weights("$LATEST", 0.5)
    answer = refusal(
        aws_lambda.create_alias, FunctionName=function, Name="live", FunctionVersion="1", RoutingConfig=routing
    )
    assert answer[:2] == ("ValidationException", 400)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_weight_can_be_all_or_nothing(aws_lambda: Any, function: str, weight: float) -> None:
    aws_lambda.create_alias(FunctionName=function, Name="live", FunctionVersion="1", RoutingConfig=weights("2", weight))
    wanted = "2" if weight else "1"
    for _ in range(20):
        answer = aws_lambda.invoke(FunctionName=function, Qualifier="live")
        assert (answer["ExecutedVersion"], answer["Payload"].read()) == (wanted, f'"{wanted}"'.encode())


def test_traffic_is_divided_by_the_weights(aws_lambda: Any, shared_daemon: Daemon, function: str) -> None:
    aws_lambda.create_alias(FunctionName=function, Name="live", FunctionVersion="1", RoutingConfig=weights("2", WEIGHT))
    target = f"/2015-03-31/functions/{function}:live/invocations"
    counted: Counter[str] = Counter()
    with contextlib.closing(http.client.HTTPConnection(urlsplit(shared_daemon.url).netloc, timeout=60)) as connection:
        for _ in range(INVOCATIONS):
            connection.request("POST", target, b"{}")
            response = connection.getresponse()
            version = response.headers["X-Amz-Executed-Version"]
            assert response.read() == f'"{version}"'.encode()
            counted[version] += 1
    assert counted.keys() == {"1", "2"}
    assert abs(counted["2"] - INVOCATIONS * WEIGHT) <= TOLERANCE


def test_a_dry_run_of_an_alias_runs_nothing(aws_lambda: Any, function: str) -> None:
    aws_lambda.create_alias(FunctionName=function, Name="live", FunctionVersion="1", RoutingConfig=weights("2", 0.5))
    answer = aws_lambda.invoke(FunctionName=f"{arn(function)}:live", InvocationType="DryRun")
    assert (answer["StatusCode"], answer["Payload"].read()) == (204, b"")
    missing = ("ResourceNotFoundException", 404, f"Function not found: {arn(function)}:gone")
    assert refusal(aws_lambda.invoke, FunctionName=f"{function}:gone", InvocationType="DryRun") == missing


def test_the_aliases_of_a_version_are_listed_page_by_page(aws_lambda: Any, function: str) -> None:
    for number in range(7):
        aws_lambda.create_alias(FunctionName=function, Name=f"a{number}", FunctionVersion=str(1 + number % 2))
    pages = aws_lambda.get_paginator("list_aliases").paginate(
        FunctionName=function, FunctionVersion="1", PaginationConfig={"PageSize": 2}
    )
    assert [[alias["Name"] for alias in page["Aliases"]] for page in pages] == [["a0", "a2"], ["a4", "a6"]]


def test_weighted_versions_have_the_same_role(aws_lambda: Any, function: str) -> None:
    message = "Both versions of a weighted alias must have the same execution role."
    other = "arn:aws:iam::000000000000:role/another-role"
    aws_lambda.update_function_configuration(FunctionName=function, Role=other)
    assert aws_lambda.publish_version(FunctionName=function)["Version"] == "4"
    options = {"FunctionName": function, "Name": "live", "FunctionVersion": "1"}
    refused = ("InvalidParameterValueException", 400, message)
    assert refusal(aws_lambda.create_alias, **options, RoutingConfig=weights("4", 0.5)) == refused
    aws_lambda.create_alias(**options, RoutingConfig=weights("2", 0.5))
    assert refusal(aws_lambda.update_alias, **options, RoutingConfig=weights("4", 0.5)) == refused
    aws_lambda.update_alias(**{**options, "FunctionVersion": "4"}, RoutingConfig={})

"""`RevisionId`: every operation of the model that takes one does nothing when it is not the latest.

https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionConfiguration.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import ServiceModel

from api_calls import refusal
from daemons import create_python, zip_of

MODEL = ServiceModel(Loader().load_service_model("lambda", "service-2"), "lambda")
OUTDATED: Final = "00000000-0000-4000-8000-000000000000"
HANDLER: Final = "def handler(event, context):\n    return 1\n"
SERVICE: Final = {"Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
FRIEND: Final = {"Action": "lambda:GetLayerVersion", "Principal": "111111111111"}

OF_FUNCTION: Final[Mapping[str, Mapping[str, Any]]] = {
    "UpdateFunctionCode": {"ZipFile": zip_of({"lambda_function.py": "# new"})},
    "UpdateFunctionConfiguration": {"Timeout": 9},
    "PublishVersion": {},
}
OF_ALIAS: Final[Mapping[str, Mapping[str, Any]]] = {"UpdateAlias": {"Description": "new"}}
OF_POLICY: Final[Mapping[str, Mapping[str, Any]]] = {
    "AddPermission": {"StatementId": "new", **SERVICE},
    "RemovePermission": {"StatementId": "there"},
}
OF_RESOURCE: Final = ("PutResourcePolicy", "DeleteResourcePolicy")
OF_LAYER: Final[Mapping[str, Mapping[str, Any]]] = {
    "AddLayerVersionPermission": {"StatementId": "new", **FRIEND},
    "RemoveLayerVersionPermission": {"StatementId": "there"},
}


@pytest.fixture
def function(aws_lambda: Any, unique: Any) -> str:
    """The name of a function with an alias; its unqualified ARN, its version 1 and the alias have each a policy."""
    name: str = unique()
    create_python(aws_lambda, name, HANDLER, Publish=True)
    aws_lambda.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    for target in (name, f"{name}:1", f"{name}:live"):
        aws_lambda.add_permission(FunctionName=target, StatementId="there", **SERVICE)
    return name


def check(client: Any, operation: str, parameters: Mapping[str, Any], latest: str) -> None:
    """Whether an operation does nothing for an outdated revision id, and its work for the latest one."""
    call = getattr(client, xform_name(operation))
    refused = refusal(call, **parameters, RevisionId=OUTDATED)
    assert refused[:2] == ("PreconditionFailedException", 412), operation
    assert refused.message.startswith("The Revision Id provided does not match the latest Revision Id. "), operation
    call(**parameters, RevisionId=latest)


def test_every_operation_that_takes_a_revision_id_is_here() -> None:
    shapes = {name: MODEL.operation_model(name).input_shape for name in MODEL.operation_names}
    taking = {name for name, shape in shapes.items() if shape is not None and "RevisionId" in shape.members}
    assert taking == {*OF_FUNCTION, *OF_ALIAS, *OF_POLICY, *OF_RESOURCE, *OF_LAYER}


@pytest.mark.parametrize("operation", OF_FUNCTION)
def test_of_a_function(aws_lambda: Any, function: str, operation: str) -> None:
    before = aws_lambda.get_function_configuration(FunctionName=function)
    check(aws_lambda, operation, {"FunctionName": function, **OF_FUNCTION[operation]}, before["RevisionId"])


@pytest.mark.parametrize("operation", OF_ALIAS)
def test_of_an_alias(aws_lambda: Any, function: str, operation: str) -> None:
    alias = {"FunctionName": function, "Name": "live"}
    check(aws_lambda, operation, {**alias, **OF_ALIAS[operation]}, aws_lambda.get_alias(**alias)["RevisionId"])


@pytest.mark.parametrize("operation", OF_POLICY)
def test_of_a_policy(aws_lambda: Any, function: str, operation: str) -> None:
    for target in (function, f"{function}:1", f"{function}:live"):
        latest = aws_lambda.get_policy(FunctionName=target)["RevisionId"]
        check(aws_lambda, operation, {"FunctionName": target, **OF_POLICY[operation]}, latest)


@pytest.mark.parametrize("operation", OF_RESOURCE)
def test_of_a_resource_policy(aws_lambda: Any, function: str, operation: str) -> None:
    arn = aws_lambda.get_function_configuration(FunctionName=function)["FunctionArn"]
    for resource in (arn, f"{arn}:1", f"{arn}:live"):
        there = aws_lambda.get_resource_policy(ResourceArn=resource)
        parameters = {"Policy": there["Policy"]} if operation == "PutResourcePolicy" else {}
        check(aws_lambda, operation, {"ResourceArn": resource, **parameters}, there["RevisionId"])


@pytest.mark.parametrize("operation", OF_LAYER)
def test_of_the_policy_of_a_layer(aws_lambda: Any, unique: Any, operation: str) -> None:
    name = unique()
    content = {"ZipFile": zip_of({"python/deps.py": "x = 1"})}
    version = aws_lambda.publish_layer_version(LayerName=name, Content=content)["Version"]
    layer = {"LayerName": name, "VersionNumber": version}
    for sid in ("there", "other"):
        aws_lambda.add_layer_version_permission(**layer, StatementId=sid, **FRIEND)
    latest = aws_lambda.get_layer_version_policy(**layer)["RevisionId"]
    check(aws_lambda, operation, {**layer, **OF_LAYER[operation]}, latest)
    after = aws_lambda.get_layer_version_policy(**layer)
    assert after["RevisionId"] not in (latest, OUTDATED)
    sids = [statement["Sid"] for statement in json.loads(after["Policy"])["Statement"]]
    assert sids == (["there", "other", "new"] if operation == "AddLayerVersionPermission" else ["other"])

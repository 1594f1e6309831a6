"""Which operations take a version or alias, in `FunctionName` or beside it, and how the others refuse one.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html#versioning-versions-using
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from api_calls import refusal, sample
from daemons import ROLE, Daemon
from lambdad.ingress.lambda_api.unsupported import UNSUPPORTED

MODEL = ServiceModel(Loader().load_service_model("lambda", "service-2"), "lambda")
ARN: Final = "arn:aws:lambda:us-east-1:000000000000:function:gone"
UNQUALIFIED: Final = (
    "InvalidParameterValueException",
    400,
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN.",
)
CONTRADICTION: Final = (
    "InvalidParameterValueException",
    400,
    "The derived qualifier from the function name does not match the specified qualifier.",
)

OF_FUNCTIONS: Final = frozenset(
    {
        "CreateAlias",
        "CreateFunction",
        "DeleteAlias",
        "DeleteFunctionCodeSigningConfig",
        "DeleteFunctionConcurrency",
        "GetAlias",
        "GetFunctionCodeSigningConfig",
        "GetFunctionConcurrency",
        "ListAliases",
        "ListFunctionEventInvokeConfigs",
        "ListProvisionedConcurrencyConfigs",
        "ListVersionsByFunction",
        "PublishVersion",
        "PutFunctionCodeSigningConfig",
        "PutFunctionConcurrency",
        "UpdateAlias",
        "UpdateFunctionCode",
        "UpdateFunctionConfiguration",
    }
)
"""A version or alias in the name is understood, and refused."""
OF_FUNCTIONS_BY_PATTERN: Final = frozenset(
    {
        "GetFunctionRecursionConfig",
        "GetFunctionScalingConfig",
        "PutFunctionRecursionConfig",
        "PutFunctionScalingConfig",
    }
)
"""The model's pattern of the name has no place for a qualifier; some have it as a parameter of its own."""
OF_VERSIONS: Final = frozenset(
    {
        "AddPermission",
        "DeleteFunction",
        "DeleteFunctionEventInvokeConfig",
        "DeleteProvisionedConcurrencyConfig",
        "GetFunction",
        "GetFunctionConfiguration",
        "GetFunctionEventInvokeConfig",
        "GetPolicy",
        "GetProvisionedConcurrencyConfig",
        "GetRuntimeManagementConfig",
        "Invoke",
        "InvokeWithResponseStream",
        "PutFunctionEventInvokeConfig",
        "PutProvisionedConcurrencyConfig",
        "PutRuntimeManagementConfig",
        "RemovePermission",
        "UpdateFunctionEventInvokeConfig",
    }
)
"""A qualifier may be in the name, or beside it, or in both places and then the same."""
OF_ALIASES: Final = frozenset(
    {
        "CreateFunctionUrlConfig",
        "DeleteFunctionUrlConfig",
        "GetFunctionUrlConfig",
        "ListFunctionUrlConfigs",
        "UpdateFunctionUrlConfig",
    }
)
"""An alias may be in the name, but for the list, or beside it; a version is refused by the model's patterns."""
WITHOUT_QUALIFIER: Final = frozenset(
    {"CreateEventSourceMapping", "InvokeAsync", "ListEventSourceMappings", "UpdateEventSourceMapping"}
)
"""A version or alias may be in the name, and there is no other place for it."""

EXTRA: Final[Mapping[str, Any]] = {
    "Action": "lambda:InvokeFunction",
    "Code": {"ZipFile": b"x"},
    "CodeSigningConfigArn": "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-0123456789abcdef0",
    "FunctionVersion": "1",
    "InvokeArgs": b"{}",
    "Principal": "s3.amazonaws.com",
    "Qualifier": "1",
    "Role": ROLE,
}
"""Of parameters that a sample of their shape is not good enough for."""
WANTED: Final[Mapping[str, Mapping[str, Any]]] = {
    "CreateFunction": {"Runtime": "python3.11", "Handler": "a.b"},
    "PutFunctionEventInvokeConfig": {"MaximumRetryAttempts": 1},
    "UpdateFunctionCode": {"ZipFile": b"x"},
    "UpdateFunctionEventInvokeConfig": {"MaximumRetryAttempts": 1},
}
"""Of parameters that an operation wants although the model does not say so."""


def with_function_name() -> set[str]:
    shapes = {
        name: MODEL.operation_model(name).input_shape for name in MODEL.operation_names if name not in UNSUPPORTED
    }
    return {name for name, shape in shapes.items() if shape is not None and "FunctionName" in shape.members}


def test_every_operation_that_takes_a_function_name_is_here() -> None:
    groups = (OF_FUNCTIONS, OF_FUNCTIONS_BY_PATTERN, OF_VERSIONS, OF_ALIASES, WITHOUT_QUALIFIER)
    assert set().union(*groups) == with_function_name()
    assert sum(map(len, groups)) == len(with_function_name())


@pytest.fixture(scope="module")
def client(shared_daemon: Daemon) -> Any:
    """One that sends what the model forbids."""
    return shared_daemon.client("lambda", parameter_validation=False)


def refused(client: Any, operation: str, **named: str) -> tuple[str, int, str]:
    """How an operation is refused, all else being as it should be."""
    methods = {name: method for method, name in client.meta.method_to_api_mapping.items()}
    parameters = sample(MODEL.operation_model(operation).input_shape)
    parameters.update({name: value for name, value in EXTRA.items() if name in parameters})
    return refusal(getattr(client, methods[operation]), **{**parameters, **WANTED.get(operation, {}), **named})


@pytest.mark.parametrize(
    "operation", sorted((OF_FUNCTIONS | OF_FUNCTIONS_BY_PATTERN | OF_VERSIONS | OF_ALIASES) - {"CreateFunction"})
)
def test_a_name_and_an_arn_are_the_same(client: Any, operation: str) -> None:
    expected = refused(client, operation, FunctionName="gone")
    assert expected[:2] == ("ResourceNotFoundException", 404)
    for name in ("000000000000:function:gone", "function:gone", ARN):
        assert refused(client, operation, FunctionName=name) == expected


@pytest.mark.parametrize("operation", sorted(OF_FUNCTIONS))
def test_an_operation_of_functions_takes_no_version(client: Any, operation: str) -> None:
    for name in ("gone:1", "gone:live", f"{ARN}:1", f"{ARN}:$LATEST"):
        assert refused(client, operation, FunctionName=name) == UNQUALIFIED


@pytest.mark.parametrize("operation", sorted(OF_FUNCTIONS_BY_PATTERN))
def test_a_name_that_has_no_place_for_a_version_is_none_with_it(client: Any, operation: str) -> None:
    for name in ("gone:1", f"{ARN}:live"):
        answer = refused(client, operation, FunctionName=name)
        assert answer[:2] == ("ValidationException", 400)
        assert f"Value '{name}' at 'functionName' failed to satisfy constraint: " in answer[2]


@pytest.mark.parametrize("operation", sorted(OF_VERSIONS))
def test_an_operation_of_versions_takes_one_in_either_place(client: Any, operation: str) -> None:
    expected = refused(client, operation, FunctionName="gone", Qualifier="1")
    assert expected[:2] == ("ResourceNotFoundException", 404)
    for name in ("gone:1", f"{ARN}:1", "000000000000:function:gone:1"):
        assert refused(client, operation, FunctionName=name) == expected
        assert refused(client, operation, FunctionName=name, Qualifier="1") == expected
        assert refused(client, operation, FunctionName=name, Qualifier="2") == CONTRADICTION


@pytest.mark.parametrize("operation", sorted(OF_ALIASES))
def test_a_function_url_is_of_a_function_or_an_alias(client: Any, operation: str) -> None:
    numbered = refused(client, operation, FunctionName="gone:1")
    assert numbered[:2] == ("ValidationException", 400)
    assert "Value 'gone:1' at 'functionName' failed to satisfy constraint: " in numbered[2]
    if operation == "ListFunctionUrlConfigs":
        assert refused(client, operation, FunctionName="gone:live") == UNQUALIFIED
        return
    expected = refused(client, operation, FunctionName="gone", Qualifier="live")
    assert expected[:2] == ("ResourceNotFoundException", 404)
    for name in ("gone:live", f"{ARN}:live"):
        assert refused(client, operation, FunctionName=name) == expected
        assert refused(client, operation, FunctionName=name, Qualifier="other") == CONTRADICTION
    assert refused(client, operation, FunctionName="gone", Qualifier="1")[:2] == ("ValidationException", 400)

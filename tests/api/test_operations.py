"""Every operation of the service model is decided: implemented, or answered with one explicit error."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from api_calls import refusal, sample
from lambdad.ingress.lambda_api import INVOKING, LambdaServices, operations
from lambdad.ingress.lambda_api.unsupported import UNSUPPORTED

MODEL = ServiceModel(Loader().load_service_model("lambda", "service-2"), "lambda")


def implemented() -> set[str]:
    nothing: list[Any] = [None] * len(fields(LambdaServices))
    return set(operations(LambdaServices(*nothing))) | INVOKING


def test_every_operation_of_the_model_is_implemented_or_declared_unsupported() -> None:
    assert implemented() | UNSUPPORTED == set(MODEL.operation_names)
    assert implemented().isdisjoint(UNSUPPORTED)


@pytest.mark.parametrize("operation", sorted(UNSUPPORTED))
def test_an_unsupported_operation_says_so(aws_lambda: Any, operation: str) -> None:
    methods = {name: method for method, name in aws_lambda.meta.method_to_api_mapping.items()}
    shape = MODEL.operation_model(operation).input_shape
    parameters = sample(shape) if shape is not None else {}
    assert refusal(getattr(aws_lambda, methods[operation]), **parameters) == (
        "NotImplementedException",
        501,
        f"The operation lambda:{operation} is not implemented by lambdad yet.",
    )

"""Names of functions in every form that the API takes."""

from __future__ import annotations

import pytest

from lambdad.domain.arns import FunctionKey, is_version, parse_function_name
from lambdad.domain.errors import (
    AccessDeniedException,
    InvalidParameterValueException,
    ResourceNotFoundException,
    ValidationException,
)

ACCOUNT, REGION = "123456789012", "us-east-1"
KEY = FunctionKey(ACCOUNT, REGION, "my-function")
FORMS = [
    "my-function",
    "function:my-function",
    f"{ACCOUNT}:function:my-function",
    f"{ACCOUNT}:my-function",
    f"{REGION}:{ACCOUNT}:function:my-function",
    f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:my-function",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("qualifier", [None, "$LATEST", "7", "PROD", "a-b_c"])
def test_every_form_with_and_without_a_qualifier(form: str, qualifier: str | None) -> None:
    text = form if qualifier is None else f"{form}:{qualifier}"
    reference = parse_function_name(text, ACCOUNT, REGION)
    assert reference.key == KEY
    assert reference.qualifier == qualifier
    assert reference.arn == KEY.arn if qualifier is None else f"{KEY.arn}:{qualifier}"


@pytest.mark.parametrize("form", FORMS)
def test_a_qualifier_beside_the_name(form: str) -> None:
    assert parse_function_name(form, ACCOUNT, REGION, "PROD").qualifier == "PROD"
    assert parse_function_name(f"{form}:PROD", ACCOUNT, REGION, "PROD").qualifier == "PROD"
    with pytest.raises(InvalidParameterValueException, match="derived qualifier"):
        parse_function_name(f"{form}:PROD", ACCOUNT, REGION, "DEV")


@pytest.mark.parametrize("text", ["", "a b", "f:x.y", "f:x:y", "arn:aws:s3:::bucket", "ä", "f:", "f\n", "f:$latest"])
def test_what_is_not_a_name(text: str) -> None:
    with pytest.raises(ValidationException, match="1 validation error detected: Value"):
        parse_function_name(text, ACCOUNT, REGION)


@pytest.mark.parametrize(
    ("text", "name", "qualifier"),
    [("my.function", "my.function", None), ("f:$LATEST.PUBLISHED", "f", "$LATEST.PUBLISHED")],
)
def test_what_the_service_model_has_beside_names(text: str, name: str, qualifier: str | None) -> None:
    reference = parse_function_name(text, ACCOUNT, REGION)
    assert (reference.key.name, reference.qualifier) == (name, qualifier)


def test_a_name_has_at_most_64_characters() -> None:
    assert parse_function_name("f" * 64, ACCOUNT, REGION).key.name == "f" * 64
    with pytest.raises(ValidationException, match="length less than or equal to 64"):
        parse_function_name("f" * 65, ACCOUNT, REGION)


def test_other_regions_and_accounts_are_out_of_reach() -> None:
    with pytest.raises(ResourceNotFoundException, match="Functions from 'eu-west-1' are not reachable"):
        parse_function_name(f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:f", ACCOUNT, REGION)
    with pytest.raises(AccessDeniedException, match="not authorized to perform: lambda:GetFunction"):
        parse_function_name("000000000000:function:f", ACCOUNT, REGION, action="GetFunction")


@pytest.mark.parametrize(("qualifier", "version"), [("$LATEST", True), ("12", True), ("PROD", False), ("1a", False)])
def test_versions_and_aliases_are_told_apart(qualifier: str, version: bool) -> None:
    assert is_version(qualifier) is version

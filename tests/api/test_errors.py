"""Errors as they go over the wire: status, headers and body.

https://docs.aws.amazon.com/lambda/latest/api/CommonErrors.html
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from api_calls import Answer, send
from daemons import Daemon, create_python

FUNCTIONS = "/2015-03-31/functions"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
ARN = "arn:aws:lambda:us-east-1:000000000000:function"


@pytest.fixture(scope="module")
def name(aws_lambda: Any) -> Iterator[str]:
    """A function that is throttled, with the version 1."""
    name = "errors-on-the-wire"
    create_python(aws_lambda, name, "def handler(event, context):\n    return event\n", Publish=True)
    aws_lambda.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    yield name
    aws_lambda.delete_function(FunctionName=name)


def check(answer: Answer, status: int, code: str, body: dict[str, str]) -> None:
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (status, code)
    assert re.fullmatch(UUID, answer.headers["x-amzn-requestid"])
    assert answer.headers["content-type"] == "application/json"
    assert answer.document == body


def test_resource_not_found(shared_daemon: Daemon) -> None:
    answer = send(shared_daemon, "GET", f"{FUNCTIONS}/nobody")
    check(answer, 404, "ResourceNotFoundException", {"Type": "User", "Message": f"Function not found: {ARN}:nobody"})


def test_resource_conflict(shared_daemon: Daemon, name: str) -> None:
    document = {"Name": "live", "FunctionVersion": "1"}
    assert send(shared_daemon, "POST", f"{FUNCTIONS}/{name}/aliases", document).status == 201
    answer = send(shared_daemon, "POST", f"{FUNCTIONS}/{name}/aliases", document)
    message = f"Alias already exists: {ARN}:{name}:live"
    check(answer, 409, "ResourceConflictException", {"Type": "User", "message": message})


def test_invalid_parameter_value(shared_daemon: Daemon, name: str) -> None:
    answer = send(shared_daemon, "PUT", f"{FUNCTIONS}/{name}/configuration", {"Runtime": "python1.0"})
    assert answer.document.keys() == {"Type", "message"}
    check(answer, 400, "InvalidParameterValueException", {**answer.document, "Type": "User"})
    assert answer.document["message"].startswith("Value python1.0 at 'runtime' failed to satisfy constraint: ")


def test_precondition_failed(shared_daemon: Daemon, name: str) -> None:
    answer = send(shared_daemon, "POST", f"{FUNCTIONS}/{name}/versions", {"RevisionId": "old"})
    message = (
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
    )
    check(answer, 412, "PreconditionFailedException", {"Type": "User", "message": message})


def test_too_many_requests(shared_daemon: Daemon, name: str) -> None:
    answer = send(shared_daemon, "POST", f"{FUNCTIONS}/{name}/invocations", {})
    body = {
        "Type": "User",
        "message": "Rate Exceeded.",
        "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
    }
    check(answer, 429, "TooManyRequestsException", body)


def test_validation(shared_daemon: Daemon, name: str) -> None:
    answer = send(shared_daemon, "PUT", f"{FUNCTIONS}/{name}/configuration", {"Timeout": 0, "MemorySize": 1})
    message = (
        "2 validation errors detected: "
        "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1; "
        "Value '1' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"
    )
    check(answer, 400, "ValidationException", {"Type": "User", "message": message})


def test_members_that_are_required(shared_daemon: Daemon) -> None:
    message = "3 validation errors detected: " + "; ".join(
        f"Value null at '{member}' failed to satisfy constraint: Member must not be null"
        for member in ("functionName", "role", "code")
    )
    answer = send(shared_daemon, "POST", FUNCTIONS, {})
    check(answer, 400, "ValidationException", {"Type": "User", "message": message})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Unexpected token received from parser"),
        (b"[]", "Start of list found where not expected"),
        (b'{"Timeout": "soon"}', "STRING_VALUE can not be converted to an Integer"),
    ],
    ids=["half", "list", "word"],
)
def test_serialization(shared_daemon: Daemon, name: str, body: bytes, message: str) -> None:
    answer = send(shared_daemon, "PUT", f"{FUNCTIONS}/{name}/configuration", body)
    check(answer, 400, "SerializationException", {"Type": "User", "message": message})


def test_a_value_that_is_nested_too_deep(shared_daemon: Daemon, name: str) -> None:
    body = b'{"Environment": ' + b'{"Variables": ' * 20_000 + b"}" * 20_001
    answer = send(shared_daemon, "PUT", f"{FUNCTIONS}/{name}/configuration", body)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "SerializationException")


def test_access_denied(shared_daemon: Daemon) -> None:
    answer = send(shared_daemon, "GET", f"{FUNCTIONS}/arn:aws:lambda:us-east-1:111122223333:function:theirs")
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert answer.document["message"].startswith("User: arn:aws:iam::000000000000:root is not authorized to perform: ")


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/2015-03-31/nothing"), ("PATCH", f"{FUNCTIONS}/x"), ("GET", "/nothing")]
)
def test_what_is_no_operation(shared_daemon: Daemon, method: str, target: str) -> None:
    answer = send(shared_daemon, method, target)
    assert answer.status == 403
    assert answer.document["message"] == "Unable to determine service/operation name to be authorized"


def test_not_implemented(shared_daemon: Daemon) -> None:
    answer = send(shared_daemon, "GET", "/2025-11-30/capacity-providers")
    message = "The operation lambda:ListCapacityProviders is not implemented by lambdad yet."
    check(answer, 501, "NotImplementedException", {"Type": "Service", "message": message})


def test_every_answer_has_a_request_id_of_its_own(shared_daemon: Daemon) -> None:
    answers = [send(shared_daemon, "GET", target) for target in (FUNCTIONS, FUNCTIONS, f"{FUNCTIONS}/nobody")]
    assert len({answer.headers["x-amzn-requestid"] for answer in answers}) == 3
    assert [answer.status for answer in answers] == [200, 200, 404]


def test_a_body_that_must_be_empty_is_empty(shared_daemon: Daemon, aws_lambda: Any, unique: Any) -> None:
    other = unique()
    create_python(aws_lambda, other, "def handler(event, context):\n    return event\n")
    answer = send(shared_daemon, "DELETE", f"{FUNCTIONS}/{other}")
    assert (answer.status, answer.body) == (204, b"")


def test_a_request_that_is_not_signed_is_answered_for_the_default_account(shared_daemon: Daemon, name: str) -> None:
    with urllib.request.urlopen(f"{shared_daemon.url}{FUNCTIONS}/{name}/configuration") as page:
        assert page.status == 200

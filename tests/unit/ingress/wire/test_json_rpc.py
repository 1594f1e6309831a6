"""json 1.0 and 1.1: the operation in a header."""

from __future__ import annotations

import json

import pytest

from lambdad.domain.errors import (
    ResourceNotFoundException,
    SerializationException,
    ServiceError,
    ServiceException,
    UnknownOperationException,
)
from lambdad.ingress.wire.scalars import UnmodelledOutput
from lambdad.ingress.wire.service import Service
from unit.ingress.wire.requests import request, to_botocore


@pytest.mark.parametrize("target", [None, "", "Logs_20140328", "Logs_20140328.Unheard", "Other.CreateLogGroup"])
def test_an_operation_that_does_not_exist(target: str | None) -> None:
    service = Service.load("logs")
    with pytest.raises(UnknownOperationException) as caught:
        service.match(request("POST", "/", {} if target is None else {"x-amz-target": target}))
    response = service.render_error(caught.value, "0123-abcd", None)
    assert response.status == 404
    assert isinstance(response.body, bytes)
    assert json.loads(response.body)["__type"] == "UnknownOperationException"


def test_an_empty_body_is_an_empty_input() -> None:
    service = Service.load("logs")
    asked = request("POST", "/", {"x-amz-target": "Logs_20140328.DescribeLogGroups"})
    assert service.parse(service.match(asked), asked, b"") == {}
    assert service.parse(service.match(asked), asked, b"{}") == {}
    with pytest.raises(SerializationException):
        service.parse(service.match(asked), asked, b"[]")


def test_an_answer() -> None:
    response = Service.load("logs").render(
        "PutLogEvents", {"nextSequenceToken": "ä", "rejectedLogEventsInfo": None}, "1"
    )
    assert (response.status, response.body) == (200, '{"nextSequenceToken":"ä"}'.encode())
    assert response.headers == [("x-amzn-RequestId", "1"), ("Content-Type", "application/x-amz-json-1.1")]


def test_an_operation_without_output_answers_nothing() -> None:
    response = Service.load("logs").render("CreateLogGroup", {}, "1")
    assert (response.status, response.body) == (200, b"")
    with pytest.raises(UnmodelledOutput):
        Service.load("logs").render("CreateLogGroup", {"logGroupName": "g"}, "1")


class DataAlreadyAcceptedException(ServiceError):
    code = "DataAlreadyAcceptedException"
    status = 400


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (
            ResourceNotFoundException("The specified log group does not exist."),
            400,
            {"__type": "ResourceNotFoundException", "message": "The specified log group does not exist."},
        ),
        (
            DataAlreadyAcceptedException("Again.", expectedSequenceToken="7"),
            400,
            {"__type": "DataAlreadyAcceptedException", "message": "Again.", "expectedSequenceToken": "7"},
        ),
        # Each service has a name of its own for its faults.
        (ServiceException("Oh."), 500, {"__type": "ServiceUnavailableException", "message": "Oh."}),
    ],
)
def test_an_error(error: ServiceError, status: int, body: dict[str, str]) -> None:
    service = Service.load("logs")
    response = service.render_error(error, "1", "PutLogEvents")
    assert isinstance(response.body, bytes)
    assert (response.status, json.loads(response.body)) == (status, body)
    assert response.headers == [("x-amzn-RequestId", "1"), ("Content-Type", "application/x-amz-json-1.1")]
    assert to_botocore(service.model, "PutLogEvents", response)["Error"]["Code"] == body["__type"]


def test_json_1_0_says_so() -> None:
    headers = dict(Service.load("sqs").render("ListQueues", {}, "1").headers)
    assert headers["Content-Type"] == "application/x-amz-json-1.0"


def test_an_output_that_cannot_be_encoded_is_replaced_as_java_replaces_it() -> None:
    response = Service.load("logs").render("PutLogEvents", {"nextSequenceToken": "a\ud800"}, "1")
    assert response.body == b'{"nextSequenceToken":"a?"}'

"""rest-json: what stands where in a request and an answer."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.model import ServiceModel

from lambdad.domain.errors import (
    InvalidParameterValueException,
    ResourceNotFoundException,
    SerializationException,
    ServiceException,
    TooManyRequestsException,
    ValidationException,
)
from lambdad.ingress.messages import Response
from lambdad.ingress.wire.scalars import UnmodelledOutput
from lambdad.ingress.wire.service import Service, UnsupportedProtocol
from unit.ingress.wire.requests import from_botocore, request, to_botocore

MOMENT = datetime(2024, 2, 29, 12, 30, 5, tzinfo=UTC)
SCALARS = {kind.title(): {"type": kind} for kind in ["string", "boolean", "integer", "double", "timestamp", "blob"]}


def service_with(shapes: dict[str, Any], **http: Any) -> Service:
    """A service with one operation, Do, from Input to Output."""
    http = {"method": "POST", "requestUri": "/do", **http}
    operation = {"name": "Do", "http": http, "input": {"shape": "Input"}, "output": {"shape": "Output"}, "errors": []}
    shapes = {"Input": {"type": "structure", "members": {}}, "Output": {"type": "structure", "members": {}}, **shapes}
    metadata = {"protocol": "rest-json", "apiVersion": "1", "endpointPrefix": "do", "serviceId": "do"}
    return Service(
        ServiceModel({"metadata": metadata, "operations": {"Do": operation}, "shapes": SCALARS | shapes}, "do")
    )


def at(location: str, shape: str, name: str, **more: Any) -> dict[str, Any]:
    return {"shape": shape, "location": location, "locationName": name, **more}


EVERYWHERE = {
    "Strings": {"type": "list", "member": {"shape": "String"}},
    "Integers": {"type": "list", "member": {"shape": "Integer"}},
    "Map": {"type": "map", "key": {"shape": "String"}, "value": {"shape": "String"}},
    "MapOfLists": {"type": "map", "key": {"shape": "String"}, "value": {"shape": "Strings"}},
}
FROM_TEXT = {
    "Whole": at("querystring", "Integer", "whole"),
    "Half": at("querystring", "Double", "half"),
    "Really": at("querystring", "Boolean", "really"),
    "When": at("querystring", "Timestamp", "when"),
    "Epoch": at("querystring", "Timestamp", "epoch", timestampFormat="unixTimestamp"),
    "Several": at("querystring", "Integers", "several"),
    "HeaderWhen": at("header", "Timestamp", "X-When"),
    "HeaderWhole": at("header", "Integer", "X-Whole"),
    "HeaderReally": at("header", "Boolean", "X-Really"),
    "HeaderList": at("header", "Strings", "X-List"),
    "Json": at("header", "String", "X-Json", jsonvalue=True),
    "Meta": at("headers", "Map", "X-Meta-"),
    "InBody": {"shape": "Timestamp", "timestampFormat": "iso8601", "locationName": "in-body"},
}
VALUES = {
    "Whole": -3,
    "Half": 1.5,
    "Really": True,
    "When": MOMENT,
    "Epoch": MOMENT,
    "Several": [1, 2],
    "HeaderWhen": MOMENT,
    "HeaderWhole": 7,
    "HeaderReally": False,
    "HeaderList": ["a", "b"],
    "Json": {"a": [1, None]},
    "Meta": {"one": "1", "two": "2"},
    "InBody": MOMENT,
}


def test_a_member_is_read_from_where_the_model_puts_it() -> None:
    service = service_with({**EVERYWHERE, "Input": {"type": "structure", "members": FROM_TEXT}})
    sent, body = from_botocore(service.model, "Do", VALUES)
    assert json.loads(body) == {"in-body": "2024-02-29T12:30:05Z"}
    assert service.parse(service.match(sent), sent, body) == VALUES


def test_a_member_is_written_to_where_the_model_puts_it() -> None:
    members = {name: member for name, member in FROM_TEXT.items() if member.get("location") != "querystring"}
    members["Blob"] = {"shape": "Blob"}
    service = service_with({**EVERYWHERE, "Output": {"type": "structure", "members": members}}, responseCode=202)
    output = {name: VALUES[name] for name in members if name in VALUES} | {"Blob": b"\xff"}
    response = service.render("Do", output, "0123-abcd")
    headers = dict(response.headers)
    assert response.status == 202
    assert headers["x-amzn-RequestId"] == "0123-abcd"
    assert headers["X-When"] == "Thu, 29 Feb 2024 12:30:05 GMT"
    assert headers["X-Really"] == "false"
    assert (headers["X-Meta-one"], headers["X-Meta-two"]) == ("1", "2")
    assert response.body == b'{"in-body":"2024-02-29T12:30:05Z","Blob":"/w=="}'
    parsed = to_botocore(service.model, "Do", response)
    assert {name: parsed[name] for name in output} == output


def test_the_rest_of_a_query_is_a_map() -> None:
    members = {"Rest": {"shape": "MapOfLists", "location": "querystring"}}
    service = service_with({**EVERYWHERE, "Input": {"type": "structure", "members": members}})
    asked = request("POST", "/do?a=1&b=2&a=%203+")
    assert service.parse(service.match(asked), asked, b"") == {"Rest": {"a": ["1", " 3 "], "b": ["2"]}}


def test_a_string_can_be_the_whole_body() -> None:
    structure = {"type": "structure", "members": {"Text": {"shape": "String"}}, "payload": "Text"}
    service = service_with({"Input": structure, "Output": structure})
    asked = request("POST", "/do")
    assert service.parse(service.match(asked), asked, "ä".encode()) == {"Text": "ä"}
    response = service.render("Do", {"Text": "ä"}, "0123-abcd")
    assert (response.body, dict(response.headers)["Content-Type"]) == ("ä".encode(), "application/octet-stream")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/do?whole=x", "STRING_VALUE can not be converted to an Integer"),
        ("/do?whole=1_0", "STRING_VALUE can not be converted to an Integer"),
        ("/do?whole=%D9%A3", "STRING_VALUE can not be converted to an Integer"),
        ("/do?whole=4294967296", "NUMBER_VALUE can not be converted to an Integer"),
        ("/do?half=", "STRING_VALUE can not be converted to a Double"),
        ("/do?really=yes", "STRING_VALUE can not be converted to a Boolean"),
        ("/do?when=now", "STRING_VALUE can not be converted to a Timestamp"),
        ("/do?epoch=1e300", "NUMBER_VALUE can not be converted to a Timestamp"),
    ],
)
def test_text_of_another_type_is_refused(target: str, message: str) -> None:
    service = service_with({**EVERYWHERE, "Input": {"type": "structure", "members": FROM_TEXT}})
    asked = request("POST", target)
    with pytest.raises(SerializationException) as caught:
        service.parse(service.match(asked), asked, b"")
    assert caught.value.message == message


def parse_function(body: bytes) -> dict[str, Any]:
    service, asked = Service.load("lambda"), request("PUT", "/2015-03-31/functions/f/configuration")
    return service.parse(service.match(asked), asked, body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"Timeout": "3"}', "STRING_VALUE can not be converted to an Integer"),
        (b'{"Timeout": 3.5}', "NUMBER_VALUE can not be converted to an Integer"),
        (b'{"Timeout": 1e400}', "NUMBER_VALUE can not be converted to an Integer"),
        (b'{"Timeout": 99999999999999999999}', "NUMBER_VALUE can not be converted to an Integer"),
        (b'{"Timeout": true}', "TRUE_VALUE can not be converted to an Integer"),
        (b'{"Handler": 3}', "NUMBER_VALUE can not be converted to a String"),
        (b'{"Handler": false}', "FALSE_VALUE can not be converted to a String"),
        (b'{"Handler": []}', "Start of list found where not expected"),
        (b'{"Handler": {}}', "Start of structure or map found where not expected."),
        (b'{"Layers": {}}', "Start of structure or map found where not expected."),
        (b'{"Layers": "x"}', "Unexpected value type in payload"),
        (b'{"Environment": []}', "Start of list found where not expected"),
        (b'{"Environment": {"Variables": {"A": 1}}}', "NUMBER_VALUE can not be converted to a String"),
        (b"[]", "Start of list found where not expected"),
        (b'"x"', "Unexpected value type in payload"),
        (b"{", "Unexpected token received from parser"),
        (b"{} {}", "Unexpected token received from parser"),
        (b"\xff", "Unexpected token received from parser"),
        (b'{"Timeout": NaN}', "Unexpected token received from parser"),
        (b'{"Timeout": ' + b"9" * 10_000 + b"}", "Unexpected token received from parser"),
        (b"[" * 1_000_000, "Unexpected token received from parser"),
        (b'{"Handler":' * 100_000, "Unexpected token received from parser"),
    ],
    ids=range(22),
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(SerializationException) as caught:
        parse_function(body)
    assert caught.value.message == message


@pytest.mark.parametrize("body", [b"", b"{}", b" {} ", b"null", b'{"Unheard": [{}], "Handler": null}'])
def test_what_says_nothing_is_nothing(body: bytes) -> None:
    assert parse_function(body) == {"FunctionName": "f"}


def test_the_last_of_two_members_counts() -> None:
    assert parse_function(b'{"Timeout": 1, "Timeout": 2.0}')["Timeout"] == 2


def test_half_a_surrogate_pair_does_not_get_in() -> None:
    assert parse_function(b'{"Description": "a\\ud800b\\ud83d\\ude00"}')["Description"] == "a?b\U0001f600"


def test_a_shape_that_holds_itself_may_be_nested_as_deep_as_a_client_likes() -> None:
    tree = {"type": "structure", "members": {"Inner": {"shape": "Input"}}}
    service, asked = service_with({"Input": tree}), request("POST", "/do")
    assert service.parse(service.match(asked), asked, b'{"Inner":{"Inner":{}}}') == {"Inner": {"Inner": {}}}
    for depth in (500, 900, 50_000):
        body = b'{"Inner":' * depth + b"{}" + b"}" * depth
        try:
            service.parse(service.match(asked), asked, body)
        except SerializationException as error:
            refused = error.message
    assert refused == "Unexpected token received from parser"


def test_base64_that_is_none_is_refused() -> None:
    service, asked = Service.load("lambda"), request("PUT", "/2015-03-31/functions/f/code")
    with pytest.raises(SerializationException, match="STRING_VALUE can not be converted to a Blob"):
        service.parse(service.match(asked), asked, b'{"ZipFile": "a*b="}')
    assert service.parse(service.match(asked), asked, b'{"ZipFile": "/w=="}')["ZipFile"] == b"\xff"


def test_an_invokes_payload_is_passed_through() -> None:
    service = Service.load("lambda")
    asked = request("POST", "/2015-03-31/functions/f:live/invocations?Qualifier=1", {"x-amz-log-type": "Tail"})
    route, payload = service.match(asked), b"not \xff JSON"
    found = service.parse(route, asked, payload)
    assert found == {"FunctionName": "f:live", "Qualifier": "1", "LogType": "Tail", "Payload": payload}
    assert found["Payload"] is payload
    response = service.render("Invoke", {"StatusCode": 202, "FunctionError": None, "Payload": b""}, "0123-abcd")
    assert (response.status, response.body) == (202, b"")
    assert response.headers == [("x-amzn-RequestId", "0123-abcd"), ("Content-Type", "application/json")]


async def nothing() -> AsyncGenerator[bytes, None]:
    yield b""


def test_a_stream_is_handed_on() -> None:
    service, stream = Service.load("lambda"), nothing()
    output = {"StatusCode": 200, "ExecutedVersion": "$LATEST", "EventStream": stream}
    response = service.render("InvokeWithResponseStream", output, "0123-abcd")
    assert response.body is stream
    assert ("X-Amz-Executed-Version", "$LATEST") in response.headers
    assert ("Content-Type", "application/vnd.amazon.eventstream") in response.headers
    output["ResponseStreamContentType"] = "application/x-own"
    headers = service.render("InvokeWithResponseStream", output, "0123-abcd").headers
    assert [text for name, text in headers if name == "Content-Type"] == ["application/x-own"]


def test_an_answer_without_content() -> None:
    service = Service.load("lambda")
    response = service.render("DeleteFunctionConcurrency", {}, "0123-abcd")
    assert (response.status, response.headers, response.body) == (204, [("x-amzn-RequestId", "0123-abcd")], b"")
    response = service.render("DeleteFunction", {"StatusCode": 204}, "0123-abcd")
    assert (response.status, response.headers, response.body) == (204, [("x-amzn-RequestId", "0123-abcd")], b"")
    assert service.render("DeleteFunction", {}, "0123-abcd").status == 200


@pytest.mark.parametrize(
    ("operation", "output"),
    [
        ("GetFunction", {"Configurations": {}}),
        ("GetFunction", {"Configuration": {"Name": "f"}}),
        ("GetFunction", {"Configuration": []}),
        ("GetFunction", {"Tags": ["a"]}),
        ("GetFunctionConfiguration", {"Timeout": "3"}),
        ("GetFunctionConfiguration", {"Timeout": True}),
        ("GetFunctionConfiguration", {"Handler": 3}),
        ("GetFunctionConfiguration", {"Layers": "x"}),
        ("GetFunctionConfiguration", {"LastModified": MOMENT}),
        ("GetFunctionEventInvokeConfig", {"LastModified": "2024-02-29"}),
        ("GetLayerVersion", {"Version": 1.5}),
        ("Invoke", {"Payload": {}}),
        ("Invoke", {"LogResult": "a\r\nX-Evil: 1"}),
        ("DeleteFunctionConcurrency", {"StatusCode": 204}),
    ],
)
def test_an_output_that_the_model_does_not_know_is_a_mistake(operation: str, output: dict[str, Any]) -> None:
    with pytest.raises(UnmodelledOutput):
        Service.load("lambda").render(operation, output, "0123-abcd")


def rendered(error: Any, operation: str | None = "GetFunction") -> tuple[Response, dict[str, Any], dict[str, str]]:
    response = Service.load("lambda").render_error(error, "0123-abcd", operation)
    assert isinstance(response.body, bytes)
    return response, json.loads(response.body), dict(response.headers)


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (ResourceNotFoundException("Gone."), 404, {"Type": "User", "Message": "Gone."}),
        (InvalidParameterValueException("Bad."), 400, {"Type": "User", "message": "Bad."}),
        (ServiceException("Oh."), 500, {"Type": "Service", "Message": "Oh."}),
        (ValidationException("No."), 400, {"Type": "User", "message": "No."}),
    ],
)
def test_an_error_is_spelled_as_its_shape_is(error: Any, status: int, body: dict[str, str]) -> None:
    response, document, headers = rendered(error)
    assert (response.status, document) == (status, body)
    assert headers == {
        "x-amzn-RequestId": "0123-abcd",
        "Content-Type": "application/json",
        "x-amzn-ErrorType": error.code,
    }


def test_an_errors_own_members() -> None:
    error = TooManyRequestsException("Rate Exceeded.", Reason="CallerRateLimitExceeded", retryAfterSeconds="2")
    response, document, headers = rendered(error)
    assert document == {"Reason": "CallerRateLimitExceeded", "Type": "User", "message": "Rate Exceeded."}
    assert headers["Retry-After"] == "2"
    parsed = to_botocore(Service.load("lambda").model, "GetFunction", response)
    assert (parsed["Reason"], parsed["retryAfterSeconds"]) == ("CallerRateLimitExceeded", "2")


def test_a_member_that_an_error_does_not_have_is_a_mistake() -> None:
    with pytest.raises(UnmodelledOutput):
        rendered(ResourceNotFoundException("Gone.", Reason="x"))


def test_a_protocol_that_is_not_spoken_is_named() -> None:
    with pytest.raises(UnsupportedProtocol, match="s3 is served in rest-xml"):
        Service.load("s3")


def test_a_service_is_loaded_once() -> None:
    assert Service.load("lambda") is Service.load("lambda")
    assert len(Service.load("lambda").operation_names) == len(Service.load("lambda").model.operation_names)

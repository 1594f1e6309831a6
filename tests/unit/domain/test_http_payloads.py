"""Payload format 2.0: requests made events, and what functions return made answers."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from lambdad.domain import http_payloads
from lambdad.domain.http_payloads import INTEGRATION_RESPONSE, Endpoint, HttpRequest, MalformedResponse

JSON = ("Content-Type", "application/json")
ENDPOINT = Endpoint("abc", "abc.lambda-url.us-east-1.localhost", "anonymous")


def event(
    method: str = "POST", path: str = "/", query: str = "", headers: dict[str, str] | None = None, body: bytes = b""
) -> dict[str, Any]:
    request = HttpRequest(
        method, path, query, "HTTP/1.1", headers or {}, body, "192.0.2.1", "the-id", time_s=1583348638.39
    )
    document: dict[str, Any] = json.loads(http_payloads.event(request, ENDPOINT))
    return document


def answer(document: Any, content_type: str = "application/json") -> tuple[int, list[tuple[str, str]], bytes]:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    made = http_payloads.response(payload, content_type)
    return made.status, made.headers, made.body


def test_the_whole_event() -> None:
    headers = {"host": "h", "user-agent": "curl/8", "cookie": "a=1; b=2", "x-many": "1,2", "connection": "close"}
    assert event("GET", "/my%20path", "p=1&p=2&q=a%20b+c&e=", headers) == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my%20path",
        "rawQueryString": "p=1&p=2&q=a%20b+c&e=",
        "cookies": ["a=1", "b=2"],
        "headers": {"host": "h", "user-agent": "curl/8", "x-many": "1,2"},
        "queryStringParameters": {"p": "1,2", "q": "a b c", "e": ""},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "authentication": None,
            "authorizer": None,
            "domainName": "abc.lambda-url.us-east-1.localhost",
            "domainPrefix": "abc",
            "http": {
                "method": "GET",
                "path": "/my%20path",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "curl/8",
            },
            "requestId": "the-id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "04/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "pathParameters": None,
        "isBase64Encoded": False,
        "stageVariables": None,
    }


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", "text/plain", "text/x-odd", "application/xml"],
)
def test_text_stays_text(content_type: str) -> None:
    made = event(headers={"content-type": content_type}, body='{"ü":1}'.encode())
    assert (made["body"], made["isBase64Encoded"]) == ('{"ü":1}', False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/octet-stream"},
        {"content-type": "image/png"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
    ],
)
def test_everything_else_is_encoded(headers: dict[str, str]) -> None:
    made = event(headers=headers, body=b"a=b")
    assert (made["body"], made["isBase64Encoded"]) == (base64.b64encode(b"a=b").decode(), True)


def test_text_that_is_not_utf_8_is_encoded() -> None:
    made = event(headers={"content-type": "text/plain"}, body=b"\xff\xfe")
    assert (made["body"], made["isBase64Encoded"]) == ("//4=", True)


def test_no_body() -> None:
    made = event(headers={"content-type": "image/png"})
    assert "body" not in made
    assert made["isBase64Encoded"] is False
    assert "cookies" not in made
    assert "queryStringParameters" not in made


@pytest.mark.parametrize("document", ["Hello", {"message": "Hello"}, [1], 7, None, {"body": "x", "headers": {}}])
def test_json_without_a_status_is_the_body(document: Any) -> None:
    assert answer(document) == (200, [JSON], json.dumps(document).encode())


def test_a_whole_response() -> None:
    document = {
        "statusCode": 201,
        "headers": {"Content-Type": "text/html", "X-Number": 7, "X-True": True, "X-None": None},
        "cookies": ["a=1; Max-Age=1", "b=2"],
        "body": "ü",
    }
    headers = [
        ("Content-Type", "text/html"),
        ("X-Number", "7"),
        ("X-True", "true"),
        ("Set-Cookie", "a=1; Max-Age=1"),
        ("Set-Cookie", "b=2"),
    ]
    assert answer(document) == (201, headers, "ü".encode())


def test_what_is_left_out() -> None:
    assert answer({"statusCode": 404}) == (404, [JSON], b"")
    assert answer({"statusCode": "202", "body": None}) == (202, [JSON], b"")
    assert answer({"statusCode": 200, "body": "AAE=", "isBase64Encoded": True}) == (200, [JSON], b"\0\1")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_can_have_no_body(status: int) -> None:
    assert answer({"statusCode": status, "body": "x"}) == (status, [], b"")


def test_framing_is_not_the_functions() -> None:
    names = (
        "Content-Length",
        "transfer-encoding",
        "Connection",
        "Keep-Alive",
        "Upgrade",
        "Trailer",
        "x-amzn-RequestId",
    )
    document = {"statusCode": 200, "headers": {**dict.fromkeys(names, "7"), "WWW-Authenticate": "Basic"}}
    assert answer(document)[1] == [("x-amzn-Remapped-WWW-Authenticate", "Basic"), JSON]


@pytest.mark.parametrize(
    "document",
    [
        b"not JSON",
        b"",
        b'{"statusCode": NaN}',
        b"[" * 100_000,
        {"statusCode": "OK"},
        {"statusCode": 99},
        {"statusCode": 101},
        {"statusCode": 1000},
        {"statusCode": None},
        {"statusCode": 200.5},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "body": "no base64", "isBase64Encoded": True},
        {"statusCode": 200, "headers": ["a"]},
        {"statusCode": 200, "headers": {"a": ["b"]}},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "headers": {"": "c"}},
        {"statusCode": 200, "headers": {"a": "b\r\nSet-Cookie: c"}},
        {"statusCode": 200, "headers": {"a\r\nb": "c"}},
        {"statusCode": 200, "cookies": "a=1"},
        {"statusCode": 200, "cookies": [1]},
        {"statusCode": 200, "cookies": ["a=1\nb: c"]},
    ],
)
def test_what_is_no_response(document: Any) -> None:
    with pytest.raises(MalformedResponse):
        answer(document)


def test_what_was_streamed_and_is_no_json_is_the_body() -> None:
    assert answer(b"some text", "text/plain") == (200, [("Content-Type", "text/plain")], b"some text")
    with pytest.raises(MalformedResponse):
        answer(b"some text", "application/json; charset=utf-8")
    with pytest.raises(MalformedResponse):
        answer(b"some text", "text/plain\r\nx: y")


def test_a_streamed_response_with_a_prelude() -> None:
    prelude = {"statusCode": 418, "headers": {"content-type": "text/plain", "a": "b"}, "cookies": ["c=d"]}
    payload = json.dumps(prelude).encode() + b"\0" * 8 + b"\0body"
    headers = [("content-type", "text/plain"), ("a", "b"), ("Set-Cookie", "c=d")]
    assert answer(payload, INTEGRATION_RESPONSE) == (418, headers, b"\0body")
    assert answer(b"{}" + b"\0" * 8, INTEGRATION_RESPONSE) == (200, [("Content-Type", "application/octet-stream")], b"")
    for odd in (b"{}", b"[]" + b"\0" * 8, b"{" + b"\0" * 8, b'{"statusCode":1}' + b"\0" * 8):
        with pytest.raises(MalformedResponse):
            answer(odd, INTEGRATION_RESPONSE)

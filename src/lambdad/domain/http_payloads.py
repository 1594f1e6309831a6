"""HTTP as functions see it: requests made events, and what functions return made answers. Payload format 2.0.

https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from lambdad.domain.errors import LambdadError

INTEGRATION_RESPONSE: Final = "application/vnd.awslambda.http-integration-response"
"""The content type of a streamed response that begins with its status, headers and cookies.

https://docs.aws.amazon.com/lambda/latest/dg/response-streaming-tutorial.html
"""
PRELUDE_END: Final = b"\0" * 8
PRELUDE_BYTES: Final = 64 * 1024
"""As much as the head of any HTTP message may have here."""
JSON_TYPE: Final = "application/json"
BINARY_TYPE: Final = "application/octet-stream"

# What curl says of anything it posts: a runtime written in a shell sends its JSON so.
_JSON_TYPES: Final = (JSON_TYPE, "application/x-www-form-urlencoded")
_TEXT_TYPES: Final = ("application/json", "application/xml", "application/javascript")
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Of the connection, not of the message: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1"""
_OWN_HEADERS: Final = HOP_BY_HOP | {"content-length", "x-amzn-requestid", "x-amzn-trace-id"}
"""What a function cannot say: the framing is the server's, and the last two are lambdad's own."""
_REMAPPED: Final = frozenset({"www-authenticate"})
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_STATUSES: Final = range(200, 600)
_BODYLESS: Final = (204, 304)


class MalformedResponse(LambdadError):
    """What a function has returned is no HTTP response."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to a function URL. `url_path` and `query` are as they were sent; header names are lower case."""

    method: str
    url_path: str
    query: str
    protocol: str
    headers: Mapping[str, str]
    body: bytes
    source_ip: str
    request_id: str
    time_s: float


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The function URL that a request came to. `authorizer` says who has signed it, where that was asked for."""

    url_id: str
    domain_name: str
    account_id: str
    authorizer: Mapping[str, Any] | None = None


@dataclass(slots=True)
class HttpResponse:
    """An answer to a client. A streamed one has no body here."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


def event(request: HttpRequest, endpoint: Endpoint) -> bytes:
    """The payload that a function is invoked with."""
    moment = datetime.fromtimestamp(request.time_s, UTC)
    headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP and name != "cookie"}
    document: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.url_path,
        "rawQueryString": request.query,
    }
    cookies = [cookie.strip() for cookie in request.headers.get("cookie", "").split(";")]
    if any(cookies):
        document["cookies"] = [cookie for cookie in cookies if cookie]
    document["headers"] = headers
    parameters = _parameters(request.query)
    if parameters:
        document["queryStringParameters"] = parameters
    document["requestContext"] = {
        "accountId": endpoint.account_id,
        "apiId": endpoint.url_id,
        "authentication": None,
        "authorizer": None if endpoint.authorizer is None else {"iam": endpoint.authorizer},
        "domainName": endpoint.domain_name,
        "domainPrefix": endpoint.url_id,
        "http": {
            "method": request.method,
            "path": request.url_path,
            "protocol": request.protocol,
            "sourceIp": request.source_ip,
            "userAgent": request.headers.get("user-agent", ""),
        },
        "requestId": request.request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": f"{moment:%d/%b/%Y:%H:%M:%S} +0000",
        "timeEpoch": int(request.time_s * 1000),
    }
    text = _text(request)
    if request.body:
        document["body"] = base64.b64encode(request.body).decode("ascii") if text is None else text
    document["pathParameters"] = None
    document["isBase64Encoded"] = text is None
    document["stageVariables"] = None
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def response(payload: bytes, content_type: str) -> HttpResponse:
    """The answer that a function's whole payload stands for. Raises MalformedResponse.

    JSON without a `statusCode` is itself the body. What is not JSON can only have been streamed; it is the body too.
    """
    if content_type == INTEGRATION_RESPONSE:
        prelude, end, body = payload.partition(PRELUDE_END)
        if not end:
            raise MalformedResponse("the response has no prelude")
        return _with_body(of_prelude(prelude), body)
    try:
        document = json.loads(payload, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        if content_type.partition(";")[0].strip().lower() in _JSON_TYPES:
            raise MalformedResponse("the response is not JSON") from None
        return HttpResponse(headers=[("Content-Type", _checked_value(content_type))], body=payload)
    if not isinstance(document, dict) or "statusCode" not in document:
        return HttpResponse(headers=[("Content-Type", JSON_TYPE)], body=payload)
    return _with_body(_head(document, JSON_TYPE), _body(document))


def of_prelude(prelude: bytes) -> HttpResponse:
    """The head of a streamed answer, from what comes before its 8 NULs. Raises MalformedResponse."""
    try:
        document = json.loads(prelude, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise MalformedResponse("the prelude is not JSON") from None
    if not isinstance(document, dict):
        raise MalformedResponse("the prelude is not an object")
    return _head(document, BINARY_TYPE)


def of_stream(content_type: str) -> HttpResponse:
    """The head of a streamed answer that has no prelude. Raises MalformedResponse."""
    return HttpResponse(headers=[("Content-Type", _checked_value(content_type))])


def has_body(status: int) -> bool:
    """Whether an answer with this status may have a body: https://www.rfc-editor.org/rfc/rfc9110#section-6.4.1"""
    return status not in _BODYLESS


def _with_body(answer: HttpResponse, body: bytes) -> HttpResponse:
    answer.body = body if has_body(answer.status) else b""
    return answer


def _parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="replace"):
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    return parameters


def _text(request: HttpRequest) -> str | None:
    """The body where its type is text, also when there is none; None for what must be encoded."""
    if not request.body:
        return ""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("text/") and kind not in _TEXT_TYPES:
        return None
    try:
        return request.body.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _head(document: Mapping[str, Any], default_type: str) -> HttpResponse:
    status = document.get("statusCode", 200)
    if isinstance(status, str) and status.isascii() and status.isdigit() and len(status) == 3:
        status = int(status)
    if not isinstance(status, int) or status not in _STATUSES:
        raise MalformedResponse(f"{status!r} is not a status")
    given = document.get("headers")
    if not isinstance(given, dict | None):
        raise MalformedResponse("headers is not an object")
    headers = []
    for name, value in (given or {}).items():
        if value is None or name.lower() in _OWN_HEADERS:
            continue
        if not _NAME.fullmatch(name):
            raise MalformedResponse(f"{name!r} is not the name of a header")
        shown = f"x-amzn-Remapped-{name}" if name.lower() in _REMAPPED else name
        headers.append((shown, _header_value(value)))
    if has_body(status) and all(name.lower() != "content-type" for name, _ in headers):
        headers.append(("Content-Type", default_type))
    cookies = document.get("cookies")
    if not isinstance(cookies, list | None) or not all(isinstance(cookie, str) for cookie in cookies or ()):
        raise MalformedResponse("cookies is not a list of texts")
    headers.extend(("Set-Cookie", _checked_value(cookie)) for cookie in cookies or ())
    return HttpResponse(status, headers)


def _body(document: Mapping[str, Any]) -> bytes:
    body = document.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise MalformedResponse("body is not text")
    if not document.get("isBase64Encoded"):
        return body.encode("utf-8", "replace")
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        raise MalformedResponse("body is not base64") from None


def _header_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise MalformedResponse(f"{value!r} is not the value of a header")
    return _checked_value(value)


def _checked_value(value: str) -> str:
    """What would end the header, and so begin another one or the body, is no value."""
    if not _VALUE.fullmatch(value):
        raise MalformedResponse("a header has control characters")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")

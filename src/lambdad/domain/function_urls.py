"""Function URLs: an HTTP endpoint of a function or of an alias, who may call it, and what browsers are told of it.

https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html
"""

from __future__ import annotations

import datetime
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference
from lambdad.domain.record_kinds import RecordKind

NONE: Final = "NONE"
AWS_IAM: Final = "AWS_IAM"
BUFFERED: Final = "BUFFERED"
RESPONSE_STREAM: Final = "RESPONSE_STREAM"

AuthType = Literal["NONE", "AWS_IAM"]
InvokeMode = Literal["BUFFERED", "RESPONSE_STREAM"]

CORS_METHODS: Final = ("GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "*")
"""https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-lambda-url-cors.html"""

_ID_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH: Final = 32
_PORT: Final = r"(?::\d{1,5})?"
_HOST: Final = re.compile(
    r"(?P<id>[a-z0-9]+)\.lambda-url\.(?P<region>[a-z0-9-]+)\.(?:localhost|localhost\.localstack\.cloud|on\.aws)\.?"
    + _PORT,
    re.IGNORECASE,
)
_ANYTHING: Final = "*"


@dataclass(frozen=True, slots=True)
class Cors:
    """What pages of other origins may do with a URL. None stands for what was not set.

    https://docs.aws.amazon.com/lambda/latest/api/API_Cors.html
    """

    allow_credentials: bool | None = None
    allow_headers: tuple[str, ...] | None = None
    allow_methods: tuple[str, ...] | None = None
    allow_origins: tuple[str, ...] | None = None
    expose_headers: tuple[str, ...] | None = None
    max_age_s: int | None = None

    def answer_headers(self, request_headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """What an answer tells the browser; nothing for a request of no origin, or of one that is not allowed.

        The origin is named, never `*`, as Lambda does it: caches must therefore tell origins apart. What the function
        says of origins itself stays beside this, and browsers refuse an answer with both, as they do on AWS.
        """
        origin = request_headers.get("origin", "")
        if not origin or not _covers(self.allow_origins, origin):
            return []
        headers = [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        if self.allow_credentials:
            headers.append(("Access-Control-Allow-Credentials", "true"))
        if self.expose_headers:
            headers.append(("Access-Control-Expose-Headers", ",".join(self.expose_headers)))
        return headers

    def preflight_headers(self, request_headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """What the answer to a preflight tells the browser, which judges by it whether it sends the request."""
        headers = self.answer_headers(request_headers)
        if not headers:
            return []
        wanted_method = request_headers.get("access-control-request-method", "")
        wanted_headers = request_headers.get("access-control-request-headers", "")
        if self.allow_methods:
            headers.append(("Access-Control-Allow-Methods", _allowed(self.allow_methods, wanted_method)))
        if self.allow_headers and wanted_headers:
            headers.append(("Access-Control-Allow-Headers", _allowed(self.allow_headers, wanted_headers)))
        if self.max_age_s is not None:
            headers.append(("Access-Control-Max-Age", str(self.max_age_s)))
        return headers


@dataclass(frozen=True, slots=True)
class FunctionUrlConfig:
    """The URL of `$LATEST`, which is the function's own, or of an alias."""

    key: FunctionKey
    qualifier: str
    url_id: str
    auth_type: AuthType
    invoke_mode: InvokeMode
    cors: Cors | None
    created_s: float
    last_modified_s: float

    @property
    def reference(self) -> FunctionReference:
        """What a request to the URL invokes, and whose resource policy lets it in."""
        return FunctionReference(self.key, None if self.qualifier == LATEST else self.qualifier)


FUNCTION_URL_CONFIGS: Final = RecordKind(
    "function_url_config", FunctionUrlConfig, lambda config: (*config.key.parts, config.qualifier), of_function=True
)


def new_url_id() -> str:
    """The first label of a URL's host: 32 characters, another one for every URL that is created."""
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))


def host_of(url_id: str, region: str) -> str:
    """The host name of a URL, which every resolver that follows RFC 6761 takes for this machine."""
    return f"{url_id}.lambda-url.{region}.localhost"


def id_in_host(host: str) -> str:
    """The id of the function URL that a `Host` header names, with or without a port; nothing for any other host."""
    match = _HOST.fullmatch(host)
    return match["id"].lower() if match else ""


def shown_time(seconds: float) -> str:
    """A time as configurations of URLs have it: `2023-06-08T13:20:18.244654Z`."""
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks what it may do: https://fetch.spec.whatwg.org/#cors-preflight-request"""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def _covers(allowed: tuple[str, ...] | None, wanted: str) -> bool:
    return allowed is not None and (_ANYTHING in allowed or wanted.lower() in [each.lower() for each in allowed])


def _allowed(allowed: tuple[str, ...], wanted: str) -> str:
    """What a list allows, of which `*` is everything that was asked for: browsers do not take it literally always."""
    return wanted if _ANYTHING in allowed else ",".join(allowed)

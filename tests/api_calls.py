"""Calls that boto3 does not make by itself: those that must be refused, and HTTP as it goes over the wire."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from daemons import Daemon


class Refusal(NamedTuple):
    """An error answer."""

    code: str
    status: int
    message: str


def refusal(call: Callable[..., Any], **parameters: Any) -> Refusal:
    """How a boto3 call is refused; the test fails when it is not."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response = caught.value.response
    error = response["Error"]
    return Refusal(error["Code"], response["ResponseMetadata"]["HTTPStatusCode"], error["Message"])


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def send(
    daemon: Daemon, method: str, target: str, body: Any = None, *, account_id: str = "test", region: str = "us-east-1"
) -> Answer:
    """One request of a client that has no model. `body` is bytes, or a document to send as JSON."""
    signature = f"AWS4-HMAC-SHA256 Credential={account_id}/20260101/{region}/lambda/aws4_request"
    headers = {"Authorization": f"{signature}, SignedHeaders=host, Signature=0", "Content-Type": "application/json"}
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection(urlsplit(daemon.url).netloc, timeout=60)
    try:
        connection.request(method, target, sent, headers)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def sample(shape: Any) -> Any:
    """A value that boto3 is ready to send as this shape: as little as it takes."""
    kind = shape.type_name
    if kind == "structure":
        return {name: sample(shape.members[name]) for name in shape.required_members}
    if kind == "list":
        return [sample(shape.member)] * max(1, shape.metadata.get("min", 0))
    if kind == "map":
        return {sample(shape.key): sample(shape.value)}
    if kind == "string":
        return shape.enum[0] if shape.enum else "x" * max(1, shape.metadata.get("min", 0))
    if kind in ("integer", "long", "float", "double"):
        return max(1, shape.metadata.get("min", 0))
    return {"boolean": True, "blob": b"x", "timestamp": 0}[kind]


def new_account() -> str:
    """The id of an account that nobody has used yet: its own functions, limits and usage."""
    return f"{random.randrange(10**11, 10**12)}"

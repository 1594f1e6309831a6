"""Calls of function URLs: permissions for them, and requests as clients send them, signed or not."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

FORBIDDEN = {
    "Message": "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
}
_REGION = "us-east-1"
_TIMEOUT_S = 30


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of every header of that name."""
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(
    url: str,
    method: str = "GET",
    target: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: str | bytes | None = None,
) -> Answer:
    """A request as a client sends it that resolves `localhost` names to this machine, as browsers and curl do."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=_TIMEOUT_S)
    try:
        sent = {"Host": parts.netloc, **(headers or {})}
        connection.request(method, target or parts.path or "/", body=body, headers=sent)
        answer = connection.getresponse()
        return Answer(answer.status, answer.getheaders(), answer.read())
    finally:
        connection.close()


def open_to_all(client: Any, name: str, **options: str) -> None:
    """The two permissions that a URL needs since October 2025; the console and SAM add both, the CLI neither."""
    client.add_permission(
        FunctionName=name,
        StatementId="url",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
        **options,
    )
    client.add_permission(
        FunctionName=name,
        StatementId="invoke",
        Action="lambda:InvokeFunction",
        Principal="*",
        InvokedViaFunctionUrl=True,
        **options,
    )


def create_url(client: Any, name: str, auth_type: str = "NONE", **options: Any) -> str:
    """A URL; one without authentication is open to everybody."""
    if auth_type == "NONE":
        open_to_all(client, name, **({"Qualifier": options["Qualifier"]} if "Qualifier" in options else {}))
    created = client.create_function_url_config(FunctionName=name, AuthType=auth_type, **options)
    return str(created["FunctionUrl"])


def signed(
    url: str,
    key: str = "test",
    secret: str = "test",
    token: str | None = None,
    *,
    presigned: bool = False,
    method: str = "POST",
    body: bytes = b'{"a":1}',
) -> Answer:
    """A request that botocore has signed, in its headers or in its query."""
    parts = urlsplit(url)
    request = AWSRequest(method, url, {"Host": parts.netloc}, data=body)
    keys = Credentials(key, secret, token)
    (SigV4QueryAuth(keys, "lambda", _REGION) if presigned else SigV4Auth(keys, "lambda", _REGION)).add_auth(request)
    target = request.url.split(parts.netloc, 1)[1]
    return send(url, method, target, dict(request.headers.items()), body)

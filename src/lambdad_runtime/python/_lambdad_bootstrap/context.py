"""The context object that a handler receives.

https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
"""

from __future__ import annotations

import os
import time

from .faults import Fault
from .marshaller import parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Mapping

_W3C_FIELDS = ("traceparent", "tracestate", "baggage")


class _Record:
    """Named fields, None unless given, shown as AWS shows them."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, values: Mapping[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    def __repr__(self) -> str:
        return _describe(self, self.__slots__)


class Client(_Record):
    """The mobile application that invoked the function."""

    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")  # noqa: RUF023 (AWS shows them so)


class ClientContext(_Record):
    """What the AWS Mobile SDK sends along."""

    __slots__ = ("custom", "env", "client")  # noqa: RUF023 (AWS shows them so)
    client: Any

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        if isinstance(self.client, dict):
            self.client = Client(self.client)


class CognitoIdentity(_Record):
    """The Amazon Cognito identity that authorized the request."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")


class LambdaContext:
    """Facts about the invocation, the function and the execution environment."""

    def __init__(self, headers: Mapping[str, str], write_log: Callable[[str], None]) -> None:
        """`headers` are those of the invocation with lower-case names. Raises Fault for one that is not JSON."""
        environ = os.environ
        self.aws_request_id = headers.get("lambda-runtime-aws-request-id", "")
        self.log_group_name = environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        client = _parse_header(headers.get("lambda-runtime-client-context"), "Client Context")
        self._w3c_fields = _take_w3c_fields(client)
        self.client_context = None if client is None else ClientContext(client)
        identity = _parse_header(headers.get("lambda-runtime-cognito-identity"), "Cognito Identity") or {}
        self.identity = CognitoIdentity(
            {
                "cognito_identity_id": identity.get("cognitoIdentityId"),
                "cognito_identity_pool_id": identity.get("cognitoIdentityPoolId"),
            }
        )
        self._deadline_ms = int(headers.get("lambda-runtime-deadline-ms") or 0)
        self._write_log = write_log

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation times out, never less than 0."""
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def w3c(self) -> dict[str, str]:
        """The W3C trace context of the invocation: traceparent, tracestate and baggage, where the caller sent them."""
        return dict(self._w3c_fields)

    def log(self, msg: object) -> None:
        """Write `msg` to the function's log as one record."""
        self._write_log(str(msg))

    def __repr__(self) -> str:
        names = (
            "aws_request_id",
            "log_group_name",
            "log_stream_name",
            "function_name",
            "memory_limit_in_mb",
            "function_version",
            "invoked_function_arn",
            "client_context",
            "identity",
            "tenant_id",
        )
        return _describe(self, names)


def _describe(value: object, names: tuple[str, ...]) -> str:
    fields = ",".join(f"{name}={getattr(value, name)}" for name in names)
    return f"{type(value).__name__}([{fields}])"


def _parse_header(text: str | None, title: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        value = parse_json(text.encode("utf-8"))
        if value is not None and not isinstance(value, dict):
            raise ValueError("not an object")
        fields: dict[str, Any] | None = value
        return fields
    except (ValueError, RecursionError) as error:
        message = f"Unable to parse {title} JSON: {error}"
        raise Fault("Runtime.LambdaContextUnmarshalError", message) from None


def _take_w3c_fields(client: dict[str, Any] | None) -> dict[str, str]:
    """Move the trace context out of the client context, where it travels but does not belong."""
    sent = client.pop("w3c", None) if client else None
    if not isinstance(sent, dict):
        return {}
    return {name: sent[name] for name in _W3C_FIELDS if isinstance(sent.get(name), str)}

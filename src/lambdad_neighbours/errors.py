"""Errors in the form of the protocol that the client speaks, for what moto does not answer itself.

The forms are those of https://smithy.io/2.0/aws/protocols/ and https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

_SAY_RESOURCE: Final = frozenset({"iot", "iot-data"})
_JSON_TYPES: Final = ("application/x-amz-json-1.0", "application/x-amz-json-1.1")


class Failure(NamedTuple):
    """What went wrong; `json_code` is the code that services with JSON use for what others call `xml_code`."""

    status: int
    xml_code: str
    json_code: str
    message: str


class Rendered(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def not_implemented(what: str) -> Failure:
    return Failure(
        HTTPStatus.NOT_IMPLEMENTED, "NotImplemented", "NotImplementedException", f"{what} is not implemented here."
    )


def not_found(service: str, name: str) -> Failure:
    """What a REST service says of something that it does not have."""
    code = "ResourceNotFoundException" if service in _SAY_RESOURCE else "NotFoundException"
    return Failure(HTTPStatus.NOT_FOUND, code, code, f"{name} does not exist.")


INTERNAL: Final = Failure(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "InternalError",
    "InternalFailure",
    "The request processing has failed because of an unknown error, exception or failure.",
)
NOT_STORED: Final = Failure(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "ServiceUnavailable",
    "ServiceUnavailable",
    "The change could not be written to disk. Please try again.",
)
INVALID_ACTION: Final = Failure(
    HTTPStatus.BAD_REQUEST,
    "InvalidAction",
    "UnknownOperationException",
    "The action or operation requested is invalid. Verify that the action is typed correctly.",
)


def _invalid(code: str, message: str) -> Failure:
    return Failure(HTTPStatus.BAD_REQUEST, code, code, message)


_EXPRESSION: Final = _invalid("ValidationException", "Invalid expression or attribute value: Syntax error")
OF_REQUESTS: Final[Mapping[tuple[str, str], Failure]] = {
    **{
        ("dynamodb", operation): _EXPRESSION
        for operation in (
            "BatchWriteItem",
            "DeleteItem",
            "PutItem",
            "Query",
            "Scan",
            "TransactGetItems",
            "TransactWriteItems",
            "UpdateItem",
        )
    },
    ("dynamodb", "BatchExecuteStatement"): _invalid(
        "ValidationException", "Statement wasn't well formed, can't be processed"
    ),
    ("dynamodb", "ExecuteStatement"): _invalid(
        "ValidationException", "Statement wasn't well formed, can't be processed"
    ),
    ("dynamodb", "ExecuteTransaction"): _invalid(
        "ValidationException", "Statement wasn't well formed, can't be processed"
    ),
    ("dynamodbstreams", "GetRecords"): _invalid("ValidationException", "Invalid ShardIterator"),
    ("kinesis", "GetRecords"): _invalid("InvalidArgumentException", "Invalid ShardIterator."),
}
"""By service and operation: moto raises whatever comes when it reads these languages and tokens, whose forms no model
knows. Nothing else in these operations has been seen to fail."""


def render(failure: Failure, protocol: str, headers: Mapping[str, str], request_id: str) -> Rendered:
    """The answer that says so. SQS has two protocols: the request's content type tells which one is spoken."""
    content_type = headers.get("content-type", "")
    if protocol == "json" and content_type.startswith("application/x-www-form-urlencoded"):
        protocol = "query"
    status, xml_code, json_code, message = failure
    code, text, identity = escape(xml_code), escape(message), escape(request_id)
    if protocol in {"json", "rest-json", "smithy-rpc-v2-cbor"}:
        body = json.dumps({"__type": json_code, "message": message}).encode()
        kind = content_type if content_type in _JSON_TYPES else "application/json"
        return Rendered(
            status, [("Content-Type", kind), ("x-amzn-ErrorType", json_code), ("x-amzn-RequestId", request_id)], body
        )
    if protocol == "rest-xml":
        inner = f"<Error><Code>{code}</Code><Message>{text}</Message><RequestId>{identity}</RequestId></Error>"
        names = ("Content-Type", "application/xml"), ("x-amz-request-id", request_id)
    else:
        kind = "Receiver" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "Sender"
        if protocol == "ec2":
            inner = (
                f"<Response><Errors><Error><Code>{code}</Code><Message>{text}</Message></Error></Errors>"
                f"<RequestID>{identity}</RequestID></Response>"
            )
        else:
            inner = (
                f"<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{text}</Message></Error>"
                f"<RequestId>{identity}</RequestId></ErrorResponse>"
            )
        names = ("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id)
    return Rendered(status, list(names), b'<?xml version="1.0" encoding="UTF-8"?>\n' + inner.encode())

"""Requests as the wire brings them, written by hand or by botocore, and answers as botocore reads them."""

from __future__ import annotations

from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import botocore.parsers
import botocore.serialize
from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict
from botocore.model import ServiceModel

from lambdad.ingress.messages import Body, Request, Response


def request(method: str, target: str, headers: dict[str, str] | None = None) -> Request:
    """The head of a request; its body is handed to `parse` beside it."""
    body = Body(lambda: None, lambda held: None)
    return Request(method, target, headers or {}, body, keep_alive=True)


def from_botocore(model: ServiceModel, operation: str, params: dict[str, Any]) -> tuple[Request, bytes]:
    """The request that botocore sends for these parameters."""
    serializer = botocore.serialize.create_serializer(model.metadata["protocol"], include_validation=False)
    described = serializer.serialize_to_request(params, model.operation_model(operation))
    prepare_request_dict(described, endpoint_url="http://127.0.0.1:4566")
    sent = create_request_object(described).prepare()
    parts = urlsplit(sent.url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    headers = {name.lower(): text.decode() if isinstance(text, bytes) else text for name, text in sent.headers.items()}
    body = sent.body.encode() if isinstance(sent.body, str) else sent.body or b""
    return request(sent.method, target, headers), body


def to_botocore(model: ServiceModel, operation: str, response: Response) -> dict[str, Any]:
    """What botocore makes of an answer, be it success or an error."""
    parser = botocore.parsers.create_parser(model.metadata["protocol"])
    assert isinstance(response.body, bytes)
    operation_model = model.operation_model(operation)
    streams = operation_model.has_streaming_output and response.status < 300
    body = BytesIO(response.body) if streams else response.body
    answer = {"status_code": response.status, "headers": HeadersDict(response.headers), "body": body}
    parsed: dict[str, Any] = parser.parse(answer, operation_model.output_shape)
    error_shape = model.shape_for_error_code(parsed["Error"]["Code"]) if response.status >= 300 else None
    if error_shape is not None:  # as botocore's endpoint adds what is modelled of an error
        parsed.update({name: value for name, value in parser.parse(answer, error_shape).items() if name != "Error"})
    if streams:
        parsed[operation_model.output_shape.serialization["payload"]] = response.body
    return parsed

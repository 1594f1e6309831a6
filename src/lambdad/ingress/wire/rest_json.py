"""rest-json, the protocol of Lambda's API and EventBridge Scheduler's.

https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lambdad.domain.errors import ServiceError
from lambdad.ingress.messages import Response
from lambdad.ingress.wire import json_values, scalars
from lambdad.ingress.wire.departures import Departures
from lambdad.ingress.wire.protocol import REQUEST_ID_HEADER
from lambdad.ingress.wire.rest import BodyReader, BodyWriter, RestProtocol


class RestJson(RestProtocol):
    """REST with JSON bodies."""

    content_type = "application/json"

    def __init__(self, model: Any, departures: Departures) -> None:
        super().__init__(model, departures)
        self._values = json_values.JsonValues()
        shapes = model.error_shapes
        # Lambda says of every error whose fault it is, so it does of those that every service has.
        self._says_whose_fault = bool(shapes) and all("Type" in shape.members for shape in shapes)

    def body_reader(self, shape: Any, names: Collection[str] | None) -> BodyReader:
        values = self._values
        read = values.reader(shape) if names is None else values.structure_reader(shape, names)

        def read_body(body: bytes) -> Any:
            document = json_values.decode(body)
            return {} if document is None else read(document)

        return read_body

    def body_writer(self, shape: Any, names: Collection[str] | None) -> BodyWriter:
        values = self._values
        write = values.writer(shape) if names is None else values.structure_writer(shape, names)
        return lambda value: json_values.encode(write(value))

    def render_error(self, error: ServiceError, request_id: str, operation: str | None) -> Response:
        code = self.code_of(error)
        headers = [
            (REQUEST_ID_HEADER, request_id),
            ("Content-Type", self.content_type),
            ("x-amzn-ErrorType", code),
        ]
        shape = self._errors.get(code)
        if shape is None:
            fault = {"Type": error.fault} if self._says_whose_fault else {}
            return Response(
                error.status, headers, json_values.encode({**fault, "message": error.message, **error.fields})
            )
        in_body = {}
        for name, value in self.error_members(error, shape).items():
            member = shape.members[name]
            if member.serialization.get("location") != "header":
                in_body[name] = value
            elif value is not None:
                headers.append((member.serialization.get("name", name), scalars.text_of(value, member, "rfc822")))
        return Response(error.status, headers, json_values.encode(self._values.writer(shape)(in_body)))

"""json 1.0 and 1.1: one path, the operation in a header; the protocol of CloudWatch Logs, EventBridge and SQS.

https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambdad.domain.errors import ServiceError, UnknownOperationException
from lambdad.ingress.messages import Request, Response
from lambdad.ingress.wire import json_values
from lambdad.ingress.wire.departures import Departures
from lambdad.ingress.wire.json_values import Writer
from lambdad.ingress.wire.protocol import REQUEST_ID_HEADER, Protocol
from lambdad.ingress.wire.routes import Route
from lambdad.ingress.wire.scalars import Reader, UnmodelledOutput


class JsonRpc(Protocol):
    """JSON in and out, the operation in `X-Amz-Target`."""

    def __init__(self, model: Any, departures: Departures) -> None:
        super().__init__(model, departures)
        prefix = model.metadata["targetPrefix"]
        self._targets = {f"{prefix}.{name}": Route(name, {}) for name in model.operation_names}
        self._content_type = f"application/x-amz-json-{model.metadata.get('jsonVersion', '1.0')}"
        self._values = json_values.JsonValues()
        self._readers: dict[str, Reader | None] = {}
        self._writers: dict[str, Writer | None] = {}

    @staticmethod
    def speaks(request: Request) -> bool:
        return "x-amz-target" in request.headers

    def match(self, request: Request) -> Route:
        route = self._targets.get(request.headers.get("x-amz-target", ""))
        if route is None:
            raise UnknownOperationException("The operation that X-Amz-Target names does not exist.")
        return route

    def parse(self, route: Route, request: Request, body: bytes) -> dict[str, Any]:
        name = route.operation
        if name not in self._readers:
            shape = self.model.operation_model(name).input_shape
            self._readers[name] = None if shape is None else self._values.reader(shape)
        read = self._readers[name]
        document = json_values.decode(body) if body and read is not None else None
        return {} if document is None or read is None else read(document)

    def render(self, operation: str, output: Mapping[str, Any], request_id: str) -> Response:
        if operation not in self._writers:
            shape = self.model.operation_model(operation).output_shape
            self._writers[operation] = None if shape is None else self._values.writer(shape)
        write = self._writers[operation]
        headers = [(REQUEST_ID_HEADER, request_id), ("Content-Type", self._content_type)]
        if write is not None:
            return Response(200, headers, json_values.encode(write(output)))
        if output:
            raise UnmodelledOutput(operation, "it has no output")
        return Response(200, headers)

    def render_error(self, error: ServiceError, request_id: str, operation: str | None) -> Response:
        headers = [(REQUEST_ID_HEADER, request_id), ("Content-Type", self._content_type)]
        code = self.code_of(error)
        shape = self._errors.get(code)
        # The status says no more than whose fault it is, unless the model has one: even what is not found is 400.
        status = self.status_of(error, shape)
        if shape is None:
            members = {"message": error.message, **error.fields}
        else:
            code = shape.name
            members = self._values.writer(shape)(self.error_members(error, shape))
            # Where the model has no member for it, the message is sent all the same.
            if not any(name.lower() == "message" for name in members):
                members["message"] = error.message
        headers += self.query_error_headers(error, shape)
        return Response(status, headers, json_values.encode({"__type": code, **members}))

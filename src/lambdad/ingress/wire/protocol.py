"""What every AWS protocol does. REST-XML and EC2 are one more class each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from lambdad.domain.errors import ServiceError, ServiceException, ValidationException
from lambdad.ingress.messages import Request, Response
from lambdad.ingress.wire.departures import Departures
from lambdad.ingress.wire.routes import Route
from lambdad.ingress.wire.scalars import UnmodelledOutput

REQUEST_ID_HEADER = "x-amzn-RequestId"


class Protocol(ABC):
    """One service's requests and answers in one protocol. `model` is a botocore `ServiceModel`."""

    def __init__(self, model: Any, departures: Departures) -> None:
        self.model = model
        self.departures = departures
        self._errors: dict[str, Any] = {}
        for shape in model.error_shapes:
            self._errors[shape.name] = shape
            self._errors.setdefault(shape.error_code, shape)

    @staticmethod
    def speaks(request: Request) -> bool:
        """Whether a request is in this protocol: asked of each that a service has, if it has several."""
        return False

    @abstractmethod
    def match(self, request: Request) -> Route:
        """The operation that is asked for. Raises UnknownOperationException."""

    @abstractmethod
    def parse(self, route: Route, request: Request, body: bytes) -> dict[str, Any]:
        """The input as the model names it, typed but not yet validated. Raises SerializationException."""

    @abstractmethod
    def render(self, operation: str, output: Mapping[str, Any], request_id: str) -> Response:
        """The answer to success. Raises UnmodelledOutput."""

    @abstractmethod
    def render_error(self, error: ServiceError, request_id: str, operation: str | None) -> Response:
        """The answer to failure; `operation` is None when none was found."""

    def code_of(self, error: ServiceError) -> str:
        """The code under which this service reports the error."""
        if isinstance(error, ValidationException):
            return self.departures.validation_code
        return self.departures.internal_code if isinstance(error, ServiceException) else error.code

    def status_of(self, error: ServiceError, shape: Any) -> int:
        """The status of an error that is sent by its model's shape, or without one: 400 or 500 if that gives none."""
        if shape is None:
            return error.status
        status: int = shape.metadata.get("error", {}).get("httpStatusCode", 500 if error.status >= 500 else 400)
        return status

    def query_fault(self, error: ServiceError) -> str:
        """Whose fault an error is, in the words of the query protocol."""
        return "Sender" if error.status < 500 else "Receiver"

    def query_error_headers(self, error: ServiceError, shape: Any) -> list[tuple[str, str]]:
        """What tells the code of the query protocol, where a service once spoke only that: SDKs go by it.

        https://smithy.io/2.0/aws/protocols/aws-query-protocol.html#aws-protocols-awsquerycompatible-trait
        """
        if "awsQueryCompatible" not in self.model.metadata:
            return []
        code = self.code_of(error) if shape is None else shape.error_code
        return [("x-amzn-query-error", f"{code};{self.query_fault(error)}")]

    def error_members(self, error: ServiceError, shape: Any) -> dict[str, Any]:
        """The members of the error's shape, by the names that the model gives them. Raises UnmodelledOutput.

        `Type`, where the shape has it, says whose fault it is; `message` is spelled as the shape spells it.
        """
        members = dict(error.fields)
        unknown = members.keys() - shape.members.keys()
        if unknown:
            raise UnmodelledOutput(shape.name, f"it has no member {', '.join(sorted(unknown))}")
        for name in shape.members:
            if name.lower() == "message":
                members[name] = error.message
            elif name == "Type":
                members.setdefault(name, error.fault)
        return members

"""What every AWS protocol does. Query, REST-XML, EC2 and CBOR are one more class each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from lambdad.domain.errors import ServiceError, ValidationException
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
        return self.departures.validation_code if isinstance(error, ValidationException) else error.code

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

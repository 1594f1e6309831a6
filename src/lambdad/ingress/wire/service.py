"""One AWS service on the wire: what it is asked, checked against its model, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from botocore.loaders import Loader
from botocore.model import ServiceModel

from lambdad.domain.errors import LambdadError, SerializationException, ServiceError
from lambdad.ingress.messages import Request, Response
from lambdad.ingress.wire.compression import plain
from lambdad.ingress.wire.departures import DEPARTURES, NONE, Departures
from lambdad.ingress.wire.json_rpc import JsonRpc
from lambdad.ingress.wire.protocol import Protocol
from lambdad.ingress.wire.query import Query
from lambdad.ingress.wire.rest_json import RestJson
from lambdad.ingress.wire.routes import Route
from lambdad.ingress.wire.rpc_v2_cbor import RpcV2Cbor
from lambdad.ingress.wire.validation import Validator

PROTOCOLS: Final[Mapping[str, type[Protocol]]] = {
    "smithy-rpc-v2-cbor": RpcV2Cbor,
    "json": JsonRpc,
    "rest-json": RestJson,
    "query": Query,
}
"""By the names that botocore's models use."""


class UnsupportedProtocol(LambdadError):
    """The service's model names no protocol that lambdad speaks."""

    def __init__(self, service: str, protocol: str) -> None:
        super().__init__(f"{service} is served in {protocol}, and lambdad speaks {', '.join(PROTOCOLS)}")


class Service:
    """One AWS service: its model, the protocol in which it is spoken to, and what it departs from the model in."""

    def __init__(self, model: Any, departures: Departures = NONE, protocol_name: str = "") -> None:
        """`model` is a botocore `ServiceModel`, whose first protocol it is unless another is named.

        Raises UnsupportedProtocol.
        """
        protocol_name = protocol_name or model.metadata["protocol"]
        protocol = PROTOCOLS.get(protocol_name)
        if protocol is None:
            raise UnsupportedProtocol(model.service_name, protocol_name)
        self.name: Final[str] = model.service_name
        self.model: Final = model
        self.operation_names: Final = frozenset(model.operation_names)
        self._protocol = protocol(model, departures)
        self._validator = Validator(departures)
        self._input_shapes: dict[str, Any] = {}
        self._in_each: Sequence[Service] = ()
        """Where a service has several protocols: itself in each of them."""

    @classmethod
    def load(cls, name: str) -> Service:
        """The service that botocore calls `name`, such as "lambda" or "logs"; the same object every time.

        Raises UnsupportedProtocol, and botocore's UnknownServiceError.
        """
        return _load(name)

    def spoken_in(self, request: Request) -> Service:
        """This service in the protocol of the request, which is one of those that its model names, or its first."""
        return next((service for service in self._in_each if service._protocol.speaks(request)), self)

    def match(self, request: Request) -> Route:
        """The operation that a request asks for. Raises UnknownOperationException."""
        return self._protocol.match(request)

    def parse(self, route: Route, request: Request, body: bytes) -> dict[str, Any]:
        """The operation's input by the names of the model, complete and within the model's constraints.

        Blobs are bytes and timestamps are aware datetimes; what was not sent, or sent as null, is not there.
        Raises SerializationException when it cannot be read, and ValidationException when it breaks a constraint.
        """
        try:
            found = self._protocol.parse(route, request, self._plain(route.operation, request, body))
            self._validate(route.operation, found)
        except RecursionError:
            # A shape that holds itself lets a client nest as deep as it likes.
            raise SerializationException("Unexpected token received from parser") from None
        return found

    def render(self, operation: str, output: Mapping[str, Any], request_id: str) -> Response:
        """The answer of an operation that succeeded. Members that are None are left out.

        A payload that streams may be bytes or a generator of chunks, an event stream a generator of encoded messages.
        Raises UnmodelledOutput when the output has what the model has not.
        """
        return self._protocol.render(operation, output, request_id)

    def render_error(self, error: ServiceError, request_id: str, operation: str | None) -> Response:
        """The answer of a request that failed; `operation` is None when `match` raised."""
        return self._protocol.render_error(error, request_id, operation)

    def _plain(self, operation: str, request: Request, body: bytes) -> bytes:
        if "content-encoding" not in request.headers or not self.model.operation_model(operation).request_compression:
            return body
        return plain(request, body)

    def _validate(self, operation: str, found: Mapping[str, Any]) -> None:
        if operation not in self._input_shapes:
            self._input_shapes[operation] = self.model.operation_model(operation).input_shape
        shape = self._input_shapes[operation]
        if shape is not None:
            self._validator.validate(shape, found)


@cache
def _load(name: str) -> Service:
    model = ServiceModel(Loader().load_service_model(name, "service-2"), name)
    departures = DEPARTURES.get(name, NONE)
    service = Service(model, departures)
    spoken = [each for each in model.metadata.get("protocols", ()) if each in PROTOCOLS]
    if len(spoken) > 1:
        service._in_each = [
            service if each == model.metadata["protocol"] else Service(model, departures, each) for each in spoken
        ]
    return service

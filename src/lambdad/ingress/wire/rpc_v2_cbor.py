"""Smithy RPC v2 with CBOR: the operation in the path, values in binary; what the newest SDKs speak to CloudWatch.

https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html
cbor2 is imported with the first request that speaks it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from lambdad.domain.errors import SerializationException, ServiceError, UnknownOperationException
from lambdad.ingress.messages import Request, Response
from lambdad.ingress.wire import scalars, timestamps
from lambdad.ingress.wire.departures import Departures
from lambdad.ingress.wire.json_values import JsonValues, Writer
from lambdad.ingress.wire.protocol import REQUEST_ID_HEADER, Protocol
from lambdad.ingress.wire.routes import Route
from lambdad.ingress.wire.scalars import Reader, UnmodelledOutput

if TYPE_CHECKING:
    from cbor2 import CBORTag

_HEADER: Final = "smithy-protocol"
_NAME: Final = "rpc-v2-cbor"
_PATH: Final = re.compile(r"/service/[^/]+/operation/([^/]+)")
_EPOCH_TAG: Final = 1


def decode(body: bytes) -> Any:
    """The value in a request's body. Raises SerializationException when it is not one value in CBOR."""
    import cbor2

    try:
        return cbor2.loads(body, strict_hashable_types=True)
    except cbor2.CBORDecodeError:
        raise SerializationException("The body is not CBOR") from None


def _encode(value: Any) -> bytes:
    import cbor2

    return cbor2.dumps(value)


class RpcV2Cbor(Protocol):
    """CBOR in and out, at `/service/<name>/operation/<operation>`."""

    def __init__(self, model: Any, departures: Departures) -> None:
        super().__init__(model, departures)
        self._values = CborValues()

    @staticmethod
    def speaks(request: Request) -> bool:
        return request.headers.get(_HEADER) == _NAME

    def match(self, request: Request) -> Route:
        found = _PATH.fullmatch(request.path) if request.method == "POST" else None
        if found is None or found[1] not in self.model.operation_names:
            raise UnknownOperationException("The operation that the path names does not exist.")
        return Route(found[1], {})

    def parse(self, route: Route, request: Request, body: bytes) -> dict[str, Any]:
        shape = self.model.operation_model(route.operation).input_shape
        if shape is None or not body:
            return {}
        found: dict[str, Any] = self._values.reader(shape)(decode(body))
        return found

    def render(self, operation: str, output: Mapping[str, Any], request_id: str) -> Response:
        shape = self.model.operation_model(operation).output_shape
        headers = [(REQUEST_ID_HEADER, request_id), (_HEADER, _NAME)]
        if shape is not None:
            headers.append(("Content-Type", "application/cbor"))
            return Response(200, headers, _encode(self._values.writer(shape)(output)))
        if output:
            raise UnmodelledOutput(operation, "it has no output")
        return Response(200, headers)

    def render_error(self, error: ServiceError, request_id: str, operation: str | None) -> Response:
        code = self.code_of(error)
        shape = self._errors.get(code)
        status = self.status_of(error, shape)
        if shape is None:
            members: dict[str, Any] = {"message": error.message, **error.fields}
        else:
            members = self._values.writer(shape)(self.error_members(error, shape))
            members.setdefault("message", error.message)
        document = {"__type": code if shape is None else shape.name, **members}
        headers = [(REQUEST_ID_HEADER, request_id), (_HEADER, _NAME), ("Content-Type", "application/cbor")]
        return Response(status, [*headers, *self.query_error_headers(error, shape)], _encode(document))


class CborValues(JsonValues):
    """The readers and writers of one service: those of JSON, but for what CBOR has types of its own for."""

    def reader(self, shape: Any) -> Reader:
        return _READERS.get(shape.type_name) or super().reader(shape)

    def writer(self, shape: Any) -> Writer:
        kind: str = shape.type_name
        if kind not in _WRITERS:
            return super().writer(shape)
        name, write = shape.name, _WRITERS[kind]

        def write_scalar(value: Any) -> Any:
            scalars.check_scalar(value, kind, name)
            return write(value)

        return write_scalar


def _read_timestamp(value: Any) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    return _read_number(value)  # type: ignore[no-any-return]


def _read_float(value: Any) -> float:
    return value if type(value) is float else scalars.read_float(value)


def _read_blob(value: Any) -> bytes:
    if type(value) is not bytes:
        raise scalars.not_convertible(value, "blob")
    return value


def _write_timestamp(value: datetime | float) -> CBORTag:
    import cbor2

    return cbor2.CBORTag(_EPOCH_TAG, timestamps.to_epoch(value))


_read_number: Final = scalars.timestamp_reader("unixTimestamp")
_READERS: Final[Mapping[str, Reader]] = {
    "blob": _read_blob,
    "double": _read_float,
    "float": _read_float,
    "timestamp": _read_timestamp,
}
_WRITERS: Final[Mapping[str, Writer]] = {
    "blob": bytes,
    "double": float,
    "float": float,
    "timestamp": _write_timestamp,
}

"""The REST protocols: an operation is a method and a path, and members stand in the path, query, headers and body.

https://smithy.io/2.0/spec/http-bindings.html
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

from lambdad.domain.errors import UnknownOperationException
from lambdad.ingress.messages import Request, Response
from lambdad.ingress.wire import event_stream, scalars
from lambdad.ingress.wire.departures import Departures
from lambdad.ingress.wire.protocol import REQUEST_ID_HEADER, Protocol
from lambdad.ingress.wire.routes import Route, RouteTable
from lambdad.ingress.wire.scalars import Reader, UnmodelledOutput

BodyReader = Callable[[bytes], Any]
BodyWriter = Callable[[Any], bytes]
_QUERY_TIMESTAMPS: Final = "iso8601"
_HEADER_TIMESTAMPS: Final = "rfc822"


class UnroutableRequest(UnknownOperationException):
    """No operation has this method and path.

    AWS authorizes a request before it looks for the operation, and so answers that it may not be done.
    """

    code = "AccessDeniedException"
    status = 403

    def __init__(self) -> None:
        super().__init__("Unable to determine service/operation name to be authorized")


class _Input(NamedTuple):
    """Where the members of an operation's input are to be found."""

    uri: list[tuple[str, str, Callable[[str], Any]]]  # member, label, reader
    query: list[tuple[str, Callable[[dict[str, list[str]]], Any]]]  # member, reader of the whole query
    headers: list[tuple[str, str, Callable[[str], Any]]]  # member, header, reader
    prefixed: list[tuple[str, str]]  # member, prefix of the headers
    payload: str | None  # the member that is the whole body
    body: BodyReader | None  # None: the body is the payload as it is, or there is none


class _Output(NamedTuple):
    """Where the members of an operation's output go."""

    shape: str
    status: int
    members: frozenset[str]
    status_member: str | None
    headers: list[tuple[str, str, Callable[[Any], str]]]
    prefixed: list[tuple[str, str]]
    payload: str | None
    content_type: str
    body: BodyWriter | None  # None: the body is the payload as it is, or there is none
    body_members: frozenset[str]


class RestProtocol(Protocol):
    """What rest-json and rest-xml have in common; they differ in the documents in a body."""

    content_type: str

    def __init__(self, model: Any, departures: Departures) -> None:
        super().__init__(model, departures)
        self._inputs: dict[str, _Input] = {}
        self._outputs: dict[str, _Output] = {}
        http = ((name, model.operation_model(name).http) for name in model.operation_names)
        self._routes = RouteTable((name, trait["method"], trait["requestUri"]) for name, trait in http)

    @abstractmethod
    def body_reader(self, shape: Any, names: Collection[str] | None) -> BodyReader:
        """Reads a body that holds a `shape`, or these members of it."""

    @abstractmethod
    def body_writer(self, shape: Any, names: Collection[str] | None) -> BodyWriter:
        """Writes a `shape`, or these members of it, as a body."""

    def match(self, request: Request) -> Route:
        route = self._routes.match(request.method, request.path, request.query)
        if route is None:
            raise UnroutableRequest
        return route

    def parse(self, route: Route, request: Request, body: bytes) -> dict[str, Any]:
        plan = self._inputs.get(route.operation)
        if plan is None:
            plan = self._inputs[route.operation] = self._plan_input(route.operation)
        found: dict[str, Any] = {}
        if body:
            if plan.payload is not None:
                found[plan.payload] = body if plan.body is None else plan.body(body)
            elif plan.body is not None:
                found.update(plan.body(body))
        for member, label, read in plan.uri:
            found[member] = read(route.uri[label])
        if plan.query and request.query:
            query = parse_qs(request.query, keep_blank_values=True)
            for member, read_query in plan.query:
                value = read_query(query)
                if value is not None:
                    found[member] = value
        for member, header, read in plan.headers:
            text = request.headers.get(header)
            if text is not None:
                found[member] = read(text)
        for member, prefix in plan.prefixed:
            named = {name[len(prefix) :]: text for name, text in request.headers.items() if name.startswith(prefix)}
            if named:
                found[member] = named
        return found

    def render(self, operation: str, output: Mapping[str, Any], request_id: str) -> Response:
        plan = self._outputs.get(operation)
        if plan is None:
            plan = self._outputs[operation] = self._plan_output(operation)
        unknown = output.keys() - plan.members
        if unknown:
            raise UnmodelledOutput(plan.shape, f"it has no member {', '.join(sorted(unknown))}")
        status = plan.status
        if plan.status_member is not None and output.get(plan.status_member) is not None:
            status = output[plan.status_member]
        headers = [(REQUEST_ID_HEADER, request_id)]
        for member, header, write in plan.headers:
            value = output.get(member)
            if value is not None:
                headers.append((header, write(value)))
        for member, prefix in plan.prefixed:
            headers.extend((prefix + name, text) for name, text in (output.get(member) or {}).items())
        body = self._body(plan, output, status)
        # An output may carry a content type of its own, as that of a streamed response does.
        if body is not None and not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("Content-Type", plan.content_type))
        return Response(status, headers, b"" if body is None else body)

    def _body(
        self, plan: _Output, output: Mapping[str, Any], status: int
    ) -> bytes | AsyncGenerator[bytes, None] | None:
        if status == 204:
            return None
        if plan.payload is None:
            if plan.body is None:
                return None
            return plan.body({name: value for name, value in output.items() if name in plan.body_members})
        payload = output.get(plan.payload)
        if payload is None:
            return b""
        if plan.body is not None:
            return plan.body(payload)
        if isinstance(payload, str):
            return payload.encode()
        if isinstance(payload, bytes | AsyncGenerator):
            return payload
        raise UnmodelledOutput(plan.shape, f"{type(payload).__name__} is not a payload")

    def _plan_input(self, operation: str) -> _Input:
        plan = _Input([], [], [], [], None, None)
        shape = self.model.operation_model(operation).input_shape
        if shape is None:
            return plan
        in_body = []
        for name, member in shape.members.items():
            location = member.serialization.get("location")
            at = member.serialization.get("name", name)
            if location == "uri":
                plan.uri.append((name, at, scalars.text_reader(member, _QUERY_TIMESTAMPS)))
            elif location == "querystring":
                plan.query.append((name, _query_reader(member, at)))
            elif location == "header":
                plan.headers.append((name, at.lower(), _header_reader(member)))
            elif location == "headers":
                plan.prefixed.append((name, at.lower()))
            else:
                in_body.append(name)
        payload = shape.serialization.get("payload")
        if payload is not None:
            read = _payload_reader(self, shape.members[payload])
            return plan._replace(payload=payload, body=read)
        return plan._replace(body=self.body_reader(shape, in_body) if in_body else None)

    def _plan_output(self, operation: str) -> _Output:
        model = self.model.operation_model(operation)
        status = model.http.get("responseCode", 200)
        shape = model.output_shape
        plan = _Output(operation, status, frozenset(), None, [], [], None, self.content_type, None, frozenset())
        if shape is None:
            return plan
        in_body = []
        for name, member in shape.members.items():
            location = member.serialization.get("location")
            at = member.serialization.get("name", name)
            if location == "statusCode":
                plan = plan._replace(status_member=name)
            elif location == "header":
                plan.headers.append((name, at, _header_writer(member)))
            elif location == "headers":
                plan.prefixed.append((name, at))
            else:
                in_body.append(name)
        plan = plan._replace(shape=shape.name, members=frozenset(shape.members))
        payload = shape.serialization.get("payload")
        if payload is None:
            return plan._replace(body=self.body_writer(shape, in_body), body_members=frozenset(in_body))
        member = shape.members[payload]
        plan = plan._replace(payload=payload)
        if member.serialization.get("eventstream"):
            return plan._replace(content_type=event_stream.CONTENT_TYPE)
        if member.type_name in {"blob", "string"}:
            content_types = self.departures.payload_content_types
            return plan._replace(content_type=content_types.get(operation, "application/octet-stream"))
        return plan._replace(body=self.body_writer(member, None))


def _payload_reader(protocol: RestProtocol, member: Any) -> BodyReader | None:
    if member.type_name == "blob":
        return None
    if member.type_name == "string":
        return lambda body: body.decode(errors="replace")
    return protocol.body_reader(member, None)


def _query_reader(shape: Any, name: str) -> Callable[[dict[str, list[str]]], Any]:
    if shape.type_name == "map":
        several = shape.value.type_name == "list"
        return lambda query: {key: values if several else values[0] for key, values in query.items()}
    if shape.type_name == "list":
        read_one = scalars.text_reader(shape.member, _QUERY_TIMESTAMPS)
        return lambda query: [read_one(text) for text in query[name]] if name in query else None
    read = scalars.text_reader(shape, _QUERY_TIMESTAMPS)
    return lambda query: read(query[name][0]) if name in query else None


def _header_reader(shape: Any) -> Reader:
    if shape.serialization.get("jsonvalue"):
        return scalars.json_text_reader
    if shape.type_name == "list":
        read = scalars.text_reader(shape.member, _HEADER_TIMESTAMPS)
        return lambda text: [read(one.strip()) for one in text.split(",")]
    return scalars.text_reader(shape, _HEADER_TIMESTAMPS)


def _header_writer(shape: Any) -> Callable[[Any], str]:
    if shape.serialization.get("jsonvalue"):
        return scalars.json_text
    if shape.type_name == "list":
        return lambda values: ",".join(scalars.text_of(value, shape.member, _HEADER_TIMESTAMPS) for value in values)
    return lambda value: scalars.text_of(value, shape, _HEADER_TIMESTAMPS)

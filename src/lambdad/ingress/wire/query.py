"""Query: a form in, XML out, the operation in the field `Action`; what older SDKs and shell scripts speak.

https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from lambdad.domain.errors import SerializationException, ServiceError, UnknownOperationException
from lambdad.ingress.messages import Request, Response
from lambdad.ingress.wire import scalars
from lambdad.ingress.wire.compression import plain
from lambdad.ingress.wire.departures import Departures
from lambdad.ingress.wire.protocol import REQUEST_ID_HEADER, Protocol
from lambdad.ingress.wire.routes import Route
from lambdad.ingress.wire.scalars import UnmodelledOutput

FORM: Final = "application/x-www-form-urlencoded"
_TIMESTAMP_FORMAT: Final = "iso8601"
_DEPTH_MAX: Final = 64
"""So many parts may a field's name have; those of models have less."""

_Fields = dict[str | None, Any]
"""A form as a tree: `a.b.1=x` is {"a": {"b": {"1": {None: "x"}}}}."""


class Query(Protocol):
    """A form in the body, or in the query of a GET; answers in XML."""

    def __init__(self, model: Any, departures: Departures) -> None:
        super().__init__(model, departures)
        self._namespace: str = model.metadata.get("xmlNamespace", "")

    @staticmethod
    def speaks(request: Request) -> bool:
        return request.headers.get("content-type", "").lower().startswith(FORM) or "Action=" in request.query

    def match(self, request: Request) -> Route:
        """The operation that `Action` names; a form must be here whole. Raises SerializationException too."""
        action = dict(_pairs(request, plain(request, request.body.whole() or b""))).get("Action")
        if action not in self.model.operation_names:
            raise UnknownOperationException(f"Could not find operation {action or ''}")
        return Route(str(action), {})

    def parse(self, route: Route, request: Request, body: bytes) -> dict[str, Any]:
        shape = self.model.operation_model(route.operation).input_shape
        tree: _Fields = {}
        for name, value in _pairs(request, body):
            steps = name.split(".")
            if len(steps) > _DEPTH_MAX:
                raise SerializationException(f"The name of a field has more than {_DEPTH_MAX} parts")
            place = tree
            for step in steps:
                place = place.setdefault(step, {})
            place[None] = value
        return {} if shape is None else _read_structure(shape, tree)

    def render(self, operation: str, output: Mapping[str, Any], request_id: str) -> Response:
        shape = self.model.operation_model(operation).output_shape
        root = Element(f"{operation}Response", xmlns=self._namespace)
        if shape is not None:
            wrapper = shape.serialization.get("resultWrapper", f"{operation}Result")
            _write_structure(shape, output, SubElement(root, wrapper))
        elif output:
            raise UnmodelledOutput(operation, "it has no output")
        SubElement(SubElement(root, "ResponseMetadata"), "RequestId").text = request_id
        return _response(200, root, request_id)

    def render_error(self, error: ServiceError, request_id: str, operation: str | None) -> Response:
        code = self.code_of(error)
        shape = self._errors.get(code)
        root = Element("ErrorResponse", xmlns=self._namespace)
        described = SubElement(root, "Error")
        SubElement(described, "Type").text = self.query_fault(error)
        SubElement(described, "Code").text = code if shape is None else shape.error_code
        SubElement(described, "Message").text = _in_xml(error.message)
        if shape is not None:
            members = self.error_members(error, shape)
            others = {name: value for name, value in members.items() if name.lower() not in ("message", "type")}
            _write_structure(shape, others, described)
        SubElement(root, "RequestId").text = request_id
        return _response(self.status_of(error, shape), root, request_id)


def _pairs(request: Request, body: bytes) -> list[tuple[str, str]]:
    form = body.decode("utf-8", "replace")
    return [*parse_qsl(request.query, keep_blank_values=True), *parse_qsl(form, keep_blank_values=True)]


def _response(status: int, root: Element, request_id: str) -> Response:
    headers = [(REQUEST_ID_HEADER, request_id), ("Content-Type", "text/xml")]
    # A line end of its own is read as a different one unless it is spelled so; markup has none.
    return Response(status, headers, ElementTree.tostring(root, "utf-8").replace(b"\r", b"&#13;"))


# Reading


def _read(shape: Any, place: _Fields) -> Any:
    reader = _NESTED_READERS.get(shape.type_name)
    if reader is not None:
        return reader(shape, place)
    if None not in place:
        raise scalars.not_expected(place)
    return scalars.text_reader(shape, _TIMESTAMP_FORMAT)(place[None])


def _read_structure(shape: Any, place: _Fields) -> dict[str, Any]:
    found = {}
    for name, member in shape.members.items():
        step = member.serialization.get("name", name)
        if member.type_name == "list" and member.serialization.get("flattened"):
            step = member.member.serialization.get("name", step)
        if step in place:
            found[name] = _read(member, place[step])
    return found


def _read_list(shape: Any, place: _Fields) -> list[Any]:
    inner = place
    if not shape.serialization.get("flattened"):
        inner = place.get(shape.member.serialization.get("name", "member"), {})
    return [_read(shape.member, each) for each in _numbered(inner)]


def _read_map(shape: Any, place: _Fields) -> dict[str, Any]:
    inner = place if shape.serialization.get("flattened") else place.get("entry", {})
    key, value = _entry_names(shape)
    found = {}
    for entry in _numbered(inner):
        if key not in entry:
            raise SerializationException(f"An entry of a map has a {key}")
        found[_read(shape.key, entry[key])] = _read(shape.value, entry.get(value, {}))
    return found


def _numbered(place: _Fields) -> list[_Fields]:
    """What has a number, in the order of the numbers, which need not follow one another."""
    numbers = [step for step in place if step is not None and step.isdecimal()]
    return [place[number] for number in sorted(numbers, key=_by_number)]


def _by_number(step: str) -> tuple[int, str]:
    return len(step), step


def _entry_names(shape: Any) -> tuple[str, str]:
    return shape.key.serialization.get("name", "key"), shape.value.serialization.get("name", "value")


_NESTED_READERS: Final[Mapping[str, Callable[[Any, _Fields], Any]]] = {
    "structure": _read_structure,
    "list": _read_list,
    "map": _read_map,
}


# Writing


def _write(shape: Any, value: Any, parent: Element, name: str) -> None:
    kind: str = shape.type_name
    if kind == "list":
        _write_list(shape, value, parent, name)
    elif kind == "map":
        _write_map(shape, value, parent, name)
    elif kind == "structure":
        _write_structure(shape, value, SubElement(parent, name))
    else:
        SubElement(parent, name).text = _text(shape, value)


def _write_structure(shape: Any, value: Mapping[str, Any], element: Element) -> None:
    unknown = value.keys() - shape.members.keys()
    if unknown:
        raise UnmodelledOutput(shape.name, f"it has no member {', '.join(sorted(unknown))}")
    for name, one in value.items():
        if one is not None:
            member = shape.members[name]
            _write(member, one, element, member.serialization.get("name", name))


def _write_list(shape: Any, value: Any, parent: Element, name: str) -> None:
    if isinstance(value, str | bytes | Mapping):
        raise UnmodelledOutput(shape.name, f"{type(value).__name__} is not a list")
    given = shape.member.serialization.get("name")
    flattened = shape.serialization.get("flattened")
    place = parent if flattened else SubElement(parent, name)
    for one in value:
        _write(shape.member, one, place, (given or name) if flattened else (given or "member"))


def _write_map(shape: Any, value: Mapping[str, Any], parent: Element, name: str) -> None:
    flattened = shape.serialization.get("flattened")
    place = parent if flattened else SubElement(parent, name)
    key_name, value_name = _entry_names(shape)
    for key, one in value.items():
        entry = SubElement(place, name if flattened else "entry")
        _write(shape.key, key, entry, key_name)
        _write(shape.value, one, entry, value_name)


def _text(shape: Any, value: Any) -> str:
    kind: str = shape.type_name
    if kind == "string":
        scalars.check_scalar(value, kind, shape.name)
        return _in_xml(value)
    if kind == "blob":
        scalars.check_scalar(value, kind, shape.name)
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return scalars.text_of(value, shape, _TIMESTAMP_FORMAT)


def _in_xml(text: str) -> str:
    """XML 1.0 has no way to spell most control characters, nor half surrogate pairs."""
    return "".join(each if _is_in_xml(each) else "\N{REPLACEMENT CHARACTER}" for each in text)


def _is_in_xml(character: str) -> bool:
    """https://www.w3.org/TR/xml/#charsets"""
    return character in "\t\n\r" or (
        character >= " " and not "\ud800" <= character <= "\udfff" and character not in "\ufffe\uffff"
    )

"""The values of a service model as JSON: one reader and one writer are compiled for every shape."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NoReturn

from lambdad.domain.errors import SerializationException
from lambdad.ingress.wire import scalars, timestamps
from lambdad.ingress.wire.scalars import Reader, UnmodelledOutput

Writer = Callable[[Any], Any]
"""From a value as the model names it to what `json.dumps` takes. Raises UnmodelledOutput."""

_TIMESTAMP_FORMAT: Final = "unixTimestamp"  # of both JSON protocols, where a shape does not say otherwise


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def decode(body: bytes) -> Any:
    """The document in a request's body. Raises SerializationException when it is not JSON."""
    try:
        return _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        # ValueError is bad UTF-8, bad JSON, NaN, a number of thousands of digits; RecursionError thousands of brackets.
        raise SerializationException("Unexpected token received from parser") from None


def encode(document: Any) -> bytes:
    """A document as an answer's body."""
    return _ENCODER.encode(document).encode("utf-8", "replace")


class JsonValues:
    """The readers and writers of one service."""

    def __init__(self) -> None:
        self._readers: dict[str, Reader] = {}
        self._writers: dict[str, Writer] = {}

    def reader(self, shape: Any) -> Reader:
        name: str = shape.name
        kind: str = shape.type_name
        if kind == "timestamp":  # the format belongs to the member, not to the shape
            return scalars.timestamp_reader(shape.serialization.get("timestampFormat", _TIMESTAMP_FORMAT))
        if name not in self._readers:
            # A shape can hold itself: its inner self is looked up when it is needed.
            self._readers[name] = lambda value: self._readers[name](value)
            self._readers[name] = self._compiled_reader(shape, kind)
        return self._readers[name]

    def structure_reader(self, shape: Any, names: Collection[str]) -> Reader:
        """Reads the members `names` of a structure; those that the model does not have are ignored, as null is."""
        members = {
            member.serialization.get("name", name): (name, self.reader(member))
            for name, member in shape.members.items()
            if name in names
        }

        def read_structure(value: Any) -> dict[str, Any]:
            if type(value) is not dict:
                raise scalars.not_expected(value)
            found = {}
            for key, one in value.items():
                member = members.get(key)
                if member is not None and one is not None:
                    found[member[0]] = member[1](one)
            return found

        return read_structure

    def _compiled_reader(self, shape: Any, kind: str) -> Reader:
        if kind == "structure":
            if shape.is_document_type:
                return _well_formed_document
            return self.structure_reader(shape, shape.members)
        if kind == "list":
            return _list_reader(self.reader(shape.member))
        if kind == "map":
            return _map_reader(self.reader(shape.value))
        if kind in {"integer", "long"}:
            return scalars.integer_reader(kind)
        return _SCALAR_READERS[kind]

    def writer(self, shape: Any) -> Writer:
        name: str = shape.name
        kind: str = shape.type_name
        if kind == "timestamp":
            return _timestamp_writer(shape)
        if name not in self._writers:
            self._writers[name] = lambda value: self._writers[name](value)
            self._writers[name] = self._compiled_writer(shape, kind)
        return self._writers[name]

    def structure_writer(self, shape: Any, names: Collection[str]) -> Writer:
        """Writes the members `names` of a structure; None is left out, and any other member is refused."""
        name_of_shape: str = shape.name
        members = {
            name: (member.serialization.get("name", name), self.writer(member))
            for name, member in shape.members.items()
            if name in names
        }

        def write_structure(value: Any) -> dict[str, Any]:
            if not isinstance(value, Mapping):
                raise UnmodelledOutput(name_of_shape, f"{type(value).__name__} is not a structure")
            written = {}
            for name, one in value.items():
                member = members.get(name)
                if member is None:
                    raise UnmodelledOutput(name_of_shape, f"it has no member {name}")
                if one is not None:
                    written[member[0]] = member[1](one)
            return written

        return write_structure

    def _compiled_writer(self, shape: Any, kind: str) -> Writer:
        if kind == "structure":
            return _same if shape.is_document_type else self.structure_writer(shape, shape.members)
        if kind == "list":
            return _list_writer(self.writer(shape.member), shape.name)
        if kind == "map":
            return _map_writer(self.writer(shape.value), shape.name)
        if kind == "string":
            return _string_writer(shape.name)
        return _scalar_writer(kind, shape.name)


_SCALAR_READERS: Final[Mapping[str, Reader]] = {
    "blob": scalars.read_blob,
    "boolean": scalars.read_boolean,
    "double": scalars.read_float,
    "float": scalars.read_float,
    "string": scalars.read_string,
}


def _same(value: Any) -> Any:
    return value


def _well_formed_document(value: Any) -> Any:
    if isinstance(value, str):
        return scalars.well_formed(value)
    if isinstance(value, list):
        return [_well_formed_document(one) for one in value]
    if isinstance(value, dict):
        return {scalars.well_formed(key): _well_formed_document(one) for key, one in value.items()}
    return value


def _list_reader(read: Reader) -> Reader:
    def read_list(value: Any) -> list[Any]:
        if type(value) is not list:
            raise scalars.not_expected(value)
        return [None if one is None else read(one) for one in value]

    return read_list


def _map_reader(read: Reader) -> Reader:
    def read_map(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise scalars.not_expected(value)
        return {scalars.read_string(key): None if one is None else read(one) for key, one in value.items()}

    return read_map


def _list_writer(write: Writer, shape: str) -> Writer:
    def write_list(value: Any) -> list[Any]:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
            raise UnmodelledOutput(shape, f"{type(value).__name__} is not a list")
        return [write(one) for one in value]

    return write_list


def _map_writer(write: Writer, shape: str) -> Writer:
    def write_map(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise UnmodelledOutput(shape, f"{type(value).__name__} is not a map")
        return {key: write(one) for key, one in value.items()}

    return write_map


def _string_writer(shape: str) -> Writer:
    def write_string(value: Any) -> str:
        if not isinstance(value, str):
            scalars.check_scalar(value, "string", shape)
        return value  # type: ignore[no-any-return]

    return write_string


def _scalar_writer(kind: str, shape: str) -> Writer:
    def write_scalar(value: Any) -> Any:
        scalars.check_scalar(value, kind, shape)
        if kind == "blob":
            return base64.b64encode(value).decode()
        if isinstance(value, float) and not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return value

    return write_scalar


def _timestamp_writer(shape: Any) -> Writer:
    name: str = shape.name
    timestamp_format = shape.serialization.get("timestampFormat", _TIMESTAMP_FORMAT)

    def write_timestamp(value: Any) -> Any:
        scalars.check_scalar(value, "timestamp", name)
        if timestamp_format == "unixTimestamp":
            return timestamps.to_epoch(value)
        return timestamps.to_text(value, timestamp_format)

    return write_timestamp

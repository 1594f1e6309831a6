"""Texts, numbers and moments as AWS's services read them from a request, and what they say when they cannot."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from lambdad.domain.errors import LambdadError, SerializationException
from lambdad.ingress.wire import timestamps

Reader = Callable[[Any], Any]
"""From what stands in a request to the value that the model names. Raises SerializationException."""

_WITH_ARTICLE: Final = {
    "blob": "a Blob",
    "boolean": "a Boolean",
    "double": "a Double",
    "float": "a Float",
    "integer": "an Integer",
    "long": "a Long",
    "string": "a String",
    "timestamp": "a Timestamp",
}
_BITS: Final = {"integer": 31, "long": 63}
NON_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class UnmodelledOutput(LambdadError):
    """A handler's output has a member, or a value, that the service model does not have: a mistake in lambdad."""

    def __init__(self, shape: str, fact: str) -> None:
        super().__init__(f"{shape}: {fact}")


def not_convertible(value: Any, kind: str) -> SerializationException:
    """The answer to a value of another type than the model's scalar `kind`."""
    if isinstance(value, dict | list):
        return not_expected(value)
    if isinstance(value, bool):
        token = "TRUE_VALUE" if value else "FALSE_VALUE"
    else:
        token = "STRING_VALUE" if isinstance(value, str) else "NUMBER_VALUE"
    return SerializationException(f"{token} can not be converted to {_WITH_ARTICLE.get(kind, f'a {kind.title()}')}")


def not_expected(value: Any) -> SerializationException:
    """The answer to a structure or list where there must be none, or to a scalar where there must be one."""
    if isinstance(value, dict):
        return SerializationException("Start of structure or map found where not expected.")
    if isinstance(value, list):
        return SerializationException("Start of list found where not expected")
    return SerializationException("Unexpected value type in payload")


def read_string(value: Any) -> str:
    if type(value) is not str:
        raise not_convertible(value, "string")
    return value if value.isascii() else well_formed(value)


def well_formed(text: str) -> str:
    """`text` with half surrogate pairs, which JSON can spell but nothing can store, replaced as Java replaces them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def read_boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise not_convertible(value, "boolean")
    return value


def integer_reader(kind: str) -> Reader:
    least, most = -(1 << _BITS[kind]), (1 << _BITS[kind]) - 1

    def read_integer(value: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise not_convertible(value, kind)
        return value

    return read_integer


def read_float(value: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is str and value in NON_FINITE:
        return NON_FINITE[value]
    if type(value) is not int:
        raise not_convertible(value, "double")
    try:
        return float(value)
    except OverflowError:
        raise not_convertible(value, "double") from None


def read_blob(value: Any) -> bytes:
    if type(value) is not str:
        raise not_convertible(value, "blob")
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        raise SerializationException("STRING_VALUE can not be converted to a Blob: it is not base64") from None


def timestamp_reader(timestamp_format: str) -> Reader:
    def read_timestamp(value: Any) -> datetime:
        wanted = int | float if timestamp_format == "unixTimestamp" else str
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise not_convertible(value, "timestamp")
        try:
            return timestamps.parse(value, timestamp_format)
        except (ValueError, OverflowError):  # an integer can be too large for a float
            raise not_convertible(value, "timestamp") from None

    return read_timestamp


def text_reader(shape: Any, default_timestamp_format: str) -> Callable[[str], Any]:
    """Reads a scalar that stands as text in a path, a query or a header."""
    kind: str = shape.type_name
    if kind in _BITS:
        return _number_in_text(int, integer_reader(kind), kind)
    if kind in {"float", "double"}:
        return lambda text: NON_FINITE[text] if text in NON_FINITE else _number_in_text(float, read_float, kind)(text)
    if kind == "boolean":
        return _boolean_in_text
    if kind == "blob":
        return read_blob
    if kind == "timestamp":
        timestamp_format = shape.serialization.get("timestampFormat", default_timestamp_format)
        read = timestamp_reader(timestamp_format)
        return _number_in_text(float, read, kind) if timestamp_format == "unixTimestamp" else read
    return read_string


def json_text_reader(text: str) -> Any:
    """Reads a header that carries a JSON document in base64."""
    try:
        return json.loads(read_blob(text))
    except (ValueError, RecursionError):
        raise SerializationException("Unexpected token received from parser") from None


def json_text(value: Any) -> str:
    """A JSON document as it stands in a header."""
    return base64.b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()


def text_of(value: Any, shape: Any, default_timestamp_format: str) -> str:
    """A scalar as it stands in a header. Raises UnmodelledOutput."""
    kind: str = shape.type_name
    if kind == "timestamp":
        return timestamps.to_text(value, shape.serialization.get("timestampFormat", default_timestamp_format))
    check_scalar(value, kind, shape.name)
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "blob":
        return base64.b64encode(value).decode()
    text = str.__str__(value) if isinstance(value, str) else str(value)
    if "\r" in text or "\n" in text:
        raise UnmodelledOutput(shape.name, "a header holds no line end")
    return text


def check_scalar(value: Any, kind: str, shape: str) -> None:
    """Raises UnmodelledOutput when `value` is not of the type that the model names."""
    fits = isinstance(value, _PYTHON_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not fits:
        raise UnmodelledOutput(shape, f"{type(value).__name__} is not {_WITH_ARTICLE[kind]}")


_PYTHON_TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "blob": (bytes, bytearray, memoryview),
    "boolean": bool,
    "double": (float, int),
    "float": (float, int),
    "integer": int,
    "long": int,
    "string": str,
    "timestamp": (datetime, float, int),
}


def _number_in_text(parse: Callable[[str], Any], read: Reader, kind: str) -> Callable[[str], Any]:
    def read_number(text: str) -> Any:
        try:
            # Python would take spaces, underscores and the digits of any script for a number.
            number = parse(text) if text.isascii() and "_" not in text and text.strip() == text else None
        except ValueError:
            number = None
        if number is None:
            raise not_convertible(text, kind)
        return read(number)

    return read_number


def _boolean_in_text(text: str) -> bool:
    if text not in {"true", "false"}:
        raise not_convertible(text, "boolean")
    return text == "true"

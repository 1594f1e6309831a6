"""Records to JSON and back, derived from the dataclasses themselves.

A record that an older lambdad wrote still loads: a field that its JSON lacks takes the field's default, and one that
the class no longer has is passed over. Fields may be text, numbers, truth values, enums, literals, other dataclasses,
mappings with text keys, tuples, frozen sets, and any one of these or None.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lambdad.domain.arns import LATEST
from lambdad.domain.errors import LambdadError

R = TypeVar("R")
Decoder = Callable[[Any], Any]

_PUBLISHED = re.compile(r"[1-9][0-9]{0,17}")


class UnreadableRecord(LambdadError):
    """Stored JSON does not describe the record that it should: a value is missing or of another type."""


def version_number(version: str) -> int | None:
    """The place of a version among its function's: 0 for `$LATEST`; None for what no version is called, such as 007."""
    if version == LATEST:
        return 0
    return int(version) if _PUBLISHED.fullmatch(version) else None


def encode(record: Any) -> str:
    """The JSON of a dataclass instance. It is read back before it is trusted, so that nothing unreadable is stored.

    Raises TypeError for a record that JSON does not carry unchanged, such as one with a list where it declares a tuple.
    """
    try:
        text = json.dumps(record, default=_jsonable, separators=(",", ":"), allow_nan=False)
        faithful = decode(type(record), text) == record
    except (UnreadableRecord, ValueError) as error:
        raise TypeError(f"JSON does not carry {record!r}: {error}") from error
    if not faithful:
        raise TypeError(f"JSON does not carry {record!r} unchanged")
    return text


def decode(cls: type[R], text: str) -> R:
    """The record of class `cls` that `text` describes; raises UnreadableRecord."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UnreadableRecord(f"{cls.__name__}: {error}") from error
    kind: type = cls
    record: R = _dataclass(kind)(value)
    return record


def _jsonable(value: Any) -> Any:
    """What `json` is to write for a value that it does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in _stored_fields(type(value))}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"JSON has no {type(value).__name__}")


@functools.cache
def _stored_fields(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(field for field in dataclasses.fields(cls) if field.init)


@functools.cache
def _dataclass(cls: type) -> Decoder:
    """What makes a `cls` of parsed JSON; built once from the annotations, which are therefore checked at first use."""
    hints = typing.get_type_hints(cls)
    decoders = {
        field.name: _decoder(hints[field.name], f"{cls.__name__}.{field.name}") for field in _stored_fields(cls)
    }

    def decode_dataclass(value: Any) -> Any:
        if type(value) is not dict:
            raise UnreadableRecord(f"{cls.__name__}: an object was expected, not {value!r}")
        try:
            return cls(**{name: decoder(value[name]) for name, decoder in decoders.items() if name in value})
        except (TypeError, ValueError) as error:  # TypeError: a field has neither a value nor a default
            raise UnreadableRecord(f"{cls.__name__}: {error}") from error

    return decode_dataclass


def _decoder(hint: Any, where: str) -> Decoder:
    """What reads a value of the annotated type `hint`; raises TypeError for a type that JSON could not give back."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _optional(arguments, where)
    if origin is typing.Literal:
        return _one_of({argument: argument for argument in arguments}, where)
    if isinstance(origin, type) and issubclass(origin, Mapping) and arguments[0] is str:
        return _mapping(_decoder(arguments[1], where), where)
    if origin is tuple:
        return _tuple(arguments, where)
    if origin is frozenset:
        members = _list(_decoder(arguments[0], where), where)
        return lambda value: frozenset(members(value))
    if isinstance(hint, type):
        if dataclasses.is_dataclass(hint):
            return _dataclass(hint)
        if issubclass(hint, enum.Enum):
            return _one_of({member.value: member for member in hint}, where)
        if hint is float:
            return _number(where)
        if hint in (str, int, bool):
            return _scalar(hint, where)
    raise TypeError(f"{where}: a record cannot hold {hint!r}")


def _scalar(kind: type, where: str) -> Decoder:
    def decode_scalar(value: Any) -> Any:
        if type(value) is not kind:
            raise UnreadableRecord(f"{where}: {kind.__name__} was expected, not {value!r}")
        return value

    return decode_scalar


def _number(where: str) -> Decoder:
    def decode_number(value: Any) -> float:
        if type(value) not in (float, int):
            raise UnreadableRecord(f"{where}: a number was expected, not {value!r}")
        return float(value)

    return decode_number


def _one_of(choices: Mapping[Any, Any], where: str) -> Decoder:
    def decode_choice(value: Any) -> Any:
        if not isinstance(value, str | int) or value not in choices:
            raise UnreadableRecord(f"{where}: one of {', '.join(map(repr, choices))} was expected, not {value!r}")
        return choices[value]

    return decode_choice


def _optional(arguments: tuple[Any, ...], where: str) -> Decoder:
    members = [argument for argument in arguments if argument is not types.NoneType]
    if len(members) != 1:
        raise TypeError(f"{where}: JSON cannot tell the members of a union apart")
    decode_member = _decoder(members[0], where)
    return lambda value: None if value is None else decode_member(value)


def _mapping(decode_value: Decoder, where: str) -> Decoder:
    def decode_mapping(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise UnreadableRecord(f"{where}: an object was expected, not {value!r}")
        return {key: decode_value(item) for key, item in value.items()}

    return decode_mapping


def _list(decode_item: Decoder, where: str) -> Decoder:
    def decode_list(value: Any) -> list[Any]:
        if type(value) is not list:
            raise UnreadableRecord(f"{where}: an array was expected, not {value!r}")
        return [decode_item(item) for item in value]

    return decode_list


def _tuple(arguments: tuple[Any, ...], where: str) -> Decoder:
    """`tuple[X, ...]` of any length, or `tuple[X, Y]` with a type for each place."""
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        items = _list(_decoder(arguments[0], where), where)
        return lambda value: tuple(items(value))
    decoders = [_decoder(argument, where) for argument in arguments]

    def decode_tuple(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(decoders):
            raise UnreadableRecord(f"{where}: an array of {len(decoders)} was expected, not {value!r}")
        return tuple(decoder(item) for decoder, item in zip(decoders, value, strict=True))

    return decode_tuple

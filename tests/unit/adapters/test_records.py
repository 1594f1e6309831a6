"""Records to JSON and back, and what happens to JSON of another age."""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdad.adapters.records import UnreadableRecord, decode, encode, version_number
from lambdad.domain.functions import Alias, Function, FunctionVersion


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    weight: float = 0.5


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    count: int = 0
    ratio: float = 0.0
    enabled: bool = False
    note: str | None = None
    old_note: Optional[str] = None  # noqa: UP045 - the other spelling of the same type
    inner: Inner = Inner("default")
    maybe_inner: Inner | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    by_name: Mapping[str, Inner] = field(default_factory=dict)
    limits: dict[str, int | None] = field(default_factory=dict)
    inners: tuple[Inner, ...] = ()
    pair: tuple[str, int] = ("", 0)
    names: frozenset[str] = frozenset()
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    mode: Literal["Active", "PassThrough"] = "PassThrough"
    colours: tuple[Colour, ...] | None = None


FULL = Record(
    name="x",
    count=-(2**60),
    ratio=0.1,
    enabled=True,
    note="",
    old_note="y",
    inner=Inner("i", 1.0),
    maybe_inner=Inner("m"),
    tags={"b": "1", "a": "2"},
    by_name={"k": Inner("v")},
    limits={"a": None, "b": 0},
    inners=(Inner("1"), Inner("2")),
    pair=("p", 1),
    names=frozenset({"n", "m"}),
    colour=Colour.BLUE,
    level=Level.HIGH,
    mode="Active",
    colours=(Colour.BLUE, Colour.RED),
)


@pytest.mark.parametrize("record", [Record("x"), FULL], ids=["defaults", "full"])
def test_a_record_comes_back_equal_and_of_the_same_types(record: Record):
    back = decode(Record, encode(record))
    assert back == record
    for name in Record.__slots__:
        assert type(getattr(back, name)) is type(getattr(record, name))


def test_a_mapping_of_another_kind_comes_back_as_a_dict_in_its_order():
    tags = types.MappingProxyType({"b": "1", "a": "2"})
    back = decode(Record, encode(Record("x", tags=tags)))
    assert type(back.tags) is dict
    assert list(back.tags) == ["b", "a"]


@given(
    name=st.text(st.characters()),
    count=st.integers(),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    tags=st.dictionaries(st.text(), st.text()),
    inners=st.lists(st.builds(Inner, st.text(), st.just(0.25))).map(tuple),
)
def test_any_values_come_back(name: str, count: int, ratio: float, tags: dict[str, str], inners: tuple[Inner, ...]):
    record = Record(name, count=count, ratio=ratio, tags=tags, inners=inners)
    assert decode(Record, encode(record)) == record


def test_the_json_is_text_that_any_database_takes():
    text = encode(Record("\ud800 \x00 \U0001f600"))
    assert text.isascii()
    assert "\x00" not in text


def test_every_record_of_the_domain_has_fields_that_can_be_stored():
    """Building the reader of a class raises TypeError for a field that it could not carry."""
    for cls in (Function, FunctionVersion, Alias):
        with pytest.raises(UnreadableRecord, match="key"):
            decode(cls, "{}")


# JSON of another age


def test_a_missing_field_takes_its_default_at_any_depth():
    assert decode(Record, '{"name":"x","inner":{"name":"y"}}') == Record("x", inner=Inner("y"))


def test_an_unknown_field_is_passed_over_at_any_depth():
    text = '{"name":"x","removed":[1],"inner":{"name":"y","weight":0.5,"removed":null}}'
    assert decode(Record, text) == Record("x", inner=Inner("y"))


def test_default_factories_are_not_shared():
    one, other = decode(Record, '{"name":"x"}'), decode(Record, '{"name":"x"}')
    assert one.tags is not other.tags


def test_a_number_that_was_whole_before_is_read_as_the_float_it_became():
    back = decode(Record, '{"name":"x","ratio":1}')
    assert type(back.ratio) is float


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "Record"),
        ("{", "Record"),
        ("[]", "Record: an object"),
        ("{}", "Record: .*'name'"),
        ('{"name":null}', "Record.name: str"),
        ('{"name":"x","count":"1"}', "Record.count: int"),
        ('{"name":"x","count":1.5}', "Record.count: int"),
        ('{"name":"x","count":true}', "Record.count: int"),
        ('{"name":"x","enabled":1}', "Record.enabled: bool"),
        ('{"name":"x","ratio":"1"}', "Record.ratio: a number"),
        ('{"name":"x","ratio":false}', "Record.ratio: a number"),
        ('{"name":"x","inner":{}}', "Inner: .*'name'"),
        ('{"name":"x","inner":null}', "Inner: an object"),
        ('{"name":"x","tags":[]}', "Record.tags: an object"),
        ('{"name":"x","tags":{"a":1}}', "Record.tags: str"),
        ('{"name":"x","inners":{}}', "Record.inners: an array"),
        ('{"name":"x","pair":["a"]}', "Record.pair: an array of 2"),
        ('{"name":"x","names":"ab"}', "Record.names: an array"),
        ('{"name":"x","colour":"green"}', "Record.colour: one of 'red', 'blue'"),
        ('{"name":"x","colour":["red"]}', "Record.colour: one of"),
        ('{"name":"x","mode":"Other"}', "Record.mode: one of"),
    ],
)
def test_json_that_is_no_such_record_is_refused_with_the_fact(text: str, fact: str):
    with pytest.raises(UnreadableRecord, match=fact):
        decode(Record, text)


# What cannot be stored


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 1},
        {"count": "1"},
        {"count": None},
        {"ratio": float("nan")},
        {"ratio": float("inf")},
        {"inners": [Inner("a list where a tuple belongs")]},
        {"pair": ("a", 1, 2)},
        {"tags": {1: "a number as a key"}},
        {"tags": {"a": b"bytes"}},
        {"inner": {"name": "a mapping where a record belongs"}},
        {"names": {"a set that is not frozen"}},
        {"colour": "red"},
        {"mode": "Other"},
        {"note": object()},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_record_that_would_not_come_back_equal_is_not_written(changes: dict[str, Any]):
    with pytest.raises(TypeError, match="JSON"):
        encode(Record(**{"name": "x", **changes}))


@dataclass(frozen=True)
class HoldsBytes:
    data: bytes = b""


@dataclass(frozen=True)
class HoldsEither:
    either: str | int = 0


@dataclass(frozen=True)
class HoldsNumberedMapping:
    by_number: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HoldsAnything:
    anything: Any = None


@pytest.mark.parametrize("cls", [HoldsBytes, HoldsEither, HoldsNumberedMapping, HoldsAnything])
def test_a_field_of_a_type_that_json_could_not_give_back_is_named(cls: type):
    with pytest.raises(TypeError, match=rf"{cls.__name__}\.\w+"):
        decode(cls, json.dumps({}))


# Version numbers


def test_version_numbers():
    assert version_number("$LATEST") == 0
    assert version_number("1") == 1
    assert version_number("120") == 120
    for name in ("", "0", "007", "-1", "+1", " 1", "1\n", "1_0", "live", "$latest", "٣", "9" * 19):
        assert version_number(name) is None

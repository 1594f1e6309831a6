"""What holds for every event pattern and every event."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdad.domain.event_patterns import InvalidEventPatternException, compile_pattern

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NAMES = st.sampled_from(["a", "b", "a.b", "$or", "", "prefix"]) | st.text(max_size=4)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
EVENTS = st.dictionaries(NAMES, DOCUMENTS, max_size=5)

TEXTS = st.text(alphabet="ab*\\é/", max_size=6)
NUMBERS = st.integers(-6_000_000_000, 6_000_000_000) | st.floats(allow_nan=False, allow_infinity=False)
OPERATORS = st.sampled_from(["=", "<", "<=", ">", ">=", "!="])
SIMPLE = (
    st.fixed_dictionaries({"prefix": TEXTS})
    | st.fixed_dictionaries({"suffix": TEXTS})
    | st.fixed_dictionaries({"equals-ignore-case": TEXTS})
    | st.fixed_dictionaries({"wildcard": TEXTS})
)
EXPRESSIONS = (
    SIMPLE
    | st.fixed_dictionaries({"anything-but": SIMPLE | TEXTS | NUMBERS | st.lists(TEXTS | NUMBERS, max_size=3)})
    | st.fixed_dictionaries({"numeric": st.lists(OPERATORS | NUMBERS, max_size=5)})
    | st.fixed_dictionaries({"exists": st.booleans() | st.none()})
    | st.fixed_dictionaries({"cidr": st.sampled_from(["10.0.0.0/8", "::/0", "10.0.0.1/33", "x/1", "1/2/3"]) | TEXTS})
)
VALUES = st.lists(SCALARS | EXPRESSIONS, max_size=3)
PATTERNS = st.recursive(
    VALUES | st.lists(st.dictionaries(NAMES, VALUES, max_size=2), max_size=3),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.text() | DOCUMENTS.map(json.dumps))
def test_compiling_raises_one_exception_only(text: str) -> None:
    message = None
    try:
        compile_pattern(text)
    except InvalidEventPatternException as error:
        message = error.message
    assert message is None or message.startswith("Event pattern is not valid. Reason: ")


@given(st.dictionaries(NAMES, PATTERNS, max_size=3), EVENTS)
def test_matching_never_raises(pattern: Any, event: Any) -> None:
    try:
        compiled = compile_pattern(json.dumps(pattern))
    except InvalidEventPatternException:
        return
    assert compiled.matches(event) in (True, False)


def pattern_of(event: dict[str, Any]) -> dict[str, Any] | None:
    """The exact values of an event as a pattern; None for an event without any."""
    fields: dict[str, Any] = {}
    for name, value in event.items():
        inner = pattern_of(value) if isinstance(value, dict) else [value]
        if inner is not None:
            fields[name] = inner
    return fields or None


FINITE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
PLAIN = st.dictionaries(
    st.text(alphabet="abcd-", min_size=1, max_size=4),
    st.recursive(FINITE, lambda inner: st.dictionaries(st.text(alphabet="abcd-", min_size=1), inner, max_size=3)),
)


@given(PLAIN)
def test_a_pattern_made_from_an_event_matches_it(event: dict[str, Any]) -> None:
    pattern = pattern_of(event)
    if pattern is not None:
        assert compile_pattern(json.dumps(pattern)).matches(event)


def one(value: Any, expression: Any) -> bool:
    return compile_pattern(json.dumps({"x": [expression]})).matches({"x": value})


@given(SIMPLE, FINITE)
def test_anything_but_is_the_negation_where_the_field_exists(expression: dict[str, str], value: Any) -> None:
    try:
        negated = one(value, {"anything-but": expression})
    except InvalidEventPatternException:
        return
    assert negated is not one(value, expression)
    assert not compile_pattern(json.dumps({"x": [{"anything-but": expression}]})).matches({})


@given(FINITE)
def test_a_field_exists_or_not(value: Any) -> None:
    assert one(value, {"exists": True})
    assert not one(value, {"exists": False})


@given(st.lists(st.text(alphabet="ab", max_size=3), min_size=1, max_size=4), st.text(alphabet="ab", max_size=10))
def test_wildcards_by_definition(pieces: list[str], text: str) -> None:
    pattern = "*".join(piece or "a" for piece in pieces)

    def fits(parts: list[str], rest: str) -> bool:
        if len(parts) == 1:
            return rest == parts[0]
        starts = rest.startswith(parts[0])
        left = rest[len(parts[0]) :]
        return starts and any(fits(parts[1:], left[at:]) for at in range(len(left) + 1))

    assert one(text, {"wildcard": pattern}) is fits(pattern.split("*"), text)


def test_values_nested_deeper_than_python_recurses() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert compile_pattern('{"a": ["x"]}').matches({"a": deep})
    assert compile_pattern('{"a": {"b": [{"exists": false}]}}').matches({"a": deep})


@pytest.mark.parametrize("wildcard", ["a*" * 1000 + "b", "*a" * 1000 + "*b", "*" + "a" * 1000 + "*b"])
def test_hostile_wildcards_take_time_that_grows_with_the_text(wildcard: str) -> None:
    pattern = compile_pattern(json.dumps({"x": [{"wildcard": wildcard}]}))

    def took_s(length: int) -> float:
        event = {"x": "a" * length + "c"}
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            assert not pattern.matches(event)
            times.append(time.perf_counter() - begin)
        return min(times)

    # Sixteen times the text: sixteen times as long at most, where backtracking would need more than its square.
    assert took_s(160_000) < 100 * took_s(10_000) + 0.001

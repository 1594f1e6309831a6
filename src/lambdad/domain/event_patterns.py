"""Event patterns, as rules of EventBridge and filters of event sources have them: `{"source": ["aws.s3"]}`.

A pattern is compiled once, into closures; matching then looks only at the fields that the pattern names.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html has the language. Where it is silent,
this does what AWS's own matcher is documented to do (https://github.com/aws/event-ruler):

- The names on the way to a field are joined with dots, in patterns and events: `{"a.b": [1]}` is `{"a": {"b": [1]}}`.
- An array in an event stands for its elements. Fields of objects that are in different elements of one array do not
  match together.
- A field exists where it has a value; an object, or an empty array, is none.
- Of two conditions for the same field the later one counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from lambdad.domain.event_pattern_values import (
    Condition,
    Fields,
    InvalidEventPatternException,
    Test,
    compile_values,
    invalid,
)

__all__ = ["InvalidEventPatternException", "Pattern", "compile_pattern"]

OR: Final = "$or"
OR_COMBINATIONS_MAX: Final = 1_000
OR_BRANCHES_MIN: Final = 2
NAMES_MAX: Final = 100
"""On the way to a field. AWS documents no limit; this one keeps hostile patterns cheap."""

# In an object of a `$or` array, any of these as a name makes `$or` the name of a field.
RESERVED_IN_OR: Final = frozenset(
    [
        *("exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard", "numeric", "cidr"),
        *("=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case"),
        *("date-after", "date-on-or-after", "date-before", "date-on-or-before", "in-date-range"),
        *("ip-address-in-range", "ip-address-not-in-range"),
    ]
)

_MISSING: Final = object()
_NOTHING: Final[dict[str, Any]] = {}

Alternative = dict[str, Condition]
"""The conditions of one way to match, by the path of their field."""
Absent = frozenset[str]
"""The paths, of those that a pattern wants absent, that an event does not have."""
Matcher = Callable[[Mapping[str, Any], Absent], bool]


class Pattern:
    """An event pattern, ready to match."""

    __slots__ = ("_matchers", "_optional")

    def __init__(self, alternatives: Sequence[Alternative]) -> None:
        self._matchers = tuple(_matcher(alternative) for alternative in alternatives)
        self._optional = tuple(
            {
                path: tuple(path.split("."))
                for alternative in alternatives
                for path, condition in alternative.items()
                if condition.absent
            }.items()
        )

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether a JSON object, as `json.loads` makes it, matches. Never raises."""
        absent: Absent = frozenset()
        if self._optional:
            absent = frozenset(path for path, names in self._optional if not _has_value(event, names))
        for matcher in self._matchers:  # noqa: SIM110 (a generator would cost as much as a match)
            if matcher(event, absent):
                return True
        return False


def compile_pattern(text: str) -> Pattern:
    """The pattern in this JSON text. Raises InvalidEventPatternException."""
    try:
        document = json.loads(text, object_pairs_hook=Fields, parse_constant=_refuse_constant)
        if not isinstance(document, Fields):
            raise invalid("Filter is not an object")
        return Pattern(_alternatives([{}], (), document))
    except RecursionError:
        raise invalid("It is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise invalid(f"{error.msg} at line: {error.lineno}, column: {error.colno}") from None
    except ValueError as error:  # a constant that JSON does not have, or a number of thousands of digits
        raise invalid(str(error)) from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"Unrecognized token '{name}'")


# Parsing: every combination of `$or` branches is one alternative


def _alternatives(alternatives: list[Alternative], names: tuple[str, ...], fields: Fields) -> list[Alternative]:
    """What `alternatives` become with the fields of an object under `names`."""
    if not fields:
        raise invalid("Empty objects are not allowed")
    for name, value in fields:
        if name == OR and _is_or(value):
            alternatives = _branches(alternatives, names, value)
            continue
        inner = (*names, *name.split("."))
        if len(inner) > NAMES_MAX:
            raise invalid(f"A field is nested more than {NAMES_MAX} levels deep")
        if isinstance(value, Fields):
            alternatives = _alternatives(alternatives, inner, value)
        elif isinstance(value, list):
            condition = compile_values(value)
            for alternative in alternatives:
                alternative[".".join(inner)] = condition
        else:
            raise invalid(f'"{name}" must be an object or an array')
    return alternatives


def _is_or(value: Any) -> bool:
    """Whether `$or` has its meaning; it is the name of a field otherwise, as AWS's matcher documents."""
    return (
        isinstance(value, list)
        and len(value) >= OR_BRANCHES_MIN
        and all(isinstance(each, Fields) and RESERVED_IN_OR.isdisjoint(name for name, _ in each) for each in value)
    )


def _branches(alternatives: list[Alternative], names: tuple[str, ...], branches: Sequence[Fields]) -> list[Alternative]:
    combined: list[Alternative] = []
    for branch in branches:
        combined += _alternatives([dict(each) for each in alternatives], names, branch)
        if len(combined) > OR_COMBINATIONS_MAX:
            raise invalid(f"There are more than {OR_COMBINATIONS_MAX} combinations of {OR} relationships")
    return combined


# Compiling: one closure an object of the pattern


class _Tree:
    """An object of a pattern: its fields that have conditions, and those that are objects again."""

    __slots__ = ("leaves", "matches", "objects")

    def __init__(self) -> None:
        self.leaves: dict[str, tuple[str, Condition]] = {}
        self.objects: dict[str, _Tree] = {}
        self.matches: Matcher

    def joined(self, name: str, event: Mapping[str, Any], absent: Absent) -> bool:
        """As `matches`, for fields whose names are joined to `name` in the event: `{"a.b": 1}`."""
        if self.objects and not absent and not _has_joined_names(event):
            return False  # without this the time would grow with the square of the depth
        for last, (path, condition) in self.leaves.items():
            value = event.get(f"{name}.{last}", _MISSING)
            if (value is _MISSING or not _any_value(value, condition.test)) and path not in absent:
                return False
        for last, inner in self.objects.items():
            joined = f"{name}.{last}"
            value = event.get(joined, _MISSING)
            if value is not _MISSING and _any_object(value, inner.matches, absent):
                continue
            if not inner.joined(joined, event, absent):
                return False
        return True


def _matcher(alternative: Alternative) -> Matcher:
    root = _Tree()
    for path, condition in alternative.items():
        *parents, name = path.split(".")
        tree = root
        for parent in parents:
            tree = tree.objects.setdefault(parent, _Tree())
        tree.leaves[name] = path, condition
    return _compiled(root)


def _compiled(tree: _Tree) -> Matcher:
    """Whether an object of an event has all that `tree` asks; `tree.matches` from now on."""
    leaves = tuple((name, path, condition.test) for name, (path, condition) in tree.leaves.items())
    objects = tuple((name, _compiled(inner), inner) for name, inner in tree.objects.items())

    def matches(event: Mapping[str, Any], absent: Absent) -> bool:
        for name, path, test in leaves:
            value = event.get(name, _MISSING)
            if (value is _MISSING or not _any_value(value, test)) and path not in absent:
                return False
        for name, inside, inner in objects:
            value = event.get(name, _MISSING)
            if value is not _MISSING and _any_object(value, inside, absent):
                continue
            if not inner.joined(name, event, absent):
                return False
        return True

    tree.matches = matches
    return matches


def _any_value(value: Any, test: Test) -> bool:
    if isinstance(value, list):
        return any(not isinstance(each, dict) and test(each) for each in _elements(value))
    return not isinstance(value, dict) and test(value)


def _any_object(value: Any, inside: Matcher, absent: Absent) -> bool:
    """Whether an object, or one of an array, matches; what is none has no fields, which may be what is asked."""
    if isinstance(value, dict):
        return inside(value, absent)
    if not isinstance(value, list):
        return inside(_NOTHING, absent)
    objects = [each for each in _elements(value) if isinstance(each, dict)]
    return any(inside(each, absent) for each in objects or [_NOTHING])


def _elements(values: list[Any]) -> Iterator[Any]:
    """What is in an array and in the arrays in it, however deep."""
    waiting = [iter(values)]
    while waiting:
        for value in waiting[-1]:
            if isinstance(value, list):
                waiting.append(iter(value))
                break
            yield value
        else:
            waiting.pop()


def _has_value(value: Any, names: Sequence[str]) -> bool:
    """Whether there is a value, not an object, at the end of this path anywhere in an event."""
    if isinstance(value, list):
        return any(_has_value(each, names) for each in _elements(value))
    if not isinstance(value, dict):
        return not names
    longest = len(names) if _has_joined_names(value) else 1
    return any(
        _has_value(value[name], names[count:])
        for count in range(1, min(longest, len(names)) + 1)
        if (name := ".".join(names[:count])) in value
    )


def _has_joined_names(event: Mapping[str, Any]) -> bool:
    return any("." in name for name in event)

"""The constraints of a service model, checked as AWS checks them and worded as AWS words them.

    2 validation errors detected: Value '' at 'logGroupName' failed to satisfy constraint: Member must satisfy regular
    expression pattern: [\\.\\-_/#A-Za-z0-9]+; Value '' at 'logGroupName' failed to satisfy constraint: Member must have
    length greater than or equal to 1

A check is compiled for every shape once; shapes without constraints have none, so that a request costs what its own
members cost. Elements of lists and maps that are scalars are reported at the list, with all constraints of an element;
those that are structures at their own place: `tags.1.member.key`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from lambdad.domain.errors import ValidationException
from lambdad.ingress.wire.departures import Departures
from lambdad.ingress.wire.java_regex import compile_java

Check = Callable[[Any, str, list[str]], None]
"""Given a value and its path, adds what is wrong with it to the list."""

_MUST_NOT_BE_NULL: Final = "Member must not be null"
_ECHOED_CHARACTERS: Final = 1024
# A value this much too long is not matched against its pattern, which could take a time out of all proportion.
_MATCHED_CHARACTERS: Final = 8192
_HAS_LENGTH: Final = frozenset({"string", "list", "map", "blob"})
_IS_NUMBER: Final = frozenset({"integer", "long", "float", "double"})
_NESTS: Final = frozenset({"structure", "list", "map"})


class Validator:
    """Checks inputs against the shapes of one service."""

    def __init__(self, departures: Departures) -> None:
        self._constraints = departures.constraints
        self._checks: dict[str, Check | None] = {}

    def validate(self, shape: Any, value: Mapping[str, Any]) -> None:
        """Raises ValidationException, which names everything that is wrong, when `value` is not a `shape`."""
        check = self._check_of(shape)
        if check is None:
            return
        violations: list[str] = []
        check(value, "", violations)
        if violations:
            errors = "error" if len(violations) == 1 else "errors"
            raise ValidationException(f"{len(violations)} validation {errors} detected: {'; '.join(violations)}")

    def _check_of(self, shape: Any) -> Check | None:
        name: str = shape.name
        if name not in self._checks:
            # A shape can hold itself: until it is compiled, its inner self is looked up when it is needed.
            self._checks[name] = lambda value, path, violations: self._check_later(name, value, path, violations)
            self._checks[name] = self._compiled(shape, shape.metadata)
        return self._checks[name]

    def _check_later(self, name: str, value: Any, path: str, violations: list[str]) -> None:
        check = self._checks[name]
        if check is not None:
            check(value, path, violations)

    def _check_of_member(self, structure: str, name: str, shape: Any) -> tuple[Check | None, bool]:
        required_here = self._constraints.get((structure, name))
        if required_here is None:
            return self._check_of(shape), False
        return self._compiled(shape, {**shape.metadata, **required_here}), bool(required_here.get("required"))

    def _compiled(self, shape: Any, constraints: Mapping[str, Any]) -> Check | None:
        kind: str = shape.type_name
        if kind == "structure":
            return self._structure(shape)
        own = _own_check(shape, kind, constraints)
        inner = self._list(shape) if kind == "list" else self._map(shape) if kind == "map" else None
        if own is None or inner is None:
            return own or inner

        def check(value: Any, path: str, violations: list[str]) -> None:
            own(value, path, violations)
            inner(value, path, violations)

        return check

    def _structure(self, shape: Any) -> Check | None:
        if getattr(shape, "is_document_type", False):
            return None
        required = set(shape.required_members)
        members: list[tuple[str, str, bool, Check | None]] = []
        for name, member in shape.members.items():
            check, required_here = self._check_of_member(shape.name, name, member)
            if check is not None or required_here or name in required:
                members.append((name, _lower_first(name), required_here or name in required, check))
        if not members:
            return None

        def check_structure(value: Any, path: str, violations: list[str]) -> None:
            prefix = f"{path}." if path else ""
            for name, step, is_required, check in members:
                member = value.get(name)
                if member is not None:
                    if check is not None:
                        check(member, prefix + step, violations)
                elif is_required:
                    violations.append(_violation("null", prefix + step, _MUST_NOT_BE_NULL))

        return check_structure

    def _list(self, shape: Any) -> Check:
        element = shape.member
        if element.type_name not in _NESTS:
            fits = _fits(element)
            constraint = f"Member must satisfy constraint: [{_all_constraints(element)}]"
            sensitive = _is_sensitive(shape)

            def check_scalars(value: Any, path: str, violations: list[str]) -> None:
                if not all(map(fits, value)):
                    violations.append(_violation(_echo(value, sensitive), path, constraint))

            return check_scalars
        inner = self._check_of(element)

        def check_elements(value: Any, path: str, violations: list[str]) -> None:
            for number, one in enumerate(value, 1):
                if one is None:
                    violations.append(_violation("null", f"{path}.{number}.member", _MUST_NOT_BE_NULL))
                elif inner is not None:
                    inner(one, f"{path}.{number}.member", violations)

        return check_elements

    def _map(self, shape: Any) -> Check:
        key_fits, sensitive = _fits(shape.key), _is_sensitive(shape)
        secret_keys = bool(shape.metadata.get("sensitive")) or _is_sensitive(shape.key)
        key_constraint = f"Map keys must satisfy constraint: [{_all_constraints(shape.key)}]"
        nested = shape.value.type_name in _NESTS
        value_check = self._check_of(shape.value) if nested else None
        value_fits = (lambda one: one is not None) if nested else _fits(shape.value)
        value_constraint = f"Map value must satisfy constraint: [{_all_constraints(shape.value)}]"

        def check_map(value: Any, path: str, violations: list[str]) -> None:
            if not all(map(key_fits, value)):
                violations.append(_violation(_echo(value, sensitive), path, key_constraint))
            if not all(map(value_fits, value.values())):
                violations.append(_violation(_echo(value, sensitive), path, value_constraint))
            elif value_check is not None:
                for key, one in value.items():
                    shown = "..." if secret_keys else key[:_ECHOED_CHARACTERS]
                    value_check(one, f"{path}.{shown}.member", violations)

        return check_map


def _own_check(shape: Any, kind: str, constraints: Mapping[str, Any]) -> Check | None:
    """The check of the value itself, without what it holds."""
    tests = _tests(kind, constraints)
    if not tests:
        return None
    sensitive = _is_sensitive(shape)

    def check(value: Any, path: str, violations: list[str]) -> None:
        for fits, constraint in tests:
            if not fits(value):
                violations.append(_violation(_echo(value, sensitive), path, constraint))

    return check


def _tests(kind: str, constraints: Mapping[str, Any]) -> list[tuple[Callable[[Any], bool], str]]:
    """What a value must satisfy, with AWS's words for it, in AWS's order."""
    tests: list[tuple[Callable[[Any], bool], str]] = []
    least, most = constraints.get("min"), constraints.get("max")
    pattern, values = constraints.get("pattern"), constraints.get("enum")
    if kind == "string" and pattern is not None:
        tests.append((_matches(pattern, most), f"Member must satisfy regular expression pattern: {pattern}"))
    if kind in _HAS_LENGTH:
        if most is not None:
            tests.append((lambda value: len(value) <= most, f"Member must have length less than or equal to {most}"))
        if least:
            tests.append((lambda v: len(v) >= least, f"Member must have length greater than or equal to {least}"))
    elif kind in _IS_NUMBER:
        if most is not None:
            tests.append((lambda value: value <= most, f"Member must have value less than or equal to {most}"))
        if least is not None:
            tests.append((lambda value: value >= least, f"Member must have value greater than or equal to {least}"))
    if kind == "string" and values:
        tests.append((frozenset(values).__contains__, f"Member must satisfy enum value set: [{', '.join(values)}]"))
    return tests


def _matches(pattern: str, most: int | None) -> Callable[[Any], bool]:
    fullmatch = compile_java(pattern).fullmatch
    if most is None or most >= _MATCHED_CHARACTERS:
        return lambda value: fullmatch(value) is not None
    return lambda value: len(value) <= _MATCHED_CHARACTERS and fullmatch(value) is not None


def _fits(shape: Any) -> Callable[[Any], bool]:
    """Whether a scalar in a list or a map satisfies its shape."""
    tests = [test for test, _ in _tests(shape.type_name, shape.metadata)]
    if not tests:
        return lambda value: value is not None
    if len(tests) == 1:
        only = tests[0]
        return lambda value: value is not None and only(value)
    return lambda value: value is not None and all(test(value) for test in tests)


def _all_constraints(shape: Any) -> str:
    """The constraints of an element, as AWS lists them: length and range first, null last."""
    texts = [text for _, text in _tests(shape.type_name, shape.metadata)]
    texts.sort(key=lambda text: "regular expression" in text)
    return ", ".join([*texts, _MUST_NOT_BE_NULL])


def _is_sensitive(shape: Any, inside: frozenset[str] = frozenset()) -> bool:
    """Whether the value is a secret, or holds one: then it is not sent back."""
    if shape.metadata.get("sensitive") or shape.type_name == "blob":
        return True
    if shape.name in inside:
        return False
    inside |= {shape.name}
    if shape.type_name == "list":
        return _is_sensitive(shape.member, inside)
    if shape.type_name == "map":
        return _is_sensitive(shape.key, inside) or _is_sensitive(shape.value, inside)
    if shape.type_name == "structure":
        return any(_is_sensitive(member, inside) for member in shape.members.values())
    return False


def _violation(echo: str | None, path: str, constraint: str) -> str:
    return f"Value {f'{echo} ' if echo else ''}at '{path}' failed to satisfy constraint: {constraint}"


def _echo(value: Any, sensitive: bool) -> str | None:
    """The value as Java prints it, in quotes and not longer than an error message bears; None for a secret."""
    if sensitive:
        return None
    text = _java_text(value)
    return f"'{text}'" if len(text) <= _ECHOED_CHARACTERS else f"'{text[:_ECHOED_CHARACTERS]}...'"


def _java_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_java_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}={_java_text(one)}' for key, one in value.items())}}}"
    return "null" if value is None else str(value)


def _lower_first(name: str) -> str:
    return name[:1].lower() + name[1:]

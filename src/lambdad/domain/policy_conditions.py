"""The conditions of a policy's statements: the operators of IAM, and when they hold.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_ARN_PARTS: Final = 6
_IF_EXISTS: Final = "IfExists"
_ANY, _ALL = "ForAnyValue:", "ForAllValues:"
_NULL: Final = "Null"
_TRUTH: Final = ("true", "false")


class MalformedPolicy(ValueError):
    """A policy that is none, or that asks for what cannot be decided here; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of a statement's conditions. `key` is in lower case, as names of keys are the same in any case."""

    operator: str
    key: str
    values: tuple[str, ...]
    if_exists: bool = False
    quantifier: str = ""

    def holds(self, context: Mapping[str, str]) -> bool:
        """Whether it holds for a request, by the values of its condition keys, whose names are in lower case.

        Where a request lacks the key, only operators that say "not" hold, and those that ask for this.
        """
        value = context.get(self.key)
        if self.operator == _NULL:
            return any((value is None) == (wanted == "true") for wanted in self.values)
        is_negated = self.operator in _NEGATED
        if value is None:
            return self.quantifier == _ALL or self.if_exists or (is_negated and self.quantifier != _ANY)
        matches = _OPERATORS[_NEGATED.get(self.operator, self.operator)]
        return any(_decided(matches, wanted, value) for wanted in self.values) != is_negated


def parse_conditions(block: Any) -> tuple[Condition, ...]:
    """The conditions of a statement's `Condition`. Raises MalformedPolicy."""
    if not isinstance(block, dict):
        raise MalformedPolicy("Condition must be an object")
    found: list[Condition] = []
    for name, keys in block.items():
        if not isinstance(keys, dict) or not keys:
            raise MalformedPolicy(f"the condition operator {name} must have keys")
        for key, given in keys.items():
            found.append(_condition(name, key, given))
    return tuple(found)


def _condition(name: str, key: str, given: Any) -> Condition:
    quantifier = next((prefix for prefix in (_ANY, _ALL) if name.startswith(prefix)), "")
    operator = name.removeprefix(quantifier)
    if_exists = operator.endswith(_IF_EXISTS)
    operator = operator.removesuffix(_IF_EXISTS)
    known = operator in _OPERATORS or operator in _NEGATED or (operator == _NULL and name == _NULL)
    if not known:
        raise MalformedPolicy(f"the condition operator {name} is not supported")
    values = tuple(_text(value, name) for value in (given if isinstance(given, list) else [given]))
    if not values:
        raise MalformedPolicy(f"the condition key {key} has no value")
    for value in values:
        _check_value(operator, value)
    return Condition(operator, key.casefold(), values, if_exists, quantifier)


def _text(value: Any, operator: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return value
    raise MalformedPolicy(f"a value of the condition operator {operator} is neither text nor a number")


def _check_value(operator: str, value: str) -> None:
    if "${" in value:
        raise MalformedPolicy(f"policy variables are not supported: {value}")
    kind = _NEGATED.get(operator, operator)
    if kind in ("Bool", _NULL) and value.lower() not in _TRUTH:
        raise MalformedPolicy(f"{value} is neither true nor false")
    try:
        if kind == "IpAddress":
            ipaddress.ip_network(value, strict=False)
        elif kind.startswith("Numeric"):
            float(value)
        elif kind.startswith("Date"):
            _moment(value)
        elif kind.startswith("Arn") and value != "*" and value.count(":") < _ARN_PARTS - 1:
            raise ValueError
    except ValueError:
        raise MalformedPolicy(f"{value} is not a value of the condition operator {operator}") from None


def arn_like(pattern: str, arn: str) -> bool:
    """The operator ArnLike: each of an ARN's six parts by itself, with `*` for any characters and `?` for one.

    `*` alone is every ARN.
    """
    if pattern == "*":
        return True
    patterns, parts = pattern.split(":", _ARN_PARTS - 1), arn.split(":", _ARN_PARTS - 1)
    return len(patterns) == len(parts) and all(map(matches_pattern, patterns, parts))


def matches_pattern(pattern: str, text: str) -> bool:
    """Whether `pattern` with its wildcards is all of `text`, in time that grows with the product of their lengths.

    A pattern is a caller's text: a regular expression made of it could be made to take for ever.
    """
    at = place = 0
    star, resume = -1, 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[place]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = star + 1, resume
        else:
            return False
    return not pattern[at:].strip("*")


def _decided(matches: Callable[[str, str], bool], wanted: str, value: str) -> bool:
    """A value of the request that is not of the operator's kind, such as a name that is no number, matches nothing."""
    try:
        return matches(wanted, value)
    except ValueError:
        return False


def _moment(text: str) -> float:
    """Seconds since the epoch: a number of them, or a date and time of ISO 8601, in UTC unless it says otherwise."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _compared(
    prefix: str, read: Callable[[str], float], also_negated: dict[str, str]
) -> dict[str, Callable[[str, str], bool]]:
    """The operators that compare by size, for numbers or times; what the policy says is on the right."""
    also_negated[f"{prefix}NotEquals"] = f"{prefix}Equals"
    return {
        f"{prefix}Equals": lambda wanted, value: read(value) == read(wanted),
        f"{prefix}LessThan": lambda wanted, value: read(value) < read(wanted),
        f"{prefix}LessThanEquals": lambda wanted, value: read(value) <= read(wanted),
        f"{prefix}GreaterThan": lambda wanted, value: read(value) > read(wanted),
        f"{prefix}GreaterThanEquals": lambda wanted, value: read(value) >= read(wanted),
    }


_NEGATED: Final = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}
"""Operators that hold where another one does not."""

_OPERATORS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "StringEquals": lambda wanted, value: wanted == value,
    "StringEqualsIgnoreCase": lambda wanted, value: wanted.casefold() == value.casefold(),
    "StringLike": matches_pattern,
    "Bool": lambda wanted, value: wanted.lower() == value.lower(),
    "IpAddress": lambda wanted, value: ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False),
    # ArnEquals takes wildcards as ArnLike does.
    "ArnEquals": arn_like,
    "ArnLike": arn_like,
    **_compared("Numeric", float, _NEGATED),
    **_compared("Date", _moment, _NEGATED),
}

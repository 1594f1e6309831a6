"""What the JSON and the space-delimited filter patterns share: values to compare with, and `&&`, `||`, `( )`.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from lambdad.domain.filter_regex import FilterRegex, InvalidPattern

Subject = TypeVar("Subject")
Test = Callable[[Subject], bool]

REGEXES_MAX: Final = 2  # in one JSON or space-delimited pattern
_DEPTH_MAX: Final = 50  # of parentheses; AWS names no number, and a pattern has 1,024 characters
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_OPERATOR: Final = re.compile(r"!=|<=|>=|=|<|>")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_REGEX: Final = re.compile(r"%([^%]*)%")
_BARE: Final = re.compile(r"[A-Za-z0-9_.*+\-]+")
_SPACE: Final = re.compile(r"\s*")
_ORDERINGS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def number(text: str) -> float | None:
    """The number that a text is: an integer, a decimal or scientific notation; None when it is not one."""
    return float(text) if _NUMBER.fullmatch(text) else None


class Scanner:
    """A position in a pattern."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.regexes = 0

    def skip_space(self) -> None:
        if match := _SPACE.match(self.text, self.at):
            self.at = match.end()

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Move past what matches here, after any space."""
        self.skip_space()
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def take_text(self, text: str) -> bool:
        self.skip_space()
        if not self.text.startswith(text, self.at):
            return False
        self.at += len(text)
        return True

    def unexpected(self) -> InvalidPattern:
        """What to raise about the character at this position."""
        self.skip_space()
        if self.at < len(self.text):
            return InvalidPattern(f"Invalid character(s) in term '{self.text[self.at]}'")
        return InvalidPattern("Invalid filter pattern: it ends too early")

    def take_quoted(self) -> str | None:
        match = self.take(_QUOTED)
        return None if match is None else _ESCAPED.sub(r"\1", match[1])

    def take_regex(self) -> FilterRegex | None:
        match = self.take(_REGEX)
        if match is None:
            return None
        self.regexes += 1
        return FilterRegex(match[1])


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison with a value; `negated` for `!=`."""

    text: Test[str]
    number: Test[float]
    negated: bool = False

    def accepts_text(self, value: str) -> bool:
        return self.text(value) is not self.negated

    def accepts_number(self, value: float) -> bool:
        return self.number(value) is not self.negated

    def accepts_field(self, value: str) -> bool:
        """For a text that may be a number, as the fields of a space-delimited event are."""
        as_number = number(value)
        return (self.text(value) or (as_number is not None and self.number(as_number))) is not self.negated


def take_condition(scanner: Scanner) -> Condition:
    """Read an operator and the value after it."""
    match = scanner.take(_OPERATOR)
    if match is None:
        raise scanner.unexpected()
    if match[0] in _ORDERINGS:
        return _ordering(scanner, match[0])
    text, value = _equality(scanner)
    return Condition(text, value, match[0] == "!=")


def _ordering(scanner: Scanner, comparison: str) -> Condition:
    """`<`, `<=`, `>` and `>=` compare numbers alone."""
    start = scanner.at
    match = scanner.take(_BARE)
    bound = None if match is None else number(match[0])
    if bound is None:
        scanner.at = start
        raise scanner.unexpected()
    compare, limit = _ORDERINGS[comparison], bound
    return Condition(lambda text: False, lambda value: compare(value, limit))


def _equality(scanner: Scanner) -> tuple[Test[str], Test[float]]:
    regex = scanner.take_regex()
    if regex is not None:
        return regex.search, lambda value: regex.search(_written(value))
    quoted = scanner.take_quoted()
    if quoted is not None:
        accepts = _wildcard(quoted)
        return accepts, lambda value: accepts(_written(value))
    match = scanner.take(_BARE)
    if match is None:
        raise scanner.unexpected()
    accepts = _wildcard(match[0])
    expected = number(match[0])
    if expected is None:
        return accepts, lambda value: accepts(_written(value))
    return accepts, lambda value: value == expected


def _written(value: float) -> str:
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else str(value)


def _wildcard(text: str) -> Test[str]:
    """Equality, where `*` at the start or at the end stands for anything: `Ev*ent` is that text and no other."""
    if text in ("*", "**"):
        return lambda value: True
    if len(text) > 1 and text.startswith("*") and text.endswith("*"):
        inner = text[1:-1]
        return lambda value: inner in value
    if text.startswith("*"):
        suffix = text[1:]
        return lambda value: value.endswith(suffix)
    if text.endswith("*"):
        prefix = text[:-1]
        return lambda value: value.startswith(prefix)
    return lambda value: value == text


def take_expression(scanner: Scanner, take_term: Callable[[Scanner], Test[Subject]], depth: int = 0) -> Test[Subject]:
    """Read terms joined by `&&` and `||`, the first binding closer, and parentheses around any of them."""
    if depth > _DEPTH_MAX:
        raise InvalidPattern("Invalid filter pattern: too many parentheses")
    choices = [_take_all(scanner, take_term, depth)]
    while scanner.take_text("||"):
        choices.append(_take_all(scanner, take_term, depth))
    if len(choices) == 1:
        return choices[0]
    return lambda subject: any(choice(subject) for choice in choices)


def _take_all(scanner: Scanner, take_term: Callable[[Scanner], Test[Subject]], depth: int) -> Test[Subject]:
    tests: list[Test[Subject]] = []
    while not tests or scanner.take_text("&&"):
        if scanner.take_text("("):
            tests.append(take_expression(scanner, take_term, depth + 1))
            if not scanner.take_text(")"):
                raise scanner.unexpected()
        else:
            tests.append(take_term(scanner))
    if len(tests) == 1:
        return tests[0]
    return lambda subject: all(test(subject) for test in tests)

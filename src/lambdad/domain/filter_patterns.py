"""CloudWatch Logs filter patterns: which messages a FilterLogEvents or TestMetricFilter call means.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html: terms in unstructured text,
`{ ... }` for JSON events (`filter_json`) and `[ ... ]` for space-delimited ones. `compile(pattern)` reads one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from lambdad.domain.filter_conditions import REGEXES_MAX, Scanner, Test, take_condition, take_expression
from lambdad.domain.filter_json import JsonPattern
from lambdad.domain.filter_regex import FilterRegex, InvalidPattern

__all__ = ["FilterPattern", "InvalidPattern", "compile"]

_TERM: Final = re.compile(r"\w+")
_NAME: Final = re.compile(r"\w[\w-]*")
_NOT_SPACE: Final = re.compile(r"\S+")


class FilterPattern(Protocol):
    """A pattern that was read."""

    def matches(self, message: str) -> bool:
        """Whether a log event with this message is meant."""

    def extract(self, message: str) -> dict[str, str]:
        """The fields of a matching space-delimited message, `{"$name": value}`; empty for other patterns."""


def compile(pattern: str) -> FilterPattern:  # the verb that `re` has for it
    """Read a filter pattern; the empty one matches everything.

    Raises InvalidPattern when it is not in AWS's syntax.
    """
    text = pattern.strip()
    if text.startswith("{"):
        return JsonPattern(text)
    if text.startswith("["):
        return DelimitedPattern(text)
    return TermsPattern(text)


class TermsPattern:
    """Terms that a message holds (all of `a b`, any of `?a ?b`) or lacks (`-a`); case matters.

    A term is a word, a `"phrase"` or a `%regex%`. Beside other terms, those with a question mark are ignored.
    """

    def __init__(self, pattern: str) -> None:
        texts: dict[str, list[str]] = {"": [], "?": [], "-": []}
        regexes: dict[str, list[FilterRegex]] = {"": [], "?": [], "-": []}
        scanner = Scanner(pattern)
        scanner.skip_space()
        while scanner.at < len(pattern):
            kind = pattern[scanner.at] if pattern[scanner.at] in "?-" else ""
            scanner.at += len(kind)
            if pattern[scanner.at : scanner.at + 1].isspace():
                raise InvalidPattern(f"Invalid character(s) in term '{kind}'")
            term = _take_term(scanner)
            if isinstance(term, FilterRegex):
                regexes[kind].append(term)
            elif kind or term.strip():
                # A phrase of blanks alone is AWS's way to match everything.
                texts[kind].append(term)
            scanner.skip_space()
        self._included, self._excluded, self._optional = texts[""], texts["-"], texts["?"]
        self._included_regexes, self._excluded_regexes = regexes[""], regexes["-"]
        self._optional_regexes = regexes["?"]
        if any(texts[kind] or regexes[kind] for kind in ("", "-")):
            self._optional, self._optional_regexes = [], []

    def matches(self, message: str) -> bool:
        for term in self._included:
            if term not in message:
                return False
        for term in self._excluded:
            if term in message:
                return False
        if self._included_regexes and not all(regex.search(message) for regex in self._included_regexes):
            return False
        if self._excluded_regexes and any(regex.search(message) for regex in self._excluded_regexes):
            return False
        if not self._optional and not self._optional_regexes:
            return True
        return any(term in message for term in self._optional) or any(
            regex.search(message) for regex in self._optional_regexes
        )

    def extract(self, message: str) -> dict[str, str]:
        return {}


def _take_term(scanner: Scanner) -> str | FilterRegex:
    regex = scanner.take_regex()
    if regex is not None:
        return regex
    quoted = scanner.take_quoted()
    if quoted is not None:
        return quoted
    match = scanner.take(_TERM)
    if match is None:
        raise scanner.unexpected()
    if scanner.at < len(scanner.text) and not scanner.text[scanner.at].isspace():
        raise scanner.unexpected()
    return match[0]


@dataclass(frozen=True, slots=True)
class _Field:
    """One place in a space-delimited pattern: a name, or none, and what its value has to be."""

    name: str
    test: Test[str] | None


class DelimitedPattern:
    """`[ip, user, ..., status = 4*, bytes > 1000]`: the fields of an event in order, with conditions.

    Characters between square brackets or double quotes are one field. An ellipsis stands for any number of fields;
    without one, the last field takes the rest of the message (AWS's `[w1=ERROR, w2]` matches every line whose first
    word is ERROR, and its own pattern for Lambda's logs is `[timestamp=*Z, request_id="*-*", event]`).
    """

    def __init__(self, pattern: str) -> None:
        scanner = Scanner(pattern)
        scanner.take_text("[")
        fields: list[_Field | None] = []
        if not scanner.take_text("]"):
            fields.append(_take_field(scanner))
            while scanner.take_text(","):
                fields.append(_take_field(scanner))
            if not scanner.take_text("]"):
                raise scanner.unexpected()
        scanner.skip_space()
        if scanner.at < len(pattern):
            raise scanner.unexpected()
        if scanner.regexes > REGEXES_MAX:
            raise InvalidPattern(f"Invalid filter pattern: more than {REGEXES_MAX} regular expressions")
        if fields.count(None) > 1:
            raise InvalidPattern("Invalid filter pattern: more than one ellipsis")
        at = fields.index(None) if None in fields else len(fields)
        self._head = [field for field in fields[:at] if field]
        self._tail = [field for field in fields[at:] if field]
        # An empty pattern names no field and takes every event.
        self._ellipsis = None in fields or not fields

    def matches(self, message: str) -> bool:
        values = self._values(message)
        if values is None:
            return False
        skipped = len(values) - len(self._tail)
        return all(
            field.test is None or field.test(value)
            for field, value in (
                *zip(self._head, values, strict=False),
                *zip(self._tail, values[skipped:], strict=True),
            )
        )

    def extract(self, message: str) -> dict[str, str]:
        values = self._values(message) or []
        names = [field.name for field in self._head]
        names += [""] * (len(values) - len(self._head) - len(self._tail))
        names += [field.name for field in self._tail]
        return {
            f"${name or position}": value for position, (name, value) in enumerate(zip(names, values, strict=False), 1)
        }

    def _values(self, message: str) -> list[str] | None:
        """The fields of a message, or None when it has too few."""
        if self._ellipsis:
            values = _split(message, None)
            return values if len(values) >= len(self._head) + len(self._tail) else None
        values = _split(message, len(self._head))
        return values if len(values) == len(self._head) else None


def _take_field(scanner: Scanner) -> _Field | None:
    """One field of the pattern; None for the ellipsis."""
    if scanner.take_text("..."):
        return None
    scanner.skip_space()
    if scanner.text[scanner.at : scanner.at + 1] in (",", "]"):
        return _Field("", None)
    names: list[str] = []

    def take_comparison(inner: Scanner) -> Test[str]:
        match = inner.take(_NAME)
        if match is None:
            raise inner.unexpected()
        if names and match[0] != names[0]:
            raise InvalidPattern(f"Invalid filter pattern: '{match[0]}' in the condition of the field '{names[0]}'")
        names.append(match[0])
        inner.skip_space()
        if inner.text[inner.at : inner.at + 1] in (",", "]"):
            return lambda value: True
        return take_condition(inner).accepts_field

    test = take_expression(scanner, take_comparison)
    return _Field(names[0], test)


def _split(message: str, most: int | None) -> list[str]:
    """The fields of a message; the last of `most` is the rest of it, stripped."""
    values: list[str] = []
    closings = {"[": ("]", -2), '"': ('"', -2)}  # where the next closing mark is, once looked for
    at = 0
    while match := _NOT_SPACE.search(message, at):
        start, end = match.span()
        opening = message[start]
        if opening in closings:
            mark, known = closings[opening]
            if known != -1 and known <= start:
                known = message.find(mark, start + 1)
                closings[opening] = (mark, known)
            if known > start and (known + 1 == len(message) or message[known + 1].isspace()):
                values.append(message[start + 1 : known])
                at = known + 1
            else:
                values.append(match[0])
                at = end
        else:
            values.append(match[0])
            at = end
        if len(values) == most and message[at:].strip():
            values[-1] = message[start:].rstrip()
            break
    return values

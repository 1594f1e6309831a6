"""Filter patterns for JSON log events: `{ $.a.b[0] = "x*" && ($.n > 3 || $.z IS NULL) }`.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/matching-terms-json-log-events.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from lambdad.domain.filter_conditions import REGEXES_MAX, Scanner, Test, take_condition, take_expression
from lambdad.domain.filter_regex import InvalidPattern

_WILDCARDS_MAX: Final = 3  # in one pattern; one in a selector
_PROPERTY: Final = re.compile(r"[\w-]+")
_INDEX: Final = re.compile(r"\[\s*(\d{1,9})\s*\]")
_KEY: Final = re.compile(r"\[\s*'([^']*)'\s*\]|\[\s*\"([^\"]*)\"\s*\]")
_ANY_ELEMENT: Final = re.compile(r"\[\s*\*\s*\]")
_KEYWORDS: Final = re.compile(r"(IS|NOT)\s+(NULL|TRUE|FALSE|EXISTS)\b")
_IS: Final = {"NULL": None, "TRUE": True, "FALSE": False}

Step = Callable[[Any], list[Any]]


class JsonPattern:
    """Matches messages that are JSON objects and for which the expression holds.

    A selector that leads to an object or an array, or nowhere, makes its comparison false.
    """

    def __init__(self, pattern: str) -> None:
        self._wildcards = 0
        scanner = Scanner(pattern)
        if not scanner.take_text("{"):
            raise scanner.unexpected()
        self._test = take_expression(scanner, self._take_term)
        if not scanner.take_text("}"):
            raise scanner.unexpected()
        scanner.skip_space()
        if scanner.at < len(pattern):
            raise scanner.unexpected()
        if scanner.regexes > REGEXES_MAX:
            raise InvalidPattern(f"Invalid filter pattern: more than {REGEXES_MAX} regular expressions")
        if self._wildcards > _WILDCARDS_MAX:
            raise InvalidPattern(f"Invalid filter pattern: more than {_WILDCARDS_MAX} wildcard selectors")

    def matches(self, message: str) -> bool:
        if not message.lstrip(" \t\r\n").startswith("{"):
            return False
        try:
            document = json.loads(message, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return False
        return self._test(document)

    def extract(self, message: str) -> dict[str, str]:
        """Values are extracted by space-delimited patterns only."""
        return {}

    def _take_term(self, scanner: Scanner) -> Test[Any]:
        select = self._take_selector(scanner)
        keywords = scanner.take(_KEYWORDS)
        if keywords is None:
            condition = take_condition(scanner)

            def compare(node: Any) -> bool:
                # A bool is an int to Python and a word to JSON.
                if isinstance(node, bool):
                    return condition.accepts_text("true" if node else "false")
                if isinstance(node, str):
                    return condition.accepts_text(node)
                return isinstance(node, (int, float)) and condition.accepts_number(node)

            return lambda document: any(compare(node) for node in select(document))
        first, second = keywords.groups()
        if first == "NOT" and second == "EXISTS":
            return lambda document: not select(document)
        if first == "IS" and second in _IS:
            expected = _IS[second]
            return lambda document: any(node is expected for node in select(document))
        raise InvalidPattern(f"Invalid filter pattern: '{first} {second}' is not supported")

    def _take_selector(self, scanner: Scanner) -> Step:
        if not scanner.take_text("$."):
            raise scanner.unexpected()
        steps = [self._take_step(scanner, named=True)]
        while scanner.text[scanner.at : scanner.at + 1] in (".", "["):
            named = scanner.take_text(".")
            steps.append(self._take_step(scanner, named=named))
        wildcards = sum(step in (_any_field, _any_element) for step in steps)
        if wildcards > 1:
            raise InvalidPattern("Invalid filter pattern: more than one wildcard selector in a property selector")
        self._wildcards += wildcards

        def select(document: Any) -> list[Any]:
            nodes = [document]
            for step in steps:
                nodes = [found for node in nodes for found in step(node)]
            return nodes

        return select

    def _take_step(self, scanner: Scanner, *, named: bool) -> Step:
        if scanner.take(_ANY_ELEMENT):
            return _any_element
        if match := scanner.take(_KEY):
            return _field(match[1] if match[1] is not None else match[2])
        if match := scanner.take(_INDEX):
            return _element(int(match[1]))
        if named and (match := scanner.take(_PROPERTY)):
            return _field(match[0])
        if named and scanner.take_text("*"):
            return _any_field
        raise scanner.unexpected()


def _field(name: str) -> Step:
    return lambda node: [node[name]] if isinstance(node, dict) and name in node else []


def _element(index: int) -> Step:
    return lambda node: [node[index]] if isinstance(node, list) and index < len(node) else []


def _any_field(node: Any) -> list[Any]:
    return list(node.values()) if isinstance(node, dict) else []


def _any_element(node: Any) -> list[Any]:
    return node if isinstance(node, list) else []


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")

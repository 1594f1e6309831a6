"""What one field of an event pattern asks of a value: exact values and match expressions such as `{"prefix": "x"}`.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html; the words of the refusals
are those of the rule compiler that AWS publishes (https://github.com/aws/event-ruler).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lambdad.domain.errors import ServiceError

NUMBER_MAX: Final = 5_000_000_000
"""Numeric matching is limited to -5.0e9 .. 5.0e9 ..."""
NUMBER_STEPS: Final = 1_000_000
"""... with six digits to the right of the decimal point."""

_ONE_KEY: Final = "Only one key allowed in match expression"
_TOO_MANY: Final = "Too many elements in numeric expression"
_NOT_TEXT: Final = {
    "prefix": "prefix/suffix match pattern must be a string",
    "suffix": "prefix/suffix match pattern must be a string",
    "equals-ignore-case": ("Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported."),
    "wildcard": "wildcard match pattern must be a string",
}

Test = Callable[[Any], bool]
"""Whether a string, number, boolean or null is what is asked for."""


class InvalidEventPatternException(ServiceError):
    code = "InvalidEventPatternException"
    status = 400


class Fields(tuple[tuple[str, Any], ...]):
    """A JSON object of a pattern as it is written: its names and values in order, with those that come twice."""


class Condition(NamedTuple):
    """What a field is asked: a value that passes `test` or, with `absent`, not to be in the event."""

    test: Test
    absent: bool


def invalid(reason: str) -> InvalidEventPatternException:
    """The refusal of a pattern, as EventBridge words it."""
    return InvalidEventPatternException(f"Event pattern is not valid. Reason: {reason}")


def compile_values(values: Sequence[Any]) -> Condition:
    """The condition of an array of a pattern: any of its values will do. Raises InvalidEventPatternException."""
    if not values:
        raise invalid("Empty arrays are not allowed")
    words: set[str] = set()
    tests: list[Test] = []
    absent = False
    for value in values:
        if isinstance(value, Fields):
            name, operand = _match_expression(value)
            if name == "exists" and operand is False:
                absent = True
            else:
                tests.append(_OPERATORS[name](operand))
        elif isinstance(value, str):
            words.add(value)
            tests.extend(_same_address(value))
        elif value is None or isinstance(value, bool):
            tests.append(_identical(value))
        elif isinstance(value, (int, float)):
            tests.append(_equals_number(value))
        else:
            raise invalid("Match value must be String, number, true, false, or null")
    if words:
        tests.insert(0, frozenset(words).__contains__)
    return Condition(_any_of(tests), absent)


def _match_expression(fields: Fields) -> tuple[str, Any]:
    if not fields:
        raise invalid("Match expression name not found")
    name, operand = fields[0]
    if name not in _OPERATORS:
        raise invalid(f"Unrecognized match type {name}")
    if len(fields) > 1:
        raise invalid(_TOO_MANY if name in ("numeric", "anything-but") else _ONE_KEY)
    return name, operand


def _any_of(tests: Sequence[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    several = tuple(tests)

    def test(value: Any) -> bool:
        for each in several:  # noqa: SIM110 (a generator would cost as much as the tests)
            if each(value):
                return True
        return False

    return test


def _identical(expected: bool | None) -> Test:
    return lambda value: value is expected


def _same_address(text: str) -> list[Test]:
    """An IPv6 address may be written in several ways; a pattern means the address."""
    if ":" not in text:
        return []
    try:
        return [_within(ipaddress.IPv6Network(text))]
    except ValueError:
        return []


# Texts


def _text(name: str, operand: Any) -> str:
    if not isinstance(operand, str):
        raise invalid(f"{name} match pattern must be a string")
    return operand


def _exactly(operand: Any) -> Test:
    return frozenset([_text("exact", operand)]).__contains__


def _equals_ignore_case(operand: Any) -> Test:
    folded = _text("equals-ignore-case", operand).lower()
    return lambda value: isinstance(value, str) and value.lower() == folded


def _prefix(operand: Any) -> Test:
    if isinstance(operand, Fields):
        folded = _ignored_case("Prefix", operand)
        return lambda value: isinstance(value, str) and value.lower().startswith(folded)
    prefix = _text("prefix", operand)
    return lambda value: isinstance(value, str) and value.startswith(prefix)


def _suffix(operand: Any) -> Test:
    if isinstance(operand, Fields):
        folded = _ignored_case("Suffix", operand)
        return lambda value: isinstance(value, str) and value.lower().endswith(folded)
    suffix = _text("suffix", operand)
    return lambda value: isinstance(value, str) and value.endswith(suffix)


def _ignored_case(kind: str, fields: Fields) -> str:
    if not fields:
        raise invalid(f"{kind} expression name not found")
    name, operand = fields[0]
    if name != "equals-ignore-case":
        raise invalid(f"Unsupported {kind.lower()} pattern: {name}")
    if len(fields) > 1:
        raise invalid(_ONE_KEY)
    return _text(name, operand).lower()


def _wildcard(operand: Any) -> Test:
    """`*` stands for any number of characters, `\\*` and `\\\\` for themselves.

    The pieces between wildcards are looked for one after another, each from where the last one ended: the time grows
    with the length of the value, whatever the pattern. EventBridge refuses patterns that its own way of matching finds
    too complex, by a measure that it does not document; they are accepted here.
    """
    first, *others = _wildcard_pieces(_text("wildcard", operand))
    if not others:
        return frozenset([first]).__contains__
    *middle, last = others
    least = len(first) + len(last)

    def test(value: Any) -> bool:
        if not isinstance(value, str) or len(value) < least:
            return False
        if not (value.startswith(first) and value.endswith(last)):
            return False
        at, end = len(first), len(value) - len(last)
        for piece in middle:
            found = value.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    return test


def _wildcard_pieces(text: str) -> list[str]:
    pieces = [""]
    at = 0
    while at < len(text):
        character, following = text[at], text[at + 1 : at + 2]
        if character == "*":
            if following == "*":
                raise invalid(f"Consecutive wildcard characters at pos {_position(text, at)}")
            pieces.append("")
        elif character == "\\":
            if following not in ("*", "\\"):
                raise invalid(f"Invalid escape character at pos {_position(text, at)}")
            pieces[-1] += following
            at += 1
        else:
            pieces[-1] += character
        at += 1
    return pieces


def _position(text: str, at: int) -> int:
    """Where the service says that a character is: in bytes, with the quote before the text."""
    return len(text[:at].encode("utf-8", "surrogatepass")) + 1


# Numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _steps(value: Any) -> int | None:
    """A number in millionths; None for what numeric matching does not reach."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and -NUMBER_MAX <= value <= NUMBER_MAX:
        return round(value * NUMBER_STEPS)
    return None


def _numeric_operand(value: Any, what: str) -> int:
    if not _is_number(value):
        raise invalid(f"Value of {what} must be numeric")
    steps = _steps(value)
    if steps is None:
        raise invalid("Value must be between -5.0E9 and 5.0E9, inclusive")
    return steps


def _equals_number(expected: float) -> Test:
    """Equal as numbers, so 300 is 300.0; beyond the range of numeric matching too, as account numbers are."""
    steps = _steps(expected)
    if steps is None:
        return lambda value: _is_number(value) and value == expected
    return lambda value: _steps(value) == steps


def _numeric(operand: Any) -> Test:
    if not isinstance(operand, list):
        raise invalid("Value of numeric must be an array.")
    operator, *rest = operand or ["]"]
    if not operand or not isinstance(operator, str):
        raise invalid(f"Invalid member in numeric match: {operator}")
    if operator not in ("=", "<", "<=", ">", ">="):
        raise invalid(f"Unrecognized numeric range operator: {operator}")
    first = _numeric_operand(rest[0] if rest else None, "equals" if operator == "=" else operator)
    bounds = rest[1:]
    if operator in (">", ">="):
        low = first + (operator == ">")
        high = _upper_bound(first, bounds) if bounds else NUMBER_MAX * NUMBER_STEPS
    elif bounds:
        raise invalid(_TOO_MANY)
    else:
        low = first if operator == "=" else -NUMBER_MAX * NUMBER_STEPS
        high = first - (operator == "<")

    def test(value: Any) -> bool:
        steps = _steps(value)
        return steps is not None and low <= steps <= high

    return test


def _upper_bound(bottom: int, terms: Sequence[Any]) -> int:
    """The last millionth of a range that begins at `bottom`; `terms` are what follows it."""
    operator = terms[0]
    if not isinstance(operator, str):
        raise invalid(f"Bad value in numeric range: {operator}")
    if operator not in ("<", "<="):
        raise invalid(f"Bad numeric range operator: {operator}")
    top = _numeric_operand(terms[1] if len(terms) > 1 else None, operator)
    if len(terms) > 2:
        raise invalid("Too many terms in numeric range expression")
    if bottom >= top:
        raise invalid("Bottom must be less than top")
    return top - (operator == "<")


# Addresses


def _cidr(operand: Any) -> Test:
    address, *bits = _text("prefix", operand).split("/")  # the service's own word for it
    if len(bits) != 1:
        raise invalid("Malformed CIDR, one '/' required")
    try:
        mask_bits = int(bits[0])
    except ValueError:
        raise invalid("Malformed CIDR, mask bits must be an integer") from None
    if mask_bits < 0:
        raise invalid("Malformed CIDR, mask bits must not be negative")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise invalid(f"Nonstandard IP address: {address}") from None
    if mask_bits > parsed.max_prefixlen:
        raise invalid(f"IPv{parsed.version} mask bits must be < {parsed.max_prefixlen + 1}")
    return _within(ipaddress.ip_network(f"{address}/{mask_bits}", strict=False))


def _within(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Test:
    mark = "." if network.version == 4 else ":"

    def test(value: Any) -> bool:
        if not isinstance(value, str) or mark not in value:
            return False
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return test


# Presence and negation


def _exists(operand: Any) -> Test:
    """`false` is not a test of a value: `compile_values` has taken it before."""
    if operand is not True:
        raise invalid("exists match pattern must be either true or false.")
    return lambda value: True


def _anything_but(operand: Any) -> Test:
    if isinstance(operand, Fields):
        refused = _anything_but_texts(operand)
    elif isinstance(operand, list):
        refused = _anything_but_list(operand)
    elif isinstance(operand, str) or _is_number(operand):
        refused = _anything_but_list([operand])
    else:
        raise invalid("Value of anything-but must be an array or single string/number value.")
    return lambda value: not refused(value)


def _anything_but_list(values: Sequence[Any]) -> Test:
    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if _is_number(value)]
    if len(texts) + len(numbers) < len(values):
        raise invalid("Inside anything but list, start|null|boolean is not supported.")
    if bool(texts) is bool(numbers):
        raise invalid("Inside anything but list, either all values are number or string, mixed type is not supported")
    if texts:
        return frozenset(texts).__contains__
    steps = frozenset(_numeric_operand(number, "anything-but") for number in numbers)
    return lambda value: _steps(value) in steps


def _anything_but_texts(fields: Fields) -> Test:
    """`{"prefix": ...}` and its like, of one text or of several, none of which may fit."""
    if not fields:
        raise invalid("Anything-But expression name not found")
    name, operand = fields[0]
    if name not in _NOT_TEXT:
        raise invalid(f"Unsupported anything-but pattern: {name}")
    if len(fields) > 1:
        raise invalid(_TOO_MANY)
    if not isinstance(operand, (list, str)) and not _is_number(operand):
        raise invalid("Value of anything-but must be an array or single string/number value.")
    texts = operand if isinstance(operand, list) else [operand]
    if not all(isinstance(text, str) for text in texts):
        raise invalid(_NOT_TEXT[name])
    if name in ("prefix", "suffix") and "" in texts:
        raise invalid("Null prefix/suffix not allowed")
    return _any_of([_OPERATORS[name](text) for text in texts])


_OPERATORS: Final[Mapping[str, Callable[[Any], Test]]] = {
    "anything-but": _anything_but,
    "cidr": _cidr,
    "equals-ignore-case": _equals_ignore_case,
    "exactly": _exactly,
    "exists": _exists,
    "numeric": _numeric,
    "prefix": _prefix,
    "suffix": _suffix,
    "wildcard": _wildcard,
}

"""The patterns of AWS's service models, which are Java's, as Python's `re` spells them.

Java and Python agree on most of the language. What differs, and is rewritten here: `\\p{...}`, `\\z` and `\\x{...}`,
what `.` leaves out, a class inside a class (`[a[bc]]`), intersections (`&&`), and a `-` beside a class (`[\\w-.]`).
https://docs.oracle.com/en/java/javase/21/docs/api/java.base/java/util/regex/Pattern.html
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache
from itertools import groupby
from typing import Final, NamedTuple


class UntranslatablePattern(ValueError):
    """The pattern uses something of Java's language that has no counterpart here."""


@cache
def compile_java(pattern: str) -> re.Pattern[str]:
    """`pattern` compiled, to be used with `fullmatch` as Java's services do. Raises UntranslatablePattern."""
    try:
        # ASCII, because \d, \w, \s and \b know no more than that in Java.
        return re.compile(_Translation(_LINEAR.get(pattern, pattern)).whole(), re.ASCII)
    except re.error as error:
        raise UntranslatablePattern(f"{pattern}: {error}") from error


# EventBridge's two patterns for headers try every way to part words from spaces, in a time that doubles with each word.
# These match the same texts in one pass.
_LINEAR: Final = {
    r"^[ \t]*[\x20-\x7E]+([ \t]+[\x20-\x7E]+)*[ \t]*$": r"\t*[\x20-\x7E][\t\x20-\x7E]*",
    r"^[ \t]*[^\x00-\x1F:\x7F]+([ \t]+[^\x00-\x1F:\x7F]+)*[ \t]*$": r"\t*[^\x00-\x1F:\x7F][^\x00-\x08\x0A-\x1F:\x7F]*",
}
_ANY_BUT_LINE_ENDS: Final = r"[^\n\r\u0085\u2028\u2029]"
_SAME_OUTSIDE_A_CLASS: Final = frozenset("dDwWsSbBAntrfa0123456789ux")
_SAME_INSIDE_A_CLASS: Final = frozenset("ntrfaux")
_PROPERTIES: Final = {
    "ASCII": r"\x00-\x7f",
    "Alnum": "a-zA-Z0-9",
    "Alpha": "a-zA-Z",
    "Blank": r"\x20\t",
    "Cntrl": r"\x00-\x1f\x7f",
    "Digit": "0-9",
    "Graph": r"\x21-\x7e",
    "Lower": "a-z",
    "Print": r"\x20-\x7e",
    "Punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "Space": r"\x20\t\n\x0b\f\r",
    "Upper": "A-Z",
    "XDigit": "0-9a-fA-F",
    "Z": r"\x20\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
    "Zs": r"\x20\xa0\u1680\u2000-\u200a\u202f\u205f\u3000",
    "all": r"\x00-\U0010ffff",
}


@cache
def _property_ranges(name: str) -> str:
    """The characters with the property `name`, as the inside of a class."""
    known = _PROPERTIES.get(name)
    if known is not None:
        return known
    if not re.fullmatch("[CLMNPSZ][a-z]?", name):
        raise UntranslatablePattern(rf"\p{{{name}}}")
    # About 0.1 s for all of Unicode, once: AWS's tag patterns, which every service has, do without it (see _class).
    categories = map(unicodedata.category, map(chr, range(sys.maxunicode + 1)))
    ranges, first = [], 0
    for has_property, run in groupby(category.startswith(name) for category in categories):
        length = sum(1 for _ in run)
        if has_property:
            ranges.append(rf"\U{first:08x}-\U{first + length - 1:08x}")
        first += length
    return "".join(ranges)


class _Item(NamedTuple):
    """One element of a class: something between Python's brackets (`inside`), or an expression for one character."""

    inside: str = ""
    property_name: str = ""  # of `\p{...}`, whose inside is found when it is needed
    expression: str = ""
    is_character: bool = False  # so that a range can start or end here

    def ranges(self) -> str:
        return _property_ranges(self.property_name) if self.property_name else self.inside


class _Translation:
    """One pass over a Java pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def whole(self) -> str:
        out = []
        while self._at < len(self._pattern):
            character = self._take()
            if character == "\\":
                out.append(self._escape_outside())
            elif character == "[":
                out.append(self._class())
            elif character == ".":
                out.append(_ANY_BUT_LINE_ENDS)
            elif character == "(" and re.compile(r"\?<[A-Za-z]").match(self._pattern, self._at):
                self._at += 2
                out.append("(?P<")
            else:
                out.append(character)
        return "".join(out)

    def _take(self) -> str:
        if self._at >= len(self._pattern):
            raise UntranslatablePattern(f"{self._pattern}: ends too early")
        self._at += 1
        return self._pattern[self._at - 1]

    def _next_is(self, text: str) -> bool:
        return self._pattern.startswith(text, self._at)

    def _braced(self) -> str:
        """What stands in the braces that follow, or the one character when there are none."""
        if not self._next_is("{"):
            return self._take()
        end = self._pattern.find("}", self._at)
        if end < 0:
            raise UntranslatablePattern(f"{self._pattern}: a brace is not closed")
        text = self._pattern[self._at + 1 : end]
        self._at = end + 1
        return text

    def _escape_outside(self) -> str:
        character = self._take()
        if character in "pP":
            negation = "^" if character == "P" else ""
            return f"[{negation}{_property_ranges(self._braced())}]"
        if character == "x" and self._next_is("{"):
            return f"\\U{self._braced():0>8}"
        if character == "z":
            return r"\Z"
        if character in _SAME_OUTSIDE_A_CLASS or not (character.isascii() and character.isalnum()):
            return "\\" + character
        raise UntranslatablePattern(f"{self._pattern}: \\{character}")

    def _class(self) -> str:
        """The class whose opening bracket has just been read, as an expression for one character."""
        negated = self._next_is("^")
        self._at += negated
        items: list[_Item] = []
        both: list[str] = []  # what stands before each `&&`
        while not self._next_is("]") or not (items or both):
            if self._next_is("&&"):
                self._at += 2
                both.append(_any_of(items))
                items = []
            else:
                items.append(self._class_item())
        self._at += 1
        if negated and not both and not any(item.expression for item in items):
            return f"[^{''.join(item.ranges() for item in items)}]"
        expression = "".join(f"(?={one})" for one in both) + _any_of(items)
        return rf"(?:(?!{expression})[\s\S])" if negated else f"(?:{expression})" if both else expression

    def _class_item(self) -> _Item:
        first = self._class_element()
        if not (first.is_character and self._next_is("-")) or self._pattern[self._at + 1 : self._at + 2] in "][":
            return first
        here = self._at
        self._at += 1
        last = self._class_element()
        if last.is_character:
            return _Item(f"{first.inside}-{last.inside}")
        self._at = here  # `a-\d` is a, a hyphen and the digits
        return first

    def _class_element(self) -> _Item:
        character = self._take()
        if character == "[":
            return _Item(expression=self._class())
        if character != "\\":
            return _Item(re.escape(character) if character.isascii() else character, is_character=True)
        character = self._take()
        if character in "dws":
            return _Item("\\" + character)
        if character in "DWS":
            return _Item(expression="\\" + character)
        if character in "pP":
            name = self._braced()
            return _Item(expression=f"[^{_property_ranges(name)}]") if character == "P" else _Item(property_name=name)
        return _Item(self._escaped_character(character), is_character=True)

    def _escaped_character(self, character: str) -> str:
        if character == "v":
            return r"\x0b"
        if character == "x" and self._next_is("{"):
            return f"\\U{self._braced():0>8}"
        if character in "ux":
            digits = 4 if character == "u" else 2
            code = int("".join(self._take() for _ in range(digits)), 16)
            if 0xD800 <= code < 0xDC00 and self._next_is("\\u"):  # Java reads two escaped surrogates as one character
                low = int(self._pattern[self._at + 2 : self._at + 6], 16)
                if 0xDC00 <= low < 0xE000:
                    self._at += 6
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
            return f"\\U{code:08x}"
        if character in _SAME_INSIDE_A_CLASS or not (character.isascii() and character.isalnum()):
            return "\\" + character
        raise UntranslatablePattern(f"{self._pattern}: \\{character} in a class")


def _any_of(items: list[_Item]) -> str:
    """An expression for one character that is in any of the items."""
    names = {item.property_name for item in items}
    plain = not any(item.expression or item.inside in {r"\d", r"\w", r"\s"} for item in items)
    if plain and {"L", "N"} <= names and any(item.inside == "_" for item in items):
        # Letters, numbers and the underscore of all Unicode are what Python calls \w; the table need not be built.
        rest = "".join(item.ranges() for item in items if item.property_name not in {"L", "N"})
        return rf"(?u:[\w{rest}])"
    ranges = "".join(item.ranges() for item in items)
    expressions = ([f"[{ranges}]"] if ranges else []) + [item.expression for item in items if item.expression]
    return expressions[0] if len(expressions) == 1 else f"(?:{'|'.join(expressions)})"

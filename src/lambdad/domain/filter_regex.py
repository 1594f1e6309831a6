"""The regular expressions of CloudWatch Logs filter patterns (`%...%`), matched in time linear in the message.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/regex-expressions.html: alphanumerics, `: _ # = @ / ; , -`,
the operators `^ $ ? [ ] { } | \\ * + .`, the classes `\\d \\s \\w` and their inverses, and `\\xhh`; no parentheses and
no multi-byte characters. Without parentheses an expression is alternatives of repeated characters, which a lazily built
automaton decides in one pass. Python's `re` is several times faster where it cannot go wrong, and holds the
interpreter for minutes where it can (`%a*a*a*b%` on a long line), so it is used only where its worst case is small.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


class InvalidPattern(ValueError):
    """The filter pattern is not in AWS's syntax; the message names the fact."""


_SYMBOLS: Final = frozenset(string.ascii_letters + string.digits + ":_#=@/;,- \t")
_WORD: Final = frozenset(string.ascii_letters + string.digits + "_")
_SPACE: Final = frozenset(" \t\n\r\f\v")
_DIGITS: Final = frozenset(string.digits)
_OPERATORS: Final = frozenset("^$?[]{}|\\*+.")
_REPEATS_MAX: Final = 1000
_UNITS_MAX: Final = 4000
_RE_STEPS_MAX: Final = 1_100_000  # what Python's re may take at worst on one message: some milliseconds
_STATES_MAX: Final = 500
_NOT_ASCII: Final = "\x80"  # stands for every character that no expression can name


@dataclass(frozen=True, slots=True)
class _Characters:
    """A set of characters: those listed, or every character but those."""

    listed: frozenset[str]
    negated: bool = False

    def __contains__(self, character: str) -> bool:
        return (character in self.listed) is not self.negated

    def union(self, other: _Characters) -> _Characters:
        if self.negated and other.negated:
            return _Characters(self.listed & other.listed, True)
        if self.negated:
            return _Characters(self.listed - other.listed, True)
        if other.negated:
            return _Characters(other.listed - self.listed, True)
        return _Characters(self.listed | other.listed)

    @property
    def source(self) -> str:
        """The set as Python's re writes it."""
        if not self.listed:
            return r"[\s\S]" if self.negated else r"[^\s\S]"
        return f"[{'^' if self.negated else ''}{''.join(map(re.escape, sorted(self.listed)))}]"


_CLASSES: Final = {
    "d": _Characters(_DIGITS),
    "D": _Characters(_DIGITS, True),
    "s": _Characters(_SPACE),
    "S": _Characters(_SPACE, True),
    "w": _Characters(_WORD),
    "W": _Characters(_WORD, True),
    "t": _Characters(frozenset("\t")),
    "n": _Characters(frozenset("\n")),
}
_ANY: Final = _Characters(frozenset(), True)
_START: Final = "start"
_END: Final = "end"
_ACCEPT: Final = "accept"


@dataclass(frozen=True, slots=True)
class _Piece:
    """A character, or an anchor, and how often it comes; `most` is None when there is no bound."""

    what: _Characters | str
    least: int = 1
    most: int | None = 1


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def alternatives(self) -> list[list[_Piece]]:
        found: list[list[_Piece]] = [[]]
        while self.at < len(self.text):
            if self.text[self.at] == "|":
                self.at += 1
                found.append([])
            else:
                found[-1].append(self._piece())
        return found

    def _piece(self) -> _Piece:
        what = self._atom()
        if isinstance(what, str):
            return _Piece(what)
        least, most = self._repeat()
        return _Piece(what, least, most)

    def _atom(self) -> _Characters | str:
        character = self._take()
        if character == "^":
            return _START
        if character == "$":
            return _END
        if character == ".":
            return _ANY
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        return _Characters(frozenset(_literal(character)))

    def _class(self) -> _Characters:
        negated = self.text.startswith("^", self.at)
        self.at += negated
        inside: _Characters | None = None
        while not self.text.startswith("]", self.at) or inside is None:
            low = self._class_member()
            if self.text.startswith("-", self.at) and not self.text.startswith("-]", self.at):
                self.at += 1
                low = _range(low, self._class_member())
            inside = low if inside is None else inside.union(low)
        self.at += 1
        return _Characters(inside.listed, inside.negated is not negated)

    def _class_member(self) -> _Characters:
        character = self._take()
        if character == "\\":
            return self._escape()
        if character in "[]":
            raise InvalidPattern(f"Invalid character class in regular expression '{self.text}'")
        return _Characters(frozenset(character if character in _OPERATORS else _literal(character)))

    def _escape(self) -> _Characters:
        character = self._take()
        if character == "x":
            digits = self.text[self.at : self.at + 2]
            if re.fullmatch("[0-9a-fA-F]{2}", digits) is None or int(digits, 16) > 0x7F:
                raise InvalidPattern(f"Invalid escape '\\x{digits}' in regular expression '{self.text}'")
            self.at += 2
            return _Characters(frozenset(chr(int(digits, 16))))
        if character in _CLASSES:
            return _CLASSES[character]
        if character.isalnum():
            raise InvalidPattern(f"Invalid escape '\\{character}' in regular expression '{self.text}'")
        return _Characters(frozenset(character))

    def _repeat(self) -> tuple[int, int | None]:
        if self.at == len(self.text) or self.text[self.at] not in "?*+{":
            return 1, 1
        operator = self._take()
        if operator == "{":
            bounds = re.compile(r"(\d{0,4}) *(?:(,) *(\d{0,4}))?\}").match(self.text, self.at)
            if bounds is None or bounds[0] in ("}", ",}"):
                raise InvalidPattern(f"Invalid repetition in regular expression '{self.text}'")
            self.at = bounds.end()
            least = int(bounds[1] or 0)
            most = (int(bounds[3]) if bounds[3] else None) if bounds[2] else least
        else:
            least, most = {"?": (0, 1), "*": (0, None), "+": (1, None)}[operator]
        if max(least, most or 0) > _REPEATS_MAX or (most is not None and most < least):
            raise InvalidPattern(f"Invalid repetition in regular expression '{self.text}'")
        # A lazy repetition finds the same messages as a greedy one.
        self.at += self.text.startswith("?", self.at)
        return least, most

    def _take(self) -> str:
        if self.at >= len(self.text):
            raise InvalidPattern(f"Incomplete regular expression '{self.text}'")
        self.at += 1
        return self.text[self.at - 1]


def _literal(character: str) -> str:
    if character not in _SYMBOLS:
        raise InvalidPattern(f"Invalid character(s) in term '{character}'")
    return character


def _range(low: _Characters, high: _Characters) -> _Characters:
    if low.negated or high.negated or len(low.listed) != 1 or len(high.listed) != 1:
        raise InvalidPattern("Invalid range in the character class of a regular expression")
    first, last = ord(*low.listed), ord(*high.listed)
    if first > last:
        raise InvalidPattern("Invalid range in the character class of a regular expression")
    return _Characters(frozenset(map(chr, range(first, last + 1))))


def _trim(pieces: list[_Piece]) -> list[_Piece]:
    """The same search with less to try: a message that holds `a+b` holds `ab`, and `a*b` is found where `b` is."""
    for end in (0, -1):
        while pieces and isinstance(what := pieces[end].what, _Characters):
            least = pieces[end].least
            if least:
                pieces[end] = _Piece(what, least, least)
                break
            del pieces[end]
    return pieces


class FilterRegex:
    """One `%...%` expression; `search(text)` says whether it is found anywhere in the text.

    Raises InvalidPattern for what is outside AWS's subset.
    """

    def __init__(self, text: str) -> None:
        alternatives = [_trim(pieces) for pieces in _Parser(text).alternatives()]
        self._repeats = max((piece.least for pieces in alternatives for piece in pieces), default=1) or 1
        self._spans = [[_span(piece) for piece in pieces if piece.most != piece.least] for pieces in alternatives]
        self._re = re.compile("|".join("".join(map(_source, pieces)) for pieces in alternatives))
        self._automaton = _Automaton(alternatives)

    def search(self, text: str) -> bool:
        if self._worst_steps(len(text)) <= _RE_STEPS_MAX:
            return self._re.search(text) is not None
        return self._automaton.search(text)

    def _worst_steps(self, length: int) -> int:
        """How many positions a backtracking search may try, up to the bound that matters."""
        total = 0
        for spans in self._spans:
            steps = (length + 1) * self._repeats
            for span in spans:
                steps *= min(span or length, length) + 1
                if steps > _RE_STEPS_MAX:
                    return steps
            total += steps
        return total


def _span(piece: _Piece) -> int | None:
    """How many lengths a piece may have, less one; None when there is no bound."""
    return None if piece.most is None else piece.most - piece.least


def _source(piece: _Piece) -> str:
    if piece.what == _START:
        return r"\A"
    if isinstance(piece.what, str):
        return r"(?=\n?\Z)"  # as in most engines, the end is also before a last newline
    if piece.least == piece.most == 1:
        return piece.what.source
    return f"{piece.what.source}{{{piece.least},{'' if piece.most is None else piece.most}}}"


@dataclass(frozen=True, slots=True)
class _Unit:
    """One position of the automaton: a character to read, or an anchor; it may be passed by, or read again."""

    what: _Characters | str
    optional: bool = False
    repeats: bool = False


class _State:
    """A set of positions, with the transitions found so far."""

    __slots__ = ("accepting", "following", "units")

    def __init__(self, units: frozenset[int], accepting: bool) -> None:
        self.units = units
        self.accepting = accepting
        self.following: dict[str, _State] = {}


class _Automaton:
    """Decides the search in one pass, remembering at most a few hundred states."""

    def __init__(self, alternatives: list[list[_Piece]]) -> None:
        self._units: list[_Unit] = []
        self._first: list[int] = []
        for pieces in alternatives:
            self._first.append(len(self._units))
            for piece in pieces:
                self._units += _expand(piece)
            self._units.append(_Unit(_ACCEPT))
        if len(self._units) > _UNITS_MAX:
            raise InvalidPattern("The regular expression is too large")
        self._states: dict[frozenset[int], _State] = {}
        self._anywhere = self._reach(self._first)

    def search(self, text: str) -> bool:
        body = text[:-1] if text.endswith("\n") else text
        state = self._state(self._reach(self._first, start=True))
        if state.accepting:
            return True
        for character in body:
            following = state.following.get(character)
            if following is None:
                following = self._step(state, character)
            if following.accepting:
                return True
            state = following
        final = self._reach(state.units, start=not body, end=True)
        if self._accepts(final) or body is text:
            return self._accepts(final)
        return self._accepts(self._reach(self._read(final, "\n"), end=True))

    def _step(self, state: _State, character: str) -> _State:
        known = character if character <= "\x7f" else _NOT_ASCII
        found = state.following.get(known)
        if found is None:
            found = self._state(self._reach(self._read(state.units, known)) | self._anywhere)
            state.following[known] = found
        return found

    def _read(self, units: frozenset[int], character: str) -> set[int]:
        return {
            index if self._units[index].repeats else index + 1
            for index in units
            if isinstance(what := self._units[index].what, _Characters) and character in what
        }

    def _reach(self, indexes: Iterable[int], *, start: bool = False, end: bool = False) -> frozenset[int]:
        """Every position that is reached from these without reading a character."""
        reached: set[int] = set()
        waiting = list(indexes)
        while waiting:
            index = waiting.pop()
            if index in reached:
                continue
            reached.add(index)
            unit = self._units[index]
            if unit.optional or (start and unit.what == _START) or (end and unit.what == _END):
                waiting.append(index + 1)
        return frozenset(reached)

    def _accepts(self, units: frozenset[int]) -> bool:
        return any(self._units[index].what == _ACCEPT for index in units)

    def _state(self, units: frozenset[int]) -> _State:
        state = self._states.get(units)
        if state is None:
            if len(self._states) >= _STATES_MAX:
                for forgotten in self._states.values():
                    forgotten.following.clear()
                self._states.clear()
            state = self._states[units] = _State(units, self._accepts(units))
        return state


def _expand(piece: _Piece) -> list[_Unit]:
    units = [_Unit(piece.what)] * piece.least
    if piece.most is None:
        return [*units, _Unit(piece.what, optional=True, repeats=True)]
    return units + [_Unit(piece.what, optional=True)] * (piece.most - piece.least)

"""Which files stay out of a package: patterns in the manner of .gitignore.

https://git-scm.com/docs/gitignore#_pattern_format. What differs: one file at the top, and a file in an ignored
directory cannot be had back, as in git.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

IGNORE_FILE: Final = ".lambdaignore"
ALWAYS: Final = (".git", "__pycache__/", ".venv/", "node_modules/.cache/", f"/{IGNORE_FILE}")


@dataclass(frozen=True, slots=True)
class _Rule:
    expression: re.Pattern[str]
    is_negated: bool
    only_directories: bool


class IgnoreRules:
    """The patterns of ALWAYS, then those of the lines given; the last that matches decides."""

    def __init__(self, lines: Sequence[str] = ()) -> None:
        self._rules = [rule for line in (*ALWAYS, *lines) if (rule := _rule(line)) is not None]

    def ignores(self, name: str, *, is_directory: bool) -> bool:
        """Whether a path, relative and with `/` between its parts, stays out. What is in an ignored directory does."""
        ignored = False
        for rule in self._rules:
            if (is_directory or not rule.only_directories) and rule.expression.fullmatch(name):
                ignored = not rule.is_negated
        return ignored


def _rule(line: str) -> _Rule | None:
    pattern = line.rstrip()
    if not pattern or pattern.startswith("#"):
        return None
    is_negated = pattern.startswith("!")
    pattern = pattern.removeprefix("!").removeprefix("\\")
    only_directories = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    if not pattern:
        return None
    # A slash anywhere but at the end ties a pattern to the top.
    prefix = "" if "/" in pattern else "(?:.*/)?"
    return _Rule(re.compile(prefix + _expression(pattern.lstrip("/")), re.DOTALL), is_negated, only_directories)


_PARTS: Final = (
    (re.compile(r"\*\*/"), "(?:.*/)?"),
    (re.compile(r"/\*\*$"), "/.*"),
    (re.compile(r"\*+"), "[^/]*"),
    (re.compile(r"\?"), "[^/]"),
)
_CLASS: Final = re.compile(r"\[([!^]?)([^\]]+)\]")
_ESCAPED: Final = re.compile(r"\\(.)")


def _expression(pattern: str) -> str:
    """A glob as a regular expression for a whole path."""
    expression, at = "", 0
    while at < len(pattern):
        for part, meaning in _PARTS:
            if found := part.match(pattern, at):
                expression += meaning
                break
        else:
            if found := _CLASS.match(pattern, at):
                expression += f"[{'^' if found[1] else ''}{re.escape(found[2]).replace(chr(92) + '-', '-')}]"
            elif found := _ESCAPED.match(pattern, at):
                expression += re.escape(found[1])
            else:
                expression += re.escape(pattern[at])
        at = found.end() if found else at + 1
    return expression

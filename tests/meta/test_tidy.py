"""The house style that no linter checks: small modules, small functions, names that say something."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MODULE_LINES = 500
FUNCTION_LINES = 71
EMPTY_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc|manager)$")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_a_module_is_small_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES
    assert not EMPTY_NAMES.search(path.stem)
    assert UNFINISHED.search(text) is None
    assert ast.get_docstring(ast.parse(text)) is not None


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_a_function_fits_a_screen(path: Path) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, functions) and node.end_lineno and node.end_lineno - node.lineno >= FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_a_broad_except_gives_its_reason(path: Path) -> None:
    lines = path.read_text().splitlines()
    bare = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse("\n".join(lines)))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
        and not any(isinstance(each, ast.Raise) for each in ast.walk(node))
        and "#" not in lines[node.lineno - 1] + lines[node.lineno]
    ]
    assert bare == []


def test_no_source_names_a_place_of_one_machine() -> None:
    places = re.compile(r"/root/|/home/(?!linuxbrew)\w|/work/")
    named = [f"{_id(path)}: {found[0]}" for path in SOURCES if (found := places.search(path.read_text()))]
    assert named == []

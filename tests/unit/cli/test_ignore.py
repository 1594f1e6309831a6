"""Patterns of .lambdaignore."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lambdad.cli.ignore import IgnoreRules

CASES = [
    ("*.log", "a.log", True),
    ("*.log", "deep/down/a.log", True),
    ("*.log", "a.logs", False),
    ("/a.txt", "a.txt", True),
    ("/a.txt", "deep/a.txt", False),
    ("docs/*.md", "docs/a.md", True),
    ("docs/*.md", "docs/deep/a.md", False),
    ("docs/*.md", "deep/docs/a.md", False),
    ("**/test", "test", True),
    ("**/test", "a/b/test", True),
    ("a/**/z", "a/z", True),
    ("a/**/z", "a/b/c/z", True),
    ("a/**", "a/b/c", True),
    ("a?c", "abc", True),
    ("a?c", "a/c", False),
    ("[ab].py", "b.py", True),
    ("[!ab].py", "b.py", False),
    ("[!ab].py", "c.py", True),
    ("[a-c]x", "bx", True),
    ("file.txt", "fileXtxt", False),
    ("# a comment", "# a comment", False),
    ("\\#hash", "#hash", True),
    ("\\!bang", "!bang", True),
    ("a\\*b", "a*b", True),
    ("a\\*b", "axb", False),
    ("trailing   ", "trailing", True),
    ("", "anything", False),
]


@pytest.mark.parametrize(("pattern", "name", "ignored"), CASES)
def test_a_pattern(pattern: str, name: str, ignored: bool) -> None:
    assert IgnoreRules([pattern]).ignores(name, is_directory=False) is ignored


@pytest.mark.skipif(shutil.which("git") is None, reason="git is missing")
def test_git_agrees(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for pattern, name, ignored in CASES:
        (tmp_path / ".gitignore").write_text(f"{pattern}\n")
        asked = subprocess.run(["git", "-C", str(tmp_path), "check-ignore", "-q", "--no-index", name], check=False)
        assert (asked.returncode == 0) is ignored, (pattern, name)


def test_a_slash_at_the_end_means_directories_only() -> None:
    rules = IgnoreRules(["build/"])
    assert rules.ignores("deep/build", is_directory=True)
    assert not rules.ignores("build", is_directory=False)


def test_the_last_match_decides() -> None:
    rules = IgnoreRules(["*.txt", "!keep.txt", "/keep.txt"])
    assert not rules.ignores("deep/keep.txt", is_directory=False)
    assert rules.ignores("keep.txt", is_directory=False)


@pytest.mark.parametrize("name", [".git", "a/.git", "__pycache__", "a/__pycache__", ".venv", "node_modules/.cache"])
def test_what_never_goes_along(name: str) -> None:
    assert IgnoreRules().ignores(name, is_directory=True)


def test_what_never_goes_along_can_be_had_all_the_same() -> None:
    assert not IgnoreRules(["!.venv/"]).ignores(".venv", is_directory=True)

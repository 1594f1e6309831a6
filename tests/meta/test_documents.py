"""The documents say what is there: links lead somewhere, promises name their benchmarks, commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lambdad.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    missing = [each for each in targets if "://" not in each and not (path.parent / each).exists()]
    assert missing == []


def test_every_promise_names_a_benchmark_that_exists() -> None:
    promised = re.findall(r"`(test_\w+)`", (ROOT / "SPECIFICATION.md").read_text())
    benchmarks = set(
        re.findall(r"^def (test_\w+)", "\n".join(p.read_text() for p in (ROOT / "tests").rglob("*.py")), re.M)
    )
    assert promised
    assert sorted(set(promised) - benchmarks) == []


def test_every_benchmark_is_promised() -> None:
    promised = set(re.findall(r"`(test_\w+)`", (ROOT / "SPECIFICATION.md").read_text()))
    perf = "\n".join(path.read_text() for path in (ROOT / "tests" / "perf").rglob("test_*.py"))
    assert sorted(set(re.findall(r"^def (test_\w+)", perf, re.M)) - promised) == []


def test_the_readme_names_only_commands_that_exist() -> None:
    named = set(re.findall(r"`?lambdad (\w+)", (ROOT / "README.md").read_text()))
    prose = {"running", "answers", "alone", "in", "is", "finds"}
    assert named - prose - {"start"} <= set(COMMANDS)


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_adr_has_its_three_parts() -> None:
    for path in (ROOT / "docs" / "adr").glob("*.md"):
        parts = re.findall(r"^## (\w+)", path.read_text(), re.M)
        assert parts[:3] == ["Context", "Decision", "Consequences"], path

"""`lambdad bench`: how figures and promises are shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from lambdad.bench.bars import BARS, COLD_PYTHON, IDLE_MEMORY, SIX_MEGABYTES, THROUGHPUT, Bar
from lambdad.cli import bench


@pytest.mark.parametrize(
    ("figure", "unit", "text"),
    [
        (None, "s", ""),
        (0.000145, "s", "145 us"),
        (0.0062, "s", "6.2 ms"),
        (1.234, "s", "1.23 s"),
        (10656.7, "/s", "10,657/s"),
        (3.18 * 1024 * 1024, "B", "3.2 MB"),
    ],
)
def test_figures_have_units_that_suit_them(figure: float | None, unit: str, text: str) -> None:
    assert bench.figure_text(figure, unit) == text


@pytest.mark.parametrize(
    ("bar", "text"),
    [
        (COLD_PYTHON, "<= 0.6 x python3 -c pass"),
        (THROUGHPUT, ">= 1 x echo server"),
        (SIX_MEGABYTES, "<= 60.0 ms"),
        (IDLE_MEMORY, "<= 3.0 MB"),
    ],
)
def test_promises_in_words(bar: Bar, text: str) -> None:
    assert bench.bar_text(bar) == text


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a run finds: one promise kept, one broken, one of something that is not here."""
    row = {"Promise": "p", "Bar": "b", "Unit": "s", "Yardstick": None, "Ratio": None, "Note": ""}
    report: dict[str, Any] = {
        "Sandbox": {"driver": "process", "isolated": False},
        "Processors": 2,
        "EchoServer": "streams",
        "Python": "python3.13 3.13.0",
        "Node": None,
        "Rows": [
            {**row, "Measured": 0.002, "Yardstick": 0.004, "Ratio": 0.5, "Holds": True},
            {**row, "Measured": 2.5, "Holds": False},
            {**row, "Measured": None, "Holds": None, "Note": "Node is not installed"},
        ],
    }
    monkeypatch.setattr(bench, "_measure", lambda *_: report)
    return report


def test_into_a_pipe_a_promise_is_a_line(measured: dict[str, Any]) -> None:
    lines = CliRunner().invoke(bench.command).stdout.splitlines()
    assert lines == [
        "sandbox process, functions are NOT isolated; 2 processors; client: this process",
        "python3.13 3.13.0; no Node; echo server: asyncio's streams (aiohttp is not installed)",
        "p\tb\t2.0 ms\t4.0 ms\t0.50\tyes\t",
        "p\tb\t2.50 s\t\t\tno\t",
        "p\tb\t\t\t\t\tNode is not installed",
    ]


def test_for_programs_it_is_a_document(measured: dict[str, Any]) -> None:
    assert json.loads(CliRunner().invoke(bench.command, ["--json"]).stdout) == measured


def test_promises_have_names_of_their_own() -> None:
    assert len({bar.name for bar in BARS}) == len(BARS)


def test_help_says_that_nothing_is_needed() -> None:
    shown = CliRunner().invoke(bench.command, ["--help"])
    assert shown.exit_code == 0
    assert "needs no daemon" in shown.stdout

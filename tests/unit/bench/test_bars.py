"""Promises, samples and rows: when a promise is kept, and when nothing can be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lambdad.bench.bars import BARS, COLD_NODE, COLD_PYTHON, IDLE_MEMORY, SIX_MEGABYTES, THROUGHPUT, Samples
from lambdad.bench.rows import Bench, Row


def test_a_figure_is_a_median() -> None:
    samples = Samples([3.0, 1.0, 9.0], [2.0, 4.0, 100.0])
    assert (samples.figure, samples.yardstick_figure, samples.worst) == (3.0, 4.0, 9.0)
    assert samples.ratio == 0.75


def test_without_a_yardstick_there_is_no_ratio() -> None:
    samples = Samples([1.0])
    assert samples.yardstick_figure is None
    with pytest.raises(ValueError, match="nothing to compare with"):
        _ = samples.ratio


@pytest.mark.parametrize(
    ("row", "ratio", "holds"),
    [
        (Row(COLD_PYTHON, 0.006, 0.010), 0.6, True),
        (Row(COLD_PYTHON, 0.0061, 0.010), 0.61, False),
        (Row(THROUGHPUT, 1000.0, 1000.0), 1.0, True),
        (Row(THROUGHPUT, 999.0, 1000.0), 0.999, False),
        (Row(THROUGHPUT, 5000.0, 1000.0, is_comparable=False), 5.0, None),
        (Row(SIX_MEGABYTES, 0.060, 0.010), 6.0, True),
        (Row(SIX_MEGABYTES, 0.061, 0.010), 6.1, False),
        (Row(IDLE_MEMORY, 3.0 * 1024 * 1024), None, True),
        (Row(IDLE_MEMORY, 3.1 * 1024 * 1024), None, False),
        (Row(COLD_NODE, note="Node is not installed"), None, None),
    ],
)
def test_whether_a_promise_is_kept(row: Row, ratio: float | None, holds: bool | None) -> None:
    assert row.ratio == (None if ratio is None else pytest.approx(ratio))
    assert row.holds is holds


def test_what_is_not_installed_is_said_and_not_measured(tmp_path: Path) -> None:
    nothing: Any = None
    announced: list[object] = []
    rows = list(Bench(tmp_path, nothing, "", "aiohttp", None, None, announced.append).rows(everything=True))
    assert {row.bar for row in rows} == set(BARS)
    assert len(rows) == len(BARS)
    assert {row.note for row in rows if row.bar is not COLD_NODE} == {"Python is not installed"}
    assert [row.note for row in rows if row.bar is COLD_NODE] == ["Node is not installed"]
    assert announced == []

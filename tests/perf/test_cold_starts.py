"""The numbers of SPECIFICATION.md for first invocations. Each test is named there beside its promise.

The yardstick is a bare interpreter: the same program that runs the function, with nothing installed in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import pytest

from lambdad.bench import bars, measures
from lambdad.bench.bars import Bar, Samples
from lambdad.bench.measures import Target
from perf.conftest import NODE, PYTHON

Report = Callable[[str], None]

PYTHON_BOUND = 1.5
NODE_BOUND = 1.5
CREATE_BOUND = 4.0
"""In multiples of `python3 -c pass`; the bar is in milliseconds, which travel badly."""
IDEAL_S = 1.0
SMALL_BURST_BOUND = 3.0
LARGE_BURST_BOUND = 12.0
"""In multiples of the second that the handler sleeps."""

PYTHON_COUNT = 30
NODE_COUNT = 15
CREATE_COUNT = 15
SMALL_BURST = 100
LARGE_BURST = 1000
BYTES_OF_A_PLAIN_ENVIRONMENT = 12 * 1024 * 1024
"""What an environment may hold in memory where each runs an interpreter of its own (the process driver)."""


def say(report: Report, bar: Bar, found: Samples, yardstick: str) -> None:
    limit = f"{bar.limit}" if bar.yardstick else f"{bar.limit * 1000:.0f} ms"
    report(
        f"{bar.name}: {found.figure * 1000:.1f} ms = {found.ratio:.2f} x `{yardstick}` "
        f"({found.yardstick_figure * 1000:.1f} ms; bar {limit}; longest {found.worst * 1000:.1f} ms)"
    )


def test_cold_first_invoke(target: Target, clean_python: Sequence[str], report: Report) -> None:
    found = measures.cold_invokes(target, PYTHON, clean_python, PYTHON_COUNT)
    say(report, bars.COLD_PYTHON, found, bars.CLEAN_PYTHON)
    assert found.ratio <= PYTHON_BOUND


def test_cold_first_invoke_of_node(target: Target, bare_node: Sequence[str], report: Report) -> None:
    found = measures.cold_invokes(target, NODE, bare_node, NODE_COUNT)
    say(report, bars.COLD_NODE, found, bars.BARE_NODE)
    assert found.ratio <= NODE_BOUND


def test_create_and_first_invoke_through_boto3(target: Target, clean_python: Sequence[str], report: Report) -> None:
    found = measures.create_and_invoke(target, clean_python, CREATE_COUNT)
    say(report, bars.CREATE_AND_INVOKE, found, bars.CLEAN_PYTHON)
    assert found.ratio <= CREATE_BOUND


def test_a_burst_of_one_hundred(target: Target, report: Report) -> None:
    """Invocations of a function that takes a second, at once and cold: side by side, not one by one."""
    found = measures.burst(target, SMALL_BURST)
    report(f"{bars.BURST_OF_100.name}: {found.total_s:.2f} s (bar {bars.BURST_OF_100.limit} s)")
    assert found.failures == []
    assert found.total_s / IDEAL_S <= SMALL_BURST_BOUND


def test_a_burst_of_one_thousand(target: Target, report: Report) -> None:
    """As many as an account may have at once."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if available < LARGE_BURST * BYTES_OF_A_PLAIN_ENVIRONMENT:
        pytest.skip(f"{available >> 20} MB of memory are free")
    found = measures.burst(target, LARGE_BURST)
    report(f"{bars.BURST_OF_1000.name}: {found.total_s:.2f} s (bar {bars.BURST_OF_1000.limit} s)")
    assert found.failures == []
    assert found.total_s / IDEAL_S <= LARGE_BURST_BOUND

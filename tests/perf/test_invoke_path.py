"""The numbers of SPECIFICATION.md for warm invocations. Each test is named there beside its promise.

The client is wrk; the yardstick is aiohttp's echo server, taken by turns with lambdad in the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lambdad.bench import bars, measures
from lambdad.bench.measures import Target
from perf.load import wrk

Report = Callable[[str], None]

LATENCY_BOUND = 2.5
LEAST_RATES = {1: 0.3, 16: 0.25, 64: 0.25}
SIX_MEGABYTES_BOUND = 6.0

LATENCY_SECONDS = 2
LATENCY_ROUNDS = 5
RATE_ROUNDS = 3
RATE_SECONDS = 2
LONG_RATE_SECONDS = 8
SIX_MEGABYTES_COUNT = 9


def test_warm_latency_of_one_client(target: Target, echo_url: str, tmp_path: Path, report: Report) -> None:
    _, found = measures.loads(target, echo_url, 1, LATENCY_SECONDS, LATENCY_ROUNDS, wrk(tmp_path))
    report(
        f"warm p50, 1 client: {found.figure * 1e6:.0f} us = {found.ratio:.2f} x the echo server's "
        f"{found.yardstick_figure * 1e6:.0f} us (bar {bars.WARM.limit})"
    )
    assert found.ratio <= LATENCY_BOUND


@pytest.mark.parametrize("clients", LEAST_RATES)
def test_throughput(target: Target, echo_url: str, tmp_path: Path, report: Report, clients: int, is_long: bool) -> None:
    seconds = LONG_RATE_SECONDS if is_long else RATE_SECONDS
    found, _ = measures.loads(target, echo_url, clients, seconds, RATE_ROUNDS, wrk(tmp_path))
    bar = f" (bar {bars.THROUGHPUT.limit})" if clients == max(LEAST_RATES) else ""
    report(
        f"{clients} clients: {found.figure:.0f} requests/s = {found.ratio:.2f} x the echo server's "
        f"{found.yardstick_figure:.0f}{bar}"
    )
    assert found.ratio >= LEAST_RATES[clients]


def test_six_megabytes_there_and_back(target: Target, echo_url: str, report: Report) -> None:
    found = measures.six_megabytes(target, echo_url, SIX_MEGABYTES_COUNT)
    report(
        f"6 MB there and back: {found.figure * 1000:.0f} ms (bar {bars.SIX_MEGABYTES.limit * 1000:.0f} ms) = "
        f"{found.ratio:.1f} x the echo server's {found.yardstick_figure * 1000:.0f} ms"
    )
    assert found.ratio <= SIX_MEGABYTES_BOUND

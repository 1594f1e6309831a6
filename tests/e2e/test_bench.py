"""`lambdad bench` as somebody types it: what it says, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faults.processes import eventually, marked, needs_proc
from lambdad.bench.bars import BARS, BURST_OF_1000, ECHO_SERVER

COMMAND = [sys.executable, "-m", "lambdad", "bench"]
TIMEOUT_S = 240


def environ(tmp_path: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("LAMBDAD_", "AWS_"))}
    return {**own, "TMPDIR": str(tmp_path)}


def test_every_promise_is_measured_here(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--json"], env=environ(tmp_path), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["EchoServer"] == "aiohttp"
    assert isinstance(report["Sandbox"]["isolated"], bool)
    rows = {row["Promise"]: row for row in report["Rows"]}
    assert list(rows) == [bar.name for bar in BARS]
    assert rows[BURST_OF_1000.name]["Note"] == "measured with --all"
    for bar in BARS:
        row = rows[bar.name]
        if row["Measured"] is None:
            assert row["Note"]
            continue
        assert row["Measured"] > 0
        assert isinstance(row["Holds"], bool)
        if bar.yardstick == ECHO_SERVER:
            assert row["Ratio"] == pytest.approx(row["Measured"] / row["Yardstick"])
    assert list(tmp_path.iterdir()) == []


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_stopped_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    place = f"{tmp_path}/lambdad-bench-"
    with subprocess.Popen(COMMAND, env=environ(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as bench:
        assert eventually(lambda: list(tmp_path.glob("*/data/unpacked/*")), 60), "it has not begun to measure"
        assert marked(place)
        bench.send_signal(number)
        output, errors = bench.communicate(timeout=60)
    assert bench.returncode == 130
    assert (output, errors) == (b"", b"")
    assert marked(place) == set()
    assert list(tmp_path.iterdir()) == []


def test_a_driver_that_is_none_is_refused_in_a_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--sandbox", "none"], env=environ(tmp_path), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "the daemon did not start" in done.stderr
    assert "'none' is not one of" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []

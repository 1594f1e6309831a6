"""Load and yardsticks for the benchmarks: wrk as the client, an aiohttp echo server as the unit of measure.

Milliseconds depend on the machine and on the day; what is asserted are ratios to the echo server, taken in turns with
it in the same run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Load:
    """What wrk saw: answers a second, and the median latency in seconds."""

    requests_per_s: float
    p50_s: float


def wrk() -> str:
    found = shutil.which("wrk")
    if found is None:
        pytest.skip("wrk is not installed")
    return found


def run_wrk(url: str, script: Path, clients: int, seconds: int = 3) -> Load:
    """Load a URL; any answer other than 2xx fails the test."""
    command = [wrk(), "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in output, output
    assert "Socket errors" not in output, output
    latency = re.search(r"50%\s+([\d.]+)(us|ms|s|m)", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert latency is not None, output
    assert rate is not None, output
    return Load(float(rate[1]), float(latency[1]) * _UNITS[latency[2]])


def post_script(directory: Path, body: str) -> Path:
    """A wrk script that posts the same JSON again and again."""
    script = directory / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\nwrk.headers['Content-Type'] = 'application/json'\n"
    )
    return script


@contextmanager
def echo_server(directory: Path) -> Iterator[str]:
    """An aiohttp server that reads a request's body and returns it, on asyncio's own loop."""
    source = Path(__file__).with_name("echo_server.py")
    ready = directory / "echo.port"
    process = subprocess.Popen([sys.executable, str(source), str(ready)])
    try:
        await_true(ready.exists)
        yield f"http://127.0.0.1:{ready.read_text()}"
    finally:
        process.terminate()
        process.wait()


def in_turns(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """The median of each measure, all taken one after another `rounds` times, so that drift meets them alike."""
    taken: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for results, measure in zip(taken, measures, strict=True):
            results.append(measure())
    return [median(results) for results in taken]


def await_true(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.001)

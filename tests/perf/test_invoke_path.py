"""The numbers of SPECIFICATION.md for the invoke path. Each test is named there beside its promise."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from daemons import Daemon, create_python
from perf.load import Load, echo_server, in_turns, post_script, run_wrk

ECHO = "def handler(event, context):\n    return event\n"
BODY = '{"key":"value"}'
ROUNDS = 5


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, str]]:
    """A daemon with a function `echo`, and the URL of the echo server."""
    directory = tmp_path_factory.mktemp("perf")
    with Daemon(directory / "data") as daemon, echo_server(directory) as echo_url:
        create_python(daemon.client("lambda"), "echo", ECHO)
        yield daemon, echo_url


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a figure although pytest captures."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", end="")

    return show


def invoke_url(daemon: Daemon, name: str = "echo") -> str:
    return f"{daemon.url}/2015-03-31/functions/{name}/invocations"


def loads(running: tuple[Daemon, str], tmp_path: Path, clients: int) -> tuple[Load, Load]:
    """Medians of the function's and of the echo server's figures, taken in turns."""
    daemon, echo_url = running
    script = post_script(tmp_path, BODY)
    run_wrk(invoke_url(daemon), script, clients, 1)
    ours: list[Load] = []
    echo: list[Load] = []
    for _ in range(ROUNDS):
        ours.append(run_wrk(invoke_url(daemon), script, clients, 2))
        echo.append(run_wrk(f"{echo_url}/2015-03-31/functions/echo/invocations", script, clients, 2))
    return _middle(ours), _middle(echo)


def _middle(taken: list[Load]) -> Load:
    rates = sorted(load.requests_per_s for load in taken)
    latencies = sorted(load.p50_s for load in taken)
    return Load(rates[len(rates) // 2], latencies[len(latencies) // 2])


def test_warm_latency_of_one_client(running: tuple[Daemon, str], tmp_path: Path, report: Any) -> None:
    ours, echo = loads(running, tmp_path, 1)
    ratio = ours.p50_s / echo.p50_s
    report(f"warm p50, 1 client: {ours.p50_s * 1e6:.0f} us = {ratio:.2f} x the echo server's {echo.p50_s * 1e6:.0f} us")
    assert ratio <= 2.5


@pytest.mark.parametrize(("clients", "least"), [(1, 0.3), (16, 0.25), (64, 0.25)])
def test_throughput(running: tuple[Daemon, str], tmp_path: Path, report: Any, clients: int, least: float) -> None:
    ours, echo = loads(running, tmp_path, clients)
    ratio = ours.requests_per_s / echo.requests_per_s
    report(
        f"{clients} clients: {ours.requests_per_s:.0f} requests/s = {ratio:.2f} x the echo server's "
        f"{echo.requests_per_s:.0f}"
    )
    assert ratio >= least


def test_six_megabytes_there_and_back(running: tuple[Daemon, str], report: Any) -> None:
    daemon, echo_url = running
    body = json.dumps("x" * (6 * 1024 * 1024 - 100)).encode()

    def round_trip(url: str) -> Callable[[], float]:
        parts = urlsplit(url)

        def measure() -> float:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
            began = time.perf_counter()
            connection.request("POST", parts.path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200
            assert len(answer.read()) == len(body)
            taken = time.perf_counter() - began
            connection.close()
            return taken

        return measure

    ours, echo = in_turns(ROUNDS, round_trip(invoke_url(daemon)), round_trip(f"{echo_url}/x"))
    report(f"6 MB there and back: {ours * 1000:.0f} ms = {ours / echo:.1f} x the echo server's {echo * 1000:.0f} ms")
    assert ours / echo <= 6


def test_cold_first_invoke(running: tuple[Daemon, str], report: Any) -> None:
    daemon, _ = running
    client = daemon.client("lambda")

    def cold() -> float:
        name = f"cold-{uuid.uuid4().hex[:8]}"
        create_python(client, name, ECHO)
        began = time.perf_counter()
        client.invoke(FunctionName=name)
        taken = time.perf_counter() - began
        client.delete_function(FunctionName=name)
        return taken

    def bare() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        return time.perf_counter() - began

    ours, base = in_turns(15, cold, bare)
    report(f"cold first invoke: {ours * 1000:.1f} ms = {ours / base:.2f} x `python -c pass` ({base * 1000:.1f} ms)")
    assert ours / base <= 2.5


def test_start_to_first_answer(tmp_path: Path, report: Any) -> None:
    def start() -> float:
        daemon = Daemon(tmp_path / uuid.uuid4().hex)
        began = time.perf_counter()
        with daemon:
            client = daemon.client("lambda")
            before = time.perf_counter() - began
            asked = time.perf_counter()
            client.list_functions()
            return before + time.perf_counter() - asked

    def imports() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import boto3"], check=True)
        return time.perf_counter() - began

    ours, base = in_turns(ROUNDS, start, imports)
    report(f"start to first API answer: {ours:.2f} s = {ours / base:.1f} x `import boto3` ({base:.2f} s)")
    assert ours < 0.6


def test_idle_memory(tmp_path: Path, report: Any) -> None:
    with Daemon(tmp_path / "data") as daemon:
        client = daemon.client("lambda")
        create_python(client, "echo", ECHO)
        client.invoke(FunctionName="echo")
        daemon.client("logs").describe_log_groups()
        assert daemon.process is not None
        status = Path(f"/proc/{daemon.process.pid}/status")
        if not status.exists():
            pytest.skip("/proc is not there")
        found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
        assert found is not None
        rss_mb = int(found[1]) / 1024
    report(f"idle memory after an invoke and a log query: {rss_mb:.0f} MB")
    assert rss_mb < 90


def test_a_burst_of_one_hundred(running: tuple[Daemon, str], tmp_path: Path, report: Any) -> None:
    """A hundred invocations of a function that takes a second, at once and cold: side by side, not one by one."""
    daemon, _ = running
    create_python(
        daemon.client("lambda"),
        "sleeper",
        "import time\ndef handler(event, context):\n    time.sleep(1)\n    return 1\n",
        Timeout=30,
    )
    script = tmp_path / "burst.py"
    script.write_text(_BURST)
    began = time.perf_counter()
    subprocess.run([sys.executable, str(script), invoke_url(daemon, "sleeper")], check=True)
    taken = time.perf_counter() - began
    report(f"100 x 1 s burst, cold: {taken:.1f} s")
    assert taken < 8


_BURST = """
import asyncio, sys
import aiohttp

async def main(url):
    connector = aiohttp.TCPConnector(limit=100)
    async with aiohttp.ClientSession(connector=connector) as session:
        async def one():
            async with session.post(url, data=b"{}") as answer:
                assert answer.status == 200 and await answer.read() == b"1"
        await asyncio.gather(*(one() for _ in range(100)))

asyncio.run(main(sys.argv[1]))
"""

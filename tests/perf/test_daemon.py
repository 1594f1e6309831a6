"""The numbers of SPECIFICATION.md for the daemon itself: its start, and the memory that it and environments hold."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from daemons import Daemon, create_python
from lambdad.bench import bars, measures, processes
from lambdad.bench.measures import PYTHON_ECHO, Target

Report = Callable[[str], None]

START_BAR_S = 0.6
START_BOUND = 5.0
"""In multiples of `import boto3`."""
START_ROUNDS = 5
DAEMON_BOUND_MB = 90
ENVIRONMENT_BOUND_BYTES = 8 * 1024 * 1024
ENVIRONMENTS = 50


def test_start_to_first_answer(tmp_path: Path, report: Report) -> None:
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

    taken = [(start(), imports()) for _ in range(START_ROUNDS)]
    ours, base = median(each[0] for each in taken), median(each[1] for each in taken)
    ratio = ours / base
    report(
        f"start to first API answer: {ours:.2f} s (bar {START_BAR_S} s) = {ratio:.1f} x `import boto3` ({base:.2f} s)"
    )
    assert ratio <= START_BOUND


def test_idle_memory(tmp_path: Path, report: Report) -> None:
    with Daemon(tmp_path / "data") as daemon:
        client = daemon.client("lambda")
        create_python(client, "echo", PYTHON_ECHO)
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
    assert rss_mb < DAEMON_BOUND_MB


def test_memory_of_idle_environments(target: Target, report: Report) -> None:
    if not processes.has_proportional_memory():
        pytest.skip("this system does not tell what processes share")
    held = measures.idle_memory(target, ENVIRONMENTS)
    if held is None:
        pytest.skip("this user may not look into sandboxes")
    report(
        f"memory of an idle Python environment, of {held.environments}: {held.per_environment_bytes / bars.MB:.2f} MB "
        f"(bar {bars.IDLE_MEMORY.limit / bars.MB:.0f} MB), beside {held.beside_bytes / bars.MB:.0f} MB for all"
    )
    assert held.per_environment_bytes <= ENVIRONMENT_BOUND_BYTES

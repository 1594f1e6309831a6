"""The programs that benchmarks start: each ends with its block."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lambdad.adapters.process_tree import children
from lambdad.bench import echo, processes
from lambdad.bench.client import Caller, post


@pytest.mark.parametrize("kind", [echo.STREAMS, echo.AIOHTTP])
def test_an_echo_server_sends_bodies_back(kind: str) -> None:
    before = set(children(os.getpid()))
    body = b"x" * 6_000_000
    with processes.echo_server(kind) as url, Caller(url) as caller:
        assert caller.call(post("/any/path", b"{}")) == (200, b"{}")
        assert caller.call(post("/", body)) == (200, body)
        assert set(children(os.getpid())) - before
    assert set(children(os.getpid())) == before


def test_the_best_echo_server_is_the_one_of_the_promises() -> None:
    assert echo.best() == echo.AIOHTTP


def test_a_daemon_that_does_not_start_says_why(tmp_path: Path) -> None:
    before = set(children(os.getpid()))
    with (
        pytest.raises(processes.BenchFailed, match=r"the daemon did not start: .*twelve digits"),
        processes.daemon(tmp_path, ["--account-id", "x"]),
    ):
        pytest.fail("it has started")
    assert set(children(os.getpid())) == before


def test_a_clean_interpreter_has_no_packages(tmp_path: Path) -> None:
    command = processes.clean_python(sys.executable, tmp_path)
    assert command[1:] == ["-c", "pass"]
    assert processes.run_time_s(command) > 0
    place = Path(command[0]).parent.parent
    assert list(place.rglob("site-packages/*")) == []


def test_a_program_that_fails_is_no_yardstick(tmp_path: Path) -> None:
    with pytest.raises(processes.BenchFailed, match="ended with status 3"):
        processes.run_time_s([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(processes.BenchFailed, match="makes no virtual environment"):
        processes.clean_python("/bin/false", tmp_path)


@pytest.mark.skipif(not processes.has_proportional_memory(), reason="this system does not tell")
def test_proportional_memory_is_that_of_live_processes() -> None:
    held = processes.pss_bytes([os.getpid()])
    assert held > 1024 * 1024
    assert processes.pss_bytes([0]) == 0

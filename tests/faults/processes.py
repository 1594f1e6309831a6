"""What a daemon's functions leave in the process table, as Linux's /proc shows it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemons import Daemon

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc on this system")


def of_daemon(daemon: Daemon) -> set[int]:
    """The processes of all functions of a daemon: each has its task root in its environment."""
    return set(_carrying(f"LAMBDA_TASK_ROOT={daemon.data_dir}/"))


def marked(marker: str) -> set[int]:
    """The processes that have a variable or an argument with this text."""
    return set(_carrying(marker))


def _carrying(text: str) -> Iterator[int]:
    wanted = text.encode()
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            folder = Path("/proc") / entry
            if wanted in (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes():
                yield int(entry)
        except OSError:  # it has ended meanwhile, or is another user's
            continue


def resident_bytes(pid: int) -> int:
    """How much memory a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether a condition comes true in time; it is looked at every 20 ms."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True

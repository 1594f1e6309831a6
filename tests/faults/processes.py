"""What a daemon's functions leave in the process table, as Linux's /proc shows it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from daemons import Daemon
from lambdad.adapters.process_tree import descendants

_STATE, _STARTTIME = 0, 19


class Process(NamedTuple):
    """A process of this machine; its number may be another's later."""

    pid: int
    began: str


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc on this system")


def of_daemon(daemon: Daemon) -> set[Process]:
    """The processes below a daemon: those of its functions, and those that make sandboxes for them."""
    assert daemon.process is not None
    return {Process(pid, began) for pid in descendants(daemon.process.pid) if (began := _began(pid))}


def alive(processes: Iterable[Process]) -> set[Process]:
    """Those that still run."""
    return {process for process in processes if _began(process.pid) == process.began}


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that is dead and was not yet waited for does not."""
    return bool(_began(pid))


def _began(pid: int) -> str:
    """When a process was started; nothing when it is not there, or dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[_STARTTIME] if fields[_STATE] not in "ZX" else ""


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

"""Real trees of processes for tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from lambdad.adapters.process_tree import descendants

WAIT_S = 10
MIB = 1 << 20


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.005)


class Python:
    """A bare interpreter that runs some code, and is killed in the end; what it forks must end with its input."""

    def __init__(self, code: str, *pass_fds: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import os, sys\n" + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
            # A stopped process can get its whole group a SIGHUP: not the tests' own.
            start_new_session=True,
            text=True,
        )
        self.pid = self.process.pid

    def __enter__(self) -> Python:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in descendants(self.pid):  # those that are stopped would not end with their input
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()

    def say(self, text: object) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

"""A process that lambdad has started as the first of a session: how it ends, and how its descendants are found."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Final

from lambdad.adapters.process_tree import descendants

_MAXRSS_BYTES: Final = 1 if sys.platform == "darwin" else 1024


class SessionLeader:
    """`ended` is called with what `wait` says of it, and the most memory that it has held (0: not known)."""

    def __init__(self, process: subprocess.Popen[bytes], ended: Callable[[int, int], None]) -> None:
        self.pid = process.pid
        self.has_exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process = process
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._inherited_memory = _own_peak_bytes()
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self.pid)
            self._loop.add_reader(self._pidfd, self._exited)
        else:
            waiting = self._loop.run_in_executor(None, os.waitid, os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            waiting.add_done_callback(lambda _: self._exited())

    @property
    def is_alive(self) -> bool:
        return not self.has_exited.done()

    def _exited(self) -> None:
        if hasattr(os, "pidfd_open"):
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.has_exited.set_result(None)
        # The kernel counts in the peak of what was before `exec`: lambdad itself. More is the program's own.
        peak = usage.ru_maxrss * _MAXRSS_BYTES
        self._ended(status, peak if peak > self._inherited_memory else 0)

    def terminate(self) -> None:
        """Ask it to end: SIGTERM."""
        if self.is_alive:
            os.kill(self.pid, signal.SIGTERM)

    def kill_tree(self) -> None:
        """Kill it, its process group and its descendants."""
        if not self.is_alive:
            return  # its number may be another's by now, and its children are ours
        pids = descendants(self.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _own_peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES

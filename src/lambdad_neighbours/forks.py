"""A checkpoint in a process of its own: a fork has the state as it was at that moment, while this process goes on."""

import contextlib
import gc
import json
import os
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

# The report of a fork fits into a pipe, so that it never waits for its reader.
_REPORT_BYTES: Final = 4096
_FIRST_DESCRIPTOR: Final = 3
_DESCRIPTORS: Final = "/dev/fd"


@dataclass(slots=True)
class Fork:
    """A process that was forked for one job."""

    pid: int
    report: int

    def outcome(self, *, wait: bool) -> dict[str, Any] | None:
        """What its job has returned, or {"error": ...}; None while it runs, unless `wait`."""
        os.set_blocking(self.report, wait)
        try:
            text = os.read(self.report, _REPORT_BYTES)
        except BlockingIOError:
            return None
        os.close(self.report)
        # Its report is all that matters; it ends right after it, or has been killed without one.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        if not text:
            return {"error": "its process was killed"}
        said: dict[str, Any] = json.loads(text)
        return said


def fork(job: Callable[[], dict[str, Any]]) -> Fork:
    """Run `job` in a copy of this process; only what it returns comes back. Raises OSError when there can be none.

    Other threads are not copied, and the locks that they hold stay locked: the job must not log or wait for any."""
    reading, writing = os.pipe()
    try:
        with warnings.catch_warnings():
            # Python 3.12 and later warn of what the job takes care of.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid == 0:
        _run(job, writing)
    os.close(writing)
    return Fork(pid, reading)


def _run(job: Callable[[], dict[str, Any]], writing: int) -> NoReturn:
    status = 1
    try:
        # A collection would touch, and so copy, every page.
        gc.disable()
        _close_sockets()
        said = job()
        status = 0
    except BaseException as error:  # noqa: BLE001  nothing may escape into the code of the process that this is a copy of
        said = {"error": f"{type(error).__name__}: {error}"[: _REPORT_BYTES // 4]}
    try:
        os.write(writing, json.dumps(said).encode())
    finally:
        os._exit(status)


def _close_sockets() -> None:
    """Nobody must take this process for the one that answers. What else is open stays so, the lock on the state above
    all: whoever wants that waits for this process too."""
    for name in os.listdir(_DESCRIPTORS):
        descriptor = int(name)
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            if descriptor >= _FIRST_DESCRIPTOR and stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.close(descriptor)

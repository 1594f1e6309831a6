"""The plain driver: a function is a process of this machine, in a session of its own, with no isolation.

It is what remains where nothing better works. The limits it can hold are those of `setrlimit`; memory is measured and
not enforced. Descendants are found again although they fork and detach: lambdad is made the subreaper of its process
tree, so orphans become its own children, and each is in its environment's session or carries the address of its Runtime
API; only one that has rid itself of both gets away.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from lambdad.domain.invocations import ExitStatus
from lambdad.ports.sandbox import SandboxFailed, SandboxSpec

OPEN_FILES: Final = 1024
_PR_SET_CHILD_SUBREAPER: Final = 36
_LAUNCHERS: Final = 4
_MAXRSS_BYTES: Final = 1 if sys.platform == "darwin" else 1024


class ProcessSandbox:
    """A process group and what descends from it."""

    def __init__(self, process: subprocess.Popen[bytes], output_fd: int, marker: bytes, driver: ProcessDriver) -> None:
        self._process = process
        self._marker = marker
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._status: asyncio.Future[ExitStatus] = self._loop.create_future()
        self._status_fd = _open_status(process.pid)
        self._max_memory = 0
        self._inherited_memory = _own_peak_bytes()
        self._killed: asyncio.Task[None] | None = None
        self.output_fd = output_fd
        self._watch()

    def _watch(self) -> None:
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self._process.pid)
            self._loop.add_reader(self._pidfd, self._exited)
        else:
            waiting = self._loop.run_in_executor(None, os.waitid, os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            waiting.add_done_callback(lambda _: self._exited())

    def _exited(self) -> None:
        if hasattr(os, "pidfd_open"):
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        _, status, usage = os.wait4(self._process.pid, 0)
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        # The kernel counts in the peak of what was before `exec`: lambdad itself. More is the function's own.
        if usage.ru_maxrss * _MAXRSS_BYTES > self._inherited_memory:
            self._max_memory = max(self._max_memory, usage.ru_maxrss * _MAXRSS_BYTES)
        if self._status_fd is not None:
            os.close(self._status_fd)
            self._status_fd = None
        if not self._status.done():
            name = _signal_name(-code) if code < 0 else None
            self._status.set_result(ExitStatus(signal=name) if name else ExitStatus(code=code))

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._status)

    async def kill(self) -> None:
        if self._killed is None:
            self._kill_tree()
            self._killed = self._loop.create_task(self._bury())
        await asyncio.shield(self._killed)

    async def _bury(self) -> None:
        await asyncio.shield(self._status)
        self._driver.reap_orphans(self._process.pid, self._marker)
        self._driver.forget(self._process.pid)

    def close(self) -> None:
        os.close(self.output_fd)

    def _kill_tree(self) -> None:
        pids = [self._process.pid, *_descendants(self._process.pid)]
        if not self._status.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        for pid in pids[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def max_memory_bytes(self) -> int:
        if self._status_fd is not None:
            with contextlib.suppress(OSError):
                used = _peak_bytes(os.pread(self._status_fd, 4096, 0))
                for pid in _descendants(self._process.pid):
                    used += _peak_bytes(Path(f"/proc/{pid}/status").read_bytes())
                self._max_memory = max(self._max_memory, used)
        return self._max_memory


class ProcessDriver:
    """Starts processes from threads of its own, which live as long as the daemon: a function dies with its parent."""

    name = "process"
    isolated = False

    def __init__(self) -> None:
        self._launchers = ThreadPoolExecutor(_LAUNCHERS, thread_name_prefix="launch")
        self._roots: set[int] = set()
        self._prefix = _die_with_parent()
        _become_subreaper()

    def task_root(self, code: Path) -> str:
        return str(code)

    async def launch(self, spec: SandboxSpec) -> ProcessSandbox:
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe2(os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(reading, False)
        try:
            process = await loop.run_in_executor(self._launchers, self._spawn, spec, writing)
        except OSError as error:
            os.close(reading)
            raise SandboxFailed(f"{spec.arguments[0]}: {error.strerror}") from error
        finally:
            os.close(writing)
        return ProcessSandbox(process, reading, _marker(spec), self)

    def _spawn(self, spec: SandboxSpec, output: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*self._prefix, *spec.arguments],
            env={**spec.environment, "_LAMBDA_TELEMETRY_LOG_FD": str(output)},
            cwd=spec.code,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(output,),
            start_new_session=True,
        )
        self._roots.add(process.pid)
        if hasattr(resource, "prlimit"):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
                resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        return process

    def forget(self, pid: int) -> None:
        self._roots.discard(pid)

    def reap_orphans(self, root: int, marker: bytes) -> None:
        """Kill the processes that an environment has left behind, and bury whoever else has died."""
        found = True
        while found:
            found = False
            for pid in _children(os.getpid()):
                if pid in self._roots:
                    continue
                if _session(pid) == root or _carries(pid, marker):
                    found = True
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, 0)
                elif _is_dead_stranger(pid):
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)

    async def close(self) -> None:
        self._launchers.shutdown(wait=False)


def end_leftovers(task_roots: Path) -> None:
    """Kill what functions with their code below a directory have left running when their daemon was killed.

    The kernel ends a function's first process with its daemon, but not those that the function had started. Call it
    before anything is launched, by the one daemon that the directory belongs to.
    """
    beginning = b"LAMBDA_TASK_ROOT=" + os.fsencode(task_roots) + b"/"
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it is another user's, or has ended
            if any(variable.startswith(beginning) for variable in entry.read_bytes().split(b"\0")):
                os.kill(int(entry.parent.name), signal.SIGKILL)


def _die_with_parent() -> tuple[str, ...]:
    """A command in front (util-linux) that has the kernel kill the function when lambdad is killed."""
    setpriv = shutil.which("setpriv")
    if sys.platform != "linux" or setpriv is None:
        return ()
    return (setpriv, "--pdeathsig", "KILL", "--")


def _become_subreaper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _marker(spec: SandboxSpec) -> bytes:
    return b"AWS_LAMBDA_RUNTIME_API=" + spec.environment["AWS_LAMBDA_RUNTIME_API"].encode()


def _carries(pid: int, marker: bytes) -> bool:
    try:
        return marker in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _state_and_session(pid: int) -> tuple[bytes, int]:
    try:
        state, _, _, session = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:4]
    except OSError:
        return b"", 0
    return state, int(session)


def _session(pid: int) -> int:
    return _state_and_session(pid)[1]


def _is_dead_stranger(pid: int) -> bool:
    """Whether a child is dead and of another session than lambdad's own commands: an orphan that functions left."""
    state, session = _state_and_session(pid)
    return state == b"Z" and session != os.getsid(0)


def _children(pid: int) -> Iterator[int]:
    """The children of a process, whichever of its threads made them."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
            yield from map(int, file.read().split())


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for child in _children(pid):
        found += [child, *_descendants(child)]
    return found


def _open_status(pid: int) -> int | None:
    try:
        return os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _own_peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES


def _peak_bytes(status: bytes) -> int:
    """`VmHWM`, the peak resident size, out of /proc/PID/status."""
    start = status.find(b"VmHWM:")
    if start < 0:
        return 0
    return int(status[start + 6 : status.index(b"kB", start)]) * 1024


def _signal_name(number: int) -> str:
    """As Go's runtime names signals, which is how AWS's messages have them: "killed", "segmentation fault"."""
    text = signal.strsignal(number) or f"signal {number}"
    return text.lower()

"""The plain driver: a function is a process of this machine, in a session of its own, with no isolation.

It is what remains where nothing better works. The limits it can hold are those of `setrlimit`, and memory, which is
looked at again and again: what grows and is gone between two looks is not seen. Descendants are found again although
they fork and detach: lambdad is made the subreaper of its process tree, so orphans become its own children, and each is
in its environment's session or carries the address of its Runtime API; only one that has rid itself of both gets away.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from lambdad.adapters.connection_owner import socket_inode
from lambdad.adapters.exit_statuses import exit_status
from lambdad.adapters.memory_watch import MemoryPoller
from lambdad.adapters.process_tree import (
    carries,
    children,
    continue_tree,
    descendants,
    holds_socket,
    is_dead_stranger,
    is_nameless,
    peak_bytes,
    session,
    stop_tree,
)
from lambdad.adapters.runtime_commands import BOOTSTRAPS, SYSTEM_PATH, arguments
from lambdad.domain.invocations import ExitStatus
from lambdad.ports.sandbox import SHORTAGES, Address, Addresses, Places, Program, SandboxFailed, SandboxSpec

OPEN_FILES: Final = 1024
_PR_SET_CHILD_SUBREAPER: Final = 36
_LAUNCHERS: Final = 4
# A process has no variables for a moment while it executes a program; one that never has any is not waited for longer.
_LOOKS_AT_THE_NAMELESS: Final = 20
_LOOK_S: Final = 0.0005
_MIB: Final = 1024 * 1024
_MAXRSS_BYTES: Final = 1 if sys.platform == "darwin" else 1024


class ProcessSandbox:
    """A process group and what descends from it."""

    listeners: Sequence[socket.socket] = ()

    def __init__(
        self, process: subprocess.Popen[bytes], output_fd: int, spec: SandboxSpec, driver: ProcessDriver
    ) -> None:
        self._process = process
        self._marker = _marker(spec)
        self._limit_bytes = spec.memory_mb * _MIB
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._status: asyncio.Future[ExitStatus] = self._loop.create_future()
        self._has_exited: asyncio.Future[None] = self._loop.create_future()
        self._status_fd = _open_status(process.pid)
        self._max_memory = 0
        self._inherited_memory = _own_peak_bytes()
        self._killed: asyncio.Task[None] | None = None
        self._frozen: list[int] = []
        self.output_fd = output_fd
        self._watch()
        driver.memory.add(process.pid, self._limit_bytes, self._exceeded_memory)

    def _watch(self) -> None:
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self._process.pid)
            self._loop.add_reader(self._pidfd, self._exited)
        else:
            waiting = self._loop.run_in_executor(None, os.waitid, os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            waiting.add_done_callback(lambda _: self._exited())

    def _exceeded_memory(self) -> None:
        """All of it goes, whichever of its processes took too much, as in a memory control group."""
        self._max_memory = self._limit_bytes
        if not self._status.done():
            self._status.set_result(ExitStatus(signal="killed"))
        self._kill_tree()

    def _exited(self) -> None:
        if hasattr(os, "pidfd_open"):
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        self._stop_measuring()
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        # The kernel counts in the peak of what was before `exec`: lambdad itself. More is the function's own.
        if usage.ru_maxrss * _MAXRSS_BYTES > self._inherited_memory:
            self._max_memory = max(self._max_memory, usage.ru_maxrss * _MAXRSS_BYTES)
        if self._status_fd is not None:
            os.close(self._status_fd)
            self._status_fd = None
        self._has_exited.set_result(None)
        if not self._status.done():
            self._status.set_result(exit_status(status))

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._status)

    async def kill(self) -> None:
        if self._killed is None:
            self._kill_tree()
            self._killed = self._loop.create_task(self._bury())
        await asyncio.shield(self._killed)

    async def _bury(self) -> None:
        await asyncio.shield(self._has_exited)
        self._driver.reap_orphans(self._process.pid, self._marker)
        self._driver.forget(self._process.pid)

    def close(self) -> None:
        os.close(self.output_fd)

    def _kill_tree(self) -> None:
        if self._has_exited.done():
            return  # its number may be another's by now, and its children are ours
        pids = descendants(self._process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def initialized(self) -> None:
        """Its processor time is not limited."""

    def freeze(self) -> None:
        if self._frozen or self._has_exited.done():
            return
        self._frozen = [self._process.pid, *self._driver.orphans_of(self._process.pid)]
        for pid in self._frozen:
            stop_tree(pid)
        self._stop_measuring()  # what stands still needs no more than it has

    def thaw(self) -> None:
        if not self._frozen:
            return
        if not self._has_exited.done():
            for pid in self._frozen:
                continue_tree(pid)
            self._driver.memory.add(self._process.pid, self._limit_bytes, self._exceeded_memory)
        self._frozen = []

    def owns(self, client: Address, server: Address) -> bool:
        if sys.platform != "linux":
            return True  # there is nobody to ask
        inode = socket_inode(client, server)
        if inode is None or self._has_exited.done():
            return False
        root = self._process.pid
        return holds_socket(root, inode) or any(holds_socket(pid, inode) for pid in self._driver.orphans_of(root))

    def _stop_measuring(self) -> None:
        self._max_memory = max(self._max_memory, self._driver.memory.remove(self._process.pid))

    def max_memory_bytes(self) -> int:
        if self._status_fd is not None:
            with contextlib.suppress(OSError):
                used = peak_bytes(os.pread(self._status_fd, 4096, 0))
                for pid in descendants(self._process.pid):
                    used += peak_bytes(Path(f"/proc/{pid}/status").read_bytes())
                self._max_memory = max(self._max_memory, used)
        return min(self._max_memory, self._limit_bytes)


class ProcessDriver:
    """Starts processes from threads of its own, which live as long as the daemon: a function dies with its parent."""

    name = "process"
    isolated = False

    def __init__(self) -> None:
        self.fallbacks: Mapping[str, str] = {}
        self.memory = MemoryPoller()
        self._launchers = ThreadPoolExecutor(_LAUNCHERS, thread_name_prefix="launch")
        self._roots: set[int] = set()
        self._prefix = _die_with_parent()
        _become_subreaper()

    @property
    def addresses(self) -> Addresses | None:
        return None

    def places(self, program: Program, code: Path, layers: Path | None) -> Places:
        libraries = f"{code}:{code}/lib:/opt/lib"
        if program.executable is None:
            return Places(str(code), str(code), SYSTEM_PATH, libraries)
        path = f"{program.executable.parent}:{SYSTEM_PATH}"
        return Places(str(code), str(_runtime_dir(program)), path, libraries)

    def prepare(self, program: Program) -> None:
        """Nothing is made ahead."""

    def describe(self) -> Mapping[str, Any]:
        return {
            "driver": self.name,
            "isolated": self.isolated,
            "limits": {
                "memory": "measured every 100 ms" if sys.platform == "linux" else "not limited",
                "cpu": "not limited",
                "processes": "not limited",
                "open_files": str(OPEN_FILES) if hasattr(resource, "prlimit") else "not limited",
                "tmp": "shared, not limited",
            },
            "fallbacks": dict(self.fallbacks),
            "network": "host",
        }

    async def trim(self) -> bool:
        return False

    async def launch(self, spec: SandboxSpec) -> ProcessSandbox:
        loop = asyncio.get_running_loop()
        try:
            reading, writing = os.pipe2(os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        except OSError as error:
            raise _failed("a pipe for the function's output", error) from error
        os.set_blocking(reading, False)
        command = _command(spec)
        try:
            process = await loop.run_in_executor(self._launchers, self._spawn, command, spec, writing)
        except OSError as error:
            os.close(reading)
            raise _failed(command[0], error) from error
        finally:
            os.close(writing)
        return ProcessSandbox(process, reading, spec, self)

    def _spawn(self, command: Sequence[str], spec: SandboxSpec, output: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*self._prefix, *command],
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

    def orphans_of(self, root: int) -> list[int]:
        """What has left an environment's tree, and not its session, which nobody can join from outside."""
        return [pid for pid in children(os.getpid()) if pid not in self._roots and session(pid) == root]

    def reap_orphans(self, root: int, marker: bytes) -> None:
        """Kill the processes that an environment has left behind, and bury whoever else has died."""
        found = True
        looks = _LOOKS_AT_THE_NAMELESS
        while found:
            found = False
            for pid in children(os.getpid()):
                if pid in self._roots:
                    continue
                while looks and is_nameless(pid):  # in the middle of an `exec`, it seems
                    looks -= 1
                    time.sleep(_LOOK_S)
                if session(pid) == root or carries(pid, marker):
                    found = True
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, 0)
                elif is_dead_stranger(pid):
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)

    async def close(self) -> None:
        self.memory.close()
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


def _runtime_dir(program: Program) -> Path:
    return BOOTSTRAPS / str(program.language)


def _command(spec: SandboxSpec) -> list[str]:
    program = spec.program
    if program.executable is None:
        return [str(spec.code / "bootstrap")]
    sdk_dirs = tuple(map(str, program.sdk_dirs))
    return arguments(program, str(program.executable), str(_runtime_dir(program)), sdk_dirs)


def _failed(what: str, error: OSError) -> SandboxFailed:
    return SandboxFailed(f"{what}: {error.strerror}", is_shortage=error.errno in SHORTAGES)


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


def _open_status(pid: int) -> int | None:
    try:
        return os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _own_peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES

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
import functools
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from lambdad.adapters.connection_owner import listener_inode, socket_inode
from lambdad.adapters.exit_statuses import EXCEEDED_MEMORY, exit_status
from lambdad.adapters.extension_ends import KILLED, ExtensionEnds
from lambdad.adapters.loopback import connected
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
from lambdad.adapters.runtime_commands import (
    BOOTSTRAPS,
    SYSTEM_PATH,
    TELEMETRY_VARIABLE,
    arguments,
    bootstrap_of,
    execution_problem,
    local_path,
    wrapped_arguments,
    wrapped_variables,
    wrapper_for,
)
from lambdad.adapters.session_leader import SessionLeader
from lambdad.domain.invocations import ExitStatus
from lambdad.ports.sandbox import SHORTAGES, Address, Addresses, Places, Program, SandboxFailed, SandboxSpec
from lambdad_sandbox.extensions import FOLDER
from lambdad_sandbox.namespaces import LAYERS_ROOT

OPEN_FILES: Final = 1024
_PR_SET_CHILD_SUBREAPER: Final = 36
_LAUNCHERS: Final = 4
# A process has no variables for a moment while it executes a program; one that never has any is not waited for longer.
_LOOKS_AT_THE_NAMELESS: Final = 20
_LOOK_S: Final = 0.0005
_MIB: Final = 1024 * 1024
_LAYERS_VARIABLE: Final = "_LAMBDAD_LAYERS"

Fds = tuple[int, ...]


class ProcessSandbox:
    """Processes that lead sessions, the runtime's and those of extensions, and what descends from them."""

    listeners: Sequence[socket.socket] = ()

    def __init__(self, spec: SandboxSpec, driver: ProcessDriver) -> None:
        """Make its pipes. Raises OSError when the machine has no more."""
        self._spec = spec
        self._marker = _marker(spec)
        self._limit_bytes = spec.memory_mb * _MIB
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._status: asyncio.Future[ExitStatus] = self._loop.create_future()
        self._runtime: SessionLeader | None = None
        self._extensions: list[SessionLeader] = []
        self._ends = ExtensionEnds(spec.extensions)
        self._starting = asyncio.Lock()
        self._status_fd: int | None = None
        self._max_memory = 0
        self._killed: asyncio.Task[None] | None = None
        self._frozen: list[int] = []
        self.output_fd, self._output = _pipe()
        self.extension_output_fd = self._extension_output = -1
        if spec.extensions:
            try:
                self.extension_output_fd, self._extension_output = _pipe()
            except OSError:
                self._close_outputs()
                self.close()
                raise

    async def start_extensions(self) -> None:
        """Start each, or tell that it cannot be. Raises OSError."""
        for name in self._spec.extensions:
            program, problem = _extension(self._spec, name)
            if problem:
                self._ends.ended(name, ExitStatus(problem=problem))
                continue
            environment = {**self._spec.extension_environment, **_layers_variable(self._spec)}
            process = await self._driver.spawn([str(program)], environment, "/", self._extension_output)
            ended = functools.partial(self._extension_exited, name)
            self._extensions.append(SessionLeader(process, ended))
        self._measure()

    async def start_runtime(self) -> None:
        async with self._starting:
            if self._runtime is not None:
                return
            if self._killed is not None:
                raise SandboxFailed("the sandbox has ended")
            spec, command = self._spec, _command(self._spec)
            environment = {**spec.environment, **_private_variables(spec, self._output), **_layers_variable(spec)}
            try:
                process = await self._driver.spawn(command, environment, spec.code, self._output, (self._output,))
            except OSError as error:
                raise _failed(command[0], error) from error
            finally:
                self._close_outputs()
            self._status_fd = _open_status(process.pid)
            self._runtime = SessionLeader(process, self._exited)
            if self._killed is not None:
                self._runtime.kill_tree()
            self._measure()

    def _close_outputs(self) -> None:
        """Let go of our copies of what the processes write to, when they have their own."""
        for fd in (self._output, self._extension_output):
            if fd >= 0:
                os.close(fd)
        self._output = self._extension_output = -1

    def _leaders(self) -> list[SessionLeader]:
        """Those of the processes that lambdad has started itself which are alive, the runtime first."""
        started = [*([self._runtime] if self._runtime is not None else []), *self._extensions]
        return [leader for leader in started if leader.is_alive]

    def _pids(self) -> list[int]:
        return [leader.pid for leader in self._leaders()]

    def _measure(self) -> None:
        self._driver.memory.add(id(self), self._limit_bytes, self._exceeded_memory, self._pids)

    def _exceeded_memory(self) -> None:
        """All of it goes, whichever of its processes took too much, as in a memory control group."""
        self._max_memory = self._limit_bytes
        if not self._status.done():
            self._status.set_result(EXCEEDED_MEMORY)
        self._kill_trees()

    def _exited(self, status: int, peak_bytes: int) -> None:
        """The runtime's process has ended."""
        self._stop_measuring()
        if self._extensions:
            self._measure()
        self._max_memory = max(self._max_memory, peak_bytes)
        if self._status_fd is not None:
            os.close(self._status_fd)
            self._status_fd = None
        if not self._status.done():
            self._status.set_result(exit_status(status))

    def _extension_exited(self, name: str, status: int, peak_bytes: int) -> None:
        self._ends.ended(name, exit_status(status))

    def when_extension_ends(self, callback: Callable[[str, ExitStatus], None]) -> None:
        self._ends.listen(callback)

    def terminate_runtime(self) -> None:
        if self._runtime is not None:
            self._runtime.terminate()

    async def connect(self, port: int) -> socket.socket:
        if self._killed is not None and self._killed.done():
            raise ConnectionRefusedError("the sandbox has ended")
        if not self._listens(port):
            raise ConnectionRefusedError(f"nothing of the sandbox listens on port {port}")
        return await connected(socket.socket(socket.AF_INET, socket.SOCK_STREAM), port)

    async def wait(self) -> ExitStatus:
        return await asyncio.shield(self._status)

    async def kill(self) -> None:
        if self._killed is None:
            self._kill_trees()
            self._killed = self._loop.create_task(self._bury())
        await asyncio.shield(self._killed)

    async def _bury(self) -> None:
        async with self._starting:
            self._close_outputs()
        started = [*([self._runtime] if self._runtime is not None else []), *self._extensions]
        for leader in started:
            await asyncio.shield(leader.has_exited)
        if not self._status.done():
            self._status.set_result(KILLED)
        self._stop_measuring()
        pids = {leader.pid for leader in started}
        self._driver.reap_orphans(pids, self._marker)
        self._driver.forget(pids)

    def close(self) -> None:
        os.close(self.output_fd)
        if self.extension_output_fd >= 0:
            os.close(self.extension_output_fd)

    def _kill_trees(self) -> None:
        for leader in self._leaders():
            leader.kill_tree()

    def initialized(self) -> None:
        """Its processor time is not limited."""

    def freeze(self) -> None:
        pids = self._pids()
        if self._frozen or not pids:
            return
        self._frozen = [*pids, *(orphan for pid in pids for orphan in self._driver.orphans_of(pid))]
        for pid in self._frozen:
            stop_tree(pid)
        self._stop_measuring()  # what stands still needs no more than it has

    def thaw(self) -> None:
        if not self._frozen:
            return
        if self._leaders():
            for pid in self._frozen:
                continue_tree(pid)
            self._measure()
        self._frozen = []

    def owns(self, client: Address, server: Address) -> bool:
        if sys.platform != "linux":
            return True  # there is nobody to ask
        return self._holds(socket_inode(client, server))

    def _listens(self, port: int) -> bool:
        """Whether a connection to the port would reach this sandbox, and not somebody else on the machine."""
        return sys.platform != "linux" or self._holds(listener_inode(port))

    def _holds(self, inode: int | None) -> bool:
        if inode is None:
            return False
        pids = self._pids()
        return any(holds_socket(pid, inode) for pid in pids) or any(
            holds_socket(orphan, inode) for pid in pids for orphan in self._driver.orphans_of(pid)
        )

    def _stop_measuring(self) -> None:
        self._max_memory = max(self._max_memory, self._driver.memory.remove(id(self)))

    def max_memory_bytes(self) -> int:
        if self._status_fd is not None:
            with contextlib.suppress(OSError):
                used = peak_bytes(os.pread(self._status_fd, 4096, 0))
                others = [pid for leader in self._leaders() for pid in (leader.pid, *descendants(leader.pid))]
                for pid in others[1:]:  # the first is the runtime
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
        opt = LAYERS_ROOT if layers is None else str(layers)
        libraries = f"{code}:{code}/lib:{opt}/lib"
        path = f"{SYSTEM_PATH}:{opt}/bin"
        if program.executable is None:
            return Places(str(code), str(code), path, libraries, opt)
        return Places(str(code), str(_runtime_dir(program)), f"{program.executable.parent}:{path}", libraries, opt)

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
        try:
            sandbox = ProcessSandbox(spec, self)
        except OSError as error:
            raise _failed("a pipe for the function's output", error) from error
        try:
            if spec.extensions:
                await sandbox.start_extensions()
            else:
                await sandbox.start_runtime()
        except OSError as error:
            await sandbox.kill()
            sandbox.close()
            raise _failed("an extension", error) from error
        except BaseException:  # also when it is cancelled: nobody else would end what has been started
            await sandbox.kill()
            sandbox.close()
            raise
        return sandbox

    async def spawn(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: Path | str, output: int, kept: Fds = ()
    ) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, with a pipe as its output. Raises OSError."""
        spawning = functools.partial(self._spawn, command, environment, cwd, output, kept)
        return await asyncio.get_running_loop().run_in_executor(self._launchers, spawning)

    def _spawn(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: Path | str, output: int, kept: Fds
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*self._prefix, *command],
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=kept,
            start_new_session=True,
        )
        self._roots.add(process.pid)
        if hasattr(resource, "prlimit"):
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
                resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        return process

    def forget(self, pids: Collection[int]) -> None:
        self._roots.difference_update(pids)

    def orphans_of(self, root: int) -> list[int]:
        """What has left an environment's tree, and not its session, which nobody can join from outside."""
        return [pid for pid in children(os.getpid()) if pid not in self._roots and session(pid) == root]

    def reap_orphans(self, roots: Collection[int], marker: bytes) -> None:
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
                if session(pid) in roots or carries(pid, marker):
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


def end_leftovers(directory: Path) -> None:
    """Kill what functions with their code or layers below a directory have left running when their daemon was killed.

    The kernel ends a function's first process with its daemon, and each extension's, but not those that they had
    started. Call it before anything is launched, by the one daemon that the directory belongs to.
    """
    place = os.fsencode(directory) + b"/"
    beginnings = (b"LAMBDA_TASK_ROOT=" + place, _LAYERS_VARIABLE.encode() + b"=" + place)
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it is another user's, or has ended
            if any(variable.startswith(beginnings) for variable in entry.read_bytes().split(b"\0")):
                os.kill(int(entry.parent.name), signal.SIGKILL)


def _runtime_dir(program: Program) -> Path:
    return BOOTSTRAPS / str(program.language)


def _command(spec: SandboxSpec) -> list[str]:
    program = spec.program
    if program.executable is None:
        return [str(local_path(bootstrap_of(spec.code, spec.layers), spec.code, spec.layers))]
    wrapper = wrapper_for(program, spec.environment)
    if wrapper:
        script = str(local_path(wrapper, spec.code, spec.layers))
        return wrapped_arguments(script, program, str(program.executable), str(_runtime_dir(program)))
    return arguments(program, str(program.executable), str(_runtime_dir(program)), _sdk_dirs(program))


def _sdk_dirs(program: Program) -> tuple[str, ...]:
    return tuple(map(str, program.sdk_dirs))


def _private_variables(spec: SandboxSpec, output: int) -> dict[str, str]:
    """What the runtime needs besides the function's variables."""
    if wrapper_for(spec.program, spec.environment):
        return wrapped_variables(output, _sdk_dirs(spec.program))
    return {TELEMETRY_VARIABLE: str(output)}


def _layers_variable(spec: SandboxSpec) -> dict[str, str]:
    """Where the runtime finds the layers, as there is no /opt of the function's own: it takes this out again.

    An extension's process keeps it: by it those are found that have outlived a daemon (`end_leftovers`).
    """
    return {} if spec.layers is None else {_LAYERS_VARIABLE: str(spec.layers)}


def _extension(spec: SandboxSpec, name: str) -> tuple[Path, str]:
    """An extension's program on this machine, and why it cannot be executed, if so."""
    place = f"{FOLDER}/{name}"
    program = local_path(place, spec.code, spec.layers)
    return program, execution_problem(program, place, spec.code, spec.layers)


def _pipe() -> tuple[int, int]:
    """A pipe that no other process inherits, to be read without waiting. Raises OSError."""
    reading, writing = os.pipe2(os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
    os.set_blocking(reading, False)
    return reading, writing


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

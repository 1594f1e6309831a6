"""The bwrap driver: sandboxes of bubblewrap, booted ahead with the runtime loaded and no function.

bubblewrap (https://github.com/containers/bubblewrap) makes the namespaces, as an ordinary user. The function's code and
its /tmp are mounted from outside when it is assigned; the runtime, which waits on a socket, is then sent its variables.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from lambdad.adapters.exit_statuses import shell_status
from lambdad.adapters.runtime_commands import (
    TELEMETRY_VARIABLE,
    arguments,
    bootstrap_of,
    wrapped_arguments,
    wrapped_variables,
    wrapper_for,
)
from lambdad.adapters.sandboxes.channel import Channel
from lambdad.adapters.sandboxes.failures import failure, failure_of
from lambdad.adapters.sandboxes.identity import UserIds
from lambdad.adapters.sandboxes.isolated import IsolatedSandbox, listener_of
from lambdad.adapters.sandboxes.launcher import Answer, Launcher
from lambdad.adapters.sandboxes.limits import Machine
from lambdad.adapters.sandboxes.root_plan import RUNTIME_DIR, WAITING_SHELL, RootPlan, root_plan
from lambdad.adapters.sandboxes.warm_pool import WarmPool
from lambdad.ports.sandbox import Program, SandboxFailed, SandboxSpec
from lambdad_sandbox import seccomp, wire
from lambdad_sandbox.confinement import GROUP_ID, PROCESSES, USER_ID
from lambdad_sandbox.extensions import FOLDER as EXTENSIONS
from lambdad_sandbox.namespaces import HOSTNAME, TASK_ROOT

_OUTPUT_FD: Final = 3
_ASSIGNMENT_FD: Final = 4
_STATUS_FD: Final = 5
_SECCOMP_FD: Final = 6
_READ_BYTES: Final = 4096
_AHEAD: Final = 6
_MOST_AHEAD: Final = 10
_AT_ONCE: Final = 2

# A custom runtime has nothing to load: a shell waits in its place, and becomes it. It reads what it is to do as text,
# in which every value is quoted. 127 and 126 are what shells say of a program that is not there, or is none.
_WAIT: Final = f'printf r >&{_ASSIGNMENT_FD}; eval "$(cat <&{_ASSIGNMENT_FD})"'

# Process 1 is a shell, confined like its child, and not bubblewrap's own process, which has no seccomp filter and whose
# memory the function could write to. It buries orphans, and says nothing of its child's end: that is not for the log.
# Shells differ in which letter the number of processes has.
# Where there are extensions it outlives the program, whose end it tells the daemon itself. Without them nobody is at
# the other end of the socket any more, and before there is a function nothing is in /opt.
_INIT: Final = (
    f'exec 2>/dev/null; ulimit -p {PROCESSES} || ulimit -u {PROCESSES}; (exec "$@" 2>&{_OUTPUT_FD}); s=$?; '
    f"[ -e {EXTENSIONS} ] && echo $s >&{_ASSIGNMENT_FD} && exec sleep infinity >/dev/null {_OUTPUT_FD}>&-; exit $s"
)


class BubblewrapSandbox(IsolatedSandbox):
    """A sandbox of bubblewrap, which says on a pipe who its first process is and how its program has ended."""

    def __init__(
        self,
        machine: Machine,
        launcher: Launcher,
        message: wire.Message,
        assignment_of: Callable[[SandboxSpec], str],
    ) -> None:
        """`assignment_of`: what the program that waits is to be told of a function."""
        super().__init__(machine, launcher, message["user_id"], bool(message["ports"]))
        self._assignment_of = assignment_of
        self._unsent = ""
        self._said = b""
        self._ports: list[int] = message["ports"]
        with ExitStack() as undo, ExitStack() as sent:
            undo.callback(self._abandon)
            self._assignment, assignment = socket.socketpair()
            undo.callback(self._assignment.close)
            sent.callback(assignment.close)
            self._assignment.setblocking(False)
            self._status_fd, status = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, self._status_fd)
            sent.callback(os.close, status)
            os.set_blocking(self._status_fd, False)
            program = _seccomp_file()
            sent.callback(os.close, program)
            entries = self._limits.entries()
            sent.callback(wire.close_all, entries)
            self._trouble = Channel(lambda message, _: self._fail(failure_of(message)), lambda: None)
            undo.callback(self._trouble.close)
            passed = [self._output, assignment.fileno(), status, program]
            launcher.send({**message, "passed": len(passed)}, [*passed, *entries, self._trouble.remote.fileno()])
            undo.pop_all()
        self._trouble.remote.close()
        self._close_output()
        self._loop.add_reader(self._status_fd, self._read_status)
        self._loop.add_reader(self._assignment.fileno(), self._is_loaded)

    def _is_loaded(self) -> None:
        """The runtime has written a byte: it is waiting."""
        self._loop.remove_reader(self._assignment.fileno())
        if not self._assignment.recv(1):
            self._fail(SandboxFailed(self._last_output() or "bubblewrap has ended"))
        elif not self._made.done():
            self._read_status()
            if self._pidfd >= 0 and not self._made.done():
                self._made.set_result(None)

    def _last_output(self) -> str:
        try:
            return os.read(self.output_fd, _READ_BYTES).decode(errors="replace").strip()
        except OSError:
            return ""

    async def assign(self, spec: SandboxSpec) -> None:
        self._require_alive()
        self._limits.assign(self._pid, spec.memory_mb, spec.ephemeral_storage_mb)
        assignment = self._assignment_of(spec)
        message = {
            "do": "furnish",
            "code": str(spec.code),
            "layers": None if spec.layers is None else str(spec.layers),
            "tmp_mb": spec.ephemeral_storage_mb,
            "ports": self._ports,
            "assignment": "" if spec.extensions else assignment,
        }
        answer = Answer()
        try:
            self._launcher.send(message, [self._pidfd, self._assignment.fileno(), answer.channel.remote.fileno()])
            _, listeners = await answer.take()
        finally:
            answer.channel.close()
            if not spec.extensions:
                self._assignment.close()
        self.listeners = [listener_of(fd) for fd in listeners]
        if spec.extensions:
            self._unsent = assignment
            await self._extend(spec)

    async def start_runtime(self) -> None:
        if not self._unsent:
            return
        self._require_alive()
        assignment, self._unsent = self._unsent.encode(), ""
        with contextlib.suppress(BrokenPipeError):  # it has been killed: how it ended is told in another way
            await self._loop.sock_sendall(self._assignment, assignment)
        self._require_alive()  # or the socket is closed
        self._assignment.shutdown(socket.SHUT_WR)
        self._loop.add_reader(self._assignment.fileno(), self._read_program_status)

    def _read_program_status(self) -> None:
        """The first process says how the runtime has ended, as it stays for the extensions."""
        self._loop.remove_reader(self._assignment.fileno())
        with contextlib.suppress(ConnectionResetError):  # it has been killed with all others
            said = self._assignment.recv(_READ_BYTES)
            if said:
                self._ended(shell_status(int(said)))

    def _read_status(self) -> None:
        """bubblewrap says its child's process id first, then the status with which the program ended."""
        try:
            data = os.read(self._status_fd, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._status_fd)
            self._unwrapped()
            return
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "child-pid" in said:
                self._find(said["child-pid"])
            elif "exit-code" in said:
                self._ended(shell_status(said["exit-code"]))

    def _find(self, pid: int) -> None:
        try:
            self._born(pid, os.pidfd_open(pid))
        except OSError as error:
            self._fail(failure(error))
            self._died()  # it hears of that, and ends

    def _unwrapped(self) -> None:
        """bubblewrap has ended, with its program. What that has left running may still be there."""
        if self._pidfd >= 0:
            self._loop.add_reader(self._pidfd, self._died)
            self._destroy()
        else:
            self._fail(SandboxFailed(self._last_output() or "bubblewrap has ended"))
            self._died()

    def _read_last_words(self) -> None:
        if self._status_fd < 0:
            return
        self._loop.remove_reader(self._status_fd)
        os.close(self._status_fd)
        self._status_fd = -1
        if self._assignment.fileno() >= 0:
            self._loop.remove_reader(self._assignment.fileno())
            self._assignment.close()
        self._trouble.close()


class Bubblewraps:
    """Sandboxes with one program in them, waiting for functions."""

    def __init__(
        self,
        bwrap: str,
        machine: Machine,
        launcher: Launcher,
        ports: Callable[[], tuple[int, ...]],
        user_ids: UserIds,
        unused: Callable[[], None],
    ) -> None:
        self._bwrap = bwrap
        self._machine = machine
        self._launcher = launcher
        self._ports = ports
        self._user_ids = user_ids
        self._root = ""
        self._message: wire.Message = {}
        self._plan: RootPlan | None = None
        self._is_shell = False
        self._is_closed = False
        self._launcher_number = launcher.number
        self.pool = WarmPool(self._make, unused, _AHEAD, _MOST_AHEAD, _AT_ONCE)

    @property
    def is_alive(self) -> bool:
        """Whether the launcher is still the one that made the root."""
        return not self._is_closed and self._launcher.is_alive and self._launcher.number == self._launcher_number

    async def start(self, program: Program, environment: Mapping[str, str], is_wrapped: bool = False) -> None:
        """Prepare the root. With a wrapper script the interpreter cannot be started ahead. Raises SandboxFailed."""
        plan = self._plan = await asyncio.to_thread(root_plan, program)
        root = self._root = await self._launcher.add_root(plan)
        self._is_shell = program.executable is None or is_wrapped
        variables = dict(environment)
        if not self._is_shell:
            variables["_LAMBDAD_ASSIGNMENT_FD"] = str(_ASSIGNMENT_FD)
        self._message = {
            "do": "bubblewrap",
            "root": root,
            "arguments": [*_options(self._bwrap, bool(self._ports())), *self._command(program, plan)],
            "environment": variables,
        }

    def _command(self, program: Program, plan: RootPlan) -> list[str]:
        init = [WAITING_SHELL, "-c", _INIT, "init"]
        if self._is_shell:
            return [*init, WAITING_SHELL, "-c", _WAIT]
        return [*init, *arguments(program, plan.executable, RUNTIME_DIR, plan.sdk_dirs)]

    def _assignment_of(self, spec: SandboxSpec) -> str:
        variables = {**spec.environment, TELEMETRY_VARIABLE: str(_OUTPUT_FD)}
        if not self._is_shell:
            return json.dumps(variables)
        wrapper = wrapper_for(spec.program, spec.environment)
        if not wrapper or self._plan is None:
            return _script(variables, [bootstrap_of(spec.code, spec.layers)])
        variables |= wrapped_variables(_OUTPUT_FD, self._plan.sdk_dirs)
        return _script(variables, wrapped_arguments(wrapper, spec.program, self._plan.executable, RUNTIME_DIR))

    async def _make(self) -> IsolatedSandbox:
        message = {**self._message, "user_id": self._user_ids.next(), "ports": self._ports()}
        try:
            sandbox = BubblewrapSandbox(self._machine, self._launcher, message, self._assignment_of)
        except OSError as error:
            raise failure(error) from error
        await sandbox.made()
        return sandbox

    async def close(self) -> None:
        self._is_closed = True
        await self.pool.close()
        self._launcher.forget_root(self._root)


def _options(bwrap: str, own_network: bool) -> list[str]:
    options = [
        bwrap,
        "--die-with-parent",
        "--new-session",
        "--as-pid-1",
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
    ]
    options += ["--unshare-uts", "--hostname", HOSTNAME, "--uid", str(USER_ID), "--gid", str(GROUP_ID)]
    if own_network:
        options.append("--unshare-net")
    # Devices are allowed as the root holds no others than it should; everything else in it is mounted without them.
    options += ["--dev-bind", "{root}", "/", "--proc", "/proc", "--chdir", TASK_ROOT, "--cap-drop", "ALL"]
    return [*options, "--seccomp", str(_SECCOMP_FD), "--json-status-fd", str(_STATUS_FD), "--"]


def _script(variables: Mapping[str, str], command: Sequence[str]) -> str:
    """What the waiting shell is to do: take the variables, and become the function's program."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines += [f"cd {TASK_ROOT}", "unset PWD OLDPWD", f"exec {shlex.join(command)} {_ASSIGNMENT_FD}<&-"]
    return "\n".join(lines)


def _seccomp_file() -> int:
    """The filter, for bubblewrap to read."""
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    os.write(fd, seccomp.program())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd

"""A sandbox: one process tree that runs one function's code, made by a driver and held to its limits."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from lambdad.domain.errors import LambdadError
from lambdad.domain.invocations import ExitStatus
from lambdad.domain.runtimes import Language

Address = tuple[str, int]
"""An IP address and a port."""


SHORTAGES: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.ENFILE})
"""The error numbers with which a system says that it has no more to give."""


class SandboxFailed(LambdadError):
    """The sandbox could not be started; the message is fit for the function's owner.

    `is_shortage`: for want of something that the end of another sandbox would give back.
    """

    def __init__(self, message: str, *, is_shortage: bool = False) -> None:
        super().__init__(message)
        self.is_shortage = is_shortage


@dataclass(frozen=True, slots=True)
class Program:
    """The runtime that a sandbox runs, as it is on this machine.

    Without an `executable` it is the function's own `bootstrap`. `sdk_dirs` go on the interpreter's module path; they
    may hold links to elsewhere, which a sandbox must let it follow.
    """

    language: Language
    executable: Path | None = None
    flags: tuple[str, ...] = ()
    sdk_dirs: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Places:
    """Where a function finds things inside its sandbox: its code, its layers, the runtime's files, programs, libraries.

    The last two are values of PATH and LD_LIBRARY_PATH.
    """

    task_root: str
    runtime_dir: str
    path: str
    library_path: str
    layers: str = "/opt"


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a function in a network of its own calls, each a `host:port`: its Runtime API, and lambdad."""

    runtime_api: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What a driver needs to know of one function: what runs, with which variables and code, within which limits.

    `layers` is the directory that is to be its `/opt`. `extensions` are names of programs in `extensions` below that,
    which are started before the runtime, each with `extension_environment` for its variables.
    """

    program: Program
    environment: Mapping[str, str] = field(repr=False)
    code: Path
    memory_mb: int
    ephemeral_storage_mb: int
    layers: Path | None = None
    extensions: tuple[str, ...] = ()
    extension_environment: Mapping[str, str] = field(default_factory=dict, repr=False)


class Sandbox(Protocol):
    """A running sandbox."""

    @property
    def output_fd(self) -> int:
        """The read end, non-blocking, of the pipe that is the process's stdout, stderr and telemetry descriptor."""

    @property
    def extension_output_fd(self) -> int:
        """The same of its extensions together, their stdout and stderr; -1 where it has none."""

    @property
    def listeners(self) -> Sequence[socket.socket]:
        """For a function in a network of its own: bound sockets in it for the Runtime API and the endpoint."""

    async def start_runtime(self) -> None:
        """Let the runtime begin, which has waited for the extensions to register. Without any it has begun already.

        Raises SandboxFailed.
        """

    def when_extension_ends(self, callback: Callable[[str, ExitStatus], None]) -> None:
        """`callback` is called once for each extension whose process ends, or that could not be executed.

        For those that have ended already it is called at once.
        """

    def terminate_runtime(self) -> None:
        """Ask the runtime's process to end: SIGTERM. Nothing happens when it has ended, or not begun."""

    async def connect(self, port: int) -> socket.socket:
        """A TCP connection to a port of the sandbox's own loopback, non-blocking.

        Raises OSError: also when the sandbox has ended, when another one listens there, and after two seconds.
        """

    async def wait(self) -> ExitStatus:
        """Return when the runtime's process has ended. Its extensions go on until the sandbox is killed."""

    async def kill(self) -> None:
        """Kill the process and all its descendants, and return when they are gone."""

    def close(self) -> None:
        """Let go of `output_fd` and `extension_output_fd`, when all has ended and nothing reads from them any more."""

    def initialized(self) -> None:
        """The runtime is ready: from now on it gets the processor time that goes with its memory, and no more.

        Until then it has all there is, as on Lambda.
        """

    def freeze(self) -> None:
        """Stop every process between two invocations."""

    def thaw(self) -> None:
        """Let them go on."""

    def owns(self, client: Address, server: Address) -> bool:
        """Whether the client's end of a TCP connection to this machine is held by a process of the sandbox."""

    def max_memory_bytes(self) -> int:
        """The most memory that the process tree was seen to hold at once; never more than the sandbox's limit."""


class SandboxDriver(Protocol):
    """A way to make sandboxes. `name` is what `doctor` and the health document show."""

    name: str
    isolated: bool

    @property
    def addresses(self) -> Addresses | None:
        """What functions call when they have a network of their own; None when they share the host's."""

    def places(self, program: Program, code: Path, layers: Path | None) -> Places:
        """Where a function finds things."""

    def prepare(self, program: Program) -> None:
        """A function that runs this is likely to be started soon; what can be done ahead is begun."""

    async def launch(self, spec: SandboxSpec) -> Sandbox:
        """Start a sandbox. Raises SandboxFailed."""

    def describe(self) -> Mapping[str, Any]:
        """How functions are isolated and limited here, for people."""

    async def trim(self) -> bool:
        """Let go of something that was made ahead, as memory is short; False when there is nothing."""

    async def close(self) -> None: ...

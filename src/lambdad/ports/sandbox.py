"""A sandbox: one process tree that runs one function's code, made by a driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lambdad.domain.errors import LambdadError
from lambdad.domain.invocations import ExitStatus


class SandboxFailed(LambdadError):
    """The sandbox could not be started; the message is fit for the function's owner."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What a driver needs to know. `arguments` is the command with absolute paths; the rest are limits and places."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    code: Path
    memory_mb: int
    ephemeral_storage_mb: int


class Sandbox(Protocol):
    """A running sandbox."""

    @property
    def output_fd(self) -> int:
        """The read end, non-blocking, of the pipe that is the process's stdout, stderr and telemetry descriptor."""

    async def wait(self) -> ExitStatus:
        """Return when the runtime's process has ended."""

    async def kill(self) -> None:
        """Kill the process and all its descendants, and return when they are gone."""

    def close(self) -> None:
        """Let go of `output_fd`, when the process has ended and nothing reads from it any more."""

    def max_memory_bytes(self) -> int:
        """The most memory that the process tree was seen to hold at once."""


class SandboxDriver(Protocol):
    """A way to make sandboxes. `name` is what `doctor` and the health document show."""

    name: str
    isolated: bool

    def task_root(self, code: Path) -> str:
        """Where a function sees its code."""

    async def launch(self, spec: SandboxSpec) -> Sandbox:
        """Start a sandbox. Raises SandboxFailed."""

    async def close(self) -> None: ...

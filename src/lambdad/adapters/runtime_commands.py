"""How each runtime is started on this machine: the interpreter with lambdad's bootstrap, or the function's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import lambdad_runtime
from lambdad.domain.functions import FunctionVersion, runtime_version_arn
from lambdad.domain.runtimes import Language
from lambdad.ports.runtimes import InstalledRuntime, Runtimes
from lambdad.ports.sandbox import SandboxFailed
from lambdad.services.functions import runtime_version
from lambdad.services.pool import RuntimeCommand

SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/opt/bin"
BOOTSTRAPS: Final = Path(lambdad_runtime.__file__).parent


class LocalRuntimeCommands:
    """A `lambdad.services.pool.RuntimeCommands` over the runtimes that were found on this machine."""

    def __init__(self, runtimes: Runtimes) -> None:
        self._runtimes = runtimes

    async def command(self, version: FunctionVersion, code: Path) -> RuntimeCommand | None:
        """Raises SandboxFailed when a custom runtime's package has no bootstrap that can be run."""
        runtime = await self._runtimes.find(version.runtime)
        if runtime is None:
            return None
        name = runtime_version(runtime) or version.runtime
        arn = runtime_version_arn(version.key.region, name)
        if runtime.executable is None:
            return RuntimeCommand((_bootstrap(code),), name, arn, str(code), SYSTEM_PATH)
        folder = BOOTSTRAPS / str(runtime.language)
        path = f"{runtime.executable.parent}:{SYSTEM_PATH}"
        return RuntimeCommand(_arguments(runtime, folder, version.memory_mb), name, arn, str(folder), path)


def _arguments(runtime: InstalledRuntime, folder: Path, memory_mb: int) -> tuple[str, ...]:
    sdk_dirs = tuple(map(str, runtime.sdk_dirs))
    if runtime.language is Language.PYTHON:
        return (str(runtime.executable), "-I", "-S", str(folder / "bootstrap.py"), *sdk_dirs)
    flags = ("--expose-gc", f"--max-old-space-size={max(memory_mb * 9 // 10, 64)}")
    return (str(runtime.executable), *flags, str(folder / "bootstrap.cjs"), *sdk_dirs)


def _bootstrap(code: Path) -> str:
    bootstrap = code / "bootstrap"
    if not os.access(bootstrap, os.X_OK) or not bootstrap.is_file():
        raise SandboxFailed("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
    return str(bootstrap)

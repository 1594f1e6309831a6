"""Which program runs a version on this machine: an interpreter with lambdad's bootstrap, or the function's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import lambdad_runtime
from lambdad.domain.functions import FunctionVersion, runtime_version_arn
from lambdad.domain.runtimes import Language, Version
from lambdad.ports.runtimes import InstalledRuntime, Runtimes
from lambdad.ports.sandbox import Program
from lambdad.services.functions import runtime_version
from lambdad.services.launching import RuntimeCommand

BOOTSTRAPS: Final = Path(lambdad_runtime.__file__).parent
SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/opt/bin"
_BOOTSTRAP_FILES: Final = {Language.PYTHON: "bootstrap.py", Language.NODEJS: "bootstrap.cjs"}
_NO_BOOTSTRAP: Final = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
_ELF: Final = b"\x7fELF"
_HEAD_BYTES: Final = 256
"""So much of a program does the kernel look at: a longer `#!` line is cut."""


class LocalRuntimeCommands:
    """A `lambdad.services.launching.RuntimeCommands` over the runtimes that were found on this machine."""

    def __init__(self, runtimes: Runtimes) -> None:
        self._runtimes = runtimes

    async def command(self, version: FunctionVersion, code: Path) -> RuntimeCommand | None:
        runtime = await self._runtimes.find(version.runtime)
        if runtime is None:
            return None
        name = runtime_version(runtime) or version.runtime
        arn = runtime_version_arn(version.key.region, name)
        problem = _problem_with(code) if runtime.executable is None else ""
        return RuntimeCommand(_program(runtime, version), name, arn, problem)


def arguments(program: Program, executable: str, bootstrap_dir: str, sdk_dirs: tuple[str, ...]) -> list[str]:
    """The command that starts an interpreter with lambdad's bootstrap, by paths as the function's process sees them."""
    script = f"{bootstrap_dir}/{_BOOTSTRAP_FILES[program.language]}"
    return [executable, *program.flags, script, *sdk_dirs]


def _problem_with(code: Path) -> str:
    """Why a package's own `bootstrap` cannot be started, as Lambda says it; nothing when it can."""
    bootstrap = code / "bootstrap"
    if not (bootstrap.is_file() and os.access(bootstrap, os.X_OK)):
        return _NO_BOOTSTRAP
    with bootstrap.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(_ELF):
        return ""
    interpreter = head.partition(b"\n")[0].removeprefix(b"#!").split()[:1]
    if not head.startswith(b"#!") or not interpreter:
        return "fork/exec /var/task/bootstrap: exec format error"
    path = os.fsdecode(interpreter[0])
    packaged = code / path.removeprefix("/var/task/") if path.startswith("/var/task/") else Path(path)
    return "" if packaged.exists() else "fork/exec /var/task/bootstrap: no such file or directory"


def _program(runtime: InstalledRuntime, version: FunctionVersion) -> Program:
    if runtime.executable is None:
        return Program(Language.PROVIDED)
    if runtime.language is Language.PYTHON:
        flags = ["-I", "-S"]
    else:
        flags = _node_flags(runtime.version, version.memory_mb, version.environment.get("NODE_OPTIONS", ""))
    return Program(runtime.language, runtime.executable, tuple(flags), runtime.sdk_dirs)


def _node_flags(version: Version, memory_mb: int, node_options: str) -> list[str]:
    """What AWS starts Node with: a heap in proportion to the memory, and modules as each runtime had them at first.

    `NODE_OPTIONS` of the function wins. https://docs.aws.amazon.com/lambda/latest/dg/lambda-nodejs.html
    """
    flags = ["--expose-gc"]
    if "-space-size" not in node_options:
        young_mb = memory_mb // 10
        flags += [f"--max-semi-space-size={max(young_mb // 3, 1)}", f"--max-old-space-size={memory_mb - young_mb}"]
    if (20, 17) <= version[:2] < (24,) and "--experimental-require-module" not in node_options:
        flags.append("--no-experimental-require-module")
    if (22,) <= version < (24,) and "--experimental-detect-module" not in node_options:
        flags.append("--no-experimental-detect-module")
    return flags

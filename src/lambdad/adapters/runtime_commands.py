"""Which program runs a version on this machine: an interpreter with lambdad's bootstrap, or the function's own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import lambdad_runtime
from lambdad.domain.errors import InvalidRuntimeException
from lambdad.domain.functions import FunctionVersion, runtime_version_arn
from lambdad.domain.runtimes import Language, UpdateRuntimeOn, Version, version_of
from lambdad.ports.runtimes import InstalledRuntime, Runtimes
from lambdad.ports.sandbox import Program
from lambdad.services.launching import RuntimeCommand
from lambdad.services.runtime_versions import runtime_version
from lambdad_sandbox.namespaces import LAYERS_ROOT, TASK_ROOT

BOOTSTRAPS: Final = Path(lambdad_runtime.__file__).parent
SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_BOOTSTRAP_FILES: Final = {Language.PYTHON: "bootstrap.py", Language.NODEJS: "bootstrap.cjs"}
_NO_BOOTSTRAP: Final = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
_BOOTSTRAP: Final = "bootstrap"
TELEMETRY_VARIABLE: Final = "_LAMBDA_TELEMETRY_LOG_FD"
_WRAPPER_VARIABLE: Final = "AWS_LAMBDA_EXEC_WRAPPER"
# What Lambda's runtimes do with a wrapper script, and what they say when they cannot.
_WRAP: Final = (
    'if [ ! -f "$0" ]; then echo "$0: does not exist"; exit 127; fi; '
    'if [ ! -x "$0" ]; then echo "$0: is not an executable"; exit 126; fi; '
    'exec "$0" "$@"'
)
_ELF: Final = b"\x7fELF"
_HEAD_BYTES: Final = 256
"""So much of a program does the kernel look at: a longer `#!` line is cut."""


class LocalRuntimeCommands:
    """A `lambdad.services.launching.RuntimeCommands` over the runtimes that were found on this machine."""

    def __init__(self, runtimes: Runtimes) -> None:
        self._runtimes = runtimes

    async def command(self, version: FunctionVersion, code: Path, layers: Path | None) -> RuntimeCommand | None:
        runtime = await self._runtime(version)
        if runtime is None:
            return None
        name = runtime_version(runtime) or version.runtime
        arn = runtime_version_arn(version.key.region, name)
        problem = _problem_with(code, layers) if runtime.executable is None else ""
        return RuntimeCommand(_program(runtime, version), name, arn, problem)

    async def _runtime(self, version: FunctionVersion) -> InstalledRuntime | None:
        """The newest interpreter, or the one that the version is held at. Raises InvalidRuntimeException."""
        held_at = version_of(version.runtime_version.partition(":")[2])
        if version.update_runtime_on == UpdateRuntimeOn.AUTO or held_at is None:
            return await self._runtimes.find(version.runtime)
        runtime = await self._runtimes.find_version(version.runtime, held_at)
        if runtime is None:
            arn = runtime_version_arn(version.key.region, version.runtime_version)
            raise InvalidRuntimeException(f"The runtime version {arn} is not installed on this machine.")
        return runtime


def arguments(program: Program, executable: str, bootstrap_dir: str, sdk_dirs: tuple[str, ...]) -> list[str]:
    """The command that starts an interpreter with lambdad's bootstrap, by paths as the function's process sees them."""
    script = f"{bootstrap_dir}/{_BOOTSTRAP_FILES[program.language]}"
    return [executable, *program.flags, script, *sdk_dirs]


def wrapper_for(program: Program, environment: Mapping[str, str]) -> str:
    """The wrapper script that is to start a program, as the function's variables name it; none for its own `bootstrap`.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html#runtime-wrapper
    """
    return environment.get(_WRAPPER_VARIABLE, "") if program.executable is not None else ""


def wrapped_arguments(wrapper: str, program: Program, executable: str, bootstrap_dir: str) -> list[str]:
    """The command that starts a wrapper script with an interpreter's command line, the script last as on Lambda.

    Python is not isolated from its variables then: wrappers work by them. Folders are in `wrapped_variables`.
    """
    flags = () if program.language is Language.PYTHON else program.flags
    script = f"{bootstrap_dir}/{_BOOTSTRAP_FILES[program.language]}"
    return ["/bin/sh", "-c", _WRAP, wrapper, executable, *flags, script]


def wrapped_variables(output_fd: int, sdk_dirs: Iterable[str]) -> dict[str, str]:
    """What a runtime that a wrapper script starts needs besides its command line."""
    return {TELEMETRY_VARIABLE: str(output_fd), "_LAMBDAD_SDK_DIRS": ":".join(sdk_dirs)}


def bootstrap_of(code: Path, layers: Path | None) -> str:
    """Where the function finds its own runtime: in its package, or else in a layer."""
    found = _bootstrap(code, layers)
    return f"{found[1] if found is not None else TASK_ROOT}/{_BOOTSTRAP}"


def local_path(path: str, code: Path, layers: Path | None) -> Path:
    """Where something that a function has below its package or its layers is on this machine."""
    for place, directory in ((TASK_ROOT, code), (LAYERS_ROOT, layers)):
        if directory is not None and path.startswith(f"{place}/"):
            return directory / path.removeprefix(f"{place}/")
    return Path(path)


def _bootstrap(code: Path, layers: Path | None) -> tuple[Path, str] | None:
    """A function's own `bootstrap` on this machine, and the directory that the function sees it in."""
    for directory, place in ((code, TASK_ROOT), (layers, LAYERS_ROOT)):
        if directory is not None:
            bootstrap = directory / _BOOTSTRAP
            if bootstrap.is_file() and os.access(bootstrap, os.X_OK):
                return bootstrap, place
    return None


def _problem_with(code: Path, layers: Path | None) -> str:
    """Why a function's own `bootstrap` cannot be started, as Lambda says it; nothing when it can."""
    found = _bootstrap(code, layers)
    if found is None:
        return _NO_BOOTSTRAP
    bootstrap, place = found
    return execution_problem(bootstrap, f"{place}/{_BOOTSTRAP}", code, layers)


def execution_problem(program: Path, name: str, code: Path, layers: Path | None) -> str:
    """Why a function's program, `name` to the function, cannot be executed, as Lambda says it; nothing when it can."""
    if not program.exists():
        return f"fork/exec {name}: no such file or directory"
    if not (program.is_file() and os.access(program, os.X_OK)):
        return f"fork/exec {name}: permission denied"
    with program.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(_ELF):
        return ""
    interpreter = head.partition(b"\n")[0].removeprefix(b"#!").split()[:1]
    if not head.startswith(b"#!") or not interpreter:
        return f"fork/exec {name}: exec format error"
    packaged = local_path(os.fsdecode(interpreter[0]), code, layers)
    return "" if packaged.exists() else f"fork/exec {name}: no such file or directory"


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

"""Installing interpreters and the AWS SDK into lambdad's own directory, with the tools that the machine has.

    <runtimes>/python/<as uv names it>/        an interpreter, installed by uv
    <runtimes>/nodejs/<major>/node_modules/    an interpreter, from npm's packages of Node.js
    <runtimes>/python-sdk, nodejs-sdk          see runtime_sdk

Each part is made in `<runtimes>/.unfinished` and renamed when it is whole; what is there already stays as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from lambdad.adapters.runtime_discovery import RuntimeDiscovery
from lambdad.adapters.runtime_sdk import nodejs_sdk
from lambdad.domain import runtimes
from lambdad.domain.runtimes import Language, Runtime
from lambdad.ports.runtimes import InstalledRuntime, Progress, RuntimeInstallError

_LAST_LINES = 15
_TERMINATION_GRACE_S = 5
_PROCESSORS = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


class RuntimeInstaller:
    """Installs what is missing of a runtime. One at a time: a second one, of any process, is refused meanwhile."""

    def __init__(self, runtimes_dir: Path, discovery: RuntimeDiscovery, environ: Mapping[str, str]) -> None:
        self._runtimes_dir = runtimes_dir
        self._unfinished = runtimes_dir / ".unfinished"
        self._discovery = discovery
        self._environ = environ

    async def add(self, name: str, progress: Progress) -> InstalledRuntime:
        """Install the interpreter of this identifier unless the machine has it, and its SDK unless that is there.

        Raises RuntimeInstallError when something does not work, with the last lines of the command that failed, and
        InvalidParameterValueException for an identifier that lambdad does not run. Whatever way it ends, nothing is
        half installed.
        """
        runtime = runtimes.supported(name)
        if runtime.language is Language.PROVIDED:
            progress(f"{name} needs nothing: its functions bring their runtime.")
            return await self._discovery.require(name)
        with self._alone():
            installed = await self._discovery.find(name)
            if installed is None or not installed.is_exact:
                await self._add_interpreter(runtime, progress)
                self._discovery.forget()
                installed = await self._discovery.find(name)
            if installed is None or not installed.is_exact:
                raise RuntimeInstallError(f"{name} was installed in {self._runtimes_dir} and does not run.")
            progress(f"{name} is {installed.executable} ({installed.version_text}).")
            await self._add_sdk(installed, progress)
            self._discovery.forget()
        return await self._discovery.require(name)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the directory, and clear what an installation that was killed has left."""
        self._runtimes_dir.mkdir(parents=True, exist_ok=True)
        with (self._runtimes_dir / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeInstallError(f"Another installation into {self._runtimes_dir} is under way.") from None
            shutil.rmtree(self._unfinished, ignore_errors=True)
            self._unfinished.mkdir()
            try:
                yield
            finally:
                shutil.rmtree(self._unfinished, ignore_errors=True)

    @asynccontextmanager
    async def _made(self, final: Path) -> AsyncIterator[Path]:
        """A new directory to fill, which gets its final name if the block ends well."""
        making = Path(tempfile.mkdtemp(dir=self._unfinished))
        yield making
        making.chmod(0o755)
        self._put(making, final)

    def _put(self, made: Path, final: Path) -> None:
        """Give what is made its final name, in place of what is there and does not work."""
        final.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            final.rename(Path(tempfile.mkdtemp(dir=self._unfinished), "old"))
        made.rename(final)

    async def _add_interpreter(self, runtime: Runtime, progress: Progress) -> None:
        if runtime.language is Language.PYTHON:
            await self._add_python(runtime, progress)
        else:
            await self._add_nodejs(runtime, progress)

    async def _add_python(self, runtime: Runtime, progress: Progress) -> None:
        version = ".".join(map(str, runtime.version))
        uv = self._uv()
        if uv is None:
            raise RuntimeInstallError(
                f"{runtime.name} needs Python {version}, which is not on this machine, and neither is uv, which could "
                f"install it. Install Python {version} in any way, or uv, and try again."
            )
        making = Path(tempfile.mkdtemp(dir=self._unfinished))
        await self._run(
            [uv, "python", "install", "--install-dir", str(making), "--no-bin", version],
            f"Python {version} could not be downloaded (uv fetches it from the internet). Without a network, install "
            f"Python {version} in any other way: lambdad finds it.",
            progress,
        )
        # Beside the installation, uv makes a link to it under a shorter name.
        for installation in {program.parent.parent.resolve() for program in making.glob("*/bin/python3")}:
            self._put(installation, self._runtimes_dir / "python" / installation.name)

    async def _add_nodejs(self, runtime: Runtime, progress: Progress) -> None:
        major = str(runtime.version[0])
        processor = _PROCESSORS.get(platform.machine().lower(), platform.machine())
        # npm's package `node` only runs a script that installs this one, and npm has begun to refuse such scripts.
        package = f"node-{sys.platform}-{processor}@{major}"
        async with self._made(self._runtimes_dir / "nodejs" / major) as making:
            await self._npm_install(making, [package], f"Node.js {major} could not be installed by npm.", progress)

    async def _add_sdk(self, installed: InstalledRuntime, progress: Progress) -> None:
        final = self._discovery.sdks.installed_dir(installed.language, installed.version)
        if final.exists():
            progress(f"The AWS SDK is in {final} already; remove that directory to have a newer one.")
            return
        async with self._made(final) as making:
            if installed.language is Language.PYTHON:
                await self._add_boto3(installed, making, progress)
            else:
                packages = list(nodejs_sdk(installed.version).packages)
                await self._npm_install(making, packages, "The AWS SDK could not be installed by npm.", progress)
        progress(f"The AWS SDK is in {final}.")

    async def _add_boto3(self, installed: InstalledRuntime, making: Path, progress: Progress) -> None:
        """The newest boto3 for this Python, compiled by it: functions cannot write compiled files there themselves."""
        python, version = str(installed.executable), installed.version_text
        only_wheels = ["--target", str(making), "--only-binary", ":all:"]
        if uv := self._uv():
            command = [uv, "pip", "install", "--python", python, *only_wheels, "boto3"]
        elif importlib.util.find_spec("pip"):
            command = [sys.executable, "-m", "pip", "install", "--no-compile", "--disable-pip-version-check"]
            command += ["--python-version", version, *only_wheels, "boto3"]
        else:
            raise RuntimeInstallError("Installing boto3 needs uv, or pip beside lambdad; neither is on this machine.")
        await self._run(command, f"boto3 could not be installed for Python {version}.", progress)
        shutil.rmtree(making / "bin", ignore_errors=True)
        compile_all = [python, "-I", "-S", "-m", "compileall", "-q", str(making)]
        await self._run(compile_all, "boto3 could not be compiled.", progress)

    async def _npm_install(self, directory: Path, packages: list[str], failure: str, progress: Progress) -> None:
        npm = shutil.which("npm", path=self._environ.get("PATH", ""))
        if npm is None:
            raise RuntimeInstallError(f"{failure} There is no npm in PATH: install Node.js with npm, of any version.")
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--no-progress"]
        await self._run([npm, "install", "--prefix", str(directory), *options, *packages], failure, progress)

    def _uv(self) -> str | None:
        """uv in PATH, or beside lambdad's own Python."""
        return shutil.which("uv", path=self._environ.get("PATH", "")) or shutil.which(
            "uv", path=str(Path(sys.executable).parent)
        )

    async def _run(self, command: list[str], failure: str, progress: Progress) -> None:
        """Run a command to its end, each line to `progress`; RuntimeInstallError with its last lines if it fails.

        When the caller is cancelled the command and its children are ended first.
        """
        progress(f"$ {' '.join(command)}")
        last: deque[str] = deque(maxlen=_LAST_LINES)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self._unfinished,
                env=dict(self._environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                umask=0o022,  # functions of every user read what it writes
            )
        except OSError as error:
            raise RuntimeInstallError(f"{failure} {command[0]} cannot be run: {error.strerror}") from error
        try:
            async for line in _lines(process):
                last.append(line)
                progress(line)
            status = await process.wait()
        finally:
            await _end(process)
        if status != 0:
            said = "\n".join(f"    {line}" for line in last)
            raise RuntimeInstallError(f"{failure} The command was: {' '.join(command)}\nIt said:\n{said}")


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    """What a command prints, by lines of any length, without the empty ones."""
    assert process.stdout is not None  # it is a pipe
    rest = b""
    while chunk := await process.stdout.read(1 << 16):
        *whole, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            if line.strip():
                yield line.decode(errors="replace")
    if rest.strip():
        yield rest.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a command that is still running, with its children: politely, then for certain."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_TERMINATION_GRACE_S):
            await process.wait()
    with contextlib.suppress(ProcessLookupError):  # nobody of its group is left
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()

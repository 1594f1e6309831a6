"""A stage for sandboxes: a driver, a kind of program, and a small Runtime API at which runtimes wait for an event."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from installed_runtimes import installed, require
from lambdad.adapters.sandboxes import SandboxUnavailable, open_driver
from lambdad.domain.invocations import ExitStatus
from lambdad.domain.runtimes import Language
from lambdad.ports.sandbox import Program, Sandbox, SandboxDriver, SandboxSpec

DRIVERS = ("zygote", "bwrap", "process")
PROGRAMS = ("python", "node", "provided")
PYTHON = "python3.11"
NODE = "nodejs20.x"
PYTHONS = installed(Language.PYTHON)
NODES = installed(Language.NODEJS)
MIB = 1024 * 1024
MEMORY_MB = 128
STORAGE_MB = 512
TIMEOUT_S = 60.0
QUIET_S = 0.3
"""How long nothing may come from a function that is frozen; it writes every few milliseconds otherwise."""
LAUNCHES = 50
READ_BYTES = 64 * 1024

PYTHON_END = "\n\ndef handler(event, context):\n    return event\n"
NODE_END = "\nexports.handler = async (event) => event;\n"
BASH_START = "#!/bin/bash\n"
BASH_END = (
    "\nexec 9<>/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}\n"
    "printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&9\n"
    "read -r line <&9\n"
)

Scenario = Callable[["Stage"], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]


class RuntimeApi:
    """A server that keeps whoever asks it for an event waiting."""

    def __init__(self) -> None:
        self.connections: list[tuple[tuple[str, int], tuple[str, int]]] = []
        self.waiting = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""

    @contextlib.asynccontextmanager
    async def serving(self, listener: socket.socket | None = None) -> AsyncIterator[RuntimeApi]:
        """Listen, on a socket that is there already or on a new one."""
        place: dict[str, Any] = {"sock": listener} if listener is not None else {"host": "127.0.0.1", "port": 0}
        server = await asyncio.start_server(self._answer, **place)
        host, port = server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections.append((writer.get_extra_info("peername"), writer.get_extra_info("sockname")))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET "):
                    self.waiting += 1
                    continue
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")


@dataclass
class Function:
    """A sandbox with a function in it, and what has come out of it."""

    sandbox: Sandbox
    output: bytes = b""
    has_ended: bool = False
    of_extensions: bytes = b""
    ends: list[tuple[str, ExitStatus]] = field(default_factory=list)

    def __post_init__(self) -> None:
        asyncio.get_running_loop().add_reader(self.sandbox.output_fd, self._read)
        if self.sandbox.extension_output_fd >= 0:
            asyncio.get_running_loop().add_reader(self.sandbox.extension_output_fd, self._read_extensions)

    def _read_extensions(self) -> None:
        data = os.read(self.sandbox.extension_output_fd, READ_BYTES)
        self.of_extensions += data
        if not data:
            asyncio.get_running_loop().remove_reader(self.sandbox.extension_output_fd)

    def listen(self) -> None:
        """Take down how extensions end."""
        self.sandbox.when_extension_ends(lambda name, status: self.ends.append((name, status)))

    async def extension_said(self, text: bytes) -> None:
        """Wait until this has come out of an extension."""
        await until(lambda: text in self.of_extensions or self.ends)
        assert text in self.of_extensions, (self.of_extensions, self.output, self.ends)

    def _read(self) -> None:
        try:
            data = os.read(self.sandbox.output_fd, READ_BYTES)
        except BlockingIOError:
            return
        self.output += data
        if not data:
            self._stop_reading()

    def _stop_reading(self) -> None:
        if not self.has_ended:
            asyncio.get_running_loop().remove_reader(self.sandbox.output_fd)
        self.has_ended = True

    def lines(self) -> list[str]:
        """What has come out until now."""
        if not self.has_ended:
            self._read()
        return self.output.decode(errors="replace").splitlines()

    async def said(self, text: bytes) -> None:
        """Wait until this has come out."""
        await until(lambda: text in self.output or self.has_ended)
        assert text in self.output, self.output

    async def status(self) -> ExitStatus:
        return await asyncio.wait_for(self.sandbox.wait(), TIMEOUT_S)

    async def end(self) -> None:
        await asyncio.wait_for(self.sandbox.kill(), TIMEOUT_S)
        self._stop_reading()
        if self.sandbox.extension_output_fd >= 0:
            asyncio.get_running_loop().remove_reader(self.sandbox.extension_output_fd)
        self.sandbox.close()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; it is looked at every 5 ms."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass
class Stage:
    """A driver, and one kind of program to run with it."""

    driver: SandboxDriver
    kind: str
    program: Program
    directory: Path
    api: RuntimeApi
    functions: list[Function] = field(default_factory=list)

    def layers(self, files: Mapping[str, str | bytes]) -> Path:
        """A directory with these files: those that begin with `#!` are programs, and so are those in `extensions`."""
        layers = self.directory / uuid.uuid4().hex
        for name, content in files.items():
            path = layers / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = content.encode() if isinstance(content, str) else content
            path.write_bytes(data)
            path.chmod(0o755 if data.startswith(b"#!") else 0o644)
        return layers

    def spec(
        self, sources: Mapping[str, str], memory_mb: int = MEMORY_MB, layers: Path | None = None, **variables: str
    ) -> SandboxSpec:
        """A function of the kind's source. Its variables are those that a runtime needs, and these."""
        code = self.directory / uuid.uuid4().hex
        code.mkdir()
        source = sources[self.kind]
        if self.kind == "provided":
            bootstrap = code / "bootstrap"
            bootstrap.write_text(source if source.startswith("#!") else BASH_START + source + BASH_END)
            bootstrap.chmod(0o755)
        elif self.kind == "python":
            (code / "app.py").write_text(source + PYTHON_END)
        else:
            (code / "app.js").write_text(source + NODE_END)
        places = self.driver.places(self.program, code, layers)
        environment = {
            "_HANDLER": "app.handler",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
            "AWS_LAMBDA_RUNTIME_API": self.api.address,
            "LAMBDA_RUNTIME_DIR": places.runtime_dir,
            "LAMBDA_TASK_ROOT": places.task_root,
            "LANG": "en_US.UTF-8",
            "PATH": places.path,
            **variables,
        }
        return SandboxSpec(self.program, environment, code, memory_mb, STORAGE_MB, layers)

    def extended(
        self, sources: Mapping[str, str], extensions: Mapping[str, str | bytes], memory_mb: int = MEMORY_MB, **more: str
    ) -> SandboxSpec:
        """The same with extensions, by name; they get the variables `more`, and where the Runtime API is."""
        layers = self.layers({f"extensions/{name}": content for name, content in extensions.items()})
        return replace(
            self.spec(sources, memory_mb, layers, **more),
            extensions=tuple(sorted(extensions)),
            extension_environment={"PATH": "/usr/bin:/bin", "AWS_LAMBDA_RUNTIME_API": self.api.address, **more},
        )

    async def launch(self, sources: Mapping[str, str], memory_mb: int = MEMORY_MB, **variables: str) -> Function:
        return await self.launch_spec(self.spec(sources, memory_mb, **variables))

    async def launch_spec(self, spec: SandboxSpec) -> Function:
        function = Function(await asyncio.wait_for(self.driver.launch(spec), TIMEOUT_S))
        self.functions.append(function)
        return function

    async def end_all(self) -> None:
        await asyncio.gather(*(function.end() for function in self.functions))


async def available(name: str, network: str = "host") -> SandboxDriver:
    """A driver, or a skip with the reason why it does not work here."""
    try:
        return await open_driver(name, network=network)
    except SandboxUnavailable as reason:
        pytest.skip(f"{name}: {reason}")


def program_of(kind: str) -> Program:
    if kind == "provided":
        return Program(Language.PROVIDED)
    if kind == "python":
        executable = require(PYTHONS, PYTHON).executable
        return Program(Language.PYTHON, Path(executable), ("-I", "-S"))
    return Program(Language.NODEJS, Path(require(NODES, NODE).executable), ("--expose-gc",))


async def on_stage(driver: SandboxDriver, kind: str, directory: Path, scenario: Scenario) -> None:
    async with asyncio.timeout(2 * TIMEOUT_S), RuntimeApi().serving() as api:
        stage = Stage(driver, kind, program_of(kind), directory, api)
        try:
            await scenario(stage)
        finally:
            await stage.end_all()


WAIT = {"python": "", "node": "", "provided": ""}


def marked(mark: str) -> list[int]:
    """The processes of this machine that sleep for just so long, dead ones left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if entry.read_bytes().split(b"\0")[:2] == [b"sleep", mark.encode()]:
                found.append(int(entry.parent.name))
    return found


def unique_seconds() -> str:
    return f"600.{uuid.uuid4().int % 10**12:012d}"

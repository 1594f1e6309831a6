"""Starting an environment: its code and command, its variables, its sandbox, and its Runtime API."""

from __future__ import annotations

import datetime
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from lambdad.domain import environment_variables, extensions
from lambdad.domain.credentials import CredentialIssuer
from lambdad.domain.environment_variables import ON_DEMAND, Surroundings
from lambdad.domain.errors import InvalidRuntimeException, ServiceException
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.lifecycle import State
from lambdad.domain.logging_configs import default_logging
from lambdad.ports.clock import Clock
from lambdad.ports.sandbox import Program, Sandbox, SandboxDriver, SandboxFailed, SandboxSpec
from lambdad.services.environment import Environment
from lambdad.services.environment_log import LogSink
from lambdad.services.memory_reserve import NO_CAPACITY, MemoryReserve
from lambdad.services.shared_network import SharedNetwork


class Closable(Protocol):
    """Something that is open."""

    def close(self) -> None: ...


class RuntimeListener(Protocol):
    """The Runtime API of one environment."""

    address: str

    async def open(self) -> None:
        """Listen on a port of this machine, which is then in `address`."""

    async def adopt(self, listener: socket.socket) -> None:
        """Answer on a socket in the environment's own network, where nobody else can come from."""

    def close(self) -> None: ...


class CodeDirectories(Protocol):
    """Unpacked packages by content hash."""

    async def directory_for(self, code_sha256: str) -> Path: ...

    async def layers_directory(self, digests: Sequence[str]) -> Path | None:
        """The layers, in order and later ones over earlier ones, as the tree that is to be `/opt`; None for none."""


@dataclass(frozen=True, slots=True)
class RuntimeCommand:
    """What runs a version: the program, and what it is called in logs. `problem` says why it cannot, where known."""

    program: Program
    version: str
    version_arn: str
    problem: str = ""


class RuntimeCommands(Protocol):
    """Finds the command for a version whose code is in `code`; None when the runtime is not installed."""

    async def command(self, version: FunctionVersion, code: Path, layers: Path | None) -> RuntimeCommand | None: ...


@dataclass(frozen=True, slots=True)
class LaunchParts:
    """What starting an environment takes.

    `variables` gives a version's own environment variables, in clear text. `serve_endpoint` has lambdad's endpoint
    answer on one more socket.
    """

    clock: Clock
    driver: SandboxDriver
    code: CodeDirectories
    commands: RuntimeCommands
    listener: Callable[[Environment], RuntimeListener]
    log_sink: Callable[[FunctionVersion, str], LogSink]
    variables: Callable[[FunctionVersion], Awaitable[Mapping[str, str]]]
    endpoint_url: Callable[[], str]
    serve_endpoint: Callable[[socket.socket], Awaitable[Closable]]
    credentials: CredentialIssuer = field(default_factory=CredentialIssuer)
    shared_network: SharedNetwork = field(default_factory=SharedNetwork)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose an environment is to be: who is told that it can take an invocation, and that it is gone.

    `began` is called with the environment before it has a sandbox.
    """

    began: Callable[[Environment], None]
    on_idle: Callable[[Environment], None]
    on_end: Callable[[Environment], None]


class Launching:
    """Starts environments of this machine."""

    def __init__(self, parts: LaunchParts, reserve: MemoryReserve) -> None:
        self._parts = parts
        self._reserve = reserve

    async def prepare(self, version: FunctionVersion) -> None:
        """Have a version's code at hand, and its runtime where that is installed. Raises ServiceError."""
        code = await self._parts.code.directory_for(version.code_sha256)
        layers = await self._layers(version)
        command = await self._parts.commands.command(version, code, layers)
        if command is not None:
            self._parts.driver.prepare(command.program)

    async def launch(
        self,
        version: FunctionVersion,
        owner: Owner,
        claim: Callable[[Environment], None] | None = None,
        initialization_type: str = ON_DEMAND,
    ) -> Environment:
        """Start a sandbox with the runtime in it. One that cannot be started fails as it initializes.

        `claim` gives the environment its first invocation before there is a runtime that could ask for one, or fail.
        Raises ServiceError.
        """
        parts = self._parts
        code = await parts.code.directory_for(version.code_sha256)
        layers = await self._layers(version)
        own_variables = await parts.variables(version)
        command = await parts.commands.command(replace(version, environment=own_variables), code, layers)
        if command is None:
            raise InvalidRuntimeException(f"The runtime {version.runtime} is not installed on this machine.")
        await self._reserve.restore()
        opened: list[Closable] = []

        def ended(environment: Environment) -> None:
            _close_all(opened)
            parts.shared_network.leave(environment)
            owner.on_end(environment)

        log_stream = self._log_stream(version)
        environment = Environment(
            version,
            parts.clock,
            parts.log_sink(version, log_stream),
            log_stream,
            on_idle=owner.on_idle,
            on_end=ended,
            initialization_type=initialization_type,
            external_extensions=_extensions_in(layers),
        )
        listener = parts.listener(environment)
        opened.append(listener)
        if parts.driver.addresses is None:
            await listener.open()
        owner.began(environment)
        if environment.extensions.has_external:
            environment.log.expect_extensions()
            if parts.driver.addresses is None:
                parts.shared_network.join(environment)
        environment.log.init_start(command.version, command.version_arn)
        spec = self._spec(version, command, code, layers, own_variables, environment, listener)
        if claim is not None:
            claim(environment)
        if len(spec.extensions) > extensions.MOST:
            environment.launch_failed(extensions.LIMIT_REACHED, extensions.TOO_MANY)
            return environment
        try:
            if command.problem:
                raise SandboxFailed(command.problem)
            sandbox = await self._sandbox(spec)
            await self._connect(sandbox, listener, opened)
            await environment.attach(sandbox)
            if environment.state is State.DEAD:
                _close_all(opened)  # it was ended before its sandbox was there
        except SandboxFailed as failure:
            environment.launch_failed(str(failure))
        except BaseException:  # whatever it was, nothing else would end the environment
            environment.begin_stop()
            raise
        return environment

    async def _layers(self, version: FunctionVersion) -> Path | None:
        if not version.layers:
            return None
        return await self._parts.code.layers_directory([layer.code_sha256 for layer in version.layers])

    def _spec(
        self,
        version: FunctionVersion,
        command: RuntimeCommand,
        code: Path,
        layers: Path | None,
        own_variables: Mapping[str, str],
        environment: Environment,
        listener: RuntimeListener,
    ) -> SandboxSpec:
        """What is to run, with the variables that a function finds."""
        driver = self._parts.driver
        places = driver.places(command.program, code, layers)
        addresses = driver.addresses
        around = Surroundings(
            runtime_api=listener.address if addresses is None else addresses.runtime_api,
            task_root=places.task_root,
            runtime_dir=places.runtime_dir,
            endpoint_url=self._parts.endpoint_url() if addresses is None else f"http://{addresses.endpoint}",
            path=places.path,
            library_path=places.library_path,
            log_stream=environment.log_stream,
            credentials=self._parts.credentials.issue(version.key.account_id, version.role, version.key.name),
            initialization_type=environment.initialization_type,
        )
        variables = environment_variables.build(version, own_variables, around)
        return SandboxSpec(
            command.program,
            variables,
            code,
            version.memory_mb,
            version.ephemeral_storage_mb,
            layers=layers,
            extensions=environment.extensions.names,
            extension_environment=environment_variables.build_for_extensions(variables),
        )

    async def _sandbox(self, spec: SandboxSpec) -> Sandbox:
        """Launch a sandbox, at the cost of idle ones if it must be. Raises SandboxFailed and ServiceException."""
        while True:
            try:
                return await self._parts.driver.launch(spec)
            except SandboxFailed as failure:
                if not failure.is_shortage:
                    raise
                if not await self._reserve.evict():
                    raise ServiceException(NO_CAPACITY.format(failure)) from failure

    async def _connect(self, sandbox: Sandbox, listener: RuntimeListener, opened: list[Closable]) -> None:
        """Answer in a sandbox's own network, where it has one. What has connected already has waited for this."""
        if not sandbox.listeners:
            return
        try:
            runtime_api, endpoint = sandbox.listeners
            await listener.adopt(runtime_api)
            opened.append(await self._parts.serve_endpoint(endpoint))
        except BaseException:  # also when it is cancelled: nobody else would end the sandbox
            await sandbox.kill()
            sandbox.close()
            raise

    def _log_stream(self, version: FunctionVersion) -> str:
        today = datetime.datetime.fromtimestamp(self._parts.clock.time(), datetime.UTC)
        is_own = version.logging.log_group == default_logging(version.key.name).log_group
        return new_log_stream(f"{today:%Y/%m/%d}", version.version, "" if is_own else version.key.name)


def _extensions_in(layers: Path | None) -> Sequence[str]:
    """The programs that are external extensions, in alphabetical order. Directories and the like are none.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
    """
    if layers is None:
        return ()
    try:
        with os.scandir(layers / extensions.DIRECTORY) as entries:
            return sorted(entry.name for entry in entries if entry.is_symlink() or entry.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return ()


def _close_all(opened: Sequence[Closable]) -> None:
    for each in opened:
        each.close()


def new_log_stream(now: str, version: str, function_name: str = "") -> str:
    """AWS's name for the log stream of an environment: `2026/11/21/[$LATEST]<32 hex digits>`; `now` is `YYYY/MM/DD`.

    In a group that is not the function's own, and may have streams of others, its name is before the version:
    https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html
    """
    return f"{now}/{function_name}[{version}]{secrets.token_hex(16)}"

"""The zygote driver: sandboxes that are forked from an interpreter which has everything loaded already."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from lambdad.adapters.exit_statuses import exit_status
from lambdad.adapters.runtime_commands import wrapped_arguments, wrapped_variables, wrapper_for
from lambdad.adapters.sandboxes.channel import Channel, Message
from lambdad.adapters.sandboxes.failures import failure, failure_of
from lambdad.adapters.sandboxes.identity import UserIds
from lambdad.adapters.sandboxes.isolated import IsolatedSandbox, listener_of
from lambdad.adapters.sandboxes.launcher import START_TIMEOUT_S, Launcher, start_zygote
from lambdad.adapters.sandboxes.limits import Machine
from lambdad.adapters.sandboxes.root_plan import RUNTIME_DIR, SANDBOX_PACKAGE, RootPlan, root_plan
from lambdad.adapters.sandboxes.warm_pool import WarmPool
from lambdad.ports.sandbox import Program, SandboxFailed, SandboxSpec
from lambdad_sandbox import wire
from lambdad_sandbox.first_process import COMMAND_VARIABLE, OUTPUT_FD

_READY_AHEAD = 2
_AT_ONCE = 2
_MOST_AHEAD = 16


class ZygoteSandbox(IsolatedSandbox):
    """A sandbox that a zygote has forked. Its first process answers on a channel."""

    def __init__(
        self, machine: Machine, launcher: Launcher, zygote: Channel, request: Message, plan: RootPlan | None
    ) -> None:
        super().__init__(machine, launcher, request["user_id"], bool(request["ports"]))
        self._plan = plan
        self._unsent: dict[str, str] = {}
        self._assigned: asyncio.Future[None] = self._loop.create_future()
        self._is_ready = False
        with ExitStack() as undo:
            undo.callback(self._abandon)
            self._channel = Channel(self._received, self._hung_up)
            undo.callback(self._channel.close)
            entries = self._limits.entries()
            try:
                zygote.send(request, [self._channel.remote.fileno(), self._output, *entries])
            finally:
                wire.close_all(entries)
            undo.pop_all()
        self._channel.remote.close()
        self._close_output()

    async def assign(self, spec: SandboxSpec) -> None:
        self._require_alive()
        self._limits.assign(self._pid, spec.memory_mb, spec.ephemeral_storage_mb)
        variables = self._with_wrapper(spec)
        if spec.extensions:
            self._unsent = variables
        message = {
            "do": "assign",
            "code": str(spec.code),
            "layers": None if spec.layers is None else str(spec.layers),
            "tmp_mb": spec.ephemeral_storage_mb,
            "variables": "" if spec.extensions else json.dumps(variables),
        }
        self._launcher.send(message, [self._channel.fileno()])
        await self._assigned
        if spec.extensions:
            await self._extend(spec)

    def _with_wrapper(self, spec: SandboxSpec) -> dict[str, str]:
        """The function's variables; with a wrapper script also the command that the forked process is to become."""
        variables = dict(spec.environment)
        wrapper = wrapper_for(spec.program, spec.environment)
        if wrapper and self._plan is not None:
            command = wrapped_arguments(wrapper, spec.program, self._plan.executable, RUNTIME_DIR)
            variables |= wrapped_variables(OUTPUT_FD, self._plan.sdk_dirs)
            variables[COMMAND_VARIABLE] = json.dumps(command)
        return variables

    async def start_runtime(self) -> None:
        if self._unsent:
            self._require_alive()
            variables, self._unsent = self._unsent, {}
            self._channel.send(variables)

    def _received(self, message: Message, descriptors: list[int]) -> None:
        if "pid" in message and not descriptors:  # it came, and there was no room for it
            self._fail(SandboxFailed("lambdad has too many open files", is_shortage=True))
            self._channel.close()  # which ends it
            self._died()
        elif "pid" in message:
            self._loop.add_reader(descriptors[0], self._died)
            self._born(message["pid"], descriptors[0])
        elif "ready" in message:
            self.listeners = [listener_of(fd) for fd in descriptors]
            self._is_ready = True
        elif "assigned" in message:
            self._settle(None)
        elif "status" in message:
            self._ended(exit_status(message["status"]))
        elif "failed" in message:
            self._settle(failure_of(message))
            self._fail(failure_of(message))
        if self._is_ready and self._pid and not self._made.done():
            self._made.set_result(None)

    def _settle(self, failure: SandboxFailed | None) -> None:
        if self._assigned.done():
            return
        if failure is None:
            self._assigned.set_result(None)
        else:
            self._assigned.set_exception(failure)
            self._assigned.exception()

    def _hung_up(self) -> None:
        """Nobody is at the other end: the first process is dying, or there never was one."""
        self._settle(SandboxFailed("the sandbox has ended"))
        if not self._pid:
            self._died()

    def _read_last_words(self) -> None:
        self._channel.read()
        self._channel.close()
        self._settle(SandboxFailed("the sandbox has ended"))


class Zygote:
    """An interpreter to fork sandboxes from, and those that are ready."""

    def __init__(
        self,
        machine: Machine,
        launcher: Launcher,
        ports: Callable[[], tuple[int, ...]],
        user_ids: UserIds,
        unused: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._launcher = launcher
        self._ports = ports
        self._root = ""
        self._plan: RootPlan | None = None
        self._user_ids = user_ids
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._control = Channel(self._received, self._died)
        self.pool = WarmPool(self._make, unused, _READY_AHEAD, _MOST_AHEAD, _AT_ONCE)

    @property
    def is_alive(self) -> bool:
        return self._control.is_open

    async def start(self, program: Program, environment: Mapping[str, str]) -> None:
        """Start the interpreter; for a program that has none, all but that. Raises SandboxFailed when it cannot be."""
        plan = self._plan = await asyncio.to_thread(root_plan, program)
        root = self._root = await self._launcher.add_root(plan)
        arguments: list[str] = []
        if program.executable is not None:
            script = f"{RUNTIME_DIR}/{SANDBOX_PACKAGE.name}/start.py"
            arguments = [plan.executable, *program.flags, script, "zygote", *plan.sdk_dirs]
        start_zygote(self._launcher, root, arguments, environment, self._control)
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START_TIMEOUT_S)
        except TimeoutError:
            raise SandboxFailed("the interpreter does not answer") from None

    def _received(self, message: Message, descriptors: list[int]) -> None:
        if self._ready.done():
            return
        if "failed" in message:
            self._ready.set_exception(failure_of(message))
            self._ready.exception()
        else:
            self._ready.set_result(None)

    def _died(self) -> None:
        if not self._ready.done():
            self._ready.set_exception(SandboxFailed("the interpreter does not start in a sandbox"))
            self._ready.exception()

    async def _make(self) -> IsolatedSandbox:
        await asyncio.shield(self._ready)
        request: Message = {"user_id": self._user_ids.next(), "ports": self._ports()}
        try:
            sandbox = ZygoteSandbox(self._machine, self._launcher, self._control, request, self._plan)
        except OSError as error:
            raise failure(error) from error
        await sandbox.made()
        return sandbox

    async def close(self) -> None:
        try:
            await self.pool.close()
        finally:
            self._control.close()
            self._launcher.forget_root(self._root)

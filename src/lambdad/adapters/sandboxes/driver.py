"""The isolating driver: sandboxes forked from zygotes where that works, and bubblewrap's for everything else.

For each kind of program, with the variables that are read as a process starts, there is one source of sandboxes. It is
made when a function that needs it is created or started, and let go when nothing has asked for it for long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

from lambdad.adapters.process_sandbox import ProcessDriver
from lambdad.adapters.runtime_commands import wrapper_for
from lambdad.adapters.sandboxes.bubblewrap import Bubblewraps
from lambdad.adapters.sandboxes.failures import failure
from lambdad.adapters.sandboxes.identity import UserIds
from lambdad.adapters.sandboxes.isolated import IsolatedSandbox
from lambdad.adapters.sandboxes.launcher import Launcher
from lambdad.adapters.sandboxes.limits import Machine
from lambdad.adapters.sandboxes.root_plan import RUNTIME_DIR, host_state, library_path, places_path
from lambdad.adapters.sandboxes.zygotes import Zygote
from lambdad.domain.environment_variables import LANG
from lambdad.domain.runtimes import Language
from lambdad.ports.sandbox import Addresses, Places, Program, Sandbox, SandboxFailed, SandboxSpec
from lambdad_sandbox.namespaces import TASK_ROOT

logger = logging.getLogger("lambdad")

RUNTIME_API_PORT: Final = 9001
"""In a network of its own, a function finds its Runtime API where Lambda has it."""
# What the loader, libc and the interpreters look at before any code of ours runs.
_READ_AT_START: Final = (
    "LD_", "GLIBC_", "MALLOC_", "LANG", "LC_", "NODE_", "UV_", "OPENSSL_", "SSL_CERT_", "NO_COLOR", "FORCE_COLOR",
)  # fmt: skip

Source = Zygote | Bubblewraps
_Key = tuple[Program, frozenset[tuple[str, str]], bool, object]


class IsolatingDriver:
    """A `lambdad.ports.sandbox.SandboxDriver`."""

    def __init__(
        self,
        machine: Machine,
        launcher: Launcher,
        bwrap: str | None,
        with_zygotes: bool,
        endpoint_port: Callable[[], int] | None,
        plain: ProcessDriver | None,
    ) -> None:
        """`endpoint_port`: for functions with a network of their own, the port in it that leads to lambdad.

        `plain` runs what no sandbox can be made for; without it such functions fail.
        """
        self.isolated = plain is None
        self._plain = plain
        self.name = "zygote" if with_zygotes else "bwrap"
        self.fallbacks: Mapping[str, str] = {}
        self._machine = machine
        self._launcher = launcher
        self._bwrap = bwrap
        self._with_zygotes = with_zygotes
        self._endpoint_port = endpoint_port
        self._user_ids = UserIds()
        self._sources: dict[_Key, asyncio.Task[Source]] = {}
        self._unfit: set[Program] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> Addresses | None:
        if self._endpoint_port is None:
            return None
        return Addresses(f"127.0.0.1:{RUNTIME_API_PORT}", f"127.0.0.1:{self._endpoint_port()}")

    def places(self, program: Program, code: Path, layers: Path | None) -> Places:
        if self._plain is not None and not self._is_for_zygotes(program):
            return self._plain.places(program, code, layers)
        runtime_dir = RUNTIME_DIR if program.executable is not None else TASK_ROOT
        return Places(TASK_ROOT, runtime_dir, places_path(), library_path())

    def prepare(self, program: Program) -> None:
        if self._plain is None or self._is_for_zygotes(program):
            self._spawn(self._prepare(program))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _prepare(self, program: Program) -> None:
        try:
            source = await self._source(program, {"LANG": LANG, "LD_LIBRARY_PATH": library_path()})
        except SandboxFailed as error:
            logger.warning("Nothing is made ahead for %s: %s", program.executable or "custom runtimes", error)
        else:
            source.pool.expect()

    async def launch(self, spec: SandboxSpec) -> Sandbox:
        if self._plain is not None and not self._is_for_zygotes(spec.program):
            return await self._plain.launch(spec)
        source = await self._source(spec.program, spec.environment)
        sandbox = await source.pool.take()
        if await self._assign(sandbox, spec) is not None:
            sandbox = await source.pool.take()  # the first may have died unnoticed while it waited
            failed = await self._assign(sandbox, spec)
            if failed is not None:
                raise failed
        return sandbox

    async def _assign(self, sandbox: IsolatedSandbox, spec: SandboxSpec) -> SandboxFailed | None:
        """Give a sandbox its function; why not, when the sandbox is no more. Raises SandboxFailed for all else."""
        try:
            await sandbox.assign(spec)
        except SandboxFailed as failed:
            was_alive = sandbox.is_alive
            await sandbox.discard()
            if was_alive:
                raise
            return failed
        except OSError as error:
            await sandbox.discard()
            raise failure(error) from error
        except BaseException:  # also when the launch is cancelled: nobody else would end the sandbox
            await sandbox.discard()
            raise
        return None

    def describe(self) -> Mapping[str, Any]:
        others = "process" if self._plain is not None else "bwrap" if self._bwrap is not None else "none"
        return {
            "driver": self.name,
            "isolated": self.isolated,
            "programs": {"python": self.name, "others": others},
            "limits": self._machine.describe(),
            "fallbacks": dict(self.fallbacks),
            "network": "host" if self._endpoint_port is None else "isolated",
        }

    async def trim(self) -> bool:
        for source in self._running_sources():
            if await source.pool.trim():
                return True
        return False

    async def close(self) -> None:
        opening = [task for task in self._sources.values() if not task.done()]
        for task in (*self._tasks, *opening):
            task.cancel()
        await asyncio.gather(*self._tasks, *opening, return_exceptions=True)
        for source in self._running_sources():
            await source.close()
        if self._plain is not None:
            await self._plain.close()
        await self._launcher.close()
        self._machine.close()

    def _running_sources(self) -> list[Source]:
        done = [task for task in self._sources.values() if task.done() and not task.cancelled()]
        return [task.result() for task in done if task.exception() is None]

    async def _source(self, program: Program, environment: Mapping[str, str]) -> Source:
        """What makes sandboxes for a program; one that has died, or has an outdated root, is replaced."""
        variables = {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}
        # A zygote's process becomes the wrapper script when it knows of it; bubblewrap's program is made ahead.
        wrapper = wrapper_for(program, environment)
        is_wrapped = bool(wrapper) and not self._is_for_zygotes(program)
        key = (program, frozenset(variables.items()), is_wrapped, host_state())
        opened = self._sources.get(key)
        if opened is not None and opened.done():
            if opened.cancelled() or opened.exception() is not None:
                del self._sources[key]
            elif not opened.result().is_alive:
                self._let_go(key, opened)
        if key not in self._sources:
            work = self._open(program, variables, is_wrapped, lambda: self._let_go(key, task))
            task = self._sources[key] = asyncio.get_running_loop().create_task(work)
        source = await asyncio.shield(self._sources[key])
        if wrapper and not is_wrapped and not self._is_for_zygotes(program):
            return await self._source(program, environment)  # it has just turned out that it cannot be a zygote
        return source

    def _let_go(self, key: _Key, opened: asyncio.Task[Source]) -> None:
        """This source is dead; or nothing has asked for it for long, and nothing that it has made lives."""
        if self._sources.get(key) is opened:
            del self._sources[key]
            self._spawn(opened.result().close())

    async def _open(
        self, program: Program, variables: Mapping[str, str], is_wrapped: bool, unused: Callable[[], None]
    ) -> Source:
        try:
            return await self._opened(program, variables, is_wrapped, unused)
        except OSError as error:
            raise failure(error) from error

    async def _opened(
        self, program: Program, variables: Mapping[str, str], is_wrapped: bool, unused: Callable[[], None]
    ) -> Source:
        await self._launcher.start()
        if self._is_for_zygotes(program):
            zygote = Zygote(self._machine, self._launcher, self._ports, self._user_ids, unused)
            try:
                await zygote.start(program, variables)
                return zygote
            except BaseException as error:  # also when it is cancelled: nobody else would end the interpreter
                await zygote.close()
                if not isinstance(error, SandboxFailed) or not self._launcher.is_alive:
                    raise
                logger.warning("%s cannot be a zygote, bubblewrap takes its place: %s", program.executable, error)
                self._unfit.add(program)
        if self._bwrap is None:
            raise SandboxFailed("bubblewrap, which runs this runtime in a sandbox, does not work here")
        source = Bubblewraps(self._bwrap, self._machine, self._launcher, self._ports, self._user_ids, unused)
        await source.start(program, variables, is_wrapped)
        return source

    def _is_for_zygotes(self, program: Program) -> bool:
        return self._with_zygotes and program.language is Language.PYTHON and program not in self._unfit

    def _ports(self) -> tuple[int, ...]:
        return () if self._endpoint_port is None else (RUNTIME_API_PORT, self._endpoint_port())

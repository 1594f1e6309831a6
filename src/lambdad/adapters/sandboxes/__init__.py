"""How functions are isolated on this machine: chosen by trying it.

`open_driver` makes a probe environment with each driver, from its namespaces to the end of its program, and takes the
best that came through.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from lambdad.adapters.process_sandbox import ProcessDriver
from lambdad.adapters.sandboxes.bubblewrap import Bubblewraps
from lambdad.adapters.sandboxes.driver import RUNTIME_API_PORT, IsolatingDriver, Source
from lambdad.adapters.sandboxes.identity import UserIds
from lambdad.adapters.sandboxes.launcher import Launcher
from lambdad.adapters.sandboxes.limits import Machine
from lambdad.adapters.sandboxes.root_plan import SANDBOX_PACKAGE
from lambdad.adapters.sandboxes.zygotes import Zygote
from lambdad.domain.errors import LambdadError
from lambdad.domain.invocations import ExitStatus
from lambdad.domain.runtimes import Language
from lambdad.ports.sandbox import Program, SandboxDriver, SandboxFailed, SandboxSpec

_PROBE_TIMEOUT_S: Final = 20.0
_PROBE_MEMORY_MB: Final = 128
_PROBE_TMP_MB: Final = 1
# The shell that waits in a probe of bubblewrap finds no `bootstrap` in the directory that it is given.
_NOT_FOUND: Final = 127


class SandboxUnavailable(LambdadError):
    """The driver that was asked for does not work here; the message says why."""


async def open_driver(
    name: str = "auto",
    *,
    network: str = "host",
    endpoint_port: Callable[[], int] = lambda: 0,
    hidden: Sequence[Path] = (),
) -> SandboxDriver:
    """The driver `zygote`, `bwrap` or `process`, or the best that works here (`auto`).

    With `zygote`, programs that are not Python run in bubblewrap's sandboxes. `endpoint_port`: for functions with a
    network of their own (`isolated`), the port in it that leads to lambdad. `hidden`: directories that no function
    sees, also where they are below one that is shown. Raises SandboxUnavailable.
    """
    if name == "process":
        if network != "host":
            raise SandboxUnavailable("functions that run as plain processes have no network of their own")
        return ProcessDriver()
    reasons: dict[str, str] = {}
    if sys.platform != "linux":
        reasons = dict.fromkeys(("zygote", "bwrap"), "sandboxes are made of parts of Linux")
    else:
        probed = await _Probe(network, hidden).run(name)
        reasons = probed.reasons
        if probed.is_worth(name):
            port = endpoint_port if network == "isolated" else None
            plain = ProcessDriver() if name == "auto" and network == "host" and probed.bwrap is None else None
            driver = IsolatingDriver(probed.machine, probed.launcher, probed.bwrap, probed.has_zygotes, port, plain)
            driver.fallbacks = reasons
            return driver
        await probed.close()
    if name != "auto" or network != "host":
        wanted = name if name != "auto" else "zygote"
        raise SandboxUnavailable(f"{wanted} sandboxes do not work here: {reasons[wanted]}")
    fallback = ProcessDriver()
    fallback.fallbacks = reasons
    return fallback


class _Probe:
    """Tries what there is."""

    def __init__(self, network: str, hidden: Sequence[Path]) -> None:
        self._ports = (RUNTIME_API_PORT,) if network == "isolated" else ()
        self._user_ids = UserIds()
        self.launcher = Launcher(hidden)
        self.machine: Machine
        self.has_zygotes = False
        self.bwrap: str | None = None
        self.reasons: dict[str, str] = {}

    def is_worth(self, name: str) -> bool:
        return self.has_zygotes or (name != "zygote" and self.bwrap is not None)

    async def run(self, name: str) -> _Probe:
        launching = asyncio.create_task(self.launcher.start())
        self.machine = await asyncio.to_thread(Machine.found)
        try:
            await launching
            self.launcher.thaw_at_end(self.machine.groups.freezer if self.machine.groups is not None else None)
        except (SandboxFailed, OSError) as failure:
            self.reasons = dict.fromkeys(("zygote", "bwrap"), str(failure))
            return self
        await asyncio.gather(self._try_zygote(name), self._try_bwrap())
        return self

    async def _try_zygote(self, name: str) -> None:
        if name == "bwrap":
            return
        zygote = Zygote(self.machine, self.launcher, lambda: self._ports, self._user_ids, lambda: None)
        self.has_zygotes = await self._works("zygote", zygote, Program(Language.PYTHON), ExitStatus(code=0))

    async def _try_bwrap(self) -> None:
        found = shutil.which("bwrap")
        if found is None:
            self.reasons["bwrap"] = "bubblewrap is not installed"
            return
        wraps = Bubblewraps(found, self.machine, self.launcher, lambda: self._ports, self._user_ids, lambda: None)
        if await self._works("bwrap", wraps, Program(Language.PROVIDED), ExitStatus(code=_NOT_FOUND)):
            self.bwrap = found

    async def _works(self, name: str, source: Source, program: Program, expected: ExitStatus) -> bool:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                status = await _rehearse(source, program)
        except (SandboxFailed, OSError, TimeoutError) as error:
            self.reasons[name] = str(error) or "the probe took too long"
            return False
        finally:
            await source.close()
        if status != expected:
            self.reasons[name] = f"the probe's program ended with {status}"
        return status == expected

    async def close(self) -> None:
        await self.launcher.close()
        self.machine.close()


async def _rehearse(source: Source, program: Program) -> ExitStatus:
    """Have a sandbox made and give it a function that is none; how its program ends."""
    environment = {"PATH": "/usr/bin:/bin"}
    await source.start(program, environment)
    sandbox = await source.pool.take()
    try:
        await sandbox.assign(SandboxSpec(program, environment, SANDBOX_PACKAGE, _PROBE_MEMORY_MB, _PROBE_TMP_MB))
        return await sandbox.wait()
    finally:
        await sandbox.discard()

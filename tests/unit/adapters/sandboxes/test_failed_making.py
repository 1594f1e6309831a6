"""Whatever fails as a sandbox is made, no descriptor and no control group is left, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from lambdad.adapters.sandboxes import bubblewrap as bubblewrap_module
from lambdad.adapters.sandboxes import isolated as isolated_module
from lambdad.adapters.sandboxes.bubblewrap import BubblewrapSandbox
from lambdad.adapters.sandboxes.channel import Channel
from lambdad.adapters.sandboxes.isolated import IsolatedSandbox
from lambdad.adapters.sandboxes.limits import Machine
from lambdad.adapters.sandboxes.zygotes import ZygoteSandbox
from lambdad.domain.invocations import ExitStatus
from lambdad.ports.sandbox import SandboxFailed
from lambdad_sandbox import wire
from unit.adapters.sandboxes.test_channel import descriptors_open
from unit.adapters.sandboxes.test_limits import Groups

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are made of parts of Linux")

TIMEOUT_S = 20.0


class Scene:
    """The other ends of what a sandbox talks with are the test's."""

    def __init__(self) -> None:
        self.groups = Groups(frozenset())
        self.machine = Machine(self.groups)
        self.zygote = Channel(lambda *_: None, lambda: None)
        self.launcher: Any = self.zygote  # it has the same `send`

    def make_zygotes(self) -> IsolatedSandbox:
        return ZygoteSandbox(self.machine, self.launcher, self.zygote, {"ports": [], "user_id": None}, None)

    def make_bubblewraps(self) -> IsolatedSandbox:
        return BubblewrapSandbox(self.machine, self.launcher, {"ports": [], "user_id": None}, lambda spec: "")

    def request(self) -> list[int]:
        """The descriptors of what was asked for."""
        return wire.receive(self.zygote.remote)[1]

    def groups_left(self) -> int:
        return sum("removed" not in group.done for group in self.groups.made)

    def close(self) -> None:
        self.zygote.close()


MAKERS = pytest.mark.parametrize("make", [Scene.make_zygotes, Scene.make_bubblewraps], ids=["zygote", "bwrap"])


def run(scenario: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    """Also looks that nothing is left."""

    async def whole() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        gc.collect()  # what earlier tests have left open ends now, not half way
        before = descriptors_open()
        scene = Scene()
        try:
            await asyncio.wait_for(scenario(scene), TIMEOUT_S)
        finally:
            scene.close()
        assert scene.groups_left() == 0
        assert descriptors_open() == before
        assert complaints == []

    asyncio.run(whole())


class Full:
    """Fails at the call of this number."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.at:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return function(*arguments, **options)

        return call


@MAKERS
@pytest.mark.parametrize("at", range(1, 9))
def test_without_descriptors_nothing_is_left(
    make: Callable[[Scene], IsolatedSandbox], at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that takes descriptors fails in its turn."""

    async def scenario(scene: Scene) -> None:
        full = Full(at)
        with monkeypatch.context() as patched:
            patched.setattr(isolated_module.os, "pipe2", full.wrap(os.pipe2))
            patched.setattr(bubblewrap_module.socket, "socketpair", full.wrap(bubblewrap_module.socket.socketpair))
            patched.setattr(bubblewrap_module, "_seccomp_file", full.wrap(bubblewrap_module._seccomp_file))
            patched.setattr(isolated_module.Limits, "entries", full.wrap(isolated_module.Limits.entries))
            patched.setattr(Channel, "send", full.wrap(Channel.send))
            sandbox = None
            with contextlib.suppress(OSError):
                sandbox = make(scene)
        if sandbox is None:
            assert full.calls == at
            return
        assert full.calls < at  # it takes no more than these
        wire.close_all(scene.request())
        with pytest.raises(SandboxFailed):
            await sandbox.made()

    run(scenario)


@MAKERS
def test_when_nobody_takes_the_request_the_sandbox_has_failed(make: Callable[[Scene], IsolatedSandbox]) -> None:
    """The zygote or the launcher dies with requests unread; or was dead before."""

    async def scenario(scene: Scene) -> None:
        unread = make(scene)
        scene.zygote.close()
        unheard = make(scene)
        for sandbox in (unread, unheard):
            with pytest.raises(SandboxFailed):
                await sandbox.made()
            assert not sandbox.is_alive
            await sandbox.kill()
            assert await sandbox.wait() == ExitStatus(signal="killed")

    run(scenario)


@MAKERS
def test_who_gives_up_waiting_leaves_nothing(make: Callable[[Scene], IsolatedSandbox]) -> None:
    async def scenario(scene: Scene) -> None:
        sandbox = make(scene)
        waiting = asyncio.get_running_loop().create_task(sandbox.made())
        await asyncio.sleep(0)
        waiting.cancel()
        wire.close_all(scene.request())
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not sandbox.is_alive

    run(scenario)


def test_a_process_whose_descriptor_is_lost_on_its_way_is_given_up() -> None:
    """The kernel leaves descriptors out that the receiver has no room for."""

    async def scenario(scene: Scene) -> None:
        sandbox = scene.make_zygotes()
        first, output = scene.request()
        os.close(output)
        with socket.socket(fileno=first) as channel:
            wire.send(channel, {"ready": True})
            wire.send(channel, {"pid": 4321})
            with pytest.raises(SandboxFailed):
                await sandbox.made()
            assert wire.receive(channel)[0] is None  # it is told to end

    run(scenario)


_children: list[int] = []


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """Also when a test fails."""
    yield
    while _children:
        pid = _children.pop()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _child() -> tuple[int, int]:
    pid = os.fork()
    if pid == 0:
        try:
            signal.pause()
        finally:
            os._exit(1)
    _children.append(pid)
    return pid, os.pidfd_open(pid)


def _bury(pid: int) -> None:
    os.waitpid(pid, 0)
    _children.remove(pid)


async def _living(scene: Scene) -> tuple[IsolatedSandbox, int]:
    """A sandbox whose first process is a child of this one."""
    sandbox = scene.make_zygotes()
    first, output = scene.request()
    os.close(output)
    pid, pidfd = _child()
    with socket.socket(fileno=first) as channel:
        wire.send(channel, {"pid": pid}, [pidfd])
        os.close(pidfd)
        wire.send(channel, {"ready": True})
        await sandbox.made()
    return sandbox, pid


def test_one_that_dies_idle_is_not_alive_and_takes_no_function() -> None:
    async def scenario(scene: Scene) -> None:
        sandbox, pid = await _living(scene)
        assert sandbox.is_alive
        os.kill(pid, signal.SIGKILL)
        await sandbox.wait()
        _bury(pid)
        assert not sandbox.is_alive
        with pytest.raises(SandboxFailed, match="has ended"):
            await sandbox.assign(None)  # type: ignore[arg-type]
        await sandbox.discard()

    run(scenario)


def test_one_that_is_frozen_is_thawed_to_die_and_not_frozen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In version 1 of control groups a frozen process does not die of SIGKILL."""
    calls: list[str] = []
    monkeypatch.setattr(isolated_module.Limits, "freeze", lambda _: calls.append("freeze"))
    monkeypatch.setattr(isolated_module.Limits, "thaw", lambda _: calls.append("thaw"))
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _, number: calls.append(number.name))

    async def scenario(scene: Scene) -> None:
        sandbox, pid = await _living(scene)
        sandbox.freeze()
        killing = asyncio.get_running_loop().create_task(sandbox.kill())
        await asyncio.sleep(0)
        sandbox.freeze()  # by whoever does not know yet
        assert calls == ["freeze", "thaw", "SIGKILL"]
        os.kill(pid, signal.SIGKILL)
        await killing
        _bury(pid)
        sandbox.close()

    run(scenario)

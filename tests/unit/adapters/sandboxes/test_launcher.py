"""The daemon's side of the launcher, with launchers that do as a test says instead of the real one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import lambdad_sandbox
from lambdad.adapters.process_tree import children
from lambdad.adapters.sandboxes import launcher as launcher_module
from lambdad.adapters.sandboxes.launcher import Answer, Launcher
from lambdad.adapters.sandboxes.root_plan import RootPlan
from lambdad.ports.sandbox import SandboxFailed
from lambdad_sandbox import wire
from unit.adapters.sandboxes.test_channel import descriptors_open

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the launcher is for Linux")

TIMEOUT_S = 30.0
PLAN = RootPlan({}, "", ())
# It says that it is ready, then to each request what the test has chosen.
PROGRAM = """
import os, socket, sys
sys.path.insert(0, {path!r})
from lambdad_sandbox import wire
control = socket.socket(fileno=int(sys.argv[2]))
wire.send(control, {first})
while True:
    message, descriptors = wire.receive(control)
    if message is None:
        break
    answer = socket.socket(fileno=descriptors[0])
    {action}
    answer.close()
"""
READY = '{"ready": True}'


def run(
    scenario: Callable[[Launcher], Coroutine[Any, Any, None]],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    first: str = READY,
    action: str = f"wire.send(answer, {READY})",
) -> None:
    """Also looks that neither a process nor a descriptor is left."""
    text = PROGRAM.format(path=str(Path(lambdad_sandbox.__file__).parent.parent), first=first, action=action)
    (folder / "start.py").write_text(text)
    monkeypatch.setattr(launcher_module, "SANDBOX_PACKAGE", folder)

    async def whole() -> None:
        await asyncio.to_thread(int)  # the threads that wait for processes are there from now on
        before, others = descriptors_open(), set(children(os.getpid()))
        launcher = Launcher()
        try:
            await asyncio.wait_for(scenario(launcher), TIMEOUT_S)
        finally:
            await asyncio.wait_for(launcher.close(), TIMEOUT_S)
        assert set(children(os.getpid())) == others
        assert descriptors_open() == before

    asyncio.run(whole())


def test_it_is_started_once_however_many_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def scenario(launcher: Launcher) -> None:
        others = set(children(os.getpid()))
        await asyncio.gather(*(launcher.start() for _ in range(5)))
        assert launcher.is_alive
        assert launcher.number == 1
        assert len(set(children(os.getpid())) - others) == 1

    run(scenario, monkeypatch, tmp_path)


def test_one_that_has_died_is_started_again_as_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its roots are gone: sources that were made with the first one see that by the number."""

    async def scenario(launcher: Launcher) -> None:
        await launcher.start()
        names = [await launcher.add_root(PLAN)]
        process = launcher._process
        assert process is not None
        process.kill()
        async with asyncio.timeout(TIMEOUT_S):
            while launcher.is_alive:
                await asyncio.sleep(0)
        with pytest.raises(SandboxFailed, match="has ended"):
            await launcher.add_root(PLAN)
        await launcher.start()
        assert launcher.number == 2
        names.append(await launcher.add_root(PLAN))
        assert len(set(names)) == 2

    run(scenario, monkeypatch, tmp_path)


def test_what_it_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def scenario(launcher: Launcher) -> None:
        await launcher.start()
        with pytest.raises(SandboxFailed, match="no such mount"):
            await launcher.add_root(PLAN)
        assert launcher.is_alive

    run(scenario, monkeypatch, tmp_path, action='wire.send(answer, {"failed": "no such mount"})')


def test_when_it_dies_instead_of_answering_the_asker_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def scenario(launcher: Launcher) -> None:
        await launcher.start()
        with pytest.raises(SandboxFailed, match="has ended"):
            await launcher.add_root(PLAN)

    run(scenario, monkeypatch, tmp_path, action="os._exit(1)")


def test_one_that_may_not_do_its_work_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def scenario(launcher: Launcher) -> None:
        for _ in range(2):
            with pytest.raises(SandboxFailed, match="unshare: Operation not permitted"):
                await launcher.start()
            assert not launcher.is_alive
            assert launcher.number == 0

    run(scenario, monkeypatch, tmp_path, first='{"failed": "unshare: Operation not permitted"}')


def test_one_that_cannot_be_started_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def scenario(launcher: Launcher) -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
        with pytest.raises(SandboxFailed, match="No such file"):
            await launcher.start()
        assert not launcher.is_alive

    run(scenario, monkeypatch, tmp_path)


def test_one_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launcher_module, "START_TIMEOUT_S", 0.01)

    async def scenario(launcher: Launcher) -> None:
        with pytest.raises(SandboxFailed, match="does not answer"):
            await launcher.start()
        assert not launcher.is_alive

    run(scenario, monkeypatch, tmp_path, first='{"failed": control.recv(1)}')


def test_of_two_answers_the_second_is_dropped_with_its_descriptors() -> None:
    async def scenario() -> None:
        before = descriptors_open()
        answer = Answer()
        remote = answer.channel.remote.dup()
        reading, writing = os.pipe()
        wire.send(remote, {"first": True})
        wire.send(remote, {"second": True}, [writing])
        os.close(writing)
        assert await answer.take() == ({"first": True}, [])
        answer.channel.read()
        assert os.read(reading, 1) == b""
        os.close(reading)
        remote.close()
        answer.channel.close()
        assert descriptors_open() == before

    asyncio.run(scenario())

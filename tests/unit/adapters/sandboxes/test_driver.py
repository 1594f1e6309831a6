"""Which source of sandboxes a function gets, and what becomes of those that have died: with sources of no processes."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from lambdad.adapters.sandboxes import driver as driver_module
from lambdad.adapters.sandboxes.driver import IsolatingDriver
from lambdad.adapters.sandboxes.limits import Machine
from lambdad.domain.runtimes import Language
from lambdad.ports.sandbox import Program, SandboxFailed, SandboxSpec

PYTHON = Program(Language.PYTHON, Path("/usr/bin/python3"))
NODE = Program(Language.NODEJS, Path("/usr/bin/node"))
PROVIDED = Program(Language.PROVIDED)


class FakeLauncher:
    def __init__(self) -> None:
        self.is_alive = False
        self.number = 0
        self.is_closed = False

    async def start(self) -> None:
        if not self.is_alive:
            self.is_alive = True
            self.number += 1

    async def close(self) -> None:
        self.is_closed = True


class FakeSandbox:
    def __init__(self, source: FakeSource) -> None:
        self.source = source
        self.is_discarded = False

    async def assign(self, spec: SandboxSpec) -> None:
        if self.source.refusal is not None:
            raise self.source.refusal

    async def discard(self) -> None:
        self.is_discarded = True


class FakeSource:
    """In place of a zygote or of bubblewrap's sandboxes; also its own pool."""

    refuses_start: BaseException | None = None

    def __init__(self, scene: Scene, kind: str, unused: Callable[[], None]) -> None:
        self.scene, self.kind, self.unused = scene, kind, unused
        self.is_alive = True
        self.is_closed = False
        self.expected = 0
        self.refusal: BaseException | None = None
        self.variables: Mapping[str, str] = {}
        self.is_wrapped = False
        self.pool = self
        self.made: list[FakeSandbox] = []
        scene.sources.append(self)

    async def start(self, program: Program, environment: Mapping[str, str], is_wrapped: bool = False) -> None:
        self.variables = environment
        self.is_wrapped = is_wrapped
        await self.scene.gate.wait()
        refusal = self.scene.refusals.pop(self.kind, None)
        if refusal is not None:
            raise refusal

    async def take(self) -> FakeSandbox:
        self.made.append(FakeSandbox(self))
        return self.made[-1]

    def expect(self) -> None:
        self.expected += 1

    async def trim(self) -> bool:
        return False

    async def close(self) -> None:
        self.is_closed = True


class Scene:
    """A driver over fakes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, bwrap: str | None = "/usr/bin/bwrap") -> None:
        self.sources: list[FakeSource] = []
        self.refusals: dict[str, BaseException] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.state: object = "first"
        self.launcher = FakeLauncher()
        monkeypatch.setattr(driver_module, "Zygote", lambda *parts: FakeSource(self, "zygote", parts[-1]))
        monkeypatch.setattr(driver_module, "Bubblewraps", lambda *parts: FakeSource(self, "bwrap", parts[-1]))
        monkeypatch.setattr(driver_module, "host_state", lambda: self.state)
        launcher: Any = self.launcher
        self.driver = IsolatingDriver(Machine(None), launcher, bwrap, True, None, None)

    async def launch(self, program: Program = PYTHON, **environment: str) -> FakeSandbox:
        return await self.driver.launch(SandboxSpec(program, environment, Path("/code"), 128, 512))  # type: ignore[return-value]

    def kinds(self) -> list[str]:
        return [source.kind for source in self.sources]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def whole() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await scenario
        await settle()
        assert complaints == []

    asyncio.run(whole())


def test_functions_of_one_program_share_a_source_and_other_variables_that_count_at_start_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        scene = Scene(monkeypatch)
        await asyncio.gather(scene.launch(A="1"), scene.launch(A="2"), scene.launch(A="3"))
        assert scene.kinds() == ["zygote"]
        await scene.launch(LD_PRELOAD="libx.so", A="1")
        assert scene.kinds() == ["zygote", "zygote"]
        assert scene.sources[1].variables == {"LD_PRELOAD": "libx.so"}
        await scene.launch(NODE)
        assert scene.kinds()[2:] == ["bwrap"]
        assert scene.launcher.number == 1
        await scene.driver.close()

    run(scenario())


def test_a_source_that_has_died_is_closed_and_its_successor_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pool still has a timer, which says in time that nobody uses it: that is not true of the successor."""

    async def scenario() -> None:
        scene = Scene(monkeypatch)
        await scene.launch()
        dead = scene.sources[0]
        dead.is_alive = False
        await asyncio.gather(scene.launch(), scene.launch())
        await settle()
        assert len(scene.sources) == 2
        assert dead.is_closed
        dead.unused()
        await settle()
        successor = scene.sources[1]
        assert not successor.is_closed
        assert (await scene.launch()).source is successor
        await scene.driver.close()
        assert successor.is_closed

    run(scenario())


def test_a_source_that_nobody_uses_is_closed_and_made_anew_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        scene = Scene(monkeypatch)
        await scene.launch()
        scene.sources[0].unused()
        await settle()
        assert scene.sources[0].is_closed
        assert (await scene.launch()).source is scene.sources[1]
        await scene.driver.close()

    run(scenario())


def test_when_the_host_has_changed_new_functions_get_a_new_root(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        scene = Scene(monkeypatch)
        await scene.launch()
        scene.state = "second"
        assert (await scene.launch()).source is scene.sources[1]
        assert not scene.sources[0].is_closed  # functions that run are not disturbed
        await scene.driver.close()
        assert all(source.is_closed for source in scene.sources)

    run(scenario())


def test_a_python_that_cannot_be_a_zygote_runs_in_bubblewrap_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        scene = Scene(monkeypatch)
        scene.refusals["zygote"] = SandboxFailed("the interpreter does not start in a sandbox")
        assert (await scene.launch()).source.kind == "bwrap"
        assert scene.sources[0].is_closed
        await scene.launch(LANG="C")
        assert scene.kinds() == ["zygote", "bwrap", "bwrap"]
        await scene.driver.close()

    run(scenario())


WRAPPER = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}


def test_what_a_wrapper_starts_is_not_made_ahead_but_in_a_zygotes_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        scene = Scene(monkeypatch)
        await scene.launch()
        await scene.launch(**WRAPPER)
        assert [(source.kind, source.is_wrapped) for source in scene.sources] == [("zygote", False)]
        await scene.launch(NODE)
        await scene.launch(NODE, **WRAPPER)
        assert [(source.kind, source.is_wrapped) for source in scene.sources[1:]] == [("bwrap", False), ("bwrap", True)]
        await scene.launch(PROVIDED, **WRAPPER)
        assert not scene.sources[-1].is_wrapped
        await scene.driver.close()

    run(scenario())


def test_a_wrapped_python_that_cannot_be_a_zygote_is_wrapped_in_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        scene = Scene(monkeypatch)
        scene.refusals["zygote"] = SandboxFailed("the interpreter does not start in a sandbox")
        assert (await scene.launch(**WRAPPER)).source.is_wrapped
        assert not (await scene.launch()).source.is_wrapped
        await scene.driver.close()

    run(scenario())


def test_when_the_launcher_has_died_a_python_is_not_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        scene = Scene(monkeypatch)
        scene.gate.clear()
        launching = asyncio.get_running_loop().create_task(scene.launch())
        await settle()
        scene.launcher.is_alive = False
        scene.refusals["zygote"] = SandboxFailed("the process that makes sandboxes has ended")
        scene.gate.set()
        with pytest.raises(SandboxFailed):
            await launching
        assert scene.sources[0].is_closed
        assert (await scene.launch()).source.kind == "zygote"
        assert scene.launcher.number == 2
        await scene.driver.close()

    run(scenario())


@pytest.mark.parametrize(("number", "is_shortage"), [(errno.EMFILE, True), (errno.ENOENT, False)])
def test_what_the_system_refuses_is_a_failure_of_the_sandbox(
    monkeypatch: pytest.MonkeyPatch, number: int, is_shortage: bool
) -> None:
    async def scenario() -> None:
        scene = Scene(monkeypatch)
        scene.refusals["bwrap"] = OSError(number, "no")
        with pytest.raises(SandboxFailed) as caught:
            await scene.launch(NODE)
        assert caught.value.is_shortage is is_shortage
        (await scene.launch(NODE)).source.refusal = OSError(number, "no")
        with pytest.raises(SandboxFailed) as caught:
            await scene.launch(NODE)
        assert caught.value.is_shortage is is_shortage
        assert scene.sources[-1].made[-1].is_discarded
        await scene.driver.close()

    run(scenario())


def test_what_is_prepared_is_expected_and_a_failure_is_only_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        scene = Scene(monkeypatch)
        scene.driver.prepare(PYTHON)
        await settle()
        assert scene.sources[0].expected == 1
        scene.refusals["bwrap"] = FileNotFoundError("no such SDK")
        scene.driver.prepare(NODE)
        await settle()
        assert "no such SDK" in caplog.text
        await scene.driver.close()

    run(scenario())


def test_close_gives_up_a_source_that_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        scene = Scene(monkeypatch)
        scene.gate.clear()
        launching = asyncio.get_running_loop().create_task(scene.launch())
        await settle()
        await scene.driver.close()
        assert scene.launcher.is_closed
        assert scene.sources[0].is_closed
        with pytest.raises(asyncio.CancelledError):
            await launching

    run(scenario())

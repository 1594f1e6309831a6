"""Each driver of sandboxes, opened once a module, and a scenario's run with it and each kind of program."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from contract.sandbox_stage import DRIVERS, PROGRAMS, Run, Scenario, available, on_stage
from lambdad.ports.sandbox import SandboxDriver


@pytest.fixture(scope="module", params=DRIVERS)
def opened(request: pytest.FixtureRequest) -> Iterator[tuple[asyncio.Runner, SandboxDriver]]:
    """A driver, and the loop that it lives on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        driver = runner.run(available(request.param))
        yield runner, driver
        runner.run(driver.close())


@pytest.fixture(params=PROGRAMS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(opened: tuple[asyncio.Runner, SandboxDriver], kind: str, tmp_path: Path) -> Run:
    """Run a scenario; all that it has launched is ended."""
    runner, driver = opened

    def run_one(scenario: Scenario) -> None:
        runner.run(on_stage(driver, kind, tmp_path, scenario))

    return run_one

"""A world for each isolating driver, shared by all attempts of a worker."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons import Daemon
from escapes.neighbour import Neighbour
from escapes.world import World
from faults.calm import assert_calm

ISOLATING = ("zygote", "bwrap")
EXTENDED = "zygote-extended"
"""The same attempts with a layer and an extension in use. What extensions themselves attempt: test_extensions.py."""


def _require(driver: str) -> None:
    """Skip where a driver cannot work, as other programs than lambdad find it."""
    if driver == "bwrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    tool = shutil.which("unshare")
    if tool is None:
        return
    command = [tool, "--user", "--map-root-user", "--pid", "--fork", "--mount", "true"]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel gives nobody namespaces")


def _world(folder: Path, driver: str, *options: str, is_extended: bool = False) -> Iterator[World]:
    canary = f"canary-of-the-host-{uuid.uuid4().hex}"
    options = ("--sandbox", driver, *options)
    with Daemon(folder / "data", options, environ={"SECRET_OF_THE_HOST": canary}) as daemon:
        neighbour = Neighbour(daemon.client("lambda"), "neighbour")
        try:
            world = World(driver, daemon, canary, neighbour, daemon.client("lambda"), daemon.client("logs"))
            if is_extended:
                world.extend()
            world.function = world.create()
            world.made.clear()
            yield world
        finally:
            neighbour.stop()


@pytest.fixture(scope="session", params=(*ISOLATING, EXTENDED))
def shared_world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    driver, _, extended = request.param.partition("-")
    _require(driver)
    yield from _world(tmp_path_factory.mktemp(request.param), driver, is_extended=bool(extended))


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """After each test the neighbour has had no error and is still answered, and the daemon has reported nothing."""
    yield shared_world
    shared_world.delete_others()
    shared_world.neighbour.assert_undisturbed()
    assert_calm(shared_world.daemon)


@pytest.fixture(scope="session", params=ISOLATING)
def secluded_world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same with no network but the functions' own, which extensions share."""
    _require(request.param)
    folder = tmp_path_factory.mktemp(f"{request.param}-isolated")
    yield from _world(folder, request.param, "--network", "isolated", is_extended=True)


@pytest.fixture(scope="session")
def open_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Where functions are not isolated: here attempts succeed."""
    yield from _world(tmp_path_factory.mktemp("process"), "process")

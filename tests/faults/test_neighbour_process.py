"""The process of the embedded services dies, hangs, is left behind, or cannot start: the daemon is none the worse."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import fake_neighbours
from daemons import Daemon, create_python
from lambdad.adapters import neighbour_process
from lambdad.adapters.backends import NeighbourBackends
from lambdad.adapters.neighbour_process import NeighbourCommand, NeighbourProcess
from lambdad.ports.backends import NeighbourRequest
from lambdad.ports.neighbours import NeighbourUnavailable

PROGRAM = (sys.executable, fake_neighbours.__file__)
STOP_S = 10.0
WAIT_S = 30.0


class World:
    """Backends with the process of a test program."""

    def __init__(self, directory: Path, *, ephemeral: bool = False, program: tuple[str, ...] = PROGRAM) -> None:
        self.directory = directory
        command = NeighbourCommand(directory, ephemeral, "0" * 12, "us-east-1", str, program)
        self.process = NeighbourProcess(command, start_wait_s=WAIT_S)
        self.backends = NeighbourBackends({}, self.process, ["s3"])

    async def ask(self, path: str = "/echo", query: str = "") -> Any:
        request = NeighbourRequest("s3", "", "0" * 12, "us-east-1", "id", "POST", path, query, {}, b"")
        answer = await self.backends.forward(request)
        assert isinstance(answer.body, bytes)
        return json.loads(answer.body)

    @property
    def starts(self) -> list[int]:
        """The processes that have been started, by their numbers."""
        return [int(line.split()[0]) for line in (self.directory / "state" / "starts").read_text().splitlines()]


def in_world(directory: Path, scenario: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def running() -> None:
        world = World(directory, **options)
        try:
            await scenario(world)
        finally:
            await world.backends.close(STOP_S)

    asyncio.run(running())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_that_died_is_started_again(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        first = (await world.ask())["pid"]
        hanging = asyncio.create_task(world.ask("/hang", f"notes={tmp_path / 'notes'}"))
        await until((tmp_path / "notes").exists)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(NeighbourUnavailable, match="s3 does not answer"):
            await hanging
        await until(lambda: world.process.phase == "restarting")
        with pytest.raises(NeighbourUnavailable, match="restarting"):  # nobody is kept waiting
            await world.ask()
        await until(lambda: world.process.is_ready)
        assert (await world.ask())["pid"] == world.process.pid != first

    in_world(tmp_path, scenario)


def test_an_exchange_that_kills_the_process_is_said(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(NeighbourUnavailable, match="s3 does not answer"):
            await world.ask("/die")
        await until(lambda: world.process.is_ready and len(world.starts) == 2)
        await world.ask()

    in_world(tmp_path, scenario)


def test_one_that_dies_again_and_again_is_started_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds in neighbour_process.RESTART_WAITS_S:
            waits.append(seconds)
            seconds = 0
        await sleep(seconds)

    async def scenario(world: World) -> None:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "die at once").touch()
        with pytest.raises(NeighbourUnavailable, match="restarting"):
            await world.ask()
        monkeypatch.setattr(neighbour_process.asyncio, "sleep", noted)
        await until(lambda: len(waits) >= 4)
        assert waits == sorted(waits)
        assert len(set(waits)) == len(waits)
        (tmp_path / "state" / "die at once").unlink()
        await until(lambda: world.process.is_ready)
        await world.ask()

    in_world(tmp_path, scenario)


@pytest.mark.parametrize("word", ["print('hello')", "print('x' * 3_000_000)", "pass", "print('[]')"])
def test_a_program_that_is_not_ready_does_not_count_as_ready(tmp_path: Path, word: str) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(NeighbourUnavailable, match="restarting"):
            await world.ask()

    in_world(tmp_path, scenario, program=(sys.executable, "-c", word))


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(NeighbourUnavailable, match="restarting"):
            await world.ask()

    in_world(tmp_path, scenario, program=("/nonexistent",))


def test_one_that_hangs_is_said_not_to_answer_and_is_killed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbour_process, "LAST_CHECKPOINT_S", 0.1)

    async def scenario() -> None:
        world = World(tmp_path)
        pid = (await world.ask())["pid"]
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        described = await world.backends.describe()
        assert time.monotonic() - began < 1.0
        assert (described["s3"]["answers"], described["s3"]["loaded"]) == (False, False)
        await world.backends.close(0.1)
        await until(lambda: not is_alive(pid))

    asyncio.run(scenario())


def test_the_next_daemons_process_waits_for_the_last_checkpoint(tmp_path: Path) -> None:
    """As after kill -9 of a daemon: its process hears the end of its standard input, and takes a while to save."""

    async def scenario() -> None:
        killed = World(tmp_path)
        first = (await killed.ask())["pid"]
        (tmp_path / "state" / "slow to end").touch()
        process = killed.process._process
        assert process is not None
        assert process.stdin is not None
        assert killed.process._supervisor is not None
        killed.process._supervisor.cancel()  # closes its standard input
        with suppress(asyncio.CancelledError):
            await killed.process._supervisor
        assert not (tmp_path / "state" / "checkpoint").exists()
        after = World(tmp_path)
        (tmp_path / "state" / "slow to end").unlink()
        assert (await after.ask())["pid"] != first
        assert (tmp_path / "state" / "checkpoint").read_text() == str(first)
        await after.backends.close(STOP_S)

    asyncio.run(scenario())


def test_a_process_that_holds_the_state_for_ever_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_process, "LEFTOVER_S", 0.2)

    async def scenario() -> None:
        killed = World(tmp_path)
        first = (await killed.ask())["pid"]
        os.kill(first, signal.SIGSTOP)
        assert killed.process._supervisor is not None
        killed.process._supervisor.cancel()
        after = World(tmp_path)
        assert (await after.ask())["pid"] != first
        await after.backends.close(STOP_S)

    asyncio.run(scenario())


def test_there_is_always_time_for_the_last_checkpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        pid = (await world.ask())["pid"]
        (tmp_path / "state" / "slow to end").touch()
        await world.backends.close(0.0)
        assert (tmp_path / "state" / "checkpoint").read_text() == str(pid)

    asyncio.run(scenario())


def test_an_ephemeral_one_has_no_state(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.ask()
        assert [path.suffix for path in tmp_path.iterdir()] == [".sock"]

    in_world(tmp_path, scenario, ephemeral=True)


def test_a_directory_with_a_long_name(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert await world.ask()

    in_world(tmp_path / ("x" * 120), scenario)


# With the daemon


def page(daemon: Daemon, name: str) -> Any:
    with urllib.request.urlopen(f"{daemon.url}/_lambdad/{name}", timeout=WAIT_S) as answer:
        return json.load(answer)


def processes_below(daemon: Daemon, word: str) -> list[int]:
    """The daemon's own children with this word in their command."""
    assert daemon.process is not None
    children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture
def used(daemon: Daemon) -> tuple[Daemon, int]:
    """A daemon whose embedded services run, and their process."""
    daemon.client("s3").create_bucket(Bucket="photos")
    (pid,) = processes_below(daemon, "lambdad_neighbours")
    return daemon, pid


def test_a_daemon_that_stands_still_beside_its_neighbours(used: tuple[Daemon, int]) -> None:
    daemon, pid = used
    client = daemon.client("lambda")
    create_python(client, "fn", "def handler(event, context):\n    return event\n")
    client.invoke(FunctionName="fn")
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert page(daemon, "health")["status"] == "running"
        assert page(daemon, "info")["neighbours"]["s3"]["answers"] is False
        assert client.invoke(FunctionName="fn")["StatusCode"] == 200
        assert time.monotonic() - began < 2.0
    finally:
        os.kill(pid, signal.SIGCONT)
    assert daemon.client("s3").list_buckets()["Buckets"][0]["Name"] == "photos"


def test_a_neighbour_that_is_killed_is_back_for_a_client_that_retries(used: tuple[Daemon, int]) -> None:
    import boto3
    from botocore.config import Config

    daemon, pid = used
    session = boto3.session.Session("test", "secret", region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 10, "mode": "standard"})
    client = session.client("s3", endpoint_url=daemon.url, config=config)
    os.kill(pid, signal.SIGKILL)
    assert client.list_buckets()["ResponseMetadata"]["HTTPStatusCode"] == 200
    (again,) = processes_below(daemon, "lambdad_neighbours")
    assert again != pid


def test_the_neighbours_end_with_the_daemon(used: tuple[Daemon, int]) -> None:
    daemon, pid = used
    daemon.kill()
    deadline = time.monotonic() + WAIT_S
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)
    daemon.start()
    assert [bucket["Name"] for bucket in daemon.client("s3").list_buckets()["Buckets"]] == ["photos"]
    (pid,) = processes_below(daemon, "lambdad_neighbours")
    daemon.stop()
    assert not is_alive(pid)
    daemon.start()

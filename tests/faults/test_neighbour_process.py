"""The process of the embedded services dies, hangs, is left behind, or cannot start: the daemon is none the worse."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

import fake_neighbours
from daemons import Daemon, create_python
from faults.neighbourhood import children, process_of, standing_still
from faults.processes import eventually, is_alive
from lambdad.adapters import neighbour_process
from lambdad.adapters.backends import NeighbourBackends
from lambdad.adapters.neighbour_process import NeighbourCommand, NeighbourProcess
from lambdad.ports.backends import NeighbourRequest
from lambdad.ports.neighbours import NeighbourUnavailable
from lambdad_neighbours import forks

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
        await process.wait()
        await after.backends.close(STOP_S)

    asyncio.run(scenario())


def test_a_process_that_holds_the_state_for_ever_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_process, "LEFTOVER_S", 0.2)

    async def scenario() -> None:
        killed = World(tmp_path)
        first = (await killed.ask())["pid"]
        os.kill(first, signal.SIGSTOP)
        process = killed.process._process
        assert process is not None
        assert killed.process._supervisor is not None
        killed.process._supervisor.cancel()
        after = World(tmp_path)
        assert (await after.ask())["pid"] != first
        await process.wait()
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


def test_an_ephemeral_one_has_no_state_and_leaves_nothing_when_it_is_killed(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"

    async def scenario(world: World) -> None:
        pid = (await world.ask())["pid"]
        assert {path.name for path in tmp_path.iterdir() if path.suffix != ".sock"} == {"temporary"}
        (temporary / "left").touch()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: world.process.is_ready and world.process.pid not in (None, pid))
        assert list(temporary.iterdir()) == []
        (temporary / "left").touch()

    in_world(tmp_path, scenario, ephemeral=True)
    assert not temporary.exists()


def test_a_directory_with_a_long_name(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        assert await world.ask()

    in_world(tmp_path / ("x" * 120), scenario)


def test_what_a_process_has_forked_holds_the_lock_and_no_socket(tmp_path: Path) -> None:
    """A checkpoint goes on when its process is killed: who comes next waits until it is done."""
    path = tmp_path / "lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    ended, end = os.pipe()
    mine, other = socket.socketpair()
    with mine, other:
        fork = forks.fork(lambda: {"told": os.read(ended, 1).decode()})
        os.close(lock)
        other.close()
        assert mine.recv(1) == b""  # nobody else has the other side
        next_lock = os.open(path, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(next_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(end, b"x")
        assert fork.outcome(wait=True) == {"told": "x"}
        fcntl.flock(next_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for descriptor in (ended, end, next_lock):
        os.close(descriptor)


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
    with standing_still(pid):
        began = time.monotonic()
        assert page(daemon, "health")["status"] == "running"
        assert page(daemon, "info")["neighbours"]["s3"]["answers"] is False
        assert client.invoke(FunctionName="fn")["StatusCode"] == 200
        assert time.monotonic() - began < 2.0
        command = [sys.executable, "-m", "lambdad", "status"]
        status = subprocess.run(command, env=daemon.cli_environ(), capture_output=True, text=True, timeout=WAIT_S)
        assert status.returncode == 0, status.stderr
    assert daemon.client("s3").list_buckets()["Buckets"][0]["Name"] == "photos"


def test_a_neighbour_that_is_killed_is_back_for_a_client_that_retries(used: tuple[Daemon, int]) -> None:
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


KILLS = 4
LATENCY_FACTOR = 6.0
"""Of the median of a warm invocation while the process beside is killed and started on the same processors."""
OPEN_FILES = 10
"""So many more may be open after the kills than before: connections that are kept."""


class Load:
    """Clients of S3, SQS and DynamoDB as SDKs are by default, which repeat a request twice."""

    def __init__(self, daemon: Daemon) -> None:
        self.successes: dict[str, int] = {"s3": 0, "sqs": 0, "dynamodb": 0}
        self.failures: list[tuple[int, bool]] = []
        """The status of each, and whether it said when to come again."""
        self.cut = 0
        self._daemon = daemon
        self._stopped = threading.Event()
        daemon.client("s3").create_bucket(Bucket="load")
        self._url = daemon.client("sqs").create_queue(QueueName="load")["QueueUrl"]
        daemon.client("dynamodb").create_table(
            TableName="load",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self._threads = [threading.Thread(target=self._run, args=(service,)) for service in self.successes]

    def _run(self, service: str) -> None:
        session = boto3.session.Session("test", "secret", region_name="us-east-1")
        config = Config(retries={"mode": "standard"})
        client = session.client(service, endpoint_url=self._daemon.url, config=config)
        send = {
            "s3": lambda: client.put_object(Bucket="load", Key="key", Body=b"x"),
            "sqs": lambda: client.send_message(QueueUrl=self._url, MessageBody="x"),
            "dynamodb": lambda: client.put_item(TableName="load", Item={"id": {"S": "x"}}),
        }[service]
        while not self._stopped.is_set():
            try:
                send()
            except ClientError as error:
                said = error.response["ResponseMetadata"]
                self.failures.append((said["HTTPStatusCode"], "retry-after" in said["HTTPHeaders"]))
            except ConnectionClosedError:
                self.cut += 1
            else:
                self.successes[service] += 1

    def goes_on(self) -> bool:
        """Whether each service takes something again."""
        before = dict(self.successes)
        return eventually(lambda: all(self.successes[each] > before[each] for each in before), WAIT_S)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()


def warm_s(client: Any) -> float:
    """How long an invocation takes."""
    began = time.perf_counter()
    assert client.invoke(FunctionName="fn")["StatusCode"] == 200
    return time.perf_counter() - began


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_one_that_is_killed_again_and_again_under_load(daemon: Daemon) -> None:
    assert daemon.process is not None
    client = daemon.client("lambda")
    create_python(client, "fn", "def handler(event, context):\n    return event\n")
    killed: list[int] = []
    with Load(daemon) as load:
        assert load.goes_on()
        usual = statistics.median(warm_s(client) for _ in range(100))
        before = open_files(daemon.process.pid)
        times: list[float] = []
        for _ in range(KILLS):
            killed.append(process_of(daemon))
            os.kill(killed[-1], signal.SIGKILL)
            times += [warm_s(client) for _ in range(50)]
            assert load.goes_on()
        beside = statistics.median(times)
        assert eventually(lambda: open_files(daemon.process.pid) <= before + OPEN_FILES)
    succeeded = sum(load.successes.values())
    print(f"{succeeded} succeeded, {len(load.failures)} failed after three attempts")
    print(f"a warm invocation: {beside * 1e6:.0f} us, {usual * 1e6:.0f} us before")
    assert load.cut == 0
    assert set(load.failures) <= {(503, True)}
    assert beside <= LATENCY_FACTOR * usual, (beside, usual)
    assert children(daemon.process.pid, "Z") == []
    neighbour = process_of(daemon)
    assert not any(is_alive(pid) for pid in killed)
    directory = daemon.data_dir / "neighbours"
    assert len(list(directory.glob("*.sock"))) <= 1  # with a long name of the directory, it is elsewhere
    daemon.stop()
    assert not is_alive(neighbour)
    assert list(directory.glob("*.sock")) == []
    daemon.start()


def test_a_daemon_ends_beside_one_that_stands_still(used: tuple[Daemon, int]) -> None:
    daemon, pid = used
    with standing_still(pid):
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < neighbour_process.LAST_CHECKPOINT_S + 5.0
        assert eventually(lambda: not is_alive(pid))
    daemon.start()

"""Extensions that hang, flood or are killed with the daemon: nothing outlives it, and nobody else notices."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from daemons import Daemon
from escapes.world import COMPANION
from extended_functions import World
from faults import processes
from faults.calm import assert_calm
from faults.processes import eventually, needs_proc
from faults.wire import get

HANGS = COMPANION.replace("exit 0", "sleep 600")
# Requests for whose answers it does not wait, and which it does not read.
FLOODS = COMPANION.replace(
    "while ask",
    "for _ in 1 2; do (while :; do exec 8<>/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}\n"
    "  yes $'GET /2020-01-01/extension/none HTTP/1.1\\r\\n\\r' >&8\ndone) 2>/dev/null & done\nwhile ask",
    1,
)
MIB = 1024 * 1024
GROWS_AT_MOST_MB = 64
ANSWERED_WITHIN_S = 5.0
USUALLY_ANSWERED_WITHIN_S = 1.0
SHUTDOWN_S = 2.0
DRAIN_S = 0.5
SLACK_S = 2.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Daemon(tmp_path / "data", ("--drain-timeout", f"{DRAIN_S}")) as daemon:
        yield World(daemon)


def host(world: World, what: str) -> int:
    return int(get(world.daemon, "/_lambdad/info").json["host"][what])


@needs_proc
def test_no_extension_outlives_a_daemon_that_is_killed_whatever_they_do(world: World) -> None:
    """One is busy, one frozen, one was told to end and hangs, and some are just started."""

    def stay_busy() -> None:
        with pytest.raises((BotoCoreError, ClientError)):
            world.invoke("busy", {"s": 20})

    for name in ("busy", "frozen", "ending"):
        world.function(name, {"companion": HANGS}, Timeout=60)
    for name in ("frozen", "ending"):
        world.invoke(name)
    version = world.client.publish_version(FunctionName="frozen")["Version"]
    provisioned = {"FunctionName": "frozen", "Qualifier": version}
    with ThreadPoolExecutor(1) as background:
        busy = background.submit(stay_busy)
        assert eventually(lambda: host(world, "busy") == 1)
        assert eventually(lambda: host(world, "frozen") == 2)
        world.retire("ending")
        world.client.put_provisioned_concurrency_config(**provisioned, ProvisionedConcurrentExecutions=3)
        assert eventually(lambda: host(world, "environments") > 3)
        left = processes.of_daemon(world.daemon)
        world.daemon.kill()
        busy.result(10)
    assert eventually(lambda: not processes.alive(left), 5)
    again = World(world.daemon.start())
    assert again.invoke("ending", {"n": 1}) == (None, {"n": 1})
    assert eventually(lambda: again.client.get_provisioned_concurrency_config(**provisioned)["Status"] == "READY")
    assert_calm(again.daemon)


@needs_proc
def test_a_daemon_that_stops_gives_extensions_their_two_seconds_and_leaves_none(world: World) -> None:
    world.function("hangs", {"companion": HANGS})
    world.invoke("hangs")
    left = processes.of_daemon(world.daemon)
    began = time.monotonic()
    assert world.daemon.stop() == 0
    assert DRAIN_S < SHUTDOWN_S <= time.monotonic() - began < SHUTDOWN_S + SLACK_S
    assert not processes.alive(left)


@needs_proc
def test_who_floods_the_runtime_api_is_cut_off_and_nobody_waits_for_it(world: World) -> None:
    assert world.daemon.process is not None
    world.function("floods", {"companion": FLOODS}, Timeout=30)
    world.function("neighbour", {})
    world.invoke("neighbour")
    before = processes.resident_bytes(world.daemon.process.pid)
    with ThreadPoolExecutor(1) as background:
        flooded = background.submit(world.invoke, "floods", {"s": 1.5})
        took = []
        while not flooded.done():
            began = time.monotonic()
            assert World(world.daemon).invoke("neighbour") == (None, {})
            took.append(time.monotonic() - began)
        assert flooded.result() == (None, {"s": 1.5})
    assert max(took) < ANSWERED_WITHIN_S
    assert statistics.median(took) < USUALLY_ANSWERED_WITHIN_S
    assert processes.resident_bytes(world.daemon.process.pid) - before < GROWS_AT_MOST_MB * MIB
    assert_calm(world.daemon)

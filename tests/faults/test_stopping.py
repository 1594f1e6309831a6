"""How a daemon ends: what runs may finish, nothing outlives it."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon, create_python
from faults import processes
from faults.calm import assert_calm
from faults.processes import eventually, needs_proc
from faults.wire import Connection, get

SLEEPER = "import time\n\ndef handler(event, context):\n    time.sleep(event['s'])\n    return event.get('answer')\n"
FAMILY = """
import os, subprocess, sys, time

def handler(event, context):
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    return os.getpid()
"""
needs_setpriv = pytest.mark.skipif(
    sys.platform == "linux" and shutil.which("setpriv") is None,
    reason="setpriv (util-linux) is not installed: nothing ends functions when the daemon is killed",
)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    started: list[Daemon] = []

    def start_one(*options: str) -> Daemon:
        started.append(Daemon(tmp_path / f"data{len(started)}", options).start())
        return started[-1]

    yield start_one
    for daemon in started:
        daemon.stop()


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def begin(pool: ThreadPoolExecutor, daemon: Daemon, name: str, payload: bytes) -> Future[Any]:
    """Invoke from another thread, and return when the function runs."""
    before = running(daemon)
    client = daemon.client("lambda")
    future = pool.submit(lambda: client.invoke(FunctionName=name, Payload=payload)["Payload"].read())
    assert eventually(lambda: running(daemon) > before)
    return future


def running(daemon: Daemon) -> int:
    count: int = get(daemon, "/_lambdad/info").json["host"]["busy"]
    return count


def stop_time(daemon: Daemon) -> float:
    began = time.monotonic()
    assert daemon.stop() == 0
    return time.monotonic() - began


def test_a_running_invocation_finishes_and_its_answer_arrives(start, background):
    daemon = start()
    create_python(daemon.client("lambda"), "sleeper", SLEEPER, Timeout=10)
    answer = begin(background, daemon, "sleeper", b'{"s": 1, "answer": "done"}')
    took = stop_time(daemon)
    assert answer.result(5) == b'"done"'
    assert took < 4
    assert "Traceback" not in daemon.stderr()


def test_a_large_answer_that_is_under_way_arrives_whole(start, background):
    daemon = start()
    source = SLEEPER.replace("event.get('answer')", "'x' * 5_000_000")
    create_python(daemon.client("lambda"), "sleeper", source, Timeout=10, MemorySize=512)
    connection = Connection(daemon)
    body = b'{"s": 0.5}'
    path = "/2015-03-31/functions/sleeper/invocations"
    connection.send(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body))
    assert eventually(lambda: running(daemon) == 1)
    stopping = background.submit(stop_time, daemon)
    time.sleep(0.8)  # the client is slow: it reads only after the answer has begun to be sent
    assert len(connection.answer().body) == 5_000_002
    assert stopping.result(10) < 5
    connection.close()


def test_a_function_that_runs_longer_than_the_drain_timeout_is_killed(start, background):
    daemon = start("--drain-timeout", "0.5")
    create_python(daemon.client("lambda"), "sleeper", SLEEPER, Timeout=60)
    answer = begin(background, daemon, "sleeper", b'{"s": 60}')
    there = processes.of_daemon(daemon)
    assert stop_time(daemon) < 4
    assert answer.exception(5) is not None
    assert eventually(lambda: not processes.alive(there), 2)
    assert "Traceback" not in daemon.stderr()


def test_no_new_request_is_taken_while_it_stops(start, background):
    daemon = start()
    create_python(daemon.client("lambda"), "sleeper", SLEEPER, Timeout=10)
    idle = Connection(daemon)
    assert idle.is_open()
    answer = begin(background, daemon, "sleeper", b'{"s": 1}')
    stopping = background.submit(stop_time, daemon)
    assert idle.everything() == b""  # a connection that has nothing under way is closed at once
    with pytest.raises(ConnectionError):
        Connection(daemon)
    assert answer.result(5) == b"null"
    assert stopping.result(10) < 4


def test_clients_that_never_finish_their_requests_do_not_hold_it_up(start):
    daemon = start("--drain-timeout", "0.5")
    connections = [Connection(daemon) for _ in range(20)]
    for number, connection in enumerate(connections):
        connection.send(b"POST /x HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"[: 10 + 3 * number])
    assert stop_time(daemon) < 4
    # The path means nothing, so those whose head was complete have been answered.
    assert all(
        received == b"" or received.startswith(b"HTTP/1.1 404 ") for received in (c.everything() for c in connections)
    )


def test_a_second_signal_while_it_stops_changes_nothing(start, background):
    daemon = start()
    assert daemon.process is not None
    create_python(daemon.client("lambda"), "sleeper", SLEEPER, Timeout=10)
    answer = begin(background, daemon, "sleeper", b'{"s": 0.7}')
    stop_signals = threading.Thread(target=lambda: [daemon.process.terminate() for _ in range(3)])  # type: ignore[union-attr]
    stop_signals.start()
    assert stop_time(daemon) < 4
    stop_signals.join()
    assert answer.result(5) == b"null"


@needs_proc
def test_no_process_of_a_function_outlives_the_daemon(start):
    daemon = start()
    client = daemon.client("lambda")
    create_python(client, "family", FAMILY, Timeout=10)
    client.invoke(FunctionName="family")
    there = processes.of_daemon(daemon)
    assert len(there) >= 4
    assert stop_time(daemon) < 4
    assert eventually(lambda: not processes.alive(there), 2)


@needs_proc
@needs_setpriv
def test_no_process_of_a_function_outlives_a_daemon_that_is_killed(start, background):
    daemon = start()
    client = daemon.client("lambda")
    create_python(client, "sleeper", SLEEPER, Timeout=60)
    background.submit(lambda: client.invoke(FunctionName="sleeper", Payload=b'{"s": 60}'))
    assert eventually(lambda: running(daemon) == 1)
    there = processes.of_daemon(daemon)
    assert there
    daemon.kill()
    assert eventually(lambda: not processes.alive(there), 5)


@needs_proc
@needs_setpriv
def test_what_is_frozen_ends_with_a_daemon_that_is_killed(start):
    """A process that a control group has frozen does not die before it is thawed."""
    daemon = start()
    client = daemon.client("lambda")
    create_python(client, "idle", "def handler(event, context):\n    return 1\n")
    client.invoke(FunctionName="idle")
    assert eventually(lambda: get(daemon, "/_lambdad/info").json["host"]["frozen"] == 1)
    there = processes.of_daemon(daemon)
    daemon.kill()
    assert eventually(lambda: not processes.alive(there), 5)


@needs_proc
@needs_setpriv
def test_what_functions_have_forked_ends_at_the_latest_when_a_killed_daemon_starts_again(start):
    daemon = start()
    client = daemon.client("lambda")
    create_python(client, "family", FAMILY, Timeout=10)
    client.invoke(FunctionName="family")
    there = processes.of_daemon(daemon)
    assert len(there) >= 4
    daemon.kill()
    daemon.start()
    assert eventually(lambda: not processes.alive(there), 5)
    assert_calm(daemon)


def test_an_interrupt_from_the_keyboard_stops_it_like_a_termination(start):
    import signal

    daemon = start()
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGINT)
    assert daemon.process.wait(10) == 0
    assert "Traceback" not in daemon.stderr()

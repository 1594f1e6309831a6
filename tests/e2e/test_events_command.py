"""`lambdad events` against a real daemon: events that fail, are sent again after a repair, and are purged."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon, create_python, zip_of
from faults.processes import eventually
from faults.wire import get

FAILS = "def handler(event, context):\n    raise ValueError('no luck\\nat all')\n"
WORKS = "def handler(event, context):\n    print('mended', event)\n"
ATTEMPTS = 3


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose third attempt comes 0.18 seconds after the first."""
    options = ("--retry-delay-scale", "0.001")
    with Daemon(tmp_path_factory.mktemp("hasty") / "data", options) as own:
        yield own


def lambdad(daemon: Daemon, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lambdad", *arguments],
        env=daemon.cli_environ(),
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def figures(daemon: Daemon) -> dict[str, list[int]]:
    """How many events wait, run, are tried again and have failed, by function."""
    lines = [line.split("\t") for line in lambdad(daemon, "events").stdout.splitlines()]
    return {line[0]: [int(number) for number in line[1:5]] for line in lines}


def send(daemon: Daemon, name: str, count: int = 1) -> list[str]:
    """Invoke a function asynchronously; the request ids."""
    client = daemon.client("lambda")
    answers = [client.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"number": 1}') for _ in range(count)]
    assert {answer["StatusCode"] for answer in answers} == {202}
    return [answer["ResponseMetadata"]["RequestId"] for answer in answers]


def sum_of(daemon: Daemon, function: str, name: str) -> Any:
    (metric,) = get(daemon, f"/_lambdad/metrics?function={function}&name={name}").json["metrics"]
    return metric["sum"]


def test_failed_events_are_sent_again_after_a_repair(hasty: Daemon, unique: Callable[[str], str]) -> None:
    name = unique("fails")
    client = hasty.client("lambda")
    create_python(client, name, FAILS)
    request_ids = send(hasty, name, 2)
    assert eventually(lambda: figures(hasty).get(name) == [0, 0, 0, 2])
    failed = [line.split("\t") for line in lambdad(hasty, "events", "list", name, "--failed").stdout.splitlines()]
    assert sorted(line[2] for line in failed) == sorted(request_ids)
    for _, function, _, attempts, _, outcome, error in failed:
        assert (function, attempts, outcome) == (name, str(ATTEMPTS), "RetriesExhausted")
        assert "no luck" in error
        assert "at all" not in error
    for request_id in request_ids:
        assert "RetriesExhausted" in lambdad(hasty, "events", "outcome", request_id).stdout
    assert sum_of(hasty, name, "AsyncEventsReceived") == 2
    assert sum_of(hasty, name, "AsyncEventsDropped") == 2
    assert (
        get(hasty, f"/_lambdad/metrics?function={name}&name=AsyncEventAge").json["metrics"][0]["count"] == 2 * ATTEMPTS
    )

    client.update_function_code(FunctionName=name, ZipFile=zip_of({"app.py": WORKS}))
    one = lambdad(hasty, "events", "redrive", name, "--id", failed[0][0])
    assert one.stdout == "1 event sent again\n"
    assert lambdad(hasty, "events", "redrive", name).stdout == "1 event sent again\n"
    assert lambdad(hasty, "events", "redrive", name).stderr == f"no such events of {name} have failed\n"

    def mended() -> bool:
        said = lambdad(hasty, "logs", name).stdout
        return said.count("mended {'number': 1}") == 2 and all(
            f"START RequestId: {each}" in said for each in request_ids
        )

    assert eventually(mended)
    assert eventually(lambda: name not in figures(hasty))


def test_failed_events_are_purged(hasty: Daemon, unique: Callable[[str], str]) -> None:
    name = unique("purged")
    create_python(hasty.client("lambda"), name, FAILS)
    send(hasty, name)
    assert eventually(lambda: figures(hasty).get(name) == [0, 0, 0, 1])
    refused = lambdad(hasty, "events", "purge", name, "--failed")
    assert refused.returncode == 1
    assert refused.stderr == "purge asks first, and nobody can answer here; add --yes to go ahead\n"
    assert figures(hasty)[name] == [0, 0, 0, 1]
    assert lambdad(hasty, "events", "purge", name, "--failed", "--yes").stdout == "1 event purged\n"
    assert name not in figures(hasty)
    assert lambdad(hasty, "events", "redrive", name).stderr == f"no such events of {name} have failed\n"


def test_what_is_to_be_tried_again_is_listed_and_purged(shared_daemon: Daemon, unique: Callable[[str], str]) -> None:
    """At AWS's pace the second attempt comes after a minute."""
    name = unique("waits")
    create_python(shared_daemon.client("lambda"), name, FAILS)
    (request_id,) = send(shared_daemon, name)
    assert eventually(lambda: figures(shared_daemon).get(name) == [0, 0, 1, 0])
    (event,) = json.loads(lambdad(shared_daemon, "events", "list", name, "--json").stdout)
    assert (event["RequestId"], event["Attempts"], event["Outcome"]) == (request_id, 1, None)
    assert event["NextAttempt"] > event["Accepted"]
    controller, terminal = pty.openpty()
    try:
        os.write(controller, b"n\ny\n")
        kept = lambdad(shared_daemon, "events", "purge", name, stdin=terminal)
        assert kept.returncode == 1
        assert f"Purge 1 waiting event of {name}?" in kept.stdout + kept.stderr
        assert figures(shared_daemon)[name] == [0, 0, 1, 0]
        gone = lambdad(shared_daemon, "events", "purge", name, stdin=terminal)
    finally:
        os.close(controller)
        os.close(terminal)
    assert gone.stdout.endswith("1 event purged\n"), gone.stderr
    assert lambdad(shared_daemon, "events", "list", name).stderr == f"no events of {name} wait\n"


def test_what_goes_wrong_is_said_in_a_line(shared_daemon: Daemon) -> None:
    failed = lambdad(shared_daemon, "events", "list", "no name")
    assert failed.returncode == 1
    assert failed.stderr.startswith("1 validation error detected: Value 'no name' at 'functionName'")
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [(), ("list",), ("outcome",), ("redrive",), ("purge",)])
def test_there_is_help(shared_daemon: Daemon, words: tuple[str, ...]) -> None:
    shown = lambdad(shared_daemon, "events", *words, "--help")
    assert shown.returncode == 0
    assert "Usage:" in shown.stdout


def test_metrics_survive_a_restart(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        create_python(daemon.client("lambda"), "f", WORKS)
        send(daemon, "f", 3)
        assert sum_of(daemon, "f", "AsyncEventsReceived") == 3
    with Daemon(tmp_path / "data") as daemon:
        assert sum_of(daemon, "f", "AsyncEventsReceived") == 3

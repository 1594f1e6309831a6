"""When memory is short, idle environments make room for new ones, and nothing is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from daemons import Daemon, create_python
from faults.calm import assert_calm
from faults.processes import eventually
from faults.wire import get

COUNTS = "calls = 0\n\ndef handler(event, context):\n    global calls\n    calls += 1\n    return calls\n"
MORE_THAN_THERE_IS_MB = "1000000000"


def calls(client: Any, name: str) -> int:
    answer = client.invoke(FunctionName=name)
    assert "FunctionError" not in answer
    return int(json.loads(answer["Payload"].read()))


def environments(daemon: Daemon) -> int:
    return int(get(daemon, "/_lambdad/info").json["host"]["environments"])


def test_an_idle_environment_ends_for_one_that_is_needed(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", ("--memory-reserve-mb", MORE_THAN_THERE_IS_MB)) as daemon:
        client = daemon.client("lambda")
        for name in ("first", "second"):
            create_python(client, name, COUNTS)
        assert calls(client, "first") == 1
        assert calls(client, "second") == 1
        assert calls(client, "first") == 1, "its environment has made room for that of the second"
        assert_calm(daemon)


def test_what_is_idle_ends_soon_while_memory_is_short(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", ("--memory-reserve-mb", MORE_THAN_THERE_IS_MB)) as daemon:
        client = daemon.client("lambda")
        create_python(client, "idle", COUNTS)
        assert calls(client, "idle") == 1
        assert eventually(lambda: environments(daemon) == 0, 20)
        assert calls(client, "idle") == 1


def test_nothing_ends_while_there_is_enough(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", ("--memory-reserve-mb", "1")) as daemon:
        client = daemon.client("lambda")
        for name in ("first", "second"):
            create_python(client, name, COUNTS)
        assert [calls(client, name) for name in ("first", "second", "first", "second")] == [1, 1, 2, 2]

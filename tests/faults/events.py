"""Asynchronous invocations as a client sends them, and what the queue's file says became of them."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from daemons import Daemon
from faults.processes import eventually
from faults.wire import PATIENCE_S, Answer, get

INVOKE = "/2015-03-31/functions/{}/invocations"
EVENT = {"X-Amz-Invocation-Type": "Event"}
UNFINISHED = ("waiting", "retrying", "leased", "running")
_TAKEN_UP = re.compile(r"(\d+) events were in flight when the last daemon died")


class Ending(NamedTuple):
    """One row of the table of endings."""

    request_id: str
    purpose: str
    condition: str
    invocations: int


class Sender:
    """A client with a connection of its own. Its methods raise OSError or HTTPException when the daemon goes away."""

    def __init__(self, daemon: Daemon) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(daemon.url).netloc, timeout=PATIENCE_S)

    def send(self, function: str, payload: bytes) -> Answer:
        """Invoke a function asynchronously."""
        self._connection.request("POST", INVOKE.format(function), payload, EVENT)
        response = self._connection.getresponse()
        return Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())

    def accepted(self, function: str, event: Any) -> str:
        """The request id of an event that must be accepted."""
        answer = self.send(function, json.dumps(event).encode())
        assert (answer.status, answer.body) == (202, b""), answer
        return answer.headers["x-amzn-requestid"]

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()


def unfinished(daemon: Daemon) -> list[dict[str, Any]]:
    """The lanes in which anything waits, runs or is tried again."""
    lanes = get(daemon, "/_lambdad/events").json["functions"]
    return [lane for lane in lanes if any(lane[figure] for figure in UNFINISHED)]


def await_idle(daemon: Daemon, seconds: float = 30.0) -> None:
    """Wait until every event has ended."""
    assert eventually(lambda: not unfinished(daemon), seconds), unfinished(daemon)


def total(daemon: Daemon, figure: str) -> int:
    """A figure of `LaneSummary`, of all lanes."""
    return sum(lane[figure] for lane in get(daemon, "/_lambdad/events").json["functions"])


def endings(data_dir: Path) -> list[Ending]:
    """All that has ended, in the order of acceptance; the file is whole."""
    with opened(data_dir) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute("SELECT request_id, purpose, condition, invocations FROM endings ORDER BY id")
        return [Ending(*row) for row in rows]


def queued(data_dir: Path) -> list[str]:
    """The request ids of what is in the queue."""
    with opened(data_dir) as database:
        return [request_id for (request_id,) in database.execute("SELECT request_id FROM events ORDER BY id")]


def opened(data_dir: Path) -> contextlib.closing[sqlite3.Connection]:
    """The queue's file, read-only."""
    return contextlib.closing(sqlite3.connect(f"file:{data_dir / 'events.db'}?mode=ro", uri=True))


def taken_up(said: str) -> int:
    """How many events a daemon has said to have found in flight when it started."""
    return sum(int(number) for number in _TAKEN_UP.findall(said))

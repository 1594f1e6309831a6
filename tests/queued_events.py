"""Asynchronous invocations as tests see them: send some, and wait for what becomes of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from daemons import Daemon
from faults.wire import get

T = TypeVar("T")

HASTY = ("--retry-delay-scale", "0.001")
"""The option with which the third attempt comes 0.18 seconds after the first."""
PATIENCE_S = 60.0
_POLL_S = 0.02


def awaited(value: Callable[[], T], seconds: float = PATIENCE_S) -> T:
    """What `value` gives as soon as it is something; the test fails when that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := value()):
        assert time.monotonic() < deadline, f"after {seconds} s there is still {found!r}"
        time.sleep(_POLL_S)
    return found


def send(client: Any, name: str, event: Any = None, **options: Any) -> str:
    """Invoke asynchronously; returns the request id."""
    answer = client.invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event).encode(), **options)
    assert answer["StatusCode"] == 202
    return str(answer["ResponseMetadata"]["RequestId"])


def dead(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    """The events of a function, or of another target by its ARN, that have failed; the last first."""
    query = urlencode({"function": name, "dead": "true", "limit": 1000})
    return list(get(daemon, f"/_lambdad/events/list?{query}").json["events"])


def await_dead(daemon: Daemon, name: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many have failed."""
    found = awaited(lambda: events if len(events := dead(daemon, name)) >= count else [])
    assert len(found) == count
    return found


def waiting(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    """The events that are in the queue, those that run among them."""
    return list(get(daemon, f"/_lambdad/events/list?{urlencode({'function': name, 'limit': 1000})}").json["events"])


def sums(daemon: Daemon, name: str) -> Mapping[str, float]:
    """The sums of a function's metrics."""
    series = get(daemon, f"/_lambdad/metrics?{urlencode({'function': name})}").json["metrics"]
    return {metric["name"]: metric["sum"] for metric in series if not metric["resource"]}


def log_lines(daemon: Daemon, name: str) -> list[str]:
    """What is in the log of a function, in the order of its times; nothing before it has one."""
    logs = daemon.client("logs")
    try:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{name}")
        return [event["message"].rstrip("\n") for page in pages for event in page["events"]]
    except logs.exceptions.ResourceNotFoundException:
        return []


def await_lines(daemon: Daemon, name: str, start: str, count: int, seconds: float = PATIENCE_S) -> list[str]:
    """Wait for so many lines in the log of a function that begin so; there are no more than these."""

    def found() -> list[str]:
        lines = [line for line in log_lines(daemon, name) if line.startswith(start)]
        return lines if len(lines) >= count else []

    lines = awaited(found, seconds)
    assert len(lines) == count
    return lines

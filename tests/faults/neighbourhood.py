"""The embedded services from outside: how they are, their process, and its death together with the daemon's."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from daemons import Daemon
from faults.processes import eventually
from faults.wire import get

PATIENCE_S = 60.0


def info(daemon: Daemon) -> Any:
    """What `/_lambdad/info` says."""
    return get(daemon, "/_lambdad/info").json


def process_of(daemon: Daemon) -> int:
    """The number of the process of the embedded services, which must run."""
    pid = info(daemon)["neighbour_process"]["pid"]
    assert isinstance(pid, int), "the embedded services do not run"
    return pid


def last_checkpoint(daemon: Daemon, service: str) -> float:
    """In seconds since the epoch; 0 when there was none."""
    moment = info(daemon)["neighbours"][service]["last_checkpoint"]
    return datetime.fromisoformat(moment).timestamp() if moment else 0.0


def await_checkpoint(daemon: Daemon, *services: str) -> None:
    """Wait until all that these services hold is on disk."""

    def are_clean() -> bool:
        neighbours = info(daemon)["neighbours"]
        return all(neighbours[each]["last_checkpoint"] and not neighbours[each]["dirty"] for each in services)

    assert eventually(are_clean, PATIENCE_S), info(daemon)["neighbours"]


def kill_both(daemon: Daemon, neighbour: int) -> None:
    """`kill -9` of the process of the embedded services and of the daemon, with nothing in between."""
    os.kill(neighbour, signal.SIGKILL)
    daemon.kill()


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """A process that does not get the processor meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def children(pid: int, state: str = "") -> list[int]:
    """The processes right below another; those in a state only, such as Z for a zombie."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if state in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]:
                    found.append(int(child))
    return found


def create_queue(daemon: Daemon, name: str) -> tuple[str, str]:
    """A queue's URL and ARN."""
    sqs = daemon.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    return url, attributes["QueueArn"]


def taken(daemon: Daemon, url: str, is_enough: Callable[[list[str]], object]) -> list[str]:
    """The bodies of a queue's messages, received until there are enough."""
    sqs, bodies = daemon.client("sqs"), []

    def receive() -> object:
        bodies.extend(
            message["Body"] for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        )
        return is_enough(bodies)

    assert eventually(receive, PATIENCE_S), bodies
    return bodies

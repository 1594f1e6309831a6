"""Where the time goes: the stages of a cold start and of a warm invocation, as tables in Markdown (`make stages`).

A daemon is started with a clock at the doors between its parts: methods of a few classes are wrapped before it starts,
which costs a microsecond or two each, and nothing in the daemon knows of it. The client and the function, in
processes of their own, tell the times of the same monotonic clock. Invocations come one after another, so what happens
between the arrivals of two requests belongs to the first.

    python -m perf.stages [options of `lambdad start`]
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import boto3

from installed_runtimes import installed
from lambdad.bench import client, processes
from lambdad.bench.measures import WHOLE_PROCESSOR_MB, Target
from lambdad.domain.runtimes import Language

RUNTIME = "python3.11"
COLD_COUNT = 40
WARM_COUNT = 2000
WARM_UP_COUNT = 200
YARDSTICK_COUNT = 15
MOST_MARKS = 100
"""More than any one invocation makes."""
INSIDE = "--inside"
MARKS_FILE = "marks.json"

FUNCTION = """
import time

def handler(event, context):
    called = time.perf_counter_ns()
    return {"the function's module is imported": IMPORTED, "handler called": called,
            "handler has returned": time.perf_counter_ns()}

IMPORTED = time.perf_counter_ns()
"""

ARRIVES = "request arrives at the daemon"
SENT, RECEIVED = "request sent", "answer received"
BEGIN, END = "begin", "end"
"""Whether the clock is read before a method runs or after."""


@dataclass(frozen=True)
class Door:
    """A method, and what is true when it begins, or has ended."""

    place: str
    method: str
    when: str
    stage: str


DOORS = (
    Door("lambdad.ingress.http:HttpConnection", "data_received", BEGIN, ARRIVES),
    Door("lambdad.ingress.http:HttpConnection", "on_message_complete", BEGIN, "request parsed"),
    Door("lambdad.services.pool:LocalHost", "begin", BEGIN, "function known, admitted"),
    Door("lambdad.services.pool:LocalHost", "invoke", BEGIN, "no environment is free: one is asked for"),
    Door("lambdad.services.launching:Launching", "launch", BEGIN, "launch begins"),
    Door("lambdad.ingress.runtime_api:RuntimeListener", "open", END, "code found, Runtime API listens"),
    Door("lambdad.adapters.sandboxes.warm_pool:WarmPool", "take", END, "sandbox taken"),
    Door("lambdad.adapters.sandboxes.zygotes:ZygoteSandbox", "assign", END, "code and /tmp mounted, variables sent"),
    Door("lambdad.adapters.sandboxes.bubblewrap:BubblewrapSandbox", "assign", END, "code mounted, variables sent"),
    Door("lambdad.adapters.process_sandbox:ProcessDriver", "launch", END, "process started"),
    Door("lambdad.ingress.runtime_api:RuntimeConnection", "connection_made", BEGIN, "runtime connected"),
    Door("lambdad.services.environment:Environment", "next", BEGIN, "runtime asks for an event"),
    Door("lambdad.ingress.runtime_api:RuntimeConnection", "_send_event", END, "event sent"),
    Door("lambdad.services.environment:Environment", "respond", BEGIN, "response arrives at the daemon"),
    Door("lambdad.ingress.http:HttpConnection", "_write", END, "answer written"),
)


def install(marks: list[tuple[int, str]]) -> None:
    """Put a clock at every door that this version of lambdad has. Raises RuntimeError when one has gone."""
    for door in DOORS:
        module, _, name = door.place.partition(":")
        owner = getattr(importlib.import_module(module), name)
        if not hasattr(owner, door.method):
            raise RuntimeError(f"{door.place} has no {door.method}: the table of doors is out of date")
        setattr(owner, door.method, _timed(getattr(owner, door.method), door, marks))


def _timed(method: Callable[..., Any], door: Door, marks: list[tuple[int, str]]) -> Callable[..., Any]:
    clock, stage, at_begin = time.perf_counter_ns, door.stage, door.when == BEGIN

    @functools.wraps(method)
    async def timed_coroutine(*args: Any, **kwargs: Any) -> Any:
        if at_begin:
            marks.append((clock(), stage))
            return await method(*args, **kwargs)
        result = await method(*args, **kwargs)
        marks.append((clock(), stage))
        return result

    @functools.wraps(method)
    def timed(*args: Any, **kwargs: Any) -> Any:
        if at_begin:
            marks.append((clock(), stage))
            return method(*args, **kwargs)
        result = method(*args, **kwargs)
        marks.append((clock(), stage))
        return result

    return timed_coroutine if inspect.iscoroutinefunction(method) else timed


def inside(file: Path, arguments: list[str]) -> None:
    """Be the daemon: `lambdad start` with clocks; what they showed goes into a file at its end."""
    from lambdad.cli.start import command

    marks: list[tuple[int, str]] = []
    install(marks)
    command.main(args=arguments, standalone_mode=False)
    file.write_text(json.dumps(marks))


@dataclass(frozen=True)
class Invocation:
    """When a request was sent and its answer received, and the times that the function told."""

    sent: int
    received: int
    told: dict[str, int]


def invoke(caller: client.Caller, name: str) -> Invocation:
    request = client.post(client.invoke_path(name), b"{}")
    sent = time.perf_counter_ns()
    status, body = caller.call(request)
    received = time.perf_counter_ns()
    assert status == 200, body
    told: dict[str, int] = json.loads(body)
    assert sent < told["handler called"] < received, "the function has another clock"
    return Invocation(sent, received, told)


def stages_of(invocations: Sequence[Invocation], marks: list[tuple[int, str]]) -> list[tuple[str, float, float]]:
    """Each stage with its median time since the request, and since the stage before, in microseconds.

    A stage counts when most invocations have it; its first time within an invocation is taken.
    """
    times: dict[str, list[float]] = {}
    rows: list[dict[str, int]] = []
    for each in invocations:
        found = {SENT: each.sent}
        for at, stage in _marks_after(each.sent, marks):
            found.setdefault(stage, at)
        found.update((stage, at) for stage, at in each.told.items() if at > each.sent)
        found[RECEIVED] = each.received
        rows.append(found)
        for stage, at in found.items():
            times.setdefault(stage, []).append((at - each.sent) / 1000)
    usual = [stage for stage, seen in times.items() if 2 * len(seen) > len(rows)]
    order = sorted(usual, key=lambda stage: median(times[stage]))
    shown = [(order[0], 0.0, 0.0)]
    for before, stage in pairwise(order):
        steps = [(row[stage] - row[before]) / 1000 for row in rows if stage in row and before in row]
        shown.append((stage, median(times[stage]), median(steps)))
    return shown


def _marks_after(sent: int, marks: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """What the clocks showed from a request's arrival to that of the next one: the end may be after the answer."""
    following = marks[bisect_left(marks, (sent, "")) :][:MOST_MARKS]
    arrivals = [index for index, (_, stage) in enumerate(following) if stage == ARRIVES]
    yield from following[arrivals[0] : arrivals[1] if len(arrivals) > 1 else None]


def show(title: str, stages: Sequence[tuple[str, float, float]]) -> None:
    print(f"\n{title}\n\n| stage | at, µs | took, µs |\n|---|---:|---:|")
    for stage, at, took in stages:
        print(f"| {stage} | {at:,.0f} | {took:,.0f} |")


@contextmanager
def measured(place: Path, options: Sequence[str]) -> Iterator[Target]:
    with processes.daemon(place, options, ("-m", "perf.stages", INSIDE, str(place / MARKS_FILE))) as running:
        credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        yield Target(running, boto3.client("lambda", endpoint_url=running.url, **credentials), RUNTIME)


def main(options: list[str]) -> None:
    executable = installed(Language.PYTHON)[RUNTIME].executable
    with tempfile.TemporaryDirectory(prefix="lambdad-stages-") as directory:
        place = Path(directory)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        bare = processes.clean_python(executable, place)
        yardstick_ms = median(processes.run_time_s(bare) for _ in range(YARDSTICK_COUNT)) * 1000
        with measured(place, options) as target, client.Caller(target.daemon.url) as caller:
            health = caller.call(b"GET /_lambdad/health HTTP/1.1\r\nHost: localhost\r\n\r\n")[1]
            cold = []
            for _ in range(COLD_COUNT):
                with target.function(FUNCTION) as name:
                    cold.append(invoke(caller, name))
            with target.function(FUNCTION, memory_mb=WHOLE_PROCESSOR_MB) as name:
                warm = [invoke(caller, name) for _ in range(WARM_UP_COUNT + WARM_COUNT)][WARM_UP_COUNT:]
        marks = sorted((at, stage) for at, stage in json.loads((place / MARKS_FILE).read_text()))
    sandbox = json.loads(health)["sandbox"]["driver"]
    print(f"{RUNTIME}, {sandbox} sandboxes; `python3 -c pass` takes {yardstick_ms:.1f} ms here. Medians.")
    show(f"A cold start, the first invocations of {COLD_COUNT} functions:", stages_of(cold, marks))
    show(f"A warm invocation, of {WARM_COUNT:,}:", stages_of(warm, marks))


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        inside(Path(sys.argv[2]), sys.argv[3:])
    else:
        main(sys.argv[1:])

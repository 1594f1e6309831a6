"""The measures behind each promise, over the public HTTP API of a daemon that runs."""

from __future__ import annotations

import io
import json
import os
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from lambdad.adapters.process_tree import children, descendants
from lambdad.bench import client
from lambdad.bench.bars import Samples
from lambdad.bench.processes import BenchFailed, RunningDaemon, pid_namespace, pss_bytes, run_time_s

ROLE: Final = "arn:aws:iam::000000000000:role/lambda-role"
WHOLE_PROCESSOR_MB: Final = 1769
"""The memory that goes with one processor; with less, a function is given that part of one."""
EVENT: Final = b'{"key":"value"}'
SIX_MEGABYTES: Final = json.dumps("x" * (6 * 1024 * 1024 - 100)).encode()
WARM_UP_S: Final = 1.0
BURST_TIMEOUT_S: Final = 60
IDLE_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.02
_BLOCK: Final = 5
_OK: Final = 200

PYTHON_ECHO: Final = "def handler(event, context):\n    return event\n"
NODE_ECHO: Final = "exports.handler = async (event) => event;\n"
PYTHON_TELLER: Final = (
    "import os\nimport time\n\n\ndef handler(event, context):\n    time.sleep(1)\n"
    "    return os.readlink('/proc/self/ns/pid'), os.getpid()\n"
)
PYTHON_SLEEPER: Final = "import time\n\n\ndef handler(event, context):\n    time.sleep(1)\n    return 1\n"


@dataclass(frozen=True, slots=True)
class Target:
    """A daemon, a botocore client of its Lambda API, and the Python that functions are made for."""

    daemon: RunningDaemon
    api: Any
    python: str

    def create(self, source: str, runtime: str = "", memory_mb: int = 128, timeout_s: int = BURST_TIMEOUT_S) -> str:
        """Create a function with a name of its own, whose handler is `app.handler`."""
        runtime = runtime or self.python
        name = f"bench-{uuid.uuid4().hex[:12]}"
        self.api.create_function(
            FunctionName=name,
            Runtime=runtime,
            Role=ROLE,
            Handler="app.handler",
            Code={"ZipFile": _package("app.py" if runtime.startswith("python") else "app.js", source)},
            MemorySize=memory_mb,
            Timeout=timeout_s,
        )
        return name

    @contextmanager
    def function(self, source: str, runtime: str = "", memory_mb: int = 128) -> Iterator[str]:
        """A function for the time of a block."""
        name = self.create(source, runtime, memory_mb)
        try:
            yield name
        finally:
            self.api.delete_function(FunctionName=name)


def _package(file: str, source: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(file, source)
    return packed.getvalue()


def cold_invokes(target: Target, runtime: str, yardstick: Sequence[str], count: int) -> Samples:
    """First invocations of fresh functions, one after another, over a connection that is open; and a bare interpreter.

    They are taken in short blocks by turns, so that a change of the machine's mood meets both.
    """
    source = PYTHON_ECHO if runtime.startswith("python") else NODE_ECHO
    ours: list[float] = []
    bare: list[float] = []
    with client.Caller(target.daemon.url) as caller:
        while len(ours) < count:
            bare += [run_time_s(yardstick) for _ in range(_BLOCK)]
            ours += [_cold(target, caller, source, runtime) for _ in range(min(_BLOCK, count - len(ours)))]
    return Samples(ours, bare)


def _cold(target: Target, caller: client.Caller, source: str, runtime: str) -> float:
    with target.function(source, runtime) as name:
        request = client.post(client.invoke_path(name), EVENT)
        began = time.perf_counter()
        status, body = caller.call(request)
        taken = time.perf_counter() - began
    _expect(status, body, json.loads(body) == json.loads(EVENT))
    return taken


def create_and_invoke(target: Target, yardstick: Sequence[str], count: int) -> Samples:
    """CreateFunction and the first Invoke through boto3; and a bare interpreter, to know the machine by."""
    ours: list[float] = []
    bare: list[float] = []
    while len(ours) < count:
        began = time.perf_counter()
        name = target.create(PYTHON_ECHO)
        answer = target.api.invoke(FunctionName=name, Payload=EVENT)
        body = answer["Payload"].read()
        ours.append(time.perf_counter() - began)
        _expect(answer["StatusCode"], body, json.loads(body) == json.loads(EVENT))
        bare.append(run_time_s(yardstick))
        target.api.delete_function(FunctionName=name)
    return Samples(ours, bare)


def loads(
    target: Target, echo_url: str, clients: int, seconds: float, rounds: int, run: Callable[..., client.Load]
) -> tuple[Samples, Samples]:
    """Requests a second, and median latencies in seconds, of a warm function and of an echo server by turns.

    `run(url, body, clients, seconds)` is what loads them.
    """
    with target.function(PYTHON_ECHO, memory_mb=WHOLE_PROCESSOR_MB) as name:
        ours_url, yardstick_url = (f"{url}{client.invoke_path(name)}" for url in (target.daemon.url, echo_url))
        run(ours_url, EVENT, clients, WARM_UP_S)
        ours: list[client.Load] = []
        echo: list[client.Load] = []
        for _ in range(rounds):
            ours.append(run(ours_url, EVENT, clients, seconds))
            echo.append(run(yardstick_url, EVENT, clients, seconds))
    rates = Samples([each.requests_per_s for each in ours], [each.requests_per_s for each in echo])
    latencies = Samples([each.p50_s for each in ours], [each.p50_s for each in echo])
    return rates, latencies


def own_load(url: str, body: bytes, clients: int, seconds: float) -> client.Load:
    """A load from this process, with `lambdad.bench.client`."""
    return client.load(url, client.post(client.path_of(url), body), clients, seconds)


def six_megabytes(target: Target, echo_url: str, count: int) -> Samples:
    """The largest event there is, to a function that returns it, and to an echo server."""
    with target.function(PYTHON_ECHO, memory_mb=WHOLE_PROCESSOR_MB) as name:
        request = client.post(client.invoke_path(name), SIX_MEGABYTES)
        ours: list[float] = []
        echo: list[float] = []
        for _ in range(count + 1):
            for url, times in ((target.daemon.url, ours), (echo_url, echo)):
                times.append(_round_trip(url, request))
    return Samples(ours[1:], echo[1:])  # the first is for starting the environment


def _round_trip(url: str, request: bytes) -> float:
    with client.Caller(url) as caller:
        began = time.perf_counter()
        status, body = caller.call(request)
        taken = time.perf_counter() - began
    _expect(status, body, len(body) == len(SIX_MEGABYTES))
    return taken


def burst(target: Target, count: int) -> client.Burst:
    """So many invocations at once of a function that sleeps a second, with no environment there before."""
    with target.function(PYTHON_SLEEPER) as name:
        return client.burst(target.daemon.url, client.post(client.invoke_path(name), b"{}"), count)


@dataclass(frozen=True, slots=True)
class IdleMemory:
    """Proportional set sizes: of one idle environment with all its processes, and of what else the daemon has started.

    That is launchers, zygotes, and sandboxes that were made ahead.
    """

    per_environment_bytes: float
    beside_bytes: int
    environments: int


def idle_memory(target: Target, environments: int) -> IdleMemory | None:
    """What environments hold that have answered once and wait; None where this user may not know it."""
    with target.function(PYTHON_TELLER) as name, ThreadPoolExecutor(environments) as clients:
        # Fewer, where a start takes so long that an environment is free again for somebody who still waits.
        told = set(clients.map(lambda _: _told(target, name), range(environments)))
        _await_idle(target, len(told))
        started = descendants(target.daemon.pid)
        spaces = {space for space, _ in told}
        if pid_namespace(os.getpid()) in spaces:
            ours = {found for _, pid in told for found in (pid, *descendants(pid))}
        else:
            ours = _with_keepers({pid for pid in started if pid_namespace(pid) in spaces}, target.daemon.pid)
        held = pss_bytes(ours)
        beside = pss_bytes(pid for pid in started if pid not in ours)
    return IdleMemory(held / len(told), beside, len(told)) if held else None


def _told(target: Target, name: str) -> tuple[str, int]:
    """An environment's process namespace, and the number of its process there."""
    with client.Caller(target.daemon.url) as caller:
        status, body = caller.call(client.post(client.invoke_path(name), b"{}"))
    _expect(status, body, status == _OK)
    space, pid = json.loads(body)
    return space, pid


def _with_keepers(pids: set[int], top: int) -> set[int]:
    """With those outside a sandbox that are there for it alone: whose children all belong to sandboxes of the set."""
    found = set(pids)
    parents = {child: pid for pid in (top, *descendants(top)) for child in children(pid)}
    for pid in pids:
        parent = parents.get(pid, top)
        while parent not in found and parent != top and len(list(children(parent))) == 1:
            found.add(parent)
            parent = parents.get(parent, top)
    return found


def _await_idle(target: Target, environments: int) -> None:
    """Wait until so many environments are there and none is busy. Raises BenchFailed when that takes long."""
    deadline = time.monotonic() + IDLE_TIMEOUT_S
    with client.Caller(target.daemon.url) as caller:
        while True:
            _, body = caller.call(b"GET /_lambdad/info HTTP/1.1\r\nHost: localhost\r\n\r\n")
            host = json.loads(body)["host"]
            if host["busy"] == 0 and host["environments"] >= environments:
                return
            if time.monotonic() > deadline:
                raise BenchFailed(f"of {environments} environments {host['environments']} are there")
            time.sleep(_POLL_S)


def _expect(status: int, body: bytes, is_right: bool) -> None:
    if status != _OK or not is_right:
        raise BenchFailed(f"an invocation failed: HTTP {status}: {body[:300]!r}")

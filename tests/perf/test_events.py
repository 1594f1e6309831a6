"""The numbers of SPECIFICATION.md for asynchronous invocations. Each test is named there beside its promise."""

from __future__ import annotations

import asyncio
import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlencode, urlsplit

from daemons import Daemon, create_python
from faults.wire import get
from lambdad.adapters.sqlite_events import SqliteEventStore
from lambdad.bench import client
from lambdad.bench.measures import EVENT, PYTHON_ECHO, WARM_UP_S, WHOLE_PROCESSOR_MB
from lambdad.domain.events import Event
from lambdad.ports.events import Changes
from perf.load import wrk
from queued_events import PATIENCE_S, awaited

Report = Callable[[str], None]

AS_EVENT = {"X-Amz-Invocation-Type": "Event"}
CLIENTS = 16
ACCEPT_BAR_PER_S = 2_000
LEAST_ACCEPT_RATIO = 0.15
RATE_SECONDS = 3
RATE_ROUNDS = 3

EVENTS = 1_000
DONE_BAR_S = 2.0
DONE_BOUND = 4.0
"""The wait for the last of 1,000 events, in multiples of the time in which as many were run synchronously."""

BACKLOG = 200_000
BACKLOG_BAR = 1.2
BACKLOG_BOUND = 1.5
"""What others' events may take beside a long queue, in multiples of what they take alone; noise is in it."""
BACKLOG_ROUNDS = 5

LONG_BACKLOG = 1_000_000
START_BAR_S = 2.0
START_BOUND = 3.0
GROWTH_BOUND_MB = 24
START_ROUNDS = 3
BATCH = 1_000

SLOW = "import time\n\n\ndef handler(event, context):\n    time.sleep(2)\n"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:{}"


def test_accepting(daemon_of_module: Daemon, tmp_path: Path, report: Report) -> None:
    api = daemon_of_module.client("lambda")
    create_python(api, "accepting", PYTHON_ECHO, MemorySize=WHOLE_PROCESSOR_MB)
    url = daemon_of_module.url + client.invoke_path("accepting")
    as_event, as_call = wrk(tmp_path, AS_EVENT), wrk(tmp_path)
    as_call(url, EVENT, CLIENTS, WARM_UP_S)
    accepted, answered = [], []
    for _ in range(RATE_ROUNDS):
        answered.append(as_call(url, EVENT, CLIENTS, RATE_SECONDS).requests_per_s)
        accepted.append(as_event(url, EVENT, CLIENTS, RATE_SECONDS).requests_per_s)
        awaited(lambda: not pending(daemon_of_module, "accepting"))
    ratio = median(accepted) / median(answered)
    report(
        f"accepting, {CLIENTS} clients: {median(accepted):.0f} events/s (bar {ACCEPT_BAR_PER_S}/s) = {ratio:.2f} x the "
        f"{median(answered):.0f} synchronous invocations/s"
    )
    assert ratio >= LEAST_ACCEPT_RATIO


def test_a_thousand_events(daemon_of_module: Daemon, report: Report) -> None:
    api = daemon_of_module.client("lambda")
    create_python(api, "thousand", PYTHON_ECHO)
    synchronous_s = sending_s(daemon_of_module, "thousand", EVENTS, {})
    create_python(api, "cold-thousand", PYTHON_ECHO)
    accepting_s = sending_s(daemon_of_module, "cold-thousand", EVENTS, AS_EVENT)
    began = time.perf_counter()
    awaited(lambda: not pending(daemon_of_module, "cold-thousand"))
    done_s = time.perf_counter() - began
    report(
        f"{EVENTS} events: accepted in {accepting_s:.2f} s, all done {done_s:.2f} s after the last "
        f"(bar {DONE_BAR_S} s); as many synchronous invocations: {synchronous_s:.2f} s"
    )
    assert figures(daemon_of_module, "cold-thousand")["ended"] == EVENTS
    assert done_s <= DONE_BOUND * synchronous_s


def test_beside_a_long_queue(tmp_path: Path, report: Report) -> None:
    """The events of another function, while 200,000 wait for one that is throttled."""
    data_dir = tmp_path / "data"
    alone: list[float] = []
    beside: list[float] = []
    with Daemon(data_dir) as daemon:
        api = daemon.client("lambda")
        create_python(api, "throttled", SLOW)
        api.put_function_concurrency(FunctionName="throttled", ReservedConcurrentExecutions=1)
        create_python(api, "other", PYTHON_ECHO)
        alone += [done_s(daemon, "other") for _ in range(BACKLOG_ROUNDS)]
    fill(data_dir, "throttled", BACKLOG)
    with Daemon(data_dir) as daemon:
        awaited(lambda: figures(daemon, "throttled")["running"])
        beside += [done_s(daemon, "other") for _ in range(BACKLOG_ROUNDS)]
        left = figures(daemon, "throttled")
        assert left["waiting"] + left["leased"] > BACKLOG - 100
    ratio = min(beside) / min(alone)
    report(
        f"{EVENTS} events beside a queue of {BACKLOG:,}: {min(beside):.2f} s = {ratio:.2f} x alone "
        f"(bar {BACKLOG_BAR} x)"
    )
    assert ratio <= BACKLOG_BOUND


def test_start_and_memory_with_a_long_queue(tmp_path: Path, report: Report, is_long: bool) -> None:
    count = LONG_BACKLOG if is_long else BACKLOG
    data_dir = tmp_path / "data"
    with Daemon(data_dir) as daemon:
        create_python(daemon.client("lambda"), "throttled", SLOW)
        daemon.client("lambda").put_function_concurrency(FunctionName="throttled", ReservedConcurrentExecutions=1)
    empty = [started(data_dir, "") for _ in range(START_ROUNDS)]
    fill(data_dir, "throttled", count)
    full = [started(data_dir, "throttled") for _ in range(START_ROUNDS)]
    empty_s, full_s = (median(each.seconds for each in starts) for starts in (empty, full))
    growth_mb = median(each.rss_mb for each in full) - median(each.rss_mb for each in empty)
    report(
        f"start with {count:,} events waiting: {full_s:.2f} s (bar {START_BAR_S} s) = {full_s / empty_s:.2f} x "
        f"with none; {growth_mb:.0f} MB more memory"
    )
    assert full_s <= START_BOUND * empty_s
    assert growth_mb <= GROWTH_BOUND_MB


def figures(daemon: Daemon, name: str) -> dict[str, int]:
    """What the daemon says of the events of a function; nothing before there are any."""
    found = get(daemon, f"/_lambdad/events?{urlencode({'function': name})}").json["functions"]
    return dict(found[0]) if found else dict.fromkeys(("waiting", "retrying", "leased", "running", "ended"), 0)


def pending(daemon: Daemon, name: str) -> int:
    """How many events of a function have not ended."""
    found = figures(daemon, name)
    return int(found["waiting"] + found["retrying"] + found["leased"])


def done_s(daemon: Daemon, name: str) -> float:
    """The seconds in which 1,000 events are accepted and run."""
    began = time.perf_counter()
    sending_s(daemon, name, EVENTS, AS_EVENT)
    awaited(lambda: not pending(daemon, name))
    return time.perf_counter() - began


def sending_s(daemon: Daemon, name: str, count: int, headers: dict[str, str]) -> float:
    """The seconds in which 16 clients have sent so many invocations."""
    address = urlsplit(daemon.url).netloc
    failures: list[int] = []

    def send(share: int) -> None:
        connection = http.client.HTTPConnection(address)
        for _ in range(share):
            connection.request("POST", client.invoke_path(name), EVENT, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status not in (200, 202):
                failures.append(answer.status)
        connection.close()

    shares = [count // CLIENTS + (number < count % CLIENTS) for number in range(CLIENTS)]
    threads = [threading.Thread(target=send, args=(share,)) for share in shares]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    taken = time.perf_counter() - began
    assert not failures
    return taken


def fill(data_dir: Path, name: str, count: int) -> None:
    """Have so many events wait for a function, as a daemon that has died would leave them."""

    async def accept() -> None:
        store = SqliteEventStore(data_dir / "events.db")
        now_ms = int(time.time() * 1000)
        for first in range(0, count, BATCH):
            events = [
                Event(0, ARN.format(name), f"queued-{first + number}", b'{"key": "value"}', now_ms, now_ms)
                for number in range(BATCH)
            ]
            await store.apply(Changes(accepted=events))
        await store.close()

    asyncio.run(accept())


@dataclass(frozen=True)
class Start:
    seconds: float
    rss_mb: float


def started(data_dir: Path, running: str) -> Start:
    """How long a start takes until the API answers, and the memory once a function's events run."""
    with measured_start(data_dir) as (daemon, seconds):
        daemon.client("lambda").list_functions()
        if running:
            awaited(lambda: figures(daemon, running)["running"])
        assert daemon.process is not None
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return Start(seconds, int(found[1]) / 1024)


@contextmanager
def measured_start(data_dir: Path) -> Iterator[tuple[Daemon, float]]:
    daemon = Daemon(data_dir)
    began = time.perf_counter()
    with daemon:
        yield daemon, time.perf_counter() - began

"""`kill -9` and SIGTERM while events are taken in and run: each accepted one runs and comes to exactly one end."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from daemons import Daemon
from faults.calm import assert_calm
from faults.events import Ending, Sender, await_idle, endings, queued, taken_up, total, unfinished
from faults.processes import eventually
from faults.recorder import Recorder, Run

SEED = 4
CLIENTS = 8
CYCLES = 8
EVENTS_A_CYCLE = 34
"""At least, on average: 300 cycles take in 10,000."""
LIVES_S = (0.1, 1.2)
DRAINED_S = 400.0
FUNCTIONS = ("steady", "flaky", "slow")
SENT_TO = (*("steady", "flaky") * 4, "slow")
"""In turn: as many as can about be run while as many are taken in."""
ATTEMPTS = 3
OPTIONS = ("--retry-delay-scale", "0.001", "--event-history", "1000000")


@dataclass
class Sent:
    """What one client has sent, over all lives of the daemon."""

    number: int
    ids: set[str] = field(default_factory=set)
    accepted: dict[str, str] = field(default_factory=dict)
    """Request ids, with the id of the event that each was answered to."""
    wrong: list[str] = field(default_factory=list)

    def send_until_it_dies(self, daemon: Daemon) -> None:
        """Send events without pause until the daemon is gone."""
        with Sender(daemon) as sender:
            for function in itertools.cycle(SENT_TO):
                name = f"{self.number}-{len(self.ids)}"
                self.ids.add(name)
                try:
                    answer = sender.send(function, json.dumps({"id": name}).encode())
                except (OSError, http.client.HTTPException):
                    return
                if answer.status != 202:
                    self.wrong.append(f"{answer.status} {answer.body!r}")
                    return
                self.accepted[answer.headers["x-amzn-requestid"]] = name


@dataclass
class Figures:
    """What a storm came to. `repeated` ran successfully twice, `taken_up` were in flight at a kill."""

    accepted: int = 0
    runs: int = 0
    repeated: int = 0
    taken_up: int = 0
    dead: int = 0
    longest_start_s: float = 0.0
    drained_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.accepted:,} events accepted, {self.runs:,} runs; {self.dead:,} events exhausted their retries;"
            f" {self.repeated:,} ran successfully twice, of {self.taken_up:,} that daemons took up again after a kill;"
            f" the longest restart took {self.longest_start_s:.2f} s; {self.drained_s:.1f} s after the last start"
            " everything had ended"
        )


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Print figures; past pytest when they were asked for."""

    def show(line: str) -> None:
        if pytestconfig.getoption("--cycles", default=None):
            with capsys.disabled():
                print(f"\n{line}")
        else:
            print(line)

    return show


def test_no_event_is_lost_however_often_the_daemon_is_killed(
    tmp_path: Path, recorder: Recorder, pytestconfig: pytest.Config, report: Callable[[str], None]
) -> None:
    cycles = pytestconfig.getoption("--cycles", default=None) or CYCLES
    daemon = Daemon(tmp_path / "data", OPTIONS)
    clients = [Sent(number) for number in range(CLIENTS)]
    found: list[int] = []
    figures = Figures()
    try:
        storm(daemon, recorder, clients, cycles, found, figures)
        began = time.monotonic()
        restart(daemon, found, figures)
        await_idle(daemon, DRAINED_S)
        figures.drained_s = time.monotonic() - began
        assert_calm(daemon)
    finally:
        daemon.stop()
    assert [wrong for client in clients for wrong in client.wrong] == []
    ended = endings(daemon.data_dir)
    assert queued(daemon.data_dir) == []
    check(clients, recorder, ended)
    repeated = repeated_by_life(recorder)
    figures.repeated = repeated.total()
    figures.accepted = sum(len(client.accepted) for client in clients)
    figures.runs = len(recorder.runs)
    figures.taken_up = sum(found)
    figures.dead = sum(ending.condition == "RetriesExhausted" for ending in ended)
    report(f"{cycles} kills: {figures}")
    # What ran in one life and again in a later one is among what the next daemon found in flight.
    assert [life for life, count in repeated.items() if count > found[life]] == []
    assert figures.accepted >= cycles * EVENTS_A_CYCLE


def storm(
    daemon: Daemon, recorder: Recorder, clients: list[Sent], cycles: int, found: list[int], figures: Figures
) -> None:
    """Kill the daemon over and over again while it takes in events and runs them."""
    chance = random.Random(SEED)
    with ThreadPoolExecutor(CLIENTS) as threads:
        for cycle in range(cycles):
            restart(daemon, found, figures)
            if cycle == 0:
                for function in FUNCTIONS:
                    recorder.create(daemon.client("lambda"), function, function)
            sending = [threads.submit(client.send_until_it_dies, daemon) for client in clients]
            time.sleep(chance.uniform(*LIVES_S))
            daemon.kill()
            for future in sending:
                future.result()
            recorder.next_life()


def restart(daemon: Daemon, found: list[int], figures: Figures) -> None:
    """Start the daemon, and note how many events it has found in flight."""
    said = len(daemon.stderr()) if daemon.process is not None else 0
    began = time.monotonic()
    daemon.start()
    figures.longest_start_s = max(figures.longest_start_s, time.monotonic() - began)
    found.append(taken_up(daemon.stderr()[said:]))


def check(clients: list[Sent], recorder: Recorder, ended: list[Ending]) -> None:
    """Every event that was accepted has run and has one ending, which says what its runs say."""
    by_request: dict[str, list[Run]] = {}
    for run in recorder.runs:
        by_request.setdefault(run.request_id, []).append(run)
    accepted = {request_id: name for client in clients for request_id, name in client.accepted.items()}
    sent = {name for client in clients for name in client.ids}

    assert accepted.keys() - by_request.keys() == set(), "accepted, and never ran"
    assert {name for runs in by_request.values() for name in {run.id for run in runs}} <= sent
    assert [name for request_id, name in accepted.items() if by_request[request_id][0].id != name] == []
    assert [runs for runs in by_request.values() if len({run.id for run in runs}) > 1] == []
    counts = Counter(ending.request_id for ending in ended)
    assert [request_id for request_id, count in counts.items() if count > 1] == [], "more than one ending"
    assert counts.keys() == by_request.keys(), "ran without an ending, or ended without a run"
    found = [(ending, by_request[ending.request_id]) for ending in ended]
    assert [(ending, runs) for ending, runs in found if not is_consistent(ending, runs)] == []


def is_consistent(ending: Ending, runs: list[Run]) -> bool:
    """Whether an ending follows from its runs. A run that a kill has cut off from its outcome does not count."""
    uncounted = len({run.life for run in runs}) - 1
    if not ending.invocations <= len(runs) <= ending.invocations + uncounted or ending.invocations > ATTEMPTS:
        return False
    last = runs[-1].ends
    if ending.condition == "Success":
        return last == "success"
    exhausted = ending.condition == "RetriesExhausted" and ending.invocations == ATTEMPTS
    return exhausted and last == "error" and runs[-1].function == "flaky"


def repeated_by_life(recorder: Recorder) -> Counter[int]:
    """How many events ran successfully in each life and again in a later one."""
    repeated: Counter[int] = Counter()
    for runs in recorder.by_id().values():
        lives = [run.life for run in runs if run.ends == "success"]
        assert len(set(lives)) == len(lives), "ran twice in one life"
        repeated.update(lives[:-1])
    return repeated


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    started: list[Daemon] = []

    def start_one(*options: str) -> Daemon:
        started.append(Daemon(tmp_path / f"data{len(started)}", options).start())
        return started[-1]

    yield start_one
    for daemon in started:
        daemon.stop()


def crash(daemon: Daemon, recorder: Recorder) -> None:
    daemon.kill()
    recorder.next_life()
    daemon.start()


def test_a_record_on_its_way_to_a_destination_arrives_after_a_crash(start, recorder):
    daemon = start(*OPTIONS)
    client = daemon.client("lambda")
    recorder.create(client, "source", "steady")
    recorder.create(client, "target", "told")
    client.put_function_concurrency(FunctionName="target", ReservedConcurrentExecutions=1)
    destination = client.get_function(FunctionName="target")["Configuration"]["FunctionArn"]
    client.put_function_event_invoke_config(
        FunctionName="source", DestinationConfig={"OnSuccess": {"Destination": destination}}
    )
    recorder.hold("target")
    with Sender(daemon) as sender:
        accepted = {sender.accepted("source", {"id": number}) for number in range(3)}
    assert len({run.request_id for run in recorder.await_runs("source", 3)}) == 3
    recorder.await_runs("target", 1)  # one is being told of, the others wait for their turn
    assert eventually(lambda: [lane["lane"] for lane in unfinished(daemon)] == [destination])
    assert total(daemon, "waiting") + total(daemon, "leased") == 3

    crash(daemon, recorder)
    await_idle(daemon)
    assert {run.id for run in recorder.of("target", 2)} == accepted
    assert len(recorder.of("target", 2)) == 3
    assert recorder.of("source", 2) == []
    assert [ending.condition for ending in endings(daemon.data_dir)] == ["Success"] * 6
    assert_calm(daemon)


def test_a_retry_that_waits_comes_after_a_crash_with_its_attempts_counted_on(start, recorder):
    wait_s = 60 * 0.02
    daemon = start("--retry-delay-scale", "0.02")
    recorder.create(daemon.client("lambda"), "failing", "failing")
    with Sender(daemon) as sender:
        request_id = sender.accepted("failing", {"id": "one"})
    recorder.await_runs("failing", 1)
    ran = time.monotonic()
    assert eventually(lambda: total(daemon, "retrying") == 1)

    crash(daemon, recorder)
    assert taken_up(daemon.stderr()) == 0, "it was not in flight"
    recorder.await_runs("failing", 1)
    assert time.monotonic() - ran > wait_s * 0.9
    await_idle(daemon)
    assert {run.request_id for run in recorder.runs} == {request_id}
    assert [run.life for run in recorder.runs] == [1, 2, 2]
    assert endings(daemon.data_dir) == [Ending(request_id, "Invocation", "RetriesExhausted", 3)]
    assert_calm(daemon)


def test_what_a_crash_has_cut_off_runs_again_under_the_same_request_id_without_losing_an_attempt(start, recorder):
    daemon = start(*OPTIONS)
    recorder.create(daemon.client("lambda"), "failing", "failing")
    recorder.hold("failing")
    with Sender(daemon) as sender:
        request_id = sender.accepted("failing", {"id": "one"})
    recorder.await_runs("failing", 1)

    crash(daemon, recorder)
    assert taken_up(daemon.stderr()) == 1
    await_idle(daemon)
    assert [run.life for run in recorder.runs] == [1, 2, 2, 2]
    assert endings(daemon.data_dir) == [Ending(request_id, "Invocation", "RetriesExhausted", 3)]
    assert {run.request_id for run in recorder.runs} == {request_id}


def test_what_finishes_while_the_daemon_stops_counts_and_the_rest_runs_again(start, recorder):
    daemon = start(*OPTIONS, "--drain-timeout", "2")
    client = daemon.client("lambda")
    for name, handler in {"short": "steady", "fails": "failing", "long": "failing", "queue": "steady"}.items():
        recorder.create(client, name, handler)
        recorder.hold(name)
    client.put_function_concurrency(FunctionName="queue", ReservedConcurrentExecutions=1)
    with Sender(daemon) as sender:
        ids = {name: sender.accepted(name, {"id": name}) for name in ("short", "fails", "long", "queue")}
        second = sender.accepted("queue", {"id": "second"})
    for name in ids:
        recorder.await_runs(name, 1)

    stopping = threading.Thread(target=daemon.stop)
    stopping.start()
    assert eventually(lambda: " stopping\n" in daemon.stderr())
    recorder.release("short", "fails", "queue")
    stopping.join()
    recorder.next_life()
    ended = [Ending(ids[name], "Invocation", "Success", 1) for name in ("short", "queue")]
    assert endings(daemon.data_dir) == ended
    assert sorted(queued(daemon.data_dir)) == sorted([ids["fails"], ids["long"], second])

    daemon.start()
    assert taken_up(daemon.stderr()) >= 1
    await_idle(daemon)
    assert recorder.of("short", 2) == []
    assert Counter(run.function for run in recorder.runs) == {"short": 1, "fails": 3, "long": 4, "queue": 2}
    assert {run.request_id for run in recorder.of("long")} == {ids["long"]}
    after = {ending.request_id: (ending.condition, ending.invocations) for ending in endings(daemon.data_dir)}
    assert after == {
        ids["short"]: ("Success", 1),
        ids["fails"]: ("RetriesExhausted", 3),
        ids["long"]: ("RetriesExhausted", 3),
        ids["queue"]: ("Success", 1),
        second: ("Success", 1),
    }
    assert_calm(daemon)

"""Events on a disk that is full: what does not fit is refused whole, what was accepted runs and has its outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons import Daemon
from faults.calm import assert_calm
from faults.disks import DISK_MB, EXPECTED, fill
from faults.events import Ending, Sender, await_idle, endings, queued, taken_up
from faults.processes import eventually
from faults.recorder import Recorder

FILLER = "x" * 200_000
REFUSED_IN_A_ROW = 5
EVENTS = 20
TROUBLE = (*EXPECTED, r"outcomes of \d+ events cannot be written yet", r"events of \S+ cannot be read yet")


@pytest.fixture
def daemon(disk: Path) -> Iterator[Daemon]:
    own = Daemon(disk, ("--drain-timeout", "1", "--retry-delay-scale", "0.001"))
    yield own.start()
    own.stop()


def send_until_refused(sender: Sender, function: str, name: str) -> tuple[dict[str, str], set[str]]:
    """Send events until several in a row were refused; the accepted ones by request id, and the refused ones."""
    accepted: dict[str, str] = {}
    refused: set[str] = set()
    in_a_row = 0
    while in_a_row < REFUSED_IN_A_ROW:
        assert len(accepted) * len(FILLER) < DISK_MB << 20, "more was accepted than the disk holds"
        event = f"{name}-{len(accepted) + len(refused)}"
        answer = sender.send(function, b'{"id": "%b", "filler": "%b"}' % (event.encode(), FILLER.encode()))
        if answer.status == 202:
            accepted[answer.headers["x-amzn-requestid"]] = event
            in_a_row = 0
            continue
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (500, "ServiceException"), answer
        assert b"Traceback" not in answer.body
        refused.add(event)
        in_a_row += 1
    return accepted, refused


def each_ran_once(recorder: Recorder, accepted: dict[str, str]) -> bool:
    return Counter((run.request_id, run.id) for run in recorder.runs) == Counter(accepted.items())


def test_a_full_disk_refuses_events_whole_and_those_that_were_accepted_have_their_outcome(daemon, disk, recorder):
    recorder.create(daemon.client("lambda"), "kept", "steady")
    recorder.hold("kept")
    with Sender(daemon) as sender:
        accepted = {sender.accepted("kept", {"id": f"before-{n}"}): f"before-{n}" for n in range(EVENTS)}
        filler = fill(disk)
        late, refused = send_until_refused(sender, "kept", "full")
        accepted |= late
        there = sorted([*queued(disk), *(ending.request_id for ending in endings(disk))])
        assert there == sorted(accepted), "what was refused has no row"

        recorder.release()
        assert eventually(lambda: {run.id for run in recorder.runs} == set(accepted.values()))
        filler.unlink()
        await_idle(daemon)
        after = sender.accepted("kept", {"id": "after"})
        accepted[after] = "after"
    await_idle(daemon)
    assert each_ran_once(recorder, accepted)
    assert not refused & {run.id for run in recorder.runs}
    assert sorted(endings(disk)) == sorted(Ending(request_id, "Invocation", "Success", 1) for request_id in accepted)
    assert queued(disk) == []
    assert_calm(daemon, *TROUBLE)


@pytest.fixture
def pending(daemon: Daemon, disk: Path, recorder: Recorder) -> dict[str, str]:
    """Events of a function whose outcomes, with the records that go to its destination, found no room on the disk."""
    client = daemon.client("lambda")
    recorder.create(client, "target", "told")
    recorder.create(client, "source", "steady")
    arn = client.get_function(FunctionName="target")["Configuration"]["FunctionArn"]
    client.put_function_event_invoke_config(
        FunctionName="source", DestinationConfig={"OnSuccess": {"Destination": arn}}
    )
    recorder.hold("source")
    with Sender(daemon) as sender:
        first = {
            sender.accepted("source", {"id": f"first-{n}", "filler": FILLER[:100_000]}): f"first-{n}"
            for n in range(EVENTS)
        }
        fill(disk)
        late, _ = send_until_refused(sender, "source", "late")
    recorder.release()
    accepted = first | late
    assert eventually(lambda: {run.id for run in recorder.of("source")} == set(accepted.values()))
    assert eventually(lambda: "events cannot be written yet" in daemon.stderr())
    return accepted


def test_an_outcome_waits_for_room_on_the_disk(daemon, disk, recorder, pending):
    (disk / "filler").unlink()
    await_idle(daemon)
    assert each_ran_once(recorder, pending | {run.request_id: run.id for run in recorder.of("target")})
    assert {run.id for run in recorder.of("target")} == set(pending)
    assert len(recorder.of("target")) == len(pending)
    assert [(ending.condition, ending.invocations) for ending in endings(disk)] == [("Success", 1)] * 2 * len(pending)
    assert_calm(daemon, *TROUBLE)


def test_an_outcome_that_found_no_room_before_a_crash_is_that_of_another_run(daemon, disk, recorder, pending):
    daemon.kill()
    ended = {ending.request_id for ending in endings(disk)} & set(pending)
    recorder.next_life()
    (disk / "filler").unlink()
    daemon.start()
    assert taken_up(daemon.stderr()) > 0
    await_idle(daemon)
    assert {run.request_id for run in recorder.of("source", 2)} == set(pending) - ended
    assert {run.id for run in recorder.of("target")} == set(pending)
    counts = Counter(ending.request_id for ending in endings(disk))
    assert set(counts.values()) == {1}
    assert set(pending) <= set(counts)
    assert_calm(daemon, *TROUBLE)


def test_a_full_disk_does_not_keep_a_daemon_with_outcomes_to_write_from_stopping(daemon, disk, recorder, pending):
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.stderr()
    recorder.next_life()
    (disk / "filler").unlink()
    daemon.start()
    await_idle(daemon)
    assert {run.id for run in recorder.of("target")} == set(pending)
    assert_calm(daemon, *TROUBLE, "outcomes of events cannot be written; they will run again")

"""Asynchronous invocations that are too large, make no sense, or whose sender goes away: all of it or nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons import Daemon
from faults.calm import assert_calm
from faults.events import INVOKE, Sender, await_idle, endings, queued, unfinished
from faults.processes import eventually
from faults.recorder import Recorder
from faults.wire import Answer, Connection, get

LIMIT_BYTES = 256 * 1024
RAISED_KB = 1024
HANG_UPS = 60
PARTS = 40

NONSENSE = {
    "single quotes": b"{'single': 1}",
    "cut off": b'{"id": "cut',
    "two values": b"1 2",
    "blank": b"   ",
    "not UTF-8": b'"\xff"',
    "a lone surrogate's bytes": b'"\xed\xa0\x80"',
    "NaN": b"NaN",
    "deep and open": b"[" * 200_000,
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Calm at the end, with nothing of what was refused in the queue or among the endings."""
    with Daemon(tmp_path / "data") as own:
        yield own
        assert_calm(own)


def sized(size_bytes: int, name: str) -> bytes:
    """An event of exactly so many bytes."""
    empty = json.dumps({"id": name, "filler": ""})
    return json.dumps({"id": name, "filler": "x" * (size_bytes - len(empty))}).encode()


def error(answer: Answer) -> tuple[int, str, str]:
    return answer.status, answer.headers["x-amzn-errortype"], answer.json.get("message") or answer.json["Message"]


def test_an_event_may_have_256_kb_and_not_a_byte_more(daemon: Daemon, recorder: Recorder) -> None:
    recorder.create(daemon.client("lambda"), "steady", "steady")
    with Sender(daemon) as sender:
        refused = sender.send("steady", sized(LIMIT_BYTES + 1, "too large"))
        accepted = sender.send("steady", sized(LIMIT_BYTES, "fits"))
    assert error(refused) == (
        413,
        "RequestEntityTooLargeException",
        f"{LIMIT_BYTES + 1} byte payload is too large for the Event invocation type (limit {LIMIT_BYTES} bytes)",
    )
    assert accepted.status == 202
    await_idle(daemon)
    assert [run.id for run in recorder.runs] == ["fits"]
    assert [ending.request_id for ending in endings(daemon.data_dir)] == [accepted.headers["x-amzn-requestid"]]


def test_a_setting_raises_what_an_event_may_have(tmp_path: Path, recorder: Recorder) -> None:
    with Daemon(tmp_path / "data", ("--async-payload-kb", str(RAISED_KB))) as daemon:
        recorder.create(daemon.client("lambda"), "steady", "steady")
        with Sender(daemon) as sender:
            assert sender.send("steady", sized(RAISED_KB * 1024, "fits")).status == 202
            refused = sender.send("steady", sized(RAISED_KB * 1024 + 1, "too large"))
        assert error(refused)[:2] == (413, "RequestEntityTooLargeException")
        await_idle(daemon)
        assert [run.id for run in recorder.runs] == ["fits"]
        assert_calm(daemon)


def test_what_is_not_json_is_refused_at_once(daemon: Daemon, recorder: Recorder) -> None:
    recorder.create(daemon.client("lambda"), "shown", "shown")
    with Sender(daemon) as sender:
        for name, payload in NONSENSE.items():
            status, code, message = error(sender.send("shown", payload))
            assert (status, code) == (400, "InvalidRequestContentException"), name
            assert message.startswith("Could not parse request body into json: "), name
        sender.accepted("shown", "the only one")
    await_idle(daemon)
    assert [run.id for run in recorder.runs] == ["the only one"]
    assert len(endings(daemon.data_dir)) == 1


def test_an_event_for_a_function_that_is_not_there_is_refused_at_once(daemon: Daemon, recorder: Recorder) -> None:
    recorder.create(daemon.client("lambda"), "steady", "steady")
    with Sender(daemon) as sender:
        for name in ("absent", "steady:absent", "steady:7"):
            status, code, message = error(sender.send(name, b"{}"))
            assert (status, code) == (404, "ResourceNotFoundException")
            assert message == f"Function not found: arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert unfinished(daemon) == []
    assert (queued(daemon.data_dir), endings(daemon.data_dir)) == ([], [])


def test_a_function_whose_event_is_empty_gets_an_object(daemon: Daemon, recorder: Recorder) -> None:
    recorder.create(daemon.client("lambda"), "shown", "shown")
    with Sender(daemon) as sender:
        answer = sender.send("shown", b"")
    assert (answer.status, answer.body) == (202, b"")
    recorder.await_runs("shown", 1)
    assert recorder.runs[0].id == {}


@pytest.mark.parametrize("rude", [False, True], ids=["closes", "resets"])
def test_the_event_of_a_client_that_hangs_up_runs_once_or_not_at_all(
    daemon: Daemon, recorder: Recorder, rude: bool
) -> None:
    recorder.create(daemon.client("lambda"), "steady", "steady")
    path = INVOKE.format("steady").encode()
    for number in range(HANG_UPS + PARTS):
        connection = Connection(daemon)
        body = b'{"id": "%d"}' % number
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nX-Amz-Invocation-Type: Event\r\nContent-Length: %d\r\n\r\n"
        request = head % (path, len(body)) + body
        # After some of them, all of it has been sent; before, an ever larger part.
        connection.send(request[: len(request) * (number + 1) // (PARTS + 1)])
        connection.reset() if rude else connection.close()
    with Sender(daemon) as sender:
        sender.accepted("steady", {"id": "last"})
    assert eventually(lambda: "last" in recorder.by_id())
    await_idle(daemon)
    assert daemon.stop() == 0  # every request that was read has come to its end
    counts = Counter(run.request_id for run in recorder.runs)
    assert Counter(ending.request_id for ending in endings(daemon.data_dir)) == counts
    assert set(Counter(run.id for run in recorder.runs).values()) == {1}
    assert not {str(number) for number in range(PARTS)} & recorder.by_id().keys(), "a part of an event was run"
    assert queued(daemon.data_dir) == []
    assert "Traceback" not in daemon.stderr()
    daemon.start()
    assert get(daemon, "/_lambdad/health").status == 200

"""Queues and streams that functions read while the daemon is killed: every record is processed, at least once.

What was acknowledged less than a moment before a `kill -9` may be lost to the embedded services, which say so; what
they have on disk may not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemons import Daemon
from faults.calm import assert_calm
from faults.neighbourhood import create_queue, info, last_checkpoint
from faults.processes import eventually
from faults.recorder import Recorder

LIVES = 3
MESSAGES = 340
RECORDS = 100
"""In each life."""
BEGUN = 20
VISIBILITY_S = 2
PATIENCE_S = 60.0


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    own = Daemon(tmp_path / "data").start()
    yield own
    own.stop()


def prepare(daemon: Daemon, recorder: Recorder) -> None:
    """A queue and a stream with two shards, each with a function that reads it."""
    functions, kinesis = daemon.client("lambda"), daemon.client("kinesis")
    recorder.create(functions, "reads-queue", "messages")
    recorder.create(functions, "reads-stream", "records")
    url, queue = create_queue(daemon, "q")
    sqs = daemon.client("sqs")
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "60"})
    functions.create_event_source_mapping(FunctionName="reads-queue", EventSourceArn=queue)
    # Mappings are made with a timeout that is long enough; what the killed daemon had shall come again soon.
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(VISIBILITY_S)})
    kinesis.create_stream(StreamName="s", ShardCount=2)
    stream = kinesis.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
    functions.create_event_source_mapping(
        FunctionName="reads-stream", EventSourceArn=stream, StartingPosition="TRIM_HORIZON", BatchSize=10
    )


def send(daemon: Daemon, life: int) -> None:
    """Returns when everything is on disk."""
    sqs, kinesis = daemon.client("sqs"), daemon.client("kinesis")
    url = sqs.get_queue_url(QueueName="q")["QueueUrl"]
    for start in range(0, MESSAGES, 10):
        entries = [{"Id": str(each), "MessageBody": f"m{life}-{each}"} for each in range(start, start + 10)]
        assert len(sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]) == len(entries)
    records: list[Any] = [
        {"Data": f"r{life}-{each}".encode(), "PartitionKey": str(each % 10)} for each in range(RECORDS)
    ]
    assert kinesis.put_records(StreamName="s", Records=records)["FailedRecordCount"] == 0
    sent = time.time()

    def is_on_disk(service: str) -> bool:
        return not info(daemon)["neighbours"][service]["dirty"] or last_checkpoint(daemon, service) >= sent

    assert eventually(lambda: is_on_disk("sqs") and is_on_disk("kinesis"), PATIENCE_S)


def test_every_message_and_record_is_processed_whenever_the_daemon_is_killed(daemon: Daemon) -> None:
    with Recorder() as recorder:
        prepare(daemon, recorder)
        for life in range(1, LIVES + 1):
            send(daemon, life)
            for function in ("reads-queue", "reads-stream"):
                recorder.await_runs(function, BEGUN)
            if life < LIVES:
                daemon.kill()
                recorder.life += 1
                daemon.start()

        wanted = {f"m{life}-{each}" for life in range(1, LIVES + 1) for each in range(MESSAGES)}
        wanted |= {f"r{life}-{each}" for life in range(1, LIVES + 1) for each in range(RECORDS)}
        assert eventually(lambda: wanted <= recorder.by_id().keys(), PATIENCE_S), sorted(wanted - set(recorder.by_id()))
        assert recorder.by_id().keys() == wanted
        # Of each key, what was seen for the first time was seen in the order in which it was put.
        firsts = list(dict.fromkeys(run.id for run in recorder.of("reads-stream")))
        for key in range(10):
            of_key = [each for each in firsts if int(each.split("-")[1]) % 10 == key]
            assert of_key == sorted(of_key, key=lambda each: [int(part) for part in each[1:].split("-")])
        assert_calm(daemon)

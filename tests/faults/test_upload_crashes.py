"""`kill -9` while objects are uploaded: what is left of the objects, and which of them their function has seen.

Two things are kept apart. The events are lambdad's own: the function runs for every upload that was acknowledged,
whatever is killed. The objects are the embedded S3's, which is a development default: a kill of the daemon loses none,
because the process that holds them saves them when it sees that the daemon is gone; a kill of both at once loses what
came after the last checkpoint.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from daemons import Daemon
from faults.events import await_idle
from faults.neighbourhood import PATIENCE_S, await_checkpoint, kill_both, last_checkpoint, process_of
from faults.processes import eventually
from faults.recorder import Recorder

SEED = 5
CLIENTS = 16
UPLOADS = 1_000
KILLS = 5
BOTH = frozenset({1, 3})
"""These kills meet the process of the embedded services too."""
BUCKET = "uploads"
FUNCTION = "uploaded"
DRAINED_S = 120.0
OPTIONS = ("--retry-delay-scale", "0.001", "--event-history", "1000000")


@dataclass
class Uploads:
    """What the clients have uploaded, over all lives of the daemon."""

    url: str = ""
    acknowledged: dict[str, float] = field(default_factory=dict)
    """When each was acknowledged, in seconds since the epoch."""
    _taken: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def upload_all(self) -> None:
        """Upload one object after the other, each until it is acknowledged."""
        while (key := self._next()) is not None:
            while key not in self.acknowledged:
                try:
                    client(self.url).put_object(Bucket=BUCKET, Key=key, Body=key.encode() * 20)
                except (BotoCoreError, ClientError):
                    time.sleep(0.05)  # the daemon is dead, or its neighbour starts: as every client would, wait
                else:
                    self.acknowledged[key] = time.time()

    def _next(self) -> str | None:
        with self._lock:
            self._taken += 1
            return f"{self._taken:04}" if self._taken <= UPLOADS else None


_local = threading.local()


def client(url: str) -> Any:
    """The S3 client of a thread for a daemon."""
    if getattr(_local, "url", None) != url:
        session = boto3.session.Session("test", "secret", region_name="us-east-1")
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=20)
        _local.client, _local.url = session.client("s3", endpoint_url=url, config=config), url
    return _local.client


def test_every_acknowledged_upload_has_its_event_and_every_saved_object_is_there(
    tmp_path: Path, recorder: Recorder
) -> None:
    daemon, uploads = Daemon(tmp_path / "data", OPTIONS).start(), Uploads()
    chance = random.Random(SEED)
    may_be_lost: set[str] = set()
    try:
        prepare(daemon, recorder)
        uploads.url = daemon.url
        with ThreadPoolExecutor(CLIENTS) as threads:
            clients = [threads.submit(uploads.upload_all) for _ in range(CLIENTS)]
            for number in range(KILLS):
                reached = (number + chance.random()) * UPLOADS / (KILLS + 1)
                assert eventually(lambda reached=reached: len(uploads.acknowledged) >= reached, PATIENCE_S)
                if number in BOTH:
                    may_be_lost |= lost_with_both(daemon, uploads)
                else:
                    daemon.kill()
                recorder.next_life()
                daemon.start()
                uploads.url = daemon.url
            for each in clients:
                each.result()
        await_idle(daemon, DRAINED_S)
        assert len(uploads.acknowledged) == UPLOADS
        assert sorted(uploads.acknowledged.keys() - recorder.by_id().keys()) == []
        there = objects(daemon)
        lost = uploads.acknowledged.keys() - there
        assert sorted(lost - may_be_lost) == []
        print(f"{len(lost)} objects lost of {len(may_be_lost)} that could be, in {len(BOTH)} kills of both processes")
    finally:
        daemon.stop()


def prepare(daemon: Daemon, recorder: Recorder) -> None:
    """A bucket whose uploads go to a function that tells the recorder."""
    functions = daemon.client("lambda")
    recorder.create(functions, FUNCTION, "uploaded")
    functions.add_permission(
        FunctionName=FUNCTION,
        StatementId="s3",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
        SourceArn=f"arn:aws:s3:::{BUCKET}",
    )
    s3 = daemon.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    arn = functions.get_function_configuration(FunctionName=FUNCTION)["FunctionArn"]
    s3.put_bucket_notification_configuration(
        Bucket=BUCKET,
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [{"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    await_checkpoint(daemon, "s3")  # the bucket itself is to survive every kill


def lost_with_both(daemon: Daemon, uploads: Uploads) -> set[str]:
    """Kill the daemon and the process beside it at once; returns the keys that were acknowledged too late."""
    neighbour, saved = process_of(daemon), last_checkpoint(daemon, "s3")
    kill_both(daemon, neighbour)
    return {key for key, moment in uploads.acknowledged.items() if moment >= saved}


def objects(daemon: Daemon) -> set[str]:
    """The keys whose objects have their content."""
    s3, found = daemon.client("s3"), set()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for each in page.get("Contents", []):
            key = each["Key"]
            if s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode() * 20:
                found.add(key)
    return found

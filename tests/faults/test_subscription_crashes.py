"""`kill -9` while log events are put into a subscribed group: each that was acknowledged reaches the function."""

from __future__ import annotations

import base64
import gzip
import json
import random
import threading
import time
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError

from daemons import Daemon
from faults.processes import eventually
from faults.recorder import Recorder

CYCLES = 3
SEED = 5
LIVES_S = (0.3, 0.8)
GROUP, STREAM = "app", "client"


def put_until_it_dies(logs: Any, cycle: int) -> set[str]:
    """Put log events one by one; returns those that were acknowledged."""
    acknowledged: set[str] = set()
    while True:
        message = f"{cycle}-{len(acknowledged)}"
        event = {"timestamp": int(time.time() * 1000), "message": message}
        try:
            logs.put_log_events(logGroupName=GROUP, logStreamName=STREAM, logEvents=[event])
        except BotoCoreError:
            return acknowledged
        acknowledged.add(message)


def delivered(recorder: Recorder) -> set[str]:
    """The messages that the function has got, over all lives of the daemon."""
    events = [json.loads(gzip.decompress(base64.b64decode(run.id["awslogs"]["data"]))) for run in list(recorder.runs)]
    return {each["message"] for event in events for each in event["logEvents"]}


def test_what_was_acknowledged_is_delivered(tmp_path: Path, recorder: Recorder) -> None:
    rng = random.Random(SEED)
    acknowledged: set[str] = set()
    with Daemon(tmp_path / "data") as daemon:
        recorder.create(daemon.client("lambda"), "reader", "shown")
        daemon.client("lambda").add_permission(
            FunctionName="reader", StatementId="logs", Action="lambda:InvokeFunction", Principal="logs.amazonaws.com"
        )
        logs = daemon.client("logs")
        logs.create_log_group(logGroupName=GROUP)
        logs.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)
        logs.put_subscription_filter(
            logGroupName=GROUP,
            filterName="demo",
            filterPattern="",
            destinationArn="arn:aws:lambda:us-east-1:000000000000:function:reader",
        )
        for cycle in range(CYCLES):
            timer = threading.Timer(rng.uniform(*LIVES_S), daemon.kill)
            timer.start()
            acknowledged |= put_until_it_dies(daemon.client("logs"), cycle)
            timer.join()
            recorder.next_life()
            daemon.start()
        assert len(acknowledged) > CYCLES
        assert eventually(lambda: acknowledged <= delivered(recorder), 60), len(acknowledged - delivered(recorder))

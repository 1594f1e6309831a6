"""The numbers of SPECIFICATION.md for the neighbours: what they cost, and that none of them slows an invocation."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from daemons import Daemon, create_python
from lambdad.bench.measures import PYTHON_ECHO

Report = Callable[[str], None]

INVOCATIONS = 200
ROUNDS = 5
STALLED_BOUND = 1.5
"""The median beside a stopped neighbour, in multiples of that beside a running one."""
OBJECTS = 300
PUT_BOUND = 60.0
"""In multiples of a warm invocation of the same client."""
UNUSED_BOUND_MB = 100
OBJECT_BYTES = 1024 * 1024
FEW_OBJECTS, MANY_OBJECTS = 100, 1_000
"""How many of a megabyte there are at a restart, in `make test` and in `make bench`."""
UPLOADERS = 4
RESTART_BOUND_S = 5.0
"""From the start of the daemon's process to the content of an object, on a machine with nothing else to do."""
RESTART_RATIO = 3.0
"""Of that time, with objects and with one that is small."""
FIRST_CALLS = {
    "apigateway": "get_rest_apis",
    "apigatewayv2": "get_apis",
    "cloudformation": "list_stacks",
    "cloudtrail": "describe_trails",
    "codecommit": ("create_repository", {"repositoryName": "r"}),
    "cognito-idp": ("list_user_pools", {"MaxResults": 1}),
    "dynamodb": "list_tables",
    "ec2": "describe_vpcs",
    "ecr": "describe_repositories",
    "efs": "describe_file_systems",
    "elbv2": "describe_load_balancers",
    "firehose": "list_delivery_streams",
    "iam": "list_users",
    "iot": "list_things",
    "kinesis": "list_streams",
    "kms": "list_keys",
    "s3": "list_buckets",
    "secretsmanager": "list_secrets",
    "ses": "list_identities",
    "sns": "list_topics",
    "sqs": "list_queues",
    "ssm": "describe_parameters",
    "stepfunctions": "list_state_machines",
    "sts": "get_caller_identity",
}
"""A harmless operation of each embedded service, with its parameters."""


def info(daemon: Daemon) -> Any:
    with urllib.request.urlopen(f"{daemon.url}/_lambdad/info") as answer:
        return json.load(answer)


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("/proc is not there")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
    assert found is not None
    return int(found[1]) / 1024


def median_s(call: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return median(taken)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_stopped_neighbour_does_not_slow_invocations(tmp_path: Path, report: Report) -> None:
    with Daemon(tmp_path / "data") as daemon:
        client, s3 = daemon.client("lambda"), daemon.client("s3")
        create_python(client, "echo", PYTHON_ECHO)
        s3.create_bucket(Bucket="bucket")
        ratios = []
        for _ in range(ROUNDS):
            before = median_s(lambda: client.invoke(FunctionName="echo", Payload=b"{}"), INVOCATIONS)
            with stopped(info(daemon)["neighbour_process"]["pid"]):
                beside = median_s(lambda: client.invoke(FunctionName="echo", Payload=b"{}"), INVOCATIONS)
                neighbours = info(daemon)["neighbours"]
            ratios.append(beside / before)
        s3.put_object(Bucket="bucket", Key="key", Body=b"it goes on")
    ratio = median(ratios)
    report(f"warm invocation beside a stopped neighbour, with boto3: {beside * 1e6:.0f} us = {ratio:.2f} x")
    assert neighbours["s3"]["answers"] is False
    assert ratio <= STALLED_BOUND


def test_an_object_costs_few_invocations(tmp_path: Path, report: Report) -> None:
    with Daemon(tmp_path / "data") as daemon:
        client, s3 = daemon.client("lambda"), daemon.client("s3")
        create_python(client, "echo", PYTHON_ECHO)
        s3.create_bucket(Bucket="bucket")
        invocation = median_s(lambda: client.invoke(FunctionName="echo", Payload=b"{}"), INVOCATIONS)
        put = median_s(lambda: s3.put_object(Bucket="bucket", Key="key", Body=b"x" * 1024), OBJECTS)
        get = median_s(lambda: s3.get_object(Bucket="bucket", Key="key")["Body"].read(), OBJECTS)
    report(f"S3 with boto3, 1 KB: put {put * 1e3:.1f} ms = {put / invocation:.1f} invocations, get {get * 1e3:.1f} ms")
    assert put <= PUT_BOUND * invocation


def test_memory_with_and_without_neighbours(tmp_path: Path, report: Report) -> None:
    with Daemon(tmp_path / "data") as daemon:
        assert daemon.process is not None
        daemon.client("lambda").list_functions()
        assert info(daemon)["neighbour_process"]["pid"] is None
        unused_mb = resident_mb(daemon.process.pid)
        for service, call in FIRST_CALLS.items():
            operation, parameters = call if isinstance(call, tuple) else (call, {})
            getattr(daemon.client(service), operation)(**parameters)
        used_mb = resident_mb(daemon.process.pid)
        child_mb = resident_mb(info(daemon)["neighbour_process"]["pid"])
    report(
        f"memory of the daemon with no neighbour in use: {unused_mb:.0f} MB; with all: {used_mb:.0f} MB, "
        f"and {child_mb:.0f} MB of the process beside it"
    )
    assert unused_mb < UNUSED_BOUND_MB


def first_object_s(daemon: Daemon, key: str) -> float:
    """How long a daemon takes from its start to the content of an object."""
    daemon.stop()
    began = time.perf_counter()
    daemon.start()
    s3 = daemon.client("s3")
    assert s3.get_object(Bucket="bucket", Key=key)["Body"].read()
    return time.perf_counter() - began


def test_a_restart_with_many_objects(tmp_path: Path, report: Report, is_long: bool) -> None:
    count = MANY_OBJECTS if is_long else FEW_OBJECTS
    with Daemon(tmp_path / "data") as daemon:
        s3 = daemon.client("s3")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="small", Body=b"x")
        empty = first_object_s(daemon, "small")
        s3, block = daemon.client("s3"), os.urandom(OBJECT_BYTES)

        def upload(number: int) -> None:
            body = number.to_bytes(8, "big") + block[8:]
            s3.put_object(Bucket="bucket", Key=f"{number}", Body=body)

        with ThreadPoolExecutor(UPLOADERS) as threads:
            list(threads.map(upload, range(count)))
        full = first_object_s(daemon, f"{count - 1}")
    report(f"restart until the first S3 object, of {count} of 1 MB: {full:.2f} s; with a small one: {empty:.2f} s")
    assert full <= max(RESTART_BOUND_S, RESTART_RATIO * empty)

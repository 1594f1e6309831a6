"""What functions and the platform write, as CloudWatch Logs and the log tail have it.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html
"""

from __future__ import annotations

import json
import math
import re

import pytest

REQUEST_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
REPORT = re.compile(
    rf"REPORT RequestId: (?P<id>{REQUEST_ID})\tDuration: (?P<duration>\d+\.\d\d) ms\t"
    r"Billed Duration: (?P<billed>\d+) ms\tMemory Size: (?P<size>\d+) MB\tMax Memory Used: (?P<used>\d+) MB\t"
    r"(Init Duration: (?P<init>\d+\.\d\d) ms\t)?\n?"
)
QUIET = "def handler(event, context):\n    return event\n"
WRITES = """
import json, logging, os, subprocess, sys
logger = logging.getLogger()

def handler(event, context):
    for step in event:
        if step == "print":
            print("printed")
        elif step == "lines":
            print("one\\ntwo")
        elif step == "record":
            logger.error("three\\nfour")
        elif step == "context":
            context.log("by context\\n")
        elif step == "stderr":
            print("to stderr", file=sys.stderr)
        elif step == "child":
            subprocess.run(["/bin/sh", "-c", "echo from a child"], check=True)
        elif step == "open end":
            sys.stdout.write("open end")
        elif step == "bytes":
            os.write(1, b"raw \\xff\\xfe bytes \\xa5\\n")
        elif step == "unicode":
            print("größe 日本 🦆")
        elif step == "levels":
            for level in ("debug", "info", "warning", "error", "critical"):
                getattr(logger, level)("at %s", level)
        elif step == "extra":
            logger.error("with extra", extra={"order": 7})
        elif step == "exception":
            try:
                1 / 0
            except ZeroDivisionError:
                logger.exception("caught")
        elif isinstance(step, int):
            print("x" * step)
"""
TAKES_MEMORY = """
def handler(event, context):
    block = bytearray(event * 1024 * 1024)
    for at in range(0, len(block), 4096):
        block[at] = 1
    return len(block)
"""


class Matching:
    """Equal to every text that matches the pattern."""

    def __init__(self, pattern):
        self.pattern = pattern

    def __eq__(self, other):
        return re.fullmatch(self.pattern, other) is not None

    def __repr__(self):
        return f"Matching({self.pattern!r})"


def line_of(text):
    return next(number for number, line in enumerate(WRITES.splitlines(), 1) if text in line)


@pytest.fixture(scope="module")
def writes(functions):
    return functions.python(WRITES)


@pytest.fixture
def written(functions, writes, log_of):
    """The messages between START and END of an invocation that did these steps; the log is read right after it."""

    def run(*steps, name=writes):
        answer = functions.invoke(name, steps)
        assert answer.error is None, answer.raw
        log = log_of(name)
        start = next(at for at, line in enumerate(log) if line.startswith(f"START RequestId: {answer.request_id}"))
        end = next(at for at, line in enumerate(log) if line.startswith(f"END RequestId: {answer.request_id}"))
        return [line.rstrip("\n") for line in log[start + 1 : end]]

    return run


# The platform's lines


def test_the_lines_of_a_first_and_a_second_invocation(functions, log_of):
    name = functions.python(QUIET)
    first, second = functions.invoke(name), functions.invoke(name)
    log = log_of(name)
    expected = [
        r"INIT_START Runtime Version: python:3\.11\.\S+\tRuntime Version ARN: "
        r"arn:aws:lambda:us-east-1::runtime:\S+\n?",
        rf"START RequestId: {first.request_id} Version: \$LATEST\n?",
        rf"END RequestId: {first.request_id}\n?",
        REPORT,
        rf"START RequestId: {second.request_id} Version: \$LATEST\n?",
        rf"END RequestId: {second.request_id}\n?",
        REPORT,
    ]
    assert len(log) == len(expected)
    for line, pattern in zip(log, expected, strict=True):
        assert re.fullmatch(pattern, line), line
    cold, warm = (REPORT.fullmatch(log[at]) for at in (3, 6))
    assert (cold["id"], warm["id"]) == (first.request_id, second.request_id)
    assert cold["init"]
    assert warm["init"] is None
    assert cold["size"] == "128"
    assert 1 < int(cold["used"]) < 128


def test_what_is_billed(functions):
    """Initialization is billed since August 2025; the sum is rounded up to a millisecond."""
    name = functions.python("import time\ntime.sleep(0.1)\ndef handler(event, context):\n    time.sleep(event)\n")
    cold, warm = (REPORT.search(functions.tail(name, 0.05).log) for _ in range(2))
    for report in (cold, warm):
        assert float(report["duration"]) >= 50
        total = float(report["duration"]) + float(report["init"] or 0)
        assert abs(int(report["billed"]) - math.ceil(total)) <= 1  # the figures shown are themselves rounded
    assert float(cold["init"]) >= 100
    assert int(cold["billed"]) >= 150
    assert int(warm["billed"]) < 150


def test_memory_is_measured(functions, log_of):
    name = functions.python(TAKES_MEMORY, MemorySize=512)
    before = int(REPORT.search(functions.tail(name, 0).log)["used"])
    assert functions.invoke(name, 100).payload == 100 * 1024 * 1024
    in_log = int(REPORT.search(log_of(name)[-1])["used"])
    assert before + 95 <= in_log <= before + 120
    assert int(REPORT.search(functions.tail(name, 0).log)["used"]) == in_log, "the most so far, as on AWS"


def test_memory_of_children_counts(functions):
    name = functions.python(
        "import subprocess, sys\n"
        "SOURCE = 'import sys; block = b\"x\" * 80_000_000; print(len(block), flush=True); sys.stdin.read()'\n"
        "def handler(event, context):\n"
        "    command = [sys.executable, '-ISc', SOURCE]\n"
        "    global child\n"
        "    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "    return child.stdout.readline().decode()\n",
        MemorySize=512,
    )
    assert 80 < int(REPORT.search(functions.tail(name).log)["used"]) < 140


def test_memory_of_a_function_that_dies_is_its_own(functions):
    """The kernel's figure for a dead process includes what its parent had: the daemon."""
    name = functions.python("import os\ndef handler(event, context):\n    os._exit(1)\n")
    used = re.search(r"Max Memory Used: (\d+) MB", functions.tail(name).log)
    assert 1 < int(used[1]) < 30


# Where logs are


def test_group_and_stream(functions, aws_logs, unique):
    name = functions.python("def handler(event, context):\n    return context.log_stream_name\n")
    stream = functions.invoke(name).payload
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream)
    (found,) = aws_logs.describe_log_streams(logGroupName=f"/aws/lambda/{name}")["logStreams"]
    assert found["logStreamName"] == stream
    events = aws_logs.get_log_events(logGroupName=f"/aws/lambda/{name}", logStreamName=stream, startFromHead=True)
    assert [event["message"].split()[0] for event in events["events"]] == ["INIT_START", "START", "END", "REPORT"]
    times = [event["timestamp"] for event in events["events"]]
    assert times == sorted(times)


def test_a_group_of_ones_own(functions, log_of, unique, aws_logs):
    group = unique("/my/group")
    first, second = (functions.python(QUIET, LoggingConfig={"LogGroup": group}) for _ in range(2))
    ids = [functions.invoke(name).request_id for name in (first, second)]
    text = "".join(log_of("", group))
    assert all(f"REPORT RequestId: {request_id}" in text for request_id in ids)
    groups = aws_logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{first}")["logGroups"]
    assert groups == []
    streams = aws_logs.describe_log_streams(logGroupName=group)["logStreams"]
    owners = [
        re.fullmatch(r"\d{4}/\d\d/\d\d/(.*)\[\$LATEST\][0-9a-f]{32}", each["logStreamName"])[1] for each in streams
    ]
    assert sorted(owners) == sorted([first, second])


def test_every_environment_has_a_stream(functions, aws_logs, knock, door, background):
    name = functions.python(knock + "def handler(event, context):\n    knock(event)\n")
    running = [background.start(functions.invoke, name, door.address) for _ in range(3)]
    for visitor in [door.await_knock() for _ in running]:
        visitor.let_in()
    ids = {invocation.result().request_id for invocation in running}
    streams = aws_logs.describe_log_streams(logGroupName=f"/aws/lambda/{name}")["logStreams"]
    found = aws_logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern="REPORT")["events"]
    assert len(streams) >= 3
    assert {REPORT.match(event["message"])["id"] for event in found} == ids
    assert len({event["logStreamName"] for event in found}) == 3


# The function's own


def test_records_stay_whole_and_lines_are_cut(written):
    assert written("lines", "record", "lines") == [
        "one",
        "two",
        Matching(rf"\[ERROR\]\t{STAMP}\t{REQUEST_ID}\tthree\nfour"),
        "one",
        "two",
    ]


def test_the_order_is_that_of_the_calls(written):
    log = written("print", "record", "stderr", "child", "context", "print", "record", "child")
    kinds = [re.search("printed|three|stderr|child|context", line)[0] for line in log]
    assert kinds == ["printed", "three", "stderr", "child", "context", "printed", "three", "child"]


def test_a_line_without_an_end_belongs_to_its_invocation(written, functions, writes):
    assert written("open end") == ["open end"]
    assert written("print", "open end") == ["printed", "open end"]
    assert "open end\nEND RequestId" in functions.tail(writes, ["open end"]).log


def test_any_text(written):
    assert written("unicode", "bytes") == ["größe 日本 🦆", "raw \ufffd\ufffd bytes \ufffd"]


def test_much_text(written):
    (line,) = written(200_000)
    assert line == "x" * 200_000
    pieces = written(600_000)
    assert "".join(pieces) == "x" * 600_000
    assert [len(piece) for piece in pieces[:-1]] == [256 * 1024] * (len(pieces) - 1)
    assert written(*["lines"] * 3000) == ["one", "two"] * 3000


def test_the_level_of_text(functions, written, log_of):
    assert [line.split("\t")[0] for line in written("levels")] == ["[WARNING]", "[ERROR]", "[CRITICAL]"]


# JSON


@pytest.fixture
def json_log(functions, log_of):
    """What is logged as JSON: the platform's events and the application's records."""

    def run(source, *events, **levels):
        name = functions.python(source, LoggingConfig={"LogFormat": "JSON", **levels})
        answers = [functions.invoke(name, event) for event in events]
        records = [json.loads(line) for line in log_of(name)]
        return answers, [r for r in records if "type" in r], [r for r in records if "type" not in r]

    return run


def test_json_events_of_the_platform(json_log):
    (first, second), events, application = json_log(QUIET, 1, 2)
    assert application == []
    assert [event["type"] for event in events] == [
        "platform.initStart",
        "platform.start",
        "platform.report",
        "platform.start",
        "platform.report",
    ]
    assert all(set(event) == {"time", "type", "record"} and re.fullmatch(STAMP, event["time"]) for event in events)
    begun, start, report, _, again = (event["record"] for event in events)
    assert (begun["initializationType"], begun["phase"]) == ("on-demand", "init")
    assert re.match(r"python:3\.11", begun["runtimeVersion"])
    assert start == {"requestId": first.request_id, "version": "$LATEST"}
    assert (report["requestId"], report["status"]) == (first.request_id, "success")
    metrics = report["metrics"]
    assert metrics["billedDurationMs"] == math.ceil(metrics["durationMs"] + metrics["initDurationMs"])
    assert (metrics["memorySizeMB"], metrics["maxMemoryUsedMB"] > 1) == (128, True)
    assert (again["requestId"], "initDurationMs" in again["metrics"]) == (second.request_id, False)


def test_json_records_of_the_application(json_log):
    (answer,), _, records = json_log(WRITES, ["record", "extra", "exception"])
    assert all(record.pop("timestamp") for record in records)
    first, second, third = records
    common = {"level": "ERROR", "logger": "root", "requestId": answer.request_id}
    assert first == {**common, "message": "three\nfour"}
    assert second == {**common, "message": "with extra", "order": 7}
    assert (third["message"], third["errorType"], third["errorMessage"]) == (
        "caught",
        "ZeroDivisionError",
        "division by zero",
    )
    assert third["location"].split("/")[-1] == f"app.py:handler:{line_of('caught')}"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("DEBUG", ["debug", "info", "warning", "error", "critical"]),
        ("INFO", ["info", "warning", "error", "critical"]),
        ("ERROR", ["error", "critical"]),
        ("FATAL", ["critical"]),
    ],
)
def test_the_level_of_the_application(json_log, level, expected):
    _, _, records = json_log(WRITES, ["levels"], ApplicationLogLevel=level)
    assert [record["message"].removeprefix("at ") for record in records] == expected


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (
            "DEBUG",
            [
                "platform.initStart",
                "platform.initRuntimeDone",
                "platform.initReport",
                "platform.start",
                "platform.runtimeDone",
                "platform.report",
                "platform.start",
                "platform.runtimeDone",
                "platform.report",
            ],
        ),
        (
            "INFO",
            [
                "platform.initStart",
                "platform.start",
                "platform.report",
                "platform.start",
                "platform.runtimeDone",
                "platform.report",
            ],
        ),
        ("WARN", ["platform.runtimeDone", "platform.report"]),
    ],
)
def test_the_level_of_the_system(json_log, level, expected):
    source = "import os\ndef handler(event, context):\n    return os._exit(1) if event else None\n"
    _, events, _ = json_log(source, 0, 1, SystemLogLevel=level)
    assert [event["type"] for event in events] == expected
    assert events[-1]["record"]["status"] == "error"
    assert events[-1]["record"]["errorType"] == "Runtime.ExitError"


def test_json_of_a_failure_and_a_timeout(json_log, functions, log_of):
    (answer,), events, (record,) = json_log("def handler(event, context):\n    raise KeyError('gone')\n", None)
    assert (record["level"], record["errorType"], record["requestId"]) == ("ERROR", "KeyError", answer.request_id)
    assert events[-1]["record"]["requestId"] == answer.request_id
    source = "import time\ndef handler(event, context):\n    time.sleep(60)\n"
    slow = functions.python(source, Timeout=1, LoggingConfig={"LogFormat": "JSON"})
    functions.invoke(slow)
    report = json.loads(log_of(slow)[-1])
    assert (report["type"], report["record"]["status"]) == ("platform.report", "timeout")
    assert report["record"]["metrics"]["durationMs"] == 1000


def test_json_tail(functions):
    name = functions.python(QUIET, LoggingConfig={"LogFormat": "JSON"})
    answer = functions.tail(name)
    types = [json.loads(line)["type"] for line in answer.log.splitlines()]
    assert types[-2:] == ["platform.start", "platform.report"]

"""What the platform writes into logs, to AWS's letter."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from lambdad.domain.environment_variables import ON_DEMAND, PROVISIONED
from lambdad.domain.functions import LoggingConfig
from lambdad.domain.platform_logs import (
    Initialization,
    PlatformLog,
    Report,
    extension,
    init_report,
    init_runtime_done,
    iso,
)

NOW = 1_795_233_264.1239
TEXT = PlatformLog(LoggingConfig("/aws/lambda/f"))
REPORT = Report("id", 12.345, 113, 128, 40, 100.5, "success", None)


def in_json(level: str) -> PlatformLog:
    return PlatformLog(LoggingConfig("/aws/lambda/f", "JSON", "INFO", level))


def test_the_lines_of_a_good_invocation() -> None:
    assert TEXT.start(NOW, "id", "$LATEST") == "START RequestId: id Version: $LATEST\n"
    assert TEXT.end("id") == "END RequestId: id\n"
    assert TEXT.report(NOW, REPORT) == (
        "REPORT RequestId: id\tDuration: 12.35 ms\tBilled Duration: 113 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 40 MB\tInit Duration: 100.50 ms\t\n"
    )


def test_a_warm_one_has_no_init_duration() -> None:
    line = TEXT.report(NOW, replace(REPORT, init_ms=None))
    assert line is not None
    assert line.endswith("Max Memory Used: 40 MB\t\n")


@pytest.mark.parametrize(
    ("status", "error_type", "end"),
    [
        ("timeout", None, "Status: timeout\n"),
        ("error", "Runtime.ExitError", "Status: error\tError Type: Runtime.ExitError\n"),
    ],
)
def test_a_failed_one_says_so(status: str, error_type: str | None, end: str) -> None:
    line = TEXT.report(NOW, replace(REPORT, status=status, error_type=error_type))
    assert line is not None
    assert line.endswith(end)


def test_a_timeout() -> None:
    line = TEXT.timed_out(NOW, "id", 3.0)
    assert line == f"{iso(NOW)} id Task timed out after 3.00 seconds\n\n"
    assert iso(NOW) == "2026-11-21T03:54:24.123Z"


def test_the_report_in_json() -> None:
    line = in_json("INFO").report(NOW, REPORT)
    assert line is not None
    assert json.loads(line) == {
        "time": "2026-11-21T03:54:24.123Z",
        "type": "platform.report",
        "record": {
            "requestId": "id",
            "metrics": {
                "durationMs": 12.345,
                "billedDurationMs": 113,
                "memorySizeMB": 128,
                "maxMemoryUsedMB": 40,
                "initDurationMs": 100.5,
            },
            "status": "success",
        },
    }


def test_levels_leave_out_what_is_below_them() -> None:
    failed = replace(REPORT, status="error", error_type="Runtime.ExitError")
    assert in_json("WARN").start(NOW, "id", "1") is None
    assert in_json("WARN").report(NOW, REPORT) is None
    assert in_json("WARN").report(NOW, failed) is not None


def test_json_has_neither_end_nor_a_line_for_a_timeout() -> None:
    assert in_json("TRACE").end("id") is None
    assert in_json("TRACE").timed_out(NOW, "id", 3.0) is None


@pytest.mark.parametrize(
    ("level", "write"),
    [
        ("INFO", lambda log: log.init_start(NOW, Initialization(ON_DEMAND, "f", "1", "python:3.13", "arn"))),
        ("DEBUG", lambda log: log.init_start(NOW, Initialization(ON_DEMAND, "f", "1", "", ""))),
        ("DEBUG", lambda log: log.init_runtime_done(NOW, init_runtime_done(ON_DEMAND, "init", "success", None))),
        ("WARN", lambda log: log.init_runtime_done(NOW, init_runtime_done(ON_DEMAND, "init", "timeout", None))),
        ("DEBUG", lambda log: log.init_report(NOW, init_report(ON_DEMAND, "init", "success", 1.0, None))),
        ("INFO", lambda log: log.init_report(NOW, init_report(PROVISIONED, "init", "success", 1.0, None))),
        ("WARN", lambda log: log.init_report(NOW, init_report(PROVISIONED, "init", "error", 1.0, "E"))),
        ("INFO", lambda log: log.start(NOW, "id", "1")),
        ("DEBUG", lambda log: log.runtime_done(NOW, {"requestId": "id", "status": "success"})),
        ("WARN", lambda log: log.runtime_done(NOW, {"requestId": "id", "status": "error"})),
        ("INFO", lambda log: log.extension(NOW, extension("x", "Ready", ["INVOKE"], None))),
        ("WARN", lambda log: log.extension(NOW, extension("x", "InitError", [], "Extension.Oops"))),
        ("INFO", lambda log: log.subscription(NOW, "platform.logsSubscription", {"name": "x"})),
    ],
)
def test_the_level_of_each_event(level: str, write: Callable[[PlatformLog], str | None]) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html"""
    levels = ["DEBUG", "INFO", "WARN"]
    written = [lowest for lowest in levels if write(in_json(lowest)) is not None]
    assert written == levels[: levels.index(level) + 1]


def test_a_runtime_done_that_is_not_written_is_known_not_to_be() -> None:
    """Who has no other use for it need not make the record."""
    for log in (TEXT, in_json("DEBUG"), in_json("INFO"), in_json("WARN")):
        for status in ("success", "error", "timeout"):
            written = log.runtime_done(NOW, {"requestId": "id", "status": status}) is not None
            assert log.writes_runtime_done(status) is written


def test_the_initialization_in_text() -> None:
    start = TEXT.init_start(NOW, Initialization(ON_DEMAND, "f", "1", "python:3.13", "arn"))
    assert start == "INIT_START Runtime Version: python:3.13\tRuntime Version ARN: arn\n"
    assert TEXT.init_runtime_done(NOW, init_runtime_done(ON_DEMAND, "init", "error", "E")) is None
    assert TEXT.init_report(NOW, init_report(ON_DEMAND, "init", "success", 1.0, None)) is None
    ahead = TEXT.init_report(NOW, init_report(PROVISIONED, "init", "success", 12.345, None))
    assert ahead == "INIT_REPORT Init Duration: 12.35 ms\n"
    failed = TEXT.init_report(NOW, init_report(ON_DEMAND, "invoke", "error", 12.345, "Runtime.ExitError"))
    assert failed == (
        "INIT_REPORT Init Duration: 12.35 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ExitError\n"
    )


def test_extensions_in_text() -> None:
    """Lines as Lambda wrote them for a real extension."""
    assert TEXT.extension(NOW, extension("datadog-agent", "Ready", ["INVOKE", "SHUTDOWN"], None)) == (
        "EXTENSION\tName: datadog-agent\tState: Ready\tEvents: [INVOKE,SHUTDOWN]\n"
    )
    record = {"name": "datadog-agent", "state": "Subscribed", "types": ["platform", "function", "extension"]}
    assert TEXT.subscription(NOW, "platform.telemetrySubscription", record) == (
        "TELEMETRY\tName: datadog-agent\tState: Subscribed\tTypes: [Platform, Function, Extension]\n"
    )
    assert str(TEXT.subscription(NOW, "platform.logsSubscription", record)).startswith("LOGS\tName: datadog-agent\t")


def test_the_initialization_in_json() -> None:
    """As Lambda wrote it for a function of 2024, but for the times."""
    log = in_json("DEBUG")
    start = log.init_start(
        NOW, Initialization(ON_DEMAND, "f", "$LATEST", "nodejs:18.v28", "arn:aws:lambda:::runtime:x")
    )
    assert json.loads(str(start)) == {
        "time": iso(NOW),
        "type": "platform.initStart",
        "record": {
            "initializationType": "on-demand",
            "phase": "init",
            "runtimeVersion": "nodejs:18.v28",
            "runtimeVersionArn": "arn:aws:lambda:::runtime:x",
            "functionName": "f",
            "functionVersion": "$LATEST",
        },
    }
    done = log.init_runtime_done(NOW, init_runtime_done(ON_DEMAND, "init", "success", None))
    assert json.loads(str(done))["record"] == {
        "initializationType": "on-demand",
        "phase": "init",
        "status": "success",
    }
    report = log.init_report(NOW, init_report(ON_DEMAND, "init", "success", 173.778, None))
    assert json.loads(str(report))["record"] == {
        "initializationType": "on-demand",
        "phase": "init",
        "status": "success",
        "metrics": {"durationMs": 173.778},
    }

"""What the platform writes into logs, to AWS's letter."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lambdad.domain.functions import LoggingConfig
from lambdad.domain.platform_logs import PlatformLog, Report, iso

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
    assert in_json("INFO").init_report(NOW, 1.0, "init", "success") is None
    assert in_json("DEBUG").init_report(NOW, 1.0, "init", "success") is not None


def test_json_has_neither_end_nor_a_line_for_a_timeout() -> None:
    assert in_json("TRACE").end("id") is None
    assert in_json("TRACE").timed_out(NOW, "id", 3.0) is None

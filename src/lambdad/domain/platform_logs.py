"""What the platform itself writes into a function's log, in text and in JSON.

Text: https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
JSON and the level of each event: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any, Final

from lambdad.domain.functions import LoggingConfig

LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one finished invocation; durations in milliseconds. `status` is success, error or timeout."""

    request_id: str
    duration_ms: float
    billed_ms: int
    memory_mb: int
    max_memory_used_mb: int
    init_ms: float | None
    status: str
    error_type: str | None

    def text(self) -> str:
        line = (
            f"REPORT RequestId: {self.request_id}\tDuration: {self.duration_ms:.2f} ms\t"
            f"Billed Duration: {self.billed_ms} ms\tMemory Size: {self.memory_mb} MB\t"
            f"Max Memory Used: {self.max_memory_used_mb} MB\t"
        )
        if self.init_ms is not None:
            line += f"Init Duration: {self.init_ms:.2f} ms\t"
        if self.status != "success":
            line += f"Status: {self.status}"
        if self.status == "error":
            line += f"\tError Type: {self.error_type}"
        return line + "\n"

    def record(self) -> dict[str, Any]:
        metrics: dict[str, Any] = {
            "durationMs": round(self.duration_ms, 3),
            "billedDurationMs": self.billed_ms,
            "memorySizeMB": self.memory_mb,
            "maxMemoryUsedMB": self.max_memory_used_mb,
        }
        if self.init_ms is not None:
            metrics["initDurationMs"] = round(self.init_ms, 3)
        record = {"requestId": self.request_id, "metrics": metrics, "status": self.status}
        if self.error_type is not None:
            record["errorType"] = self.error_type
        return record


class PlatformLog:
    """Renders platform events for one function's logging configuration. Each method gives a line, or None."""

    def __init__(self, logging: LoggingConfig) -> None:
        self._json = logging.log_format == "JSON"
        self._lowest = LEVELS.index(logging.system_log_level or "INFO")

    def init_start(self, now: float, runtime_version: str, runtime_version_arn: str) -> str | None:
        if not self._json:
            return f"INIT_START Runtime Version: {runtime_version}\tRuntime Version ARN: {runtime_version_arn}\n"
        record = {
            "initializationType": "on-demand",
            "phase": "init",
            "runtimeVersion": runtime_version,
            "runtimeVersionArn": runtime_version_arn,
        }
        return self._event(now, "platform.initStart", "INFO", record)

    def init_report(
        self, now: float, duration_ms: float, phase: str, status: str, error_type: str | None = None
    ) -> str | None:
        """Written for an initialization that failed or ran out of time; a good one is part of REPORT."""
        if not self._json:
            line = f"INIT_REPORT Init Duration: {duration_ms:.2f} ms\tPhase: {phase}\tStatus: {status}"
            return line + (f"\tError Type: {error_type}\n" if error_type else "\n")
        record: dict[str, Any] = {
            "initializationType": "on-demand",
            "phase": phase,
            "status": status,
            "metrics": {"durationMs": round(duration_ms, 3)},
        }
        if error_type:
            record["errorType"] = error_type
        return self._event(now, "platform.initReport", "DEBUG" if status == "success" else "WARN", record)

    def start(self, now: float, request_id: str, version: str) -> str | None:
        if not self._json:
            return f"START RequestId: {request_id} Version: {version}\n"
        return self._event(now, "platform.start", "INFO", {"requestId": request_id, "version": version})

    def end(self, request_id: str) -> str | None:
        return None if self._json else f"END RequestId: {request_id}\n"

    def timed_out(self, now: float, request_id: str, timeout_s: float) -> str | None:
        """JSON logs say it in the report's status instead."""
        if self._json:
            return None
        return f"{iso(now)} {request_id} Task timed out after {timeout_s:.2f} seconds\n\n"

    def failed(self, message: str, error_type: str) -> str | None:
        return None if self._json else f"{message}\n{error_type}\n"

    def report(self, now: float, report: Report) -> str | None:
        if not self._json:
            return report.text()
        return self._event(now, "platform.report", "INFO" if report.status == "success" else "WARN", report.record())

    def _event(self, now: float, kind: str, level: str, record: dict[str, Any]) -> str | None:
        if LEVELS.index(level) < self._lowest:
            return None
        return json.dumps({"time": iso(now), "type": kind, "record": record}, separators=(",", ":")) + "\n"


def iso(seconds: float) -> str:
    """`2026-11-21T03:54:24.123Z`."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"

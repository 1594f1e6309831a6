"""What the platform itself writes into a function's log, in text and in JSON, and the records of its events.

Text: https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
JSON and the level of each event: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
Records: https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lambdad.domain.environment_variables import ON_DEMAND
from lambdad.domain.functions import FunctionVersion, LoggingConfig

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
        return _with_error({"requestId": self.request_id, "status": self.status, "metrics": metrics}, self.error_type)


@dataclass(frozen=True, slots=True)
class Initialization:
    """The initialization of one environment; the methods give records of its events.

    `kind` is `on-demand` or `provisioned-concurrency`.
    """

    kind: str
    function_name: str
    function_version: str
    runtime_version: str
    runtime_version_arn: str

    @classmethod
    def of(cls, version: FunctionVersion, kind: str, runtime_version: str, runtime_version_arn: str) -> Initialization:
        return cls(kind, version.key.name, version.version, runtime_version, runtime_version_arn)

    def started(self) -> dict[str, Any]:
        record = {"initializationType": self.kind, "phase": "init"}
        if self.runtime_version:
            record["runtimeVersion"] = self.runtime_version
            record["runtimeVersionArn"] = self.runtime_version_arn
        return record | {"functionName": self.function_name, "functionVersion": self.function_version}


def init_runtime_done(kind: str, phase: str, status: str, error_type: str | None) -> dict[str, Any]:
    """The record of `platform.initRuntimeDone`; `kind` is the initialization's type."""
    return _with_error({"initializationType": kind, "phase": phase, "status": status}, error_type)


def init_report(kind: str, phase: str, status: str, duration_ms: float, error_type: str | None) -> dict[str, Any]:
    """The record of `platform.initReport`."""
    record: dict[str, Any] = {"initializationType": kind, "phase": phase, "status": status}
    record["metrics"] = {"durationMs": round(duration_ms, 3)}
    return _with_error(record, error_type)


def start(request_id: str, version: str) -> dict[str, Any]:
    """The record of `platform.start`."""
    return {"requestId": request_id, "version": version}


def extension(name: str, state: str, events: Sequence[str], error_type: str | None) -> dict[str, Any]:
    """The record of `platform.extension`."""
    return _with_error({"name": name, "state": state, "events": list(events)}, error_type)


def _with_error(record: dict[str, Any], error_type: str | None) -> dict[str, Any]:
    return record | {"errorType": error_type} if error_type is not None else record


class PlatformLog:
    """Renders platform events for one function's logging configuration. Each method gives a line, or None."""

    def __init__(self, logging: LoggingConfig) -> None:
        self.is_json = logging.log_format == "JSON"
        self._lowest = LEVELS.index(logging.system_log_level or "INFO")

    def init_start(self, now: float, initialization: Initialization) -> str | None:
        if not self.is_json:
            return (
                f"INIT_START Runtime Version: {initialization.runtime_version}\t"
                f"Runtime Version ARN: {initialization.runtime_version_arn}\n"
            )
        level = "INFO" if initialization.runtime_version else "DEBUG"
        return self._event(now, "platform.initStart", level, initialization.started())

    def init_runtime_done(self, now: float, record: Mapping[str, Any]) -> str | None:
        level = "DEBUG" if record["status"] == "success" else "WARN"
        return self._event(now, "platform.initRuntimeDone", level, record) if self.is_json else None

    def init_report(self, now: float, record: Mapping[str, Any]) -> str | None:
        """Text has it for an initialization that failed or ran out of time, and for each that was done ahead.

        https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-init-errors
        """
        if self.is_json:
            is_good = record["status"] == "success"
            level = "WARN" if not is_good else "DEBUG" if record["initializationType"] == ON_DEMAND else "INFO"
            return self._event(now, "platform.initReport", level, record)
        line = f"INIT_REPORT Init Duration: {record['metrics']['durationMs']:.2f} ms"
        if record["status"] == "success":
            return None if record["initializationType"] == ON_DEMAND else line + "\n"
        line += f"\tPhase: {record['phase']}\tStatus: {record['status']}"
        return line + (f"\tError Type: {record['errorType']}\n" if "errorType" in record else "\n")

    def extension(self, now: float, record: Mapping[str, Any]) -> str | None:
        if self.is_json:
            return self._event(now, "platform.extension", "WARN" if "errorType" in record else "INFO", record)
        line = f"EXTENSION\tName: {record['name']}\tState: {record['state']}\tEvents: [{','.join(record['events'])}]"
        return line + (f"\tError Type: {record['errorType']}\n" if "errorType" in record else "\n")

    def subscription(self, now: float, kind: str, record: Mapping[str, Any]) -> str | None:
        """`kind` is `platform.telemetrySubscription` or `platform.logsSubscription`."""
        if self.is_json:
            return self._event(now, kind, "INFO", record)
        api = "TELEMETRY" if kind == "platform.telemetrySubscription" else "LOGS"
        types = ", ".join(each.capitalize() for each in record["types"])
        return f"{api}\tName: {record['name']}\tState: {record['state']}\tTypes: [{types}]\n"

    def start(self, now: float, request_id: str, version: str) -> str | None:
        if not self.is_json:
            return f"START RequestId: {request_id} Version: {version}\n"
        return self._event(now, "platform.start", "INFO", start(request_id, version))

    def writes_runtime_done(self, status: str) -> bool:
        """Whether the log has `platform.runtimeDone` of an invocation that ended so."""
        return self.is_json and LEVELS.index("DEBUG" if status == "success" else "WARN") >= self._lowest

    def runtime_done(self, now: float, record: Mapping[str, Any]) -> str | None:
        level = "DEBUG" if record["status"] == "success" else "WARN"
        return self._event(now, "platform.runtimeDone", level, record) if self.is_json else None

    def end(self, request_id: str) -> str | None:
        return None if self.is_json else f"END RequestId: {request_id}\n"

    def timed_out(self, now: float, request_id: str, timeout_s: float) -> str | None:
        """JSON logs say it in the report's status instead."""
        return None if self.is_json else timed_out(now, request_id, timeout_s)

    def failed(self, message: str, error_type: str) -> str | None:
        return None if self.is_json else f"{message}\n{error_type}\n"

    def report(self, now: float, report: Report) -> str | None:
        if not self.is_json:
            return report.text()
        return self._event(now, "platform.report", "INFO" if report.status == "success" else "WARN", report.record())

    def _event(self, now: float, kind: str, level: str, record: Mapping[str, Any]) -> str | None:
        if LEVELS.index(level) < self._lowest:
            return None
        return json.dumps({"time": iso(now), "type": kind, "record": record}, separators=(",", ":")) + "\n"


def timed_out(now: float, request_id: str, timeout_s: float) -> str:
    """What is said of an invocation that ran out of time."""
    return f"{iso(now)} {request_id} Task timed out after {timeout_s:.2f} seconds\n\n"


def iso(seconds: float) -> str:
    """`2026-11-21T03:54:24.123Z`."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"

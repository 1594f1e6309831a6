"""The handler that AWS Lambda puts on the root logger. Imported when the function's code imports `logging`.

https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
"""

from __future__ import annotations

import logging
import time

from .output import frame_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .output import LogSink
    from .runtime import Invocation

_TEXT_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) - {"taskName"} | {
    "aws_request_id",
    "tenant_id",
    "asctime",
    "message",
}


def install(sink: LogSink, current: Invocation, log_format: str, log_level: str) -> None:
    """Set up the root logger; `log_format` is Text or JSON, `log_level` one of AWS's names or empty."""
    logging.Formatter.converter = time.gmtime
    is_text = log_format.upper() != "JSON"
    handler = LambdaLoggerHandler(sink, is_text, carries_level=bool(log_level) or not is_text)
    handler.setFormatter(logging.Formatter(_TEXT_FORMAT, "%Y-%m-%dT%H:%M:%S") if is_text else JsonFormatter())
    handler.addFilter(InvocationFilter(current))
    root = logging.getLogger()
    level = logging.getLevelName("DEBUG" if log_level.upper() == "TRACE" else log_level.upper())
    if isinstance(level, int):
        root.setLevel(level)
    root.addHandler(handler)


class LambdaLoggerHandler(logging.Handler):
    """Writes records to the function's log. As on AWS, a record that cannot be formatted raises in the caller."""

    def __init__(self, log_sink: LogSink, is_text: bool, carries_level: bool) -> None:
        super().__init__()
        self.log_sink = log_sink
        self._is_text = is_text
        self._carries_level = carries_level

    def emit(self, record: logging.LogRecord) -> None:
        kind = frame_type(record.levelno, self._is_text) if self._carries_level else None
        self.log_sink.log(self.format(record), kind)


class InvocationFilter(logging.Filter):
    """Gives each record the identity of the invocation that runs."""

    def __init__(self, current: Invocation) -> None:
        super().__init__()
        self._current = current

    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = self._current.request_id
        record.tenant_id = self._current.tenant_id
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a record, extra fields included."""

    def __init__(self) -> None:
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%SZ")
        import json

        self._encoder = json.JSONEncoder(ensure_ascii=False, default=str)

    def format(self, record: logging.LogRecord) -> str:
        plain = isinstance(record.msg, dict) and not record.args
        fields: dict[str, Any] = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": logging.getLevelName(min(max(record.levelno, 0), 50) // 10 * 10),
            "message": record.msg if plain else record.getMessage(),
            "logger": record.name,
            **_exception_fields(record),
            "requestId": getattr(record, "aws_request_id", None),
            "tenantId": getattr(record, "tenant_id", None),
        }
        for name, value in vars(record).items():
            if name not in _OWN_ATTRIBUTES:
                fields.setdefault(name, value)
        present = {name: value for name, value in fields.items() if value is not None}
        return self._encoder.encode(present) + "\n"


def _exception_fields(record: logging.LogRecord) -> dict[str, Any]:
    if not record.exc_info or record.exc_info[0] is None:
        return {}
    import traceback

    error_class, error, trace = record.exc_info
    return {
        "stackTrace": traceback.format_tb(trace),
        "errorType": error_class.__name__,
        "errorMessage": str(error),
        "location": f"{record.pathname}:{record.funcName}:{record.lineno}",
    }

"""What goes wrong in a function, in the shapes AWS Lambda gives it: error document, log record, X-Ray cause.

https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # `typing` costs more than this whole package; type checkers know the bare name
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Sequence

    StackFrame = tuple[str, int, str, str | None]  # file, line number, function, source line

_OWN_FOLDER = __file__.rpartition("/")[0] + "/"
_NO_BREAK_SPACE = "\u00a0"


class Fault(Exception):
    """An error that the runtime, not the function's code, found: `error_type` is one of AWS's `Runtime.` names."""

    def __init__(self, error_type: str, message: str, stack_trace: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.stack_trace = list(stack_trace)


class ErrorReport:
    """One failed invocation or initialization, ready to be logged and sent."""

    def __init__(self, error: Exception, request_id: str = "") -> None:
        self.request_id = request_id
        self._frames: list[StackFrame] = []
        if isinstance(error, Fault):
            self.error_type = error.error_type
            self.message = error.message
            self.stack_trace = error.stack_trace
            self._xray_type = "LambdaValidationError"
        else:
            self.error_type = self._xray_type = type(error).__name__
            self.message = _message_of(error)
            self._frames = _user_frames(error.__traceback__)
            self.stack_trace = _format_frames(self._frames)

    def document(self) -> dict[str, object]:
        """The body of the error answer."""
        return {
            "errorMessage": self.message,
            "errorType": self.error_type,
            "requestId": self.request_id,
            "stackTrace": self.stack_trace,
        }

    def json_record(self) -> dict[str, object]:
        """The log record in the JSON log format."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {"timestamp": now, "level": "ERROR", **self.document()}

    def text_lines(self) -> list[str]:
        """The log record in the text log format. As in CloudWatch Logs, no-break spaces keep the indentation."""
        title = "[ERROR] " + (self.error_type + ": " + self.message if self.message else self.error_type)
        lines = [title, "Traceback (most recent call last):"]
        for entry in self.stack_trace:
            for line in entry.splitlines():
                text = line.lstrip(" ")
                lines.append(_NO_BREAK_SPACE * (len(line) - len(text)) + text)
        return lines

    def xray_cause(self) -> dict[str, object]:
        """The document that X-Ray shows for the failed segment."""
        stack = [{"label": function, "path": path, "line": number} for path, number, function, _ in self._frames]
        return {
            "working_directory": _working_directory(),
            "exceptions": [{"message": self.message, "type": self._xray_type, "stack": stack}],
            "paths": sorted({frame[0] for frame in self._frames}),
        }


def _message_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - `__str__` is the function's own code and may do anything
        return "<exception str() failed>"


def _user_frames(trace: TracebackType | None) -> list[StackFrame]:
    """The frames below the runtime's own."""
    import traceback

    frames = [(frame.filename, frame.lineno or 0, frame.name, frame.line) for frame in traceback.extract_tb(trace)]
    while frames and frames[0][0].startswith(_OWN_FOLDER):
        del frames[0]
    return frames


def _format_frames(frames: list[StackFrame]) -> list[str]:
    """One string a frame; from plain tuples, so that they carry no column markers, as on AWS."""
    import traceback

    return traceback.format_list(frames)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # removed by the function
        return ""

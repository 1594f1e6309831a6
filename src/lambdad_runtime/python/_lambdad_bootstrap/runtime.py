"""The life of a runtime: initialize the function once, then answer one event after the other."""

from __future__ import annotations

import atexit
import os
import sys

from .client import ERROR_CONTENT_TYPE, Answer, Disconnected, RuntimeClient, error_headers
from .context import LambdaContext
from .faults import ErrorReport
from .imports import load_handler, prepare_interpreter
from .marshaller import JSON_CONTENT_TYPE, encode_json, marshal_response, unmarshal_event
from .output import ERROR_LEVEL, LogSink, frame_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, Sequence

    Handler = Callable[[Any, Any], Any]

_TRACE_VARIABLE = "_X_AMZN_TRACE_ID"


class Invocation:
    """Which invocation runs; the log handler reads it."""

    __slots__ = ("request_id", "tenant_id")

    def __init__(self) -> None:
        self.request_id = ""
        self.tenant_id: str | None = None


class Runtime:
    """One function in one process, connected to the Runtime API."""

    def __init__(self, client: RuntimeClient, sink: LogSink, log_format: str) -> None:
        self.current = Invocation()
        self._client = client
        self._sink = sink
        self._is_json = log_format.upper() == "JSON"
        self._pid = os.getpid()

    def initialize(self, handler: str) -> Handler:
        """Import the function. A failure is logged and reported, and ends the process with status 1."""
        try:
            return load_handler(handler)
        except Exception as error:  # noqa: BLE001 - the function's module may raise anything
            self._reraise_in_child()
            report = ErrorReport(error)
        self._log(report)
        self._sink.flush()
        self._client.report_init_error(report.error_type, encode_json(report.document()))
        sys.exit(1)

    def serve(self, handler: Handler) -> None:
        """Answer events. Returns only in a child process that the handler forked and let return."""
        self._client.request_invocation()
        while True:
            headers, body = self._client.receive_invocation()
            self._enter(headers)
            answer = self._invoke(handler, headers, body)
            if os.getpid() != self._pid:
                return
            self._sink.flush()
            self._client.answer_and_request_invocation(self.current.request_id, answer)
            status, _ = self._client.receive_acknowledgement()
            if status != 202:
                self._log_refusal(answer, status)

    def write_log(self, message: str) -> None:
        """What `context.log` does: one record in the log, unless the function has taken the handler away."""
        logging = sys.modules.get("logging")
        if logging is None or any(hasattr(handler, "log_sink") for handler in logging.getLogger().handlers):
            self._sink.log(message)
        else:
            sys.stdout.write(message)

    def install_log_handler(self, log_format: str, log_level: str) -> None:
        """Set up `logging`, which has just been imported."""
        from .logs import install

        install(self._sink, self.current, log_format, log_level)

    def _enter(self, headers: dict[str, str]) -> None:
        self.current.request_id = headers.get("lambda-runtime-aws-request-id", "")
        self.current.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        trace_id = headers.get("lambda-runtime-trace-id")
        if trace_id:
            os.environ[_TRACE_VARIABLE] = trace_id
        else:
            os.environ.pop(_TRACE_VARIABLE, None)

    def _invoke(self, handler: Handler, headers: dict[str, str], body: bytes | bytearray) -> Answer:
        try:
            context = LambdaContext(headers, self.write_log)
            event = unmarshal_event(body, headers.get("content-type", JSON_CONTENT_TYPE))
            return Answer("response", *marshal_response(handler(event, context)))
        except Exception as error:  # noqa: BLE001 - it may raise anything; a BaseException ends the process, as on AWS
            self._reraise_in_child()
            report = ErrorReport(error, self.current.request_id)
        self._log(report)
        cause = encode_json(report.xray_cause(), escape_unicode=True)
        document = encode_json(report.document())
        return Answer("error", document, ERROR_CONTENT_TYPE, error_headers(report.error_type, cause))

    def _reraise_in_child(self) -> None:
        """In a forked child the error is the child's own: it ends with a traceback, and the parent answers."""
        if os.getpid() != self._pid:
            raise

    def _log(self, report: ErrorReport) -> None:
        if self._is_json:
            lines = [encode_json(report.json_record(), escape_unicode=False).decode("utf-8")]
        else:
            lines = report.text_lines()
        self._sink.log_lines(lines, frame_type(ERROR_LEVEL, not self._is_json))

    def _log_refusal(self, answer: Answer, status: int) -> None:
        outcome = "success" if answer.kind == "response" else "failure"
        message = f"[ERROR] LAMBDA_RUNTIME Failed to post handler {outcome} response. Http response code: {status}."
        self._sink.log_lines([message], frame_type(ERROR_LEVEL, True))


def main(sdk_folders: Sequence[str], sink: LogSink | None = None) -> None:
    """Run the function that the environment variables describe. `sink`: its standard streams, if they are set up."""
    environ = os.environ
    log_format = environ.get("AWS_LAMBDA_LOG_FORMAT", "Text")
    log_level = environ.get("AWS_LAMBDA_LOG_LEVEL", "")
    if sink is None:
        sink = LogSink.take_over(environ)
    try:
        # Before the function's code runs, which may give every new socket a timeout.
        client = RuntimeClient(environ["AWS_LAMBDA_RUNTIME_API"])
        os.register_at_fork(after_in_child=client.close)
        atexit.register(client.close)  # Python 3.8 and 3.9 crash on a socket that outlives the interpreter
        runtime = Runtime(client, sink, log_format)
        after_import = {"logging": lambda: runtime.install_log_handler(log_format, log_level)}
        prepare_interpreter(sdk_folders, after_import)
        runtime.serve(runtime.initialize(environ.get("_HANDLER", "")))
    except Disconnected:
        _end(sink)


def _end(sink: LogSink) -> NoReturn:
    """The daemon is gone: end at once, also where the function left threads running."""
    sink.flush()
    os._exit(0)

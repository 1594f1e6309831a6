"""What the caller, the log and X-Ray see when a function fails."""

import json

import pytest

ERROR_TYPE = "lambda-runtime-function-error-type"
XRAY_CAUSE = "lambda-runtime-function-xray-error-cause"
FAILING = "def handler(event, context):\n    return helper()\ndef helper():\n    raise ValueError('bad\\nvalue')\n"


def init_error(session):
    request = session.read_init_error()
    document = request.json
    assert list(document) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert document["requestId"] == ""
    assert request.headers[ERROR_TYPE] == document["errorType"]
    return document


def test_an_exception_is_answered_with_the_functions_own_frames(start, tmp_path):
    session = start(FAILING)
    request_id = session.send_event(b"{}")
    answer = session.read_answer(request_id)
    path = tmp_path / "app.py"
    assert answer.kind == "error"
    assert answer.headers["content-type"] == "application/vnd.aws.lambda.error+json"
    assert answer.headers[ERROR_TYPE] == "ValueError"
    assert answer.json == {
        "errorMessage": "bad\nvalue",
        "errorType": "ValueError",
        "requestId": request_id,
        "stackTrace": [
            f'  File "{path}", line 2, in handler\n    return helper()\n',
            f"  File \"{path}\", line 4, in helper\n    raise ValueError('bad\\nvalue')\n",
        ],
    }
    assert json.loads(answer.headers[XRAY_CAUSE]) == {
        "working_directory": str(tmp_path),
        "exceptions": [
            {
                "message": "bad\nvalue",
                "type": "ValueError",
                "stack": [
                    {"label": "handler", "path": str(path), "line": 2},
                    {"label": "helper", "path": str(path), "line": 4},
                ],
            }
        ],
        "paths": [str(path)],
    }
    assert session.invoke().json["requestId"].endswith("2")  # the loop goes on


def test_an_exception_is_one_record_in_the_text_log(start, tmp_path):
    session = start(FAILING)
    session.invoke()
    (record,) = session.written()
    path = tmp_path / "app.py"
    assert record.kind == 0xA55A0017
    assert record.text.replace("\xa0", "_") == (
        "[ERROR] ValueError: bad\nvalue\nTraceback (most recent call last):\n"
        f'__File "{path}", line 2, in handler\n____return helper()\n'
        f"__File \"{path}\", line 4, in helper\n____raise ValueError('bad\\nvalue')"
    )


def test_an_exception_is_one_object_in_the_json_log(start):
    session = start(FAILING, environ={"AWS_LAMBDA_LOG_FORMAT": "JSON"})
    answer = session.invoke()
    (record,) = session.written()
    fields = json.loads(record.text)
    assert record.kind == 0xA55A0016
    assert list(fields) == ["timestamp", "level", "errorMessage", "errorType", "requestId", "stackTrace"]
    assert fields.pop("timestamp").endswith("Z")
    assert fields.pop("level") == "ERROR"
    assert fields == answer.json


def test_without_a_telemetry_descriptor_the_record_is_one_line(start):
    session = start(FAILING, telemetry=False)
    session.invoke()
    (text,) = session.written()
    assert text.text.startswith("[ERROR] ValueError: bad\nvalue\rTraceback (most recent call last):\r\xa0\xa0File")


@pytest.mark.parametrize(
    ("statement", "error_type", "message"),
    [
        ("return {1, 2}", "Runtime.MarshalError", "Object of type set is not JSON serializable"),
        (
            "import datetime; return {'x': [datetime.datetime(2020, 1, 1)]}",
            "Runtime.MarshalError",
            "Object of type datetime is not JSON serializable",
        ),
        ("yield 1", "Runtime.MarshalError", "Object of type generator is not JSON serializable"),
        ("return [b'\\xff']", "Runtime.MarshalError", "'utf-8' codec can't decode byte 0xff"),
        ("x = []; x.append(x); return x", "Runtime.MarshalError", "Circular reference detected"),
        ("return {(1, 2): 3}", "Runtime.MarshalError", "keys must be str, int, float, bool or None"),
        ("return handler(event, context)", "RecursionError", "maximum recursion depth exceeded"),
        ("raise MemoryError", "MemoryError", ""),
        ("raise KeyError('k')", "KeyError", "'k'"),
        ("raise ValueError('\\ud800')", "ValueError", "\ud800"),
        ("raise type('Fehler\\u00e4\\r\\nX', (Exception,), {})('e')", "Fehlerä\r\nX", "e"),
        ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})", "E", "<exception str() failed>"),
    ],
)
def test_every_failure_of_a_handler_is_answered(start, statement, error_type, message):
    session = start(f"def handler(event, context):\n    if event: return 'fine'\n    {statement}\n")
    answer = session.invoke()
    if statement.startswith("yield"):
        answer = session.invoke(1)
    prefix = "Unable to marshal response: " if error_type == "Runtime.MarshalError" else ""
    assert answer.kind == "error"
    assert answer.json["errorType"] == error_type
    assert answer.headers[ERROR_TYPE] == error_type.encode("unicode_escape").decode()
    assert answer.json["errorMessage"].startswith(prefix + message)
    if not statement.startswith("yield"):
        assert session.invoke(1).json == "fine"


def test_a_coroutine_is_not_serializable(start):
    session = start("async def handler(event, context): return 1")
    document = session.invoke().json
    assert document["errorMessage"] == "Unable to marshal response: Object of type coroutine is not JSON serializable"
    assert document["stackTrace"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b'{"a": 1} x', "Extra data: line 1 column 10 (char 9)"),
        (b'"\x01"', "Invalid control character at: line 1 column 2 (char 1)"),
        (b'"\xff"', "'utf-8' codec can't decode byte 0xff in position 1: invalid start byte"),
        (b"[" * 200_000, "maximum recursion depth exceeded"),
    ],
)
def test_an_event_that_is_not_json_is_an_error(start, body, message):
    session = start("def handler(event, context): return event")
    document = session.invoke_raw(body).json
    assert document["errorType"] == "Runtime.UnmarshalError"
    assert document["errorMessage"].startswith("Unable to unmarshal input: " + message)
    assert session.invoke(1).json == 1


def test_the_wrong_signature_shows_no_frame_of_the_runtime(start):
    document = start("def handler(): pass").invoke().json
    assert document["errorType"] == "TypeError"
    assert "takes 0 positional arguments but 2 were given" in document["errorMessage"]
    assert document["stackTrace"] == []


@pytest.mark.parametrize(
    ("handler", "error_type", "message"),
    [
        ("app", "Runtime.MalformedHandlerName", "Bad handler 'app': not enough values to unpack (expected 2, got 1)"),
        (
            "nothing.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'nothing': No module named 'nothing'",
        ),
        ("needs.handler", "Runtime.ImportModuleError", "Unable to import module 'needs': No module named 'foo'"),
        ("app.other", "Runtime.HandlerNotFound", "Handler 'other' missing on module 'app'"),
        ("sys.exit", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
        ("raises.handler", "ZeroDivisionError", "division by zero"),
        (
            "/app.handler",
            "TypeError",
            "the 'package' argument is required to perform a relative import for '.app'",
        ),
        (".handler", "ValueError", "Empty module name"),
    ],
)
def test_a_function_that_cannot_be_loaded_reports_why(start, handler, error_type, message):
    code = {"app.py": "handler = None", "needs.py": "import foo", "raises.py": "def f():\n    1 / 0\nf()\n"}
    session = start(code, handler=handler)
    document = init_error(session)
    assert document["errorType"] == error_type
    assert document["errorMessage"] == message
    (record,) = session.written()
    assert record.text.startswith(f"[ERROR] {error_type}: {message}\nTraceback (most recent call last):")


def test_an_exception_at_import_shows_the_modules_frames(start, tmp_path):
    document = init_error(start("def f():\n    1 / 0\nf()\n"))
    path = tmp_path / "app.py"
    assert document["stackTrace"] == [
        f'  File "{path}", line 3, in <module>\n    f()\n',
        f'  File "{path}", line 2, in f\n    1 / 0\n',
    ]


def test_a_syntax_error_shows_its_place(start, tmp_path):
    document = init_error(start("x = 1\nif x\n    pass\n"))
    assert document["errorType"] == "Runtime.UserCodeSyntaxError"
    assert document["errorMessage"].startswith("Syntax error in module 'app': ")
    assert document["errorMessage"].endswith("(app.py, line 2)")
    assert document["stackTrace"] == [f'  File "{tmp_path / "app.py"}" Line 2\n    if x\n']


@pytest.mark.parametrize("place", ["module", "handler"])
@pytest.mark.parametrize(
    ("statement", "status"),
    [("import sys; sys.exit(7)", 7), ("exit()", 0), ("quit('bye')", 1), ("import os; os._exit(9)", 9)],
)
def test_leaving_the_process_is_left_to_the_platform(start, place, statement, status):
    indent = "" if place == "module" else "    "
    session = start(f"def handler(event, context):\n    print('in')\n{indent}{statement}\n")
    if place == "handler":
        session.send_event(b"{}")
        session.output.wait_for(b"in\n")
    assert session.process.wait(30) == status
    with pytest.raises((EOFError, ConnectionResetError)):  # nothing is answered
        session.read_request()


def test_a_keyboard_interrupt_ends_the_process_with_a_traceback(start):
    session = start("def handler(event, context): raise KeyboardInterrupt")
    session.send_event(b"{}")
    assert session.process.wait(30) != 0
    session.output.wait_for(b"KeyboardInterrupt\n")


def test_a_report_survives_a_removed_working_directory(start):
    session = start(
        "import os\ndef handler(event, context):\n    os.mkdir('d'); os.chdir('d'); os.rmdir('../d')\n    1 / 0\n"
    )
    answer = session.invoke()
    assert answer.json["errorType"] == "ZeroDivisionError"
    assert json.loads(answer.headers[XRAY_CAUSE])["working_directory"] == ""

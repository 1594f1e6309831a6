"""Logs: what console and the standard streams write, in both formats."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from unit.runtime_nodejs.runtime_session import RuntimeSession

Start = Callable[..., RuntimeSession]

REQUEST_ID = "00000000-0000-4000-8000-000000000001"
JSON_FORMAT = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
ALL_METHODS = (
    "for (const name of ['trace', 'debug', 'log', 'info', 'warn', 'error', 'fatal']) console[name]('by ' + name)"
)


def handler(body: str) -> str:
    """The code of a handler."""
    return f"exports.handler = async (event, context) => {{ {body} }}"


def json_lines(session: RuntimeSession) -> list[Any]:
    """The records of the JSON format, without their times."""
    records = []
    for record in session.logs.records():
        fields = json.loads(record.text)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("timestamp"))
        records.append(fields)
    return records


def test_the_text_format(start: Start) -> None:
    session = start("console.log('init');\n" + handler(ALL_METHODS))
    answer = session.invoke()
    assert session.lines_before(answer) == [
        "undefined\tINFO\tinit",
        f"{REQUEST_ID}\tTRACE\tby trace",
        f"{REQUEST_ID}\tDEBUG\tby debug",
        f"{REQUEST_ID}\tINFO\tby log",
        f"{REQUEST_ID}\tINFO\tby info",
        f"{REQUEST_ID}\tWARN\tby warn",
        f"{REQUEST_ID}\tERROR\tby error",
        f"{REQUEST_ID}\tFATAL\tby fatal",
    ]


@pytest.mark.parametrize(("log_format", "bit"), [("Text", 1), ("JSON", 0)])
def test_frames_carry_level_format_and_time(start: Start, log_format: str, bit: int) -> None:
    session = start(handler(ALL_METHODS), env={"AWS_LAMBDA_LOG_FORMAT": log_format})
    earliest = time.time_ns() // 1_000_000 * 1000
    session.invoke()
    records = session.logs.records()
    levels = [1, 2, 3, 3, 4, 5, 6]
    assert [record.frame_type for record in records] == [0xA55A0002 + (level << 2) + bit for level in levels]
    assert all(earliest <= record.time_us <= time.time_ns() // 1000 for record in records)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("'%s is %d', 'x', 5, { a: [1] }", "x is 5 { a: [ 1 ] }"),
        ("'two\\nlines'", "two\nlines"),
        ("", "undefined"),
        ("undefined", "undefined"),
        ("'Grüße', '\U0001f600'", "Grüße \U0001f600"),
    ],
)
def test_messages_of_the_text_format(start: Start, arguments: str, expected: str) -> None:
    session = start(handler(f"console.log({arguments})"))
    session.invoke()
    (record,) = session.logs.records()
    assert record.text.endswith(f"Z\t{REQUEST_ID}\tINFO\t{expected}\n")


def test_an_error_in_the_text_format_is_one_record(start: Start) -> None:
    session = start(handler("console.error(new Error('x'))"))
    session.invoke()
    (record,) = session.logs.records()
    assert "\tERROR\tError: x\n    at " in record.text


def test_without_frames_a_record_is_one_line(start: Start) -> None:
    session = start(handler("console.log('a\\nb'); process.stdout.write('raw\\n')"), has_telemetry=False)
    answer = session.invoke()
    (record,) = session.logs.records(answer.output_length)
    assert record.text.endswith("\tINFO\ta\rb\nraw\n")


def test_the_json_format(start: Start) -> None:
    session = start("console.log('init');\n" + handler(ALL_METHODS), env=JSON_FORMAT)
    session.invoke()
    names = ["trace", "debug", "log", "info", "warn", "error", "fatal"]
    levels = ["TRACE", "DEBUG", "INFO", "INFO", "WARN", "ERROR", "FATAL"]
    assert json_lines(session) == [
        {"level": "INFO", "message": "init"},
        *(
            {"level": level, "requestId": REQUEST_ID, "message": f"by {name}"}
            for name, level in zip(names, levels, strict=True)
        ),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("'a %s', 'b', 1", "a b 1"),
        ("{ a: [1], b: { c: null } }", {"a": [1], "b": {"c": None}}),
        ("{ a: 1 }, 2", "{ a: 1 } 2"),
        ("5", 5),
        ("null", None),
        ("10n", "10n"),
        ("'two\\nlines'", "two\nlines"),
    ],
)
def test_messages_of_the_json_format(start: Start, arguments: str, expected: object) -> None:
    session = start(handler(f"console.log({arguments})"), env=JSON_FORMAT)
    session.invoke()
    assert json_lines(session) == [{"level": "INFO", "requestId": REQUEST_ID, "message": expected}]


@pytest.mark.parametrize("arguments", ["", "undefined", "() => 1", "Symbol('x')"])
def test_what_json_has_no_value_for_is_no_message(start: Start, arguments: str) -> None:
    session = start(handler(f"console.log({arguments})"), env=JSON_FORMAT)
    session.invoke()
    assert json_lines(session) == [{"level": "INFO", "requestId": REQUEST_ID}]


def test_the_json_format_names_errors_after_their_class(start: Start) -> None:
    """As AWS's runtime does, and unlike the text format and the error document, which have the error's name."""
    session = start(
        "class Refused extends Error { constructor() { super('no'); this.code = 7 } }\n"
        + handler("console.error(new Refused()); console.error('x', new Refused()); throw new Refused()"),
        env=JSON_FORMAT,
    )
    assert session.error()["errorType"] == "Error"
    alone, beside, thrown = json_lines(session)
    assert [alone["message"]["errorType"], beside["errorType"], thrown["message"]["errorType"]] == ["Refused"] * 3
    assert list(alone["message"]) == ["errorType", "errorMessage", "stackTrace", "code"]


def test_an_error_of_the_runtime_in_the_json_format(start: Start) -> None:
    session = start({"index.js": "exports.x = 1"}, env=JSON_FORMAT)
    assert session.init_error()["errorType"] == "Runtime.HandlerNotFound"
    (record,) = json_lines(session)
    assert record["message"]["errorType"] == "HandlerNotFound"
    assert record["message"]["stackTrace"][0] == "Runtime.HandlerNotFound: index.handler is undefined or not exported"


def test_a_circular_structure_in_the_json_format(start: Start) -> None:
    session = start(handler("const ring = {}; ring.self = ring; console.log(ring)"), env=JSON_FORMAT)
    session.invoke()
    assert json_lines(session)[0]["message"].endswith("{ self: [Circular *1] }")


def test_errors_in_the_json_format(start: Start) -> None:
    session = start(
        handler("console.error(new RangeError('alone')); console.error('with text', new RangeError('second'))"),
        env=JSON_FORMAT,
    )
    session.invoke()
    alone, beside = json_lines(session)
    assert alone["message"]["errorType"] == "RangeError"
    assert alone["message"]["errorMessage"] == "alone"
    assert alone["message"]["stackTrace"][0] == "RangeError: alone"
    assert beside["message"].startswith("with text RangeError: second\n    at ")
    assert (beside["errorType"], beside["errorMessage"]) == ("RangeError", "second")
    assert beside["stackTrace"][0] == "RangeError: second"


def test_an_error_of_an_invocation_in_the_json_format(start: Start) -> None:
    session = start(handler("throw new RangeError('no')"), env=JSON_FORMAT)
    document = session.error()
    (record,) = json_lines(session)
    assert record == {
        "level": "ERROR",
        "requestId": REQUEST_ID,
        "message": {"errorType": "RangeError", "errorMessage": "no", "stackTrace": document["trace"]},
    }


@pytest.mark.parametrize("log_format", ["Text", "JSON"])
def test_what_is_thrown_is_logged_as_an_error(start: Start, log_format: str) -> None:
    session = start(handler("throw 'no'"), env={"AWS_LAMBDA_LOG_FORMAT": log_format})
    assert session.error() == {"errorType": "string", "errorMessage": "no", "trace": []}
    (record,) = session.logs.records()
    logged = json.loads(record.text)["message"] if log_format == "JSON" else json.loads(record.text.split("\t")[-1])
    assert (logged["errorType"], logged["errorMessage"]) == ("Error", "no")
    assert logged["stackTrace" if log_format == "JSON" else "stack"][0] == "Error: no"


def test_the_tenant_is_in_the_json_format(start: Start) -> None:
    session = start(handler("console.log('x')"), env=JSON_FORMAT)
    session.invoke(headers={"Lambda-Runtime-Aws-Tenant-Id": "tenant-1"})
    assert json_lines(session)[0]["tenantId"] == "tenant-1"


@pytest.mark.parametrize("log_format", ["Text", "JSON"])
@pytest.mark.parametrize(
    ("level", "count"), [("TRACE", 7), ("DEBUG", 6), ("INFO", 5), ("WARN", 3), ("ERROR", 2), ("FATAL", 1)]
)
def test_the_log_level(start: Start, log_format: str, level: str, count: int) -> None:
    env = {"AWS_LAMBDA_LOG_FORMAT": log_format, "AWS_LAMBDA_LOG_LEVEL": level}
    session = start(handler(ALL_METHODS), env=env)
    session.invoke()
    assert len(session.logs.records()) == count


def test_what_is_written_raw_keeps_its_place(start: Start) -> None:
    session = start(
        handler(
            "console.log(1); process.stdout.write('raw 2\\n'); console.error(3); process.stderr.write('raw 4\\n');"
            " console.log(5); console.dir({ six: 6 }); console.table([7]); return 'answer'"
        )
    )
    answer = session.invoke()
    lines = session.lines_before(answer)
    assert [line.rpartition("\t")[2] for line in lines[:6]] == ["1", "raw 2", "3", "raw 4", "5", "{ six: 6 }"]
    assert "│" in lines[6]


@pytest.mark.parametrize("log_pipe_blocks", [True, False], ids=["blocking pipe", "non-blocking pipe"])
def test_everything_is_in_the_pipe_before_the_answer(start: Start, log_pipe_blocks: bool) -> None:
    session = start(
        handler(
            "for (let i = 0; i < 200; i++) {"
            " console.log(i + ' ' + 'x'.repeat(20000)); process.stdout.write('raw ' + i + '\\n') }"
        ),
        log_pipe_blocks=log_pipe_blocks,
    )
    answer = session.invoke()
    lines = session.lines_before(answer)
    assert lines[0::2] == [f"{REQUEST_ID}\tINFO\t{i} {'x' * 20_000}" for i in range(200)]
    assert lines[1::2] == [f"raw {i}" for i in range(200)]


def test_the_standard_streams_are_ordinary_writable_streams(start: Start) -> None:
    session = start(
        "const { Readable, pipeline } = require('stream');\n"
        + handler(
            "await new Promise((ok) => process.stdout.write(Buffer.from('bytes '), ok));"
            " await new Promise((ok) => Readable.from(['piped']).pipe(process.stdout).once('unpipe', ok));"
            " process.stdout.write(' on');"
            " return [process.stdout.fd, process.stderr.fd, process.stdout === process.stdout]"
        )
    )
    answer = session.invoke()
    assert answer.json == [1, 2, True]
    assert session.lines_before(answer) == ["bytes piped on"]


def test_the_output_of_a_child_process(start: Start) -> None:
    session = start(
        handler("console.log('before'); require('child_process').spawnSync('echo', ['child'], { stdio: 'inherit' })")
    )
    answer = session.invoke()
    assert session.lines_before(answer) == [f"{REQUEST_ID}\tINFO\tbefore", "child"]


def test_a_warning_of_node_is_logged(start: Start) -> None:
    session = start(handler("process.emitWarning('careful'); await new Promise(setImmediate)"))
    answer = session.invoke()
    assert "Warning: careful" in "".join(session.lines_before(answer))


def test_a_closed_pipe_does_not_matter(start: Start) -> None:
    session = start(handler("console.log('x'); console.error('y'); return 'answer'"), closes_log_pipe=True)
    assert session.result() == "answer"

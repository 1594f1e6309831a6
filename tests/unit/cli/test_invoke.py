"""`lambdad invoke`: events, answers and errors."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.response import StreamingBody
from click.testing import CliRunner, Result

from lambdad.cli.invoke import command, error_lines
from unit.cli.conftest import METADATA, Stubs

PYTHON_ERROR = {
    "errorMessage": "division by zero",
    "errorType": "ZeroDivisionError",
    "requestId": "x",
    "stackTrace": ['  File "app.py", line 3, in handler\n    return 1 / 0\n'],
}
NODEJS_ERROR = {
    "errorType": "TypeError",
    "errorMessage": "x is not a function",
    "trace": ["TypeError: x is not a function", "    at handler (/var/task/index.js:1:1)"],
}
LOG = "START\nhello\nEND\n"


def answer(payload: bytes, **members: Any) -> dict[str, Any]:
    body = StreamingBody(io.BytesIO(payload), len(payload))
    return {"StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": body, **members}


def run(*arguments: str, text: str | bytes | None = None) -> Result:
    return CliRunner().invoke(command, arguments, input=text)


def test_into_a_pipe_the_answer_goes_as_it_came(stubs: Stubs) -> None:
    stubs.answers("lambda", "invoke", answer(b'{"a":1.10,  "b": "\\u00e9"}'), {"FunctionName": "f", "Payload": b"{}"})
    assert run("f").stdout == '{"a":1.10,  "b": "\\u00e9"}\n'


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_the_answer_is_laid_out(stubs: Stubs) -> None:
    stubs.answers("lambda", "invoke", answer(b'{"a":[1],"b":"\\u00e9"}'))
    assert run("f").stdout == '{\n  "a": [\n    1\n  ],\n  "b": "é"\n}\n'


@pytest.mark.usefixtures("terminal")
def test_what_is_not_json_is_printed_as_it_is(stubs: Stubs) -> None:
    stubs.answers("lambda", "invoke", answer(b"plain \xff text"))
    assert run("f").stdout == "plain � text\n"


def test_an_event_from_everywhere(stubs: Stubs, tmp_path: Path) -> None:
    (tmp_path / "event.json").write_bytes(b'{"from": "file"}\n')
    cases: list[tuple[list[str], bytes | None, bytes]] = [
        (['{"from": "é"}'], None, '{"from": "é"}'.encode()),
        (["--event-file", str(tmp_path / "event.json")], None, b'{"from": "file"}\n'),
        (["-"], b'{"from": "stdin"}', b'{"from": "stdin"}'),
    ]
    for arguments, text, payload in cases:
        stubs.answers("lambda", "invoke", answer(b"1"), {"FunctionName": "f", "Payload": payload})
        assert run("f", *arguments, text=text).exit_code == 0


def test_an_event_is_given_once(tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text("{}")
    result = run("f", "{}", "--event-file", str(tmp_path / "event.json"))
    assert result.exit_code == 2
    assert "Give either EVENT or --event-file." in result.stderr


def test_qualifier_and_log(stubs: Stubs) -> None:
    expected = {"FunctionName": "f", "Payload": b"{}", "Qualifier": "live", "LogType": "Tail"}
    log = base64.b64encode(LOG.encode()).decode()
    stubs.answers("lambda", "invoke", answer(b"1", LogResult=log), expected)
    result = run("f", "--qualifier", "live", "--log")
    assert (result.stdout, result.stderr) == ("1\n", LOG)


def test_a_dry_run(stubs: Stubs) -> None:
    expected = {"FunctionName": "f", "Payload": b"{}", "InvocationType": "DryRun"}
    stubs.answers("lambda", "invoke", {**answer(b""), "StatusCode": 204}, expected)
    assert run("f", "--dry-run").stdout == "f can be invoked\n"


def test_an_event_to_be_run_later(stubs: Stubs) -> None:
    expected = {"FunctionName": "f", "Payload": b"{}", "InvocationType": "Event"}
    stubs.answers("lambda", "invoke", {**answer(b""), "StatusCode": 202}, expected)
    assert run("f", "--async").stdout == f"{METADATA['RequestId']}\n"


@pytest.mark.parametrize("other", ["--dry-run", "--log"])
def test_what_runs_later_answers_nothing_now(other: str) -> None:
    result = run("f", "--async", other)
    assert result.exit_code == 2
    assert "--async goes neither" in result.stderr


def test_a_dry_run_for_programs(stubs: Stubs) -> None:
    stubs.answers("lambda", "invoke", {"StatusCode": 204, "Payload": StreamingBody(io.BytesIO(), 0)})
    document = json.loads(run("f", "--dry-run", "--json").stdout)
    assert document == {"StatusCode": 204, "RequestId": METADATA["RequestId"]}


def test_a_document_for_programs(stubs: Stubs) -> None:
    log = base64.b64encode(LOG.encode()).decode()
    payload = json.dumps(PYTHON_ERROR).encode()
    stubs.answers("lambda", "invoke", answer(payload, FunctionError="Unhandled", LogResult=log))
    result = run("f", "--json", "--log")
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout) == {
        "StatusCode": 200,
        "RequestId": METADATA["RequestId"],
        "ExecutedVersion": "$LATEST",
        "FunctionError": "Unhandled",
        "Payload": PYTHON_ERROR,
        "LogResult": LOG,
    }


def test_a_function_error_into_a_pipe(stubs: Stubs) -> None:
    payload = json.dumps(PYTHON_ERROR).encode()
    stubs.answers("lambda", "invoke", answer(payload, FunctionError="Unhandled"))
    result = run("f")
    assert result.exit_code == 1
    assert result.stdout == payload.decode() + "\n"
    assert result.stderr == (
        'ZeroDivisionError: division by zero\n  File "app.py", line 3, in handler\n    return 1 / 0\n'
    )


@pytest.mark.usefixtures("terminal")
def test_a_function_error_on_a_terminal_is_shown_once_and_red(stubs: Stubs) -> None:
    stubs.answers("lambda", "invoke", answer(json.dumps(NODEJS_ERROR).encode(), FunctionError="Unhandled"))
    result = run("f")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "\x1b[31mTypeError: x is not a function\x1b[0m",
        "\x1b[31m    at handler (/var/task/index.js:1:1)\x1b[0m",
    ]


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        ({"errorMessage": "Task timed out after 3.00 seconds"}, ["Task timed out after 3.00 seconds"]),
        ({"errorType": "Runtime.ExitError"}, ["Runtime.ExitError"]),
        ({"errorType": "E", "errorMessage": "m", "trace": ["E: other", "  at x"]}, ["E: m", "E: other", "  at x"]),
        ({"custom": 1}, ['{"custom": 1}']),
        ("text", ["text"]),
        ({"errorType": "E", "errorMessage": "m", "stackTrace": None}, ["E: m"]),
    ],
)
def test_errors_of_every_shape(error: Any, lines: list[str]) -> None:
    assert error_lines(error) == lines

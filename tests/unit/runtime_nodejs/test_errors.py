"""Errors: of loading a function, of its invocations, and of the process."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from unit.runtime_nodejs.runtime_session import RuntimeSession

Start = Callable[..., RuntimeSession]

UNUSED = "exports.handler = async () => {}"
NOT_FOUND = "Runtime.HandlerNotFound"
MALFORMED = "Runtime.MalformedHandlerName"


def logged_error(session: RuntimeSession, title: str) -> Any:
    """The fields of the error that was logged under a title."""
    for line in session.lines():
        found = re.fullmatch(rf"\S+\tERROR\t{title} \t(\{{.*\}})", line)
        if found:
            return json.loads(found[1])
    raise AssertionError(session.lines())


def init_title(version: tuple[int, ...]) -> str:
    """The title under which AWS logs an error of the init."""
    return "Uncaught Exception" if version[0] < 24 else "Init Error"


@pytest.mark.parametrize(
    ("files", "handler", "error_type", "message"),
    [
        ({"index.js": UNUSED}, "other.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'other'.*"),
        (
            {"index.js": "require('absent')"},
            "index.handler",
            "Runtime.ImportModuleError",
            r"Error: Cannot find module 'absent'\nRequire stack:\n- .*/task/index.js\n- .*",
        ),
        (
            {"index.mjs": "import 'absent'"},
            "index.handler",
            "Runtime.ImportModuleError",
            r"Error \[ERR_MODULE_NOT_FOUND\]: Cannot find package 'absent' imported from .*/task/index.mjs",
        ),
        ({"index.js": "exports.x = 1"}, "index.handler", NOT_FOUND, "index.handler is undefined or not exported"),
        ({"index.mjs": "export const x = 1"}, "index.y", NOT_FOUND, "index.y is undefined or not exported"),
        ({"index.js": "exports.x = {}"}, "index.x.y.z", NOT_FOUND, "index.x.y.z is undefined or not exported"),
        ({"index.js": "exports.x = 1"}, "index.x", NOT_FOUND, "index.x is not a function"),
        ({"index.js": UNUSED}, "index", MALFORMED, "Bad handler"),
        ({"index.js": UNUSED}, "index.", MALFORMED, "Bad handler"),
        ({"index.js": UNUSED}, "../task/index.handler", MALFORMED, "'../task/index.handler' is not a valid .*"),
        ({"index.js": "exports.handler = {"}, "index.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: .*"),
        ({"index.mjs": "export const = 1"}, "index.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: .*"),
        ({"index.js": "null.x"}, "index.handler", "TypeError", "Cannot read prop.*"),
        ({"index.mjs": "throw new RangeError('at init')"}, "index.handler", "RangeError", "at init"),
        ({"index.js": "throw 'a string'"}, "index.handler", "string", "a string"),
    ],
)  # fmt: skip
def test_a_function_that_cannot_be_loaded(
    start: Start, version: tuple[int, ...], files: dict[str, str], handler: str, error_type: str, message: str
) -> None:
    session = start(files, handler=handler)
    document = session.init_error()
    assert document["errorType"] == error_type
    assert re.fullmatch(message, document["errorMessage"], re.DOTALL), document
    if error_type != "string":
        assert document["trace"][0] == f"{error_type}: {document['errorMessage']}".split("\n")[0]
    assert session.exit_code() == 1
    fields = logged_error(session, init_title(version))
    assert fields["errorMessage"] == document["errorMessage"]
    if error_type == "string":  # the log has it as an error, whatever was thrown
        assert (fields["errorType"], fields["stack"][0]) == ("Error", f"Error: {document['errorMessage']}")
    else:
        assert (fields["errorType"], fields["stack"]) == (error_type, document["trace"])


def test_a_syntax_error_tells_its_place(start: Start) -> None:
    document = start({"index.js": "const a = 1;\nconst a = 2;"}).init_error()
    assert document["trace"][0] == "Runtime.UserCodeSyntaxError: SyntaxError: Identifier 'a' has already been declared"
    assert document["trace"][1].endswith("/task/index.js:2")


def test_an_error_of_an_invocation(start: Start) -> None:
    session = start("exports.handler = async (event) => { if (event) return event; return x + 1 }")
    document = session.error()
    assert document["errorType"] == "ReferenceError"
    assert document["errorMessage"] == "x is not defined"
    assert document["trace"][0] == "ReferenceError: x is not defined"
    assert "/task/index.js:1:" in document["trace"][1]
    fields = logged_error(session, "Invoke Error")
    assert fields == {"errorType": "ReferenceError", "errorMessage": "x is not defined", "stack": document["trace"]}
    assert session.result("goes on") == "goes on"


def test_an_error_is_logged_before_it_is_reported_with_its_own_properties(start: Start) -> None:
    session = start(
        "class Refused extends Error { constructor() { super('no\\nmore'); this.name = 'Refused'; this.code = 'E1';"
        " this.details = { cause: new Error('inner') } } }\nexports.handler = async () => { throw new Refused() }"
    )
    answer = session.invoke()
    assert answer.json["errorType"] == "Refused"
    assert answer.json["errorMessage"] == "no\nmore"
    assert len(session.lines_before(answer)) == 1
    fields = logged_error(session, "Invoke Error")
    assert list(fields)[:2] == ["errorType", "errorMessage"]
    assert fields["code"] == "E1"
    assert fields["details"]["cause"]["errorMessage"] == "inner"
    assert fields["stack"] == answer.json["trace"]


def test_an_error_that_refers_to_itself_is_logged(start: Start) -> None:
    session = start("exports.handler = async () => { const e = new Error('ring'); e.self = e; throw e }")
    assert session.error()["errorMessage"] == "ring"
    assert logged_error(session, "Invoke Error")["errorMessage"] == "ring"


@pytest.mark.parametrize(
    ("thrown", "error_type", "message"),
    [
        ("'a string'", "string", "a string"),
        ("42", "number", "42"),
        ("{ a: 1 }", "object", "[object Object]"),
        (
            "Object.create(null)",
            "handled",
            "callback called with Error argument, but there was a problem while retrieving",
        ),
        ("{ name: 'Like', message: 'an error', stack: 'Like: an error' }", "Like", "an error"),
        ("require('vm').runInNewContext('new TypeError(\"foreign\")')", "TypeError", "foreign"),
        ("Object.assign(new Error('x'), { name: 'Bad\\r\\nHeader: é' })", None, "x"),
    ],
)
def test_anything_can_be_thrown(start: Start, thrown: str, error_type: str | None, message: str) -> None:
    session = start(f"exports.handler = async (event) => {{ if (event) return event; throw {thrown} }}")
    answer = session.invoke()
    assert answer.is_error
    assert answer.json["errorMessage"].startswith(message)
    assert answer.headers["lambda-runtime-function-error-type"] == (error_type or "Bad??Header: ?")
    assert len(session.lines_before(answer)) == 1
    assert session.result("goes on") == "goes on"


@pytest.mark.parametrize(("thrown", "typed"), [("undefined", "undefined"), ("null", "object")])
def test_nothing_can_be_thrown(start: Start, version: tuple[int, ...], thrown: str, typed: str) -> None:
    document = start(f"exports.handler = async () => {{ throw {thrown} }}").error()
    expected = ("string", "handled") if version < (24,) else (typed, thrown)
    assert (document["errorType"], document["errorMessage"], document["trace"]) == (*expected, [])


def test_an_uncaught_exception_ends_the_process(start: Start) -> None:
    session = start(
        "exports.handler = () => new Promise(() => { setTimeout(() => { throw new TypeError('stray') }, 5);"
        " setInterval(() => {}, 1000) })"
    )
    document = session.error()
    assert (document["errorType"], document["errorMessage"]) == ("TypeError", "stray")
    assert session.exit_code() == 129
    assert logged_error(session, "Uncaught Exception")["stack"] == document["trace"]


def test_an_unhandled_rejection_ends_the_process(start: Start) -> None:
    session = start(
        "exports.handler = () => new Promise(() => {"
        " Promise.reject(new TypeError('stray')); setInterval(() => {}, 1000) })"
    )
    document = session.error()
    assert document["errorType"] == "Runtime.UnhandledPromiseRejection"
    assert document["errorMessage"] == "TypeError: stray"
    assert session.exit_code() == 128
    fields = logged_error(session, "Unhandled Promise Rejection")
    assert list(fields) == ["errorType", "errorMessage", "reason", "promise", "stack"]
    assert fields["reason"]["errorType"] == "TypeError"
    assert fields["reason"]["errorMessage"] == "stray"


@pytest.mark.parametrize("reason", ["undefined", "'text'", "{ a: 1 }"])
def test_a_rejection_can_be_anything(start: Start, reason: str) -> None:
    session = start(
        f"exports.handler = () => new Promise(() => {{ Promise.reject({reason}); setInterval(() => {{}}, 1000) }})"
    )
    assert session.error()["errorType"] == "Runtime.UnhandledPromiseRejection"
    assert session.exit_code() == 128


def test_a_rejection_beside_the_answer(start: Start, has_callbacks: bool) -> None:
    """Before Node.js 24 the answer still counts; no event is asked for after it either way."""
    session = start("exports.handler = async () => { Promise.reject(new Error('forgotten')); return 'answer' }")
    answer = session.invoke()
    if has_callbacks:
        assert answer.json == "answer"
    else:
        assert answer.json["errorType"] == "Runtime.UnhandledPromiseRejection"
    assert session.exit_code() == 128
    assert session.api.asked_for_next.qsize() == 1
    assert logged_error(session, "Unhandled Promise Rejection")["errorMessage"] == "Error: forgotten"


def test_an_exception_between_invocations_ends_the_process(start: Start) -> None:
    session = start(
        "exports.handler = async () => { setTimeout(() => { throw new Error('late') }, 20); return 'answer' }"
    )
    assert session.result() == "answer"
    assert session.exit_code() == 129
    assert logged_error(session, "Uncaught Exception")["errorMessage"] == "late"


def test_a_large_response_is_sent_before_a_late_exception_ends_the_process(start: Start) -> None:
    session = start(
        "exports.handler = async () => { setImmediate(() => setImmediate(() => { throw new Error('late') }));"
        " return 'x'.repeat(4e7) }"
    )
    assert len(session.result()) == 40_000_000
    assert session.exit_code() == 129


@pytest.mark.parametrize(
    ("code", "error_type", "exit_code"),
    [
        ("setTimeout(() => { throw new TypeError('stray') }, 5)", "TypeError", 129),
        ("Promise.reject(new TypeError('stray'))", "Runtime.UnhandledPromiseRejection", 128),
    ],
)
def test_a_stray_error_of_the_init(start: Start, code: str, error_type: str, exit_code: int) -> None:
    files = {"index.mjs": f"{code}; await new Promise((done) => setTimeout(done, 5000))"}
    session = start(files)
    assert session.init_error()["errorType"] == error_type
    assert session.exit_code() == exit_code


def test_a_function_that_handles_its_rejections_itself(start: Start) -> None:
    session = start(
        "process.removeAllListeners('unhandledRejection');\n"
        "process.on('unhandledRejection', () => console.log('mine'));\n"
        "exports.handler = async () => { Promise.reject(new Error('x')); return 'answer' }"
    )
    assert [session.result(), session.result()] == ["answer", "answer"]


@pytest.mark.parametrize("code", [0, 3])
def test_process_exit(start: Start, code: int) -> None:
    session = start(
        f"exports.handler = async () => {{ console.log('bye'); process.stdout.write('raw'); process.exit({code}) }}"
    )
    session.send()
    assert session.exit_code() == code
    assert session.api.answers.empty()
    assert [line.rpartition("\t")[2] for line in session.lines()] == ["bye", "raw"]


def test_process_exit_in_the_init(start: Start) -> None:
    assert start("process.exit(7)").exit_code() == 7

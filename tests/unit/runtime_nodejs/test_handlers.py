"""Handlers: how they are found, how they are called, and how they answer."""

import json
from collections.abc import Callable

import pytest

from unit.runtime_nodejs.runtime_session import ARN, RuntimeSession

Start = Callable[..., RuntimeSession]


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        pytest.param({"index.js": "exports.handler = async () => 'yes'"}, "index.handler", id="commonjs"),
        pytest.param({"index.cjs": "exports.handler = async () => 'yes'"}, "index.handler", id="cjs"),
        pytest.param({"index.mjs": "export const handler = async () => 'yes'"}, "index.handler", id="mjs"),
        pytest.param({"index": "exports.handler = async () => 'yes'"}, "index.handler", id="no extension"),
        pytest.param(
            {"index.js": "export const handler = async () => 'yes'", "package.json": '{"type": "module"}'},
            "index.handler",
            id="type module",
        ),
        pytest.param(
            {
                "src/api/app.js": "export async function run() { return 'yes' }",
                "src/package.json": '{"type": "module"}',
            },
            "src/api/app.run",
            id="type module of a folder above",
        ),
        pytest.param(
            {"index.mjs": "const answer = await Promise.resolve('yes');\nexport const handler = async () => answer"},
            "index.handler",
            id="top-level await",
        ),
        pytest.param(
            {
                "index.mjs": "import { answer } from './lib/answer.js';\nexport const handler = async () => answer",
                "lib/answer.js": "exports.answer = 'yes'",
            },
            "index.handler",
            id="module that imports commonjs",
        ),
        pytest.param({"lib/deep/app.js": "exports.fn = async () => 'yes'"}, "lib/deep/app.fn", id="in a folder"),
        pytest.param({"app.js": "exports.a = { b: { c: async () => 'yes' } }"}, "app.a.b.c", id="nested property"),
        pytest.param(
            {"index.js": "exports.handler = async () => 'yes'", "index/index.js": "throw new Error('not me')"},
            "index.handler",
            id="folder of the same name",
        ),
        pytest.param(
            {"index.js": "exports.handler = async () => 'yes'", "index.mjs": "export const handler = async () => 'no'"},
            "index.handler",
            id="js before mjs",
        ),
        pytest.param(
            {
                "index.mjs": "export const handler = async () => 'yes'",
                "index.cjs": "exports.handler = async () => 'no'",
            },
            "index.handler",
            id="mjs before cjs",
        ),
        pytest.param(
            {"node_modules/greeter/index.js": "exports.handler = async () => 'yes'"}, "greeter.handler", id="package"
        ),
    ],
)
def test_a_handler_is_found(start: Start, files: dict[str, str], handler: str) -> None:
    session = start(files, handler=handler)
    assert session.result() == "yes"
    assert session.lines() == []  # Node.js has nothing to warn of


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("async (event) => ({ got: event })", {"got": {"name": "Grüße \U0001f600"}}),
        ("(event) => new Promise((resolve) => setTimeout(resolve, 5, 'later'))", "later"),
        ("(event) => ({ then: (resolve) => resolve('thenable') })", "thenable"),
        ("async () => {}", None),
        ("async () => null", None),
        ("async () => 0", 0),
        ("async () => ''", ""),
        ("async () => () => {}", None),
        ("() => {}", None),
    ],
)
def test_a_handler_answers_with_what_it_returns(start: Start, code: str, expected: object) -> None:
    session = start(f"exports.handler = {code}")
    assert session.result({"name": "Grüße \U0001f600"}) == expected
    assert session.result({"name": "Grüße \U0001f600"}) == expected


def test_what_a_synchronous_handler_returns_counts_from_node_24_on(start: Start, has_callbacks: bool) -> None:
    assert start("exports.handler = (event) => event.n + 1").result({"n": 1}) == (None if has_callbacks else 2)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("(event, context, callback) => callback(null, event)", {"a": 1}),
        ("(event, context, callback) => { setTimeout(callback, 5, null, 'later') }", "later"),
        ("(event, context, callback) => callback()", None),
        ("(event, context, callback) => { callback(null, 'first'); callback(new Error('second')) }", "first"),
        ("async (event, context, callback) => { callback(null, 'called'); return 'returned' }", "called"),
        ("(event, context) => context.succeed('done')", "done"),
        ("(event, context) => context.done(null, 'done')", "done"),
        ("(event, context) => { setTimeout(() => {}, 5) }", None),
    ],
)
def test_callback_handlers(start_with_callbacks: Start, code: str, expected: object) -> None:
    session = start_with_callbacks(f"exports.handler = {code}")
    assert session.result({"a": 1}) == expected
    assert session.result({"a": 1}) == expected


@pytest.mark.parametrize(
    "code",
    [
        "(event, context, callback) => callback(new RangeError('no'))",
        "(event, context, callback) => { setTimeout(callback, 5, new RangeError('no')) }",
        "(event, context) => context.fail(new RangeError('no'))",
        "(event, context) => context.done(new RangeError('no'), 'result')",
        "(event, context) => { throw new RangeError('no') }",
    ],
)
def test_callback_handlers_fail(start_with_callbacks: Start, code: str) -> None:
    session = start_with_callbacks(f"exports.handler = {code}")
    for _ in range(2):
        document = session.error()
        assert (document["errorType"], document["errorMessage"]) == ("RangeError", "no")


def test_node_24_refuses_callback_handlers(start: Start, has_callbacks: bool) -> None:
    session = start("exports.handler = async (event, context, callback) => 'fine'")
    if has_callbacks:
        assert session.result() == "fine"
        return
    document = session.init_error()
    assert document["errorType"] == "Runtime.CallbackHandlerDeprecated"
    assert (
        "has removed support for callback-based function handlers starting with Node.js 24" in document["errorMessage"]
    )
    assert session.exit_code() == 1


def test_the_context(start: Start, has_callbacks: bool) -> None:
    session = start(
        "exports.handler = async (event, context) => "
        "({ ...context, methods: Object.keys(context).filter((key) => typeof context[key] === 'function') })"
    )
    headers = {
        "Lambda-Runtime-Client-Context": '{"client": {"app_title": "größer"}}',
        "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId": "me", "cognitoIdentityPoolId": "pool"}',
        "Lambda-Runtime-Aws-Tenant-Id": "tenant-1",
    }
    context = session.result({}, headers=headers)
    methods = context.pop("methods")
    assert context == {
        "functionName": "greeter",
        "functionVersion": "$LATEST",
        "invokedFunctionArn": ARN,
        "memoryLimitInMB": "128",
        "awsRequestId": "00000000-0000-4000-8000-000000000001",
        "logGroupName": "/aws/lambda/greeter",
        "logStreamName": "2024/01/01/[$LATEST]abc",
        "clientContext": {"client": {"app_title": "größer"}},
        "identity": {"cognitoIdentityId": "me", "cognitoIdentityPoolId": "pool"},
        "tenantId": "tenant-1",
        **({"callbackWaitsForEmptyEventLoop": True} if has_callbacks else {}),
    }
    removed = ["succeed", "fail", "done"] if has_callbacks else []
    assert sorted(methods) == sorted(["getRemainingTimeInMillis", *removed])


def test_an_invocation_without_client_context(start: Start) -> None:
    session = start(
        "exports.handler = async (event, { clientContext, identity, tenantId }) => "
        "[clientContext, identity, tenantId].map((value) => typeof value)"
    )
    assert session.result() == ["undefined"] * 3


def test_the_remaining_time(start: Start) -> None:
    left = start("exports.handler = async (event, context) => context.getRemainingTimeInMillis()").result()
    assert 30_000 < left <= 60_000


def test_the_trace_id_is_set_for_each_invocation(start: Start) -> None:
    session = start("exports.handler = async () => process.env._X_AMZN_TRACE_ID || null")
    assert session.result(headers={"Lambda-Runtime-Trace-Id": "Root=1-a;Sampled=1"}) == "Root=1-a;Sampled=1"
    assert session.result(headers={"Lambda-Runtime-Trace-Id": "Root=1-b;Sampled=0"}) == "Root=1-b;Sampled=0"
    assert session.result() is None


def test_the_process_shows_nothing_of_the_daemon(start: Start) -> None:
    session = start("exports.handler = async () => [process.argv.length, process.env._LAMBDA_TELEMETRY_LOG_FD || null]")
    assert session.result() == [2, None]


def test_what_an_invocation_enters_into_async_local_storage_does_not_reach_the_next(start: Start) -> None:
    session = start(
        "const { AsyncLocalStorage } = require('async_hooks');\nconst storage = new AsyncLocalStorage();\n"
        "exports.handler = async () => {"
        " const before = storage.getStore() || null; storage.enterWith('x'); return before }"
    )
    assert [session.result() for _ in range(3)] == [None] * 3


def test_the_flags_that_the_daemon_passes(start: Start, version: tuple[int, ...]) -> None:
    flags = ["--expose-gc", "--max-semi-space-size=4", "--max-old-space-size=115"]
    if version >= (20, 17) and version[0] < 24:
        flags.append("--no-experimental-require-module")
    if version[0] == 22:
        flags.append("--no-experimental-detect-module")
    session = start("exports.handler = async () => { gc(); return process.execArgv }", flags=flags)
    assert session.result() == flags


def test_an_event_that_is_not_json(start: Start) -> None:
    session = start("exports.handler = async (event) => event")
    assert session.error(b"{")["errorType"] == "SyntaxError"
    assert session.result("next") == "next"


@pytest.mark.parametrize(("code", "reason"), [("{ big: 1n }", "BigInt"), ("globalThis", "circular")])
def test_a_result_that_json_cannot_hold(start: Start, code: str, reason: str) -> None:
    session = start(f"globalThis.circle = globalThis;\nexports.handler = async () => ({code})")
    document = session.error()
    assert document["errorType"] == "Error", reason
    assert document["errorMessage"] == "Unable to stringify response body"
    assert json.dumps(document["trace"])
    assert session.error() == document

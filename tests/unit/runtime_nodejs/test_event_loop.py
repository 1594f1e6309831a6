"""When a response is sent and the next event is asked for, with work left in the event loop."""

from collections.abc import Callable

import pytest

from unit.runtime_nodejs.fake_runtime_api import WAIT_S
from unit.runtime_nodejs.runtime_session import RuntimeSession

Start = Callable[..., RuntimeSession]

LATE = "setTimeout(() => console.log('late'), 150);"


def messages(lines: list[str]) -> list[str]:
    """The messages of log lines."""
    return [line.rpartition("\t")[2] for line in lines]


def test_a_callback_waits_for_the_empty_loop(start_with_callbacks: Start) -> None:
    session = start_with_callbacks(f"exports.handler = (event, context, callback) => {{ {LATE} callback(null, 'ok') }}")
    answer = session.invoke()
    assert answer.json == "ok"
    assert messages(session.lines_before(answer)) == ["late"]


def test_a_failing_callback_waits_too(start_with_callbacks: Start) -> None:
    session = start_with_callbacks(
        f"exports.handler = (event, context, callback) => {{ {LATE} callback(new Error('no')) }}"
    )
    answer = session.invoke()
    assert answer.json["errorMessage"] == "no"
    assert messages(session.lines_before(answer))[0] == "late"


@pytest.mark.parametrize(
    "code",
    [
        "(event, context, callback) => { context.callbackWaitsForEmptyEventLoop = false; callback(null, 'ok') }",
        "(event, context) => context.succeed('ok')",
        "(event, context) => context.done(null, 'ok')",
        "(event, context, callback) => Promise.resolve('ok')",
    ],
)
def test_what_does_not_wait(start_with_callbacks: Start, code: str) -> None:
    session = start_with_callbacks(
        f"const answer = {code};\nexports.handler = (...all) => {{ {LATE} return answer(...all) }}"
    )
    answer = session.invoke()
    assert answer.json == "ok"
    assert session.lines_before(answer) == []


def test_an_async_handler_does_not_wait_and_its_timers_run_on_in_the_next_invocation(start: Start) -> None:
    session = start(
        f"exports.handler = async (event) => {{ if (event) return new Promise((ok) => setTimeout(ok, 400, 'second'));"
        f" {LATE} return 'first' }}"
    )
    first = session.invoke()
    assert first.json == "first"
    assert session.lines_before(first) == []
    second = session.invoke(True)
    assert second.json == "second"
    assert messages(session.lines_before(second)) == ["late"]


def test_a_handler_that_never_answers_gives_null_when_the_loop_is_empty(start_with_callbacks: Start) -> None:
    session = start_with_callbacks(f"exports.handler = (event, context, callback) => {{ {LATE} }}")
    answer = session.invoke()
    assert answer.json is None
    assert messages(session.lines_before(answer)) == ["late"]


def test_a_promise_that_is_never_settled(start: Start, version: tuple[int, ...]) -> None:
    session = start("exports.handler = () => new Promise(() => {})")
    if version[0] < 18:
        assert session.result() is None
        assert session.result() is None
        return
    document = session.error()
    assert document["errorType"] == "Runtime.NodeJsExit"
    assert "most commonly caused by a Promise that was never settled" in document["errorMessage"]
    assert session.exit_code() == 13


def test_a_top_level_await_that_is_never_settled(start: Start) -> None:
    session = start({"index.mjs": "await new Promise(() => {});\nexport const handler = async () => {}"})
    assert session.exit_code() == 13


def test_waiting_for_an_event_keeps_the_process_alive(start: Start) -> None:
    session = start("exports.handler = async (event) => event")
    assert session.api.asked_for_next.get(timeout=WAIT_S) == "alone"
    assert session.result(1) == 1
    assert session.api.asked_for_next.get(timeout=WAIT_S) == "with response"
    assert session.result(2) == 2


def test_the_listener_of_a_monitoring_layer(start_with_callbacks: Start) -> None:
    """Layers wrap the listener that AWS keeps under a global symbol."""
    session = start_with_callbacks(
        "exports.handler = (event, context, callback) => {\n"
        "  callback(null, 'ok');\n"
        "  const key = Symbol.for('aws.lambda.beforeExit'), listener = globalThis[key];\n"
        "  globalThis[key] = () => { console.log('seen'); listener() };\n"
        "}"
    )
    answer = session.invoke()
    assert answer.json == "ok"
    assert messages(session.lines_before(answer)) == ["seen"]

"""The conversation with the Runtime API: sizes, framing, refusals and its end."""

from collections.abc import Callable

import pytest

from unit.runtime_nodejs.fake_runtime_api import WAIT_S
from unit.runtime_nodejs.runtime_session import RuntimeSession

Start = Callable[..., RuntimeSession]

ECHO = "exports.handler = async (event) => { if (event === 'fail') throw new Error('no'); return event }"


def test_a_response_asks_for_the_next_event(start: Start) -> None:
    session = start(ECHO)
    for number in range(3):
        answer = session.invoke(number)
        assert answer.headers["lambda-runtime-acknowledge"] == "with-next"
    asked = [session.api.asked_for_next.get(timeout=WAIT_S) for _ in range(4)]
    assert asked == ["alone", *["with response"] * 3]


def test_an_error_is_acknowledged_before_the_next_event_is_asked_for(start: Start) -> None:
    session = start(ECHO)
    answer = session.invoke("fail")
    assert answer.is_error
    assert "lambda-runtime-acknowledge" not in answer.headers
    assert session.result(1) == 1
    asked = [session.api.asked_for_next.get(timeout=WAIT_S) for _ in range(3)]
    assert asked == ["alone", "alone", "with response"]


@pytest.mark.parametrize("status", [400, 403, 413])
def test_a_refused_response(start: Start, status: int) -> None:
    session = start(ECHO)
    assert session.result("too large", answer_status=status) == "too large"
    assert session.result("next") == "next"
    (line,) = session.lines()
    assert line.startswith("[ERROR] [")
    assert line.endswith(f"LAMBDA_RUNTIME Failed to post handler success response. Http response code: {status}.")


def test_a_refused_error(start: Start) -> None:
    session = start(ECHO)
    assert session.error("fail", answer_status=403)["errorMessage"] == "no"
    assert session.result("next") == "next"


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 1000, 65_000, 65_536, 66_000, 6_000_000])
def test_events_of_any_size(start: Start, size: int, is_chunked: bool) -> None:
    session = start(ECHO)
    for payload in ("x" * size, "ü" * (size // 2)):
        assert session.result(payload, is_chunked=is_chunked) == payload


@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_event_that_comes_in_small_pieces(start: Start, is_chunked: bool) -> None:
    session = start(ECHO, piece_size=7)
    for number in range(3):
        payload = {"number": number, "text": "Grüße \U0001f600" * 5}
        assert session.result(payload, is_chunked=is_chunked) == payload


def test_the_connection_is_closed_while_it_waits(start: Start) -> None:
    session = start(ECHO)
    assert session.result(1) == 1
    session.api.close_connection()
    assert session.exit_code() == 0
    assert session.lines() == []


def test_the_connection_is_closed_in_an_invocation(start: Start) -> None:
    session = start(
        "exports.handler = () => { console.log('begun'); return new Promise((ok) => setTimeout(ok, 60000)) }"
    )
    session.send()
    session.wait_for_line("begun")
    session.api.close_connection()
    assert session.exit_code() == 0


def test_no_more_events(start: Start) -> None:
    session = start(ECHO)
    assert session.result(1) == 1
    session.send(2, status=403)
    assert session.exit_code() == 1


def test_nobody_listens(start: Start) -> None:
    assert start(ECHO, env={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"}).exit_code() == 1

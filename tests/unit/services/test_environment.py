"""An environment, driven by a test that is pool, runtime and sandbox at once."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from lambdad.domain.errors import IllegalTransition
from lambdad.domain.functions import LoggingConfig
from lambdad.domain.invocations import ExitStatus, Outcome
from lambdad.domain.lifecycle import State
from lambdad.services.environment import InitFailed, StaleRequest
from lambdad.services.launching import new_log_stream
from lambdad.services.running import ResponseChunks
from unit.services.environments import REQUEST_ID, VERSION, Started, invocation

OTHER_ID = "99999999-2222-4333-8444-555555555555"


def scenario(test: Callable[[Started], Awaitable[None]]) -> Callable[[], None]:
    """Runs a test in an event loop of its own, with an environment that is stopped afterwards."""

    @functools.wraps(test)
    def run() -> None:
        async def inside() -> None:
            started = Started()
            try:
                await test(started)
            finally:
                await started.finish()

        asyncio.run(inside())

    del run.__wrapped__  # pytest would take its parameter for a fixture
    return run


async def settle(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def error_of(outcome: Outcome) -> tuple[str | None, str]:
    body = json.loads(outcome.payload)
    assert body["errorType"] == outcome.error_type
    return outcome.error_type, body["errorMessage"]


@scenario
async def test_an_event_goes_in_and_its_answer_comes_out(s: Started) -> None:
    await s.ready()
    assert s.idle == [s.environment]
    s.invoke(payload=b"[1]")
    assert s.environment.state is State.INVOKING
    assert s.runtime.events[0].invocation.payload == b"[1]"
    assert s.runtime.events[0].deadline_ms == int(s.clock.time() * 1000) + 2000
    s.runtime.respond(b"[2]")
    assert [(o.payload, o.failed) for o in s.outcomes] == [(b"[2]", False)]
    assert len(s.idle) == 1  # it is free when its runtime asks again, not before
    s.runtime.next()
    assert len(s.idle) == 2


@scenario
async def test_the_caller_has_its_answer_before_anything_is_done_for_the_log(s: Started) -> None:
    await s.ready()
    seen: list[str] = []
    s.environment.invoke(invocation(), lambda outcome: seen.append(s.log.text))
    s.sandbox.write(b"printed\n")
    s.runtime.respond()
    assert "printed" not in seen[0]
    assert "printed" in s.log.text


@scenario
async def test_an_invocation_that_comes_before_the_runtime_waits_for_it(s: Started) -> None:
    await s.attach()
    s.invoke()
    assert s.environment.state is State.STARTING
    s.runtime.next()
    assert s.environment.state is State.INVOKING
    assert s.idle == []
    s.runtime.respond()
    assert not s.outcomes[0].failed


@scenario
async def test_a_runtime_that_is_quicker_than_its_launch_waits_for_it(s: Started) -> None:
    s.invoke(tail_log=True)
    s.runtime.next()
    assert s.environment.state is State.STARTING
    s.sandbox.write(b"from the initialization\n")
    await s.attach()
    assert s.environment.state is State.INVOKING
    s.runtime.respond()
    assert b"from the initialization\n" in s.outcomes[0].log_tail


@scenario
async def test_a_runtime_that_fails_before_its_launch_has_returned_fails_the_invocation(s: Started) -> None:
    s.invoke()
    s.environment.init_failed(b'{"errorType":"ImportError"}', "ImportError")
    s.sandbox.write(b"the traceback\n")
    await s.attach()
    assert [o.error_type for o in s.outcomes] == ["ImportError"]
    assert "the traceback\n" in s.log.text
    await s.gone()


@scenario
async def test_a_runtime_that_connects_early_and_goes_away_is_not_sent_anything(s: Started) -> None:
    s.invoke()
    send = s.runtime.events.append
    s.environment.next(send)
    s.environment.lost_runtime(send)
    await s.attach()
    assert s.environment.state is State.STARTING
    assert s.runtime.events == []


@scenario
async def test_a_sandbox_that_comes_after_the_end_is_ended_too(s: Started) -> None:
    s.environment.begin_stop()
    await s.gone()
    await s.attach()
    assert s.sandbox.was_killed
    assert s.sandbox.closed


@scenario
async def test_a_launch_that_fails_ends_the_invocation_that_waits_for_it(s: Started) -> None:
    s.invoke()
    s.environment.launch_failed("there is no bootstrap")
    message = f"RequestId: {REQUEST_ID} Error: there is no bootstrap"
    assert [error_of(o) for o in s.outcomes] == [("Runtime.InvalidEntrypoint", message)]
    await s.gone()
    assert s.ended == [s.environment]


@scenario
async def test_a_launch_that_fails_ends_the_initialization(s: Started) -> None:
    s.environment.launch_failed("there is no bootstrap")
    with pytest.raises(InitFailed):
        await s.environment.initialize()
    assert s.environment.state is State.DEAD


@scenario
async def test_an_initialization_that_fails_says_so_and_ends_the_environment(s: Started) -> None:
    await s.attach()
    initialized = asyncio.ensure_future(s.environment.initialize())
    await asyncio.sleep(0)
    s.environment.init_failed(b'{"errorType":"E"}', "E")
    with pytest.raises(InitFailed) as failed:
        await initialized
    assert failed.value.outcome.error_type == "E"
    assert "INIT_REPORT" in s.log.text
    assert "Phase: init\tStatus: error\tError Type: Runtime.Unknown" in s.log.text
    assert s.sandbox.was_killed


@pytest.mark.parametrize(
    ("error_type", "reported"),
    [
        ("Runtime.ImportModuleError", "Runtime.ImportModuleError"),
        ("Function.Odd", "Function.Odd"),
        ("ValueError", "Runtime.Unknown"),
        ("My.Error", "Runtime.Unknown"),
        ("", "Runtime.Unknown"),
    ],
)
def test_what_the_log_calls_a_failed_initialization(error_type: str, reported: str) -> None:
    @scenario
    async def fails(s: Started) -> None:
        s.invoke()
        await s.attach()
        s.environment.init_failed(b'{"errorType":"E"}', error_type)
        await s.gone()
        assert [(o.payload, o.error_type) for o in s.outcomes] == [(b'{"errorType":"E"}', error_type)]
        assert f"Phase: invoke\tStatus: error\tError Type: {reported}\n" in s.log.text
        assert s.log.text.endswith(f"MB\tStatus: error\tError Type: {reported}\n")

    fails()


@scenario
async def test_a_process_that_exits_while_it_initializes(s: Started) -> None:
    await s.attach()
    initialized = asyncio.ensure_future(s.environment.initialize())
    s.sandbox.write(b"last words")
    s.sandbox.exit(ExitStatus(code=7))
    with pytest.raises(InitFailed) as failed:
        await initialized
    assert failed.value.outcome.error_type == "Runtime.ExitError"
    await s.gone()
    assert "last words" in s.log.text


@scenario
async def test_a_process_that_exits_during_an_invocation(s: Started) -> None:
    await s.ready()
    s.invoke()
    s.sandbox.write(b"last words")
    s.sandbox.exit(ExitStatus(signal="segmentation fault"))
    await s.gone()
    message = f"RequestId: {REQUEST_ID} Error: Runtime exited with error: signal: segmentation fault"
    assert [error_of(o) for o in s.outcomes] == [("Runtime.ExitError", message)]
    assert s.log.text.index("last words") < s.log.text.index(message) < s.log.text.index("END RequestId")
    assert "Status: error\tError Type: Runtime.ExitError" in s.log.text
    assert s.environment.state is State.DEAD
    assert s.sandbox.closed


@scenario
async def test_report_says_that_a_function_had_no_memory_left(s: Started) -> None:
    """The caller reads of the exit, as ever; only REPORT tells why."""
    await s.ready()
    s.invoke()
    s.sandbox.exit(ExitStatus(signal="killed", exceeded_memory=True))
    await s.gone()
    message = f"RequestId: {REQUEST_ID} Error: Runtime exited with error: signal: killed"
    assert [error_of(o) for o in s.outcomes] == [("Runtime.ExitError", message)]
    assert f"{message}\nRuntime.ExitError\n" in s.log.text
    assert s.log.text.endswith("Status: error\tError Type: Runtime.OutOfMemory\n")


@scenario
async def test_a_process_that_exits_after_its_answer_leaves_a_line_in_the_log(s: Started) -> None:
    await s.ready()
    s.invoke()
    s.runtime.respond()
    s.sandbox.write(b"last words")
    s.sandbox.exit(ExitStatus(code=129))
    await s.gone()
    assert [o.failed for o in s.outcomes] == [False]
    message = f"RequestId: {REQUEST_ID} Error: Runtime exited with error: exit status 129\nRuntime.ExitError\n"
    report, rest = s.log.text.split("REPORT ")
    assert message not in report
    assert rest.endswith(f"last words{message}")


@scenario
async def test_a_process_that_is_ended_after_its_answer_leaves_none(s: Started) -> None:
    await s.ready()
    s.invoke()
    s.runtime.respond()
    await s.environment.stop()
    assert "Runtime.ExitError" not in s.log.text


@scenario
async def test_an_environment_whose_process_has_exited_is_not_idle_any_more(s: Started) -> None:
    await s.ready()
    s.sandbox.exit(ExitStatus(code=0))
    await s.gone()
    assert s.environment.state is State.DEAD
    assert s.ended == [s.environment]


@scenario
async def test_an_invocation_runs_out_of_time(s: Started) -> None:
    s.environment.version = replace(VERSION, timeout_s=0.05)  # type: ignore[arg-type]  # whole seconds in the API
    await s.ready()
    s.invoke()
    await s.gone()
    assert [o.error_type for o in s.outcomes] == ["Sandbox.Timedout"]
    assert s.sandbox.was_killed
    assert "Task timed out after 0.05 seconds" in s.log.text
    assert "Duration: 50.00 ms" in s.log.text
    assert "Status: timeout" in s.log.text


@scenario
async def test_an_initialization_within_an_invocation_has_the_time_of_the_invocation(s: Started) -> None:
    s.environment.version = replace(VERSION, timeout_s=0.05)  # type: ignore[arg-type]
    s.invoke()
    await s.attach()
    await s.gone()
    assert [o.error_type for o in s.outcomes] == ["Sandbox.Timedout"]
    assert "Phase: invoke\tStatus: timeout" in s.log.text


@scenario
async def test_a_runtime_that_answers_and_does_not_ask_again_is_ended_at_the_timeout(s: Started) -> None:
    s.environment.version = replace(VERSION, timeout_s=0.05)  # type: ignore[arg-type]
    await s.ready()
    s.invoke()
    s.runtime.respond()
    await s.gone()
    assert [o.failed for o in s.outcomes] == [False]


@scenario
async def test_answers_to_other_requests_are_stale(s: Started) -> None:
    await s.ready()
    with pytest.raises(StaleRequest):
        s.environment.respond(REQUEST_ID, b"", "")
    s.invoke()
    for answer in (
        lambda: s.environment.respond(OTHER_ID, b"", ""),
        lambda: s.environment.fail(OTHER_ID, b"", "E"),
        lambda: s.environment.reject_response(OTHER_ID),
        lambda: s.environment.begin_response(OTHER_ID, "", lambda hold: None),
        lambda: s.environment.end_response(OTHER_ID, None),
    ):
        with pytest.raises(StaleRequest):
            answer()
    assert s.outcomes == []
    s.runtime.respond()
    assert len(s.outcomes) == 1


@scenario
async def test_a_second_answer_is_refused_and_changes_nothing(s: Started) -> None:
    await s.ready()
    s.invoke()
    s.runtime.respond(b"1")
    for answer in (
        lambda: s.runtime.respond(b"2"),
        lambda: s.environment.fail(REQUEST_ID, b"", "E"),
        lambda: s.environment.init_failed(b"", "E"),
    ):
        with pytest.raises(IllegalTransition):
            answer()
    assert [o.payload for o in s.outcomes] == [b"1"]


@scenario
async def test_asking_while_an_event_runs_is_refused(s: Started) -> None:
    await s.ready()
    s.invoke()
    with pytest.raises(IllegalTransition):
        s.runtime.next()
    s.runtime.respond()
    assert not s.outcomes[0].failed


@scenario
async def test_a_runtime_that_lost_its_connection_gets_the_event_when_it_asks_again(s: Started) -> None:
    await s.attach()
    lost: list[object] = []
    s.environment.next(lost.append)
    s.environment.lost_runtime(lost.append)
    s.invoke()
    assert lost == []
    s.runtime.next()
    assert len(s.runtime.events) == 1
    s.runtime.respond()
    assert not s.outcomes[0].failed


@scenario
async def test_a_runtime_that_asks_twice_is_offered_once(s: Started) -> None:
    await s.ready()
    s.runtime.next()
    assert len(s.idle) == 1


@scenario
async def test_an_error_of_the_function_is_no_error_of_the_platform(s: Started) -> None:
    await s.ready()
    s.invoke()
    s.environment.fail(REQUEST_ID, b'{"errorType":"ValueError"}', "ValueError")
    assert [(o.payload, o.error_type) for o in s.outcomes] == [(b'{"errorType":"ValueError"}', "ValueError")]
    assert "Status" not in s.log.text


@scenario
async def test_a_response_that_is_too_large(s: Started) -> None:
    await s.ready()
    s.invoke()
    s.environment.reject_response(REQUEST_ID)
    assert error_of(s.outcomes[0])[0] == "Function.ResponseSizeTooLarge"


@scenario
async def test_stopping_answers_what_runs(s: Started) -> None:
    await s.ready()
    s.invoke()
    await s.environment.stop()
    assert [o.error_type for o in s.outcomes] == ["Runtime.ExitError"]
    await s.environment.stop()  # once more does nothing
    assert len(s.ended) == 1


@scenario
async def test_a_streamed_answer_is_passed_on_in_parts(s: Started) -> None:
    await s.ready()
    chunks = ResponseChunks()
    s.environment.invoke(invocation(), s.outcomes.append, chunks)
    into = s.environment.begin_response(REQUEST_ID, "text/plain", lambda hold: None)
    assert s.environment.state is State.STREAMING
    assert chunks.content_type == "text/plain"
    into.put(b"one")
    into.put(b"two")
    s.environment.end_response(REQUEST_ID, None)
    assert [part async for part in chunks] == [b"one", b"two"]
    assert [(o.payload, o.failed) for o in s.outcomes] == [(b"", False)]


@scenario
async def test_a_streamed_answer_for_a_caller_who_wants_no_stream_is_put_together(s: Started) -> None:
    await s.ready()
    s.invoke()
    into = s.environment.begin_response(REQUEST_ID, "text/plain", lambda hold: None)
    into.put(b"one")
    into.put(b"two")
    s.environment.end_response(REQUEST_ID, None)
    assert [(o.payload, o.content_type) for o in s.outcomes] == [(b"onetwo", "text/plain")]


@scenario
async def test_a_stream_that_breaks_off_is_an_error(s: Started) -> None:
    await s.ready()
    chunks = ResponseChunks()
    s.environment.invoke(invocation(), s.outcomes.append, chunks)
    s.environment.begin_response(REQUEST_ID, "text/plain", lambda hold: None).put(b"one")
    s.environment.end_response(REQUEST_ID, Outcome(b"{}", "Broken"))
    assert [part async for part in chunks] == [b"one"]
    assert [o.error_type for o in s.outcomes] == ["Broken"]


@scenario
async def test_a_process_that_exits_while_it_streams_ends_the_stream(s: Started) -> None:
    await s.ready()
    chunks = ResponseChunks()
    s.environment.invoke(invocation(), s.outcomes.append, chunks)
    s.environment.begin_response(REQUEST_ID, "text/plain", lambda hold: None).put(b"one")
    s.sandbox.exit(ExitStatus(code=1))
    assert [part async for part in chunks] == [b"one"]
    assert [o.error_type for o in s.outcomes] == ["Runtime.ExitError"]


@scenario
async def test_a_stream_is_held_back_while_nobody_reads_it(s: Started) -> None:
    holds: list[bool] = []
    chunks = ResponseChunks()
    chunks.begin("text/plain", holds.append)
    for _ in range(30):
        chunks.put(b"x" * 100_000)
    assert holds == [True]
    chunks.end()
    assert sum([len(part) async for part in chunks]) == 3_000_000
    assert holds == [True, False]


@scenario
async def test_a_stream_beyond_its_limit_is_dropped_and_an_error(s: Started) -> None:
    await s.ready()
    chunks = ResponseChunks(limit=5)
    s.environment.invoke(invocation(), s.outcomes.append, chunks)
    into = s.environment.begin_response(REQUEST_ID, "text/plain", lambda hold: None)
    for _ in range(3):
        into.put(b"abc")
    s.environment.end_response(REQUEST_ID, None)
    assert [part async for part in chunks] == [b"abc"]
    assert [o.error_type for o in s.outcomes] == ["Function.ResponseSizeTooLarge"]


@scenario
async def test_what_is_printed_before_the_answer_is_logged_before_the_end(s: Started) -> None:
    await s.ready()
    s.invoke()
    s.sandbox.write(b"printed\nwithout an end")
    s.runtime.respond()
    text = s.log.text
    assert text.index("START") < text.index("printed\n") < text.index("without an end") < text.index("END RequestId")
    assert "Max Memory Used: 50 MB" in text


@scenario
async def test_output_is_read_as_it_comes(s: Started) -> None:
    await s.ready()
    s.sandbox.write(b"between invocations\n")
    await settle(lambda: "between invocations\n" in s.log.text)


@scenario
async def test_a_full_log_holds_the_function_back(s: Started) -> None:
    await s.ready()
    s.log.full = True
    s.sandbox.write(b"first\n")
    await settle(lambda: "first\n" in s.log.text)
    s.sandbox.write(b"second\n")
    await asyncio.sleep(0.02)
    assert "second\n" not in s.log.text
    s.log.room.set()
    await settle(lambda: "second\n" in s.log.text)


@scenario
async def test_a_function_that_is_held_back_can_be_stopped(s: Started) -> None:
    await s.ready()
    s.log.full = True
    s.sandbox.write(b"first\n")
    await settle(lambda: "first\n" in s.log.text)
    await asyncio.wait_for(s.environment.stop(), 5)
    assert s.sandbox.closed
    s.log.room.set()
    await asyncio.sleep(0.01)  # what waited for room must not touch the closed descriptor


@scenario
async def test_the_tail_of_the_log_has_the_platforms_lines_and_four_kilobytes_at_most(s: Started) -> None:
    await s.ready()
    s.invoke(tail_log=True)
    s.sandbox.write("ü".encode() * 3000 + b"\n")
    s.runtime.respond()
    tail = s.outcomes[0].log_tail
    assert len(tail) <= 4096
    assert tail.decode().startswith("ü")
    assert tail.endswith(b"\n")
    assert b"END RequestId" in tail
    assert b"REPORT RequestId" in tail


@scenario
async def test_the_first_report_has_the_initialization_and_the_next_has_not(s: Started) -> None:
    await s.attach()
    await s.clock.advance(0.25)
    s.runtime.next()
    for _ in range(2):
        s.invoke()
        await s.clock.advance(0.01)
        s.runtime.respond()
        s.runtime.next()
    assert s.log.text.count("Init Duration: 250.00 ms") == 1
    assert s.log.text.count("Billed Duration: 260 ms") == 1
    assert s.log.text.count("Billed Duration: 10 ms") == 1


def test_json_logs_are_json() -> None:
    async def inside() -> None:
        config = LoggingConfig("g", "JSON", "INFO", "INFO")
        s = Started(replace(VERSION, logging=config))
        await s.ready()
        s.invoke()
        s.runtime.respond()
        kinds = [json.loads(line)["type"] for line in s.log.text.splitlines()]
        assert kinds == ["platform.start", "platform.report"]
        await s.finish()

    asyncio.run(inside())


def test_log_streams_are_named_as_in_aws() -> None:
    name = new_log_stream("2026/11/21", "$LATEST")
    assert name.startswith("2026/11/21/[$LATEST]")
    assert len(name) == len("2026/11/21/[$LATEST]") + 32
    assert name != new_log_stream("2026/11/21", "$LATEST")
    assert new_log_stream("2026/11/21", "7", "fn").startswith("2026/11/21/fn[7]")

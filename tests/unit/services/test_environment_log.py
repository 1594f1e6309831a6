"""What an environment's log tells extensions, in which order; the test is sandbox and extension."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from lambdad.adapters.clock import FakeClock
from lambdad.domain.functions import LoggingConfig
from lambdad.domain.invocations import Outcome, timed_out
from lambdad.domain.telemetry import Api
from lambdad.services.environment_log import EnvironmentLog
from lambdad.services.running import Running
from unit.services.environments import REQUEST_ID, VERSION, FakeLog, FakeSandbox, invocation
from unit.services.listeners import PATIENCE_S, Listener, wanted

TRACE = "Root=1-62e900b2-710d76f009d6e7785905449a;Parent=0efbd19962d95b05;Sampled=1"


class TalkativeSandbox(FakeSandbox):
    """It has extensions, which write and listen."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self.extension_output_fd, self._extensions_input = os.pipe()
        os.set_blocking(self.extension_output_fd, False)
        self.connect = listener.connect

    def extension_writes(self, data: bytes) -> None:
        os.write(self._extensions_input, data)

    def let_go(self) -> None:
        for fd in (self.extension_output_fd, self._extensions_input, self.output_fd, self._input):
            os.close(fd)


class Scene:
    """One environment's log, with extensions expected or not."""

    def __init__(self, **logging: Any) -> None:
        self.clock = FakeClock(1_665_532_815.0)
        self.listener = Listener()
        self.sandbox = TalkativeSandbox(self.listener)
        self.sink = FakeLog()
        self.version = replace(VERSION, logging=LoggingConfig("/aws/lambda/f", **logging))
        self.log = EnvironmentLog(self.version, self.clock, self.sink)

    async def received(self) -> list[dict[str, Any]]:
        """Everything that has not been taken yet."""
        events: list[dict[str, Any]] = []
        flushed = asyncio.ensure_future(self.log.flush_telemetry(1.0))
        while not flushed.done():
            request = asyncio.ensure_future(self.listener.request())
            await asyncio.wait({flushed, request}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            if request.done():
                events += request.result()[1]
            else:
                request.cancel()
        return events

    def invoked(self, outcome: Outcome, **changes: Any) -> Running:
        event = replace(invocation(), trace_header=TRACE)
        running = Running(event, self.clock.monotonic(), 0, lambda _: None, outcome=outcome, **changes)
        self.log.usage.invocations += 1
        return running


def scenario(**logging: Any) -> Callable[[Callable[[Scene], Awaitable[None]]], Callable[[], None]]:
    """Runs a test in an event loop of its own, with a scene whose function has this logging configuration."""

    def decorate(test: Callable[[Scene], Awaitable[None]]) -> Callable[[], None]:
        def run() -> None:
            async def inside() -> None:
                s = Scene(**logging)
                try:
                    await test(s)
                finally:
                    s.log.detach()
                    await asyncio.sleep(0)
                    s.listener.close()
                    s.sandbox.let_go()

            asyncio.run(inside())

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


def named(events: list[dict[str, Any]]) -> dict[str, Any]:
    return {event["type"]: event["record"] for event in events}


@scenario()
async def test_a_whole_life(s: Scene) -> None:
    """Everything in the order in which it happens, before the subscription and after it."""
    s.log.expect_extensions()
    s.log.init_start("python:3.13", "arn")
    s.log.attach(s.sandbox)
    s.sandbox.extension_writes(b"extension is there\n")
    await s.clock.advance(0)
    s.log.subscribe("x", wanted())
    s.sandbox.write(b"module is imported\n")
    await s.clock.advance(0.25)
    s.log.init_runtime_done("success")
    s.log.extension_state("x", "Ready", ["INVOKE"])
    s.log.init_report(250.0, "init", "success", None)
    s.log.usage.initialized_ms = 250.0
    s.log.close_subscriptions()
    outcome = Outcome(b'"1234567890"')
    running = s.invoked(outcome, first=True)
    s.log.start(running)
    s.sandbox.write(b"handler\n")
    await s.clock.advance(0.02)
    outcome.duration_ms = 20.0
    s.log.drain()
    await s.clock.advance(0.005)
    s.log.runtime_done(running, outcome, 25.0)
    await s.clock.advance(0.01)
    s.log.report(running, outcome, 35.0)

    events = await s.received()
    assert [event["type"] for event in events] == [
        "platform.initStart",
        "extension",
        "platform.telemetrySubscription",
        "function",
        "platform.initRuntimeDone",
        "platform.extension",
        "platform.initReport",
        "platform.start",
        "function",
        "platform.runtimeDone",
        "platform.report",
    ]
    records = named(events)
    tracing = {"type": "X-Amzn-Trace-Id", "value": TRACE}
    assert records["platform.initStart"]["runtimeVersion"] == "python:3.13"
    assert records["platform.telemetrySubscription"] == {
        "name": "x",
        "state": "Subscribed",
        "types": ["platform", "function", "extension"],
    }
    assert records["platform.start"] == {"requestId": REQUEST_ID, "version": "$LATEST", "tracing": tracing}
    start = events[7]["time"]
    assert records["platform.runtimeDone"] == {
        "requestId": REQUEST_ID,
        "status": "success",
        "spans": [
            {"name": "responseLatency", "start": start, "durationMs": 20.0},
            {"name": "responseDuration", "start": "2022-10-12T00:00:15.270Z", "durationMs": 0.0},
            {"name": "runtimeOverhead", "start": "2022-10-12T00:00:15.270Z", "durationMs": 5.0},
        ],
        "metrics": {"durationMs": 25.0, "producedBytes": 12},
        "tracing": tracing,
    }
    assert records["platform.report"] == {
        "requestId": REQUEST_ID,
        "status": "success",
        "metrics": {
            "durationMs": 35.0,
            "billedDurationMs": 285,
            "memorySizeMB": 128,
            "maxMemoryUsedMB": 50,
            "initDurationMs": 250.0,
        },
        "spans": [{"name": "extensionOverhead", "start": "2022-10-12T00:00:15.275Z", "durationMs": 10.0}],
        "tracing": tracing,
    }
    lines = [line.split("\t")[0].split()[0] for line in s.sink.text.splitlines()]
    assert lines == [
        "INIT_START",
        "extension",
        "TELEMETRY",
        "module",
        "EXTENSION",
        "START",
        "handler",
        "END",
        "REPORT",
    ]


@scenario()
async def test_the_logs_api(s: Scene) -> None:
    s.log.expect_extensions()
    s.log.init_start("python:3.13", "arn")
    s.log.attach(s.sandbox)
    s.log.subscribe("x", wanted(api=Api.LOGS))
    running = s.invoked(timed_out(REQUEST_ID, 2).outcome())
    assert running.outcome is not None
    s.log.start(running)
    s.log.runtime_done(running, running.outcome, 2000.0)
    s.log.report(running, running.outcome, 2000.0)
    events = await s.received()
    assert [event["type"] for event in events] == [
        "platform.logsSubscription",
        "platform.start",
        "platform.runtimeDone",
        "platform.fault",
        "platform.end",
        "platform.report",
    ]
    records = named(events)
    assert records["platform.runtimeDone"] == {"requestId": REQUEST_ID, "status": "timeout"}
    assert records["platform.fault"].endswith(f"{REQUEST_ID} Task timed out after 2.00 seconds\n\n")


@scenario()
async def test_an_error_of_the_function_is_a_success_of_the_runtime(s: Scene) -> None:
    """https://github.com/aws-samples/aws-lambda-extensions/issues/85; a crash is not."""
    s.log.expect_extensions()
    s.log.attach(s.sandbox)
    s.log.subscribe("x", wanted("platform"))
    for error_type in ("ValueError", "Runtime.ExitError"):
        outcome = Outcome(b"{}", error_type)
        outcome.duration_ms = 1.0
        s.log.runtime_done(s.invoked(outcome), outcome, 1.0)
    _, raised, crashed = (event["record"] for event in await s.received())
    assert (raised["status"], raised["metrics"]["producedBytes"]) == ("success", 0)
    assert (crashed["status"], crashed["errorType"]) == ("error", "Runtime.ExitError")
    assert "spans" not in crashed


@scenario(log_format="JSON", application_log_level="INFO", system_log_level="INFO")
async def test_json_logs_are_objects(s: Scene) -> None:
    s.log.expect_extensions()
    s.log.attach(s.sandbox)
    s.log.subscribe("x", wanted("function", "extension"))
    s.sandbox.write(b'{"level":"INFO","message":"hello"}\nnot an object\n')
    s.sandbox.extension_writes(b'{"level":"INFO","message":"from x"}\n')
    await s.clock.advance(0)
    assert {json.dumps(event["record"]) for event in await s.received()} == {
        '{"level": "INFO", "message": "hello"}',
        '"not an object\\n"',
        '{"level": "INFO", "message": "from x"}',
    }


@scenario()
async def test_an_internal_extension_gets_the_start_of_the_initialization(s: Scene) -> None:
    s.log.init_start("python:3.13", "arn")
    s.log.attach(s.sandbox)
    await s.clock.advance(0.01)
    s.log.subscribe("internal", wanted("platform"))
    assert [event["type"] for event in await s.received()] == ["platform.initStart", "platform.telemetrySubscription"]


@scenario()
async def test_without_extensions_nothing_is_kept(s: Scene) -> None:
    s.log.init_start("python:3.13", "arn")
    s.log.attach(s.sandbox)
    s.sandbox.write(b"x\n")
    s.log.close_subscriptions()
    outcome = Outcome(b"1")
    running = s.invoked(outcome)
    s.log.start(running)
    s.log.runtime_done(running, outcome, 1.0)
    s.log.report(running, outcome, 1.0)
    assert s.log._telemetry is None
    assert not s.log.accepts_subscriptions


@scenario()
async def test_extensions_that_did_not_subscribe_cost_nothing_after_the_initialization(s: Scene) -> None:
    s.log.expect_extensions()
    s.log.init_start("python:3.13", "arn")
    s.log.close_subscriptions()
    assert s.log._telemetry is None

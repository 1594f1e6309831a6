"""Buffers and deliveries of telemetry, with subscribers of every kind."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from lambdad.adapters.clock import FakeClock
from lambdad.domain.telemetry import Api
from lambdad.services.telemetry import DELIVERY_S, KEPT_BYTES, KEPT_EVENTS, OtherApiInUse, Telemetry
from lambdad.services.telemetry_delivery import ANSWER_BYTES
from unit.services.listeners import OK, PATIENCE_S, TCP, Listener, wanted

NOW = 1_665_532_815.0
Result = TypeVar("Result")


class Scene:
    """An environment's telemetry and one listener, on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.listener = Listener()
        self.telemetry = Telemetry(self.clock, self.listener.connect, in_json=False)

    async def soon(self, what: Coroutine[Any, Any, Result]) -> Result:
        """What comes when time goes on."""
        waiting = asyncio.ensure_future(what)
        while not waiting.done():
            await self.clock.advance(0.01)
        return waiting.result()

    def function_says(self, *texts: str) -> None:
        self.telemetry.lines("function", [(int(NOW * 1000), text) for text in texts])


def scenario(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test in an event loop of its own; it gets a scene, and its other parameters from pytest."""

    def run(**parameters: Any) -> None:
        async def inside() -> None:
            s = Scene()
            try:
                await test(s, **parameters)
            finally:
                s.telemetry.close()
                await asyncio.sleep(0)
                s.listener.close()

        asyncio.run(inside())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    signature = inspect.signature(test)
    others = list(signature.parameters.values())[1:]
    run.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    return run


@scenario
async def test_a_batch_is_an_array_in_a_post(s: Scene) -> None:
    s.telemetry.subscribe("x", wanted())
    s.telemetry.publish(NOW, "platform.start", {"requestId": "1"})
    s.function_says("hello\n")
    head, events = await s.soon(s.listener.request())
    assert head.startswith(b"POST /in HTTP/1.1\r\nHost: sandbox.localdomain:8080\r\n")
    assert b"\r\nContent-Type: application/json\r\n" in head
    assert events == [
        {"time": "2022-10-12T00:00:15.000Z", "type": "platform.start", "record": {"requestId": "1"}},
        {"time": "2022-10-12T00:00:15.000Z", "type": "function", "record": "hello\n"},
    ]
    assert s.listener.ports == [8080]


@scenario
async def test_by_tcp_events_are_lines_on_one_connection(s: Scene) -> None:
    s.telemetry.subscribe("x", wanted(**TCP))
    s.function_says("1", "2")
    connection = await s.soon(s.listener.accepted())
    first = await s.listener.read_until(connection, b'"2"}\n')
    assert [json.loads(line)["record"] for line in first.splitlines()] == ["1", "2"]
    s.function_says("3")
    assert json.loads(await s.soon(s.listener.read_until(connection, b"\n")))["record"] == "3"
    assert s.listener.ports == [8081]


@scenario
async def test_a_tcp_listener_that_came_back_gets_the_next_batch(s: Scene) -> None:
    s.telemetry.subscribe("x", wanted(**TCP))
    s.function_says("1")
    connection = await s.soon(s.listener.accepted())
    await s.listener.read_until(connection, b"\n")
    connection.close()
    s.function_says("2")
    again = await s.soon(s.listener.accepted())
    assert json.loads(await s.listener.read_until(again, b"\n"))["record"] == "2"


@scenario
async def test_a_batch_waits_for_its_time(s: Scene) -> None:
    s.telemetry.subscribe("x", wanted())
    s.function_says("1")
    await s.clock.advance(0.099)
    assert s.listener.ports == []
    s.function_says("2")
    await s.clock.advance(0.002)
    assert await s.listener.records() == ["1", "2"]


@scenario
async def test_a_full_batch_waits_for_nothing(s: Scene) -> None:
    s.telemetry.subscribe("x", wanted())
    s.function_says(*["x"] * 1001)
    assert len(await s.listener.records()) == 1000
    assert len(await s.soon(s.listener.records())) == 1
    s.function_says("x" * 200_000, "x" * 200_000)
    assert len(await s.listener.records()) == 1


@scenario
async def test_who_comes_late_gets_what_was_before(s: Scene) -> None:
    s.telemetry.publish(NOW, "platform.initStart", {"phase": "init"})
    s.function_says("early")
    s.telemetry.subscribe("x", wanted())
    s.telemetry.close_subscriptions()
    assert await s.soon(s.listener.records()) == [{"phase": "init"}, "early"]


@scenario
async def test_what_is_kept_for_the_late_is_bounded(s: Scene) -> None:
    line = "x" * (KEPT_BYTES // 8)
    s.function_says(*[line] * 8, "over")
    s.telemetry.subscribe("x", wanted())
    texts = []
    lost = []
    while len(texts) + sum(record["droppedRecords"] for record in lost) < 9:
        for record in await s.soon(s.listener.records()):
            (texts if isinstance(record, str) else lost).append(record)
    assert "over" not in texts
    assert set(texts) == {line}


@scenario
async def test_so_is_the_number_of_lines(s: Scene) -> None:
    s.function_says(*["\n"] * (KEPT_EVENTS + 1))
    s.telemetry.publish(NOW, "platform.initReport", {})
    assert len(s.telemetry._kept) == KEPT_EVENTS + 1


@scenario
async def test_nothing_is_kept_when_nobody_can_come_any_more(s: Scene) -> None:
    assert s.telemetry.is_wanted
    s.telemetry.close_subscriptions()
    assert not s.telemetry.is_wanted


@scenario
async def test_a_second_subscription_replaces_the_first(s: Scene) -> None:
    s.telemetry.subscribe("x", wanted())
    s.telemetry.subscribe("x", wanted("function", protocol="HTTP", URI="http://sandbox:9090/other"))
    s.telemetry.publish(NOW, "platform.start", {})
    s.function_says("1")
    head, events = await s.soon(s.listener.request())
    assert head.startswith(b"POST /other ")
    assert [event["record"] for event in events] == ["1"]
    assert s.listener.ports == [9090]


@scenario
async def test_a_new_destination_gets_what_waits(s: Scene) -> None:
    s.telemetry.subscribe("x", wanted(**TCP))
    s.function_says("1")
    s.telemetry.subscribe("x", wanted())
    assert await s.soon(s.listener.records()) == ["1"]
    assert s.listener.ports == [8080]


@scenario
async def test_one_extension_uses_one_api(s: Scene) -> None:
    """ "After subscribing using one of these APIs, any attempt to subscribe using the other API returns an error."

    https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html
    """
    s.telemetry.subscribe("x", wanted())
    with pytest.raises(OtherApiInUse, match="x has subscribed to the Telemetry API already"):
        s.telemetry.subscribe("x", wanted(api=Api.LOGS))
    s.telemetry.subscribe("y", wanted(api=Api.LOGS))


# Subscribers with problems


@pytest.mark.parametrize("answer", [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0-hello\r\n", b""])
@scenario
async def test_what_was_not_taken_is_sent_again(s: Scene, answer: bytes) -> None:
    s.telemetry.subscribe("x", wanted())
    s.function_says("1")
    assert await s.soon(s.listener.records(answer)) == ["1"]
    s.function_says("2")
    assert await s.soon(s.listener.records()) == ["1", "2"]


@scenario
async def test_attempts_become_rarer(s: Scene) -> None:
    s.listener.refuses = True
    s.telemetry.subscribe("x", wanted())
    s.function_says("1")
    await s.clock.advance(60)
    assert 10 < len(s.listener.ports) < 25
    s.listener.refuses = False
    await s.clock.advance(5)
    assert await s.listener.records() == ["1"]


@pytest.mark.parametrize("destination", [{}, TCP])
@scenario
async def test_one_that_never_reads_or_answers_costs_its_buffer_and_no_more(
    s: Scene, destination: dict[str, Any]
) -> None:
    s.telemetry.subscribe("x", wanted(**destination))
    line = "x" * 1000
    for _ in range(100):
        s.function_says(*[line] * 100)
        await s.clock.advance(0.1)
    (subscriber,) = s.telemetry._subscribers.values()
    assert subscriber.held_bytes <= 2 * 262_144
    await s.clock.advance(DELIVERY_S)
    assert s.listener.connections.qsize() >= 2  # it has been given up, and tried again


@scenario
async def test_an_endless_answer_is_not_read_to_its_end(s: Scene) -> None:
    s.telemetry.subscribe("x", wanted())
    s.function_says("1")
    await s.clock.advance(0.1)
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * ANSWER_BYTES
    connection = await s.listener.accepted()
    await s.listener.read_until(connection, b"\r\n\r\n")
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await asyncio.get_running_loop().sock_sendall(connection, endless * 100)
    s.function_says("2")
    assert await s.soon(s.listener.records()) == ["2"]


@scenario
async def test_what_was_lost_is_said(s: Scene) -> None:
    s.listener.refuses = True
    s.telemetry.subscribe("x", wanted())
    s.telemetry.subscribe("only the function", wanted("function", **TCP))
    for number in range(5000):
        s.function_says(str(number))
    await s.clock.advance(1)
    s.listener.refuses = False
    await s.clock.advance(5)
    (first, *_), texts = await _until_the_last(s, "4999")
    assert first["reason"].startswith("Consumer seems to have fallen behind")
    assert first["droppedRecords"] == 5000 - len(texts)
    assert first["droppedBytes"] > 60 * first["droppedRecords"]
    assert texts == [str(number) for number in range(5000 - len(texts), 5000)]
    assert 1000 <= len(texts) <= 2000


async def _until_the_last(s: Scene, last: str) -> tuple[list[Any], list[str]]:
    """Objects and texts of what comes by HTTP, up to a text; what comes by TCP has no objects."""
    objects: list[Any] = []
    texts: list[str] = []
    over_tcp = b""
    while last not in texts:
        connection = await s.soon(s.listener.accepted())
        data = await s.listener.read(connection)
        if not data.startswith(b"POST"):
            over_tcp += data
            continue
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += await s.listener.read(connection)
        await asyncio.get_running_loop().sock_sendall(connection, OK)
        connection.close()
        for event in json.loads(body):
            record = event["record"]
            (texts if isinstance(record, str) else objects).append(record)
    assert b"logsDropped" not in over_tcp
    return objects, texts


# Freezing and ending


@scenario
async def test_nothing_is_sent_to_the_frozen(s: Scene) -> None:
    s.telemetry.subscribe("x", wanted())
    s.function_says("1")
    s.telemetry.freeze()
    await s.clock.advance(60)
    assert s.listener.ports == []
    s.telemetry.thaw()
    assert await s.listener.records() == ["1"]


@scenario
async def test_a_delivery_that_was_frozen_is_not_given_up(s: Scene) -> None:
    s.telemetry.subscribe("x", wanted())
    s.function_says("1")
    connection = await s.soon(s.listener.accepted())
    s.telemetry.freeze()
    await s.clock.advance(10 * DELIVERY_S)
    s.telemetry.thaw()
    await s.clock.advance(DELIVERY_S / 2)
    await s.listener.read_until(connection, b'"1"}]')
    await asyncio.get_running_loop().sock_sendall(connection, OK)
    s.function_says("2")
    assert await s.soon(s.listener.records()) == ["2"]


@scenario
async def test_at_the_end_everything_is_sent_at_once(s: Scene) -> None:
    s.telemetry.subscribe("x", wanted())
    s.function_says("1")
    s.telemetry.freeze()
    flushed = asyncio.ensure_future(s.telemetry.flush(2.0))
    assert await s.listener.records() == ["1"]
    await asyncio.wait_for(flushed, PATIENCE_S)
    s.function_says("2")
    assert await s.listener.records() == ["2"]


@scenario
async def test_the_end_does_not_wait_for_ever(s: Scene) -> None:
    s.listener.refuses = True
    s.telemetry.subscribe("x", wanted())
    s.function_says("1")
    flushed = asyncio.ensure_future(s.telemetry.flush(2.0))
    await s.clock.advance(1.9)
    assert not flushed.done()
    await s.clock.advance(0.2)
    await asyncio.wait_for(flushed, PATIENCE_S)


@scenario
async def test_the_end_of_a_pipe_sends_what_there_is(s: Scene) -> None:
    """ "If any of the input streams are closed, then Lambda flushes the logs."

    https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html#telemetry-api-buffering
    """
    s.telemetry.subscribe("x", wanted())
    s.function_says("1")
    s.telemetry.hurry()
    assert await s.listener.records() == ["1"]

"""Who is let in to an environment's Runtime API, and how long the slow are waited for."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from unittest import mock

import pytest
import uvloop

from lambdad.domain.lifecycle import State
from lambdad.ingress import runtime_api
from lambdad.ingress.runtime_api import CONNECTIONS, HEAD_BYTES, PIPELINED, STRANGERS, RuntimeListener
from unit.services.environments import REQUEST_ID, Started

WAIT_S = 5.0
NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
RESPONSE = f"POST /2018-06-01/runtime/invocation/{REQUEST_ID}/response HTTP/1.1\r\nHost: x\r\n".encode()
Scenario = Callable[["Api"], Awaitable[None]]


class Client:
    """A connection, as a runtime or somebody else makes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.address: tuple[str, int] = writer.get_extra_info("sockname")

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, bytes]:
        async with asyncio.timeout(WAIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            return int(head.split()[1]), await self.reader.readexactly(length)

    async def is_cut_off(self) -> bool:
        async with asyncio.timeout(WAIT_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


class Api:
    """An environment with its listener, on real sockets."""

    def __init__(self) -> None:
        self.started = Started()
        self.environment = self.started.environment
        self.listener = RuntimeListener(self.environment)
        self.clients: list[Client] = []

    async def connect(self, *, own: bool = True, address: tuple[str, int] | None = None) -> Client:
        host, port = address or self.listener.address.split(":")
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind(("127.0.0.1", 0))
        if own:  # before the listener can ask
            self.started.sandbox.own.add(connection.getsockname())
        await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
        client = Client(*await asyncio.open_connection(sock=connection))
        self.clients.append(client)
        return client

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.001)

    async def end(self) -> None:
        self.listener.close()
        for client in self.clients:
            client.writer.close()
        await self.started.finish()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

    def run_one(scenario: Scenario) -> None:
        async def inside() -> None:
            api = Api()
            try:
                await scenario(api)
            finally:
                await api.end()

        with asyncio.Runner(loop_factory=loops[request.param]) as runner:
            runner.run(inside())

    return run_one


async def opened(api: Api) -> None:
    await api.listener.open()
    await api.started.attach()


def test_the_environments_own_processes_are_answered(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        await opened(api)
        client = await api.connect()
        client.send(NEXT)
        await api.until(lambda: api.environment.state is State.IDLE)
        api.started.invoke(payload=b"[1]")
        assert await client.answer() == (200, b"[1]")

    run(scenario)


def test_others_are_refused_and_reach_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        await opened(api)
        own = await api.connect()
        own.send(NEXT)
        await api.until(lambda: api.environment.state is State.IDLE)
        api.started.invoke()
        await own.answer()
        stranger = await api.connect(own=False)
        stranger.send(RESPONSE + b"Content-Length: 2\r\n\r\n{}")
        status, body = await stranger.answer()
        assert status == 403
        assert json.loads(body)["errorType"] == "AccessDenied"
        assert await stranger.is_cut_off()
        assert api.environment.state is State.INVOKING
        assert not api.started.outcomes

    run(scenario)


def test_who_comes_before_the_sandbox_is_known_is_not_heard_until_then(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        await api.listener.open()
        own, stranger = await api.connect(), await api.connect(own=False)
        own.send(NEXT)
        stranger.send(NEXT)
        await api.until(lambda: len(api.listener.connections) == 2)
        await asyncio.sleep(0.02)  # whatever came would have been read by now
        assert api.environment.state is State.STARTING
        assert not api.environment._early
        await api.started.attach()
        assert (await stranger.answer())[0] == 403
        await api.until(lambda: api.environment.state is State.IDLE)
        api.started.invoke(payload=b"[2]")
        assert await own.answer() == (200, b"[2]")

    run(scenario)


def test_on_a_socket_in_its_own_network_nobody_is_asked_for(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            early = await api.connect(own=False, address=listener.getsockname())
            early.send(NEXT)
            await api.listener.adopt(listener)
            await api.started.attach()
            await api.until(lambda: api.environment.state is State.IDLE)
            api.listener.close()
            assert await early.is_cut_off()
            assert listener.fileno() >= 0, "it is the sandbox's to close"

    run(scenario)


def test_strangers_do_not_take_the_places_of_its_own_processes(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        await opened(api)
        strangers = [await api.connect(own=False) for _ in range(STRANGERS + 3)]
        for stranger in strangers[STRANGERS:]:
            assert await stranger.is_cut_off()
        assert len(api.listener.strangers) == STRANGERS
        assert not api.listener.connections
        own = await api.connect()
        own.send(NEXT)
        await api.until(lambda: api.environment.state is State.IDLE)

    run(scenario)


def test_its_own_processes_have_so_many_connections_and_the_first_one_stays(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        await opened(api)
        working = await api.connect()
        working.send(NEXT)
        for _ in range(CONNECTIONS - 1):
            await api.connect()
        await api.until(lambda: len(api.listener.connections) == CONNECTIONS)
        assert await (await api.connect()).is_cut_off()
        api.started.invoke(payload=b"[3]")
        assert await working.answer() == (200, b"[3]")

    run(scenario)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /" + b"x" * HEAD_BYTES,
        b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES,
    ],
    ids=["path", "header"],
)
def test_a_head_that_is_too_long_is_refused(run: Callable[[Scenario], None], start: bytes) -> None:
    async def scenario(api: Api) -> None:
        await opened(api)
        client = await api.connect()
        client.send(start)
        assert (await client.answer())[0] == 431
        assert await client.is_cut_off()

    run(scenario)


def test_a_trailer_that_is_too_long_is_refused(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        await opened(api)
        client = await api.connect()
        client.send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"0\r\nX: " + b"x" * HEAD_BYTES)
        assert (await client.answer())[0] == 431
        assert await client.is_cut_off()

    run(scenario)


def test_the_slow_are_cut_off_and_nobody_else(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        with mock.patch.object(runtime_api, "HEAD_SECONDS", 0.1):
            await opened(api)
            working, silent, halting = [await api.connect() for _ in range(3)]
            working.send(NEXT)
            halting.send(b"GET / HTTP/1.1\r\n\r\n")
            assert (await halting.answer())[0] == 404
            halting.send(b"GET / HT")
            assert await silent.is_cut_off()
            assert await halting.is_cut_off()
            await api.until(lambda: api.listener._sweeper is None)  # there is nobody left to wait for
            api.started.invoke(payload=b"[4]")
            assert await working.answer() == (200, b"[4]")
            # A pause within a body, here within its frame, is no matter of the head.
            working.send(RESPONSE + b"Transfer-Encoding: chunked\r\n\r\n1\r\n5\r\n1")
            await asyncio.sleep(0.25)
            working.send(b"\r\n7\r\n0\r\n\r\n")
            assert (await working.answer())[0] == 202
            assert [outcome.payload for outcome in api.started.outcomes] == [b"57"]

    run(scenario)


ASK = b"GET /2020-01-01/extension/none HTTP/1.1\r\n\r\n"


def test_more_requests_together_than_any_runtime_sends_are_cut_off(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        await opened(api)
        client = await api.connect()
        for _ in range(3):
            client.send(ASK * PIPELINED)
            for _ in range(PIPELINED):
                assert (await client.answer())[0] == 404
        client.send(ASK * (PIPELINED + 1))
        for _ in range(PIPELINED):
            assert (await client.answer())[0] == 404
        assert await client.is_cut_off()

    run(scenario)


def test_who_does_not_read_its_answers_is_not_listened_to_until_then(run: Callable[[Scenario], None]) -> None:
    async def scenario(api: Api) -> None:
        await opened(api)
        client = await api.connect()
        client.send(NEXT)
        await api.until(lambda: api.environment.state is State.IDLE)
        event = bytes(16 * 1024 * 1024)  # more than the kernel keeps of what nobody reads
        api.started.invoke(payload=event)
        client.send(RESPONSE + b"Content-Length: 2\r\n\r\n{}")
        await asyncio.sleep(0.02)  # what came would have been read by now
        assert api.environment.state is State.INVOKING
        assert await client.answer() == (200, event)
        assert (await client.answer())[0] == 202
        assert [outcome.payload for outcome in api.started.outcomes] == [b"{}"]

    run(scenario)

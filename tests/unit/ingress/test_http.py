"""The HTTP server with handlers of the test's own, over real sockets."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from lambdad.ingress import http
from lambdad.ingress.http import HttpServer, encode_head
from lambdad.ingress.messages import BodyTooLarge, BrokenAnswer, ClientGone, Request, Response

MB = 1024 * 1024


class Client:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """The next answer's status and headers."""
        text = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
        return int(first.split(" ")[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}

    async def answer(self) -> tuple[int, bytes]:
        """The next answer's status and body."""
        status, headers = await self.head()
        if headers.get("transfer-encoding") == "chunked":
            return status, b"".join([chunk async for chunk in self._chunks()])
        return status, await self._reader.readexactly(int(headers.get("content-length", 0)))

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        while size := int(await self._reader.readline(), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        assert await self._reader.readline() == b"\r\n"

    async def read(self, size: int) -> bytes:
        return await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """All that comes before the connection ends."""
        try:
            return await self._reader.read()
        except ConnectionResetError:
            return b""

    def leave(self) -> None:
        self._writer.transport.abort()


class World:
    """A server that is asked by clients. Its handler can be replaced.

    With `takes`, requests that are whole are not answered by a task: the test calls what `taken` has of them.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.server = HttpServer(self)
        self.handler: Callable[[Request], Awaitable[Response]] = echo
        self.takes = False
        self.taken: list[Callable[[Response], None]] = []
        self._clients: list[Client] = []

    def begin(self, request: Request, answer: Callable[[Response], None]) -> bool:
        if self.takes:
            self.requests.append(request)
            self.taken.append(answer)
        return self.takes

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return await self.handler(request)

    async def start(self) -> World:
        self.address = await self.server.listen("127.0.0.1", 0)
        return self

    async def connect(self) -> Client:
        self._clients.append(Client(*await asyncio.open_connection(*self.address)))
        return self._clients[-1]

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        client = await self.connect()
        await client.send(data)
        return await client.answer()

    async def finish(self) -> None:
        await self.server.stop(0.0)
        for client in self._clients:
            client.leave()


async def echo(request: Request) -> Response:
    try:
        return Response(200, [("X-Path", request.path)], await request.body.read(MB))
    except BodyTooLarge:
        return Response(413)


def answers(response: Response) -> Callable[[Request], Awaitable[Response]]:
    async def handler(request: Request) -> Response:
        return response

    return handler


def scenario(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Runs a test in an event loop of its own, for ten seconds at most."""

    @functools.wraps(test)
    def run() -> None:
        async def inside() -> None:
            world = await World().start()
            try:
                async with asyncio.timeout(10):
                    await test(world)
            finally:
                await world.finish()

        asyncio.run(inside())

    del run.__wrapped__  # pytest would take its parameter for a fixture
    return run


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def post(body: bytes = b"", *headers: str, path: str = "/p", version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", *headers]
    if not any(header.startswith(("Content-Length", "Transfer-Encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@scenario
async def test_a_request_reaches_the_handler_as_it_was_sent(w: World) -> None:
    status, body = await w.ask(post(b"body", "X-One: a", "X-one:  b ", path="/a%20b?c=d"))
    assert (status, body) == (200, b"body")
    request = w.requests[0]
    assert (request.method, request.path, request.query) == ("POST", "/a%20b", "c=d")
    assert request.headers == {"host": "x", "x-one": "a,b", "content-length": "4"}


@scenario
async def test_a_request_may_come_byte_by_byte(w: World) -> None:
    client = await w.connect()
    for byte in post(b"body"):
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert await client.answer() == (200, b"body")


@scenario
async def test_a_connection_is_used_again(w: World) -> None:
    client = await w.connect()
    for number in range(5):
        await client.send(post(b"%d" % number))
        assert await client.answer() == (200, b"%d" % number)


@scenario
async def test_pipelined_requests_are_answered_one_after_the_other(w: World) -> None:
    active = most = 0

    async def handler(request: Request) -> Response:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.001)
        active -= 1
        return await echo(request)

    w.handler = handler
    client = await w.connect()
    await client.send(b"".join(post(b"%d" % number) for number in range(40)))
    assert [await client.answer() for _ in range(40)] == [(200, b"%d" % number) for number in range(40)]
    assert most == 1


@scenario
async def test_a_client_that_pipelines_much_is_held_back(w: World) -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return Response(200)

    w.handler = handler
    client = await w.connect()
    sending = asyncio.ensure_future(client.send(post(b"x" * 1000) * 20_000))
    await until(lambda: len(w.requests) == 1)
    await asyncio.sleep(0.05)
    assert not sending.done()
    gate.set()
    for _ in range(20_000):
        assert await client.answer() == (200, b"")
    await sending


@scenario
async def test_requests_that_are_taken_at_once_are_answered_one_after_the_other(w: World) -> None:
    w.takes = True
    client = await w.connect()
    await client.send(post(b"1") + post(b"2"))
    for number in (1, 2):
        await until(lambda n=number: len(w.taken) == n)
        w.taken[-1](Response(200, [], b"%d" % number))
        assert await client.answer() == (200, b"%d" % number)
    assert len(w.taken) == 2


@scenario
async def test_taken_requests_and_others_keep_their_order(w: World) -> None:
    w.takes = True
    client = await w.connect()
    await client.send(post(b"taken") + post(b"half", "Content-Length: 8"))
    await until(lambda: len(w.taken) == 1)
    w.taken[0](Response(200, [], b"taken"))
    await until(lambda: len(w.requests) == 2)  # it is not whole, so a task answers it
    await client.send(b"more" + post(b"again"))
    assert [await client.answer() for _ in range(3)] == [(200, b"taken"), (200, b"halfmore"), (200, b"again")]


@scenario
async def test_an_answer_for_a_client_that_has_left_is_dropped(w: World) -> None:
    w.takes = True
    client = await w.connect()
    await client.send(post(b"1") + post(b"2"))
    await until(lambda: w.taken)
    client.leave()
    await until(lambda: not w.server.connections)
    w.taken[0](Response(200))
    assert len(w.taken) == 1  # what it had asked for besides is not begun


@scenario
async def test_garbage_after_a_taken_request_is_refused_after_its_answer(w: World) -> None:
    w.takes = True
    client = await w.connect()
    await client.send(post(b"1") + b"\0 garbage\r\n\r\n")
    await until(lambda: w.taken)
    w.taken[0](Response(200, [], b"1"))
    assert [await client.answer(), await client.answer()] == [(200, b"1"), (400, b'{"message":"Bad Request"}')]
    assert await client.rest() == b""


@scenario
async def test_stopping_waits_for_a_taken_request(w: World) -> None:
    w.takes = True
    client = await w.connect()
    await client.send(post(b"1"))
    await until(lambda: w.taken)
    stopping = asyncio.ensure_future(w.server.stop(5.0))
    await asyncio.sleep(0.01)
    assert not stopping.done()
    w.taken[0](Response(200, [], b"x" * (3 * MB)))
    assert len((await client.answer())[1]) == 3 * MB
    await stopping
    assert await client.rest() == b""


@scenario
async def test_bodies_in_chunks_and_answers_in_chunks(w: World) -> None:
    async def parts() -> AsyncGenerator[bytes, None]:
        for part in (b"one", b"", b"two"):
            yield part

    assert await w.ask(post(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "Transfer-Encoding: chunked")) == (200, b"abc")
    w.handler = answers(Response(200, [], parts()))
    assert await w.ask(post()) == (200, b"onetwo")


@scenario
async def test_a_part_of_an_answer_goes_out_before_the_next_is_there(w: World) -> None:
    gate = asyncio.Event()

    async def parts() -> AsyncGenerator[bytes, None]:
        yield b"first"
        await gate.wait()
        yield b"second"

    w.handler = answers(Response(200, [], parts()))
    client = await w.connect()
    await client.send(post())
    await client.head()
    assert await client.read(10) == b"5\r\nfirst\r\n"
    gate.set()
    assert await client.read(11) == b"6\r\nsecond\r\n"


@scenario
async def test_an_answer_that_fails_half_way_cuts_the_connection(w: World) -> None:
    closed = []

    async def parts() -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            raise RuntimeError("broken")
        finally:
            closed.append(True)

    w.handler = answers(Response(200, [], parts()))
    client = await w.connect()
    await client.send(post())
    await client.head()
    assert not (await client.rest()).endswith(b"0\r\n\r\n")
    assert closed == [True]


@scenario
async def test_a_broken_answer_ends_behind_what_there_is_of_it(w: World) -> None:
    async def parts() -> AsyncGenerator[bytes, None]:
        yield b"x" * MB
        raise BrokenAnswer

    w.handler = answers(Response(200, [], parts()))
    client = await w.connect()
    await client.send(post())
    await client.head()
    assert await client.rest() == b"%x\r\n%b\r\n" % (MB, b"x" * MB)


@scenario
async def test_a_request_says_where_it_came_from_and_its_cookies(w: World) -> None:
    client = await w.connect()
    await client.send(post(b"", "Cookie: a=1", "X-Many: 1", "Cookie: b=2", "X-Many: 2"))
    await client.answer()
    (request,) = w.requests
    assert request.client == "127.0.0.1"
    assert (request.headers["cookie"], request.headers["x-many"]) == ("a=1; b=2", "1,2")


@scenario
async def test_a_client_that_leaves_ends_the_answer_it_was_sent(w: World) -> None:
    ended = asyncio.Event()

    async def parts() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0)
        finally:
            ended.set()

    w.handler = answers(Response(200, [], parts()))
    client = await w.connect()
    await client.send(post())
    await client.head()
    client.leave()
    await ended.wait()
    await until(lambda: not w.server.connections)


@scenario
async def test_a_client_that_does_not_read_is_waited_for(w: World) -> None:
    sent = 0

    async def parts() -> AsyncGenerator[bytes, None]:
        nonlocal sent
        for _ in range(500):
            sent += 1
            yield b"x" * 100_000

    w.handler = answers(Response(200, [], parts()))
    client = await w.connect()
    await client.send(post())
    await asyncio.sleep(0.1)
    assert 0 < sent < 400
    assert len((await client.answer())[1]) == 50_000_000


@scenario
async def test_what_comes_behind_a_body_is_no_header(w: World) -> None:
    chunked = post(b"2\r\nhi\r\n0\r\nX-Late: a\r\nHost: other\r\n\r\n", "Transfer-Encoding: chunked")
    client = await w.connect()
    await client.send(chunked + post(b"next"))
    assert [await client.answer() for _ in range(2)] == [(200, b"hi"), (200, b"next")]
    assert [request.headers["host"] for request in w.requests] == ["x", "x"]
    assert "x-late" not in w.requests[0].headers


@pytest.mark.parametrize(
    ("begin", "line"), [(b"0\r\n", b"X-More: of it\r\n"), (b"0\r\n", b"x" * 1000), (b"2;", b"x" * 1000)]
)
def test_what_frames_a_body_does_not_pile_up(begin: bytes, line: bytes) -> None:
    @scenario
    async def test(w: World) -> None:
        client = await w.connect()
        await client.send(post(begin, "Transfer-Encoding: chunked"))
        sent = 0
        while w.server.connections or not sent:
            try:
                await client.send(line * 10)
            except ConnectionError:
                break
            sent += len(line) * 10
            await asyncio.sleep(0)
        assert sent < 10 * MB

    test()


@scenario
async def test_a_client_that_never_reads_is_left(w: World) -> None:
    ended = asyncio.Event()

    async def parts() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            ended.set()

    w.handler = answers(Response(200, [], parts()))
    client = await w.connect()
    await client.send(post())
    await until(lambda: w.requests)
    (connection,) = w.server.connections
    now = asyncio.get_running_loop().time()
    while not ended.is_set():  # it may take a moment until there is something that waits
        for seconds in (0.0, http.UNREAD_SECONDS - 1):
            connection.close_if_overdue(now + seconds)
            assert connection in w.server.connections
            assert not connection._transport.is_closing()
        connection.close_if_overdue(now + http.UNREAD_SECONDS + 1)
        await asyncio.sleep(0.001)
    await until(lambda: not w.server.connections)


@scenario
async def test_a_body_that_breaks_off_is_told_to_the_handler(w: World) -> None:
    raised = []

    async def handler(request: Request) -> Response:
        try:
            return await echo(request)
        except ClientGone:
            raised.append(True)
            raise

    w.handler = handler
    client = await w.connect()
    await client.send(post(b"half", "Content-Length: 10"))
    await until(lambda: w.requests)
    client.leave()
    await until(lambda: raised)


@scenario
async def test_a_body_that_nobody_reads_does_not_pile_up(w: World) -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return Response(200, [], str(len(await request.body.read(100 * MB))).encode())

    w.handler = handler
    client = await w.connect()
    sending = asyncio.ensure_future(client.send(post(b"x" * (50 * MB))))
    await until(lambda: w.requests)
    await asyncio.sleep(0.1)
    assert not sending.done()
    gate.set()
    assert await client.answer() == (200, b"%d" % (50 * MB))


@scenario
async def test_a_body_that_is_too_large_is_swallowed_so_that_the_client_reads_its_answer(w: World) -> None:
    client = await w.connect()
    await client.send(post(b"x" * (3 * MB)))
    assert (await client.answer())[0] == 413
    await client.send(post(b"next"))
    assert await client.answer() == (200, b"next")


@scenario
async def test_a_body_that_is_far_too_large_ends_the_connection(w: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "DISCARD_BYTES", MB)
        client = await w.connect()
        sending = asyncio.ensure_future(client.send(post(b"x" * (8 * MB))))
        assert (await client.answer())[0] == 413
        await client.rest()
        await asyncio.wait([sending])
        assert sending.exception() is None or isinstance(sending.exception(), ConnectionError)


@scenario
async def test_a_client_that_waits_for_100_is_told_to_go_on_only_if_the_body_is_wanted(w: World) -> None:
    client = await w.connect()
    await client.send(post(b"", "Expect: 100-continue", "Content-Length: 4"))
    assert (await client.head())[0] == 100
    await client.send(b"body")
    assert await client.answer() == (200, b"body")

    w.handler = answers(Response(403))
    client = await w.connect()
    await client.send(post(b"", "Expect: 100-continue", "Content-Length: 4"))
    assert (await client.head())[0] == 403
    assert await client.rest() == b""


@scenario
async def test_an_answer_to_head_has_no_body(w: World) -> None:
    closed = []

    async def parts() -> AsyncGenerator[bytes, None]:
        try:
            yield b"never"
        finally:
            closed.append(True)

    client = await w.connect()
    for response in (Response(200, [], b"body"), Response(200, [], parts())):
        w.handler = answers(response)
        await client.send(b"HEAD / HTTP/1.1\r\n\r\n")
        assert (await client.head())[0] == 200
    w.handler = echo
    await client.send(post(b"next"))
    assert await client.answer() == (200, b"next")


@scenario
async def test_http_1_0_gets_a_plain_body_and_the_end_of_the_connection(w: World) -> None:
    async def parts() -> AsyncGenerator[bytes, None]:
        yield b"one"
        yield b"two"

    for headers in ((), ("Connection: keep-alive",)):
        w.handler = answers(Response(200, [], parts()))
        client = await w.connect()
        await client.send(post(b"", *headers, version="1.0"))
        _, answered = await client.head()
        assert answered == {"connection": "close"}
        assert await client.rest() == b"onetwo"


@scenario
async def test_what_cannot_be_parsed_is_refused_after_what_came_before(w: World) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0.01)
        return await echo(request)

    w.handler = handler
    client = await w.connect()
    await client.send(post(b"1") + post(b"2") + b"\0\0\0 garbage\r\n\r\n" + post(b"3"))
    assert [await client.answer() for _ in range(3)] == [
        (200, b"1"),
        (200, b"2"),
        (400, b'{"message":"Bad Request"}'),
    ]
    assert await client.rest() == b""
    assert len(w.requests) == 2


@scenario
async def test_an_offer_to_upgrade_is_passed_over(w: World) -> None:
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")
    client = await w.connect()
    whole = post(b"body", *offer)
    for cut in (len(whole), len(whole) - 2, len(whole) - 4, 30, 1):
        await client.send(whole[:cut])
        await asyncio.sleep(0.005)
        await client.send(whole[cut:] + post(b"next"))
        assert [await client.answer(), await client.answer()] == [(200, b"body"), (200, b"next")]
    assert (w.requests[0].method, w.requests[0].path) == ("POST", "/p")


@scenario
async def test_connections_that_are_silent_for_too_long_are_closed(w: World) -> None:
    now = asyncio.get_running_loop().time()
    silent, half_head, half_body, busy = [await w.connect() for _ in range(4)]
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        if request.path == "/busy":
            await gate.wait()
        return await echo(request)

    w.handler = handler
    await half_head.send(post()[:10])
    await half_body.send(post(b"half", "Content-Length: 10"))
    await busy.send(post(path="/busy"))
    await until(lambda: len(w.requests) == 2)
    await asyncio.sleep(0.02)

    def sweep(after: float) -> int:
        for connection in list(w.server.connections):
            connection.close_if_overdue(now + after)
        return len(w.server.connections)

    assert sweep(http.HEAD_SECONDS - 1) == 4
    sweep(http.HEAD_SECONDS + 1)
    assert await half_head.rest() == b""
    sweep(http.BODY_SECONDS + 1)
    assert await half_body.rest() == b""
    sweep(http.IDLE_SECONDS + 1)
    assert await silent.rest() == b""
    await until(lambda: len(w.server.connections) == 1)
    gate.set()
    assert (await busy.answer())[0] == 200


@scenario
async def test_stopping_lets_answers_finish_and_closes_the_rest(w: World) -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return Response(200, [], b"x" * (3 * MB))

    w.handler = handler
    idle, busy = await w.connect(), await w.connect()
    await busy.send(post())
    await until(lambda: w.requests)
    stopping = asyncio.ensure_future(w.server.stop(5.0))
    assert await idle.rest() == b""
    gate.set()
    status, headers = await busy.head()
    assert (status, headers["connection"]) == (200, "close")
    assert len(await busy.rest()) == 3 * MB
    await stopping


@scenario
async def test_stopping_cuts_off_what_takes_too_long(w: World) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(600)
        return Response(200)

    w.handler = handler
    busy = await w.connect()
    await busy.send(post())
    await until(lambda: w.requests)
    await w.server.stop(0.05)
    assert await busy.rest() == b""


@pytest.mark.parametrize(
    ("response", "head"),
    [
        (Response(200, [("A", "b")], b"xy"), b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\n"),
        (Response(204), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (Response(404, [("A", "b\r\nSet-Cookie: evil")]), b"A: b Set-Cookie: evil\r\n"),
        (Response(299), b"HTTP/1.1 299 \r\nContent-Length: 0\r\n"),
        (Response(500, [("A", "ü€")]), b"A: \xfc?\r\n"),
    ],
)
def test_heads(response, head):
    assert head in encode_head(response, keep_alive=True)
    assert encode_head(response, keep_alive=False).endswith(b"\r\nConnection: close\r\n\r\n")

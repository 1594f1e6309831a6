"""What every `Web` does: aiohttp at a server of our own, and the twin in memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from lambdad.adapters.memory_web import MemoryWeb, Post
from lambdad.adapters.web import HttpWeb
from lambdad.ports.neighbours import NeighbourUnavailable
from lambdad.ports.web import Web

HEADERS = {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": "Notification"}
STATUSES = {"/ok": 200, "/no": 403, "/broken": 503, "/moved": 302}

Test = Callable[[Web, str, list[Post]], Awaitable[None]]


@pytest.fixture(params=["http", "memory"])
def run(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    """Runs a test with a web, the URL of a server in it, and the list of the posts that come there."""

    async def in_memory(test: Test) -> None:
        url = "http://server"
        memory = MemoryWeb({url + path: status for path, status in STATUSES.items()})
        await test(memory, url, memory.posts)

    async def by_http(test: Test) -> None:
        posts: list[Post] = []

        async def answer(received: web.Request) -> web.Response:
            headers = {name: received.headers[name] for name in HEADERS if name in received.headers}
            posts.append(Post(f"{url}{received.path}", headers, await received.read()))
            return web.Response(status=STATUSES[received.path], headers={"Location": "/ok"})

        application = web.Application()
        application.router.add_route("*", "/{path}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        real = HttpWeb()
        try:
            await test(real, url, posts)
        finally:
            await real.close()
            await runner.cleanup()

    return lambda test: asyncio.run(in_memory(test) if request.param == "memory" else by_http(test))


def test_a_post_arrives_as_it_is(run: Callable[[Test], None]) -> None:
    async def test(web: Web, url: str, posts: list[Post]) -> None:
        assert await web.post(f"{url}/ok", HEADERS, "ü".encode()) == 200
        assert posts == [Post(f"{url}/ok", HEADERS, "ü".encode())]

    run(test)


def test_the_status_is_told_and_no_redirect_followed(run: Callable[[Test], None]) -> None:
    async def test(web: Web, url: str, posts: list[Post]) -> None:
        for path, status in STATUSES.items():
            assert await web.post(url + path, HEADERS, b"m") == status
        assert [post.url for post in posts] == [url + path for path in STATUSES]

    run(test)


def test_who_does_not_answer_is_unavailable(run: Callable[[Test], None]) -> None:
    async def test(web: Web, url: str, posts: list[Post]) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # bound and not listening, nobody else gets it either
            with pytest.raises(NeighbourUnavailable):
                await web.post(f"http://127.0.0.1:{unused.getsockname()[1]}/", HEADERS, b"m")
        for nowhere in (
            "http://",
            "http://[",
            "https://a b/",
            "http://name.invalid/",
            f"{url.replace('http', 'https')}/ok",
        ):
            with pytest.raises(NeighbourUnavailable):
                await web.post(nowhere, HEADERS, b"m")

    run(test)


def test_nothing_is_posted_after_the_end(run: Callable[[Test], None]) -> None:
    async def test(web: Web, url: str, posts: list[Post]) -> None:
        await web.close()
        with pytest.raises(NeighbourUnavailable):
            await web.post(f"{url}/ok", HEADERS, b"m")

    run(test)


def test_who_is_silent_is_unavailable_after_a_while() -> None:
    async def test() -> None:
        async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await closing.wait()
            writer.close()

        closing = asyncio.Event()
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        web = HttpWeb(answer_timeout_s=0.05)
        try:
            with pytest.raises(NeighbourUnavailable, match=r"did not answer in 0\.05 s"):
                await web.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", HEADERS, b"m")
        finally:
            closing.set()
            await web.close()
            server.close()
            await server.wait_closed()

    asyncio.run(test())

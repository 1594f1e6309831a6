"""Bodies as they arrive, and targets as they were sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lambdad.ingress.messages import Body, BodyTooLarge, ClientGone, Request


class Sender:
    """A body, and what it asks of the connection."""

    def __init__(self) -> None:
        self.wanted = 0
        self.holds: list[bool] = []
        self.body = Body(self._want, self.holds.append)

    def _want(self) -> None:
        self.wanted += 1

    def send(self, *chunks: bytes, end: bool = True) -> Sender:
        for chunk in chunks:
            self.body.feed(chunk)
        if end:
            self.body.finish()
        return self


def run(test: Callable[[Sender], Awaitable[Any]]) -> Any:
    async def inside() -> Any:
        return await asyncio.wait_for(test(Sender()), 5)  # type: ignore[arg-type]

    return asyncio.run(inside())


@pytest.mark.parametrize("chunks", [[], [b"one"], [b"one", b"two"]])
def test_a_body_that_is_there_is_read_at_once(chunks):
    assert run(lambda s: s.send(*chunks).body.read(100)) == b"".join(chunks)


def test_a_body_that_comes_later_is_waited_for():
    async def test(s: Sender) -> None:
        reading = asyncio.ensure_future(s.body.read(100))
        for chunk in (b"a", b"b"):
            await asyncio.sleep(0)
            s.send(chunk, end=False)
        await asyncio.sleep(0)
        assert not reading.done()
        s.send()
        assert await reading == b"ab"

    run(test)


@pytest.mark.parametrize("chunks", [[b"x" * 11], [b"x" * 6, b"x" * 5]])
def test_a_body_beyond_its_limit_is_refused(chunks):
    with pytest.raises(BodyTooLarge):
        run(lambda s: s.send(*chunks).body.read(10))
    assert run(lambda s: s.send(b"x" * 10).body.read(10)) == b"x" * 10


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_asked_for():
    async def test(s: Sender) -> None:
        s.body.announced = "11"
        with pytest.raises(BodyTooLarge):
            await s.body.read(10)
        assert s.wanted == 0

    run(test)


def test_a_body_is_asked_for_once_somebody_reads_it():
    async def test(s: Sender) -> None:
        assert s.wanted == 0
        reading = asyncio.ensure_future(s.body.read(10))
        await asyncio.sleep(0)
        assert s.wanted == 1
        s.send(b"x")
        await reading
        assert s.wanted == 1

    run(test)


@pytest.mark.parametrize("reads", [lambda body: body.read(10), lambda body: body.discard(10)])
def test_a_body_that_breaks_off_raises(reads):
    async def test(s: Sender) -> None:
        reading = asyncio.ensure_future(reads(s.body))
        s.send(b"x", end=False)
        await asyncio.sleep(0)
        s.body.break_off()
        with pytest.raises(ClientGone):
            await reading

    run(test)


def test_a_body_that_was_complete_is_read_although_the_client_has_gone():
    async def test(s: Sender) -> bytes:
        s.send(b"whole")
        s.body.break_off()
        return await s.body.read(10)

    assert run(test) == b"whole"


def test_the_parts_of_a_body_come_in_order_and_hold_the_client_back_while_they_wait():
    async def test(s: Sender) -> None:
        part = b"x" * 600_000
        s.send(part, end=False)
        assert s.holds == []
        s.send(part)
        assert s.holds == [True]
        assert [chunk async for chunk in s.body.chunks()] == [part, part]
        assert s.holds[-1] is False

    run(test)


def test_what_nobody_wants_is_discarded_up_to_a_limit():
    assert run(lambda s: s.send(b"x" * 10).body.discard(10)) is True
    assert run(lambda s: s.send(b"x" * 11).body.discard(10)) is False


def test_a_reader_that_gives_up_does_not_disturb_the_next():
    async def test(s: Sender) -> None:
        first = asyncio.ensure_future(s.body.read(10))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        s.send(b"x")
        assert await s.body.read(10) == b"x"

    run(test)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/a/b", "/a/b", ""),
        ("/a?b=c?d", "/a", "b=c?d"),
        ("/", "/", ""),
        ("*", "*", ""),
        ("http://host:1/a/b?c", "/a/b", "c"),
        ("HTTPS://host/a", "/a", ""),
        ("http://host?c", "", "c"),
        ("/http://host/a", "/http://host/a", ""),
    ],
)
def test_targets(target, path, query):
    request = Request("GET", target, {}, Sender().body, True)
    assert (request.path, request.query) == (path, query)
    assert request.takes_chunks


def test_a_body_that_is_put_back_is_read_again() -> None:
    async def test() -> None:
        body = Body(lambda: None, lambda held: None)
        body.feed(b"ab")
        body.feed(b"cd")
        body.finish()
        whole = await body.read(4)
        body.put_back(whole)
        assert body.whole() == b"abcd"
        assert (await body.read(4), await body.read(4)) == (b"abcd", b"")

    asyncio.run(test())

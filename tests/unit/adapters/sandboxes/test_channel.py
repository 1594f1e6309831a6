"""The daemon's ends of sockets, on a real event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from lambdad.adapters.sandboxes import channel as channel_module
from lambdad.adapters.sandboxes.channel import Channel, Message
from lambdad_sandbox import wire

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sockets that keep messages whole are Linux's")

TIMEOUT_S = 20.0
MANY = 300
PADDING = "x" * 4000
"""As large as what a message carries most often: some of these fill the buffer."""


class Heard:
    """A channel, and what was heard on it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.descriptors: list[int] = []
        self.ends = 0
        self.news = asyncio.Event()
        self.channel = Channel(self._received, self._ended)

    def _received(self, message: Message, descriptors: list[int]) -> None:
        self.messages.append(message)
        self.descriptors += descriptors
        self.news.set()

    def _ended(self) -> None:
        self.ends += 1
        self.news.set()

    async def hear(self) -> None:
        await asyncio.wait_for(self.news.wait(), TIMEOUT_S)
        self.news.clear()


def descriptors_open() -> set[str]:
    with os.scandir("/proc/self/fd") as entries:
        return {entry.name for entry in entries if entry.is_symlink() and not _is_the_listing(entry.path)}


def _is_the_listing(path: str) -> bool:
    try:
        return os.readlink(path).startswith(f"/proc/{os.getpid()}/fd")
    except FileNotFoundError:
        return True


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    run(asyncio.sleep(0))  # the first loop of a process opens what it keeps
    before = descriptors_open()
    yield
    assert descriptors_open() == before


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


def test_what_the_other_end_says_is_received_with_its_descriptors() -> None:
    async def scenario() -> None:
        heard = Heard()
        reading, writing = os.pipe()
        wire.send(heard.channel.remote, {"pid": 7}, [writing])
        wire.send(heard.channel.remote, {"ready": True})
        while len(heard.messages) < 2:
            await heard.hear()
        assert heard.messages == [{"pid": 7}, {"ready": True}]
        os.write(heard.descriptors[0], b"same pipe")
        assert os.read(reading, 20) == b"same pipe"
        wire.close_all([reading, writing, *heard.descriptors])
        heard.channel.close()

    run(scenario())


def test_the_end_is_told_once_after_the_last_message() -> None:
    async def scenario() -> None:
        heard = Heard()
        wire.send(heard.channel.remote, {"last": True})
        heard.channel.remote.close()
        while not heard.ends:
            await heard.hear()
        assert heard.messages == [{"last": True}]
        assert not heard.channel.is_open
        heard.channel.read()
        heard.channel.close()
        assert heard.ends == 1

    run(scenario())


def test_after_close_nothing_is_called_and_sending_does_nothing() -> None:
    async def scenario() -> None:
        heard = Heard()
        remote = heard.channel.remote.dup()
        wire.send(remote, {"too": "late"})
        heard.channel.close()
        heard.channel.read()
        heard.channel.send({"lost": True}, [0])
        other = Heard()
        other.channel.remote.close()
        while not other.ends:  # the loop has gone round
            await other.hear()
        assert (heard.messages, heard.ends) == ([], 0)
        assert heard.channel.fileno() == -1
        with remote, pytest.raises(ConnectionError):
            wire.send(remote, {"is": "anybody there"})

    run(scenario())


def test_with_a_full_buffer_messages_keep_their_order_and_their_descriptors() -> None:
    async def scenario() -> None:
        heard = Heard()
        pipes = []
        for number in range(MANY):
            reading, writing = os.pipe()
            heard.channel.send({"number": number, "padding": PADDING}, [writing])
            os.close(writing)  # it is the caller's again at once
            pipes.append(reading)
        assert heard.channel._unsent, "the buffer was not full"
        for number, reading in enumerate(pipes):
            message, (fd,) = await asyncio.wait_for(asyncio.to_thread(wire.receive, heard.channel.remote), TIMEOUT_S)
            assert message is not None
            assert message["number"] == number
            os.write(fd, b"%d" % number)
            os.close(fd)
            assert os.read(reading, 10) == b"%d" % number
        while heard.channel._unsent:
            await asyncio.sleep(0)
        for reading in pipes:
            assert os.read(reading, 1) == b""  # our copy is closed
            os.close(reading)
        heard.channel.close()

    run(scenario())


def test_what_was_not_sent_is_closed_with_the_channel() -> None:
    async def scenario() -> None:
        heard = Heard()
        reading, writing = os.pipe()
        while not heard.channel._unsent:
            heard.channel.send({"padding": PADDING}, [writing])
        heard.channel.send({"padding": PADDING}, [writing])
        os.close(writing)
        heard.channel.close()
        assert os.read(reading, 1) == b""
        os.close(reading)

    run(scenario())


def test_when_the_other_end_goes_with_messages_unsent_their_descriptors_are_closed() -> None:
    async def scenario() -> None:
        heard = Heard()
        reading, writing = os.pipe()
        while not heard.channel._unsent:
            heard.channel.send({"padding": PADDING}, [writing])
        os.close(writing)
        heard.channel.remote.close()
        while not heard.ends:
            await heard.hear()
        assert os.read(reading, 1) == b""
        os.close(reading)
        assert heard.ends == 1

    run(scenario())


def test_a_message_that_nobody_could_receive_is_refused() -> None:
    async def scenario() -> None:
        heard = Heard()
        with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)):
            heard.channel.send({"padding": "x" * wire.MESSAGE_BYTES})
        heard.channel.send({"fits": True})
        assert wire.receive(heard.channel.remote) == ({"fits": True}, [])
        heard.channel.close()

    run(scenario())


def test_with_too_many_descriptors_on_their_way_it_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel limits them for an ordinary user: ETOOMANYREFS."""

    async def scenario() -> None:
        heard = Heard()
        refusals = [errno.ETOOMANYREFS, errno.ENOBUFS]
        send_bytes = wire.send_bytes

        def send(*arguments: Any) -> None:
            if refusals:
                raise OSError(refusals.pop(), "no room")
            send_bytes(*arguments)

        monkeypatch.setattr(channel_module.wire, "send_bytes", send)
        reading, writing = os.pipe()
        heard.channel.send({"number": 1}, [writing])
        heard.channel.send({"number": 2})
        os.close(writing)
        first = await asyncio.wait_for(asyncio.to_thread(wire.receive, heard.channel.remote), TIMEOUT_S)
        second = await asyncio.wait_for(asyncio.to_thread(wire.receive, heard.channel.remote), TIMEOUT_S)
        assert (first[0], second[0]) == ({"number": 1}, {"number": 2})
        wire.close_all([reading, *first[1]])
        heard.channel.close()

    run(scenario())


def test_what_a_receiver_raises_does_not_end_the_channel() -> None:
    async def scenario() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        received: list[Message] = []

        def receive(message: Message, _: list[int]) -> None:
            received.append(message)
            if message["number"] == 1:
                raise KeyError("pid")

        channel = Channel(receive, lambda: None)
        wire.send(channel.remote, {"number": 1})
        wire.send(channel.remote, {"number": 2})
        async with asyncio.timeout(TIMEOUT_S):
            while len(received) < 2:
                await asyncio.sleep(0)
        assert len(complaints) == 1
        with contextlib.closing(channel):
            assert channel.is_open

    run(scenario())

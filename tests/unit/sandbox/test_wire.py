"""Messages and the descriptors that come with them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from lambdad_sandbox import wire

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sockets that keep messages whole are Linux's")

MOST_DESCRIPTORS = 16


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        yield here, there


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_messages_arrive_whole_and_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    messages = [{"do": "root", "plan": {"a": [1, None, "ü\n"]}}, {}, {"ready": True}]
    for message in messages:
        wire.send(here, message)
    assert [wire.receive(there) for _ in messages] == [(message, []) for message in messages]


def test_the_largest_message_arrives_whole(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * wire.MESSAGE_BYTES)
    data = os.urandom(wire.MESSAGE_BYTES)
    wire.send_bytes(here, data)
    assert wire.receive_bytes(there) == (data, [])


@pytest.mark.parametrize("count", [1, 3, MOST_DESCRIPTORS])
def test_descriptors_come_as_others_for_the_same_files_which_no_program_inherits(
    pair: tuple[socket.socket, socket.socket], count: int
) -> None:
    here, there = pair
    pipes = [os.pipe() for _ in range(count)]
    wire.send(here, {"count": count}, [writing for _, writing in pipes])
    wire.close_all(writing for _, writing in pipes)
    message, received = wire.receive(there)
    assert message == {"count": count}
    assert len(received) == count
    assert not any(os.get_inheritable(fd) for fd in received)
    for number, (fd, (reading, _)) in enumerate(zip(received, pipes, strict=True)):
        os.write(fd, b"%d" % number)
        os.close(fd)
        assert os.read(reading, 10) == b"%d" % number
        assert os.read(reading, 10) == b""  # nobody has another copy
        os.close(reading)


def test_the_end_is_no_message(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    wire.send(here, {"last": True})
    here.close()
    assert wire.receive(there) == ({"last": True}, [])
    assert wire.receive(there) == (None, [])
    assert wire.receive_bytes(there) == (b"", [])


def test_an_end_with_messages_unread_is_an_end(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    wire.send(there, {"unread": True})
    here.close()  # the kernel says ECONNRESET
    assert wire.receive(there) == (None, [])


def test_who_sends_to_nobody_is_told_by_an_error_and_not_by_a_signal(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    there.close()
    with pytest.raises(BrokenPipeError):
        wire.send(here, {"lost": True})


def test_a_descriptor_with_an_empty_message_is_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    reading, writing = os.pipe()
    wire.send_bytes(here, b"", [writing])
    os.close(writing)
    assert wire.receive_bytes(there) == (b"", [])
    assert os.read(reading, 1) == b""  # the copy that was sent is closed, too
    os.close(reading)


def test_close_all() -> None:
    fds = list(os.pipe())
    wire.close_all(fds)
    assert not any(is_open(fd) for fd in fds)

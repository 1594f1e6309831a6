"""The benchmarks' HTTP client, against a server that answers as each test has it."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lambdad.bench.client import Caller, NotUnderstood, burst, invoke_path, load, path_of, post

Answer = Callable[[int], list[bytes]]
"""Takes the number of the request; returns the pieces of the answer, which go out one by one."""


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    numbers = iter(range(1_000_000))

    class Connection(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            while self.rfile.readline():
                length = 0
                while line := self.rfile.readline().strip():
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                self.rfile.read(length)
                pieces = answer(next(numbers))
                if not pieces:
                    return
                for piece in pieces:
                    self.wfile.write(piece)

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = 200
        daemon_threads = True

    with Server(("127.0.0.1", 0), Connection) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()


REQUEST = post("/x", b"{}")


def test_a_request_is_made_whole() -> None:
    assert REQUEST.startswith(b"POST /x HTTP/1.1\r\nHost: ")
    assert REQUEST.endswith(b"\r\nContent-Length: 2\r\n\r\n{}")
    assert path_of(f"http://127.0.0.1:1{invoke_path('f')}") == "/2015-03-31/functions/f/invocations"


def test_answers_that_come_in_pieces() -> None:
    large = b"x" * 3_000_000
    whole = ok(large)
    answers = [[ok(b"one")], [ok(b"two")[:20], ok(b"two")[20:]], [whole[:50], whole[50:70_000], whole[70_000:]]]
    with server(lambda number: answers[number]) as url, Caller(url) as caller:
        assert [caller.call(REQUEST) for _ in answers] == [(200, b"one"), (200, b"two"), (200, large)]


def test_an_answer_that_is_not_understood() -> None:
    with server(lambda _: [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]) as url:
        with Caller(url) as caller, pytest.raises(NotUnderstood, match="without a Content-Length"):
            caller.call(REQUEST)
        with pytest.raises(NotUnderstood, match="without a Content-Length"):
            load(url, REQUEST, 1, 0.1)


def test_a_server_that_hangs_up() -> None:
    with server(lambda _: []) as url:
        with Caller(url) as caller, pytest.raises(NotUnderstood, match="closed the connection"):
            caller.call(REQUEST)
        with pytest.raises(NotUnderstood, match="closed the connection"):
            load(url, REQUEST, 2, 0.1)
        assert burst(url, REQUEST, 3).failures == ["the server has closed the connection"] * 3


def test_a_load_asks_again_and_again() -> None:
    asked: list[int] = []

    def answer(number: int) -> list[bytes]:
        asked.append(number)
        return [ok(b"{}")]

    with server(answer) as url:
        found = load(url, REQUEST, 4, 0.3)
    assert len(asked) > 8
    assert found.requests_per_s == pytest.approx(len(asked) / 0.3, rel=0.5)
    assert 0 < found.p50_s < 0.3


def test_a_load_stops_at_the_first_error() -> None:
    refusal = b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\n\r\nwait"
    with (
        server(lambda number: [refusal if number == 5 else ok(b"{}")]) as url,
        pytest.raises(NotUnderstood, match="HTTP 429: b'wait'"),
    ):
        load(url, REQUEST, 2, 30.0)


def test_a_burst_is_all_at_once() -> None:
    together = threading.Barrier(20)

    def answer(_: int) -> list[bytes]:
        together.wait(20)
        return [ok(b"1")]

    began = time.perf_counter()
    with server(answer) as url:
        found = burst(url, REQUEST, 20)
    assert found.failures == []
    assert 0 < found.total_s < time.perf_counter() - began


def test_a_burst_counts_what_failed() -> None:
    wrong = b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno"
    answers = [[wrong], [ok(b"2")]]
    with server(lambda number: answers[number] if number < 2 else [ok(b"1")]) as url:
        failures = burst(url, REQUEST, 10).failures
    assert sorted(failures) == ["HTTP 200: b'2'", "HTTP 500: b'no'"]

"""HTTP as it should not be: every socket gets an answer or is closed, and nobody else notices."""

from __future__ import annotations

import asyncio
import http.client
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from daemons import Daemon, create_python, have_python
from faults.calm import assert_calm, overlook
from faults.processes import eventually, resident_bytes
from faults.wire import Connection, get

ECHO = "def handler(event, context):\n    return event\n"
SLEEPER = "import time\n\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"
INVOKE = "/2015-03-31/functions/{}/invocations"


@pytest.fixture(autouse=True)
def calm(shared_daemon: Daemon) -> Iterator[None]:
    """After every test here the daemon is well and has reported nothing."""
    overlook(shared_daemon)
    yield
    assert get(shared_daemon, "/_lambdad/health").status == 200
    assert_calm(shared_daemon)


@pytest.fixture(scope="module")
def echo(shared_daemon: Daemon) -> str:
    """The path at which a warm function echoes."""
    client = shared_daemon.client("lambda")
    have_python(client, "http-faults-echo", ECHO)
    client.invoke(FunctionName="http-faults-echo")
    return INVOKE.format("http-faults-echo")


@pytest.fixture
def connect(shared_daemon: Daemon) -> Iterator[Callable[[], Connection]]:
    opened: list[Connection] = []

    def open_one() -> Connection:
        opened.append(Connection(shared_daemon))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def post(path: str, body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", *headers]
    if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


GARBAGE = {
    "random bytes": bytes(range(256)) * 4,
    "TLS client hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "version 3.7": b"GET / HTTP/3.7\r\nHost: x\r\n\r\n",
    "unknown method": b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in the target": b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
    "space in a header name": b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n",
    "header without a colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "length that is no number": b"POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length beyond 64 bits": b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "newlines only": b"\r\n" * 64 + b"\0",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused_and_the_connection_closed(name, connect):
    connection = connect()
    connection.send(GARBAGE[name])
    answer = connection.answer()
    assert 400 <= answer.status < 500
    assert b"Traceback" not in answer.body
    assert connection.everything() == b""


BAD_CHUNKS = {
    "no number": b"zz\r\nab\r\n0\r\n\r\n",
    "negative": b"-1\r\nab\r\n0\r\n\r\n",
    "more bytes than said": b"2\r\nabc\r\n0\r\n\r\n",
    "size beyond 64 bits": b"f" * 20 + b"\r\nab\r\n0\r\n\r\n",
    "NUL": b"\0\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_broken_chunks_end_the_connection(name, connect, echo):
    connection = connect()
    connection.send(post(echo, BAD_CHUNKS[name], "Transfer-Encoding: chunked"))
    received = connection.everything()
    assert received == b"" or received.startswith(b"HTTP/1.1 4")


def test_good_chunks_are_a_body(connect, echo):
    chunks = b'3;name=value\r\n{"a\r\n5\r\n": 1}\r\n0\r\nTrailer: x\r\n\r\n'
    assert connect().send(post(echo, chunks, "Transfer-Encoding: chunked")).answer().body == b'{"a": 1}'


@pytest.mark.parametrize("pieces", [1, 50], ids=["at once", "in pieces"])
def test_a_head_larger_than_64_kb_is_refused(pieces, connect):
    connection = connect()
    line = b"X-Filler: " + b"x" * 8000 + b"\r\n"
    connection.send(b"GET / HTTP/1.1\r\n")
    try:
        for _ in range(pieces):
            connection.send(line * (50 // pieces))
    except ConnectionError:
        pass  # it may have hung up before everything was sent
    received = connection.everything()
    assert received == b"" or received.startswith(b"HTTP/1.1 431 ")  # a reset may overtake the answer


def test_an_endless_head_is_answered_with_431(connect):
    connection = connect()
    connection.send(b"GET / HTTP/1.1\r\nX-Filler: " + b"x" * 70_000)
    answer = connection.answer()
    assert answer.status == 431
    assert answer.headers["connection"] == "close"


def test_sixty_kb_of_headers_are_taken(connect):
    connection = connect()
    headers = b"".join(b"X-Filler-%d: %b\r\n" % (number, b"x" * 6000) for number in range(10))
    assert connection.send(b"GET /_lambdad/health HTTP/1.1\r\n" + headers + b"\r\n").answer().status == 200


def test_a_long_target_is_answered(connect):
    connection = connect()
    path = INVOKE.format("f" * 40_000)
    answer = connection.send(post(path, b"{}")).answer()
    assert answer.status == 400
    assert answer.headers["x-amzn-errortype"] == "ValidationException"


def test_a_body_shorter_than_its_length_then_the_end(connect, echo):
    connection = connect()
    connection.send(post(echo, b'{"a"', "Content-Length: 100"))
    connection.half_close()
    assert connection.everything() == b""


def test_a_body_longer_than_its_length_is_another_request(connect, echo):
    connection = connect()
    connection.send(post(echo, b'{}{"smuggled": 1}', "Content-Length: 2"))
    assert connection.answer().body == b"{}"
    assert connection.answer().status == 400
    assert connection.everything() == b""


@pytest.mark.parametrize("cut", [1, 10, 30, 80, 130])
def test_half_a_request_then_a_reset(cut, connect, echo):
    whole = post(echo, b'{"key": "value"}', "X-Filler: " + "x" * 40)
    connect().send(whole[:cut]).reset()


def test_a_client_that_leaves_while_its_function_runs(shared_daemon, connect, echo, unique):
    name = unique()
    client = shared_daemon.client("lambda")
    create_python(client, name, SLEEPER, Timeout=5)
    connect().send(post(INVOKE.format(name), b"0.3")).reset()
    assert client.invoke(FunctionName=name, Payload=b"0")["Payload"].read() == b"0"


def test_pipelined_requests_are_answered_in_order(connect, echo):
    connection = connect()
    connection.send(b"".join(post(echo, b"%d" % number) for number in range(200)))
    assert [connection.answer().body for _ in range(200)] == [b"%d" % number for number in range(200)]


def test_a_slow_request_does_not_let_later_ones_pass(shared_daemon, connect, echo, unique):
    name = unique()
    create_python(shared_daemon.client("lambda"), name, SLEEPER)
    connection = connect()
    connection.send(post(INVOKE.format(name), b"0.2") + post(echo, b'"quick"'))
    assert [connection.answer().body, connection.answer().body] == [b"0.2", b'"quick"']


def test_garbage_after_a_request_does_not_take_its_answer_away(connect, echo):
    connection = connect()
    connection.send(post(echo, b'"first"') + b"\0garbage\r\n\r\n")
    assert connection.answer().body == b'"first"'
    assert connection.answer().status == 400
    assert connection.everything() == b""


def test_expect_100_continue(connect, echo):
    connection = connect()
    connection.send(post(echo, b"", "Expect: 100-continue", "Content-Length: 2"))
    assert connection.answer().status == 100
    assert connection.send(b"17").answer().body == b"17"
    assert connection.is_open()


def test_expect_100_continue_of_a_body_that_is_too_large(connect, echo):
    """No answer but the final one can be right when it is certain that the body will be refused (RFC 9110, 10.1.1)."""
    connection = connect()
    connection.send(post(echo, b"", "Expect: 100-continue", f"Content-Length: {7 * 1024 * 1024}"))
    answer = connection.answer()
    assert answer.status == 413
    assert answer.headers["x-amzn-errortype"] == "RequestEntityTooLargeException"
    assert connection.everything() == b""


def test_a_body_that_is_too_large_is_answered_and_the_connection_lives(connect, echo):
    connection = connect()
    connection.send(post(echo, b'"' + b"x" * (6 * 1024 * 1024) + b'"'))
    answer = connection.answer()
    assert answer.status == 413
    assert answer.json["message"].startswith("Request must be smaller than 6291456 bytes")
    assert connection.is_open()


def test_head_has_the_headers_of_get_and_no_body(connect):
    connection = connect()
    connection.send(b"HEAD /_lambdad/health HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = connection.answer(has_body=False)
    assert answer.status == 200
    assert int(answer.headers["content-length"]) > 0
    assert connection.is_open()


def test_http_1_0_is_answered_and_closed(connect, echo):
    connection = connect()
    answer = connection.send(post(echo, b"1", version="1.0")).answer()
    assert answer.body == b"1"
    assert connection.everything() == b""


def test_http_1_0_is_never_sent_chunks(connect, echo):
    """RFC 9112, 6.1: a client of HTTP/1.0 does not know the chunked coding."""
    stream = echo.replace("2015-03-31", "2021-11-15").replace("invocations", "response-streaming-invocations")
    connection = connect()
    answer = connection.send(post(stream, b"1", version="1.0")).answer()
    assert answer.status == 200
    assert "transfer-encoding" not in answer.headers
    assert b"InvokeComplete" in answer.body


def test_connection_close_is_obeyed(connect, echo):
    connection = connect()
    answer = connection.send(post(echo, b"1", "Connection: close")).answer()
    assert (answer.body, answer.headers["connection"]) == (b"1", "close")
    assert connection.everything() == b""


@pytest.mark.parametrize("has_body", [False, True], ids=["without a body", "with a body"])
def test_an_offer_of_h2c_is_passed_over(has_body, connect, echo):
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    connection = connect()
    if has_body:
        connection.send(post(echo, b'"body"', *offer))
        assert connection.answer().body == b'"body"'
    else:
        connection.send("\r\n".join(["GET /_lambdad/health HTTP/1.1", "Host: x", *offer, "", ""]).encode())
        assert connection.answer().status == 200
    assert connection.is_open()


def test_connect_is_refused(connect):
    connection = connect()
    connection.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert 400 <= connection.answer().status < 600


def test_a_percent_encoded_path_names_the_same_function(shared_daemon, connect, echo):
    arn = shared_daemon.client("lambda").get_function(FunctionName="http-faults-echo")["Configuration"]["FunctionArn"]
    for name in (arn.replace(":", "%3A"), arn.replace(":", "%3a"), "http%2Dfaults%2Decho"):
        assert connect().send(post(INVOKE.format(name), b"[1]")).answer().body == b"[1]"


@pytest.mark.parametrize("name", ["%00", "a%00b", "%ff%fe", "%2e%2e%2f", "..%2f..%2fetc", "%zz", "%", "a%0d%0ab"])
def test_a_name_that_cannot_be_is_refused(name, connect):
    answer = connect().send(post(INVOKE.format(name), b"{}")).answer()
    assert answer.status == 400
    assert answer.headers["x-amzn-errortype"] == "ValidationException"


@pytest.mark.parametrize(
    "path", ["/", "//", "/..", "/%2e%2e/etc/passwd", "/2015-03-31/functions/../../x", "*", "/\xff"]
)
def test_a_path_that_means_nothing_is_answered(path, connect):
    answer = connect().send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1")).answer()
    assert 400 <= answer.status < 500


def test_a_target_in_absolute_form_is_taken(connect, echo):
    """RFC 9112, 3.2.2: a server must accept the form that clients send to proxies."""
    assert connect().send(post("http://anywhere.example" + echo, b"1")).answer().body == b"1"


def test_sockets_that_say_nothing_and_slow_senders_cost_others_nothing(shared_daemon, echo):
    url = urlsplit(shared_daemon.url)
    address = (url.hostname, url.port)
    half = post(echo, b"x" * 100, "Content-Length: 5000")
    sockets: list[socket.socket] = []
    try:
        for _ in range(1000):
            sockets.append(socket.create_connection(address, timeout=10))
        for number in range(50):
            sockets.append(socket.create_connection(address, timeout=10))
            sockets[-1].sendall(half[: 20 + number * 3])
        times = _invoke_times(shared_daemon, echo, 100)
        assert statistics.median(times) < 0.05
        assert max(times) < 1.0
    finally:
        for opened in sockets:
            opened.close()


def test_senders_of_one_byte_at_a_time_cost_others_nothing(shared_daemon, echo):
    asked = post(echo, b'"slow"')
    stop = threading.Event()
    answers: list[bytes] = []

    def send_slowly() -> None:
        with Connection(shared_daemon) as connection:
            for position in range(len(asked)):
                connection.send(asked[position : position + 1])
                stop.wait(0.002)
            answers.append(connection.answer().body)

    senders = [threading.Thread(target=send_slowly) for _ in range(20)]
    for sender in senders:
        sender.start()
    times = _invoke_times(shared_daemon, echo, 50)
    stop.set()
    for sender in senders:
        sender.join(20)
    assert answers == [b'"slow"'] * 20
    assert statistics.median(times) < 0.1


def test_a_client_that_reads_nothing_does_not_fill_the_daemons_memory(shared_daemon, unique):
    """Answers of 6 MB to a client that takes none of them wait for it, one at a time."""
    assert shared_daemon.process is not None
    name = unique()
    create_python(
        shared_daemon.client("lambda"), name, "def handler(event, context):\n    return 'x' * 6_000_000\n", Timeout=30
    )
    before = resident_bytes(shared_daemon.process.pid)
    with Connection(shared_daemon) as connection:
        connection.send(post(INVOKE.format(name), b"{}") * 30)
        assert connection.line() == b"HTTP/1.1 200 OK\r\n"
        pid = shared_daemon.process.pid
        assert not eventually(lambda: resident_bytes(pid) - before > 80 * 1024 * 1024, 2.0)


def test_many_clients_at_once_each_get_their_own_answer(shared_daemon, unique):
    name = unique()
    client = shared_daemon.client("lambda")
    create_python(client, name, ECHO)
    url = urlsplit(shared_daemon.url)

    async def one(number: int) -> bytes:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(post(INVOKE.format(name), b"%d" % number, "Connection: close"))
        received = await reader.read()
        writer.close()
        return received.rpartition(b"\r\n\r\n")[2]

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(one(number) for number in range(200)))

    assert asyncio.run(all_of_them()) == [b"%d" % number for number in range(200)]


def _invoke_times(daemon: Daemon, path: str, count: int) -> list[float]:
    connection = http.client.HTTPConnection(urlsplit(daemon.url).netloc, timeout=20)
    times = []
    for _ in range(count):
        began = time.monotonic()
        connection.request("POST", path, b"{}")
        assert connection.getresponse().read()
        times.append(time.monotonic() - began)
    connection.close()
    return times

"""Requests to other services through the gateway: who sees them, what comes back, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from lambdad.adapters.memory_backends import MemoryBackends
from lambdad.domain.errors import AccessDeniedException, InvalidParameterValueException
from lambdad.ingress import neighbour_exchanges
from lambdad.ingress.gateway import Gateway
from lambdad.ingress.http import HttpServer
from lambdad.ingress.messages import Body, ClientGone, Request, Response
from lambdad.ingress.neighbour_exchanges import Exchanges
from lambdad.ports.backends import Attention, NeighbourAnswer, NeighbourRequest
from lambdad.ports.neighbours import NeighbourUnavailable
from lambdad.ports.store import StoreUnavailable

SERVICES = ("kms", "s3", "sns", "sqs")
SCOPE = "AWS4-HMAC-SHA256 Credential=%s/20260101/eu-west-1/%s/aws4_request, SignedHeaders=host, Signature=0"
ACCOUNT_ID = "111122223333"


class Watcher:
    """An observer that notes what it sees, and does what a test says."""

    def __init__(self, attention: Attention = Attention.HEAD) -> None:
        self.of_each = attention
        self.before_seen: list[NeighbourRequest] = []
        self.after_seen: list[tuple[NeighbourRequest, NeighbourAnswer]] = []
        self.early: NeighbourAnswer | None = None
        self.refusal: Exception | None = None
        self.failure: Exception | None = None

    def attention(self, request: NeighbourRequest) -> Attention:
        return self.of_each

    async def before(self, request: NeighbourRequest) -> NeighbourAnswer | None:
        self.before_seen.append(request)
        if self.refusal is not None:
            raise self.refusal
        return self.early

    async def after(self, request: NeighbourRequest, answer: NeighbourAnswer) -> None:
        self.after_seen.append((request, answer))
        if self.failure is not None:
            raise self.failure


def gateway(backends: Any, observers: Sequence[Watcher] = (), handlers: Any = None) -> Gateway:
    nobody = cast(Any, None)
    own = {"events": {}, "lambda": {}} if handlers is None else handlers
    return Gateway(own, nobody, nobody, Exchanges(backends, observers), "0" * 12, "us-east-1")


def request(method: str, target: str, body: bytes | None = b"", *, signed_for: str = "", **headers: str) -> Request:
    """A request with its whole body; None is one that is still on its way."""
    arriving = Body(lambda: None, lambda held: None)
    if body is not None:
        if body:
            arriving.feed(body)
        arriving.finish()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if signed_for:
        named["authorization"] = SCOPE % (ACCOUNT_ID, signed_for)
    return Request(method, target, named, arriving, keep_alive=True)


def answer_of(gateway: Gateway, sent: Request) -> Response:
    return asyncio.run(gateway(sent))


def header(response: Response, name: str) -> str | None:
    return next((value for each, value in response.headers if each == name), None)


def code_of(response: Response) -> str | None:
    assert isinstance(response.body, bytes)
    return ElementTree.fromstring(response.body).findtext(".//Code")


async def body_of(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([part async for part in response.body])


async def parts(*chunks: bytes) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


def test_a_request_goes_on_with_what_is_known_of_it() -> None:
    backends = MemoryBackends(
        SERVICES, lambda _: NeighbourAnswer(200, [("ETag", '"1"'), ("Content-Length", "2")], b"ok")
    )
    sent = request("PUT", "/photos/a%20b?x=1", b"data", signed_for="s3", host="127.0.0.1", content_type="image/png")
    response = answer_of(gateway(backends), sent)
    assert (response.status, response.headers, response.body) == (200, [("ETag", '"1"')], b"ok")
    (came,) = backends.requests
    assert (came.service, came.operation, came.account_id, came.region) == ("s3", "PutObject", ACCOUNT_ID, "eu-west-1")
    assert (came.method, came.path, came.query, came.body) == ("PUT", "/photos/a%20b", "x=1", b"data")
    assert came.headers == sent.headers
    assert len(came.request_id) == 36


@pytest.mark.parametrize(
    ("host", "target", "path"),
    [
        ("127.0.0.1:4566", "/photos/a%2Bb//c+d", "/photos/a%2Bb//c+d"),
        ("127.0.0.1:4566", "/photos", "/photos"),
        ("photos.s3.localhost:4566", "/a%2Bb//c+d", "/photos/a%2Bb//c%2Bd"),
        ("photos.s3.localhost:4566", "/photos/x", "/photos/photos/x"),
        ("photos.s3.localhost:4566", "/", "/photos"),
        ("s3.localhost:4566", "/", "/"),
    ],
)
def test_s3_goes_on_in_the_path_style(host: str, target: str, path: str) -> None:
    backends = MemoryBackends(SERVICES)
    answer_of(gateway(backends), request("GET", f"{target}?list-type=2", signed_for="s3", host=host))
    assert [(came.path, came.query) for came in backends.requests] == [(path, "list-type=2")]


def test_a_form_is_read_and_goes_on() -> None:
    backends, form = MemoryBackends(SERVICES), b"Action=Publish&Version=2010-03-31&Message=a"
    content_type = "application/x-www-form-urlencoded"
    answer_of(gateway(backends), request("POST", "/", form, content_type=content_type, host="sns.eu-west-1.localhost"))
    (came,) = backends.requests
    assert (came.service, came.operation, came.region, came.body) == ("sns", "Publish", "eu-west-1", form)
    assert came.account_id == "0" * 12


def test_a_body_that_is_still_on_its_way_is_not_waited_for() -> None:
    async def scenario() -> None:
        sent = request("PUT", "/photos/a", None, signed_for="s3")
        begun = asyncio.Event()

        class Slow(MemoryBackends):
            async def forward(self, request: NeighbourRequest) -> NeighbourAnswer:
                begun.set()
                return await super().forward(request)

        backends = Slow(SERVICES)
        answering = asyncio.create_task(gateway(backends, [Watcher(Attention.HEAD)])(sent))
        await begun.wait()
        sent.body.feed(b"da")
        sent.body.feed(b"ta")
        sent.body.finish()
        assert (await answering).status == 200
        assert backends.requests[0].body == b"data"

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_length_that_the_body_does_not_tell_goes_on(method: str) -> None:
    async def scenario() -> None:
        body: Any = parts(b"abc", b"def") if method == "GET" else b""
        backends = MemoryBackends(SERVICES, lambda _: NeighbourAnswer(200, [("content-length", "6")], body))
        response = await gateway(backends)(request(method, "/photos/a", signed_for="s3"))
        assert header(response, "Content-Length") == "6"
        assert await body_of(response) == (b"abcdef" if method == "GET" else b"")

    asyncio.run(scenario())


def test_who_wants_it_all_gets_bytes() -> None:
    async def scenario() -> None:
        backends = MemoryBackends(SERVICES, lambda _: NeighbourAnswer(200, [], parts(b"ok", b"!")))
        watcher, other = Watcher(Attention.WHOLE), Watcher(Attention.NONE)
        sent = request("PUT", "/photos?notification", None, signed_for="s3")
        sent.body.feed(b"<a")
        sent.body.feed(b"/>")
        sent.body.finish()
        response = await gateway(backends, [other, watcher])(sent)
        assert watcher.before_seen[0].body == b"<a/>"
        ((seen, answer),) = watcher.after_seen
        assert (seen.operation, answer.body, response.body) == (
            "PutBucketNotificationConfiguration",
            b"ok!",
            b"ok!",
        )
        assert other.before_seen == []
        assert other.after_seen == []

    asyncio.run(scenario())


def test_nobody_hears_of_what_has_failed() -> None:
    watcher = Watcher()
    backends = MemoryBackends(SERVICES, lambda _: NeighbourAnswer(404, [], b"no"))
    response = answer_of(gateway(backends, [watcher]), request("PUT", "/photos/a", signed_for="s3"))
    assert (response.status, response.body) == (404, b"no")
    assert len(watcher.before_seen) == 1
    assert watcher.after_seen == []


def test_an_observer_may_answer_itself() -> None:
    first, second = Watcher(), Watcher()
    first.early = NeighbourAnswer(202, [("X", "y")], b"mine")
    backends = MemoryBackends(SERVICES)
    response = answer_of(gateway(backends, [first, second]), request("PUT", "/photos/a", signed_for="s3"))
    assert (response.status, response.headers, response.body) == (202, [("X", "y")], b"mine")
    assert (backends.requests, second.before_seen, first.after_seen) == ([], [], [])


def test_an_observer_may_refuse() -> None:
    watcher = Watcher()
    watcher.refusal = InvalidParameterValueException("Not <this>")
    backends = MemoryBackends(SERVICES)
    response = answer_of(gateway(backends, [watcher]), request("PUT", "/photos?notification", signed_for="s3"))
    assert (response.status, code_of(response)) == (400, "InvalidParameterValueException")
    assert b"<Message>Not &lt;this&gt;</Message>" in cast(bytes, response.body)
    assert backends.requests == []


@pytest.mark.parametrize("failure", [StoreUnavailable("disk full"), AccessDeniedException("no")])
def test_what_cannot_be_kept_is_to_be_tried_again(failure: Exception) -> None:
    watcher = Watcher()
    watcher.failure = failure
    closed = []

    async def streaming() -> AsyncGenerator[bytes, None]:
        try:
            yield b"a"
        finally:
            closed.append(True)

    async def scenario() -> Response:
        body = streaming()
        await anext(body)
        backends = MemoryBackends(SERVICES, lambda _: NeighbourAnswer(200, [], body))
        return await gateway(backends, [watcher])(request("PUT", "/photos/a", signed_for="s3"))

    response = asyncio.run(scenario())
    assert (response.status, code_of(response), header(response, "Retry-After")) == (503, "ServiceUnavailable", "1")
    assert closed == [True]


@pytest.mark.parametrize(
    ("signed_for", "headers", "expected"),
    [
        ("s3", {}, b"<Error><Code>ServiceUnavailable</Code>"),
        ("sns", {"content_type": "application/x-www-form-urlencoded"}, b"<ErrorResponse><Error><Type>Receiver</Type>"),
        ("kms", {"x_amz_target": "TrentService.ListKeys"}, b'{"__type": "ServiceUnavailable"'),
        ("sqs", {"content_type": "application/x-www-form-urlencoded"}, b"<ErrorResponse>"),
    ],
)
def test_a_service_that_is_not_there_now(signed_for: str, headers: dict[str, str], expected: bytes) -> None:
    backends = MemoryBackends(SERVICES)
    backends.failure = NeighbourUnavailable("it has died")
    response = answer_of(gateway(backends), request("POST", "/photos", b"", signed_for=signed_for, **headers))
    assert (response.status, header(response, "Retry-After")) == (503, "1")
    assert expected in cast(bytes, response.body)
    assert b"try again" in cast(bytes, response.body)


def test_a_request_that_is_too_long_to_be_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_exchanges, "OBSERVED_BODY_BYTES", 3)

    async def scenario() -> Response:
        sent = request("PUT", "/photos?notification", None, signed_for="s3")
        sent.body.feed(b"1234")
        return await gateway(MemoryBackends(SERVICES), [Watcher(Attention.WHOLE)])(sent)

    response = asyncio.run(scenario())
    assert (response.status, code_of(response)) == (413, "RequestEntityTooLargeException")


def test_services_that_are_not_here() -> None:
    without = gateway(MemoryBackends())
    response = answer_of(without, request("GET", "/photos", signed_for="s3"))
    assert (response.status, code_of(response)) == (501, "NotImplementedException")
    assert b"pip install" in cast(bytes, response.body)
    assert b"--neighbour s3=URL" in cast(bytes, response.body)
    response = answer_of(without, request("POST", "/", signed_for="monitoring"))
    assert response.status == 501
    assert b"The service cloudwatch is not available in lambdad yet." in cast(bytes, response.body)
    response = answer_of(without, request("GET", "/"))
    assert response.status == 404
    assert b"UnknownOperationException" in cast(bytes, response.body)


def test_a_service_of_lambdads_own_may_be_elsewhere() -> None:
    sent = {"x_amz_target": "AWSEvents.PutEvents"}
    at_home = answer_of(gateway(MemoryBackends()), request("POST", "/", b"{}", signed_for="events", **sent))
    assert at_home.status == 501
    elsewhere = MemoryBackends(external=("events", "lambda"))
    assert answer_of(gateway(elsewhere), request("POST", "/", b"{}", signed_for="events", **sent)).status == 200
    assert answer_of(gateway(elsewhere), request("GET", "/2018-10-31/layers", signed_for="lambda")).status == 501
    assert [came.service for came in elsewhere.requests] == ["events"]


# Clients that go away


class Waiting(MemoryBackends):
    """Answers when it is let; `ended` tells how an exchange went."""

    def __init__(self) -> None:
        super().__init__(SERVICES)
        self.begun, self.let, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.was_cancelled = False

    async def forward(self, request: NeighbourRequest) -> NeighbourAnswer:
        self.begun.set()
        try:
            await self.let.wait()
            return NeighbourAnswer(200, [], b"done")
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        finally:
            self.ended.set()


@asynccontextmanager
async def with_client(
    backends: Waiting, watcher: Watcher, head: bytes
) -> AsyncIterator[tuple[HttpServer, asyncio.StreamWriter]]:
    """A client whose request has begun."""
    server = HttpServer(gateway(backends, [watcher]))
    host, port = await server.listen("127.0.0.1", 0)
    _, writer = await asyncio.open_connection(host, port)
    writer.write(head)
    await backends.begun.wait()
    try:
        yield server, writer
    finally:
        writer.close()
        await server.stop(1.0)
        await writer.wait_closed()


def test_a_poll_ends_with_its_client() -> None:
    async def scenario() -> None:
        backends = Waiting()
        poll = b"POST / HTTP/1.1\r\nX-Amz-Target: AmazonSQS.ReceiveMessage\r\nContent-Length: 2\r\n\r\n{}"
        async with with_client(backends, Watcher(Attention.NONE), poll) as (_, writer), asyncio.timeout(10):
            writer.close()
            await backends.ended.wait()
        assert backends.was_cancelled

    asyncio.run(scenario())


def test_what_is_observed_goes_on_without_its_client() -> None:
    """The service may have done it by then: the event is as true as the object."""

    async def scenario() -> None:
        backends, watcher = Waiting(), Watcher(Attention.HEAD)
        head = b"PUT /photos/a HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
        async with with_client(backends, watcher, head) as (server, writer), asyncio.timeout(10):
            writer.close()
            while server.connections:
                await asyncio.sleep(0)
            backends.let.set()
            while not watcher.after_seen:
                await asyncio.sleep(0)
        assert not backends.was_cancelled

    asyncio.run(scenario())


def test_an_upload_that_breaks_off_is_no_request() -> None:
    async def scenario() -> None:
        sent = request("PUT", "/photos/a", None, signed_for="s3")
        sent.body.feed(b"half")
        sent.body.break_off()
        watcher = Watcher()
        with pytest.raises(ClientGone):
            await gateway(MemoryBackends(SERVICES), [watcher])(sent)
        assert watcher.after_seen == []

    asyncio.run(scenario())


@pytest.mark.parametrize(("service", "told"), [("s3", b"<Code>InternalError</Code>"), ("kms", b"InternalFailure")])
def test_what_fails_unexpectedly(service: str, told: bytes) -> None:
    watcher = Watcher()
    watcher.refusal = RuntimeError("a bug")
    answer = answer_of(gateway(MemoryBackends(SERVICES), [watcher]), request("GET", "/bucket/key", signed_for=service))
    assert answer.status == 500
    assert isinstance(answer.body, bytes)
    assert told in answer.body

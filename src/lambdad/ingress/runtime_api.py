"""The Runtime API: what a runtime inside an environment calls.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

Each environment has a listener of its own, so a call needs no name to say whose it is. Where functions share a network,
the kernel is asked of each new connection whether it is the environment's own; others get a 403 whatever they ask. A
connection that is slow or silent costs a descriptor for a while, and nothing else.

On the invoke path: one write per event, and no tasks. A runtime that sends its answer and its next request together
says so with the header `Lambda-Runtime-Acknowledge: with-next`; the answer's 202 then goes out with the next event.
Errors go out at once.
"""

from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import Mapping
from typing import Final, cast

import httptools

from lambdad.domain import quotas
from lambdad.domain.errors import IllegalTransition, LambdadError
from lambdad.domain.invocations import Outcome
from lambdad.ingress import extensions_api, telemetry_api
from lambdad.ingress.runtime_calls import ERROR_TYPE, Call, decode_error_body, error_type, invocation_of
from lambdad.ports.sandbox import Address
from lambdad.services.environment import Environment, StaleRequest
from lambdad.services.running import Running

PREFIX: Final = b"/2018-06-01/runtime/"
_NEXT: Final = PREFIX + b"invocation/next"
_INIT_ERROR: Final = PREFIX + b"init/error"
_MODE: Final = b"lambda-runtime-function-response-mode"

_ACCEPTED_BODY: Final = b'{"status":"OK"}\n'
_ACCEPTED: Final = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_ACCEPTED_BODY),
    _ACCEPTED_BODY,
)
_JOIN_BYTES: Final = 64 * 1024
CONNECTIONS: Final = 128
"""So many an environment's own processes may have at once."""
STRANGERS: Final = 16
"""So many others wait for their refusal; more are cut off at once."""
PIPELINED: Final = 16
"""So many requests may arrive together; a runtime's answer and its next request are two."""
HEAD_BYTES: Final = 64 * 1024
HEAD_SECONDS: Final = 30.0
_BACKLOG: Final = 64
_NO_HEADERS: Final[Mapping[str, str]] = {}
_TELEMETRY: Final = (telemetry_api.TELEMETRY, telemetry_api.LOGS)
_REASONS: Final = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Payload Too Large",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
}


class ResponseTooLarge(LambdadError):
    """The runtime's answer exceeds the payload limit."""


class RuntimeListener:
    """The Runtime API of one environment: on a port of its own, or on a socket in the environment's own network."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.connections: set[RuntimeConnection] = set()
        self.strangers: set[RuntimeConnection] = set()
        self.address = ""
        self._is_shared = True
        self._unchecked: list[RuntimeConnection] = []
        self._slow: dict[RuntimeConnection, float] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0))
        host, port = listener.getsockname()
        self.address = f"{host}:{port}"
        await self._serve(listener)

    async def adopt(self, listener: socket.socket) -> None:
        self._is_shared = False
        await self._serve(listener.dup())

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: RuntimeConnection(self), sock=listener, backlog=_BACKLOG)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in [*self.connections, *self.strangers]:
            connection.close()

    # Whose a connection is

    def admits(self, connection: RuntimeConnection, client: Address, server: Address) -> bool | None:
        """Whether a new connection is the environment's own; None while that cannot be said."""
        if not self._is_shared:
            return True
        owned = self.environment.owns_connection(client, server)
        if owned is None:
            if not self._unchecked:
                self.environment.when_attached(self._check)
            self._unchecked.append(connection)
        return owned

    def _check(self) -> None:
        """The sandbox is there: look at those who came before it."""
        unchecked, self._unchecked = self._unchecked, []
        for connection in unchecked:
            connection.go_on()

    # Those who take their time

    def expect_head(self, connection: RuntimeConnection) -> None:
        """A connection has that long to send a request's head, or the rest of it."""
        loop = asyncio.get_running_loop()
        self._slow[connection] = loop.time() + HEAD_SECONDS
        if self._sweeper is None:
            self._sweeper = loop.call_later(HEAD_SECONDS, self._sweep)

    def has_head(self, connection: RuntimeConnection) -> None:
        """It has sent it, or is gone."""
        self._slow.pop(connection, None)

    def _sweep(self) -> None:
        """They are in the order in which their time is up."""
        loop = asyncio.get_running_loop()
        self._sweeper = None
        while self._slow:
            connection, until = next(iter(self._slow.items()))
            if until > loop.time():
                self._sweeper = loop.call_at(until, self._sweep)
                return
            del self._slow[connection]
            connection.close()


class RuntimeConnection(asyncio.Protocol):
    """One connection of a runtime; httptools calls the `on_` methods."""

    def __init__(self, listener: RuntimeListener) -> None:
        self._listener = listener
        self._environment = listener.environment
        self._transport: asyncio.Transport
        self._is_own: bool | None = None
        self._early = b""
        self._in_head = True
        self._awaits_head = True
        # What has come since a head, a part of a body or a request was complete.
        self._incomplete_bytes = 0
        self._arrived_together = 0
        self._is_held = False
        self._is_full = False
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._call: Call
        self._withheld = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        listener = self._listener
        if len(listener.connections) >= CONNECTIONS:
            self._transport.abort()
            return
        listener.connections.add(self)
        listener.expect_head(self)
        self._check()
        if self._is_own is None:
            self._transport.pause_reading()

    def go_on(self) -> None:
        """The sandbox is there: read what has waited for that."""
        if self._transport.is_closing():
            return
        self._check()
        early, self._early = self._early, b""
        if not self._transport.is_closing():
            self._transport.resume_reading()
            if early:
                self.data_received(early)

    def _check(self) -> None:
        """Find out whether the connection is the environment's own; until that is known, nothing is read."""
        client, server = self._transport.get_extra_info("peername"), self._transport.get_extra_info("sockname")
        # One that is gone already has no addresses any more.
        self._is_own = bool(client and server) and self._listener.admits(self, client[:2], server[:2])
        if self._is_own is False:
            self._listener.connections.discard(self)
            if len(self._listener.strangers) >= STRANGERS:
                self._transport.abort()
            else:
                self._listener.strangers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.connections.discard(self)
        self._listener.strangers.discard(self)
        self._listener.has_head(self)
        self._environment.lost_runtime(self._send_event)
        self._environment.extensions.lost(self._send_extension_event)

    def close(self) -> None:
        self._transport.close()

    def pause_writing(self) -> None:
        """Who does not read the answers is not listened to, or they would fill our memory."""
        self._is_full = True
        self._flow()

    def resume_writing(self) -> None:
        self._is_full = False
        self._flow()

    def _hold(self, hold: bool) -> None:
        self._is_held = hold
        self._flow()

    def _flow(self) -> None:
        if self._transport.is_closing():
            return
        if self._is_held or self._is_full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if not self._is_own:
            if not self._transport.is_closing():
                self._keep_out(data)
            return
        self._incomplete_bytes += len(data)
        self._arrived_together = 0
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.close()  # with what has been answered
            return
        if self._incomplete_bytes and self._in_head and not self._awaits_head:
            self._awaits_head = True
            self._listener.expect_head(self)
        if self._incomplete_bytes > HEAD_BYTES:
            self._refuse(431, f"A request's head may have {HEAD_BYTES} bytes.", "RequestHeaderFieldsTooLarge")
            self._transport.close()

    def _keep_out(self, data: bytes) -> None:
        """Someone else's request is answered unread; one that came before we knew whose it is waits, unread too."""
        if self._is_own is None:
            self._early += data
            self._transport.pause_reading()
        else:
            self._refuse(403, "The Runtime API of an environment is for its own processes.", "AccessDenied")
            self._transport.close()

    def on_message_begin(self) -> None:
        self._arrived_together += 1
        if self._arrived_together > PIPELINED:
            raise httptools.HttpParserError("so many requests at once would keep all others waiting")
        self._target = b""
        self._headers = {}

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._incomplete_bytes = 0
        self._in_head = False
        if self._awaits_head:
            self._awaits_head = False
            self._listener.has_head(self)
        call = self._call = Call(self._parser.get_method(), self._target, self._headers)
        if b"expect" in call.headers:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if _MODE in call.headers and call.header(_MODE).lower() == "streaming" and call.path.endswith(b"/response"):
            self._begin_stream(call)

    def on_body(self, chunk: bytes) -> None:
        self._incomplete_bytes = 0
        call = self._call
        call.size += len(chunk)
        if call.refused:
            return
        if call.chunks is not None:
            call.chunks.put(chunk)
        elif call.size <= quotas.RESPONSE_BYTES:
            call.parts.append(chunk)
        else:
            call.parts.clear()

    def on_message_complete(self) -> None:
        self._incomplete_bytes = 0
        self._in_head = True
        call = self._call
        if call.refused:
            return
        try:
            if call.path == _NEXT and call.method == b"GET":
                self._environment.next(self._send_event)
            elif call.chunks is not None:
                self._end_stream(call)
            elif call.path.startswith(extensions_api.PREFIX):
                self._answer_extension(call)
            elif call.path.startswith(_TELEMETRY):
                body = b"".join(call.parts)
                self._answer(*telemetry_api.answer(self._environment, call.method, call.path, call.headers, body))
            else:
                self._dispatch(call)
        except StaleRequest:
            self._refuse(400, "Invalid request ID", "InvalidRequestID")
        except ResponseTooLarge:
            message = f"Exceeded maximum allowed payload size ({quotas.RESPONSE_BYTES} bytes)."
            self._refuse(413, message, "RequestEntityTooLarge")
        except IllegalTransition as illegal:
            self._refuse_transition(illegal)

    def _dispatch(self, call: Call) -> None:
        if call.path == _INIT_ERROR and call.method == b"POST":
            payload = b"".join(call.parts)
            self._environment.init_failed(payload, error_type(call, payload))
            self._accept(call)
            return
        request_id, what = invocation_of(call.path)
        if what not in (b"response", b"error"):
            self._refuse(404, "404 page not found", "NotFound")
        elif call.method != b"POST":
            self._refuse(405, "405 method not allowed", "MethodNotAllowed")
        elif call.size > quotas.RESPONSE_BYTES:
            self._environment.reject_response(request_id)
            raise ResponseTooLarge
        else:
            payload = call.parts[0] if len(call.parts) == 1 else b"".join(call.parts)
            self._accept_late(call)
            try:
                if what == b"response":
                    content_type = call.header(b"content-type", "application/json")
                    self._environment.respond(request_id, payload, content_type)
                else:
                    self._environment.fail(request_id, payload, error_type(call, payload))
            except (StaleRequest, IllegalTransition):
                self._withheld = b""
                raise
            self._accept_now(call)

    def _begin_stream(self, call: Call) -> None:
        request_id, _ = invocation_of(call.path)
        content_type = call.header(b"content-type", "application/octet-stream")
        try:
            call.chunks = self._environment.begin_response(request_id, content_type, self._hold)
            call.request_id = request_id
        except StaleRequest:
            call.refused = True
            self._refuse(400, "Invalid request ID", "InvalidRequestID")
        except IllegalTransition as illegal:
            call.refused = True
            self._refuse_transition(illegal)

    def _end_stream(self, call: Call) -> None:
        """Trailers, which the parser has added to the headers, say whether the stream broke off."""
        error = None
        error_type = call.header(ERROR_TYPE)
        if error_type:
            error = Outcome(decode_error_body(call.header(b"lambda-runtime-function-error-body")), error_type)
        self._environment.end_response(call.request_id, error)
        self._accept(call)

    # Extensions

    def _answer_extension(self, call: Call) -> None:
        environment = self._environment
        answer = extensions_api.answer(
            environment.version,
            environment.extensions,
            call.method,
            call.path,
            call.headers,
            b"".join(call.parts),
            self._send_extension_event,
        )
        if answer is not None:
            self._answer(answer.status, answer.body, answer.headers)

    def _send_extension_event(self, event: bytes) -> None:
        """Answer an extension's outstanding `next`."""
        self._answer(200, event, {extensions_api.EVENT_HEADER: str(uuid.uuid4())})

    # Answers

    def _accept(self, call: Call) -> None:
        self._accept_late(call)
        self._accept_now(call)

    def _accept_late(self, call: Call) -> None:
        if call.acknowledge_late:
            self._withheld = _ACCEPTED

    def _accept_now(self, call: Call) -> None:
        if not call.acknowledge_late:
            self._transport.write(_ACCEPTED)

    def _send_event(self, running: Running) -> None:
        """Answer the outstanding `next` with an event."""
        invocation = running.invocation
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Lambda-Runtime-Aws-Request-Id: {invocation.request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {running.deadline_ms}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {invocation.invoked_arn}\r\n"
            f"Lambda-Runtime-Trace-Id: {invocation.trace_header}\r\n"
        )
        if invocation.client_context is not None:
            head += f"Lambda-Runtime-Client-Context: {invocation.client_context}\r\n"
        head += f"Content-Length: {len(invocation.payload)}\r\n\r\n"
        start = self._withheld + head.encode("latin-1")
        self._withheld = b""
        if len(invocation.payload) <= _JOIN_BYTES:
            self._transport.write(start + invocation.payload)
        else:
            self._transport.writelines((start, invocation.payload))

    def _refuse_transition(self, illegal: IllegalTransition) -> None:
        message = (
            f"State transition from {illegal.state} on {illegal.event} failed for runtime. "
            "Error: State transition is not allowed"
        )
        self._refuse(403, message, "InvalidStateTransition")

    def _refuse(self, status: int, message: str, error_type: str) -> None:
        self._answer(status, json.dumps({"errorMessage": message, "errorType": error_type}).encode())

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
        head = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
        self._transport.write(self._withheld + head % (status, _REASONS[status], more, len(body)) + body)
        self._withheld = b""

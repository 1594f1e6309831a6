"""Where requests to other services go: to the child process of the embedded ones, or to a real endpoint.

aiohttp's client is imported with the first request. Bodies pass in both directions as they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lambdad.adapters import resigning
from lambdad.adapters.late_imports import loaded
from lambdad.adapters.neighbour_process import NeighbourProcess
from lambdad.adapters.neighbours import SECRET_KEY
from lambdad.domain import aws_chunked
from lambdad.domain.errors import RequestEntityTooLargeException
from lambdad.domain.http_payloads import HOP_BY_HOP
from lambdad.domain.neighbour_services import EMBEDDABLE
from lambdad.domain.settings import NeighbourEndpoint
from lambdad.ports.backends import NeighbourAnswer, NeighbourRequest
from lambdad.ports.neighbours import NeighbourUnavailable

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 65.0
"""How long a real endpoint may say nothing: longer than the longest poll of SQS, 20 s, and than SDKs wait, 60 s."""
STATUS_TIMEOUT_S: Final = 0.5
SIGNED_BODY_BYTES: Final = 16 * 1024 * 1024
"""More than any request but S3's may have; such bodies are read before they are signed."""

_WHOLE_BYTES: Final = 64 * 1024
"""An answer that says that it is no longer is read at once."""
_HEAD_BYTES: Final = 64 * 1024
_UNIX_HOST: Final = "http://neighbours"
_IN_FLIGHT_S: Final = 15.0
"""Connections are kept so long: less than servers do, which would close one at the moment of its next use."""
_STATUSES: Final = frozenset(status.value for status in HTTPStatus)
_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_OWN_PREFIX: Final = "x-lambdad-"
_OWN_PAGES: Final = "/_lambdad/"


def embedded_services() -> Collection[str]:
    """The services that can be embedded here: none where moto is not installed."""
    return EMBEDDABLE.keys() if importlib.util.find_spec("moto") is not None else ()


class NeighbourBackends:
    """This is `lambdad.ports.backends.Backends`."""

    def __init__(
        self, endpoints: Mapping[str, NeighbourEndpoint], process: NeighbourProcess, embedded: Collection[str]
    ) -> None:
        """`embedded` are the services of the process; those with an endpoint are not asked for there."""
        self._endpoints = dict(endpoints)
        self._process = process
        self._embedded = frozenset(embedded) - endpoints.keys()
        self._sessions: dict[Path | None, ClientSession] = {}
        self._closed = False

    def has(self, service: str) -> bool:
        return service in self._endpoints or service in self._embedded

    def is_embedded(self, service: str) -> bool:
        return service in self._embedded

    async def forward(self, request: NeighbourRequest) -> NeighbourAnswer:
        if self._closed:
            raise NeighbourUnavailable("lambdad is stopping")
        endpoint = self._endpoints.get(request.service)
        if endpoint is not None:
            return await self._forward_outside(request, endpoint)
        if not self.is_embedded(request.service):
            raise NeighbourUnavailable(f"{request.service} has no endpoint")
        headers = _passed(request.headers)
        headers |= {
            "x-lambdad-service": request.service,
            "x-lambdad-account": request.account_id,
            "x-lambdad-region": request.region,
            "x-lambdad-request-id": request.request_id,
        }
        session = await self._process_session()
        return await _exchange(session, request.service, request.method, _target(request), headers, request.body)

    async def inspect(self, what: str, parameters: Mapping[str, Any]) -> Any:
        session = await self._process_session()
        answer = await _exchange(
            session,
            "the embedded services",
            "POST",
            f"{_UNIX_HOST}{_OWN_PAGES}inspect/{what}",
            {"content-type": "application/json"},
            json.dumps(parameters).encode(),
        )
        body = await _whole(answer.body)
        if not answer.succeeded:
            raise NeighbourUnavailable(f"{what} cannot be inspected: {body.decode('utf-8', 'replace')}")
        return json.loads(body)

    async def describe(self) -> Mapping[str, Mapping[str, Any]]:
        """For people, within a second: each service that there is, where, and how it is.

        An embedded one is `loaded` when it has been used; `answers` is False when its process does not.
        """
        services = await self._ask_status() if self._process.is_ready else {}
        answers = services is not None and self._process.phase != "restarting"
        described: dict[str, Mapping[str, Any]] = {}
        for name in sorted((*self._endpoints, *self._embedded)):
            if name in self._endpoints:
                described[name] = {"kind": "external", "endpoint": self._endpoints[name].url}
                continue
            facts = (services or {}).get(name, {})
            described[name] = {
                "kind": "embedded",
                "loaded": bool(facts.get("loaded", False)),
                "last_checkpoint": _moment(facts.get("last_checkpoint")),
                "dirty": bool(facts.get("dirty", False)),
                "answers": answers,
            }
        return described

    def process(self) -> Mapping[str, Any]:
        """The process of the embedded services, for people."""
        return {"state": self._process.phase, "pid": self._process.pid}

    async def close(self, seconds: float) -> None:
        """Begin nothing more, and end the process: it has so long for its last checkpoint."""
        self._closed = True
        for session in self._sessions.values():
            await session.close()
        await self._process.stop(seconds)

    async def _ask_status(self) -> Mapping[str, Any] | None:
        try:
            async with asyncio.timeout(STATUS_TIMEOUT_S):
                session = await self._process_session()
                url = f"{_UNIX_HOST}{_OWN_PAGES}status"
                answer = await _exchange(session, "the embedded services", "GET", url, {}, b"")
                services: Mapping[str, Any] = json.loads(await _whole(answer.body))["services"]
                return services
        except (TimeoutError, NeighbourUnavailable):
            return None

    async def _forward_outside(self, request: NeighbourRequest, endpoint: NeighbourEndpoint) -> NeighbourAnswer:
        headers, body = _passed(request.headers), request.body
        if not isinstance(body, bytes):
            if request.service != "s3":
                body = await _read(body, SIGNED_BODY_BYTES)
            elif aws_chunked.is_chunked(headers):
                headers, body = aws_chunked.plain_headers(headers), _unwrapped(body)
        elif request.service == "s3" and aws_chunked.is_chunked(headers):
            headers, body = aws_chunked.plain_headers(headers), _unwrapped_at_once(body)
        await loaded("botocore.auth")
        query = resigning.without_signature(request.query)
        url = f"{endpoint.url}{request.path}{f'?{query}' if query else ''}"
        signed = resigning.signed_headers(
            request.method,
            url,
            headers,
            body if isinstance(body, bytes) else None,
            service=request.service,
            region=endpoint.region or request.region,
            keys=(endpoint.access_key or request.account_id, endpoint.secret_key or SECRET_KEY),
        )
        await loaded("aiohttp")
        return await _exchange(self._session(None), request.service, request.method, url, signed, body)

    async def _process_session(self) -> ClientSession:
        if "aiohttp" not in sys.modules:
            await asyncio.gather(self._process.socket(), loaded("aiohttp"))  # both take a while
        socket = await self._process.socket()
        # Of children that have died. All are taken out before anything is awaited, so that nobody else closes them too.
        for old in [self._sessions.pop(path) for path in list(self._sessions) if path not in (None, socket)]:
            await old.close()
        return self._session(socket)

    def _session(self, socket: Path | None) -> ClientSession:
        """A client of the process behind a socket, or of the real endpoints."""
        session = self._sessions.get(socket)
        if session is None:
            session = self._sessions[socket] = _new_session(socket)
        return session


def _new_session(socket: Path | None) -> ClientSession:
    import aiohttp

    connector: aiohttp.BaseConnector
    # As many connections as there are requests: each poll of SQS holds one.
    if socket is not None:
        connector = aiohttp.UnixConnector(os.fspath(socket), limit=0, keepalive_timeout=_IN_FLIGHT_S)
        timeout = aiohttp.ClientTimeout(total=None)
    else:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_IN_FLIGHT_S)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_AUTOMATIC,
        max_line_size=_HEAD_BYTES,
        max_field_size=_HEAD_BYTES,
    )


async def _exchange(
    session: ClientSession,
    service: str,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | AsyncIterator[bytes],
) -> NeighbourAnswer:
    """One request and its answer. Raises NeighbourUnavailable, and what the request's body raises."""
    import aiohttp
    from yarl import URL

    upload = _Upload(body) if not isinstance(body, bytes) else None
    try:
        response = await session.request(
            method,
            URL(url, encoded=True),
            headers=headers,
            data=upload if upload is not None else (body or None),
            allow_redirects=False,
        )
        if response.status not in _STATUSES:
            response.close()
            raise NeighbourUnavailable(f"{service} answered with the status {response.status}")
        answered = AnswerBody(response, service, upload)
        length = response.content_length
        has_little = length is not None and length <= _WHOLE_BYTES
        whole = await _whole(answered) if has_little or _is_empty(method, response.status) else None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if upload is not None:
            await upload.stop()
            if upload.failure is not None:
                raise upload.failure from error
        raise NeighbourUnavailable(f"{service} does not answer: {str(error) or type(error).__name__}") from error
    kept = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in response.raw_headers
        if name.lower().decode("latin-1") not in HOP_BY_HOP
    ]
    return NeighbourAnswer(response.status, kept, answered if whole is None else whole)


def _is_empty(method: str, status: int) -> bool:
    """Whether an answer has no body, whatever its headers say."""
    return method == "HEAD" or status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class _Upload:
    """A request's body on its way out; it keeps what has broken it off, which aiohttp makes an error of its own."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._idle = asyncio.Event()
        self._idle.set()
        self._begun = self._stopped = False
        self.failure: Exception | None = None
        self.complete = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._begun:  # over a connection that was closed meanwhile
            raise ConnectionResetError("a body that is passed on cannot be sent again")
        return self

    async def __anext__(self) -> bytes:
        if self._stopped:
            raise StopAsyncIteration
        self._begun = True
        self._idle.clear()
        try:
            return await anext(self._body)
        except StopAsyncIteration:
            self.complete = True
            raise
        except Exception as error:  # whatever it is, it is raised to who has asked for the exchange
            self.failure = error
            raise
        finally:
            self._idle.set()

    async def stop(self) -> None:
        """Nobody reads the body any more when this returns: the rest of it is for others."""
        self._stopped = True
        await self._idle.wait()


class AnswerBody(AsyncGenerator[bytes, None]):
    """An answer's body as it comes. Closing it, even before its first part, ends the exchange."""

    def __init__(self, response: ClientResponse, service: str, upload: _Upload | None) -> None:
        self._response = response
        self._service = service
        self._upload = upload

    async def asend(self, value: None) -> bytes:
        import aiohttp

        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._response.close()
            raise NeighbourUnavailable(f"{self._service} has broken off its answer: {error}") from error
        if chunk:
            return chunk
        await self.aclose()
        raise StopAsyncIteration

    async def athrow(self, *details: Any) -> bytes:
        await self.aclose()
        error = details[0] if len(details) == 1 else details[1] or details[0]
        raise error

    async def aclose(self) -> None:
        # What is at its end has given its connection back. What has answered before it has read the request loses it.
        self._response.close()
        if self._upload is not None:
            await self._upload.stop()


def _moment(seconds: float | None) -> str | None:
    """A time since the epoch as ISO 8601 has it, in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    named = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    dropped = HOP_BY_HOP | named
    return {
        name: _as_sent(value)
        for name, value in headers.items()
        if name not in dropped and not name.startswith(_OWN_PREFIX)
    }


def _as_sent(value: str) -> str:
    """A header's value, whose bytes are read one by one, so that aiohttp, which writes UTF-8, sends the same bytes.

    Names of files in Content-Disposition, and metadata, may be such. What is no UTF-8 cannot be kept.
    """
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _target(request: NeighbourRequest) -> str:
    """Where a client's request goes to in the process: never to its own pages, though a bucket were named so."""
    path = request.path
    if path.startswith(_OWN_PAGES):
        path = path.replace("_", "%5F", 1)
    return f"{_UNIX_HOST}{path}{f'?{request.query}' if request.query else ''}"


async def _whole(body: bytes | AsyncGenerator[bytes, None]) -> bytes:
    if isinstance(body, bytes):
        return body
    async with contextlib.aclosing(body) as parts:
        return b"".join([part async for part in parts])


async def _read(body: AsyncIterator[bytes], limit: int) -> bytes:
    """A body of a request that must be known as a whole. Raises RequestEntityTooLargeException."""
    parts: list[bytes] = []
    size = 0
    async for part in body:
        size += len(part)
        if size > limit:
            raise RequestEntityTooLargeException(f"Request must be smaller than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


async def _unwrapped(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What is inside aws-chunked, as it comes; the trailers are dropped. Raises IncompleteBody."""
    chunks = aws_chunked.Chunks()
    async for data in body:
        for part in chunks.feed(data):
            yield part
    chunks.finish()


def _unwrapped_at_once(body: bytes) -> bytes:
    """As `_unwrapped`, of a body that is all here."""
    chunks = aws_chunked.Chunks()
    content = b"".join(chunks.feed(body))
    chunks.finish()
    return content

"""The HTTP side of the child process: takes requests, has the worker answer them, and says how it is."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Final

from lambdad.domain.aws_chunked import is_chunked
from lambdad.domain.errors import ServiceError
from lambdad.ingress.messages import Request, Response
from lambdad_neighbours import bodies, errors
from lambdad_neighbours.catalogue import SERVICES, changes_state
from lambdad_neighbours.integrity import integrity_of
from lambdad_neighbours.long_polling import LongPolling, with_messages
from lambdad_neighbours.seams import ACCOUNT_HEADER, REGION_HEADER
from lambdad_neighbours.services import REQUEST_ID_HEADER, SERVICE_HEADER, Answer, Call, Services
from lambdad_neighbours.worker import Worker

logger = logging.getLogger(__name__)

STATUS_PATH: Final = "/_lambdad/status"
INSPECT_PREFIX: Final = "/_lambdad/inspect/"
INSPECT_BYTES: Final = 1024 * 1024
CHECKPOINT_EVERY_S: Final = 1.0
_STREAM_BYTES: Final = 256 * 1024
_MEGABYTE: Final = 1024 * 1024
_MACOS: Final = sys.platform == "darwin"

Inspections = Mapping[str, Callable[[Mapping[str, Any]], Any]]


class NeighbourServer:
    """What answers the requests of the daemon. `defaults` are the account and region of requests that name none."""

    def __init__(
        self,
        services: Services,
        worker: Worker,
        *,
        defaults: tuple[str, str],
        inspections: Callable[[], Inspections],
        uploads: Path | None,
    ) -> None:
        self._services = services
        self._worker = worker
        self._default_account_id, self._default_region = defaults
        self._inspections = inspections
        self._uploads = uploads
        self._polling = LongPolling(partial(worker.run, with_messages))

    def begin(self, request: Request, answer: Callable[[Response], None]) -> bool:
        return False

    async def __call__(self, request: Request) -> Response:
        if request.path == STATUS_PATH:
            return self._status()
        if request.path.startswith(INSPECT_PREFIX):
            return await self._inspect(request)
        service = request.headers.get(SERVICE_HEADER, "")
        if service not in SERVICES:
            failure = errors.not_implemented(f"The service {service!r}")
            return _failure(failure, "json", request)
        try:
            checks = integrity_of(request.method, request.query, request.headers) if service == "s3" else None
            body = await bodies.receive(request, self._uploads, checks)
        except ServiceError as error:
            failure = errors.Failure(error.status, error.code, error.code, error.message)
            return _failure(failure, SERVICES[service].protocol, request)
        except OSError:
            logger.exception("a body could not be kept")
            return _failure(errors.NOT_STORED, SERVICES[service].protocol, request)
        with body.file:
            answer = await self._answer(self._call(service, request, body), request)
        return _response(answer)

    def end(self) -> None:
        """Have those answered who would wait."""
        self._polling.end()

    async def checkpoints(self) -> None:
        """Have what is due written, for ever."""
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY_S)
            await self._worker.run(self._services.checkpoint)

    def _call(self, service: str, request: Request, body: bodies.ReceivedBody) -> Call:
        headers = dict(request.headers)
        account_id = headers.get(ACCOUNT_HEADER) or self._default_account_id
        headers[REGION_HEADER] = region = headers.get(REGION_HEADER) or self._default_region
        if is_chunked(headers):
            _unwrap_headers(headers, body)
        return Call(
            service=service,
            account_id=account_id,
            region=region,
            request_id=headers.get(REQUEST_ID_HEADER, ""),
            method=request.method,
            path=request.path,
            query=request.query,
            headers=headers,
            body=body.file,
            body_bytes=body.length,
        )

    async def _answer(self, call: Call, request: Request) -> Answer:
        loop = asyncio.get_running_loop()
        started = loop.time()
        answer = await self._worker.run(self._answer_and_checkpoint, call)
        if answer.empty is not None and answer.empty.wait_s:
            until = started + answer.empty.wait_s
            while answer.empty is not None:
                queue = answer.empty.queue
                if not await self._polling.wait(queue, until, lambda: request.body.broken):
                    break
                call.body.seek(0)
                answer = await self._worker.run(self._answer_and_checkpoint, call)
        elif changes_state(call.operation, call.method):
            self._polling.stir()
        return answer

    def _answer_and_checkpoint(self, call: Call) -> Answer:
        answer = self._services.answer(call)
        self._services.checkpoint()
        return answer

    async def _inspect(self, request: Request) -> Response:
        what = request.path.removeprefix(INSPECT_PREFIX)
        inspection = self._inspections().get(what)
        if inspection is None:
            return _json(HTTPStatus.NOT_FOUND, {"message": f"there is no inspection {what!r}"})
        try:
            parameters = json.loads(await request.body.read(INSPECT_BYTES) or b"{}")
        except ValueError as error:
            return _json(HTTPStatus.BAD_REQUEST, {"message": str(error)})
        try:
            return _json(HTTPStatus.OK, await self._worker.run(inspection, parameters))
        except Exception as error:  # an inspection looks into moto, which may raise anything
            logger.exception("inspection %s has failed", what)
            return _json(HTTPStatus.INTERNAL_SERVER_ERROR, {"message": f"{type(error).__name__}: {error}"})

    def _status(self) -> Response:
        described = {"services": self._services.status(), "pid": os.getpid(), "rss_mb": round(rss_mb(), 1)}
        return _json(HTTPStatus.OK, described)


def rss_mb() -> float:
    """The memory that this process has in use; where the kernel does not tell, the most that it has had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / _MEGABYTE if _MACOS else peak / 1024
    return pages * os.sysconf("SC_PAGESIZE") / _MEGABYTE


def _unwrap_headers(headers: dict[str, str], body: bodies.ReceivedBody) -> None:
    """What the headers would be, had the client sent the body plainly; trailers stand among them."""
    encodings = [each.strip() for each in headers.pop("content-encoding", "").split(",")]
    kept = ",".join(each for each in encodings if each and each != "aws-chunked")
    if kept:
        headers["content-encoding"] = kept
    headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD"
    for name in ("transfer-encoding", "x-amz-trailer", "x-amz-decoded-content-length"):
        headers.pop(name, None)
    headers.update({name: value for name, value in body.trailers.items() if name.startswith("x-amz-checksum-")})


def _json(status: int, document: Any) -> Response:
    return Response(status, [("Content-Type", "application/json")], json.dumps(document, default=str).encode())


def _failure(failure: errors.Failure, protocol: str, request: Request) -> Response:
    rendered = errors.render(failure, protocol, request.headers, request.headers.get(REQUEST_ID_HEADER, ""))
    return Response(rendered.status, rendered.headers, rendered.body)


def _response(answer: Answer) -> Response:
    headers = answer.headers
    if answer.length is not None:
        headers = [*headers, ("Content-Length", str(answer.length))]
    body = answer.body if isinstance(answer.body, bytes) else _stream(answer.body)
    return Response(answer.status, headers, body)


async def _stream(source: IO[bytes] | Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    """A file, or parts one after the other, read off the loop."""
    read = getattr(source, "read", None)
    take = partial(next, iter(source), b"") if read is None else partial(read, _STREAM_BYTES)
    try:
        while True:
            part = await asyncio.to_thread(take)
            if not part:
                return
            yield part
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()

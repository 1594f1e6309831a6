"""Requests to other services on their way there and back, and those who observe them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from lambdad.domain import s3_requests
from lambdad.domain.errors import NotImplementedException, RequestEntityTooLargeException, ServiceError
from lambdad.domain.neighbour_services import EMBEDDABLE, SERVICES, Protocol
from lambdad.ingress import neighbour_errors
from lambdad.ingress.messages import BodyTooLarge, ClientGone, Request, Response
from lambdad.ingress.neighbour_refusals import may_be_refusal, refusal_of
from lambdad.ingress.neighbour_requests import Meaning, may_be_form, protocol_of, s3_of
from lambdad.ports.backends import Attention, Backends, NeighbourAnswer, NeighbourRequest, Observer
from lambdad.ports.neighbours import NeighbourUnavailable
from lambdad.ports.store import StoreUnavailable

logger = logging.getLogger(__name__)

OBSERVED_BODY_BYTES: Final = 16 * 1024 * 1024
"""A request of which an observer wants the whole body may be so long; AWS allows less for all of them."""
_UPLOADS: Final = frozenset({"", "PutObject", "UploadPart", "WriteGetObjectResponse", s3_requests.POST_OBJECT})
UNAVAILABLE: Final = "ServiceUnavailable"
_TRY_AGAIN: Final = "The service is not available at the moment. Please try again."
_RETRY_AFTER: Final = ("Retry-After", "1")
_INSTALL: Final = 'it needs moto, which is not installed here: pip install "moto>=5.2"'


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Answers requests to other services."""

    backends: Backends
    observers: Sequence[Observer] = ()

    async def answer(
        self, request: Request, meaning: Meaning, account_id: str, region: str, request_id: str, form: bytes | None
    ) -> Response:
        """The answer of a service, or an error in its protocol. `form` is the body where it has been read already.

        Raises ClientGone.
        """
        try:
            asked = _request_of(request, meaning, (meaning.account_id or account_id, region, request_id), form)
            if not isinstance(asked.body, bytes) and not _may_be_large(meaning):
                asked = replace(asked, body=await read_body(request, OBSERVED_BODY_BYTES))
            return await self._exchange(asked, request)
        except (NeighbourUnavailable, StoreUnavailable) as error:
            logger.warning("%s %s: %s", meaning.service, meaning.operation or request.method, error)
            return _error(request, meaning.service, _unavailable(), request_id)
        except ServiceError as error:
            return _error(request, meaning.service, error, request_id)
        except ClientGone:
            raise
        except Exception:  # whatever went wrong is ours: it is logged here, and the client learns only that
            logger.exception("%s %s failed (request %s)", meaning.service, meaning.operation, request_id)
            return _error(request, meaning.service, _internal(meaning.service), request_id)

    async def _exchange(self, asked: NeighbourRequest, request: Request) -> Response:
        watching = [(observer, observer.attention(asked)) for observer in self.observers]
        concerned = [observer for observer, attention in watching if attention is not Attention.NONE]
        wants_all = any(attention is Attention.WHOLE for _, attention in watching)
        if wants_all and not isinstance(asked.body, bytes):
            asked = replace(asked, body=await read_body(request, OBSERVED_BODY_BYTES))
        if not concerned:
            self._require(asked.service)
            _end_with_client(request)
            return _response(asked, await self._forward(asked))
        for observer in concerned:
            early = await observer.before(asked)
            if early is not None:
                return _response(asked, early)
        self._require(asked.service)
        # From here the client may go: what the service does, the observers see.
        answer = await self._forward(asked)
        if wants_all and not isinstance(answer.body, bytes):
            answer = replace(answer, body=await _whole(answer.body))
        if answer.succeeded:
            await _after(concerned, asked, answer)
        if not isinstance(answer.body, bytes):
            _end_with_client(request)
        return _response(asked, answer)

    async def _forward(self, asked: NeighbourRequest) -> NeighbourAnswer:
        """The service's answer. Raises NeighbourUnavailable, and what is wrong with a request that it failed for."""
        answer = await self.backends.forward(asked)
        if self.backends.is_embedded(asked.service) and may_be_refusal(asked, answer):
            refusal = await asyncio.to_thread(refusal_of, asked, answer)
            if refusal is not None:
                raise refusal
        return answer

    def _require(self, service: str) -> None:
        """Asked after the observers, some of which answer themselves."""
        if not self.backends.has(service):
            raise _absent(service)


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises RequestEntityTooLargeException and ClientGone."""
    try:
        return await request.body.read(limit)
    except BodyTooLarge:
        raise RequestEntityTooLargeException(f"Request must be smaller than {limit} bytes") from None


async def read_form(request: Request, signed_for: str) -> bytes | None:
    """The body if it may name the operation; else None, and it is still to be read.

    Raises RequestEntityTooLargeException and ClientGone.
    """
    return await read_body(request, OBSERVED_BODY_BYTES) if may_be_form(request, signed_for) else None


async def _after(observers: Sequence[Observer], asked: NeighbourRequest, answer: NeighbourAnswer) -> None:
    """Tell the observers. What one of them refuses, the client is to try again: the request itself has succeeded."""
    try:
        for observer in observers:
            await observer.after(asked, answer)
    except (NeighbourUnavailable, ServiceError, StoreUnavailable) as error:
        if not isinstance(answer.body, bytes):
            await answer.body.aclose()
        raise NeighbourUnavailable(f"its events cannot be kept: {error}") from error


def _may_be_large(meaning: Meaning) -> bool:
    """Whether a request may have the body of an object: others have what fits in memory."""
    return meaning.service == "s3" and meaning.operation in _UPLOADS


def _end_with_client(request: Request) -> None:
    """Cancel what the running task does for the client when that goes away."""
    task = asyncio.current_task()
    if task is not None:
        request.body.when_broken(task.cancel)


def _request_of(
    request: Request, meaning: Meaning, caller: tuple[str, str, str], form: bytes | None
) -> NeighbourRequest:
    account_id, region, request_id = caller
    body = form if form is not None else request.body.take_whole()
    return NeighbourRequest(
        service=meaning.service,
        operation=meaning.operation,
        account_id=account_id,
        region=region,
        request_id=request_id,
        method=request.method,
        path=_s3_path(request) if meaning.service == "s3" else request.path,
        query=request.query,
        headers=request.headers,
        body=request.body.chunks() if body is None else body,
    )


def _s3_path(request: Request) -> str:
    """In the path style; a path that is in it already goes on as it was sent."""
    found = s3_of(request)
    in_path = s3_requests.parse(request.method, "", request.path, request.query, request.headers)
    return request.path if found == in_path else s3_requests.path_style(found)


def _response(asked: NeighbourRequest, answer: NeighbourAnswer) -> Response:
    """The answer for the client. The length goes on where the body does not tell it."""
    length = answer.header("Content-Length")
    headers = [(name, value) for name, value in answer.headers if name.lower() != "content-length"]
    told = asked.method == "HEAD" or not isinstance(answer.body, bytes)
    if told and length is not None:
        headers.append(("Content-Length", length))  # so spelled, it frames the body: see `encode_head`
    return Response(answer.status, headers, answer.body)


async def _whole(body: AsyncGenerator[bytes, None]) -> bytes:
    async with contextlib.aclosing(body) as parts:
        return b"".join([part async for part in parts])


class ServiceUnavailable(ServiceError):
    """The service behind does not answer."""

    code = UNAVAILABLE
    status = HTTPStatus.SERVICE_UNAVAILABLE
    fault = "Service"


def _unavailable() -> ServiceUnavailable:
    return ServiceUnavailable(_TRY_AGAIN)


class InternalFailure(ServiceError):
    """Something in lambdad has failed."""

    code = "InternalFailure"
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    fault = "Service"


class InternalError(InternalFailure):
    """The same in the words of S3, CloudFormation and others that answer in XML."""

    code = "InternalError"


def _internal(service: str) -> InternalFailure:
    protocol = SERVICES[service].protocol if service in SERVICES else Protocol.JSON
    in_xml = protocol in (Protocol.REST_XML, Protocol.QUERY, Protocol.EC2)
    return (InternalError if in_xml else InternalFailure)("We encountered an internal error. Please try again.")


def _absent(service: str) -> NotImplementedException:
    if service in EMBEDDABLE:
        return NotImplementedException(
            f"The service {service} is not available: {_INSTALL}, or start lambdad with --neighbour {service}=URL."
        )
    return NotImplementedException(f"The service {service} is not available in lambdad yet.")


def _error(request: Request, service: str, error: ServiceError, request_id: str) -> Response:
    headers = [_RETRY_AFTER] if error.status == HTTPStatus.SERVICE_UNAVAILABLE else []
    protocol = protocol_of(service, request.headers)
    return neighbour_errors.render(protocol, error.code, error.message, error.status, request_id, headers)

"""Requests to function URLs: whose URL it is, whether it may be called, and what the function makes of it.

https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html
https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html
A URL is found by its host, `<url-id>.lambda-url.<region>.localhost`, or below `/_lambdad/urls/<url-id>/` at any host.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from lambdad.domain import http_payloads, quotas, sigv4
from lambdad.domain.credentials import Identity
from lambdad.domain.errors import RequestEntityTooLargeException, ServiceError
from lambdad.domain.function_urls import (
    NONE,
    RESPONSE_STREAM,
    FunctionUrlConfig,
    host_of,
    id_in_host,
    is_preflight,
)
from lambdad.domain.http_payloads import (
    INTEGRATION_RESPONSE,
    PRELUDE_BYTES,
    PRELUDE_END,
    Endpoint,
    HttpRequest,
    HttpResponse,
    MalformedResponse,
    has_body,
)
from lambdad.domain.resource_policies import ANONYMOUS, INVOKE_FUNCTION, INVOKE_FUNCTION_URL, AccessRequest, Verdict
from lambdad.domain.tracing import accepted_trace
from lambdad.ingress.internal import PREFIX as INTERNAL_PREFIX
from lambdad.ingress.messages import BodyTooLarge, BrokenAnswer, Request, Response
from lambdad.ingress.wire.service import Service
from lambdad.ports.clock import Clock
from lambdad.ports.compute import ResponseStream
from lambdad.services.function_urls import FunctionUrlsService
from lambdad.services.identifiers import new_trace_digits
from lambdad.services.identities import Identities
from lambdad.services.invoke import InvokeRequest, InvokeService
from lambdad.services.permissions import PermissionsService

PATH_PREFIX: Final = f"{INTERNAL_PREFIX}urls/"

_AUTH_TYPE: Final = "lambda:FunctionUrlAuthType"
_VIA_URL: Final = "lambda:InvokedViaFunctionUrl"
_FORBIDDEN: Final = (
    b'{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: '
    b'https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}'
)
_UNKNOWN: Final = b'{"Message":null}'
_FAILED: Final = b"Internal Server Error"
_JSON: Final = ("Content-Type", "application/json")
_HOST_MARK: Final = ".lambda-url."
_PORT: Final = re.compile(r":(\d+)$")


class _Forbidden(Exception):
    """The caller may not invoke the URL."""


@dataclass(frozen=True, slots=True)
class UrlTarget:
    """Which URL a request is for, and its path there, as it was sent. `domain_name` is empty in the path style."""

    url_id: str
    path: str
    domain_name: str


def may_name_url(request: Request) -> bool:
    """Whether the host of a request looks like a function URL's; quick, for it is asked of every request."""
    return _HOST_MARK in request.headers.get("host", "").lower()


def url_target(request: Request) -> UrlTarget | None:
    """The function URL that a request is for; None when it is for anything else."""
    if may_name_url(request):
        host = request.headers["host"]
        url_id = id_in_host(host)
        if url_id:
            return UrlTarget(url_id, request.path or "/", _PORT.sub("", host).rstrip(".").lower())
    if request.path.startswith(PATH_PREFIX):
        url_id, _, path = request.path[len(PATH_PREFIX) :].partition("/")
        return UrlTarget(url_id, f"/{path}", "")
    return None


class FunctionUrls:
    """Answers requests to function URLs.

    A URL needs two permissions of its function or alias: `lambda:InvokeFunctionUrl`, and `lambda:InvokeFunction` by way
    of a URL. With the auth type NONE they must be given to everyone; with AWS_IAM callers of the function's own account
    have them unless a resource policy denies them: what their own policies say is not evaluated.
    """

    def __init__(
        self,
        urls: FunctionUrlsService,
        invoke: InvokeService,
        permissions: PermissionsService,
        identities: Identities,
        clock: Clock,
    ) -> None:
        self._urls = urls
        self._invoke = invoke
        self._permissions = permissions
        self._identities = identities
        self._clock = clock

    async def answer(self, target: UrlTarget, request: Request, request_id: str) -> Response:
        """Raises ClientGone and StoreUnavailable."""
        config = await self._urls.find(target.url_id)
        if config is None or (target.domain_name and f".{config.key.region}." not in target.domain_name):
            headers = [_JSON, ("x-amzn-RequestId", request_id), ("x-amzn-ErrorType", "ResourceNotFoundException")]
            return Response(HTTPStatus.NOT_FOUND, headers, _UNKNOWN)
        trace = self._trace(request)
        try:
            if config.cors is not None and is_preflight(request.method, request.headers):
                response = Response(HTTPStatus.OK, [_JSON, *config.cors.preflight_headers(request.headers)])
            else:
                response = await self._response(config, target, request, request_id, trace)
                if config.cors is not None:
                    response.headers.extend(config.cors.answer_headers(request.headers))
        except ServiceError as error:
            response = Service.load("lambda").render_error(error, request_id, None)
            response.headers = [header for header in response.headers if header[0].lower() != "x-amzn-requestid"]
            if config.cors is not None:
                response.headers.extend(config.cors.answer_headers(request.headers))
        response.headers += [("x-amzn-RequestId", request_id), ("X-Amzn-Trace-Id", trace)]
        return response

    async def _response(
        self, config: FunctionUrlConfig, target: UrlTarget, request: Request, request_id: str, trace: str
    ) -> Response:
        body = await _body(request)
        try:
            authorizer = await self._authorizer(config, request, body)
        except _Forbidden:
            return Response(HTTPStatus.FORBIDDEN, [_JSON, ("x-amzn-ErrorType", "AccessDeniedException")], _FORBIDDEN)
        payload = self._event(config, target, request, body, authorizer, request_id, trace)
        if len(payload) > quotas.REQUEST_BYTES:
            raise _too_large()
        prepared = InvokeRequest(config.reference, request_id, payload, trace=trace)
        try:
            if config.invoke_mode == RESPONSE_STREAM:
                _, stream = await self._invoke.invoke_stream(prepared)
                return await _streamed(stream, request.method)
            _, outcome = await self._invoke.invoke(prepared)
            if not outcome.failed:
                return _whole(http_payloads.response(outcome.payload, outcome.content_type))
        except MalformedResponse:
            pass  # the client learns no more of it than of any failure of the function
        return _failure()

    async def _authorizer(self, config: FunctionUrlConfig, request: Request, body: bytes) -> Mapping[str, Any] | None:
        """Who calls, where that must be known. Raises _Forbidden, and ServiceError for a signature that is wrong."""
        if config.auth_type == NONE:
            await self._check(config, request, None)
            return None
        signed = sigv4.SignedRequest(request.method, request.path, request.query, request.headers, body)
        signature = sigv4.parse(signed)
        if signature is None:
            raise _Forbidden
        identity = await self._identities.authenticate(signature, signed, region=config.key.region, service="lambda")
        await self._check(config, request, identity)
        return {
            "accessKey": signature.access_key_id,
            "accountId": identity.account_id,
            "callerId": identity.user_id,
            "cognitoIdentity": None,
            "principalOrgId": None,
            "userArn": identity.arn,
            "userId": identity.user_id,
        }

    async def _check(self, config: FunctionUrlConfig, request: Request, identity: Identity | None) -> None:
        """Raises _Forbidden unless the caller has both permissions."""
        is_own = identity is not None and identity.account_id == config.key.account_id
        principal = ANONYMOUS if identity is None else identity.arn
        around = {"aws:SourceIp": request.client, "aws:SecureTransport": "false"}
        if identity is not None:
            around["aws:PrincipalAccount"] = identity.account_id
        url, via_url = {_AUTH_TYPE: config.auth_type}, {_VIA_URL: "true"}
        for action, context in ((INVOKE_FUNCTION_URL, url), (INVOKE_FUNCTION, via_url)):
            verdict = await self._permissions.verdict(
                config.reference, AccessRequest(action, principal, {**around, **context})
            )
            if verdict is Verdict.DENY or (verdict is Verdict.NONE and not is_own):
                raise _Forbidden

    def _event(
        self,
        config: FunctionUrlConfig,
        target: UrlTarget,
        request: Request,
        body: bytes,
        authorizer: Mapping[str, Any] | None,
        request_id: str,
        trace: str,
    ) -> bytes:
        headers = dict(request.headers)
        if authorizer is not None:
            headers.pop("authorization", None)  # it is for Lambda, and whoever has it could replay it
        through = headers.get("x-forwarded-for")
        headers["x-forwarded-for"] = f"{through},{request.client}" if through else request.client
        headers["x-forwarded-proto"] = "http"
        port = _PORT.search(headers.get("host", ""))
        headers["x-forwarded-port"] = port[1] if port else "80"
        headers["x-amzn-trace-id"] = trace
        domain_name = target.domain_name or host_of(config.url_id, config.key.region)
        return http_payloads.event(
            HttpRequest(
                request.method,
                target.path,
                request.query,
                "HTTP/1.1" if request.takes_chunks else "HTTP/1.0",
                headers,
                body,
                request.client,
                request_id,
                self._clock.time(),
            ),
            Endpoint(
                config.url_id,
                domain_name,
                "anonymous" if authorizer is None else config.key.account_id,
                authorizer,
            ),
        )

    def _trace(self, request: Request) -> str:
        """The trace that the client sends on, or a new one."""
        now_s, digits = self._clock.time(), new_trace_digits()
        incoming = request.headers.get("x-amzn-trace-id")
        return accepted_trace(now_s, incoming, digits) if incoming else f"Root=1-{int(now_s):08x}-{digits[:24]}"


async def _body(request: Request) -> bytes:
    try:
        return await request.body.read(quotas.REQUEST_BYTES)
    except BodyTooLarge:
        raise _too_large() from None


def _too_large() -> RequestEntityTooLargeException:
    return RequestEntityTooLargeException(
        f"Request must be smaller than {quotas.REQUEST_BYTES} bytes for the InvokeFunction operation"
    )


def _failure() -> Response:
    return Response(HTTPStatus.BAD_GATEWAY, [_JSON], _FAILED)


def _whole(answer: HttpResponse) -> Response:
    return Response(answer.status, answer.headers, answer.body)


async def _streamed(stream: ResponseStream, method: str) -> Response:
    """The answer as it comes: its head is sent with the first part of its body. Raises MalformedResponse."""
    chunks = aiter(stream.chunks)
    first = await anext(chunks, b"")
    if not first:
        outcome = await stream.outcome
        if outcome.failed:
            return _failure()
        if outcome.content_type == INTEGRATION_RESPONSE:
            return _whole(http_payloads.response(outcome.payload, outcome.content_type))
        answer = http_payloads.of_stream(outcome.content_type)
        return Response(answer.status, answer.headers, outcome.payload)
    try:
        if stream.chunks.content_type == INTEGRATION_RESPONSE:
            answer, first = await _prelude(first, chunks)
        else:
            answer = http_payloads.of_stream(stream.chunks.content_type)
    except MalformedResponse:
        await chunks.aclose()
        raise
    if method == "HEAD" or not has_body(answer.status):
        await chunks.aclose()  # the function runs on, and what it writes is dropped
        return Response(answer.status, answer.headers)
    return Response(answer.status, answer.headers, _parts(first, chunks, stream))


async def _prelude(first: bytes, chunks: AsyncGenerator[bytes, None]) -> tuple[HttpResponse, bytes]:
    """What stands before the 8 NULs, and what has come of the body behind them."""
    held = first
    while PRELUDE_END not in held:
        more = await anext(chunks, b"")
        if not more or len(held) > PRELUDE_BYTES:
            raise MalformedResponse("the prelude has no end")
        held += more
    prelude, _, rest = held.partition(PRELUDE_END)
    return http_payloads.of_prelude(prelude), rest


async def _parts(
    first: bytes, chunks: AsyncGenerator[bytes, None], stream: ResponseStream
) -> AsyncGenerator[bytes, None]:
    """The body. When the function fails on the way, the connection is cut: the head has said that all is well."""
    async with aclosing(chunks):
        yield first
        async for chunk in chunks:
            yield chunk
    if (await stream.outcome).failed:
        raise BrokenAnswer

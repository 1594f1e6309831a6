"""Invoke and InvokeWithResponseStream. Payloads pass through as bytes; they are checked to be JSON and never built.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Final
from urllib.parse import parse_qs, unquote

from lambdad.domain import quotas
from lambdad.domain.arns import FunctionReference, parse_foreign_name, parse_function_name
from lambdad.domain.errors import (
    InvalidParameterValueException,
    InvalidRequestContentException,
    RequestEntityTooLargeException,
    ValidationException,
)
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Outcome
from lambdad.ingress.messages import BodyTooLarge, Request, Response
from lambdad.ingress.operations import Call
from lambdad.ingress.payloads import check_json
from lambdad.ingress.wire import event_stream
from lambdad.ports.compute import ResponseStream
from lambdad.services.asynchronous import AsynchronousInvocations
from lambdad.services.invoke import InvokeRequest, InvokeService
from lambdad.services.permissions import PermissionsService

INVOKE_PATH: Final = re.compile(r"/2015-03-31/functions/([^/]+)/invocations/?")
STREAM_PATH: Final = re.compile(r"/2021-11-15/functions/([^/]+)/response-streaming-invocations/?")
_INVOCATION_TYPES: Final = ("Event", "RequestResponse", "DryRun")
_LOG_TYPES: Final = ("None", "Tail")
_CHUNK_BYTES: Final = 256 * 1024
_QUALIFIER_CHARACTERS: Final = 128
_QUALIFIER: Final = re.compile(r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+")


class Invocations:
    """Answers the two operations."""

    def __init__(self, invoke: InvokeService, events: AsynchronousInvocations, permissions: PermissionsService) -> None:
        self._invoke = invoke
        self._events = events
        self._permissions = permissions

    def begin(self, call: Call, name: str, request: Request, answer: Callable[[Response], None]) -> bool:
        """Run a function whose request is all here and whose environment is free; False for everything else.

        Raises ServiceError as `invoke` does.
        """
        payload = request.body.whole()
        if payload is None or len(payload) > quotas.REQUEST_BYTES:
            return False
        if request.headers.get("x-amz-invocation-type", "RequestResponse") != "RequestResponse":
            return False
        reference = parse_function_name(unquote(name), call.account_id, call.region, _qualifier(request))
        if not self._permissions.is_open(reference):
            return False
        prepared = _prepare(call, reference, request, payload)
        return self._invoke.begin(
            prepared, lambda version, outcome: answer(_response(call, prepared, version, outcome))
        )

    async def invoke(self, call: Call, name: str, request: Request) -> Response:
        """Run a function and answer with what it returns, or accept it to be run."""
        kind = _choice(request, "x-amz-invocation-type", "invocationType", _INVOCATION_TYPES, "RequestResponse")
        prepared = await self._prepared(call, name, request)
        if kind == "Event":
            trace = await self._events.accept(prepared.reference, call.request_id, prepared.payload, prepared.trace)
            return Response(202, [("x-amzn-RequestId", call.request_id), ("X-Amzn-Trace-Id", trace)])
        if kind == "DryRun":
            await self._invoke.check(prepared.reference)
            return Response(204, [("x-amzn-RequestId", call.request_id)])
        version, outcome = await self._invoke.invoke(prepared)
        return _response(call, prepared, version, outcome)

    async def invoke_with_response_stream(self, call: Call, name: str, request: Request) -> Response:
        """Run a function and pass its answer on as an event stream, part by part."""
        kind = _choice(request, "x-amz-invocation-type", "invocationType", _INVOCATION_TYPES[1:], "RequestResponse")
        prepared = await self._prepared(call, name, request)
        if kind == "DryRun":
            await self._invoke.check(prepared.reference)
            return Response(204, [("x-amzn-RequestId", call.request_id)])
        version, stream = await self._invoke.invoke_stream(prepared)
        headers = _headers(call, version, prepared)
        headers[0] = ("Content-Type", "application/vnd.amazon.eventstream")
        # Its reading has begun before it is handed on: when nobody takes it, the function is held back no more.
        chunks = aiter(stream.chunks)
        first = await anext(chunks, b"")
        return Response(200, headers, _events(first, chunks, stream, tail_log=prepared.tail_log))

    async def _prepared(self, call: Call, name: str, request: Request) -> InvokeRequest:
        """What a request asks for, of a function of the caller's account or of one that lets the caller in."""
        payload = await _payload(request)
        reference = parse_foreign_name(unquote(name), call.account_id, call.region, _qualifier(request))
        if reference.key.account_id != call.account_id or not self._permissions.is_open(reference):
            await self._permissions.check_account(reference, call.account_id, "InvokeFunction", request.client)
        return _prepare(call, reference, request, payload)


def _response(call: Call, prepared: InvokeRequest, version: FunctionVersion, outcome: Outcome) -> Response:
    headers = _headers(call, version, prepared)
    if outcome.failed:
        headers.append(("X-Amz-Function-Error", "Unhandled"))
    if prepared.tail_log:
        headers.append(("X-Amz-Log-Result", base64.b64encode(outcome.log_tail).decode("ascii")))
    return Response(200, headers, outcome.payload)


async def _payload(request: Request) -> bytes:
    try:
        return await request.body.read(quotas.REQUEST_BYTES)
    except BodyTooLarge:
        raise RequestEntityTooLargeException(
            f"Request must be smaller than {quotas.REQUEST_BYTES} bytes for the InvokeFunction operation"
        ) from None


def _prepare(call: Call, reference: FunctionReference, request: Request, payload: bytes) -> InvokeRequest:
    if not payload:
        payload = b"{}"
    else:
        check_json(payload)
    headers = request.headers
    _check_modes(headers)
    return InvokeRequest(
        reference,
        call.request_id,
        payload,
        client_context=_client_context(headers.get("x-amz-client-context")),
        trace=headers.get("x-amzn-trace-id"),
        tail_log=_choice(request, "x-amz-log-type", "logType", _LOG_TYPES, "None") == "Tail",
    )


def _check_modes(headers: Mapping[str, str]) -> None:
    """Refuses what only functions understand that have a TenancyConfig or a DurableConfig: none has one here.

    https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation-troubleshooting.html
    """
    if "x-amz-tenant-id" in headers:
        raise InvalidParameterValueException(
            "The invoked function is not enabled with tenancy configuration. "
            "Remove the tenant ID from your request and try again."
        )
    if "x-amz-durable-execution-name" in headers:
        raise InvalidParameterValueException("DurableExecutionName is not supported by lambdad yet.")


def _qualifier(request: Request) -> str | None:
    """What version or alias is asked for. Raises ValidationException for what cannot be the name of one."""
    value = parse_qs(request.query).get("Qualifier", [""])[0] if request.query else ""
    if not value:
        return None
    if len(value) > _QUALIFIER_CHARACTERS:
        raise _invalid(value, "qualifier", f"Member must have length less than or equal to {_QUALIFIER_CHARACTERS}")
    if _QUALIFIER.fullmatch(value) is None:
        raise _invalid(value, "qualifier", f"Member must satisfy regular expression pattern: {_QUALIFIER.pattern}")
    return value


def _client_context(encoded: str | None) -> str | None:
    """The client context as the runtime gets it: JSON in one line of ASCII."""
    if encoded is None:
        return None
    try:
        if len(encoded) > quotas.CLIENT_CONTEXT_BYTES:
            raise InvalidRequestContentException(
                f"Client context must be no more than {quotas.CLIENT_CONTEXT_BYTES} bytes when base64 encoded."
            )
        context = json.loads(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        raise InvalidRequestContentException("Client context must be a valid Base64-encoded JSON object.") from None
    if not isinstance(context, dict):
        raise InvalidRequestContentException("Client context must be a valid Base64-encoded JSON object.")
    return json.dumps(context, separators=(",", ":"))


def _choice(request: Request, header: str, member: str, allowed: tuple[str, ...], default: str) -> str:
    value = request.headers.get(header, default)
    if value not in allowed:
        raise _invalid(value, member, f"Member must satisfy enum value set: [{', '.join(allowed)}]")
    return value


def _invalid(value: str, member: str, constraint: str) -> ValidationException:
    return ValidationException(
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
    )


def _headers(call: Call, version: FunctionVersion, prepared: InvokeRequest) -> list[tuple[str, str]]:
    return [
        ("Content-Type", "application/json"),
        ("x-amzn-RequestId", call.request_id),
        ("X-Amz-Executed-Version", version.version),
        ("X-Amzn-Trace-Id", prepared.given_trace),
    ]


async def _events(
    first: bytes, chunks: AsyncGenerator[bytes, None], stream: ResponseStream, *, tail_log: bool
) -> AsyncGenerator[bytes, None]:
    for event in _payload_chunks(first):
        yield event
    async for chunk in chunks:
        for event in _payload_chunks(chunk):
            yield event
    outcome: Outcome = await stream.outcome
    if outcome.failed:
        details = outcome.payload.decode("utf-8", "replace")
        log = _log_result(outcome, tail_log=tail_log)
        yield event_stream.invoke_complete(outcome.error_type, details, log)
        return
    for event in _payload_chunks(outcome.payload):
        yield event
    yield event_stream.invoke_complete(None, None, _log_result(outcome, tail_log=tail_log))


def _payload_chunks(payload: bytes) -> Iterator[bytes]:
    for start in range(0, len(payload), _CHUNK_BYTES):
        yield event_stream.payload_chunk(payload[start : start + _CHUNK_BYTES])


def _log_result(outcome: Outcome, *, tail_log: bool) -> str | None:
    return base64.b64encode(outcome.log_tail).decode("ascii") if tail_log else None

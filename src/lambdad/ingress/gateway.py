"""Every request comes in here: whose it is, which service and operation it means, and what answers it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from lambdad.domain import credentials, metric_data, quotas
from lambdad.domain.errors import (
    RequestEntityTooLargeException,
    ServiceError,
    ServiceException,
    UnknownOperationException,
)
from lambdad.domain.neighbour_services import FORWARDABLE
from lambdad.ingress import neighbour_errors
from lambdad.ingress.function_urls import FunctionUrls, may_name_url, url_target
from lambdad.ingress.internal import PREFIX as INTERNAL_PREFIX
from lambdad.ingress.internal import InternalPages
from lambdad.ingress.invocations import INVOKE_PATH, STREAM_PATH, Invocations
from lambdad.ingress.lambda_api.unsupported import not_implemented
from lambdad.ingress.messages import BodyTooLarge, ClientGone, Request, Response
from lambdad.ingress.neighbour_exchanges import Exchanges, read_form
from lambdad.ingress.neighbour_requests import Meaning, find, protocol_of, scope_of
from lambdad.ingress.operations import Call, Handler
from lambdad.ingress.wire.service import Service
from lambdad.ports.store import StoreUnavailable
from lambdad.services.identifiers import new_request_id

logger = logging.getLogger(__name__)

REQUEST_LIMITS: Final = {
    "CreateFunction": quotas.CREATE_FUNCTION_REQUEST_BYTES,
    "UpdateFunctionCode": quotas.UPDATE_FUNCTION_CODE_REQUEST_BYTES,
    "PublishLayerVersion": quotas.PUBLISH_LAYER_VERSION_REQUEST_BYTES,
    "PutMetricData": metric_data.REQUEST_BYTES,
}
_INTERNAL_ERROR: Final = "An error occurred and the request cannot be processed."
_CALLERS: Final = 10_000
"""So many scopes of signatures are remembered,"""
_SCOPE_CHARACTERS: Final = 256
"""each of which has so many characters at the most: a client may send far longer ones."""
_UNSIGNED: Final = credentials.CredentialScope("", "", "")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is: the account of its access key, and the region and service that it was signed for."""

    account_id: str
    region: str
    service: str


@dataclass(frozen=True, slots=True)
class Gateway:
    """Answers requests. `handlers` has the operations of each service by botocore's name for it.

    A host name that is a function URL's means that URL, whatever the path is. Without `function_urls` there are none.
    """

    handlers: Mapping[str, Mapping[str, Handler]]
    invocations: Invocations
    internal: InternalPages
    exchanges: Exchanges
    account_id: str
    region: str
    function_urls: FunctionUrls | None = None
    _callers: dict[str, Caller] = field(default_factory=dict)

    def begin(self, request: Request, answer: Callable[[Response], None]) -> bool:
        """Take the way of a warm invoke, with no task on it: `answer` is called when the function has answered.

        False when the request is anything else, or something stands in its way: then it is for `__call__`.
        """
        match = INVOKE_PATH.fullmatch(request.path) if request.method == "POST" else None
        if match is None or may_name_url(request):
            return False
        caller = self._caller(request)
        call = Call("lambda", "Invoke", caller.account_id, caller.region, new_request_id())
        try:
            return self.invocations.begin(call, match[1], request, answer)
        except ServiceError:
            return False

    async def __call__(self, request: Request) -> Response:
        """The answer to any request; never raises but ClientGone."""
        request_id = new_request_id()
        service_name = "lambda"
        operation = None
        try:
            target = url_target(request) if self.function_urls is not None else None
            if self.function_urls is not None and target is not None:
                return await self.function_urls.answer(target, request, request_id)
            if request.path.startswith(INTERNAL_PREFIX):
                return await self.internal.answer(request, request_id)
            caller = self._caller(request)
            if request.method == "POST":
                match = INVOKE_PATH.fullmatch(request.path)
                if match is not None:
                    operation = "Invoke"
                    call = Call("lambda", operation, caller.account_id, caller.region, request_id)
                    return await self.invocations.invoke(call, match[1], request)
                match = STREAM_PATH.fullmatch(request.path)
                if match is not None:
                    operation = "InvokeWithResponseStream"
                    call = Call("lambda", operation, caller.account_id, caller.region, request_id)
                    return await self.invocations.invoke_with_response_stream(call, match[1], request)
            service_name = caller.service
            if not self._is_own(service_name):
                form = await read_form(request, caller.service)
                meaning = find(request, caller.service, form or b"")
                service_name = meaning.service
                if not self._is_own(service_name):
                    return await self._go_on(request, meaning, caller, request_id, form)
                if form is not None:
                    request.body.put_back(form)
            service = Service.load(service_name).spoken_in(request)
            route = service.match(request)
            operation = route.operation
            handler = self.handlers[service_name].get(operation)
            if handler is None:
                raise not_implemented(service_name, operation)
            parameters = service.parse(route, request, await self._body(request, operation))
            trace = request.headers.get("x-amzn-trace-id")
            call = Call(service_name, operation, caller.account_id, caller.region, request_id, trace, request.client)
            return service.render(operation, await handler(call, parameters), request_id)
        except ServiceError as error:
            return self._error(request, service_name, error, request_id, operation)
        except ClientGone:
            raise
        except StoreUnavailable as error:
            logger.error("the store cannot be used: %s", error)
            return self._error(request, service_name, ServiceException(_INTERNAL_ERROR), request_id, operation)
        except Exception:  # whatever went wrong is ours: it is logged here, and the client learns only that
            logger.exception("%s %s failed (request %s)", request.method, request.path, request_id)
            return self._error(request, service_name, ServiceException(_INTERNAL_ERROR), request_id, operation)

    def _is_own(self, service_name: str) -> bool:
        """Whether the service is lambdad's, and no real endpoint stands in for it."""
        if service_name not in self.handlers:
            return False
        return service_name not in FORWARDABLE or not self.exchanges.backends.has(service_name)

    async def _go_on(
        self, request: Request, meaning: Meaning, caller: Caller, request_id: str, form: bytes | None
    ) -> Response:
        """To another service, if one is meant."""
        if not meaning.service:
            raise UnknownOperationException("The request names no service that lambdad knows.")
        region = caller.region if caller.service else meaning.region or caller.region
        return await self.exchanges.answer(request, meaning, caller.account_id, region, request_id, form)

    def _error(
        self, request: Request, service_name: str, error: ServiceError, request_id: str, operation: str | None
    ) -> Response:
        if service_name in self.handlers:
            return Service.load(service_name).spoken_in(request).render_error(error, request_id, operation)
        protocol = protocol_of(service_name, request.headers)
        return neighbour_errors.render(protocol, error.code, error.message, error.status, request_id)

    def _caller(self, request: Request) -> Caller:
        authorization = request.headers.get("authorization", "")
        end = authorization.find("/aws4_request")
        if end < 0:  # not signed, or in the query, or in the old way
            return self._caller_of(scope_of(request))
        scope_text = authorization[:end]
        known = self._callers.get(scope_text)
        if known is not None:
            return known
        caller = self._caller_of(scope_of(request))
        if len(scope_text) <= _SCOPE_CHARACTERS:
            if len(self._callers) >= _CALLERS:
                self._callers.clear()
            self._callers[scope_text] = caller
        return caller

    def _caller_of(self, scope: credentials.CredentialScope | None) -> Caller:
        if scope is None:
            scope = _UNSIGNED
        account_id = credentials.account_of(scope.access_key_id, self.account_id)
        return Caller(account_id, scope.region or self.region, scope.service)

    async def _body(self, request: Request, operation: str) -> bytes:
        limit = REQUEST_LIMITS.get(operation, quotas.REQUEST_BYTES)
        try:
            return await request.body.read(limit)
        except BodyTooLarge:
            raise RequestEntityTooLargeException(
                f"Request must be smaller than {limit} bytes for the {operation} operation"
            ) from None

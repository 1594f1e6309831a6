"""lambdad's own pages: health, info, events, metrics, and the download of packages."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from lambdad.domain.arns import FunctionKey, FunctionReference
from lambdad.domain.errors import ResourceNotFoundException, ServiceError
from lambdad.domain.functions import FunctionVersion
from lambdad.ingress.lambda_api.functions import CODE_PATH
from lambdad.ingress.messages import Request, Response
from lambdad.services.functions import FunctionsService

PREFIX: Final = "/_lambdad/"
_CODE: Final = re.compile(rf"{re.escape(CODE_PATH)}/(\d{{12}})/([a-z0-9-]+)/([^/]+)/([^/]+)")

Document = Callable[[], Awaitable[Mapping[str, Any]]]
Page = Callable[[Request], Awaitable[Mapping[str, Any]]]
"""Makes the JSON document that answers a request. A ServiceError is answered with its status and message."""
Pages = Mapping[tuple[str, str], Page]
"""Pages by method (GET serves HEAD too) and name."""


class InternalPages:
    """Answers requests below `/_lambdad/`."""

    def __init__(self, documents: Mapping[str, Document], functions: FunctionsService, *pages: Pages) -> None:
        """`documents` are JSON pages by name that need nothing of the request."""
        self._functions = functions
        self._pages = {("GET", name): _page_of(document) for name, document in documents.items()}
        for more in pages:
            self._pages.update(more)

    async def answer(self, request: Request, request_id: str) -> Response:
        name = request.path.removeprefix(PREFIX)
        method = "GET" if request.method == "HEAD" else request.method
        code = _CODE.fullmatch(request.path)
        methods = {"GET"} if code else {each for each, page_name in self._pages if page_name == name}
        if not methods:
            return _json(HTTPStatus.NOT_FOUND, {"message": f"There is no page {request.path}"}, request_id)
        if method not in methods:
            return _json(HTTPStatus.METHOD_NOT_ALLOWED, {"message": "Method not allowed"}, request_id)
        if code is not None:
            return await self._code(code, request, request_id)
        try:
            return _json(HTTPStatus.OK, await self._pages[method, name](request), request_id)
        except ServiceError as error:
            return _json(error.status, {"message": error.message}, request_id)

    async def _code(self, match: re.Match[str], request: Request, request_id: str) -> Response:
        """A package. The link is good as long as the version has the code that it was made for."""
        account_id, region, name, qualifier = (unquote(part) for part in match.groups())
        digest = parse_qs(request.query).get("sha256", [""])[0]
        try:
            details = await self._functions.get(FunctionReference(FunctionKey(account_id, region, name), qualifier))
        except ResourceNotFoundException:
            return _json(HTTPStatus.NOT_FOUND, {"message": "The package is gone"}, request_id)
        if details.version.code_sha256 != digest:
            return _json(HTTPStatus.FORBIDDEN, {"message": "The link has expired"}, request_id)
        return _package(details.version, self._functions.code(details.version), request_id)


def _page_of(document: Document) -> Page:
    async def page(_: Request) -> Mapping[str, Any]:
        return await document()

    return page


def _package(version: FunctionVersion, chunks: AsyncIterator[bytes], request_id: str) -> Response:
    headers = [
        ("Content-Type", "application/zip"),
        ("Content-Disposition", f'attachment; filename="{version.key.name}.zip"'),
        ("x-amzn-RequestId", request_id),
    ]

    async def body() -> Any:
        async for chunk in chunks:
            yield chunk

    return Response(HTTPStatus.OK, headers, body())


def _json(status: int, document: Mapping[str, Any], request_id: str) -> Response:
    headers = [("Content-Type", "application/json"), ("x-amzn-RequestId", request_id)]
    return Response(status, headers, json.dumps(document, indent=2).encode() + b"\n")

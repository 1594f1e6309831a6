"""lambdad's own pages: health, info, and the download of packages."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from lambdad.domain.arns import FunctionKey, FunctionReference
from lambdad.domain.errors import ResourceNotFoundException
from lambdad.domain.functions import FunctionVersion
from lambdad.ingress.lambda_api.functions import CODE_PATH
from lambdad.ingress.messages import Request, Response
from lambdad.services.functions import FunctionsService

PREFIX: Final = "/_lambdad/"
_CODE: Final = re.compile(rf"{re.escape(CODE_PATH)}/(\d{{12}})/([a-z0-9-]+)/([^/]+)/([^/]+)")

Document = Callable[[], Awaitable[Mapping[str, Any]]]


class InternalPages:
    """Answers requests below `/_lambdad/`."""

    def __init__(self, documents: Mapping[str, Document], functions: FunctionsService) -> None:
        """`documents` are JSON pages by name."""
        self._documents = documents
        self._functions = functions

    async def answer(self, request: Request, request_id: str) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _json(HTTPStatus.METHOD_NOT_ALLOWED, {"message": "Method not allowed"}, request_id)
        document = self._documents.get(request.path.removeprefix(PREFIX))
        if document is not None:
            return _json(HTTPStatus.OK, await document(), request_id)
        match = _CODE.fullmatch(request.path)
        if match is not None:
            return await self._code(match, request, request_id)
        return _json(HTTPStatus.NOT_FOUND, {"message": f"There is no page {request.path}"}, request_id)

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


def _json(status: HTTPStatus, document: Mapping[str, Any], request_id: str) -> Response:
    headers = [("Content-Type", "application/json"), ("x-amzn-RequestId", request_id)]
    return Response(status, headers, json.dumps(document, indent=2).encode() + b"\n")

"""lambdad's own pages: health, info, events and metrics."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from lambdad.domain.errors import ServiceError
from lambdad.ingress.messages import Request, Response

PREFIX: Final = "/_lambdad/"

Document = Callable[[], Awaitable[Mapping[str, Any]]]


class Text(NamedTuple):
    """A page that is no JSON."""

    content_type: str
    content: str


Page = Callable[[Request], Awaitable[Mapping[str, Any] | Text]]
"""Makes the document that answers a request. A ServiceError is answered with its status and message."""
Pages = Mapping[tuple[str, str], Page]
"""Pages by method (GET serves HEAD too) and name; a name that ends in a slash has all that is directly below it."""


class InternalPages:
    """Answers requests below `/_lambdad/`."""

    def __init__(self, documents: Mapping[str, Document], *pages: Pages) -> None:
        """`documents` are JSON pages by name that need nothing of the request."""
        self._pages = {("GET", name): _page_of(document) for name, document in documents.items()}
        for more in pages:
            self._pages.update(more)

    async def answer(self, request: Request, request_id: str) -> Response:
        name = request.path.removeprefix(PREFIX)
        method = "GET" if request.method == "HEAD" else request.method
        if all(page_name != name for _, page_name in self._pages):
            name = name[: name.rfind("/") + 1]
        methods = {each for each, page_name in self._pages if page_name == name}
        if not methods:
            return _json(HTTPStatus.NOT_FOUND, {"message": f"There is no page {request.path}"}, request_id)
        if method not in methods:
            return _json(HTTPStatus.METHOD_NOT_ALLOWED, {"message": "Method not allowed"}, request_id)
        try:
            document = await self._pages[method, name](request)
        except ServiceError as error:
            return _json(error.status, {"message": error.message}, request_id)
        if isinstance(document, Text):
            headers = [("Content-Type", document.content_type), ("x-amzn-RequestId", request_id)]
            return Response(HTTPStatus.OK, headers, document.content.encode())
        return _json(HTTPStatus.OK, document, request_id)


def _page_of(document: Document) -> Page:
    async def page(_: Request) -> Mapping[str, Any]:
        return await document()

    return page


def _json(status: int, document: Mapping[str, Any], request_id: str) -> Response:
    headers = [("Content-Type", "application/json"), ("x-amzn-RequestId", request_id)]
    return Response(status, headers, json.dumps(document, indent=2).encode() + b"\n")

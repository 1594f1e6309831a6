"""The links in GetFunction's `Code.Location` and GetLayerVersion's `Content.Location`: presigned URLs of S3 that
lambdad answers from its own packages.

On AWS they lead into buckets of the Lambda service, `awslambda-REGION-tasks` and `-layers`, and are good for ten
minutes; so are these. Packages are lambdad's own state: they are not in the S3 neighbour, which is neither asked nor
started for one.
"""

from __future__ import annotations

import hmac
import re
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.sax.saxutils import escape

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from lambdad.domain.arns import FunctionKey
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.layers import LayerKey, LayerVersion
from lambdad.ports.backends import Attention, NeighbourAnswer, NeighbourRequest
from lambdad.ports.clock import Clock
from lambdad.services.functions import FunctionsService
from lambdad.services.layers import LayersService

EXPIRES_S: Final = 600
"""https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html: "valid for 10 minutes"."""
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_BUCKET: Final = re.compile(r"/awslambda-[a-z0-9-]+-(?:tasks|layers)(?:/.*)?", re.DOTALL)
_SNAPSHOT: Final = re.compile(
    r"/awslambda-([a-z0-9-]+)-(tasks|layers)/snapshots/(\d{12})/([A-Za-z0-9_-]+)-[0-9a-f-]{36}"
)
_SIGNED: Final = frozenset(
    {
        "versionId",
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
    }
)
_SIGNATURE: Final = "X-Amz-Signature"


@dataclass(frozen=True, slots=True)
class _Found:
    """A package that a link leads to."""

    code_sha256: str
    code_size: int
    content: AsyncIterator[bytes]


class CodeLinks:
    """Makes links to packages, and, as an observer of requests to S3, answers them."""

    def __init__(
        self,
        functions: FunctionsService,
        layers: LayersService,
        clock: Clock,
        key: str,
        endpoint_url: Callable[[], str],
    ) -> None:
        """`key` is the secret that links are signed with; who has it can make links to any package."""
        self._functions = functions
        self._layers = layers
        self._clock = clock
        self._key = key
        self._endpoint_url = endpoint_url

    def location(self, version: FunctionVersion) -> str:
        """A link to the package of a version, good for ten minutes while a version of the function has it."""
        return self._link("tasks", version.key, version.code_sha256)

    def layer_location(self, version: LayerVersion) -> str:
        """A link to the archive of a layer version, good for ten minutes while a version of the layer has it."""
        return self._link("layers", version.key, version.code_sha256)

    def _link(self, kind: str, key: FunctionKey | LayerKey, code_sha256: str) -> str:
        digest = bytes.fromhex(code_sha256)
        name = f"{key.name}-{uuid.UUID(bytes=digest[:16], version=4)}"
        path = f"/awslambda-{key.region}-{kind}/snapshots/{key.account_id}/{name}"
        moment = datetime.fromtimestamp(self._clock.time(), UTC)
        parameters = {
            "versionId": urlsafe_b64encode(digest).decode().rstrip("="),
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Date": moment.strftime(SIGV4_TIMESTAMP),
            "X-Amz-SignedHeaders": "host",
            "X-Amz-Expires": str(EXPIRES_S),
            "X-Amz-Credential": f"{key.account_id}/{moment:%Y%m%d}/{key.region}/s3/aws4_request",
        }
        endpoint_url = self._endpoint_url()
        host = urlsplit(endpoint_url).netloc
        signature = self._signature("GET", path, host, parameters, key.account_id, key.region)
        return f"{endpoint_url}{path}?{urlencode({**parameters, _SIGNATURE: signature})}"

    def attention(self, request: NeighbourRequest) -> Attention:
        is_ours = request.service == "s3" and _BUCKET.fullmatch(request.path) is not None
        return Attention.HEAD if is_ours else Attention.NONE

    async def before(self, request: NeighbourRequest) -> NeighbourAnswer | None:
        match = _SNAPSHOT.fullmatch(request.path)
        given = dict(parse_qsl(request.query, keep_blank_values=True))
        signature = given.pop(_SIGNATURE, None)
        if match is None or signature is None or set(given) != _SIGNED:
            return _error(request, HTTPStatus.FORBIDDEN, "AccessDenied", "Access Denied")
        region, kind, account_id, name = match.groups()
        host = request.headers.get("host", "")
        expected = self._signature(request.method, request.path, host, given, account_id, region)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            return _error(
                request,
                HTTPStatus.FORBIDDEN,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method.",
            )
        # From here on what is in the link is what `location` has put there.
        signed = datetime.strptime(given["X-Amz-Date"], SIGV4_TIMESTAMP).replace(tzinfo=UTC)
        expires = signed + timedelta(seconds=int(given["X-Amz-Expires"]))
        now = datetime.fromtimestamp(self._clock.time(), UTC)
        if now >= expires:
            details = f"<X-Amz-Expires>{given['X-Amz-Expires']}</X-Amz-Expires>"
            details += f"<Expires>{_iso(expires)}</Expires><ServerTime>{_iso(now)}</ServerTime>"
            return _error(request, HTTPStatus.FORBIDDEN, "AccessDenied", "Request has expired", details)
        digest = urlsafe_b64decode(f"{given['versionId']}=").hex()
        found = await self._found(kind, (account_id, region, name), digest)
        if found is None:
            return _error(request, HTTPStatus.NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
        return _package(request, found, given["versionId"])

    async def _found(self, kind: str, place: tuple[str, str, str], digest: str) -> _Found | None:
        if kind == "layers":
            layer = await self._layers.version_with_code(LayerKey(*place), digest)
            return None if layer is None else _Found(digest, layer.code_size, self._layers.read(layer))
        version = await self._functions.version_with_code(FunctionKey(*place), digest)
        return None if version is None else _Found(digest, version.code_size, self._functions.code(version))

    async def after(self, request: NeighbourRequest, answer: NeighbourAnswer) -> None:
        """Nothing: what is ours never goes on to S3."""

    def _signature(
        self, method: str, path: str, host: str, parameters: dict[str, str], account_id: str, region: str
    ) -> str:
        """The Signature Version 4 of a request, as S3 computes it.

        https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
        """
        from botocore.credentials import Credentials  # 5 ms of the daemon's start, if it were loaded with it

        auth = S3SigV4QueryAuth(Credentials(account_id, self._key), "s3", region, EXPIRES_S)
        # Clients leave the port out that every http URL has.
        request = AWSRequest(method, f"http://s3{path}", {"host": host.removesuffix(":80")}, params=parameters)
        request.context["timestamp"] = parameters["X-Amz-Date"]
        return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


def _package(request: NeighbourRequest, found: _Found, version_id: str) -> NeighbourAnswer:
    async def body() -> AsyncGenerator[bytes, None]:
        async for chunk in found.content:
            yield chunk

    headers = [
        ("Content-Type", "application/zip"),
        ("Content-Length", str(found.code_size)),
        ("ETag", f'"{found.code_sha256}"'),
        ("x-amz-version-id", version_id),
        ("x-amz-request-id", request.request_id),
    ]
    return NeighbourAnswer(HTTPStatus.OK, headers, body())


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _error(request: NeighbourRequest, status: int, code: str, message: str, details: str = "") -> NeighbourAnswer:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>{details}"
        f"<RequestId>{escape(request.request_id)}</RequestId></Error>"
    )
    headers = [("Content-Type", "application/xml"), ("x-amz-request-id", request.request_id)]
    return NeighbourAnswer(status, headers, body.encode())

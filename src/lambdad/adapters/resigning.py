"""Requests for real endpoints, signed anew: what the client has signed was for lambdad's address, and with its keys.

botocore is imported with the first request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_plus, urlsplit

from lambdad.domain.neighbour_services import SERVICES

UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
_OLD_SIGNATURE: Final = frozenset(
    {"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "date"}
)
# Of a presigned URL, new and old: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
_PRESIGNED: Final = frozenset(
    {
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)
_PRESIGNED_OLD: Final = frozenset({"awsaccesskeyid", "expires", "signature"})


def without_signature(query: str) -> str:
    """A query without what has signed it; everything else as it was sent."""
    parts = query.split("&") if query else []
    names = [unquote_plus(part.partition("=")[0]).lower() for part in parts]
    drop = _PRESIGNED | _PRESIGNED_OLD if "awsaccesskeyid" in names else _PRESIGNED
    return "&".join(part for part, name in zip(parts, names, strict=True) if name not in drop)


def signed_headers(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    service: str,
    region: str,
    keys: tuple[str, str],
) -> dict[str, str]:
    """The request's headers (lower-case names) with a new signature; a body of None is one that is not read for it."""
    from botocore.auth import S3SigV4Auth, SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    class UnsignedPayload(S3SigV4Auth):  # type: ignore[misc]
        def payload(self, request: Any) -> str:
            return UNSIGNED_PAYLOAD

    kept = {name: value for name, value in headers.items() if name not in _OLD_SIGNATURE}
    kept["host"] = urlsplit(url).netloc
    signed = {name: value for name, value in kept.items() if name.startswith("x-amz-") or name in _SIGNED}
    if body is None:
        signer: Any = UnsignedPayload
    else:
        signer = S3SigV4Auth if service == "s3" else SigV4Auth
    request = AWSRequest(method=method, url=url, headers=signed, data=body or b"")
    signer(Credentials(*keys), SERVICES[service].signing_name, region).add_auth(request)
    return kept | {str(name).lower(): str(value) for name, value in request.headers.items()}


_SIGNED: Final = ("content-md5", "content-type", "host")

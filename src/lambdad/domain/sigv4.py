"""AWS Signature Version 4, from the side of the service: what a request is signed with, and whether that is right.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
The signature is in the `Authorization` header, or in the query of a presigned URL. Messages are AWS's own.
"""

from __future__ import annotations

import hashlib
import hmac
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from lambdad.domain.errors import IncompleteSignatureException, InvalidSignatureException

ALGORITHM: Final = "AWS4-HMAC-SHA256"
CLOCK_SKEW_S: Final = 300
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html: "within five minutes of the timestamp"."""
PRESIGNED_S_MAX: Final = 7 * 24 * 3600

_TIMESTAMP: Final = "%Y%m%dT%H%M%SZ"
_UNRESERVED: Final = "-_.~"
_ALGORITHM_NAME: Final = re.compile(r"\s*(AWS4-[A-Z0-9-]+)(?:\s+|$)")
_PARTS: Final = ("Credential", "SignedHeaders", "Signature")
_SPACES: Final = re.compile(r" +")
_SIGNATURE: Final = "X-Amz-Signature"
_CONTENT_SHA256: Final = "x-amz-content-sha256"
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What is signed of a request: path and query as they were sent, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request says of its signature. `expires_s` is None where it is in a header."""

    access_key_id: str
    date: str
    region: str
    service: str
    timestamp: str
    signed_headers: tuple[str, ...]
    signature: str
    security_token: str
    expires_s: int | None = None

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def parse(request: SignedRequest) -> Signature | None:
    """The signature of a request; None when it has none.

    Raises IncompleteSignatureException for one that lacks something, or is of another algorithm.
    """
    authorization = request.headers.get("authorization", "")
    if authorization.lstrip().startswith("AWS4-"):
        return _in_header(request, authorization)
    pairs = dict(_decoded_pairs(request.query))
    return _in_query(pairs) if "X-Amz-Algorithm" in pairs or _SIGNATURE in pairs else None


def verify(
    signature: Signature, request: SignedRequest, secret_access_key: str, *, region: str, service: str, now_s: float
) -> None:
    """Whether the owner of the secret has signed this very request, not long ago, for this service.

    Raises InvalidSignatureException.
    """
    _check_scope(signature, region, service)
    _check_time(signature, now_s)
    if "host" not in signature.signed_headers:
        raise InvalidSignatureException("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    digest = hashlib.sha256(request.body).hexdigest()
    claimed = request.headers.get(_CONTENT_SHA256, digest)
    expected = calculate(signature, request, digest, secret_access_key)
    if not hmac.compare_digest(expected.encode(), signature.signature.encode()) or claimed != digest:
        raise InvalidSignatureException(_MISMATCH)


def calculate(signature: Signature, request: SignedRequest, body_sha256: str, secret_access_key: str) -> str:
    """The signature that a request ought to have."""
    canonical = canonical_request(request, signature.signed_headers, body_sha256)
    text = string_to_sign(canonical, signature.timestamp, signature.scope)
    key = f"AWS4{secret_access_key}".encode()
    for part in (signature.date, signature.region, signature.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def canonical_request(request: SignedRequest, signed_headers: Sequence[str], body_sha256: str) -> str:
    """The form of a request that client and service agree on."""
    headers = "".join(
        f"{name}:{_SPACES.sub(' ', request.headers.get(name, '').strip(' '))}\n" for name in signed_headers
    )
    return "\n".join(
        (
            request.method,
            _canonical_path(request.path),
            _canonical_query(request.query),
            headers,
            ";".join(signed_headers),
            body_sha256,
        )
    )


def string_to_sign(canonical: str, timestamp: str, scope: str) -> str:
    return "\n".join((ALGORITHM, timestamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))


def _in_header(request: SignedRequest, authorization: str) -> Signature:
    algorithm = _ALGORITHM_NAME.match(authorization)
    _check_algorithm(algorithm[1] if algorithm else authorization.strip())
    given = {}
    for part in authorization.strip()[len(ALGORITHM) :].split(","):
        name, _, value = part.strip().partition("=")
        given[name] = value.strip()
    missing = [name for name in _PARTS if not given.get(name)]
    timestamp = request.headers.get("x-amz-date") or request.headers.get("date", "")
    if missing or not timestamp:
        complaints = [f"Authorization header requires '{name}' parameter." for name in missing]
        if not timestamp:
            complaints.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
        raise IncompleteSignatureException(f"{' '.join(complaints)} Authorization={_shown(authorization)}")
    return _signature(given, timestamp, request.headers.get("x-amz-security-token", ""))


def _in_query(pairs: Mapping[str, str]) -> Signature:
    _check_algorithm(pairs.get("X-Amz-Algorithm", ""))
    names = ("X-Amz-Credential", "X-Amz-SignedHeaders", _SIGNATURE, "X-Amz-Date", "X-Amz-Expires")
    missing = [name for name in names if not pairs.get(name)]
    if missing:
        complaints = " ".join(f"AWS query-string parameters must include '{name}'." for name in missing)
        raise IncompleteSignatureException(f"{complaints} Re-examine the query-string parameters.")
    expires = pairs["X-Amz-Expires"]
    if not (expires.isascii() and expires.isdigit() and len(expires) < 7 and int(expires) <= PRESIGNED_S_MAX):
        raise IncompleteSignatureException(
            f"X-Amz-Expires must be a number of seconds from 0 to {PRESIGNED_S_MAX}, not '{expires[:32]}'."
        )
    given = {name: pairs[f"X-Amz-{name}"] for name in _PARTS}
    return _signature(given, pairs["X-Amz-Date"], pairs.get("X-Amz-Security-Token", ""), int(expires))


def _signature(given: Mapping[str, str], timestamp: str, token: str, expires_s: int | None = None) -> Signature:
    scope = given["Credential"].rsplit("/", 4)
    if len(scope) != 5 or not all(scope) or scope[4] != "aws4_request":
        raise IncompleteSignatureException(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{given['Credential']}'"
        )
    names = tuple(given["SignedHeaders"].lower().split(";"))
    access_key_id, date, region, service, _ = scope
    return Signature(access_key_id, date, region, service, timestamp, names, given["Signature"], token, expires_s)


def _check_algorithm(algorithm: str) -> None:
    """Version 4A, whose signatures are of elliptic curves, is for several regions; lambdad has nobody's public key."""
    if algorithm != ALGORITHM:
        raise IncompleteSignatureException(
            f"Unsupported AWS 'algorithm': '{algorithm[:64]}' (only {ALGORITHM} for now)."
        )


def _check_scope(signature: Signature, region: str, service: str) -> None:
    complaints = []
    if signature.service != service:
        complaints.append(f"Credential should be scoped to correct service: '{service}'. ")
    if signature.region != region:
        complaints.append(f"Credential should be scoped to a valid region: '{region}'. ")
    if not signature.timestamp.startswith(signature.date):
        complaints.append(
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{signature.date}' != '{signature.timestamp[:8]}', from '{signature.timestamp}'."
        )
    if complaints:
        raise InvalidSignatureException("".join(complaints))


def _check_time(signature: Signature, now_s: float) -> None:
    try:
        signed_s = datetime.strptime(signature.timestamp, _TIMESTAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise IncompleteSignatureException(
            f"Date must be in ISO-8601 'basic format'. Got '{signature.timestamp[:64]}'. "
            "See http://en.wikipedia.org/wiki/ISO_8601"
        ) from None
    allowed_s = CLOCK_SKEW_S if signature.expires_s is None else signature.expires_s
    shown, minutes = _shown_time(now_s), CLOCK_SKEW_S // 60
    if signed_s + allowed_s < now_s:
        earliest = _shown_time(now_s - allowed_s)
        lapse = f"{minutes} min." if signature.expires_s is None else f"{allowed_s} s."
        raise InvalidSignatureException(
            f"Signature expired: {signature.timestamp} is now earlier than {earliest} ({shown} - {lapse})"
        )
    if signed_s - CLOCK_SKEW_S > now_s:
        latest = _shown_time(now_s + CLOCK_SKEW_S)
        raise InvalidSignatureException(
            f"Signature not yet current: {signature.timestamp} is still later than {latest} ({shown} + {minutes} min.)"
        )


def _shown_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIMESTAMP)


def _shown(authorization: str) -> str:
    return authorization if len(authorization) <= 256 else f"{authorization[:256]}..."


def _canonical_path(path: str) -> str:
    """Without `.`, `..` and empty segments, and encoded once more than it was sent: every service but S3 does so."""
    normal = posixpath.normpath(f"/{path.lstrip('/')}") if path else "/"
    if path.endswith(("/", "/.", "/..")) and normal != "/":
        normal += "/"
    return quote(normal.encode("latin-1", "replace"), safe=f"/{_UNRESERVED}")


def _canonical_query(query: str) -> str:
    """Every parameter but the signature, encoded in one way, ordered by name and value."""
    pairs = sorted((_encoded(name), _encoded(value)) for name, value in _raw_pairs(query) if name != _SIGNATURE)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text.encode("latin-1", "replace")), safe=_UNRESERVED)


def _raw_pairs(query: str) -> list[tuple[str, str]]:
    parts = [part.partition("=") for part in query.split("&") if part]
    return [(name, value) for name, _, value in parts]


def _decoded_pairs(query: str) -> list[tuple[str, str]]:
    return [
        (unquote_to_bytes(name).decode("utf-8", "replace"), unquote_to_bytes(value).decode("utf-8", "replace"))
        for name, value in _raw_pairs(query)
    ]

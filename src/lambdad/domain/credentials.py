"""Access keys, and the account that each belongs to.

A client chooses its account by an access key that is the twelve digits of an account id; the keys that lambdad issues
to functions carry their account in base32, as AWS's own do; every other key belongs to the daemon's default account.
"""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass

_ISSUED_PREFIX = "ASIALD"
_ACCOUNT_ID = re.compile(r"\d{12}")
_SCOPE = re.compile(r"Credential=([^/\s,]+)/(\d{8})/([a-z0-9-]+)/([A-Za-z0-9-]+)/aws4_request")
_BASE32_DIGITS = 8


@dataclass(frozen=True, slots=True)
class TemporaryCredentials:
    """What an execution role's session is given."""

    access_key_id: str
    secret_access_key: str
    session_token: str


@dataclass(frozen=True, slots=True)
class CredentialScope:
    """Who signed a request, and for what: the scope of an AWS Signature Version 4."""

    access_key_id: str
    region: str
    service: str


def issue(account_id: str) -> TemporaryCredentials:
    """New keys of an account, shaped like those of STS."""
    account = base64.b32encode(int(account_id).to_bytes(5, "big")).decode("ascii")
    unique = base64.b32encode(secrets.token_bytes(5)).decode("ascii")[:6]
    return TemporaryCredentials(
        f"{_ISSUED_PREFIX}{account}{unique}", secrets.token_urlsafe(30)[:40], secrets.token_urlsafe(96)
    )


def account_of(access_key_id: str, default: str) -> str:
    """The account that an access key belongs to."""
    if _ACCOUNT_ID.fullmatch(access_key_id):
        return access_key_id
    if access_key_id.startswith(_ISSUED_PREFIX) and len(access_key_id) == 20:
        encoded = access_key_id[len(_ISSUED_PREFIX) : len(_ISSUED_PREFIX) + _BASE32_DIGITS]
        try:
            return f"{int.from_bytes(base64.b32decode(encoded), 'big'):012d}"
        except ValueError:
            return default
    return default


def parse_scope(authorization: str) -> CredentialScope | None:
    """The scope in an `Authorization` header, or in the value of `X-Amz-Credential` put after `Credential=`."""
    match = _SCOPE.search(authorization)
    return CredentialScope(match[1], match[3], match[4]) if match else None

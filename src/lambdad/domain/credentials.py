"""Access keys: the account that each belongs to, and the keys that lambdad issues to functions.

A client chooses its account by an access key that is the twelve digits of an account id; the keys that lambdad issues
to functions carry their account in base32, as AWS's own do; every other key belongs to the daemon's default account.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from typing import Final

LOCAL_ACCESS_KEY: Final = "test"
LOCAL_SECRET: Final = "test"
"""What clients of local endpoints are configured with everywhere: the secret of `test` and of every account id."""

_ISSUED_PREFIX = "ASIALD"
_ISSUED_LENGTH = 20
_ACCOUNT_ID = re.compile(r"\d{12}")
_SCOPE = re.compile(r"Credential=([^/\s,]+)/(\d{8})/([a-z0-9-]+)/([A-Za-z0-9-]+)/aws4_request")
_BASE32_DIGITS = 8
_SECRET_CHARACTERS = 40
_MAC_BYTES = 32


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


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom an access key belongs to, and what its requests are signed with.

    `user_id` is what IAM calls the principal by; a `session_token` that is not empty must come with every request.
    """

    account_id: str
    arn: str
    user_id: str
    secret_access_key: str
    session_token: str = ""


class CredentialIssuer:
    """Issues keys to functions, and knows them again: what belongs to a key is derived from it and from one secret.

    Nothing is stored. The keys are good for as long as the secret, also after a restart, and do not expire: an
    environment lives as long as it is used.
    """

    def __init__(self, key: str = "") -> None:
        """Without a `key`, the issuer is the only one that knows its keys again."""
        self._key = (key or secrets.token_hex()).encode()

    def issue(self, account_id: str, role: str = "", session: str = "") -> TemporaryCredentials:
        """New keys of an account, shaped like those of STS, for a session of the role that has the ARN `role`."""
        account = base64.b32encode(int(account_id).to_bytes(5, "big")).decode("ascii")
        unique = base64.b32encode(secrets.token_bytes(5)).decode("ascii")[:6]
        access_key_id = f"{_ISSUED_PREFIX}{account}{unique}"
        said = json.dumps([role.rpartition("/")[2], session], separators=(",", ":")).encode()
        token = base64.urlsafe_b64encode(self._mac("token", access_key_id, said) + said).decode("ascii")
        return TemporaryCredentials(access_key_id, self._secret(access_key_id), token)

    def identity(self, access_key_id: str, session_token: str) -> Identity | None:
        """Whose keys these are; None when they were not issued here, or the token is not that of the key."""
        if not is_issued(access_key_id):
            return None
        try:
            decoded = base64.b64decode(session_token, altchars=b"-_", validate=True)
        except ValueError:
            return None
        mac, said = decoded[:_MAC_BYTES], decoded[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac("token", access_key_id, said)):
            return None
        role, session = json.loads(said)
        account_id = account_of(access_key_id, "")
        return Identity(
            account_id,
            f"arn:aws:sts::{account_id}:assumed-role/{role}/{session}",
            f"AROA{access_key_id[4:]}:{session}",
            self._secret(access_key_id),
            session_token,
        )

    def _secret(self, access_key_id: str) -> str:
        return base64.urlsafe_b64encode(self._mac("secret", access_key_id, b"")).decode("ascii")[:_SECRET_CHARACTERS]

    def _mac(self, what: str, access_key_id: str, said: bytes) -> bytes:
        return hmac.digest(self._key, f"{what} {access_key_id} ".encode() + said, "sha256")


def is_issued(access_key_id: str) -> bool:
    """Whether a key has the shape of those that lambdad issues."""
    return access_key_id.startswith(_ISSUED_PREFIX) and len(access_key_id) == _ISSUED_LENGTH


def local_identity(access_key_id: str, default_account_id: str) -> Identity | None:
    """The account that clients choose by its number, or by `test`; None for any other key.

    They stand for the account as a whole, and whoever reaches the endpoint has them: they are no protection.
    """
    if access_key_id != LOCAL_ACCESS_KEY and not _ACCOUNT_ID.fullmatch(access_key_id):
        return None
    account_id = account_of(access_key_id, default_account_id)
    return Identity(account_id, f"arn:aws:iam::{account_id}:root", account_id, LOCAL_SECRET)


def account_of(access_key_id: str, default: str) -> str:
    """The account that an access key belongs to."""
    if _ACCOUNT_ID.fullmatch(access_key_id):
        return access_key_id
    if is_issued(access_key_id):
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

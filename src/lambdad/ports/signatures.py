"""Who signs what the daemon sends, so that receivers can tell that it comes from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Signature:
    text: str
    """In base64."""
    certificate: str
    """The name of the certificate that verifies it: SimpleNotificationService-<fingerprint>.pem, as AWS has it."""


class Signer(Protocol):
    """Signs with one RSA key that outlives the daemon. Both methods raise StoreUnavailable when it cannot be kept."""

    async def sign(self, text: str, version: str) -> Signature:
        """A signature (PKCS #1 v1.5) of the text in UTF-8, over SHA-1 for version 1 and SHA-256 for version 2."""

    async def certificate(self, name: str) -> str | None:
        """The certificate of that name, as PEM; None when there is none."""

"""The key that signs messages of SNS, with a certificate for it, in one file of the data directory.

It is made with the first message, which takes a tenth of a second, in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lambdad.adapters.file_blobs import sync_directory
from lambdad.ports.signatures import Signature
from lambdad.ports.store import StoreUnavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

FILE: Final = "sns-signing.pem"
KEY_BITS: Final = 2048
VALID_DAYS: Final = 3650

_COMMON_NAME: Final = "sns.amazonaws.com"
_EXPONENT: Final = 65537
_FINGERPRINT_DIGITS: Final = 32
_CERTIFICATE_BEGINS: Final = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class _Identity:
    key: RSAPrivateKey
    certificate: str
    name: str


class RsaSigner:
    """`Signer` with a key in a file of `directory`, which only its owner may read."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._identity: _Identity | None = None
        self._loading = asyncio.Lock()

    async def sign(self, text: str, version: str) -> Signature:
        identity = await self._loaded()
        return await asyncio.to_thread(_signature, identity, text, version)

    async def certificate(self, name: str) -> str | None:
        if self._identity is None and not self._path.exists():
            return None
        identity = await self._loaded()
        return identity.certificate if identity.name == name else None

    async def _loaded(self) -> _Identity:
        async with self._loading:
            if self._identity is None:
                try:
                    self._identity = await asyncio.to_thread(_load, self._path)
                except (OSError, ValueError) as error:  # the second for a file that is none of ours
                    raise StoreUnavailable(f"the key in {self._path} cannot be used: {error}") from error
            return self._identity


def _signature(identity: _Identity, text: str, version: str) -> Signature:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    algorithm = hashes.SHA256() if version == "2" else hashes.SHA1()
    signed = identity.key.sign(text.encode("utf-8", "surrogatepass"), padding.PKCS1v15(), algorithm)
    return Signature(base64.b64encode(signed).decode("ascii"), identity.name)


def _load(path: Path) -> _Identity:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = _make()
        _write(path, content)
    at = content.find(_CERTIFICATE_BEGINS)
    key = serialization.load_pem_private_key(content[:at], password=None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("it is no RSA key")
    fingerprint = x509.load_pem_x509_certificate(content[at:]).fingerprint(hashes.SHA256()).hex()
    name = f"SimpleNotificationService-{fingerprint[:_FINGERPRINT_DIGITS]}.pem"
    return _Identity(key, content[at:].decode("ascii"), name)


def _make() -> bytes:
    """A key and a certificate that it has signed itself, both as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=_EXPONENT, key_size=KEY_BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _COMMON_NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing, whatever happens; mkstemp makes files that only their owner may read."""
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f"{FILE}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        sync_directory(path.parent)
    except BaseException:  # whatever stopped it, half a key is not left behind
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise

"""Signatures of deployment packages, and the list of those who are trusted to make them.

A signature is a JSON Web Signature (RFC 7515, ES384) in one entry of the archive; what it signs and why it is not AWS
Signer's is in docs/adr/0011-code-signing.md.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import tempfile
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from lambdad.domain import code_signing
from lambdad.domain.code_signing import AWS_SIGNATURE_PREFIX, SIGNATURE_ENTRY, PackageSignature
from lambdad.ports.store import StoreUnavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

TRUSTED_FILE: Final = "signing-profiles.json"

HEADER: Final[Mapping[str, str]] = {"alg": "ES384", "typ": "lambdad-package"}
NUMBER_BYTES: Final = 48
"""Of each of the two numbers of a signature on the curve P-384."""
_SIGNATURE_BYTES_MAX: Final = 1 << 16
_IN_MEMORY_BYTES: Final = 8 << 20
_CHUNK_BYTES: Final = 1 << 18


class _NotTrusted(Exception):
    """Why a signature cannot be relied on."""


class FilePackageSignatures:
    """`PackageSignatures` with the list of trusted signing profiles in a file of the data directory.

    The file is read at each check: it maps the ARN of each version of a profile to an object with `publicKey` (PEM, on
    the curve P-384), and perhaps `revokedAt` (seconds since 1970: what was signed from then on is revoked) and
    `revokedJobs` (ARNs of signing jobs).
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / TRUSTED_FILE

    async def verify(self, package: AsyncIterator[bytes]) -> PackageSignature | None:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
            async for chunk in package:
                await asyncio.to_thread(file.write, chunk)
            return await asyncio.to_thread(self._verify, file)

    def _verify(self, file: IO[bytes]) -> PackageSignature | None:
        try:
            with zipfile.ZipFile(file) as archive:
                return self._signature_of(archive)
        except _NotTrusted as error:
            raise code_signing.invalid(str(error)) from error
        except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, NotImplementedError) as error:
            raise code_signing.invalid(f"the archive cannot be read: {error}") from error

    def _signature_of(self, archive: zipfile.ZipFile) -> PackageSignature | None:
        names = archive.namelist()
        if any(name.startswith(AWS_SIGNATURE_PREFIX) for name in names):
            raise _NotTrusted(
                "it is a signature of AWS Signer, whose format is not public, so that it cannot be checked here"
            )
        if SIGNATURE_ENTRY not in names:
            return None
        if len(set(names)) != len(names):
            raise _NotTrusted("the archive has two entries of one name")
        if archive.getinfo(SIGNATURE_ENTRY).file_size > _SIGNATURE_BYTES_MAX:
            raise _NotTrusted("the signature is too large")
        claims, signed, signature = _parsed(archive.read(SIGNATURE_ENTRY))
        arn = _text(claims, "signingProfileVersionArn")
        trusted = trusted_profiles(self._path).get(arn)
        if trusted is None:
            raise _NotTrusted(f"the key of {arn} is not known here, as it is not in {TRUSTED_FILE}")
        if not _is_signed(trusted["publicKey"], signed, signature):
            raise _NotTrusted(f"it was not made with the key of {arn}")
        if _text(claims, "contentSha384") != content_sha384(archive):
            raise _NotTrusted("the package has been changed since it was signed")
        signed_at_s, job_arn = _number(claims, "signedAt"), _text(claims, "signingJobArn")
        revoked = signed_at_s >= trusted.get("revokedAt", float("inf")) or job_arn in trusted.get("revokedJobs", ())
        return PackageSignature(arn, job_arn, signed_at_s, _number(claims, "expiresAt"), revoked)


def trusted_profiles(path: Path) -> Mapping[str, Any]:
    """The list of the trusted, which is empty when there is none. Raises StoreUnavailable."""
    try:
        profiles = json.loads(path.read_text("utf-8"))
        if all(_is_profile(profile) for profile in profiles.values()):
            return dict(profiles)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:  # the last for JSON that is no object
        raise StoreUnavailable(f"the signing profiles in {path} cannot be read: {error}") from error
    raise StoreUnavailable(f"the signing profiles in {path} cannot be read: one of them is no profile")


def content_sha384(archive: zipfile.ZipFile) -> str:
    """The hash of everything in an archive but the signature, attributes included: they make a file executable."""
    entries = []
    for info in archive.infolist():
        if info.filename == SIGNATURE_ENTRY:
            continue
        digest = hashlib.sha384()
        with archive.open(info) as content:
            while chunk := content.read(_CHUNK_BYTES):
                digest.update(chunk)
        entries.append((info.filename, info.create_system, info.external_attr, digest.hexdigest()))
    return hashlib.sha384(code_signing.manifest(entries)).hexdigest()


def _parsed(token: bytes) -> tuple[Mapping[str, Any], bytes, bytes]:
    """The claims of a signature, the bytes that were signed, and the signature of them."""
    try:
        signed, _, signature = token.rpartition(b".")
        header, _, payload = signed.partition(b".")
        claims = json.loads(_unbase64(payload))
        if json.loads(_unbase64(header)) != HEADER or not isinstance(claims, dict):
            raise _NotTrusted("the signature is not one of lambdad's")
        return claims, signed, _unbase64(signature)
    except ValueError as error:
        raise _NotTrusted("the signature is not one of lambdad's") from error


def _is_signed(public_key: str, signed: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    try:
        key: Any = serialization.load_pem_public_key(public_key.encode())
        check_curve(key)
    except ValueError as error:
        raise _NotTrusted(f"a public key in {TRUSTED_FILE} is none: {error}") from error
    if len(signature) != 2 * NUMBER_BYTES:
        return False
    first, second = (int.from_bytes(part, "big") for part in (signature[:NUMBER_BYTES], signature[NUMBER_BYTES:]))
    try:
        key.verify(encode_dss_signature(first, second), signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        return False
    return True


def check_curve(key: EllipticCurvePrivateKey | EllipticCurvePublicKey) -> None:
    """Raises ValueError for a key that is not on the curve P-384."""
    if getattr(getattr(key, "curve", None), "name", "") != "secp384r1":
        raise ValueError("the key is not on the curve P-384")


def _is_profile(profile: Any) -> bool:
    return (
        isinstance(profile, dict)
        and isinstance(profile.get("publicKey"), str)
        and isinstance(profile.get("revokedAt", 0), int | float)
        and isinstance(profile.get("revokedJobs", []), list)
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        raise _NotTrusted(f"the signature does not say its {name}")
    return value


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _NotTrusted(f"the signature does not say its {name}")
    return float(value)


def _unbase64(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)

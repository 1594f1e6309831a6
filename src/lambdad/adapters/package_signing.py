"""Signing deployment packages for this machine: the keys of signing profiles, and signatures made with them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from lambdad.adapters.file_blobs import sync_directory
from lambdad.adapters.package_signatures import (
    HEADER,
    NUMBER_BYTES,
    TRUSTED_FILE,
    check_curve,
    content_sha384,
    trusted_profiles,
)
from lambdad.domain.code_signing import AWS_SIGNATURE_PREFIX, SIGNATURE_ENTRY, PackageSignature
from lambdad.domain.errors import LambdadError

KEYS_DIRECTORY: Final = "signing-keys"

_DAY_S: Final = 86400


class CannotSign(LambdadError):
    """A package cannot be signed: it is no archive or signed already, or the key for it is not here."""


def key_of(directory: Path, profile_version_arn: str) -> bytes:
    """The private key of a version of a signing profile, as PEM. For one that nobody has signed with, it is made.

    Keys are files of the data directory `directory` that only their owner may read; from then on its daemons trust
    what is signed with them. Raises CannotSign where others have the key, StoreUnavailable and OSError.
    """
    path = directory / KEYS_DIRECTORY / f"{hashlib.sha256(profile_version_arn.encode()).hexdigest()}.pem"
    profiles = dict(trusted_profiles(directory / TRUSTED_FILE))
    is_trusted = profile_version_arn in profiles
    if path.exists():
        private = path.read_bytes()
    elif is_trusted:
        raise CannotSign(f"the private key of {profile_version_arn} is not in this data directory")
    else:
        private, _ = new_key()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _write(path, private)
    if not is_trusted:  # also where a crash has left the key and no more
        profiles[profile_version_arn] = {"publicKey": _public_key(private)}
        _write(directory / TRUSTED_FILE, json.dumps(profiles, indent=2).encode())
    return private


def sign(
    package: Path,
    target: Path,
    key_pem: bytes,
    profile_version_arn: str,
    valid_days: int,
    now: Callable[[], float] = time.time,
) -> PackageSignature:
    """Write a signed copy of a package. `key_pem` is a private key on the curve P-384.

    Raises CannotSign, OSError, and ValueError for what is no such key.
    """
    signed_at_s = int(now())
    job_arn = f"{profile_version_arn.partition('/signing-profiles/')[0]}/signing-jobs/{uuid.uuid4()}"
    signature = PackageSignature(
        profile_version_arn, job_arn, float(signed_at_s), float(signed_at_s + valid_days * _DAY_S)
    )
    try:
        with zipfile.ZipFile(package) as archive:
            names = archive.namelist()
            content = content_sha384(archive)
    except zipfile.BadZipFile as error:
        raise CannotSign(f"{package} is no .zip archive: {error}") from error
    if SIGNATURE_ENTRY in names or any(name.startswith(AWS_SIGNATURE_PREFIX) for name in names):
        raise CannotSign(f"{package} is signed already")
    claims = {
        "signingProfileVersionArn": profile_version_arn,
        "signingJobArn": job_arn,
        "signedAt": signed_at_s,
        "expiresAt": int(signature.expires_at_s),
        "contentSha384": content,
    }
    made = _made(claims, key_pem)
    shutil.copyfile(package, target)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(SIGNATURE_ENTRY, made, zipfile.ZIP_DEFLATED)
    return signature


def new_key() -> tuple[bytes, str]:
    """A private key, and the public one of it for the list of the trusted, both as PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, _public_key(private)


def _public_key(private: bytes) -> str:
    from cryptography.hazmat.primitives import serialization

    key: Any = serialization.load_pem_private_key(private, password=None)
    public: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return public.decode("ascii")


def _made(claims: Mapping[str, Any], key_pem: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    key: Any = serialization.load_pem_private_key(key_pem, password=None)
    check_curve(key)
    signed = b".".join(_base64(json.dumps(part, separators=(",", ":")).encode()) for part in (HEADER, claims))
    numbers = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA384())))
    return signed + b"." + _base64(b"".join(number.to_bytes(NUMBER_BYTES, "big") for number in numbers))


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing; mkstemp makes files that only their owner may read."""
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    sync_directory(path.parent)


def _base64(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")

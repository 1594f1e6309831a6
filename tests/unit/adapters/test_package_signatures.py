"""Signatures of packages: made, verified, and refused when anything is not as it was signed."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import stat
import warnings
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from lambdad.adapters.package_signatures import TRUSTED_FILE, FilePackageSignatures
from lambdad.adapters.package_signing import KEYS_DIRECTORY, CannotSign, key_of, new_key, sign
from lambdad.domain.code_signing import SIGNATURE_ENTRY, PackageSignature
from lambdad.domain.errors import InvalidCodeSignatureException
from lambdad.ports.store import StoreUnavailable

ARN = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/Mine/abcdefghij"
KEY, PUBLIC = new_key()
NOW = 1_700_000_000.0


def archive(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (0o100000 | mode) << 16
            target.writestr(info, content)
    return packed.getvalue()


def trust(directory: Path, **fields: Any) -> None:
    (directory / TRUSTED_FILE).write_text(json.dumps({ARN: {"publicKey": PUBLIC, **fields}}))


def verified(directory: Path, package: bytes) -> PackageSignature | None:
    async def parts() -> AsyncIterator[bytes]:
        yield package[:10]
        yield package[10:]

    return asyncio.run(FilePackageSignatures(directory).verify(parts()))


@pytest.fixture
def signed(tmp_path: Path) -> bytes:
    """A signed package, whose signer is trusted."""
    trust(tmp_path)
    (tmp_path / "package.zip").write_bytes(archive({"app.py": b"one", "bootstrap": b"#!/bin/sh"}))
    made = sign(tmp_path / "package.zip", tmp_path / "signed.zip", KEY, ARN, 30, lambda: NOW)
    content = (tmp_path / "signed.zip").read_bytes()
    assert verified(tmp_path, content) == made
    return content


def rewritten(package: bytes, change: Callable[[zipfile.ZipInfo, bytes], bytes]) -> bytes:
    """The archive with each entry changed, and its signature as it was."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as source, zipfile.ZipFile(packed, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            target.writestr(info, change(info, content))
    return packed.getvalue()


def token(package: bytes) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(package)) as source:
        return source.read(SIGNATURE_ENTRY).split(b".")


def with_token(package: bytes, parts: list[bytes]) -> bytes:
    return rewritten(package, lambda info, content: b".".join(parts) if info.filename == SIGNATURE_ENTRY else content)


def test_a_signature_says_who_when_and_for_how_long(tmp_path: Path, signed: bytes) -> None:
    found = verified(tmp_path, signed)
    assert found is not None
    assert (found.profile_version_arn, found.signed_at_s, found.revoked) == (ARN, NOW, False)
    assert found.expires_at_s == NOW + 30 * 86400
    assert found.job_arn.startswith("arn:aws:signer:us-east-1:000000000000:/signing-jobs/")


def test_what_is_not_signed_is_not_an_error(tmp_path: Path) -> None:
    assert verified(tmp_path, archive({"app.py": b"one"})) is None


def test_packing_anew_changes_nothing(tmp_path: Path, signed: bytes) -> None:
    assert verified(tmp_path, rewritten(signed, lambda info, content: content)) is not None


def content(info: zipfile.ZipInfo, content: bytes) -> bytes:
    return content + b" " if info.filename == "app.py" else content


def mode(info: zipfile.ZipInfo, content: bytes) -> bytes:
    if info.filename == "bootstrap":
        info.external_attr = (0o100755) << 16
    return content


def name(info: zipfile.ZipInfo, content: bytes) -> bytes:
    info.filename = {"app.py": "other.py"}.get(info.filename, info.filename)
    return content


@pytest.mark.parametrize("change", [content, mode, name])
def test_what_was_changed_is_refused(tmp_path: Path, signed: bytes, change: Any) -> None:
    with pytest.raises(InvalidCodeSignatureException, match="has been changed since it was signed"):
        verified(tmp_path, rewritten(signed, change))


@pytest.mark.parametrize("added", ["more.py", "app.py"])
def test_what_was_added_is_refused(tmp_path: Path, signed: bytes, added: str) -> None:
    packed = io.BytesIO(signed)
    with zipfile.ZipFile(packed, "a") as target, warnings.catch_warnings(action="ignore"):  # of a name that is twice
        target.writestr(added, b"more")
    with pytest.raises(InvalidCodeSignatureException):
        verified(tmp_path, packed.getvalue())


def test_a_second_signature_is_refused(tmp_path: Path, signed: bytes) -> None:
    packed = io.BytesIO(signed)
    with zipfile.ZipFile(packed, "a") as target, warnings.catch_warnings(action="ignore"):
        target.writestr(SIGNATURE_ENTRY, target.read(SIGNATURE_ENTRY))
    with pytest.raises(InvalidCodeSignatureException, match="two entries of one name"):
        verified(tmp_path, packed.getvalue())


@pytest.mark.parametrize(
    "forge",
    [
        lambda header, claims, signature: [header, claims, signature[:-4] + b"AAAA"],
        lambda header, claims, signature: [header, claims, b""],
        lambda header, claims, signature: [header, claims],
        lambda header, claims, signature: [b"not base64!", claims, signature],
        lambda header, claims, signature: [unpadded({"alg": "none"}), claims, b""],
        lambda header, claims, signature: [header, unpadded({**read(claims), "expiresAt": 2**40}), signature],
        lambda header, claims, signature: [header, unpadded({}), signature],
        lambda header, claims, signature: [header, unpadded([]), signature],
    ],
)
def test_a_forged_signature_is_refused(tmp_path: Path, signed: bytes, forge: Callable[..., list[bytes]]) -> None:
    with pytest.raises(InvalidCodeSignatureException):
        verified(tmp_path, with_token(signed, forge(*token(signed))))


def unpadded(document: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=")


def read(part: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    return document


def test_only_the_key_of_the_profile_will_do(tmp_path: Path, signed: bytes) -> None:
    (tmp_path / TRUSTED_FILE).write_text(json.dumps({ARN: {"publicKey": new_key()[1]}}))
    with pytest.raises(InvalidCodeSignatureException, match="was not made with the key of"):
        verified(tmp_path, signed)
    (tmp_path / TRUSTED_FILE).unlink()
    with pytest.raises(InvalidCodeSignatureException, match="is not known here"):
        verified(tmp_path, signed)


def test_a_signature_of_aws_signer_is_refused(tmp_path: Path) -> None:
    package = archive({"app.py": b"one", "META_INF/aws_signer_signature_v1.0.SF": b"\x30\x82"})
    with pytest.raises(InvalidCodeSignatureException, match="format is not public"):
        verified(tmp_path, package)


def test_what_is_revoked_says_so(tmp_path: Path, signed: bytes) -> None:
    found = verified(tmp_path, signed)
    assert found is not None
    for fields, revoked in (
        ({"revokedAt": NOW}, True),
        ({"revokedAt": NOW + 1}, False),
        ({"revokedJobs": [found.job_arn]}, True),
        ({"revokedJobs": ["another"]}, False),
    ):
        trust(tmp_path, **fields)
        again = verified(tmp_path, signed)
        assert again is not None
        assert again.revoked is revoked, fields


@pytest.mark.parametrize("text", ["", "[]", '{"arn": 1}', '{"arn": {"publicKey": "k", "revokedAt": "now"}}'])
def test_a_list_that_cannot_be_read_lets_nothing_in(tmp_path: Path, signed: bytes, text: str) -> None:
    (tmp_path / TRUSTED_FILE).write_text(text)
    with pytest.raises(StoreUnavailable, match=TRUSTED_FILE):
        verified(tmp_path, signed)


def test_a_public_key_that_is_none_lets_nothing_in(tmp_path: Path, signed: bytes) -> None:
    (tmp_path / TRUSTED_FILE).write_text(json.dumps({ARN: {"publicKey": "none"}}))
    with pytest.raises(InvalidCodeSignatureException):
        verified(tmp_path, signed)


def test_what_is_signed_or_no_archive_cannot_be_signed(tmp_path: Path, signed: bytes) -> None:
    for package in (signed, b"no archive", archive({"META_INF/aws_signer_signature_v1.0.SF": b""})):
        (tmp_path / "package.zip").write_bytes(package)
        with pytest.raises(CannotSign):
            sign(tmp_path / "package.zip", tmp_path / "out.zip", KEY, ARN, 30)
        assert not (tmp_path / "out.zip").exists()


def test_a_key_is_made_once_and_trusted_from_then_on(tmp_path: Path) -> None:
    key = key_of(tmp_path, ARN)
    (tmp_path / TRUSTED_FILE).unlink()  # as a crash in between would leave it
    assert key_of(tmp_path, ARN) == key
    assert key_of(tmp_path, ARN + "2") != key
    (kept, _) = (tmp_path / KEYS_DIRECTORY).iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    (tmp_path / "package.zip").write_bytes(archive({"app.py": b"one"}))
    made = sign(tmp_path / "package.zip", tmp_path / "signed.zip", key, ARN, 30)
    assert verified(tmp_path, (tmp_path / "signed.zip").read_bytes()) == made


def test_a_key_that_others_have_is_not_made_anew(tmp_path: Path) -> None:
    trust(tmp_path)
    with pytest.raises(CannotSign, match="is not in this data directory"):
        key_of(tmp_path, ARN)

"""The key that signs messages of SNS, checked with its certificate as a subscriber would."""

from __future__ import annotations

import asyncio
import base64
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from lambdad.adapters.signatures import FILE, RsaSigner
from lambdad.domain.sns_messages import Message, string_to_sign
from lambdad.ports.signatures import Signature
from lambdad.ports.store import StoreUnavailable

TEXT = string_to_sign(Message(message_id="m", topic_arn="arn", text="ü", timestamp="2019-01-02T12:45:07.000Z"))


def verify(certificate: str, signature: Signature, text: str, algorithm: hashes.HashAlgorithm) -> None:
    key = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    assert isinstance(key, RSAPublicKey)
    key.verify(base64.b64decode(signature.text), text.encode(), padding.PKCS1v15(), algorithm)


@pytest.mark.parametrize(("version", "algorithm"), [("1", hashes.SHA1()), ("2", hashes.SHA256())])
def test_the_certificate_verifies_what_was_signed(
    tmp_path: Path, version: str, algorithm: hashes.HashAlgorithm
) -> None:
    async def test() -> None:
        signer = RsaSigner(tmp_path)
        signature = await signer.sign(TEXT, version)
        certificate = await signer.certificate(signature.certificate)
        assert certificate is not None
        verify(certificate, signature, TEXT, algorithm)
        with pytest.raises(InvalidSignature):
            verify(certificate, signature, TEXT + " ", algorithm)

    asyncio.run(test())


def test_there_is_one_key_and_it_outlives_the_daemon(tmp_path: Path) -> None:
    async def test() -> None:
        first = RsaSigner(tmp_path)
        signatures = await asyncio.gather(*(first.sign(TEXT, "2") for _ in range(3)))
        assert len(set(signatures)) == 1
        second = RsaSigner(tmp_path)
        certificate = await second.certificate(signatures[0].certificate)
        assert certificate is not None
        assert "PRIVATE" not in certificate
        verify(certificate, signatures[0], TEXT, hashes.SHA256())
        assert await second.sign(TEXT, "2") == signatures[0]

    asyncio.run(test())
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_there_is_no_key_before_the_first_message(tmp_path: Path) -> None:
    signer = RsaSigner(tmp_path)
    assert asyncio.run(signer.certificate("SimpleNotificationService-0.pem")) is None
    assert list(tmp_path.iterdir()) == []


def test_other_certificates_are_not_there(tmp_path: Path) -> None:
    async def test() -> str | None:
        signer = RsaSigner(tmp_path)
        await signer.sign(TEXT, "1")
        return await signer.certificate(FILE)

    assert asyncio.run(test()) is None


def test_a_key_that_cannot_be_kept_signs_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        asyncio.run(RsaSigner(tmp_path / "gone").sign(TEXT, "1"))
    (tmp_path / FILE).write_text("damaged")
    with pytest.raises(StoreUnavailable):
        asyncio.run(RsaSigner(tmp_path).sign(TEXT, "1"))
    assert (tmp_path / FILE).read_text() == "damaged"

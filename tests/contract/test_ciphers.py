"""The contract of ciphers: AES-GCM and the one for tests."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from lambdad.adapters.aes_gcm_cipher import KEY_FILE, AesGcmCipher
from lambdad.adapters.memory_cipher import MemoryCipher
from lambdad.ports.ciphers import DATA_KEY_BYTES, Cipher, Undecipherable
from lambdad.ports.store import StoreUnavailable

CLEAR = "a secret with é".encode()
KEY = bytes(range(DATA_KEY_BYTES))


@pytest.fixture(params=["aes-gcm", "memory"])
def cipher(request: pytest.FixtureRequest, tmp_path: Path) -> Cipher:
    return AesGcmCipher(tmp_path) if request.param == "aes-gcm" else MemoryCipher()


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("clear", [b"", CLEAR])
def test_what_was_encrypted_comes_back(cipher: Cipher, key: bytes | None, clear: bytes) -> None:
    async def run() -> None:
        sealed = await cipher.encrypt(clear, b"context", key)
        assert not clear or clear not in sealed
        assert await cipher.decrypt(sealed, b"context", key) == clear
        assert await cipher.encrypt(clear, b"context", key) != sealed

    asyncio.run(run())


def test_nothing_else_comes_back(cipher: Cipher) -> None:
    async def run() -> None:
        sealed = await cipher.encrypt(CLEAR, b"context", KEY)
        changed = bytes([*sealed[:-1], sealed[-1] ^ 1])
        for attempt in (
            cipher.decrypt(sealed, b"another context", KEY),
            cipher.decrypt(sealed, b"context", KEY[::-1]),
            cipher.decrypt(sealed, b"context"),
            cipher.decrypt(changed, b"context", KEY),
            cipher.decrypt(sealed[:-1], b"context", KEY),
            cipher.decrypt(b"", b"context", KEY),
        ):
            with pytest.raises(Undecipherable):
                await attempt

    asyncio.run(run())


def test_the_key_of_a_data_directory_stays_and_is_its_owners(tmp_path: Path) -> None:
    async def run() -> None:
        sealed = await AesGcmCipher(tmp_path).encrypt(CLEAR, b"context")
        assert await AesGcmCipher(tmp_path).decrypt(sealed, b"context") == CLEAR

    asyncio.run(run())
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["ab" * 32 + "\n", "ab" * 31, "xy" * 32])
def test_what_is_in_the_place_of_the_key_is_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / KEY_FILE).write_text(content)
    with pytest.raises(StoreUnavailable, match=KEY_FILE):
        asyncio.run(AesGcmCipher(tmp_path).encrypt(CLEAR, b"context"))
    assert (tmp_path / KEY_FILE).read_text() == content


def test_a_key_that_cannot_be_read_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).mkdir()
    with pytest.raises(StoreUnavailable, match=KEY_FILE):
        asyncio.run(AesGcmCipher(tmp_path).encrypt(CLEAR, b"context"))

"""AES-256-GCM, with a key in an own file of the data directory that only its owner may read.

The library and the key are loaded with the first variable that is encrypted: 15 ms, in a thread.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

from lambdad.adapters.late_imports import loaded
from lambdad.adapters.secret_key import secret_key
from lambdad.ports.ciphers import Undecipherable
from lambdad.ports.store import StoreUnavailable

KEY_FILE: Final = "environment.key"

_MODULE: Final = "cryptography.hazmat.primitives.ciphers.aead"
_NONCE_BYTES: Final = 12


class AesGcmCipher:
    """`Cipher`. What it makes begins with the nonce, drawn at random for each: 2**32 of them are safe with one key."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / KEY_FILE
        self._own: Any = None
        self._loading = asyncio.Lock()

    async def encrypt(self, clear: bytes, context: bytes, key: bytes | None = None) -> bytes:
        algorithm = await self._algorithm(key)
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = algorithm.encrypt(nonce, clear, context)
        return nonce + sealed

    async def decrypt(self, ciphertext: bytes, context: bytes, key: bytes | None = None) -> bytes:
        algorithm = await self._algorithm(key)
        invalid_tag = (await loaded("cryptography.exceptions")).InvalidTag
        try:
            clear: bytes = algorithm.decrypt(ciphertext[:_NONCE_BYTES], ciphertext[_NONCE_BYTES:], context)
        except (invalid_tag, ValueError) as error:  # the second for what is too short to be any
            raise Undecipherable("the key or the context is another, or the ciphertext has been changed") from error
        return clear

    async def _algorithm(self, key: bytes | None) -> Any:
        if key is not None:
            return (await loaded(_MODULE)).AESGCM(key)
        if self._own is None:
            async with self._loading:
                if self._own is None:
                    try:
                        # Whatever is in its place may be what is left of the key: nothing else opens what is stored.
                        secret = await asyncio.to_thread(secret_key, self._path, replaces_others=False)
                        self._own = (await loaded(_MODULE)).AESGCM(bytes.fromhex(secret))
                    except (OSError, ValueError) as error:  # the second for a file that is none of ours
                        raise StoreUnavailable(f"the key in {self._path} cannot be used: {error}") from error
        return self._own

"""A cipher for tests: what it makes can only be read with the same key and context. It keeps nothing secret."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from lambdad.ports.ciphers import Undecipherable

_OWN: Final = b"the key of the data directory"
_TAG_BYTES: Final = 16
_SALT_BYTES: Final = 12


class MemoryCipher:
    """`Cipher`: a tag of key, context and text before the text, every bit of which is turned over."""

    async def encrypt(self, clear: bytes, context: bytes, key: bytes | None = None) -> bytes:
        salt = os.urandom(_SALT_BYTES)
        return salt + _tag(salt, clear, context, key) + _turned(clear)

    async def decrypt(self, ciphertext: bytes, context: bytes, key: bytes | None = None) -> bytes:
        salt, rest = ciphertext[:_SALT_BYTES], ciphertext[_SALT_BYTES:]
        tag, clear = rest[:_TAG_BYTES], _turned(rest[_TAG_BYTES:])
        if tag != _tag(salt, clear, context, key):
            raise Undecipherable("another key, another context, or changed")
        return clear


def _tag(salt: bytes, clear: bytes, context: bytes, key: bytes | None) -> bytes:
    parts = b"\0".join((salt.hex().encode(), (key or _OWN).hex().encode(), context, clear))
    return hashlib.sha256(parts).digest()[:_TAG_BYTES]


def _turned(text: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in text)

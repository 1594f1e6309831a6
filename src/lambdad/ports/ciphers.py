"""Authenticated encryption of small things that are kept on disk."""

from __future__ import annotations

from typing import Protocol

from lambdad.domain.errors import LambdadError

DATA_KEY_BYTES = 32


class Undecipherable(LambdadError):
    """What is to be decrypted was made with another key or for another purpose, or has been changed since."""


class Cipher(Protocol):
    """Encrypts with a key that is given, 32 bytes long, or else with one that belongs to the data directory.

    `context` is not secret and not kept: who decrypts must give the same. Every method raises StoreUnavailable when
    the data directory's key cannot be read or written.
    """

    async def encrypt(self, clear: bytes, context: bytes, key: bytes | None = None) -> bytes: ...

    async def decrypt(self, ciphertext: bytes, context: bytes, key: bytes | None = None) -> bytes:
        """Raises Undecipherable."""

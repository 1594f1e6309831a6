"""Who has signed a deployment package."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from lambdad.domain.code_signing import PackageSignature


class PackageSignatures(Protocol):
    """Verifies signatures of packages by the keys of those whom the owner of the data directory trusts."""

    async def verify(self, package: AsyncIterator[bytes]) -> PackageSignature | None:
        """The signature of a package that comes in parts; None for one that is not signed.

        Raises InvalidCodeSignatureException for one that was changed since it was signed or whose signature cannot be
        checked, and StoreUnavailable when the list of the trusted cannot be read.
        """

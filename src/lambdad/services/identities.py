"""Who has signed a request: the keys that lambdad knows the secrets of.

They are those that it has issued to functions, those of the embedded IAM and STS, and the ones that clients of local
endpoints are configured with: `test`, or an account id, with the secret `test`.
"""

from __future__ import annotations

import re
from typing import Final

from lambdad.domain import credentials, sigv4
from lambdad.domain.credentials import CredentialIssuer, Identity
from lambdad.domain.errors import UnrecognizedClientException
from lambdad.domain.sigv4 import Signature, SignedRequest
from lambdad.ports.backends import Backends
from lambdad.ports.clock import Clock
from lambdad.ports.neighbours import NeighbourUnavailable

INSPECTION: Final = "iam-access-key"
"""What the embedded IAM and STS know of a key: see `lambdad_neighbours.inspections`."""
REMEMBERED_S: Final = 5.0
"""A key that is deactivated or deleted may be used so much longer."""
_REMEMBERED_KEYS: Final = 1000
_OF_IAM: Final = re.compile(r"A[KS]IA[A-Z0-9]{12,124}")


class Identities:
    """Finds identities by access key, and checks signatures."""

    def __init__(self, issuer: CredentialIssuer, backends: Backends, clock: Clock, account_id: str) -> None:
        """`account_id` is the daemon's default account, to which the key `test` belongs."""
        self._issuer = issuer
        self._backends = backends
        self._clock = clock
        self._account_id = account_id
        self._remembered: dict[str, tuple[float, Identity | None]] = {}

    async def authenticate(
        self, signature: Signature, request: SignedRequest, *, region: str, service: str
    ) -> Identity:
        """Who has signed a request.

        Raises UnrecognizedClientException for a key that is not known or a token that is not the key's, and
        InvalidSignatureException.
        """
        identity = await self._identity(signature)
        now_s = self._clock.time()
        sigv4.verify(signature, request, identity.secret_access_key, region=region, service=service, now_s=now_s)
        return identity

    async def _identity(self, signature: Signature) -> Identity:
        access_key_id, token = signature.access_key_id, signature.security_token
        if credentials.is_issued(access_key_id):
            identity = self._issuer.identity(access_key_id, token)
        else:
            identity = credentials.local_identity(access_key_id, self._account_id)
            if identity is None and _OF_IAM.fullmatch(access_key_id):
                identity = await self._of_iam(access_key_id)
            if identity is not None and identity.session_token and identity.session_token != token:
                identity = None
        if identity is None:
            raise UnrecognizedClientException("The security token included in the request is invalid.")
        return identity

    async def _of_iam(self, access_key_id: str) -> Identity | None:
        """What the embedded services say of a key; nothing when IAM is a real endpoint's, which tells no secret."""
        now_s = self._clock.monotonic()
        known_s, identity = self._remembered.get(access_key_id, (-REMEMBERED_S, None))
        if now_s - known_s < REMEMBERED_S:
            return identity
        if not self._backends.is_embedded("iam"):
            return None
        try:
            found = await self._backends.inspect(INSPECTION, {"access_key_id": access_key_id})
        except NeighbourUnavailable:
            return None
        identity = Identity(**found) if found is not None else None
        if len(self._remembered) >= _REMEMBERED_KEYS:
            self._remembered.clear()
        self._remembered[access_key_id] = (now_s, identity)
        return identity

"""Environment variables at rest: encrypted under the key of the data directory, or under one of KMS.

Under a key of KMS they are encrypted with a data key that KMS makes and that is stored as KMS encrypted it: whoever
reads the data directory needs KMS to read them. KMS is asked whenever they are needed, so that a key that was disabled
or an access that was taken away shows at the next cold start, as on AWS; no data key outlives the call it is for.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars-encryption.html
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from lambdad.domain import sealed_environments
from lambdad.domain.arns import FunctionKey
from lambdad.domain.errors import (
    InvalidParameterValueException,
    KMSAccessDeniedException,
    KMSDisabledException,
    KMSInvalidStateException,
    KMSNotFoundException,
    ServiceError,
    ServiceException,
)
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.sealed_environments import SealedEnvironment
from lambdad.ports.ciphers import Cipher, Undecipherable
from lambdad.ports.neighbours import NeighbourRefused, Neighbours, NeighbourUnavailable
from lambdad.ports.store import Store, Tables

KMS: Final = "kms"
_KEY_SPEC: Final = "AES_256"
_ALIAS: Final = ":alias/"

# What Lambda says when it stores variables; the first half of each is in the reports of many a user.
_UNUSABLE: Final = (
    "Lambda was unable to configure access to your environment variables because the KMS key is invalid for "
    "CreateGrant. Please check your KMS key settings. KMS Exception: {} KMS Message: {}"
)
_NOT_ALLOWED: Final = (
    "Lambda was unable to configure access to your environment variables because the KMS access was denied. "
    "Please check your KMS permissions. KMS Exception: {} KMS Message: {}"
)
_NO_ALIASES: Final = "Key Aliases are not supported for this operation."
_NO_ANSWER_TO_CONFIGURE: Final = (
    "Lambda was unable to configure access to your environment variables due to an internal service error"
)
# What it says when it starts a function: https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
_UNREADABLE: Final = (
    "Lambda was unable to decrypt the environment variables because {}. Please check the function's KMS key settings."
)
_KMS_SAYS: Final = " KMS Exception: {}KMS Message: {}"
_NO_ANSWER: Final = "Lambda was unable to decrypt the environment variables because KMS does not answer: {}"
_SPOILT: Final = "Lambda was unable to decrypt the environment variables: {}"
# What GetFunctionConfiguration shows in place of variables.
_HIDDEN: Final = (
    "Lambda was unable to decrypt your environment variables because the KMS access was denied. "
    "Please check your KMS permissions. KMS Exception: {} KMS Message: {}"
)

_REASONS: Final[Mapping[str, tuple[type[ServiceError], str]]] = {
    "DisabledException": (KMSDisabledException, "the KMS key used is disabled"),
    "KMSInvalidStateException": (
        KMSInvalidStateException,
        "the state of the KMS key used is not valid for Decrypt",
    ),
    "NotFoundException": (KMSNotFoundException, "the KMS key was not found"),
}
"""What Invoke answers for errors of KMS; for all others, that access was denied."""


class EnvironmentEncryption:
    """Seals the variables of versions and opens them again."""

    def __init__(self, cipher: Cipher, neighbours: Neighbours) -> None:
        self._cipher = cipher
        self._neighbours = neighbours

    async def seal(self, version: FunctionVersion, before: FunctionVersion | None = None) -> FunctionVersion:
        """The version with its clear variables encrypted, as it is to be stored.

        What it has in `environment` is sealed. When there is nothing, what is sealed already is kept, or sealed anew
        if the key of KMS is another than that of `before`; variables that `before` has had under the same key keep
        their seal, so that a version is still found to be the same. Where variables were taken away, the caller has
        taken away the seal as well. Raises InvalidParameterValueException for a key that cannot be used.
        """
        same_key = before is not None and before.kms_key_arn == version.kms_key_arn
        variables = version.environment
        if before is not None and before.sealed_environment is not None:
            if not variables and version.sealed_environment is not None:
                if same_key:
                    return version
                variables = await self._readable(before)
            elif variables and same_key and await self._has(before, variables):
                return replace(version, environment={}, sealed_environment=before.sealed_environment)
        sealed = None
        if variables or (version.kms_key_arn and not same_key):
            sealed = await self._sealed(version, variables)
        return replace(version, environment={}, sealed_environment=sealed if variables else None)

    async def open(self, version: FunctionVersion) -> Mapping[str, str]:
        """The variables in clear text.

        Raises KMSAccessDeniedException, KMSDisabledException, KMSInvalidStateException, KMSNotFoundException,
        ServiceException, and StoreUnavailable.
        """
        try:
            return await self._opened(version)
        except NeighbourRefused as refusal:
            error, reason = _REASONS.get(refusal.code, (KMSAccessDeniedException, "KMS access was denied"))
            says = _KMS_SAYS.format(refusal.code, refusal.message)
            raise error(_UNREADABLE.format(reason) + says) from refusal
        except NeighbourUnavailable as error:
            raise ServiceException(_NO_ANSWER.format(error)) from error
        except Undecipherable as error:
            raise ServiceException(_SPOILT.format(error)) from error

    async def shown(self, version: FunctionVersion) -> Mapping[str, Any] | None:
        """The member `Environment` of a configuration: the variables, or why there are none; None for none.

        https://docs.aws.amazon.com/lambda/latest/api/API_EnvironmentResponse.html
        """
        if version.sealed_environment is None and not version.environment:
            return None
        try:
            return {"Variables": await self._opened(version)}
        except NeighbourRefused as refusal:
            code, message = refusal.code, _HIDDEN.format(refusal.code, refusal.message)
        except NeighbourUnavailable as unavailable:
            code, message = "ServiceException", _NO_ANSWER.format(unavailable)
        except Undecipherable as error:
            code, message = "ServiceException", _SPOILT.format(error)
        return {"Error": {"ErrorCode": code, "Message": message}}

    async def shown_each(self, versions: Sequence[FunctionVersion]) -> list[Mapping[str, Any] | None]:
        """`shown` for a page of versions. KMS is asked for many of them at once, and once for what has one seal."""
        of_kms = {
            version.sealed_environment: version
            for version in versions
            if version.sealed_environment is not None and version.sealed_environment.data_key
        }
        answers = dict(zip(of_kms, await asyncio.gather(*map(self.shown, of_kms.values())), strict=True))
        return [
            answers[version.sealed_environment] if version.sealed_environment in answers else await self.shown(version)
            for version in versions
        ]

    async def seal_old(self, store: Store) -> int:
        """Encrypt what an older lambdad has stored in clear text, under the data directory's key. Returns how many.

        Raises StoreUnavailable.
        """
        versions = await store.read(lambda tables: tables.versions_in_clear())
        seals: dict[tuple[FunctionKey, bytes], FunctionVersion] = {}
        for version in versions:
            place = version.key, sealed_environments.to_bytes(version.environment)
            if place not in seals:  # versions of the same content stay the same: they have one seal
                seals[place] = await self.seal(version)

        def work(tables: Tables) -> None:
            for version in versions:
                if tables.version(version.key, version.version) == version:
                    sealed = seals[version.key, sealed_environments.to_bytes(version.environment)].sealed_environment
                    tables.put_version(replace(version, environment={}, sealed_environment=sealed))

        if versions:
            await store.write(work)
        return len(versions)

    async def _sealed(self, version: FunctionVersion, variables: Mapping[str, str]) -> SealedEnvironment:
        context = sealed_environments.context(version.key.arn)
        key, wrapped = None, b""
        if _ALIAS in version.kms_key_arn:
            raise InvalidParameterValueException(_UNUSABLE.format("InvalidArnException", _NO_ALIASES))
        if version.kms_key_arn:
            try:
                answer = await self._call(
                    version, "GenerateDataKey", KeyId=version.kms_key_arn, KeySpec=_KEY_SPEC, EncryptionContext=context
                )
            except NeighbourRefused as refusal:
                text = _NOT_ALLOWED if refusal.code == "AccessDeniedException" else _UNUSABLE
                raise InvalidParameterValueException(text.format(refusal.code, refusal.message)) from refusal
            except NeighbourUnavailable as error:
                raise ServiceException(_NO_ANSWER_TO_CONFIGURE) from error
            key, wrapped = answer["Plaintext"], answer["CiphertextBlob"]
        clear = sealed_environments.to_bytes(variables)
        ciphertext = await self._cipher.encrypt(clear, _bytes(context), key)
        return SealedEnvironment(_base64(ciphertext), _base64(wrapped))

    async def _opened(self, version: FunctionVersion) -> Mapping[str, str]:
        """Raises NeighbourRefused, NeighbourUnavailable, Undecipherable and StoreUnavailable."""
        sealed = version.sealed_environment
        if sealed is None:
            return version.environment
        context = sealed_environments.context(version.key.arn)
        key = None
        if sealed.data_key:
            wrapped = base64.b64decode(sealed.data_key)
            answer = await self._call(
                version, "Decrypt", KeyId=version.kms_key_arn, CiphertextBlob=wrapped, EncryptionContext=context
            )
            key = answer["Plaintext"]
        clear = await self._cipher.decrypt(base64.b64decode(sealed.ciphertext), _bytes(context), key)
        return sealed_environments.from_bytes(clear)

    async def _readable(self, version: FunctionVersion) -> Mapping[str, str]:
        """The variables that another key is to encrypt. Raises InvalidParameterValueException if KMS refuses them."""
        try:
            return await self.open(version)
        except ServiceError as error:
            raise InvalidParameterValueException(error.message) from error

    async def _has(self, version: FunctionVersion, variables: Mapping[str, str]) -> bool:
        """Whether a version's variables are these; if they cannot be read, they are taken to be others."""
        try:
            return await self._opened(version) == variables
        except (NeighbourRefused, NeighbourUnavailable, Undecipherable):
            return False

    async def _call(self, version: FunctionVersion, operation: str, **parameters: Any) -> Mapping[str, Any]:
        key = version.key
        return await self._neighbours.call(KMS, operation, parameters, account_id=key.account_id, region=key.region)


def _bytes(context: Mapping[str, str]) -> bytes:
    return json.dumps(context, sort_keys=True).encode("utf-8")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

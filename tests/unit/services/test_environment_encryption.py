"""Environment variables at rest, on a cipher and a KMS in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from lambdad.adapters.memory_cipher import MemoryCipher
from lambdad.adapters.memory_store import MemoryStore
from lambdad.domain.errors import (
    InvalidParameterValueException,
    KMSAccessDeniedException,
    KMSDisabledException,
    KMSInvalidStateException,
    KMSNotFoundException,
    ResourceConflictException,
    ServiceError,
    ServiceException,
)
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.sealed_environments import SealedEnvironment
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable
from lambdad.services.environment_encryption import EnvironmentEncryption
from unit.services.fakes import KEY, World, draft, reference, scenario

SECRET = {"TOKEN": "marker-5f1c", "other": "é\ud800"}
ONE = "arn:aws:kms:us-east-1:000000000000:key/one"
TWO = "arn:aws:kms:us-east-1:000000000000:key/two"


class FakeKms:
    """Keys `one` and `two`; a data key is encrypted by being wrapped in the names of key and context."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refuses: dict[str, NeighbourRefused | NeighbourUnavailable] = {}

    async def call(self, service: str, operation: str, parameters: Mapping[str, Any], **_: Any) -> Mapping[str, Any]:
        assert service == "kms"
        await asyncio.sleep(0)
        key, context = parameters["KeyId"], parameters["EncryptionContext"]
        self.calls.append(f"{operation} {key.rpartition('/')[2]}")
        if key in self.refuses:
            raise self.refuses[key]
        assert context == {"aws:lambda:FunctionArn": KEY.arn}
        if operation == "GenerateDataKey":
            assert parameters["KeySpec"] == "AES_256"
            clear = bytes([len(self.calls)]) * 32
            return {"Plaintext": clear, "CiphertextBlob": key.encode() + b"|" + clear.hex().encode()}
        named, _, wrapped = parameters["CiphertextBlob"].partition(b"|")
        assert operation == "Decrypt"
        assert named.decode() == key
        return {"Plaintext": bytes.fromhex(wrapped.decode())}


class Keys(World):
    """A world whose functions find a `FakeKms`."""

    def __init__(self) -> None:
        super().__init__()
        self.kms = FakeKms()
        neighbours: Any = self.kms
        self.environments = self.functions.environments = EnvironmentEncryption(MemoryCipher(), neighbours)

    async def stored(self, qualifier: str | None = None) -> FunctionVersion:
        return (await self.functions.get(reference(qualifier))).version

    async def opened(self) -> Mapping[str, str]:
        return await self.environments.open(await self.stored())


def with_kms(test: Any) -> Any:
    def run() -> None:
        asyncio.run(test(Keys()))

    run.__name__ = test.__name__
    return run


@pytest.mark.parametrize("kms_key_arn", ["", ONE])
def test_what_is_stored_is_not_what_was_given(kms_key_arn: str) -> None:
    @with_kms
    async def run(world: Keys) -> None:
        created = await world.create(environment=SECRET, kms_key_arn=kms_key_arn)
        stored = await world.stored()
        assert created == stored
        assert stored.environment == {}
        assert "marker-5f1c" not in repr(stored) + repr(replace(stored, environment=SECRET))
        assert await world.opened() == SECRET
        assert await world.environments.shown(stored) == {"Variables": SECRET}
        assert bool(world.kms.calls) is bool(kms_key_arn)

    run()


@with_kms
async def test_a_function_without_variables_has_no_seal(world: Keys) -> None:
    await world.create()
    stored = await world.stored()
    assert stored.sealed_environment is None
    assert await world.environments.shown(stored) is None
    assert await world.opened() == {}


@with_kms
async def test_a_seal_of_another_function_does_not_open(world: Keys) -> None:
    await world.create(environment=SECRET)
    stolen = replace(await world.stored(), key=replace(KEY, name="thief"))
    with pytest.raises(ServiceException, match="unable to decrypt"):
        await world.environments.open(stolen)


@with_kms
async def test_another_key_encrypts_the_same_variables_anew(world: Keys) -> None:
    await world.create(environment=SECRET)
    own = (await world.stored()).sealed_environment
    for key in (ONE, TWO, ""):
        await world.functions.update_configuration(reference(), {"kms_key_arn": key}, None)
        stored = await world.stored()
        assert stored.kms_key_arn == key
        assert stored.sealed_environment is not None
        assert stored.sealed_environment != own
        assert bool(stored.sealed_environment.data_key) is bool(key)
        assert await world.opened() == SECRET
    assert world.kms.calls[:3] == ["GenerateDataKey one", "Decrypt one", "Decrypt one"]


@with_kms
async def test_what_is_not_changed_keeps_its_seal(world: Keys) -> None:
    await world.create(environment=SECRET, kms_key_arn=ONE)
    sealed = (await world.stored()).sealed_environment
    await world.functions.publish(reference(), None, None, None)
    for changes in ({"timeout_s": 9}, {"environment": SECRET}, {"kms_key_arn": ONE}, {"timeout_s": 3}):
        await world.functions.update_configuration(reference(), changes, None)
        assert (await world.stored()).sealed_environment == sealed
    assert (await world.functions.publish(reference(), None, None, None)).version == "1"
    await world.functions.update_configuration(reference(), {"environment": {"TOKEN": "other"}}, None)
    assert (await world.functions.publish(reference(), None, None, None)).version == "2"
    assert await world.environments.open(await world.stored("1")) == SECRET


@with_kms
async def test_variables_can_be_taken_away(world: Keys) -> None:
    await world.create(environment=SECRET, kms_key_arn=ONE)
    await world.functions.update_configuration(reference(), {"environment": {}}, None)
    stored = await world.stored()
    assert (stored.environment, stored.sealed_environment, stored.kms_key_arn) == ({}, None, ONE)


@pytest.mark.parametrize(
    ("refusal", "error", "message"),
    [
        (
            NeighbourRefused("AccessDeniedException", "no.", 400),
            KMSAccessDeniedException,
            "Lambda was unable to decrypt the environment variables because KMS access was denied. Please check the "
            "function's KMS key settings. KMS Exception: AccessDeniedExceptionKMS Message: no.",
        ),
        (
            NeighbourRefused("DisabledException", "no.", 400),
            KMSDisabledException,
            "Lambda was unable to decrypt the environment variables because the KMS key used is disabled. Please check "
            "the function's KMS key settings. KMS Exception: DisabledExceptionKMS Message: no.",
        ),
        (
            NeighbourRefused("KMSInvalidStateException", "no.", 400),
            KMSInvalidStateException,
            "Lambda was unable to decrypt the environment variables because the state of the KMS key used is not valid "
            "for Decrypt. Please check the function's KMS key settings. "
            "KMS Exception: KMSInvalidStateExceptionKMS Message: no.",
        ),
        (
            NeighbourRefused("NotFoundException", "no.", 400),
            KMSNotFoundException,
            "Lambda was unable to decrypt the environment variables because the KMS key was not found. Please check "
            "the function's KMS key settings. KMS Exception: NotFoundExceptionKMS Message: no.",
        ),
        (
            NeighbourUnavailable("kms is away"),
            ServiceException,
            "Lambda was unable to decrypt the environment variables because KMS does not answer: kms is away",
        ),
    ],
)
def test_a_key_that_cannot_be_used_shows(
    refusal: NeighbourRefused | NeighbourUnavailable, error: type[ServiceError], message: str
) -> None:
    @with_kms
    async def run(world: Keys) -> None:
        await world.create(environment=SECRET, kms_key_arn=ONE)
        world.kms.refuses[ONE] = refusal
        stored = await world.stored()
        with pytest.raises(error) as caught:
            await world.environments.open(stored)
        assert caught.value.message == message
        shown = await world.environments.shown(stored)
        assert shown is not None
        code = refusal.code if isinstance(refusal, NeighbourRefused) else "ServiceException"
        assert shown["Error"]["ErrorCode"] == code
        assert shown["Error"]["Message"].startswith("Lambda was unable to decrypt")
        with pytest.raises(InvalidParameterValueException) as refused:
            await world.functions.update_configuration(reference(), {"kms_key_arn": TWO}, None)
        assert refused.value.message == message
        await world.functions.update_configuration(reference(), {"environment": {"A": "b"}, "kms_key_arn": TWO}, None)
        assert await world.opened() == {"A": "b"}

    run()


@pytest.mark.parametrize("environment", [{}, SECRET])
def test_a_key_that_cannot_be_used_is_not_taken(environment: Mapping[str, str]) -> None:
    @with_kms
    async def run(world: Keys) -> None:
        world.kms.refuses[ONE] = NeighbourRefused("NotFoundException", f"Key '{ONE}' does not exist", 400)
        world.kms.refuses[TWO] = NeighbourUnavailable("away")
        with pytest.raises(InvalidParameterValueException) as caught:
            await world.create(environment=environment, kms_key_arn=ONE)
        assert caught.value.message == (
            "Lambda was unable to configure access to your environment variables because the KMS key is invalid for "
            "CreateGrant. Please check your KMS key settings. KMS Exception: NotFoundException "
            f"KMS Message: Key '{ONE}' does not exist"
        )
        with pytest.raises(ServiceException, match="internal service error"):
            await world.create(environment=environment, kms_key_arn=TWO)
        alias = "arn:aws:kms:us-east-1:000000000000:alias/mine"
        with pytest.raises(InvalidParameterValueException, match="Key Aliases are not supported for this operation"):
            await world.create(environment=environment, kms_key_arn=alias)

    run()


@with_kms
async def test_a_page_asks_once_for_what_has_one_seal(world: Keys) -> None:
    await world.create(environment=SECRET, kms_key_arn=ONE)
    await world.functions.publish(reference(), None, None, None)
    world.kms.calls.clear()
    versions = [await world.stored(), await world.stored("1"), draft(environment={"A": "b"}), draft()]
    shown = await world.environments.shown_each(versions)
    assert shown == [{"Variables": SECRET}, {"Variables": SECRET}, {"Variables": {"A": "b"}}, None]
    assert world.kms.calls == ["Decrypt one"]


@with_kms
async def test_two_changes_at_once_do_not_mix(world: Keys) -> None:
    await world.create(environment=SECRET)
    update = world.functions.update_configuration
    answers = await asyncio.gather(
        update(reference(), {"kms_key_arn": ONE}, None),
        update(reference(), {"environment": {"A": "b"}}, None),
        return_exceptions=True,
    )
    failed = [answer for answer in answers if isinstance(answer, ServiceError)]
    assert [type(error) for error in failed] == [ResourceConflictException]
    assert failed[0].message.startswith("The operation cannot be performed at this time. An update is in progress")
    await world.opened()


def test_what_an_older_lambdad_has_stored_is_sealed() -> None:
    @scenario
    async def run(world: World) -> None:
        store = MemoryStore()
        clear = replace(draft(environment=SECRET), code_sha256="00", revision_id="1")
        empty = replace(clear, key=replace(KEY, name="empty"), environment={})
        for version in (clear, empty):
            await store.write(lambda tables, version=version: tables.put_version(version))  # type: ignore[misc]
        assert await world.environments.seal_old(store) == 1
        stored = await store.read(lambda tables: tables.version(KEY, "$LATEST"))
        assert stored is not None
        assert stored.environment == {}
        assert await world.environments.open(stored) == SECRET
        assert replace(stored, environment=SECRET, sealed_environment=None) == clear
        assert await world.environments.seal_old(store) == 0

    run()


def test_the_representation_of_a_seal_shows_nothing() -> None:
    assert "abc" not in repr(SealedEnvironment("abc", "abc"))

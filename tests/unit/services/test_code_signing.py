"""Code signing configurations, and what they let in, on signatures that are the test's to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lambdad.domain.arns import FunctionKey, FunctionReference
from lambdad.domain.code_signing import ENFORCE, WARN, CodeSigningConfig
from lambdad.domain.errors import (
    CodeSigningConfigNotFoundException,
    CodeVerificationFailedException,
    InvalidCodeSignatureException,
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.layers import LayerKey, LayerUse, parse_version_arn
from lambdad.domain.metric_names import MetricName
from lambdad.domain.tags import CODE_SIGNING_CONFIG, RESOURCE_TAGS
from lambdad.services.code_signing import CodeSigningService, exists
from lambdad.services.layers import LayerDetails
from lambdad.services.tags import TagsService
from unit.services.fakes import KEY, SIGNING_PROFILE, World, draft, reference

HERE = (KEY.account_id, KEY.region)
NEW = replace(KEY, name="new")
MINE = SIGNING_PROFILE
OTHER = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/Other/abcdefghij"
UNKNOWN = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-00000000000000000"
NOT_FOUND = (
    f"The code signing configuration cannot be found. Check that the provided configuration is not deleted: {UNKNOWN}."
)
REFUSED = (
    "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not "
    "configured to accept. Check the provided signature for f."
)


class Signing(World):
    """A world in which digests are the content of packages, so that tests say what is signed by whom."""

    def __init__(self) -> None:
        super().__init__()

        async def read(digest: str) -> AsyncIterator[bytes]:
            yield digest.encode()

        self.tags = TagsService(self.store, {CODE_SIGNING_CONFIG: exists})
        self.signing = CodeSigningService(self.store, self.signatures, read, self.metrics, self.clock)

    async def config(self, policy: str | None = None, profiles: Sequence[str] = (MINE,)) -> CodeSigningConfig:
        return await self.signing.create(*HERE, profiles, policy, "", {"a": "b"})

    async def errors(self) -> float:
        found = await self.metrics.read(
            *HERE, function="f", name=MetricName.SIGNATURE_VALIDATION_ERRORS, since_s=0, until_s=2**40
        )
        return sum(statistics.total for key, statistics in found if len(key.metric.dimensions) == 1)


def signing(test: Any) -> Any:
    def run() -> None:
        asyncio.run(test(Signing()))

    run.__name__ = test.__name__
    return run


@signing
async def test_a_configuration_warns_unless_it_is_told_to_enforce(world: Signing) -> None:
    config = await world.config()
    assert config.untrusted_artifact_on_deployment == WARN
    assert await world.signing.get(config.arn) == config
    assert await world.tags.get(config.arn) == {"a": "b"}
    changed = await world.signing.update(config.arn, [OTHER], ENFORCE, "why")
    assert (changed.signing_profile_version_arns, changed.untrusted_artifact_on_deployment) == ((OTHER,), ENFORCE)
    assert (await world.signing.update(config.arn)).description == "why"
    assert (await world.signing.update(config.arn, description="")).description == ""
    await world.signing.delete(config.arn)
    assert not await world.store.read(lambda tables: tables.records(RESOURCE_TAGS))
    with pytest.raises(ResourceNotFoundException, match="The code signing configuration cannot be found"):
        await world.tags.get(config.arn)
    for attempt in (world.signing.get, world.signing.update, world.signing.delete):
        with pytest.raises(ResourceNotFoundException, match=f"configuration {config.arn} can not be found"):
            await attempt(config.arn)


@signing
async def test_what_is_used_is_not_deleted(world: Signing) -> None:
    await world.create()
    config = await world.config()
    assert await world.signing.function_config(reference()) == ""
    await world.signing.put_function_config(reference(), config.arn)
    assert await world.signing.function_config(reference()) == config.arn
    with pytest.raises(ResourceConflictException):
        await world.signing.delete(config.arn)
    assert await world.signing.functions(config.arn, "", 10) == ([KEY], None)
    await world.signing.delete_function_config(reference())
    assert await world.signing.functions(config.arn, "", 10) == ([], None)
    await world.signing.delete(config.arn)


@signing
async def test_a_function_takes_only_a_configuration_that_there_is(world: Signing) -> None:
    with pytest.raises(ResourceNotFoundException, match="Function not found"):
        await world.signing.put_function_config(reference(), UNKNOWN)
    await world.create()
    with pytest.raises(CodeSigningConfigNotFoundException) as caught:
        await world.signing.put_function_config(reference(), UNKNOWN)
    assert caught.value.message == NOT_FOUND
    with pytest.raises(InvalidParameterValueException, match="permitted on Lambda functions only"):
        await world.signing.put_function_config(reference("1"), UNKNOWN)
    for attempt in (world.signing.function_config, world.signing.delete_function_config):
        with pytest.raises(ResourceNotFoundException):
            await attempt(FunctionReference(FunctionKey(*HERE, "none"), None))


@signing
async def test_lists_go_on_where_they_ended(world: Signing) -> None:
    configs = sorted([await world.config() for _ in range(5)], key=lambda config: config.id)
    found: list[CodeSigningConfig] = []
    after: str | None = ""
    while after is not None:
        page, after = await world.signing.list(*HERE, after, 2)
        found += page
    assert found == configs
    assert await world.signing.list(KEY.account_id, "eu-west-1", "", 2) == ([], None)
    for name in ("a", "b", "c"):
        await world.create(key=FunctionKey(*HERE, name))
        await world.signing.put_function_config(FunctionReference(FunctionKey(*HERE, name), None), configs[0].arn)
    first, after = await world.signing.functions(configs[0].arn, "", 2)
    assert after is not None
    assert [key.name for key in [*first, *(await world.signing.functions(configs[0].arn, after, 2))[0]]] == [
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize("package", ["unsigned", "other", "expired", "revoked"])
def test_what_is_not_accepted_is_refused_or_counted(package: str) -> None:
    @signing
    async def run(world: Signing) -> None:
        strict, lax = await world.config(ENFORCE), await world.config(WARN)
        with pytest.raises(CodeVerificationFailedException) as caught:
            await world.signing.check(strict.arn, KEY, package, ())
        assert caught.value.message == REFUSED
        assert await world.errors() == 0
        assert await world.signing.check(lax.arn, KEY, package, ()) is None
        assert await world.errors() == 1

    run()


@pytest.mark.parametrize("policy", [WARN, ENFORCE])
def test_a_good_signature_is_accepted_and_a_broken_one_never(policy: str) -> None:
    @signing
    async def run(world: Signing) -> None:
        config = await world.config(policy)
        assert await world.signing.check(config.arn, KEY, "good", ()) == world.signatures.known[b"good"]
        with pytest.raises(InvalidCodeSignatureException):
            await world.signing.check(config.arn, KEY, "changed", ())
        assert await world.errors() == 0

    run()


@signing
async def test_layers_are_checked_as_packages_are(world: Signing) -> None:
    config = await world.config(ENFORCE, (OTHER, MINE))
    layers = [LayerUse("arn", name, 1, 1) for name in ("good", "other")]
    assert await world.signing.check(config.arn, KEY, None, layers) is None
    assert await world.signing.check(config.arn, KEY, "good", layers) is not None
    with pytest.raises(CodeVerificationFailedException):
        await world.signing.check(config.arn, KEY, "good", [*layers, LayerUse("arn", "unsigned", 1, 1)])
    with pytest.raises(InvalidCodeSignatureException):
        await world.signing.check(config.arn, KEY, None, [LayerUse("arn", "changed", 1, 1)])


@signing
async def test_without_a_configuration_nothing_is_checked(world: Signing) -> None:
    assert await world.signing.check("", KEY, "changed", ()) is None
    with pytest.raises(CodeSigningConfigNotFoundException):
        await world.signing.check(UNKNOWN, KEY, "good", ())


@signing
async def test_deployments_of_a_function_are_checked(world: Signing) -> None:
    config = await world.config(ENFORCE)
    functions = world.functions

    async def create(package: bytes, arn: str = config.arn) -> Any:
        return await functions.create(draft(), package, {}, False, (), arn)

    with pytest.raises(CodeVerificationFailedException):
        await create(b"unsigned")
    with pytest.raises(InvalidCodeSignatureException):
        await create(b"changed")
    with pytest.raises(CodeSigningConfigNotFoundException):
        await create(b"good", UNKNOWN)
    created = await create(b"good")
    assert (created.signing_profile_version_arn, created.signing_job_arn) == (MINE, "job")
    assert await world.signing.function_config(reference()) == config.arn
    for dry_run in (True, False):
        with pytest.raises(CodeVerificationFailedException):
            await functions.update_code(reference(), b"unsigned", dry_run=dry_run)
        assert (await functions.update_code(reference(), b"good", dry_run=dry_run)).signing_job_arn == "job"
    await world.signing.update(config.arn, policy=WARN)
    updated = await functions.update_code(reference(), b"unsigned")
    assert (updated.signing_profile_version_arn, updated.signing_job_arn) == ("", "")
    with pytest.raises(InvalidCodeSignatureException):
        await functions.update_code(reference(), b"changed")
    await world.signing.delete_function_config(reference())
    await functions.update_code(reference(), b"changed")


@signing
async def test_a_layer_that_goes_while_it_is_checked_is_refused(world: Signing) -> None:
    config = await world.config()
    await world.functions.create(draft(), b"other", {}, False, (), config.arn)
    resolve = world.layers.resolve

    async def gone_meanwhile(version: FunctionVersion, arns: Sequence[str]) -> tuple[LayerUse, ...]:
        found = await resolve(version, arns)
        for arn in arns:
            await world.layers.delete(*parse_version_arn(arn))
        await world.code.settle()
        return found

    world.layers.resolve = gone_meanwhile  # type: ignore[method-assign]
    for update in (
        lambda arn: world.functions.create(draft(NEW), b"other", {}, False, [arn], config.arn),
        lambda arn: world.functions.update_configuration(reference(), {"layers": [arn]}, None),
    ):
        layer = await world.layers.publish(LayerKey(*HERE, "deps"), b"good", LayerDetails())
        with pytest.raises(InvalidParameterValueException, match=f"^Layer version {layer.arn} does not exist.$"):
            await update(layer.arn)

"""Layers, their permissions, and functions that use them, on the in-memory adapters."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from lambdad.domain import quotas
from lambdad.domain.arns import FunctionKey
from lambdad.domain.errors import (
    AccessDeniedException,
    CodeStorageExceededException,
    InvalidParameterValueException,
    PolicyLengthExceededException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
    ServiceError,
)
from lambdad.domain.layers import LAYER_POLICIES, LAYER_VERSIONS, VERSION_END, LayerKey, LayerVersion, merged_sha256
from lambdad.domain.resource_policies import Grant
from lambdad.services.layers import LayerDetails, check_unzipped, require_archives
from unit.services.fakes import KEY, World, draft, reference, scenario

ACCOUNT, FRIEND, REGION = KEY.account_id, "111111111111", KEY.region
LAYER = LayerKey(ACCOUNT, REGION, "deps")
FOR_PYTHON = LayerDetails("of python", "MIT", ("python3.11", "python3.12"), ("x86_64",))
USE = "lambda:GetLayerVersion"


async def publish(
    world: World, name: str = "deps", archive: bytes = b"layer", details: LayerDetails = FOR_PYTHON, **place: str
) -> LayerVersion:
    key = LayerKey(place.get("account_id", ACCOUNT), place.get("region", REGION), name)
    return await world.layers.publish(key, archive, details)


async def refused(operation: Awaitable[Any], error: type[ServiceError], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        await operation


@scenario
async def test_a_published_version_is_found_again(world: World) -> None:
    published = await publish(world, archive=b"archive")
    assert published.arn == "arn:aws:lambda:us-east-1:000000000000:layer:deps:1"
    assert published.code_sha256 == hashlib.sha256(b"archive").hexdigest()
    assert (published.code_size, published.unzipped_bytes) == (7, 7)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", published.created)
    assert await world.layers.get(ACCOUNT, REGION, LAYER, 1) == published
    assert b"".join([chunk async for chunk in world.layers.read(published)]) == b"archive"


@scenario
async def test_numbers_are_not_used_again(world: World) -> None:
    assert [(await publish(world)).version for _ in range(2)] == [1, 2]
    await world.layers.delete(LAYER, 2)
    await world.layers.delete(LAYER, 1)
    await world.layers.delete(LAYER, 1)
    assert (await publish(world)).version == 3
    assert (await publish(world, "other")).version == 1
    assert (await publish(world, account_id=FRIEND)).version == 1


@scenario
async def test_versions_are_listed_newest_first_and_by_what_they_fit(world: World) -> None:
    node = LayerDetails("", "", ("nodejs22.x",), ("arm64", "x86_64"))
    for details in (FOR_PYTHON, node, LayerDetails(), FOR_PYTHON):
        await publish(world, details=details)

    async def listed(**wanted: Any) -> tuple[list[int], str]:
        page = await world.layers.list_versions(LAYER, **wanted)
        return [version.version for version in page.versions], page.next_after

    assert await listed() == ([4, 3, 2, 1], "")
    assert await listed(limit=3) == ([4, 3, 2], "2")
    assert await listed(limit=3, after="2") == ([1], "")
    assert await listed(runtime="python3.11") == ([4, 1], "")
    assert await listed(runtime="python3.11", limit=1) == ([4], "4")
    assert await listed(architecture="arm64") == ([2], "")
    assert await listed(runtime="python3.11", architecture="arm64") == ([], "")
    assert (await world.layers.list_versions(replace(LAYER, name="absent"))).versions == []
    for marker in ("x", "0", "-1", str(VERSION_END)):
        await refused(listed(after=marker), InvalidParameterValueException, "Invalid marker")


@scenario
async def test_layers_are_listed_by_name_with_their_newest_version_that_fits(world: World) -> None:
    for name in ("b", "a", "c", "d"):
        await publish(world, name)
    await publish(world, "b", details=LayerDetails())
    await publish(world, "elsewhere", region="eu-west-1")
    await world.layers.delete(replace(LAYER, name="c"), 1)

    async def listed(**wanted: Any) -> tuple[list[tuple[str, int]], str]:
        page = await world.layers.list_layers(ACCOUNT, REGION, **wanted)
        return [(version.key.name, version.version) for version in page.versions], page.next_after

    assert await listed() == ([("a", 1), ("b", 2), ("d", 1)], "")
    assert await listed(runtime="python3.12") == ([("a", 1), ("b", 1), ("d", 1)], "")
    assert await listed(limit=2) == ([("a", 1), ("b", 2)], "b")
    assert await listed(limit=2, after="b") == ([("d", 1)], "")
    assert await listed(architecture="arm64") == ([], "")


@scenario
async def test_many_layers_and_versions_are_listed_to_the_end(world: World) -> None:
    for number in range(105):
        await publish(world, f"layer-{number:03d}", details=LayerDetails())
        await publish(world, details=LayerDetails() if number else FOR_PYTHON)
    page = await world.layers.list_layers(ACCOUNT, REGION, runtime="python3.11")
    assert [version.arn for version in page.versions] == [LAYER.version_arn(1)]
    names = [version.key.name for version in (await world.layers.list_layers(ACCOUNT, REGION, limit=200)).versions]
    assert names == ["deps", *(f"layer-{number:03d}" for number in range(105))]
    versions = (await world.layers.list_versions(LAYER, limit=200)).versions
    assert [version.version for version in versions] == list(range(105, 0, -1))


@scenario
async def test_what_is_not_there(world: World) -> None:
    await publish(world)
    absent = "The resource you requested does not exist."
    for key, version in ((LAYER, 2), (LAYER, VERSION_END + 1), (replace(LAYER, name="other"), 1)):
        await refused(world.layers.get(ACCOUNT, REGION, key, version), ResourceNotFoundException, absent)
    below = "Layer Version Cannot be less than 1."
    for version in (0, -1):
        await refused(world.layers.get(ACCOUNT, REGION, LAYER, version), InvalidParameterValueException, below)
        await refused(world.layers.delete(LAYER, version), InvalidParameterValueException, below)
    gone = f"Layer version {LAYER.version_arn(9)} does not exist."
    grant = Grant("s", USE, FRIEND)
    await refused(world.layers.add_permission(LAYER, 9, grant, None), ResourceNotFoundException, gone)
    await refused(world.layers.policy(LAYER, 9), ResourceNotFoundException, gone)
    none = "No policy is associated with the given resource."
    await refused(world.layers.policy(LAYER, 1), ResourceNotFoundException, none)
    await refused(world.layers.remove_permission(LAYER, 1, "s", None), ResourceNotFoundException, none)


@scenario
async def test_others_may_use_what_they_are_allowed_to(world: World) -> None:
    shared = await publish(world)
    await publish(world)
    friend = FunctionKey(FRIEND, REGION, "f")
    denied = (
        f"User: arn:aws:iam::{FRIEND}:root is not authorized to perform: lambda:GetLayerVersion on resource: {{}} "
        "because no resource-based policy allows the lambda:GetLayerVersion action"
    )

    async def is_shut(version: int) -> None:
        message = denied.format(LAYER.version_arn(version))
        await refused(world.layers.get(FRIEND, REGION, LAYER, version), AccessDeniedException, message)
        used = world.layers.resolve(draft(friend), [LAYER.version_arn(version)])
        await refused(used, AccessDeniedException, message)

    for version in (1, 2, 3):
        await is_shut(version)
    statement, revision = await world.layers.add_permission(LAYER, 1, Grant("s", USE, FRIEND), None)
    assert statement.document() == {
        "Sid": "s",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{FRIEND}:root"},
        "Action": USE,
        "Resource": shared.arn,
    }
    assert (await world.layers.policy(LAYER, 1)).revision_id == revision
    assert await world.layers.get(FRIEND, REGION, LAYER, 1) == shared
    assert await world.layers.resolve(draft(friend), [shared.arn]) == (shared.use,)
    await is_shut(2)
    elsewhere = replace(friend, region="eu-west-1")
    message = denied.format(shared.arn)
    await refused(world.layers.resolve(draft(elsewhere), [shared.arn]), AccessDeniedException, message)
    await world.layers.remove_permission(LAYER, 1, "s", revision)
    await is_shut(1)
    organization = Grant("o", USE, "*", principal_org_id="o-a1b2c3d4e5f")
    await world.layers.add_permission(LAYER, 1, organization, None)
    await is_shut(1)
    await world.layers.add_permission(LAYER, 1, Grant("all", USE, "*"), None)
    assert await world.layers.get(FRIEND, REGION, LAYER, 1) == shared
    await world.layers.delete(LAYER, 1)
    await is_shut(1)
    assert not await world.store.read(lambda tables: tables.records(LAYER_POLICIES))


@scenario
async def test_changes_of_a_policy_are_checked(world: World) -> None:
    await publish(world)
    grant = Grant("s", USE, FRIEND)
    stale = (
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetLayerVersionPolicy API to retrieve the latest Revision Id"
    )
    await refused(world.layers.add_permission(LAYER, 1, grant, "x"), PreconditionFailedException, stale)
    _, first = await world.layers.add_permission(LAYER, 1, grant, None)
    taken = (
        "The statement id (s) provided already exists. Please provide a new statement id, or remove the existing "
        "statement."
    )
    await refused(world.layers.add_permission(LAYER, 1, grant, None), ResourceConflictException, taken)
    _, second = await world.layers.add_permission(LAYER, 1, replace(grant, sid="t"), first)
    assert second != first
    await refused(world.layers.remove_permission(LAYER, 1, "s", first), PreconditionFailedException, stale)
    absent = "Statement u is not found in resource policy."
    await refused(world.layers.remove_permission(LAYER, 1, "u", None), ResourceNotFoundException, absent)
    await world.layers.remove_permission(LAYER, 1, "s", second)
    assert [statement.sid for statement in (await world.layers.policy(LAYER, 1)).statements] == ["t"]

    async def fill() -> None:
        for number in range(200):
            await world.layers.add_permission(LAYER, 1, replace(grant, sid=f"{'s' * 90}{number}"), None)

    with pytest.raises(PolicyLengthExceededException, match="is bigger than the limit"):
        await fill()


@scenario
async def test_what_a_function_cannot_use(world: World) -> None:
    one, two = await publish(world), await publish(world)
    others = [(await publish(world, f"layer-{number}")).arn for number in range(6)]
    version = draft()
    wrong = InvalidParameterValueException
    await refused(world.layers.resolve(version, others), wrong, "Cannot reference more than 5 layers.")
    await refused(
        world.layers.resolve(version, [others[0], one.arn, two.arn]),
        wrong,
        "Two different versions of the same layer are not allowed to be referenced in the same function. "
        f"{one.arn} and {two.arn} are versions of the same layer.",
    )
    absent = LAYER.version_arn(3)
    await refused(world.layers.resolve(version, [absent]), wrong, f"Layer version {absent} does not exist.")
    elsewhere = LAYER.version_arn(1).replace(REGION, "eu-west-1")
    message = f"Layers are not in the same region as the function. Layers are expected to be in region {REGION}."
    await refused(world.layers.resolve(version, [elsewhere]), wrong, message)
    for no_version in (LAYER.arn, "arn:aws:lambda:::awslayer:x", "deps:1"):
        await refused(world.layers.resolve(version, [no_version]), wrong, f"Invalid layer version arn: {no_version}")
    assert await world.layers.resolve(version, []) == ()
    assert [use.arn for use in await world.layers.resolve(version, [*others[:4], two.arn])] == [*others[:4], two.arn]


@scenario
async def test_neither_runtime_nor_architecture_is_looked_at(world: World) -> None:
    layer = await publish(world, details=LayerDetails("", "", ("nodejs22.x",), ("arm64",)))
    created = await world.functions.create(draft(), b"one", {}, False, [layer.arn])
    assert created.layers == (layer.use,)


@pytest.mark.parametrize(
    ("code", "layers", "message"),
    [
        (100, [50, 50], None),
        (quotas.UNZIPPED_BYTES - 100, [50, 50], None),
        (0, [quotas.UNZIPPED_BYTES, 1], "Layers consume more than the available size of 262144000 bytes"),
        (
            quotas.UNZIPPED_BYTES - 100,
            [50, 51],
            "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. "
            "The actual size is 262144001 bytes.",
        ),
    ],
)
def test_code_and_layers_have_a_largest_size(code: int, layers: list[int], message: str | None) -> None:
    @scenario
    async def run(world: World) -> None:
        use = (await publish(world)).use
        version = replace(
            draft(), code_unzipped_bytes=code, layers=tuple(replace(use, unzipped_bytes=size) for size in layers)
        )
        if message is None:
            check_unzipped(version)
            return
        with pytest.raises(InvalidParameterValueException, match=f"^{re.escape(message)}$"):
            check_unzipped(version)

    run()


@scenario
async def test_new_code_has_to_fit_beside_the_layers(world: World) -> None:
    layer = await publish(world)
    large = replace(layer, key=replace(LAYER, name="large"), unzipped_bytes=quotas.UNZIPPED_BYTES - 5)
    await world.store.write(lambda tables: tables.put_record(LAYER_VERSIONS, large))
    await world.functions.create(draft(), b"12345", {}, False, [large.arn])
    too_large = (
        "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. "
        "The actual size is 262144001 bytes."
    )
    await refused(world.functions.update_code(reference(), b"123456"), InvalidParameterValueException, too_large)
    await world.functions.update_code(reference(), b"1")
    more = world.functions.update_configuration(reference(), {"layers": [large.arn, layer.arn]}, None)
    await refused(more, InvalidParameterValueException, too_large)


@scenario
async def test_layers_count_for_the_storage_of_an_account(world: World) -> None:
    layer = await publish(world, archive=b"x" * 30)

    def fill(tables: Any) -> None:
        tables.put_record(LAYER_VERSIONS, replace(layer, version=9, code_size=quotas.CODE_STORAGE_BYTES - 50))

    await world.create(b"12345")
    assert (await world.functions.usage(ACCOUNT, REGION)).code_bytes == 35
    await world.store.write(fill)
    full = "Code storage limit exceeded."
    await refused(publish(world, archive=b"x" * 21), CodeStorageExceededException, full)
    await refused(world.create(b"x" * 21, replace(KEY, name="g")), CodeStorageExceededException, full)
    await publish(world, archive=b"x" * 15)


@scenario
async def test_every_version_counts_for_the_storage_of_an_account(world: World) -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: "each function version" does."""
    layer = await publish(world, archive=b"x")
    await world.create(b"12345")
    await world.functions.publish(reference(), None, None, None)

    def fill(tables: Any) -> None:
        tables.put_record(LAYER_VERSIONS, replace(layer, version=9, code_size=quotas.CODE_STORAGE_BYTES - 18))

    await world.store.write(fill)
    full = "Code storage limit exceeded."
    twice = world.functions.create(replace(draft(), key=replace(KEY, name="g")), b"123456", {}, True)
    await refused(twice, CodeStorageExceededException, full)
    await world.functions.publish(reference(), None, None, None)
    await world.functions.update_code(reference(), b"12345678")
    await refused(world.functions.publish(reference(), None, None, None), CodeStorageExceededException, full)
    await refused(
        world.functions.update_code(reference(), b"1234567", publish=True), CodeStorageExceededException, full
    )
    assert (await world.functions.get(reference())).version.code_size == 8
    assert (await world.functions.usage(ACCOUNT, REGION)).functions == 1


@scenario
async def test_archives_are_kept_as_long_as_anything_uses_them(world: World) -> None:
    one, two = await publish(world, "one", b"1"), await publish(world, "two", b"2")
    await world.functions.create(draft(), b"code", {}, True, [one.arn, two.arn])

    async def kept(*layers: LayerVersion) -> list[bool]:
        await world.code.settle()
        return [await world.blobs.exists(layer.code_sha256) for layer in layers]

    await world.layers.delete(one.key, 1)
    await world.layers.delete(two.key, 1)
    assert await kept(one, two) == [True, True]
    await world.functions.update_configuration(reference(), {"layers": []}, None)
    assert await kept(one, two) == [True, True]
    assert await world.store.read(lambda tables: tables.code_is_used(merged_sha256([one.code_sha256, two.code_sha256])))
    await refused(
        world.functions.update_configuration(reference(), {"layers": [one.arn]}, None),
        InvalidParameterValueException,
        f"Layer version {one.arn} does not exist.",
    )
    await world.functions.delete(reference("1"))
    assert await kept(one, two) == [False, False]


@scenario
async def test_a_layer_that_goes_while_a_function_takes_it_is_refused(world: World) -> None:
    layer = await publish(world)
    uses = await world.layers.resolve(draft(), [layer.arn])
    await world.store.read(lambda tables: require_archives(tables, uses))
    await world.layers.delete(LAYER, 1)
    gone = f"Layer version {layer.arn} does not exist."
    await refused(world.store.read(lambda tables: require_archives(tables, uses)), InvalidParameterValueException, gone)


@scenario
async def test_an_archive_that_nothing_uses_is_removed(world: World) -> None:
    layer = await publish(world)
    same = await publish(world, "same")
    await world.layers.delete(LAYER, 1)
    await world.code.settle()
    assert await world.blobs.exists(layer.code_sha256)
    await world.layers.delete(same.key, 1)
    await world.code.settle()
    assert not await world.blobs.exists(layer.code_sha256)


@scenario
async def test_only_an_archive_that_a_layer_has_is_linked_to(world: World) -> None:
    layer = await publish(world)
    assert await world.layers.version_with_code(LAYER, layer.code_sha256) == layer
    assert await world.layers.version_with_code(LAYER, "f" * 64) is None
    assert await world.layers.version_with_code(replace(LAYER, account_id=FRIEND), layer.code_sha256) is None


@scenario
async def test_what_is_retained_stays_until_it_is_let_go(world: World) -> None:
    layer = await publish(world)
    async with world.code.retain([layer.code_sha256]):
        await world.layers.delete(LAYER, 1)
        await world.code.settle()
        assert await world.blobs.exists(layer.code_sha256)
    await world.code.settle()
    assert not await world.blobs.exists(layer.code_sha256)

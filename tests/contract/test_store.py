"""What every store does: the SQLite file and the in-memory twin alike."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lambdad.adapters.memory_store import MemoryStore
from lambdad.adapters.sqlite_store import SqliteStore
from lambdad.domain.arns import LATEST, FunctionKey
from lambdad.domain.functions import (
    EVENT_INVOKE_CONFIGS,
    Alias,
    EventInvokeConfig,
    Function,
    FunctionVersion,
    LoggingConfig,
)
from lambdad.domain.layers import LAYER_VERSIONS, LayerKey, LayerVersion, archives_of, merged_sha256
from lambdad.domain.resource_policies import RESOURCE_POLICIES, Grant, ResourcePolicy
from lambdad.domain.s3_notifications import BUCKET_NOTIFICATIONS, BucketNotifications, FilterRule, Kind, Notification
from lambdad.domain.sealed_environments import SealedEnvironment
from lambdad.ports.store import Store, StoreUnavailable, Tables

ACCOUNT, OTHER_ACCOUNT = "000000000000", "111111111111"
REGION, OTHER_REGION = "us-east-1", "eu-west-1"
KEY = FunctionKey(ACCOUNT, REGION, "orders")
OTHER_KEY = FunctionKey(ACCOUNT, REGION, "orders-archive")
NEIGHBOURS = (
    OTHER_KEY,
    FunctionKey(OTHER_ACCOUNT, REGION, "orders"),
    FunctionKey(ACCOUNT, OTHER_REGION, "orders"),
)


class Refused(Exception):
    """What a unit of work raises when it changes its mind."""


class Abandoned(BaseException):
    """What is not even an Exception."""


def version_of(key: FunctionKey, version: str = LATEST, code_sha256: str = "a" * 64, **fields: Any) -> FunctionVersion:
    required = {
        "role": "arn:aws:iam::000000000000:role/lambda",
        "runtime": "python3.12",
        "handler": "app.handler",
        "code_size": 1000,
        "logging": LoggingConfig(f"/aws/lambda/{key.name}", log_format="JSON", system_log_level="WARN"),
        "revision_id": "7b1e4a0e-0000-4000-8000-000000000000",
        "last_modified": "2026-11-21T03:54:24.123+0000",
    }
    return FunctionVersion(key=key, version=version, code_sha256=code_sha256, **{**required, **fields})


def alias_of(key: FunctionKey, name: str, function_version: str = "1", **fields: Any) -> Alias:
    return Alias(key, name, function_version, "", "7b1e4a0e-0000-4000-8000-000000000001", **fields)


def config_of(key: FunctionKey, qualifier: str = LATEST, **fields: Any) -> EventInvokeConfig:
    return EventInvokeConfig(key, qualifier, last_modified_s=1795233264.5, **fields)


def policy_of(key: FunctionKey, qualifier: str = "") -> ResourcePolicy:
    grant = Grant("s3", "lambda:InvokeFunction", "s3.amazonaws.com", "arn:aws:s3:::b*", key.account_id)
    everyone = Grant("everyone", "*", "*").statement(key.arn)
    return ResourcePolicy(key, qualifier, (grant.statement(key.arn), everyone))


def notifications_of(bucket: str, **fields: Any) -> BucketNotifications:
    rules = (FilterRule("Prefix", "in/"), FilterRule("Suffix", ".jpg"))
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
    notification = Notification("uploads", Kind.FUNCTION, arn, ("s3:ObjectCreated:*",), rules)
    return BucketNotifications(bucket, ACCOUNT, REGION, (notification,), **fields)


def put_whole(tables: Tables, key: FunctionKey) -> None:
    """A function with `$LATEST`, two versions and an alias, and a configuration and a policy of all but version 2."""
    tables.put_function(Function(key))
    for version in (LATEST, "1", "2"):
        tables.put_version(version_of(key, version))
    tables.put_alias(alias_of(key, "live"))
    for qualifier in (LATEST, "1", "live"):
        tables.put_record(EVENT_INVOKE_CONFIGS, config_of(key, qualifier))
    for qualifier in ("", "1", "live"):
        tables.put_record(RESOURCE_POLICIES, policy_of(key, qualifier))


def configured(tables: Tables, key: FunctionKey) -> list[str]:
    """The qualifiers that have a configuration."""
    return [config.qualifier for config in tables.records(EVENT_INVOKE_CONFIGS, *key.parts, after="", limit=10)]


def with_policy(tables: Tables, key: FunctionKey) -> list[str]:
    """The qualifiers that have a policy."""
    return [
        qualifier
        for qualifier in ("", LATEST, "1", "2", "live")
        if tables.record(RESOURCE_POLICIES, *key.parts, qualifier)
    ]


def put_all(tables: Tables, *records: Function | FunctionVersion | Alias | EventInvokeConfig) -> None:
    for record in records:
        match record:
            case Function():
                tables.put_function(record)
            case FunctionVersion():
                tables.put_version(record)
            case Alias():
                tables.put_alias(record)
            case EventInvokeConfig():
                tables.put_record(EVENT_INVOKE_CONFIGS, record)


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store = SqliteStore(tmp_path / "lambdad.db") if request.param == "sqlite" else MemoryStore()
    yield store
    asyncio.run(store.close())


def in_event_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 60))

    return run


# Records


@in_event_loop
async def test_an_empty_store_has_nothing(store: Store):
    def check(tables: Tables) -> None:
        assert tables.function(KEY) is None
        assert tables.version(KEY, LATEST) is None
        assert tables.alias(KEY, "live") is None
        assert list(tables.functions(ACCOUNT, REGION)) == []
        assert list(tables.versions(KEY, -1, 10)) == []
        assert list(tables.latest_versions(ACCOUNT, REGION, "", 10)) == []
        assert list(tables.all_versions(ACCOUNT, REGION, ("", -1), 10)) == []
        assert list(tables.aliases(KEY, "", 10)) == []
        assert tables.record(EVENT_INVOKE_CONFIGS, *KEY.parts, LATEST) is None
        assert list(tables.records(EVENT_INVOKE_CONFIGS, *KEY.parts, after="", limit=10)) == []
        assert tables.record(RESOURCE_POLICIES, *KEY.parts, "") is None
        assert tables.code_in_use() == set()
        assert tables.code_is_used("a" * 64) is False
        assert tables.code_bytes(ACCOUNT, REGION) == 0
        assert tables.function_count(ACCOUNT, REGION) == 0

    await store.read(check)
    await store.write(check)


@in_event_loop
async def test_records_come_back_as_they_were_put(store: Store):
    function = Function(KEY, tags={"team": "Köln", "empty": ""}, next_version=7, reserved_concurrency=0)
    version = version_of(
        KEY, "3", environment={"B": "2", "A": "\U0001f600 \ud800 \x00"}, timeout_s=900, description='it\'s "quoted"'
    )
    alias = alias_of(KEY, "live", additional_version="2", additional_weight=0.1)
    config = config_of(KEY, "live", max_retry_attempts=0, max_event_age_s=60, on_failure="arn:aws:s3:::failures")
    bare = config_of(KEY, LATEST)
    await store.write(lambda tables: put_all(tables, function, version, alias, config, bare))

    def check(tables: Tables) -> None:
        assert tables.function(KEY) == function
        assert tables.version(KEY, "3") == version
        assert tables.alias(KEY, "live") == alias
        assert tables.record(EVENT_INVOKE_CONFIGS, *KEY.parts, "live") == config
        assert tables.record(EVENT_INVOKE_CONFIGS, *KEY.parts, LATEST) == bare
        assert tables.record(EVENT_INVOKE_CONFIGS, *KEY.parts, "3") is None

    await store.read(check)


@in_event_loop
async def test_a_unit_of_work_sees_what_it_wrote(store: Store):
    def work(tables: Tables) -> None:
        put_whole(tables, KEY)
        assert tables.function(KEY) == Function(KEY)
        assert tables.function_count(ACCOUNT, REGION) == 1
        assert [version.version for version in tables.versions(KEY, -1, 10)] == [LATEST, "1", "2"]
        tables.delete_version(KEY, "1")
        assert tables.version(KEY, "1") is None

    await store.write(work)


@in_event_loop
async def test_the_result_of_work_is_handed_back(store: Store):
    assert await store.write(lambda tables: tables.function_count(ACCOUNT, REGION)) == 0
    assert await store.read(lambda tables: "anything") == "anything"
    assert await store.write(lambda tables: None) is None


@in_event_loop
async def test_what_is_put_again_is_replaced_and_keeps_what_hangs_on_it(store: Store):
    def work(tables: Tables) -> None:
        put_whole(tables, KEY)
        tables.put_function(Function(KEY, reserved_concurrency=5))
        tables.put_version(version_of(KEY, LATEST, "b" * 64, code_size=7))
        tables.put_alias(alias_of(KEY, "live", "2"))
        tables.put_record(EVENT_INVOKE_CONFIGS, config_of(KEY, LATEST, max_retry_attempts=1))

    await store.write(work)

    def check(tables: Tables) -> None:
        assert tables.function(KEY) == Function(KEY, reserved_concurrency=5)
        assert [version.version for version in tables.versions(KEY, -1, 10)] == [LATEST, "1", "2"]
        assert [alias.function_version for alias in tables.aliases(KEY, "", 10)] == ["2"]
        assert tables.record(EVENT_INVOKE_CONFIGS, *KEY.parts, LATEST) == config_of(KEY, LATEST, max_retry_attempts=1)
        assert configured(tables, KEY) == [LATEST, "1", "live"]
        assert tables.code_in_use() == {"a" * 64, "b" * 64}
        assert tables.code_bytes(ACCOUNT, REGION) == 2007

    await store.read(check)


@in_event_loop
async def test_changing_what_was_put_or_read_does_not_change_the_store(store: Store):
    environment = {"A": "1"}
    await store.write(lambda tables: tables.put_version(version_of(KEY, environment=environment)))
    environment["A"] = "2"
    for _ in range(2):
        version = await store.read(lambda tables: tables.version(KEY, LATEST))
        assert version is not None
        assert version.environment == {"A": "1"}
        assert isinstance(version.environment, dict)
        version.environment["A"] = "3"


@pytest.mark.parametrize("name", ["", "live", "0", "007", "-1", "1 ", "+1", "\u0661", "1" * 40])
def test_what_is_no_version_number_names_no_version(store: Store, name: str):
    @in_event_loop
    async def scenario() -> None:
        await store.write(lambda tables: put_whole(tables, KEY))
        await store.write(lambda tables: tables.put_version(version_of(KEY, "7")))
        await store.write(lambda tables: tables.delete_version(KEY, name))
        assert await store.read(lambda tables: tables.version(KEY, name)) is None
        assert len(await store.read(lambda tables: tables.versions(KEY, -1, 10))) == 4
        with pytest.raises(ValueError, match="neither"):
            await store.write(lambda tables: tables.put_version(version_of(KEY, name)))

    scenario()


@in_event_loop
async def test_a_record_that_could_not_be_read_back_is_refused(store: Store):
    with pytest.raises(TypeError):
        await store.write(lambda tables: tables.put_version(version_of(KEY, timeout_s="3")))
    assert await store.read(lambda tables: tables.version(KEY, LATEST)) is None


# Deletion


@in_event_loop
async def test_a_version_number_is_remembered_beyond_its_function(store: Store):
    def number(key: FunctionKey) -> Callable[[Tables], int]:
        return lambda tables: tables.remembered_version_number(key)

    assert await store.read(number(KEY)) == 1
    await store.write(lambda tables: put_whole(tables, KEY))
    await store.write(lambda tables: tables.remember_version_number(KEY, 7))
    await store.write(lambda tables: tables.delete_function(KEY))
    assert await store.read(number(KEY)) == 7
    assert await store.read(number(NEIGHBOURS[0])) == 1
    await store.write(lambda tables: tables.remember_version_number(KEY, 9))
    assert await store.read(number(KEY)) == 9


@in_event_loop
async def test_deleting_a_function_takes_its_versions_and_aliases_and_nobody_elses(store: Store):
    def work(tables: Tables) -> None:
        for key in (KEY, *NEIGHBOURS):
            put_whole(tables, key)

    await store.write(work)
    await store.write(lambda tables: tables.delete_function(KEY))

    def check(tables: Tables) -> None:
        assert tables.function(KEY) is None
        assert list(tables.versions(KEY, -1, 10)) == []
        assert list(tables.aliases(KEY, "", 10)) == []
        assert configured(tables, KEY) == []
        for key in NEIGHBOURS:
            assert tables.function(key) == Function(key)
            assert len(tables.versions(key, -1, 10)) == 3
            assert [alias.key for alias in tables.aliases(key, "", 10)] == [key]
            assert configured(tables, key) == [LATEST, "1", "live"]

    await store.read(check)


@in_event_loop
async def test_deleting_a_version_or_alias_leaves_the_rest(store: Store):
    def work(tables: Tables) -> None:
        put_whole(tables, KEY)
        put_whole(tables, OTHER_KEY)
        tables.put_alias(alias_of(KEY, "beta"))
        tables.delete_version(KEY, "1")
        tables.delete_alias(KEY, "live")

    await store.write(work)

    def check(tables: Tables) -> None:
        assert [version.version for version in tables.versions(KEY, -1, 10)] == [LATEST, "2"]
        assert [alias.name for alias in tables.aliases(KEY, "", 10)] == ["beta"]
        assert configured(tables, KEY) == [LATEST]
        assert len(tables.versions(OTHER_KEY, -1, 10)) == 3
        assert len(tables.aliases(OTHER_KEY, "", 10)) == 1
        assert configured(tables, OTHER_KEY) == [LATEST, "1", "live"]

    await store.read(check)


@in_event_loop
async def test_deleting_a_configuration_leaves_what_it_was_for(store: Store):
    def work(tables: Tables) -> None:
        put_whole(tables, KEY)
        put_whole(tables, OTHER_KEY)
        tables.delete_record(EVENT_INVOKE_CONFIGS, *KEY.parts, "live")
        tables.delete_record(EVENT_INVOKE_CONFIGS, *KEY.parts, "live")

    await store.write(work)

    def check(tables: Tables) -> None:
        assert configured(tables, KEY) == [LATEST, "1"]
        assert tables.alias(KEY, "live") == alias_of(KEY, "live")
        assert configured(tables, OTHER_KEY) == [LATEST, "1", "live"]

    await store.read(check)


@in_event_loop
async def test_a_policy_goes_with_what_it_is_of(store: Store):
    def work(tables: Tables) -> list[list[str]]:
        for key in (KEY, *NEIGHBOURS):
            put_whole(tables, key)
        seen = [with_policy(tables, KEY)]
        for change in (
            lambda: tables.delete_record(RESOURCE_POLICIES, *KEY.parts, ""),
            lambda: tables.delete_version(KEY, "1"),
            lambda: tables.delete_alias(KEY, "live"),
        ):
            change()
            seen.append(with_policy(tables, KEY))
        put_whole(tables, KEY)
        tables.delete_function(KEY)
        return [*seen, with_policy(tables, KEY)]

    assert await store.write(work) == [["", "1", "live"], ["1", "live"], ["live"], [], []]

    def check(tables: Tables) -> None:
        for key in NEIGHBOURS:
            assert with_policy(tables, key) == ["", "1", "live"]
            assert tables.record(RESOURCE_POLICIES, *key.parts, "live") == policy_of(key, "live")

    await store.read(check)


@in_event_loop
async def test_a_policy_that_is_put_again_is_replaced(store: Store):
    shorter = replace(policy_of(KEY), statements=policy_of(KEY).statements[:1])

    def work(tables: Tables) -> None:
        tables.put_record(RESOURCE_POLICIES, policy_of(KEY))
        tables.put_record(RESOURCE_POLICIES, shorter)

    await store.write(work)
    assert await store.read(lambda tables: tables.record(RESOURCE_POLICIES, *KEY.parts, "")) == shorter


@in_event_loop
async def test_deleting_what_is_not_there_does_nothing(store: Store):
    def work(tables: Tables) -> None:
        put_whole(tables, KEY)
        tables.delete_function(OTHER_KEY)
        tables.delete_version(KEY, "9")
        tables.delete_alias(KEY, "nobody")
        tables.delete_record(RESOURCE_POLICIES, *KEY.parts, "nobody")

    await store.write(work)
    assert len(await store.read(lambda tables: tables.versions(KEY, -1, 10))) == 3


# Lists


@in_event_loop
async def test_functions_are_ordered_by_name(store: Store):
    names = ["a_b", "a-b", "B", "a", "ab", "Z9", "0"]
    random.Random(1).shuffle(names)
    await store.write(lambda tables: put_all(tables, *(Function(FunctionKey(ACCOUNT, REGION, name)) for name in names)))
    functions = await store.read(lambda tables: tables.functions(ACCOUNT, REGION))
    assert [function.key.name for function in functions] == sorted(names)


@in_event_loop
async def test_versions_are_ordered_by_number_with_latest_first(store: Store):
    numbers = [10, 2, 1, 9, 100, 11]
    await store.write(
        lambda tables: put_all(tables, *(version_of(KEY, str(number)) for number in numbers), version_of(KEY))
    )

    async def page(after: int, limit: int) -> list[str]:
        versions = await store.read(lambda tables: tables.versions(KEY, after, limit))
        return [version.version for version in versions]

    assert await page(-1, 100) == [LATEST, "1", "2", "9", "10", "11", "100"]
    assert await page(-1, 3) == [LATEST, "1", "2"]
    assert await page(0, 2) == ["1", "2"]
    assert await page(2, 2) == ["9", "10"]
    assert await page(5, 2) == ["9", "10"]
    assert await page(100, 2) == []
    assert await page(-1, 0) == []


@in_event_loop
async def test_latest_versions_are_paged_by_name(store: Store):
    names = [f"f{number:02}" for number in range(7)]

    def work(tables: Tables) -> None:
        for name in reversed(names):
            put_whole(tables, FunctionKey(ACCOUNT, REGION, name))
        put_whole(tables, FunctionKey(OTHER_ACCOUNT, REGION, "f00"))
        put_whole(tables, FunctionKey(ACCOUNT, OTHER_REGION, "f03"))

    await store.write(work)
    seen: list[str] = []

    def next_page(tables: Tables) -> Sequence[FunctionVersion]:
        return tables.latest_versions(ACCOUNT, REGION, seen[-1] if seen else "", 3)

    while page := await store.read(next_page):
        assert all(version.version == LATEST for version in page)
        assert len(page) <= 3
        seen += [version.key.name for version in page]
    assert seen == names


@in_event_loop
async def test_all_versions_are_paged_by_name_and_number(store: Store):
    keys = [FunctionKey(ACCOUNT, REGION, name) for name in ("a", "a-b", "b")]

    def work(tables: Tables) -> None:
        for key in reversed(keys):
            put_all(tables, *(version_of(key, version) for version in ("10", "2", LATEST)))
        put_whole(tables, FunctionKey(OTHER_ACCOUNT, REGION, "a"))
        put_whole(tables, FunctionKey(ACCOUNT, OTHER_REGION, "a"))

    await store.write(work)
    seen: list[tuple[str, int]] = []

    def next_page(tables: Tables) -> Sequence[FunctionVersion]:
        return tables.all_versions(ACCOUNT, REGION, seen[-1] if seen else ("", -1), 2)

    while page := await store.read(next_page):
        assert len(page) <= 2
        seen += [(item.key.name, 0 if item.version == LATEST else int(item.version)) for item in page]
    assert seen == [(key.name, number) for key in keys for number in (0, 2, 10)]


@in_event_loop
async def test_aliases_are_paged_by_name(store: Store):
    names = ["Prod", "beta", "live", "prod-2", "prod_1"]
    await store.write(
        lambda tables: put_all(tables, *(alias_of(KEY, name) for name in reversed(names)), alias_of(OTHER_KEY, "c"))
    )

    async def page(after: str, limit: int) -> list[str]:
        return [alias.name for alias in await store.read(lambda tables: tables.aliases(KEY, after, limit))]

    assert await page("", 100) == sorted(names)
    assert await page("", 2) == ["Prod", "beta"]
    assert await page("beta", 2) == ["live", "prod-2"]
    assert await page("c", 1) == ["live"]
    assert await page("prod_1", 1) == []


@in_event_loop
async def test_configurations_are_paged_by_qualifier(store: Store):
    qualifiers = ["live", "10", LATEST, "Prod", "9"]
    configs = [config_of(KEY, qualifier) for qualifier in qualifiers]
    await store.write(lambda tables: put_all(tables, *configs, config_of(OTHER_KEY, "M")))

    async def page(after: str, limit: int) -> list[str]:
        found = await store.read(
            lambda tables: tables.records(EVENT_INVOKE_CONFIGS, *KEY.parts, after=after, limit=limit)
        )
        return [config.qualifier for config in found]

    assert await page("", 100) == sorted(qualifiers)
    assert await page("", 2) == [LATEST, "10"]
    assert await page("10", 2) == ["9", "Prod"]
    assert await page("Q", 2) == ["live"]
    assert await page("live", 1) == []


# Code


@in_event_loop
async def test_code_is_in_use_while_any_version_of_any_account_refers_to_it(store: Store):
    shared, own, gone = "a" * 64, "b" * 64, "c" * 64

    def work(tables: Tables) -> None:
        put_all(tables, version_of(KEY, LATEST, shared), version_of(KEY, "1", own), version_of(KEY, "2", gone))
        tables.put_version(version_of(NEIGHBOURS[1], LATEST, shared))
        tables.delete_version(KEY, "2")

    await store.write(work)
    assert await store.read(lambda tables: tables.code_in_use()) == {shared, own}
    assert await store.read(lambda tables: tables.code_is_used(gone)) is False

    await store.write(lambda tables: tables.put_version(version_of(KEY, LATEST, own)))
    assert await store.read(lambda tables: tables.code_is_used(shared)) is True
    await store.write(lambda tables: tables.delete_function(NEIGHBOURS[1]))
    assert await store.read(lambda tables: tables.code_is_used(shared)) is False
    assert await store.read(lambda tables: tables.code_in_use()) == {own}


def layer_version(name: str, version: int, code_sha256: str, code_size: int = 0, **place: str) -> LayerVersion:
    key = LayerKey(place.get("account_id", ACCOUNT), place.get("region", REGION), name)
    return LayerVersion(key, version, code_sha256, code_size, 2 * code_size, "2026-11-21T03:54:24.123+0000")


@in_event_loop
async def test_layers_are_in_use_while_published_or_used_by_a_function(store: Store):
    code, one, two, spare = "a" * 64, "b" * 64, "c" * 64, "d" * 64
    first, second = layer_version("first", 1, one), layer_version("second", 7, two)
    both = archives_of((first.use, second.use))
    assert both[:2] == (one, two)
    assert len(set(both)) == 3

    def in_use() -> Awaitable[set[str]]:
        return store.read(lambda tables: tables.code_in_use())

    def publish(tables: Tables) -> None:
        for layer in (first, second, layer_version("spare", 1, spare)):
            tables.put_record(LAYER_VERSIONS, layer)
        put_all(tables, version_of(KEY, LATEST, code), version_of(KEY, "1", code, layers=(first.use, second.use)))

    await store.write(publish)
    assert await in_use() == {code, spare, *both}

    def unpublish(tables: Tables) -> None:
        for layer in (first, second, layer_version("spare", 1, spare)):
            tables.delete_record(LAYER_VERSIONS, *LAYER_VERSIONS.key(layer))

    await store.write(unpublish)
    assert await in_use() == {code, *both}
    for digest, used in ((one, True), (both[2], True), (spare, False)):
        assert await store.read(lambda tables, digest=digest: tables.code_is_used(digest)) is used

    await store.write(lambda tables: tables.put_version(version_of(KEY, "1", code, layers=(second.use, second.use))))
    assert await in_use() == {code, two, merged_sha256([two, two])}
    await store.write(lambda tables: tables.put_version(version_of(KEY, LATEST, code, layers=(first.use,))))
    await store.write(lambda tables: tables.delete_version(KEY, "1"))
    assert await in_use() == {code, one}
    await store.write(lambda tables: tables.delete_function(KEY))
    assert await in_use() == set()


@in_event_loop
async def test_code_bytes_count_layer_versions(store: Store):
    def work(tables: Tables) -> None:
        put_all(tables, version_of(KEY, LATEST, code_size=1, layers=(layer_version("l", 1, "b" * 64, 900).use,)))
        for layer in (
            layer_version("l", 1, "b" * 64, 20),
            layer_version("l", 2, "b" * 64, 300),
            layer_version("l", 1, "b" * 64, 4000, account_id=OTHER_ACCOUNT),
            layer_version("l", 1, "b" * 64, 50000, region=OTHER_REGION),
        ):
            tables.put_record(LAYER_VERSIONS, layer)

    await store.write(work)
    assert await store.read(lambda tables: tables.code_bytes(ACCOUNT, REGION)) == 321
    assert await store.read(lambda tables: tables.code_bytes(OTHER_ACCOUNT, REGION)) == 4000
    assert await store.read(lambda tables: tables.code_bytes(ACCOUNT, OTHER_REGION)) == 50000
    assert await store.read(lambda tables: tables.code_bytes(OTHER_ACCOUNT, OTHER_REGION)) == 0


@in_event_loop
async def test_code_bytes_count_every_version_of_an_account_and_region(store: Store):
    def work(tables: Tables) -> None:
        put_all(tables, version_of(KEY, LATEST, code_size=1), version_of(KEY, "1", code_size=20))
        tables.put_version(version_of(OTHER_KEY, LATEST, code_size=300))
        tables.put_version(version_of(NEIGHBOURS[1], LATEST, code_size=4000))
        tables.put_version(version_of(NEIGHBOURS[2], LATEST, code_size=50000))

    await store.write(work)

    def code_bytes(tables: Tables) -> tuple[int, ...]:
        return tuple(
            tables.code_bytes(account, region)
            for account in (ACCOUNT, OTHER_ACCOUNT)
            for region in (REGION, OTHER_REGION)
        )

    assert await store.read(code_bytes) == (321, 50000, 4000, 0)
    await store.write(lambda tables: tables.put_version(version_of(KEY, LATEST, code_size=2)))
    await store.write(lambda tables: tables.delete_version(KEY, "1"))
    assert await store.read(code_bytes) == (302, 50000, 4000, 0)


@in_event_loop
async def test_accounts_and_regions_are_apart(store: Store):
    def work(tables: Tables) -> None:
        for key in (KEY, *NEIGHBOURS):
            put_all(tables, Function(key, tags={"arn": key.arn}), version_of(key, role=key.arn))
            tables.put_alias(replace(alias_of(key, "live"), description=key.arn))
            tables.put_record(EVENT_INVOKE_CONFIGS, config_of(key, on_failure=key.arn))

    await store.write(work)

    def check(tables: Tables) -> None:
        for key in (KEY, *NEIGHBOURS):
            function, version, alias = tables.function(key), tables.version(key, LATEST), tables.alias(key, "live")
            assert function is not None
            assert function.tags == {"arn": key.arn}
            assert version is not None
            assert version.role == key.arn
            assert alias is not None
            assert alias.description == key.arn
            assert tables.record(EVENT_INVOKE_CONFIGS, *key.parts, LATEST) == config_of(key, on_failure=key.arn)
        assert tables.function_count(ACCOUNT, REGION) == 2
        assert tables.function_count(OTHER_ACCOUNT, REGION) == 1
        assert tables.function_count(OTHER_ACCOUNT, OTHER_REGION) == 0
        assert [function.key for function in tables.functions(ACCOUNT, REGION)] == [KEY, OTHER_KEY]
        assert [function.key for function in tables.functions(ACCOUNT, OTHER_REGION)] == [NEIGHBOURS[2]]

    await store.read(check)


# Units of work


@pytest.mark.parametrize("refusal", [Refused, Abandoned])
def test_work_that_raises_changes_nothing(store: Store, refusal: type[BaseException]):
    @in_event_loop
    async def scenario() -> None:
        await store.write(lambda tables: put_whole(tables, KEY))

        def work(tables: Tables) -> None:
            tables.delete_function(KEY)
            put_whole(tables, OTHER_KEY)
            raise refusal("no")

        with pytest.raises(refusal, match="no"):
            await store.write(work)

        def check(tables: Tables) -> None:
            assert [function.key for function in tables.functions(ACCOUNT, REGION)] == [KEY]
            assert len(tables.versions(KEY, -1, 10)) == 3
            assert len(tables.versions(OTHER_KEY, -1, 10)) == 0

        await store.read(check)

    scenario()


@pytest.mark.parametrize("refusal", [Refused, Abandoned])
def test_a_read_hands_over_what_its_work_raises(store: Store, refusal: type[BaseException]):
    @in_event_loop
    async def scenario() -> None:
        def work(tables: Tables) -> None:
            raise refusal("no")

        with pytest.raises(refusal, match="no"):
            await store.read(work)
        assert await store.read(lambda tables: tables.function(KEY)) is None

    scenario()


@in_event_loop
async def test_work_that_raises_stop_iteration_does_not_hang_its_caller(store: Store):
    with pytest.raises(RuntimeError, match="StopIteration"):
        await store.write(lambda tables: next(iter(())))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await store.read(lambda tables: next(iter(())))


@in_event_loop
async def test_a_refused_unit_leaves_those_beside_it_alone(store: Store):
    def work(number: int) -> Callable[[Tables], int]:
        def put(tables: Tables) -> int:
            put_whole(tables, FunctionKey(ACCOUNT, REGION, f"f{number:02}"))
            if number % 3 == 0:
                raise Refused(number)
            return number

        return put

    answers = await asyncio.gather(*(store.write(work(number)) for number in range(30)), return_exceptions=True)
    for number, answer in enumerate(answers):
        if number % 3 == 0:
            assert isinstance(answer, Refused)
            assert answer.args == (number,)
        else:
            assert answer == number
    functions = await store.read(lambda tables: tables.functions(ACCOUNT, REGION))
    assert [function.key.name for function in functions] == [f"f{number:02}" for number in range(30) if number % 3]
    assert len(await store.read(lambda tables: tables.all_versions(ACCOUNT, REGION, ("", -1), 100))) == 60


@in_event_loop
async def test_a_hundred_writers_never_lose_an_increment(store: Store):
    await store.write(lambda tables: tables.put_function(Function(KEY)))

    def publish(tables: Tables) -> int:
        function = tables.function(KEY)
        assert function is not None
        tables.put_version(version_of(KEY, str(function.next_version)))
        tables.put_function(replace(function, next_version=function.next_version + 1))
        return function.next_version

    async def writer() -> list[int]:
        return [await store.write(publish) for _ in range(10)]

    published = [number for numbers in await asyncio.gather(*(writer() for _ in range(100))) for number in numbers]
    assert sorted(published) == list(range(1, 1001))
    assert len(await store.read(lambda tables: tables.versions(KEY, -1, 2000))) == 1000
    function = await store.read(lambda tables: tables.function(KEY))
    assert function is not None
    assert function.next_version == 1001


@in_event_loop
async def test_reads_see_every_write_that_was_acknowledged(store: Store):
    async def client(number: int) -> None:
        key = FunctionKey(ACCOUNT, REGION, f"f{number}")
        for count in range(1, 21):
            record = Function(key, next_version=count)
            await store.write(lambda tables, record=record: tables.put_function(record))
            function = await store.read(lambda tables: tables.function(key))
            assert function is not None
            assert function.next_version == count

    await asyncio.gather(*(client(number) for number in range(20)))


@in_event_loop
async def test_a_read_never_sees_half_of_a_unit(store: Store):
    """A writer moves the same number of versions between two functions; a reader always counts all of them."""
    await store.write(lambda tables: put_all(tables, *(version_of(KEY, str(number)) for number in range(1, 6))))

    def move(source: FunctionKey, target: FunctionKey) -> Callable[[Tables], None]:
        def work(tables: Tables) -> None:
            for version in tables.versions(source, -1, 10):
                tables.delete_version(source, version.version)
                tables.put_version(replace(version, key=target))

        return work

    def count(tables: Tables) -> int:
        return len(tables.versions(KEY, -1, 10)) + len(tables.versions(OTHER_KEY, -1, 10))

    counted = asyncio.Event()

    async def mover() -> int:
        moves = 0
        while not counted.is_set():
            await store.write(move(KEY, OTHER_KEY))
            await store.write(move(OTHER_KEY, KEY))
            moves += 2
            await asyncio.sleep(0)  # lets the reader run even if the store did not
        return moves

    moving = asyncio.create_task(mover())
    counts = [await store.read(count) for _ in range(200)]
    counted.set()
    assert await moving > 0
    assert set(counts) == {5}


@in_event_loop
async def test_versions_in_clear_are_those_of_all_accounts_that_show_their_variables(store: Store):
    clear = [
        version_of(KEY, environment={"NAME": "value"}),
        version_of(FunctionKey(OTHER_ACCOUNT, OTHER_REGION, "orders"), "3", environment={"": ""}),
    ]
    sealed = SealedEnvironment("c2VhbGVk", "a2V5")
    others = [version_of(OTHER_KEY), version_of(KEY, "1", sealed_environment=sealed, kms_key_arn="arn")]

    def put(tables: Tables) -> None:
        for version in (*clear, *others):
            tables.put_version(version)

    await store.write(put)
    found = await store.read(lambda tables: tables.versions_in_clear())
    assert sorted(found, key=lambda version: version.version) == sorted(clear, key=lambda version: version.version)
    assert await store.read(lambda tables: tables.version(KEY, "1")) == others[1]


@in_event_loop
async def test_a_read_cannot_change_anything(store: Store):
    await store.write(lambda tables: put_whole(tables, KEY))
    changes: list[Callable[[Tables], None]] = [
        lambda tables: tables.put_function(Function(OTHER_KEY)),
        lambda tables: tables.put_version(version_of(OTHER_KEY)),
        lambda tables: tables.put_alias(alias_of(OTHER_KEY, "live")),
        lambda tables: tables.delete_function(KEY),
        lambda tables: tables.delete_version(KEY, "1"),
        lambda tables: tables.delete_alias(KEY, "live"),
        lambda tables: tables.put_record(EVENT_INVOKE_CONFIGS, config_of(OTHER_KEY)),
        lambda tables: tables.delete_record(EVENT_INVOKE_CONFIGS, *KEY.parts, LATEST),
        lambda tables: tables.put_record(RESOURCE_POLICIES, policy_of(OTHER_KEY)),
        lambda tables: tables.delete_record(RESOURCE_POLICIES, *KEY.parts, ""),
        lambda tables: tables.put_record(BUCKET_NOTIFICATIONS, notifications_of("photos")),
        lambda tables: tables.delete_record(BUCKET_NOTIFICATIONS, "photos"),
    ]
    for change in changes:
        with pytest.raises(RuntimeError, match="only reads"):
            await store.read(change)
    assert await store.read(lambda tables: tables.function_count(ACCOUNT, REGION)) == 1
    assert len(await store.read(lambda tables: tables.versions(KEY, -1, 10))) == 3
    assert await store.read(lambda tables: tables.alias(KEY, "live")) == alias_of(KEY, "live")
    assert await store.read(lambda tables: configured(tables, KEY)) == [LATEST, "1", "live"]
    assert await store.read(lambda tables: with_policy(tables, KEY)) == ["", "1", "live"]


@in_event_loop
async def test_notification_configurations_come_back_by_the_names_of_buckets(store: Store):
    photos, archive = notifications_of("photos"), notifications_of("archive", event_bridge=True)

    def put(tables: Tables) -> None:
        tables.put_record(BUCKET_NOTIFICATIONS, notifications_of("photos", event_bridge=True))
        tables.put_record(BUCKET_NOTIFICATIONS, archive)
        tables.put_record(BUCKET_NOTIFICATIONS, photos)

    await store.write(put)
    assert await store.read(lambda tables: tables.records(BUCKET_NOTIFICATIONS)) == [archive, photos]
    await store.write(lambda tables: tables.delete_record(BUCKET_NOTIFICATIONS, "archive"))
    await store.write(lambda tables: tables.delete_record(BUCKET_NOTIFICATIONS, "nobody's"))
    assert await store.read(lambda tables: tables.records(BUCKET_NOTIFICATIONS)) == [photos]


@in_event_loop
async def test_a_write_lets_others_run(store: Store):
    """A service that counted on running alone up to its write's end would break; the fake must show it."""
    ran = False

    async def other() -> None:
        nonlocal ran
        ran = True

    task = asyncio.create_task(other())
    await store.write(lambda tables: None)
    assert ran
    await task


@in_event_loop
async def test_a_cancelled_caller_leaves_the_store_whole(store: Store):
    writes = [asyncio.create_task(store.write(lambda tables: put_whole(tables, KEY))) for _ in range(10)]
    await asyncio.sleep(0)
    for write in writes:
        write.cancel()
    await asyncio.gather(*writes, return_exceptions=True)
    await store.write(lambda tables: put_whole(tables, OTHER_KEY))
    whole_or_nothing = len(await store.read(lambda tables: tables.versions(KEY, -1, 10)))
    assert whole_or_nothing in (0, 3)
    assert len(await store.read(lambda tables: tables.versions(OTHER_KEY, -1, 10))) == 3


@in_event_loop
async def test_a_closed_store_says_so(store: Store):
    await store.write(lambda tables: put_whole(tables, KEY))
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.write(lambda tables: None)
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.read(lambda tables: None)

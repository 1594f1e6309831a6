"""Configurations of function URLs, on the in-memory adapters."""

from __future__ import annotations

import asyncio
import re
from unittest import mock

import pytest

from lambdad.domain.errors import (
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.function_urls import Cors
from lambdad.ports.store import StoreUnavailable
from lambdad.services.function_urls import FunctionUrlsService
from unit.services.fakes import KEY, World, reference, scenario


def service(world: World) -> FunctionUrlsService:
    """As the application makes it: told of every change of a function."""
    urls = FunctionUrlsService(world.store, world.clock, lambda: "http://127.0.0.1:4566")
    world.targets.forget = urls.forget  # type: ignore[method-assign]
    return urls


async def with_alias(world: World) -> FunctionUrlsService:
    await world.create()
    await world.functions.publish(reference(), None, None, None)
    await world.aliases.create(reference(), "PROD", "1", "", {})
    return service(world)


@scenario
async def test_a_url_of_a_function_and_one_of_an_alias(world: World) -> None:
    urls = await with_alias(world)
    own = await urls.create(reference(), {"auth_type": "NONE"})
    aliased = await urls.create(
        reference("PROD"), {"auth_type": "AWS_IAM", "invoke_mode": "RESPONSE_STREAM", "cors": Cors(max_age_s=1)}
    )
    assert (own.reference.arn, aliased.reference.arn) == (KEY.arn, f"{KEY.arn}:PROD")
    assert (own.invoke_mode, own.cors) == ("BUFFERED", None)
    assert urls.url(own) == f"http://{own.url_id}.lambda-url.us-east-1.localhost:4566/"
    assert 40 <= len(urls.url(own)) <= 100
    for config in (own, aliased):
        assert await urls.get(config.reference) == config
        assert await urls.find(config.url_id) == config
    assert await urls.list(reference(), "", 50) == ([own, aliased], None)
    shown, following = await urls.list(reference(), "", 1)
    assert (shown, following) == ([own], "$LATEST")
    assert await urls.list(reference(), following or "", 1) == ([aliased], None)


@scenario
async def test_an_update_keeps_the_id_and_what_it_does_not_speak_of(world: World) -> None:
    await world.create()
    urls = service(world)
    before = await urls.create(reference(), {"auth_type": "NONE", "cors": Cors(allow_origins=("*",))})
    assert await urls.find(before.url_id) == before
    await world.clock.advance(2)
    after = await urls.update(reference(), {"auth_type": "AWS_IAM"})
    assert (after.url_id, after.created_s, after.cors) == (before.url_id, before.created_s, before.cors)
    assert (after.auth_type, after.last_modified_s) == ("AWS_IAM", before.last_modified_s + 2)
    assert await urls.find(before.url_id) == after
    assert (await urls.update(reference(), {"cors": None})).cors is None


@scenario
async def test_a_url_that_is_deleted_does_not_come_back(world: World) -> None:
    await world.create()
    urls = service(world)
    first = await urls.create(reference(), {"auth_type": "NONE"})
    assert await urls.find(first.url_id) == first
    await urls.delete(reference())
    assert await urls.find(first.url_id) is None
    second = await urls.create(reference(), {"auth_type": "NONE"})
    assert second.url_id != first.url_id
    assert await urls.find(first.url_id) is None


@scenario
async def test_urls_go_with_their_alias_and_their_function(world: World) -> None:
    urls = await with_alias(world)
    own = await urls.create(reference(), {"auth_type": "NONE"})
    aliased = await urls.create(reference("PROD"), {"auth_type": "NONE"})
    assert await urls.find(aliased.url_id) == aliased
    await world.aliases.delete(reference(), "PROD")
    assert await urls.find(aliased.url_id) is None
    assert await urls.find(own.url_id) == own
    await world.functions.delete(reference())
    assert await urls.find(own.url_id) is None


@scenario
async def test_what_changes_while_urls_are_read_is_seen(world: World) -> None:
    await world.create()
    urls = service(world)
    config = await urls.create(reference(), {"auth_type": "NONE"})
    finding = asyncio.ensure_future(urls.find(config.url_id))
    await asyncio.sleep(0)
    await urls.delete(reference())
    await finding
    assert await urls.find(config.url_id) is None


@scenario
async def test_a_change_that_could_not_be_read_is_read_later(world: World) -> None:
    await world.create()
    urls = service(world)
    config = await urls.create(reference(), {"auth_type": "NONE"})
    assert await urls.find(config.url_id) == config
    await urls.delete(reference())
    gone = mock.patch.object(world.store, "read", side_effect=StoreUnavailable("the disk is gone"))
    with gone, pytest.raises(StoreUnavailable):
        await urls.find(config.url_id)
    assert await urls.find(config.url_id) is None


@scenario
async def test_another_service_on_the_same_store_finds_it(world: World) -> None:
    await world.create()
    config = await service(world).create(reference(), {"auth_type": "NONE"})
    assert await service(world).find(config.url_id) == config
    assert await service(world).find("nothing") is None


@scenario
async def test_refusals(world: World) -> None:
    urls = service(world)
    with pytest.raises(ResourceNotFoundException, match="Function does not exist"):
        await urls.create(reference(), {"auth_type": "NONE"})
    with pytest.raises(ResourceNotFoundException, match="Function does not exist"):
        await urls.list(reference(), "", 1)
    await world.create()
    with pytest.raises(ResourceNotFoundException, match="Function does not exist"):
        await urls.create(reference("PROD"), {"auth_type": "NONE"})
    with pytest.raises(ResourceNotFoundException, match=r"The resource you requested does not exist\."):
        await urls.get(reference())
    with pytest.raises(ResourceNotFoundException):
        await urls.update(reference(), {"auth_type": "NONE"})
    with pytest.raises(ResourceNotFoundException):
        await urls.delete(reference())
    await urls.create(reference(), {"auth_type": "NONE"})
    exists = (
        f"Failed to create function url config for [functionArn = {KEY.arn}]. Error message:  "
        "FunctionUrlConfig exists for this Lambda function"
    )
    with pytest.raises(ResourceConflictException, match=re.escape(exists)):
        await urls.create(reference(), {"auth_type": "NONE"})
    for qualifier in ("1", "$LATEST"):
        with pytest.raises(InvalidParameterValueException, match="is a version"):
            await urls.get(reference(qualifier))
    with pytest.raises(InvalidParameterValueException, match="OPTION is not an allowed method"):
        await urls.update(reference(), {"cors": Cors(allow_methods=("GET", "OPTION"))})

"""Subscriptions of functions to log groups, on the in-memory store and a clock that tests move."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_logs import MemoryLogStore
from lambdad.domain.arns import FunctionReference
from lambdad.domain.errors import ResourceNotFoundException, ServiceError
from lambdad.domain.logs import GroupKey
from lambdad.ports.logs import Arrivals
from lambdad.ports.store import StoreUnavailable
from lambdad.services.log_subscriptions import ACCEPTED_TOGETHER, STEP_BYTES, LogSubscriptions
from lambdad.services.logs import LogsService

ACCOUNT, REGION, GROUP = "111122223333", "us-east-1", "/aws/lambda/f"
KEY = GroupKey(ACCOUNT, REGION, GROUP)
NOW_MS = 1_700_000_000_000
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:reader"
PAYLOAD_BYTES = 256 * 1024
REFUSED = (
    "Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute your "
    "function."
)


class Store(MemoryLogStore):
    """Counts how often it is asked what has arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def arrivals(self, since: int, most_bytes: int) -> Arrivals:
        self.asked += 1
        return await super().arrivals(since, most_bytes)


class Permissions:
    """Allows one principal."""

    def __init__(self) -> None:
        self.allowed: str | None = "logs.amazonaws.com"
        self.asked: list[tuple[str, str, str]] = []

    async def allows_service(
        self, reference: FunctionReference, service: str, source_arn: str, source_account: str
    ) -> bool:
        self.asked.append((reference.arn, source_arn, source_account))
        return service == self.allowed


class Queue:
    """Takes events, unless it is full or the function is gone."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Any]] = []
        self.sizes: list[int] = []
        self.room = 10**9
        self.gone = False

    async def accept(
        self, reference: FunctionReference, request_id: str, payload: bytes, trace: str | None = None
    ) -> None:
        if self.gone:
            raise ResourceNotFoundException(f"Function not found: {reference.arn}")
        if len(self.taken) >= self.room:
            raise StoreUnavailable("disk full")
        data = json.loads(payload)["awslogs"]["data"]
        self.taken.append((reference.arn, json.loads(gzip.decompress(base64.b64decode(data)))))
        self.sizes.append(len(payload))

    @property
    def messages(self) -> list[list[str]]:
        return [[event["message"] for event in document["logEvents"]] for _, document in self.taken]


class World:
    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self.clock = FakeClock(NOW_MS / 1000)
        self.logs = LogsService(self.store, self.clock)
        self.permissions = Permissions()
        self.queue = Queue()
        self.subscriptions = LogSubscriptions(
            self.store, self.logs, self.permissions, self.queue, self.clock, PAYLOAD_BYTES
        )

    async def subscribe(self, pattern: str = "", name: str = "demo", destination: str = FUNCTION, **more: Any) -> None:
        if await self.store.group(KEY) is None:
            await self.logs.create_log_group(KEY)
        await self.subscriptions.put_subscription_filter(KEY, name, pattern, destination, **more)

    def print(self, *lines: str, stream: str = "s") -> None:
        self.logs.append(ACCOUNT, REGION, GROUP, stream, [(NOW_MS, line) for line in lines])

    async def delivered(self, count: int) -> list[list[str]]:
        """Move the clock until so many events were accepted; packing goes on in a thread."""
        while len(self.queue.taken) < count:
            await self.clock.advance(0.1)
            await asyncio.sleep(0.001)
        return self.queue.messages

    async def quiet(self) -> list[list[str]]:
        """What was accepted when everything that was appended has been looked at."""
        await self.clock.advance(0.5)
        while self.subscriptions._since <= self.store._sequence:
            await self.clock.advance(0.1)
            await asyncio.sleep(0.001)
        return self.queue.messages


def run(test: Callable[[World], Awaitable[None]], world: World | None = None) -> None:
    async def in_world() -> None:
        here = world or World()
        await here.subscriptions.start()
        task = asyncio.create_task(here.subscriptions.run())
        try:
            await asyncio.wait_for(test(here), 30)
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(in_world())


def refused(code: str, text: str) -> pytest.RaisesExc[ServiceError]:
    return pytest.raises(ServiceError, check=lambda error: error.code == code and text in error.message)


def test_the_event_is_as_on_aws() -> None:
    async def test(world: World) -> None:
        await world.subscribe("ERROR")
        world.print("all is well", "an ERROR: größe", "another ERROR")
        await world.delivered(1)
        (found,) = world.queue.taken
        page = await world.logs.get_log_events(KEY, "s", start_from_head=True)
        assert found == (
            FUNCTION,
            {
                "messageType": "DATA_MESSAGE",
                "owner": ACCOUNT,
                "logGroup": GROUP,
                "logStream": "s",
                "subscriptionFilters": ["demo"],
                "logEvents": [
                    {"id": page.events[1].event_id, "timestamp": NOW_MS, "message": "an ERROR: größe"},
                    {"id": page.events[2].event_id, "timestamp": NOW_MS, "message": "another ERROR"},
                ],
            },
        )

    run(test)


def test_fields_of_a_space_delimited_pattern_are_extracted() -> None:
    async def test(world: World) -> None:
        await world.subscribe("[ip, user, code = 5*]")
        world.print("10.0.0.1 ann 503", "10.0.0.2 bob 200")
        await world.delivered(1)
        (event,) = world.queue.taken[0][1]["logEvents"]
        assert event["message"] == "10.0.0.1 ann 503"
        assert event["extractedFields"] == {"ip": "10.0.0.1", "user": "ann", "code": "503"}

    run(test)


def test_one_event_for_each_stream_and_filter_and_from_clients_too() -> None:
    async def test(world: World) -> None:
        await world.subscribe()
        await world.subscribe('{ $.level = "ERROR" }', "json")
        world.print("one", "two", stream="s")
        world.print('{"level": "ERROR"}', stream="t")
        assert await world.delivered(3) == [["one", "two"], ['{"level": "ERROR"}'], ['{"level": "ERROR"}']]
        assert [document["subscriptionFilters"] for _, document in world.queue.taken] == [["demo"], ["demo"], ["json"]]
        await world.logs.put_log_events(KEY, "t", [(NOW_MS, "put")])
        assert (await world.delivered(4))[3] == ["put"]

    run(test)


def test_nothing_is_read_back_when_the_group_has_no_filter() -> None:
    async def test(world: World) -> None:
        await world.subscribe()
        await world.clock.advance(1)
        asked = world.store.asked
        world.logs.append(ACCOUNT, REGION, "other", "s", [(NOW_MS, "line")])
        await world.clock.advance(1)
        assert world.store.asked == asked
        await world.subscriptions.delete_subscription_filter(KEY, "demo")
        world.print("line")
        await world.clock.advance(1)
        assert world.store.asked == asked
        assert world.queue.taken == []

    run(test)


def test_much_is_divided_so_that_each_event_fits() -> None:
    async def test(world: World) -> None:
        await world.subscribe()
        noise = random.Random(5)
        lines = [f"{number} {noise.randbytes(400).hex()}" for number in range(3000)]
        world.print(*lines)
        found = await world.quiet()
        assert [line for part in found for line in part] == lines
        assert len(found) > 3
        assert max(world.queue.sizes) <= PAYLOAD_BYTES
        assert world.store.asked > len(lines) * 800 // STEP_BYTES

    run(test)


def test_a_log_event_that_is_too_large_by_itself_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        await world.subscribe()
        world.print("before", random.Random(5).randbytes(300_000).hex(), "after")
        assert await world.quiet() == [["before"], ["after"]]
        assert world.subscriptions.dropped_events == 1

    with caplog.at_level(logging.WARNING):
        run(test)
    assert f"1 log events of {GROUP} are not delivered to {FUNCTION} (filter demo)" in caplog.text


def test_while_the_queue_cannot_be_written_nothing_is_lost_or_doubled(caplog: pytest.LogCaptureFixture) -> None:
    streams = [f"s{number:03}" for number in range(ACCEPTED_TOGETHER * 2)]

    async def test(world: World) -> None:
        await world.subscribe()
        world.queue.room = 10
        for stream in streams:
            world.print(stream, stream=stream)
        await world.delivered(10)
        await world.clock.advance(3)
        world.print("later")
        await world.clock.advance(3)
        assert len(world.queue.taken) == 10
        assert await world.store.delivered() == 1
        world.queue.room = 10**9
        assert sorted(await world.delivered(len(streams) + 1)) == sorted([[name] for name in [*streams, "later"]])

    run(test)
    assert caplog.text.count("cannot be delivered to subscribed functions now: disk full") == 1


def test_permission_is_looked_at_when_a_filter_is_put_and_at_each_delivery(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        world.permissions.allowed = "s3.amazonaws.com"
        with refused("InvalidParameterException", REFUSED):
            await world.subscribe()
        assert set(world.permissions.asked) == {(FUNCTION, f"{KEY.arn}:*", ACCOUNT)}
        world.permissions.allowed = f"logs.{REGION}.amazonaws.com"
        await world.subscribe()
        world.permissions.allowed = None
        world.print("one", "two")
        assert await world.quiet() == []
        assert world.subscriptions.dropped_events == 2
        world.permissions.allowed = "logs.amazonaws.com"
        world.print("three")
        assert await world.delivered(1) == [["three"]]

    run(test)
    assert "its policy does not let logs.amazonaws.com invoke it" in caplog.text


def test_what_is_for_a_function_that_is_gone_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        await world.subscribe()
        world.queue.gone = True
        world.print("one", "two")
        assert await world.quiet() == []
        assert world.subscriptions.dropped_events == 2

    run(test)
    assert "Function not found" in caplog.text


def test_after_a_restart_it_goes_on_where_it_was() -> None:
    store = Store()

    async def first(world: World) -> None:
        await world.subscribe()
        world.print("one")
        await world.delivered(1)
        await world.subscriptions.close()
        world.print("two")
        await world.logs.close()
        assert world.queue.messages == [["one"]]

    async def second(world: World) -> None:
        assert await world.delivered(1) == [["two"]]

    run(first, World(store))
    run(second, World(store))


def test_after_a_kill_what_is_on_disk_and_was_not_noted_comes_again() -> None:
    store = Store()

    async def first(world: World) -> None:
        await world.subscribe()
        world.queue.room = 1
        world.print("one", stream="s")
        world.print("two", stream="t")
        await world.delivered(1)

    async def second(world: World) -> None:
        assert await world.delivered(2) == [["one"], ["two"]]

    run(first, World(store))
    run(second, World(store))


def test_destinations_that_are_refused() -> None:
    async def test(world: World) -> None:
        for arn, text in [
            (
                f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/s",
                "PutSubscriptionFilter operation cannot work with destinationArn for vendor kinesis",
            ),
            (f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/s", "for vendor firehose"),
            (f"arn:aws:logs:{REGION}:{ACCOUNT}:destination:d", "for vendor logs"),
            (f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:reader", "account and region of the log group"),
            (f"arn:aws:lambda:{REGION}:999999999999:function:reader", "account and region of the log group"),
            (f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:reader:1", "Invalid destinationArn"),
            ("reader", "Invalid destinationArn: reader"),
        ]:
            with refused("InvalidParameterException", text):
                await world.subscribe(destination=arn)
        with refused("InvalidParameterException", "destinationArn for vendor lambda cannot be used with roleArn"):
            await world.subscribe(role_arn="arn:aws:iam::111122223333:role/r")
        with refused("InvalidParameterException", "Invalid"):
            await world.subscribe("{ $.a = }")
        await world.logs.create_log_group(GroupKey(ACCOUNT, REGION, "rare"), log_group_class="INFREQUENT_ACCESS")
        with refused("InvalidOperationException", "INFREQUENT_ACCESS"):
            await world.subscriptions.put_subscription_filter(
                GroupKey(ACCOUNT, REGION, "rare"), "demo", "", f"{FUNCTION}:live"
            )
        assert await world.store.subscribed_groups() == []

    run(test)


def test_filters_are_listed_in_pages() -> None:
    async def test(world: World) -> None:
        with refused("ResourceNotFoundException", "The specified log group does not exist."):
            await world.subscriptions.subscription_filters(KEY)
        with refused("ResourceNotFoundException", "The specified log group does not exist."):
            await world.subscriptions.put_subscription_filter(KEY, "a", "", FUNCTION)
        await world.subscribe(name="aa", distribution="Random")
        await world.subscribe(name="ab")
        with refused("LimitExceededException", "Resource limit exceeded."):
            await world.subscribe(name="ac")
        first = await world.subscriptions.subscription_filters(KEY, prefix="a", limit=1)
        assert [(each.name, each.distribution) for each in first.filters] == [("aa", "Random")]
        second = await world.subscriptions.subscription_filters(KEY, prefix="a", limit=1, next_token=first.next_token)
        assert [(each.name, each.distribution) for each in second.filters] == [("ab", "ByLogStream")]
        assert second.next_token is None
        with refused("InvalidParameterException", "The specified nextToken is invalid."):
            await world.subscriptions.subscription_filters(KEY, prefix="b", next_token=first.next_token)
        with refused("ResourceNotFoundException", "The specified subscription filter does not exist."):
            await world.subscriptions.delete_subscription_filter(KEY, "x")

    run(test)

"""A mapping's state says what is true of its poller, and what is deleted leaves nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from lambdad.adapters.memory_store import MemoryStore
from lambdad.domain.arns import FunctionReference
from lambdad.domain.errors import InvalidParameterValueException, ResourceConflictException, ResourceNotFoundException
from lambdad.domain.event_source_mappings import EVENT_SOURCE_MAPPINGS, NO_RECORDS, MappingState
from lambdad.domain.stream_events import SHARD_CHECKPOINTS
from lambdad.domain.tags import EVENT_SOURCE_MAPPING, RESOURCE_TAGS
from lambdad.ports.backends import Attention, NeighbourAnswer, NeighbourRequest
from lambdad.services.event_source_mappings import EventSourceMappings, exists
from lambdad.services.tags import TagsService
from unit.services.fakes import KEY
from unit.services.sources import QUEUE, STREAM, FakeDispatcher, Reading

FUNCTION = FunctionReference(KEY, None)


class SourceBackends:
    """`Backends` of the fake queue and the fake stream."""

    def __init__(self, world: Reading) -> None:
        self._world = world

    def has(self, service: str) -> bool:
        return True

    def is_embedded(self, service: str) -> bool:
        return True

    async def inspect(self, what: str, parameters: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    async def forward(self, request: NeighbourRequest) -> NeighbourAnswer:
        assert isinstance(request.body, bytes)
        source = self._world.queue if request.service == "sqs" else self._world.stream
        answer = await source.call(
            request.service,
            request.operation,
            json.loads(request.body),
            account_id=request.account_id,
            region=request.region,
        )
        return NeighbourAnswer(200, [], json.dumps(answer).encode())


class Mappings:
    """The service, as the daemon runs it; `start` again on the same store to see what survives."""

    def __init__(self) -> None:
        self.world = Reading()
        self.store = MemoryStore()
        self.service: EventSourceMappings
        self.running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.service = EventSourceMappings(
            self.store, self.world.function, SourceBackends(self.world), FakeDispatcher(), self.world.clock
        )
        await self.service.start()
        self.running = asyncio.get_running_loop().create_task(self.service.run())
        await self.world.settle()

    async def state(self, uuid: str) -> MappingState:
        return (await self.service.get(KEY.account_id, KEY.region, uuid))[1]

    async def last_result(self, uuid: str) -> str:
        """As it is in the store."""
        kept = await self.store.read(lambda tables: tables.record(EVENT_SOURCE_MAPPINGS, *KEY.parts[:2], uuid))
        assert kept is not None
        return kept.last_result


def mappings(test: Callable[[Mappings], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def inside() -> None:
            own = Mappings()
            await own.start()
            await test(own)
            await own.world.die()

        asyncio.run(inside())

    run.__name__ = test.__name__
    return run


@mappings
async def test_a_mapping_is_enabled_when_its_source_is_read(own: Mappings) -> None:
    made, state = await own.service.create(FUNCTION, QUEUE, {}, {})
    assert state is MappingState.CREATING
    await own.world.settle()
    assert await own.state(made.uuid) is MappingState.ENABLED
    own.world.queue.send("a")
    await own.world.settle()
    await own.world.pass_time(1)
    assert own.world.function.bodies() == [["a"]]
    assert await own.last_result(made.uuid) == NO_RECORDS  # nobody is shown one of a queue


@mappings
async def test_the_last_result_of_a_stream_is_kept(own: Mappings) -> None:
    made, _ = await own.service.create(FUNCTION, STREAM, {"starting_position": "TRIM_HORIZON"}, {})
    await own.world.settle()
    assert await own.last_result(made.uuid) == NO_RECORDS
    own.world.stream.put("a")
    await own.world.pass_time(2)
    assert await own.last_result(made.uuid) == "OK"


@mappings
async def test_it_is_disabling_and_deleting_as_long_as_a_batch_runs(own: Mappings) -> None:
    tags = TagsService(own.store, {EVENT_SOURCE_MAPPING: exists})
    made, _ = await own.service.create(FUNCTION, QUEUE, {}, {"a": "b"})
    assert await tags.get(made.arn) == {"a": "b"}
    place = KEY.account_id, KEY.region, made.uuid
    own.world.function.gate = gate = asyncio.Event()
    own.world.queue.send("a")
    await own.world.settle()
    _, state = await own.service.update(*place, None, {"enabled": False})
    assert state is MappingState.DISABLING
    own.world.queue.send("b")
    await own.world.pass_time(60)
    assert await own.state(made.uuid) is MappingState.DISABLING
    gate.set()
    await own.world.settle()
    assert await own.state(made.uuid) is MappingState.DISABLED
    assert own.world.function.bodies() == [["a"]]
    own.world.function.gate = gate = asyncio.Event()
    await own.service.update(*place, None, {"enabled": True})
    await own.world.settle()
    await own.service.delete(*place)
    await own.world.settle()
    assert await own.state(made.uuid) is MappingState.DELETING
    with pytest.raises(ResourceNotFoundException):
        await tags.get(made.arn)
    gate.set()
    await own.world.settle()
    for kind in (EVENT_SOURCE_MAPPINGS, RESOURCE_TAGS):
        assert await own.store.read(lambda tables, kind=kind: tables.records(kind)) == []


@mappings
async def test_a_change_holds_for_what_is_read_from_then_on(own: Mappings) -> None:
    made, _ = await own.service.create(FUNCTION, QUEUE, {}, {})
    await own.world.settle()
    _, state = await own.service.update(KEY.account_id, KEY.region, made.uuid, None, {"batch_size": 2})
    assert state is MappingState.UPDATING
    await own.world.settle()
    assert await own.state(made.uuid) is MappingState.ENABLED
    own.world.queue.send("a", "b", "c")
    await own.world.settle()
    assert own.world.function.bodies() == [["a", "b"], ["c"]]


@mappings
async def test_the_checkpoints_of_a_mapping_go_with_it(own: Mappings) -> None:
    own.world.stream.put("a")
    made, _ = await own.service.create(FUNCTION, STREAM, {"starting_position": "TRIM_HORIZON"}, {})
    await own.world.settle()
    assert len(await own.store.read(lambda tables: tables.records(SHARD_CHECKPOINTS))) == 1
    await own.service.delete(KEY.account_id, KEY.region, made.uuid)
    await own.world.settle()
    assert await own.store.read(lambda tables: tables.records(SHARD_CHECKPOINTS)) == []


@mappings
async def test_mappings_go_on_after_a_restart_and_deletions_are_finished(own: Mappings) -> None:
    kept, _ = await own.service.create(FUNCTION, QUEUE, {}, {})
    gone, _ = await own.service.create(FUNCTION, STREAM, {"starting_position": "TRIM_HORIZON"}, {})
    own.world.function.gate = asyncio.Event()
    own.world.stream.put("a")
    await own.world.settle()
    await own.service.delete(KEY.account_id, KEY.region, gone.uuid)
    await own.world.die()
    own.world.function.gate = None
    await own.start()
    assert await own.state(kept.uuid) is MappingState.ENABLED
    found, _ = await own.service.list(KEY.account_id, KEY.region, function=None, source_arn=None, after="", limit=10)
    assert [mapping.uuid for mapping, _ in found] == [kept.uuid]


@mappings
async def test_a_stop_waits_for_what_runs_and_no_longer_than_it_may(own: Mappings) -> None:
    await own.service.create(FUNCTION, QUEUE, {}, {})
    own.world.function.gate = asyncio.Event()
    own.world.queue.send("a")
    await own.world.settle()
    await own.service.stop(0.01)
    assert own.world.queue.deleted == []
    own.world.queue.send("b")
    await own.world.pass_time(60)
    assert len(own.world.function.requests) == 1


@mappings
async def test_what_is_written_to_an_embedded_stream_is_read_at_once(own: Mappings) -> None:
    await own.service.create(FUNCTION, STREAM, {"starting_position": "TRIM_HORIZON"}, {})
    await own.world.pass_time(120)
    request = NeighbourRequest(
        service="kinesis",
        operation="PutRecord",
        account_id=KEY.account_id,
        region=KEY.region,
        request_id="1",
        method="POST",
        path="/",
        query="",
        headers={"x-amz-target": "Kinesis_20131202.PutRecord"},
        body=b'{"StreamName": "s"}',
    )
    assert own.service.attention(request) is Attention.WHOLE
    own.world.stream.put("a")
    await own.service.after(request, NeighbourAnswer(200, []))
    await own.world.settle()
    assert own.world.function.data() == [["a"]]


@mappings
async def test_no_mapping_becomes_a_second_one_of_its_function_and_source(own: Mappings) -> None:
    other = FunctionReference(KEY, "live")
    first, _ = await own.service.create(FUNCTION, QUEUE, {}, {})
    second, _ = await own.service.create(other, QUEUE, {}, {})
    place = KEY.account_id, KEY.region, second.uuid
    with pytest.raises(ResourceConflictException, match=first.uuid):
        await own.service.update(*place, FUNCTION, {})
    assert (await own.service.get(*place))[0].function == other
    updated, _ = await own.service.update(*place, other, {"batch_size": 5})  # it is no second one of its own
    assert updated.batch_size == 5


@mappings
async def test_a_stream_is_not_read_from_a_moment_to_come(own: Mappings) -> None:
    now_s = own.world.clock.time()
    with pytest.raises(InvalidParameterValueException, match="StartingPositionTimestamp cannot be in the future"):
        await own.service.create(
            FUNCTION, STREAM, {"starting_position": "AT_TIMESTAMP", "starting_timestamp_s": now_s + 1}, {}
        )
    made, _ = await own.service.create(
        FUNCTION, STREAM, {"starting_position": "AT_TIMESTAMP", "starting_timestamp_s": now_s}, {}
    )
    assert made.starting_timestamp_s == now_s

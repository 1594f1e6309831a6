"""Event source mappings: kept in the store, each with a poller that reads its source as long as it is enabled.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html
A change is answered when it is on disk. What it changes about a poller comes then, and the state that is shown says how
far that is: `Creating`, `Enabling` or `Updating` until the source is read with the new settings, `Disabling` until the
last batch has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import uuid as uuids
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from lambdad.domain.arns import FunctionReference
from lambdad.domain.errors import (
    InvalidParameterValueException,
    ResourceConflictException,
    ResourceNotFoundException,
    ServiceException,
)
from lambdad.domain.event_source_mappings import (
    EVENT_SOURCE_MAPPINGS,
    QUEUE_BATCH_SIZE_DEFAULT,
    STREAM_BATCH_SIZE_DEFAULT,
    EventSource,
    EventSourceMapping,
    MappingSettings,
    MappingState,
    ResourceInUseException,
    SourceKind,
    check,
    check_settings,
    check_visibility,
    no_such_mapping,
    not_supported,
    parse_source,
)
from lambdad.domain.stream_events import SHARD_CHECKPOINTS
from lambdad.ports.backends import Attention, Backends, NeighbourAnswer, NeighbourRequest
from lambdad.ports.clock import Clock
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable
from lambdad.ports.store import Store, StoreUnavailable, Tables
from lambdad.services import tags
from lambdad.services.json_neighbours import JsonNeighbours
from lambdad.services.pollers.batches import BatchInvoker, Invoker
from lambdad.services.pollers.queues import QueueClient, QueuePoller
from lambdad.services.pollers.stream_clients import stream_client
from lambdad.services.pollers.streams import Accepts, StreamPoller, StreamSurroundings

logger = logging.getLogger(__name__)

RESULTS_EVERY_S: Final = 1.0
"""The results of processing are written so often at the most."""
_RESHARDING: Final = frozenset({"MergeShards", "SplitShard", "UpdateShardCount"})
_WRITES: Final = {
    "kinesis": frozenset({"PutRecord", "PutRecords"}) | _RESHARDING,
    "dynamodb": frozenset(
        {
            *("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"),
            *("ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"),
        }
    ),
}
"""The operations after which a stream may have more, by service."""

Shown = tuple[EventSourceMapping, MappingState]


class Poller(Protocol):
    """Reads one source while `run` runs."""

    is_running: bool

    async def run(self) -> None: ...

    async def stop(self) -> None: ...


@dataclass(slots=True)
class _Reading:
    """A poller at work for a mapping as it was when it began."""

    mapping: EventSourceMapping
    poller: Poller
    task: asyncio.Task[None]


class EventSourceMappings:
    """The mappings of every account and region."""

    def __init__(
        self,
        store: Store,
        invoke: Invoker,
        backends: Backends,
        dispatcher: Accepts,
        clock: Clock,
    ) -> None:
        self._store = store
        self._invoke = invoke
        self._backends = backends
        self._calls = JsonNeighbours(backends)
        self._dispatcher = dispatcher
        self._clock = clock
        self._mappings: dict[str, EventSourceMapping] = {}
        """Every one that there is, by its UUID, as it is on disk."""
        self._readings: dict[str, _Reading] = {}
        self._on_the_way: dict[str, MappingState] = {}
        """What the way to being enabled is called."""
        self._changes: dict[str, asyncio.Task[None]] = {}
        self._results: dict[str, str] = {}
        self._has_results = asyncio.Event()
        self._is_reading = False

    # Operations

    async def create(
        self, function: FunctionReference, source_arn: str, settings: MappingSettings, new_tags: Mapping[str, str]
    ) -> Shown:
        """Raises InvalidParameterValueException, ResourceConflictException, and ServiceException when the source does
        not answer.
        """
        source = parse_source(source_arn)
        check_settings(source, settings)
        is_queue = source.kind is SourceKind.QUEUE
        mapping = EventSourceMapping(
            account_id=function.key.account_id,
            region=function.key.region,
            uuid=str(uuids.uuid4()),
            source_arn=source_arn,
            function=function,
            enabled=settings.get("enabled", True),
            batch_size=settings.get("batch_size", QUEUE_BATCH_SIZE_DEFAULT if is_queue else STREAM_BATCH_SIZE_DEFAULT),
            created_s=self._clock.time(),
            last_modified_s=self._clock.time(),
        )
        mapping = replace(mapping, **settings)
        check(mapping)
        if (mapping.starting_timestamp_s or 0.0) > mapping.created_s:
            raise InvalidParameterValueException("StartingPositionTimestamp cannot be in the future.")
        await self._check_source(mapping)

        def work(tables: Tables) -> None:
            _refuse_second(tables, mapping)
            tables.put_record(EVENT_SOURCE_MAPPINGS, mapping)
            tags.put_new(tables, mapping.arn, new_tags)

        await self._store.write(work)
        return self._changed(mapping, MappingState.CREATING)

    async def get(self, account_id: str, region: str, uuid: str) -> Shown:
        """Raises ResourceNotFoundException."""
        mapping = self._known(account_id, region, uuid)
        return mapping, self._state(mapping)

    async def list(
        self,
        account_id: str,
        region: str,
        *,
        function: FunctionReference | None,
        source_arn: str | None,
        after: str,
        limit: int,
    ) -> tuple[Sequence[Shown], str | None]:
        """At most `limit` mappings behind a UUID, and the UUID to go on from. Without qualifier: of any version."""
        found = sorted(
            (
                each
                for each in self._mappings.values()
                if (each.account_id, each.region) == (account_id, region)
                and each.uuid > after
                and source_arn in (None, each.source_arn)
                and (function is None or _invokes(each, function))
            ),
            key=lambda each: each.uuid,
        )
        shown = [(each, self._state(each)) for each in found[:limit]]
        return shown, shown[-1][0].uuid if len(found) > limit else None

    async def update(
        self, account_id: str, region: str, uuid: str, function: FunctionReference | None, settings: MappingSettings
    ) -> Shown:
        """Raises as `create`; ResourceNotFoundException, and ResourceInUseException when it is being deleted."""
        before = self._known(account_id, region, uuid)
        check_settings(before.source, settings)
        if before.is_deleting:
            raise ResourceInUseException("Cannot update the event source mapping because it is in use.")

        def changed(known: EventSourceMapping) -> EventSourceMapping:
            return replace(known, function=function or known.function, **settings)

        check(changed(before))
        await self._check_source(changed(before))

        def work(tables: Tables) -> EventSourceMapping:
            known = tables.record(EVENT_SOURCE_MAPPINGS, account_id, region, uuid)
            if known is None:
                raise no_such_mapping()
            updated = replace(changed(known), last_modified_s=self._clock.time())
            _refuse_second(tables, updated)
            tables.put_record(EVENT_SOURCE_MAPPINGS, updated)
            return updated

        after = await self._store.write(work)
        return self._changed(after, MappingState.UPDATING if before.enabled else MappingState.ENABLING)

    async def delete(self, account_id: str, region: str, uuid: str) -> Shown:
        """It is gone when the last batch has ended. Raises ResourceNotFoundException and ResourceInUseException."""
        if self._known(account_id, region, uuid).is_deleting:
            raise ResourceInUseException("Cannot delete the event source mapping because it is in use.")

        def work(tables: Tables) -> EventSourceMapping:
            known = tables.record(EVENT_SOURCE_MAPPINGS, account_id, region, uuid)
            if known is None:
                raise no_such_mapping()
            deleted = replace(known, is_deleting=True, last_modified_s=self._clock.time())
            tables.put_record(EVENT_SOURCE_MAPPINGS, deleted)
            return deleted

        return self._changed(await self._store.write(work), MappingState.DELETING)

    # Life

    async def start(self) -> None:
        """Load every mapping. Raises StoreUnavailable."""
        for mapping in await self._store.read(lambda tables: tables.records(EVENT_SOURCE_MAPPINGS)):
            self._mappings[mapping.uuid] = mapping

    async def run(self) -> None:
        """Read the sources, and write down what comes of it, for ever."""
        self._is_reading = True
        for mapping in list(self._mappings.values()):
            self._carry_out(mapping.uuid)
        while True:
            await self._has_results.wait()
            self._has_results.clear()
            try:
                await self._write_results()
            except StoreUnavailable as error:
                logger.error("The results of event source mappings cannot be written: %s", error)
            await self._clock.sleep(RESULTS_EVERY_S)

    async def stop(self, drain_s: float) -> None:
        """Take nothing more from any source, and let the batches that run end within so many seconds."""
        self._is_reading = False
        changes = list(self._changes.values())
        readings = [self._end(uuid) for uuid in list(self._readings)]
        work = [*changes, *(asyncio.ensure_future(each) for each in readings)]
        if work:
            _, left = await asyncio.wait(work, timeout=drain_s)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def close(self) -> None:
        """To be called when `run` has been cancelled. What is still running is left; its records come again."""
        await self.stop(0.0)
        with contextlib.suppress(StoreUnavailable):  # the results are for people, and the next ones are not far
            await self._write_results()

    # Watching what is written to embedded streams, so that they need not be asked all the time

    def attention(self, request: NeighbourRequest) -> Attention:
        operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
        written = _WRITES.get(request.service, ())
        if not self._readings or operation not in written or not self._backends.is_embedded(request.service):
            return Attention.NONE
        return Attention.WHOLE

    async def before(self, request: NeighbourRequest) -> NeighbourAnswer | None:
        return None

    async def after(self, request: NeighbourRequest, answer: NeighbourAnswer) -> None:
        """Wake the pollers of the streams that the request names."""
        body = request.body if isinstance(request.body, bytes) else b""
        operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
        for reading in self._readings.values():
            source, poller = reading.mapping.source, reading.poller
            if (
                isinstance(poller, StreamPoller)
                and (source.account_id, source.region) == (request.account_id, request.region)
                and source.name.encode() in body
            ):
                poller.wake(shards_changed=operation in _RESHARDING)

    # What a change means for the pollers

    def _changed(self, mapping: EventSourceMapping, state: MappingState) -> Shown:
        """A mapping is on disk as it is here: have it carried out."""
        self._mappings[mapping.uuid] = mapping
        self._on_the_way[mapping.uuid] = state
        self._carry_out(mapping.uuid)
        return mapping, self._state(mapping)

    def _carry_out(self, uuid: str) -> None:
        """Change what reads a mapping's source, behind what changes it already."""
        if not self._is_reading:
            return
        before = self._changes.get(uuid)
        task = asyncio.get_running_loop().create_task(self._follow(uuid, before))
        self._changes[uuid] = task
        task.add_done_callback(lambda done: self._followed(uuid, done))

    def _followed(self, uuid: str, task: asyncio.Task[None]) -> None:
        if self._changes.get(uuid) is task:
            del self._changes[uuid]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("event source mapping %s could not be changed: %r", uuid, error)

    async def _follow(self, uuid: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        mapping = self._mappings.get(uuid)
        if mapping is None:
            return
        await self._end(uuid)
        if mapping.is_deleting:
            await self._forget(mapping)
        elif mapping.enabled and self._is_reading:
            poller = self._poller(mapping)
            task = asyncio.get_running_loop().create_task(poller.run(), name=f"mapping-{uuid}")
            self._readings[uuid] = _Reading(mapping, poller, task)

    async def _end(self, uuid: str) -> None:
        """End what reads a source, with the batches that it has begun."""
        reading = self._readings.get(uuid)
        if reading is None:
            return
        reading.task.cancel()
        await asyncio.wait([reading.task])
        await reading.poller.stop()
        self._readings.pop(uuid, None)

    async def _forget(self, mapping: EventSourceMapping) -> None:
        """Raises StoreUnavailable: then it is gone after the next start."""
        key = mapping.account_id, mapping.region, mapping.uuid

        def work(tables: Tables) -> None:
            for checkpoint in tables.records(SHARD_CHECKPOINTS, *key):
                tables.delete_record(SHARD_CHECKPOINTS, *key, checkpoint.shard_id)
            tables.delete_record(EVENT_SOURCE_MAPPINGS, *key)
            tags.forget(tables, mapping.arn)

        await self._store.write(work)
        self._mappings.pop(mapping.uuid, None)
        self._on_the_way.pop(mapping.uuid, None)
        self._results.pop(mapping.uuid, None)

    def _poller(self, mapping: EventSourceMapping) -> Poller:
        batches = BatchInvoker(self._invoke, mapping.function)
        source = mapping.source
        if source.kind is SourceKind.QUEUE:  # AWS shows no result of these: it is for the log, and not kept
            tell = functools.partial(logger.debug, "%s: %s", source.arn)
            return QueuePoller(mapping, self._calls, batches, self._clock, tell)
        around = StreamSurroundings(
            client=stream_client(self._calls, source),
            store=self._store,
            dispatcher=self._dispatcher,
            clock=self._clock,
            wakes=self._backends.is_embedded(source.kind.value),
        )
        return StreamPoller(mapping, around, batches, self._teller(mapping.uuid))

    def _teller(self, uuid: str) -> Callable[[str], None]:
        def tell(result: str) -> None:
            mapping = self._mappings.get(uuid)
            if mapping is not None and mapping.last_result != result:
                self._mappings[uuid] = replace(mapping, last_result=result)
                self._results[uuid] = result
                self._has_results.set()

        return tell

    async def _write_results(self) -> None:
        results, self._results = self._results, {}
        told = [(self._mappings[uuid], result) for uuid, result in results.items() if uuid in self._mappings]

        def work(tables: Tables) -> None:
            for mapping, result in told:
                key = mapping.account_id, mapping.region, mapping.uuid
                known = tables.record(EVENT_SOURCE_MAPPINGS, *key)
                if known is not None:
                    tables.put_record(EVENT_SOURCE_MAPPINGS, replace(known, last_result=result))

        if told:
            await self._store.write(work)

    def _state(self, mapping: EventSourceMapping) -> MappingState:
        """What is true of a mapping now."""
        if mapping.is_deleting:
            return MappingState.DELETING
        reading = self._readings.get(mapping.uuid)
        if mapping.enabled:
            current = reading is not None and replace(reading.mapping, last_result="") == replace(
                mapping, last_result=""
            )
            if reading is not None and current and reading.poller.is_running:
                return MappingState.ENABLED
            return self._on_the_way.get(mapping.uuid, MappingState.ENABLING)
        return MappingState.DISABLED if reading is None else MappingState.DISABLING

    def _known(self, account_id: str, region: str, uuid: str) -> EventSourceMapping:
        mapping = self._mappings.get(uuid)
        if mapping is None or (mapping.account_id, mapping.region) != (account_id, region):
            raise no_such_mapping()
        return mapping

    async def _check_source(self, mapping: EventSourceMapping) -> None:
        """Whether the function and the source are there, and fit together.

        Raises InvalidParameterValueException and ServiceException.
        """
        batches = BatchInvoker(self._invoke, mapping.function)
        try:
            version = await batches.version()
        except ResourceNotFoundException as error:
            raise InvalidParameterValueException("Function does not exist") from error
        source = mapping.source
        if source.region != mapping.region:
            raise InvalidParameterValueException(
                f"The event source and the function must be in the same region: {source.arn}"
            )
        if source.account_id != mapping.account_id and self._backends.is_embedded(source.kind.value):
            # The embedded services know no policies by which an owner lets others read; a real endpoint checks its own.
            raise not_supported("An event source of another account")
        try:
            if source.kind is SourceKind.QUEUE:
                await self._check_queue(source, version.timeout_s)
            else:
                await self._check_stream(source)
        except NeighbourUnavailable as error:
            raise ServiceException(f"The event source cannot be asked: {error}") from error

    async def _check_queue(self, source: EventSource, function_timeout_s: int) -> None:
        queue = QueueClient(self._calls, source)
        try:
            await queue.find()
            visible_s = await queue.visibility_timeout_s()
        except NeighbourRefused as error:
            raise InvalidParameterValueException(
                f"Error occurred while ReceiveMessage. SQS Error Code: {error.code}. SQS Error Message: {error.message}"
            ) from error
        check_visibility(visible_s, function_timeout_s)

    async def _check_stream(self, source: EventSource) -> None:
        try:
            await stream_client(self._calls, source).shards()
        except NeighbourRefused as error:
            raise InvalidParameterValueException(f"Stream not found: {source.arn}") from error


def exists(tables: Tables, arn: str) -> bool:
    """Whether there is a mapping of this ARN, as tags are asked for it."""
    _, _, _, region, account_id, _, uuid = arn.split(":", 6)
    mapping = tables.record(EVENT_SOURCE_MAPPINGS, account_id, region, uuid)
    return mapping is not None and mapping.arn == arn and not mapping.is_deleting


def _invokes(mapping: EventSourceMapping, function: FunctionReference) -> bool:
    return mapping.function.key == function.key and function.qualifier in (None, mapping.function.qualifier)


def _refuse_second(tables: Tables, mapping: EventSourceMapping) -> None:
    """A function, version or alias reads a source by one mapping. Raises ResourceConflictException."""
    for other in tables.records(EVENT_SOURCE_MAPPINGS, mapping.account_id, mapping.region):
        is_same = other.source_arn == mapping.source_arn and other.function == mapping.function
        if is_same and other.uuid != mapping.uuid and not other.is_deleting:
            raise _conflict(mapping.source, other)


def _conflict(source: EventSource, other: EventSourceMapping) -> ResourceConflictException:
    place = f'(" {source.arn} ") and function (" {other.function.key.name} ")'
    advice = f"already exists. Please update or delete the existing mapping with UUID {other.uuid}"
    if source.kind is SourceKind.QUEUE:
        return ResourceConflictException(f"An event source mapping with SQS arn {place} {advice}")
    return ResourceConflictException(f"The event source arn {place} provided mapping {advice}")

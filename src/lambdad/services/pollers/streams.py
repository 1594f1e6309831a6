"""Reading a stream for a function: the shards at the same time, the records of each in order.

https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html, https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html
How far each shard is processed is kept in the store: whatever happens to the daemon, it goes on there, so that each
record is processed at least once. A shard that came of a split or a merge waits until its parents are finished.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

from lambdad.domain.dispatches import Dispatch
from lambdad.domain.errors import ResourceNotFoundException
from lambdad.domain.event_source_filters import SourceFilters
from lambdad.domain.event_source_mappings import (
    AT_TIMESTAMP,
    BATCH_BYTES_MAX,
    FOR_EVER,
    LATEST_RECORD,
    PROBLEM,
    EventSourceMapping,
    SourceKind,
)
from lambdad.domain.queue_events import encoded, event, failed_items, fitting
from lambdad.domain.stream_events import (
    AGE_EXCEEDED,
    RETRIES_EXHAUSTED,
    SHARD_CHECKPOINTS,
    FailedBatch,
    Shard,
    ShardCheckpoint,
    StreamRecord,
    failure_dispatch,
    lanes,
)
from lambdad.ports.clock import Clock
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable
from lambdad.ports.store import Store, StoreUnavailable, Tables
from lambdad.services.identifiers import new_request_id
from lambdad.services.pollers.batches import BatchInvoker, BatchResult, Ending
from lambdad.services.pollers.queues import backoff_s, first_of
from lambdad.services.pollers.stream_clients import READ_MAX, StreamClient

logger = logging.getLogger(__name__)

READ_EVERY_S: Final = {SourceKind.STREAM: 1.0, SourceKind.TABLE_STREAM: 0.25}
"""A shard that has nothing is read so often, as AWS documents it."""
IDLE_S_MAX: Final = 20.0
"""A shard of an embedded stream is read less and less often, to this: who writes to it wakes the poller."""
SHARDS_EVERY_S: Final = 60.0
"""So often new shards are looked for, when none has ended."""


class Accepts(Protocol):
    """`Dispatcher`, as pollers need it."""

    async def accept(self, dispatches: Sequence[Dispatch]) -> None: ...


@dataclass(frozen=True, slots=True)
class StreamSurroundings:
    """What a stream's poller works with. Of a source that `wakes`, the poller is woken for what is written to it."""

    client: StreamClient
    store: Store
    dispatcher: Accepts
    clock: Clock
    wakes: bool


@dataclass(frozen=True, slots=True)
class _Batch:
    records: Sequence[StreamRecord]
    attempts: int = 0


class StreamPoller:
    """Reads one stream while `run` runs. `tell` is given what LastProcessingResult is to say."""

    def __init__(
        self,
        mapping: EventSourceMapping,
        around: StreamSurroundings,
        batches: BatchInvoker,
        tell: Callable[[str], None],
    ) -> None:
        self._mapping = mapping
        self._source = mapping.source
        self._around = around
        self._clock = around.clock
        self._client = around.client
        self._batches = batches
        self._tell = tell
        self._filters = SourceFilters(mapping.filters, self._source.kind.value)
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._finished: set[str] = set()
        self._closed: set[str] = set()
        self._woken = asyncio.Event()
        self._shards_changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self.is_running = False
        """Whether it has begun to read."""

    def wake(self, *, shards_changed: bool) -> None:
        """Something may have been written to the stream, or its shards have changed."""
        if shards_changed:
            self._shards_changed.set()
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    async def run(self) -> None:
        """Read the stream until it is cancelled; then call `stop`."""
        problems = 0
        while True:
            try:
                await self._batches.version()
                self._shards_changed.clear()
                await self._read_shards()
                self.is_running = True
                problems = 0
            except Exception as error:  # noqa: BLE001 - whatever it is, the poller goes on; `_problem` tells of it
                self._problem(error)
                await self._clock.sleep(backoff_s(problems))
                problems += 1
                continue
            await first_of(self._clock.sleep(SHARDS_EVERY_S), self._shards_changed.wait())

    async def stop(self) -> None:
        """Wait for the batches that run, and keep how far they have come. `run` has been cancelled."""
        self._stopping.set()
        while self._reading:
            await asyncio.wait(self._reading.values())

    # Shards

    async def _read_shards(self) -> None:
        """Begin to read each shard that there is and whose parents are finished."""
        shards = await self._client.shards()
        checkpoints = await self._checkpoints(shards)
        self._finished = {each.shard_id for each in checkpoints.values() if each.is_finished}
        listed = {shard.id for shard in shards}
        closed = {shard.id for shard in shards if shard.is_closed}
        if not closed <= self._closed:
            self.wake(shards_changed=False)  # not every service says at the end of a shard that it is the end
        self._closed = closed
        for shard in shards:
            is_waiting = any(parent in listed and parent not in self._finished for parent in shard.parents)
            if shard.id in self._finished or shard.id in self._reading or is_waiting or self._stopping.is_set():
                continue
            work = self._read_shard(shard, checkpoints[shard.id])
            task = asyncio.get_running_loop().create_task(work, name=f"{self._mapping.uuid}/{shard.id}")
            self._reading[shard.id] = task
            task.add_done_callback(partial(self._shard_ended, shard.id))

    def _shard_ended(self, shard_id: str, task: asyncio.Task[None]) -> None:
        self._reading.pop(shard_id, None)
        self._shards_changed.set()

    async def _checkpoints(self, shards: Sequence[Shard]) -> dict[str, ShardCheckpoint]:
        """Those of every shard. At the first time the mapping's starting position holds; new shards are read wholly."""
        mapping = self._mapping
        scope = mapping.account_id, mapping.region, mapping.uuid

        def work(tables: Tables) -> dict[str, ShardCheckpoint]:
            known = {each.shard_id: each for each in tables.records(SHARD_CHECKPOINTS, *scope)}
            is_first = not known
            for shard in shards:
                if shard.id not in known:
                    made = _first_checkpoint(mapping, shard) if is_first else ShardCheckpoint(*scope, shard.id)
                    tables.put_record(SHARD_CHECKPOINTS, made)
                    known[shard.id] = made
            return known

        known = await self._around.store.read(
            lambda tables: {each.shard_id: each for each in tables.records(SHARD_CHECKPOINTS, *scope)}
        )
        return known if all(shard.id in known for shard in shards) else await self._around.store.write(work)

    async def _read_shard(self, shard: Shard, checkpoint: ShardCheckpoint) -> None:
        """Read one shard to its end, if it has one, or until the poller stops."""
        reader = _ShardReader(self, shard, checkpoint)
        problems = 0
        while not self._stopping.is_set():
            try:
                if await reader.take_batch():
                    return
                problems = 0
            except Exception as error:  # noqa: BLE001 - whatever it is, the shard is read on; `_problem` tells of it
                self._problem(error)
                reader.forget_iterator()
                await first_of(self._clock.sleep(backoff_s(problems)), self._stopping.wait())
                problems += 1

    async def pause(self, seconds: float, woken: asyncio.Event) -> None:
        """Wait so long, or until something has been written since `woken` was asked for, or the poller stops."""
        await first_of(self._clock.sleep(seconds), woken.wait(), self._stopping.wait())

    def _problem(self, error: Exception) -> None:
        known = NeighbourUnavailable, NeighbourRefused, StoreUnavailable, ResourceNotFoundException
        if not isinstance(error, known):
            logger.error("%s is not read for now", self._source.arn, exc_info=error)
        self._tell(f"{PROBLEM}{error}")

    # Processing

    async def work_off(self, shard_id: str, records: Sequence[StreamRecord], done: Callable[[str], None]) -> bool:
        """Have records processed, or given up; `done` is told of each sequence number up to which that is so.

        False when the poller stops before.
        """
        size, in_vain = self._mapping.batch_size, 0
        waiting = [_Batch(records[start : start + size]) for start in range(0, len(records), size)]
        while waiting:
            batch = waiting.pop(0)
            fresh, batch = await self._without_old(shard_id, batch)
            if not fresh:
                done(batch.records[-1].sequence_number)
                continue
            parts = [encoded(record.document) for record in batch.records]
            count = fitting([len(part) for part in parts])
            if count < len(parts):
                waiting.insert(0, _Batch(batch.records[count:], batch.attempts))
                batch = _Batch(batch.records[:count], batch.attempts)
            result = await self._batches.run(event(parts[:count]))
            self._tell(result.told)
            left = await self._after(shard_id, batch, result)
            processed = len(batch.records) - sum(len(each.records) for each in left)
            waiting[:0] = left
            if processed:
                in_vain = 0
                done(batch.records[processed - 1].sequence_number)
            else:
                await first_of(self._clock.sleep(backoff_s(in_vain)), self._stopping.wait())
                in_vain += 1
            if waiting and self._stopping.is_set():
                return False
        return True

    async def _without_old(self, shard_id: str, batch: _Batch) -> tuple[bool, _Batch]:
        """The records that are not too old; those that are, are given up. False, with the old ones, when all are."""
        max_age_s = self._mapping.maximum_record_age_s
        if max_age_s == FOR_EVER:
            return True, batch
        oldest_s = self._clock.time() - max_age_s
        old = [record for record in batch.records if record.arrived_s < oldest_s]
        if not old:
            return True, batch
        await self._give_up(shard_id, _Batch(old, batch.attempts), AGE_EXCEEDED, None)
        left = [record for record in batch.records if record.arrived_s >= oldest_s]
        return (True, _Batch(left, batch.attempts)) if left else (False, batch)

    async def _after(self, shard_id: str, batch: _Batch, result: BatchResult) -> Sequence[_Batch]:
        """What is left to be processed of a batch after an attempt, in order.

        https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html: halving a batch is no retry.
        """
        if result.ending is Ending.THROTTLED:
            return [batch]
        records = batch.records
        if result.ending is Ending.ANSWERED:
            if not self._mapping.reports_item_failures:
                return ()
            places = {record.sequence_number: place for place, record in enumerate(records)}
            failed = failed_items(result.response, places)
            if failed is not None:
                if not failed:
                    return ()
                records = records[min(places[item] for item in failed) :]
        maximum = self._mapping.maximum_retry_attempts
        left = _Batch(records, batch.attempts + 1)
        if self._mapping.bisects_batch and len(records) > 1:
            half = (len(records) + 1) // 2
            if len(records) == len(batch.records):
                return [_Batch(records[:half], batch.attempts), _Batch(records[half:], batch.attempts)]
            return [_Batch(records, batch.attempts)]
        if maximum != FOR_EVER and left.attempts > maximum:
            await self._give_up(shard_id, left, RETRIES_EXHAUSTED, result)
            return ()
        return [left]

    async def _give_up(self, shard_id: str, batch: _Batch, condition: str, result: BatchResult | None) -> None:
        """Tell the destination of records that are not processed. Raises StoreUnavailable."""
        version = result.version.version if result is not None and result.version is not None else ""
        request_id = result.request_id if result is not None and result.request_id else new_request_id()
        failed = FailedBatch(batch.records, shard_id, condition, batch.attempts, request_id, version)
        dispatch = failure_dispatch(self._mapping, failed, self._clock.time(), new_request_id())
        if dispatch is not None:
            await self._around.dispatcher.accept([dispatch])

    async def keep(self, checkpoint: ShardCheckpoint) -> None:
        """Raises StoreUnavailable."""
        await self._around.store.write(lambda tables: tables.put_record(SHARD_CHECKPOINTS, checkpoint))

    async def read(self, iterator: str, shard_id: str, limit: int) -> tuple[Sequence[StreamRecord], str | None]:
        role = (await self._batches.version()).role
        return await self._client.read(iterator, shard_id, min(limit, READ_MAX[self._source.kind]), role)

    @property
    def woken(self) -> asyncio.Event:
        """What is set when something is written from now on."""
        return self._woken

    def is_closed(self, shard_id: str) -> bool:
        """Whether nothing is added to a shard any more, as far as is known."""
        return shard_id in self._closed

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def mapping(self) -> EventSourceMapping:
        return self._mapping

    @property
    def around(self) -> StreamSurroundings:
        return self._around

    def let_pass(self, record: StreamRecord) -> bool:
        return self._filters.let_pass(record.document)


class _ShardReader:
    """One shard: what is read of it and not processed yet."""

    def __init__(self, poller: StreamPoller, shard: Shard, checkpoint: ShardCheckpoint) -> None:
        self._poller = poller
        self._shard = shard
        self._checkpoint = checkpoint
        self._read_to = checkpoint.sequence_number
        self._iterator: str | None = None
        self._idle_s = READ_EVERY_S[poller.mapping.source.kind]

    def forget_iterator(self) -> None:
        """Read on from behind what is processed."""
        self._iterator = None
        self._read_to = self._checkpoint.sequence_number

    async def take_batch(self) -> bool:
        """Read the records of a batch and have them processed; True when the shard is finished."""
        records, ended = await self._gather()
        if self._poller.is_stopping:
            return False
        if records:
            finished = await self._process(records)
            if not finished:
                return False
        if self._read_to != self._checkpoint.sequence_number or ended:
            await self._keep(self._read_to, is_finished=ended)
        return ended

    async def _gather(self) -> tuple[list[StreamRecord], bool]:
        """What is there, or with a batching window what comes until it closes; and whether the shard has ended."""
        poller, mapping = self._poller, self._poller.mapping
        clock, limit = poller.around.clock, mapping.batch_size * mapping.parallelization_factor
        base_s = READ_EVERY_S[mapping.source.kind]
        records: list[StreamRecord] = []
        closes, size = 0.0, 0
        while True:
            woken = poller.woken
            got, ended = await self._fetch(limit - len(records))
            wanted = [record for record in got if self._is_new(record) and poller.let_pass(record)]
            if wanted and not records:
                closes = clock.monotonic() + mapping.batching_window_s
            records += wanted
            left_s = closes - clock.monotonic()
            if left_s > 0:
                size += sum(len(encoded(record.document)) for record in wanted)
            is_full = len(records) >= limit or size >= BATCH_BYTES_MAX * mapping.parallelization_factor
            if ended or (records and (is_full or left_s <= 0)) or poller.is_stopping:
                return records, ended
            if got:
                self._idle_s = base_s
                if not records:
                    return [], False  # how far it has come past what is filtered out is worth keeping
                continue
            if records:
                await poller.pause(min(base_s, left_s), woken)
            else:
                await poller.pause(self._idle_s, woken)
                most_s = IDLE_S_MAX if poller.around.wakes else base_s
                self._idle_s = min(self._idle_s * 2, most_s)

    def _is_new(self, record: StreamRecord) -> bool:
        """Older ones are not for this mapping. Times have milliseconds, but those of AWS's DynamoDB whole seconds."""
        from_s = self._checkpoint.from_s
        if from_s is None:
            return True
        steps = 1 if record.arrived_s.is_integer() else 1000
        return record.arrived_s >= math.floor(from_s * steps) / steps

    async def _fetch(self, limit: int) -> tuple[Sequence[StreamRecord], bool]:
        client, shard = self._poller.around.client, self._shard
        if self._iterator is None:
            self._iterator = await client.iterator(shard.id, self._read_to, self._checkpoint.from_s)
        is_closed = self._poller.is_closed(shard.id)
        got, self._iterator = await self._poller.read(self._iterator, shard.id, limit)
        if got:
            self._read_to = got[-1].sequence_number
        return got, self._iterator is None or (is_closed and not got)

    async def _process(self, records: Sequence[StreamRecord]) -> bool:
        """False when the poller stops before all are processed; how far the first are is kept."""
        poller, mapping = self._poller, self._poller.mapping
        if mapping.parallelization_factor > 1:
            parts = lanes(records, mapping.parallelization_factor)
            # Each is waited for, also when another fails: the same records are read again then.
            results = await asyncio.gather(
                *(poller.work_off(self._shard.id, part, lambda sequence_number: None) for part in parts),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            return all(results)
        reached = ""

        def done(sequence_number: str) -> None:
            nonlocal reached
            reached = sequence_number

        try:
            return await poller.work_off(self._shard.id, records, done)
        finally:
            if reached and reached != records[-1].sequence_number:
                await self._keep(reached)

    async def _keep(self, sequence_number: str, *, is_finished: bool = False) -> None:
        checkpoint = replace(self._checkpoint, sequence_number=sequence_number, is_finished=is_finished)
        await self._poller.keep(checkpoint)
        self._checkpoint = checkpoint


def _first_checkpoint(mapping: EventSourceMapping, shard: Shard) -> ShardCheckpoint:
    """Where to begin with a shard that was there when the mapping was made.

    `LATEST` is from the moment of its creation, so that nothing is missed between that and the first time it is read.
    """
    scope = mapping.account_id, mapping.region, mapping.uuid
    if mapping.starting_position == LATEST_RECORD:
        return ShardCheckpoint(*scope, shard.id, from_s=mapping.created_s, is_finished=shard.is_closed)
    from_s = mapping.starting_timestamp_s if mapping.starting_position == AT_TIMESTAMP else None
    return ShardCheckpoint(*scope, shard.id, from_s=from_s)

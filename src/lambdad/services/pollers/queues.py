"""Reading a queue for a function: messages are taken in batches, and deleted when the function has processed them.

https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
What is not deleted is visible again after the queue's visibility timeout; the queue itself counts how often that was
and has a dead-letter queue or not. So nothing has to be remembered here, whatever happens to the daemon.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from lambdad.domain.errors import ResourceNotFoundException
from lambdad.domain.event_source_filters import SourceFilters
from lambdad.domain.event_source_mappings import PROBLEM, RECEIVED_AT_ONCE_MAX, EventSource, EventSourceMapping
from lambdad.domain.poller_scaling import GROWTH_S, Scaling
from lambdad.domain.queue_events import TRACE_ATTRIBUTE, encoded, event, failed_items, fitting, queue_record
from lambdad.ports.clock import Clock
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable
from lambdad.ports.store import StoreUnavailable
from lambdad.services.pollers.batches import BatchInvoker, BatchResult, Ending

logger = logging.getLogger(__name__)

LONG_POLL_S: Final = 20
"""The longest that SQS has."""
SHORT_POLL_S: Final = 1.0
"""So often a queue is asked whose service does not wait, or ends just now."""
ANSWER_S: Final = 30.0
"""An endpoint that says nothing for so much longer than it was to wait is taken for one that hangs."""
BACKOFF_S: Final = 0.2
BACKOFF_S_MAX: Final = 20.0
DELETIONS: Final = 3
"""So often the deletion of what was processed is tried; what then is left comes again."""

SERVICE: Final = "sqs"


class SourceCalls(Protocol):
    """`JsonNeighbours`, as pollers need it."""

    async def call(
        self, service: str, operation: str, parameters: Mapping[str, Any], *, account_id: str, region: str
    ) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class _Message:
    """A message as it stands in an event, and when it was taken. `trace` is empty when it carries none."""

    id: str
    receipt: str
    trace: str
    encoded: bytes
    taken: float


class QueueClient:
    """One queue, on behalf of its owner. Every method raises NeighbourUnavailable and NeighbourRefused."""

    def __init__(self, calls: SourceCalls, source: EventSource) -> None:
        self._calls = calls
        self._source = source
        self._url = ""

    async def find(self) -> None:
        """Learn the queue's URL, anew."""
        owner = self._source.account_id
        answer = await self._call("GetQueueUrl", QueueName=self._source.name, QueueOwnerAWSAccountId=owner)
        self._url = str(answer.get("QueueUrl") or "")
        if not self._url:
            raise NeighbourUnavailable("sqs did not answer GetQueueUrl as AWS does: there is no QueueUrl")

    async def visibility_timeout_s(self) -> int:
        answer = await self._call("GetQueueAttributes", QueueUrl=self._url, AttributeNames=["VisibilityTimeout"])
        return int(answer.get("Attributes", {}).get("VisibilityTimeout", 0))

    async def receive(self, count: int, wait_s: int) -> Sequence[Mapping[str, Any]]:
        async with asyncio.timeout(wait_s + ANSWER_S):
            answer = await self._call(
                "ReceiveMessage",
                QueueUrl=self._url,
                MaxNumberOfMessages=count,
                WaitTimeSeconds=wait_s,
                AttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
        return answer.get("Messages") or ()

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:
        """Delete messages, ten at the most; returns the receipts of those that it was not possible for."""
        entries = [{"Id": str(place), "ReceiptHandle": receipt} for place, receipt in enumerate(receipts)]
        answer = await self._call("DeleteMessageBatch", QueueUrl=self._url, Entries=entries)
        return [receipts[int(each["Id"])] for each in answer.get("Failed") or ()]

    async def release(self, receipts: Sequence[str]) -> None:
        """Have messages, ten at the most, visible at once."""
        entries = [
            {"Id": str(place), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
            for place, receipt in enumerate(receipts)
        ]
        await self._call("ChangeMessageVisibilityBatch", QueueUrl=self._url, Entries=entries)

    async def _call(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        source = self._source
        return await self._calls.call(
            SERVICE, operation, parameters, account_id=source.account_id, region=source.region
        )


class QueuePoller:
    """Reads one queue while `run` runs. `tell` is given the result of the last processing.

    One long poll waits at a time: a queue with nothing in it costs three requests a minute.
    """

    def __init__(
        self,
        mapping: EventSourceMapping,
        calls: SourceCalls,
        batches: BatchInvoker,
        clock: Clock,
        tell: Callable[[str], None],
    ) -> None:
        self._source = mapping.source
        self._mapping = mapping
        self._queue = QueueClient(calls, self._source)
        self._filters = SourceFilters(mapping.filters, SERVICE)
        self._batches = batches
        self._clock = clock
        self._tell = tell
        self._scaling = Scaling(mapping.maximum_concurrency)
        self._running: set[asyncio.Task[object]] = set()
        self._gathered: list[_Message] = []
        self._freed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._is_found = False
        self.is_running = False
        """Whether it has begun to read."""

    async def run(self) -> None:
        """Read the queue until it is cancelled; then call `stop`."""
        problems = 0
        while True:
            try:
                if not self._is_found:
                    await self._batches.version()
                    await self._queue.find()
                    self.is_running = self._is_found = True
                await self._read()
                problems = 0
            except (NeighbourUnavailable, NeighbourRefused, TimeoutError, StoreUnavailable) as error:
                if isinstance(error, NeighbourRefused):
                    self._is_found = False  # it may be another queue by now
                problem = str(error) or "the service does not answer"
            except ResourceNotFoundException as error:
                problem = error.message
            except Exception as error:  # a fault of ours must not end the poller for ever
                logger.exception("%s is not read for now", self._source.arn)
                problem = repr(error)
            else:
                continue
            self._tell(f"{PROBLEM}{problem}")
            if problems == 0:
                logger.warning("%s cannot be read: %s", self._source.arn, problem)
            await self._clock.sleep(backoff_s(problems))
            problems += 1

    async def stop(self) -> None:
        """Give back what was taken and has not been begun; wait for the batches that run. `run` has been cancelled."""
        self._stopping.set()
        self._freed.set()
        waiting, self._gathered = self._gathered, []
        await self._release(waiting)
        while self._running:
            await asyncio.wait(self._running)

    async def _read(self) -> None:
        """Take one batch, and begin to process it."""
        await self._free_place()
        await self._batches.version()  # of a function that is gone no message is taken
        began = self._clock.monotonic()
        received = await self._gather()
        if not received:
            self._scaling.empty()
            if self._clock.monotonic() - began < SHORT_POLL_S:
                await self._clock.sleep(SHORT_POLL_S)
        batches = []
        while self._gathered:
            count = fitting([len(message.encoded) for message in self._gathered])
            batches.append(self._gathered[:count])
            self._gathered = self._gathered[count:]
        if self._source.is_fifo:
            self._begin(self._process_in_order(batches))
        else:
            for batch in batches:
                self._begin(self._process(batch))

    async def _process_in_order(self, batches: Sequence[Sequence[_Message]]) -> None:
        """Messages that came together may be of one group: behind one that comes again, none is processed."""
        for place, batch in enumerate(batches):
            if not await self._process(batch) or self._stopping.is_set():
                await self._release([message for each in batches[place + 1 :] for message in each])
                return

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        self._freed.set()
        if not task.cancelled() and (error := task.exception()) is not None:  # a fault of ours: the messages come again
            logger.error("a batch of %s was not processed", self._source.arn, exc_info=error)

    async def _free_place(self) -> None:
        """Wait until one more batch may run; while all places are taken, there are more with time."""
        while len(self._running) >= self._scaling.limit:
            self._freed.clear()
            await first_of(self._freed.wait(), self._clock.sleep(GROWTH_S))
            if not self._freed.is_set():
                self._scaling.grow()

    async def _gather(self) -> int:
        """Take the messages of a batch: what is there, or with a batching window what comes until it closes.

        Returns how many have come at first, those that no filter lets pass among them.
        """
        size = self._mapping.batch_size
        received = await self._receive(min(size, RECEIVED_AT_ONCE_MAX), LONG_POLL_S)
        window_s = self._mapping.batching_window_s
        closes = self._clock.monotonic() + window_s
        while self._gathered and window_s and len(self._gathered) < size and not self._is_full():
            left_s = closes - self._clock.monotonic()
            if left_s <= 0:
                break
            count, taken = min(size - len(self._gathered), RECEIVED_AT_ONCE_MAX), len(self._gathered)
            try:
                await self._receive(count, min(int(left_s), LONG_POLL_S))
            except (NeighbourUnavailable, NeighbourRefused, TimeoutError) as error:
                self._tell(f"{PROBLEM}{error}")
                break
            if left_s < 1 and len(self._gathered) == taken:  # less than SQS can wait
                await self._clock.sleep(left_s)
        return received

    def _is_full(self) -> bool:
        sizes = [len(message.encoded) for message in self._gathered]
        return fitting(sizes) < len(sizes)

    async def _receive(self, count: int, wait_s: int) -> int:
        """Take messages; returns how many came."""
        unwanted = []
        received = await self._queue.receive(count, wait_s)
        taken = self._clock.monotonic()
        for raw in received:
            record = queue_record(raw, self._source)
            trace = str(record["attributes"].get(TRACE_ATTRIBUTE, ""))
            message = _Message(record["messageId"], record["receiptHandle"], trace, encoded(record), taken)
            if self._filters.let_pass(record):
                self._gathered.append(message)
            else:
                unwanted.append(message)
        if unwanted:  # https://docs.aws.amazon.com/lambda/latest/dg/with-sqs-filtering.html: they are deleted
            self._begin(self._delete(unwanted))
        return len(received)

    async def _process(self, batch: Sequence[_Message]) -> bool:
        """Run the function for a batch; a throttled one waits until its messages are visible to others again.

        Returns whether all its messages are processed.
        """
        payload, traces = event(message.encoded for message in batch), [message.trace for message in batch]
        result = await self._batches.run(payload, traces)
        throttles = 0
        while result.ending is Ending.THROTTLED:
            self._scaling.throttled()
            self._tell(result.told)
            wait_s = backoff_s(throttles)
            throttles += 1
            if not await self._is_hidden_for(batch[0].taken, wait_s):
                return False
            await first_of(self._clock.sleep(wait_s), self._stopping.wait())
            if self._stopping.is_set():
                await self._release(batch)
                return False
            result = await self._batches.run(payload, traces)
        if result.ending is Ending.LOOPED and len(batch) > 1:
            # Only those are stopped that have come round too often.
            return all([await self._process([message]) for message in batch])
        self._tell(result.told)
        failed = self._failed(batch, result)
        if failed and not self._mapping.reports_item_failures:
            self._scaling.failed()
        else:
            self._scaling.succeeded()
        await self._delete([message for message in batch if message.id not in failed])
        return not failed

    def _failed(self, batch: Sequence[_Message], result: BatchResult) -> Collection[str]:
        """The ids of the messages that are to come again."""
        every = {message.id for message in batch}
        if result.ending is not Ending.ANSWERED:
            return every
        if not self._mapping.reports_item_failures:
            return ()
        reported = failed_items(result.response, every)
        return every if reported is None else set(reported)

    async def _is_hidden_for(self, taken: float, seconds: float) -> bool:
        """Whether messages that were taken then are still nobody else's after so many seconds."""
        try:
            visible_s = await self._queue.visibility_timeout_s()
        except (NeighbourUnavailable, NeighbourRefused):
            return False
        return self._clock.monotonic() + seconds < taken + visible_s

    async def _delete(self, messages: Sequence[_Message]) -> None:
        for start in range(0, len(messages), RECEIVED_AT_ONCE_MAX):
            receipts: Sequence[str] = [each.receipt for each in messages[start : start + RECEIVED_AT_ONCE_MAX]]
            for attempt in range(DELETIONS):
                try:
                    receipts = await self._queue.delete(receipts)
                except (NeighbourUnavailable, NeighbourRefused) as error:
                    self._tell(f"{PROBLEM}{error}")
                    logger.warning("messages of %s are processed and not deleted: %s", self._source.arn, error)
                if not receipts:
                    break
                await self._clock.sleep(backoff_s(attempt))

    async def _release(self, messages: Sequence[_Message]) -> None:
        """Give messages back; should that fail, they are visible again with time."""
        for start in range(0, len(messages), RECEIVED_AT_ONCE_MAX):
            receipts = [each.receipt for each in messages[start : start + RECEIVED_AT_ONCE_MAX]]
            try:
                await self._queue.release(receipts)
            except (NeighbourUnavailable, NeighbourRefused) as error:
                logger.info("messages of %s are given back by time only: %s", self._source.arn, error)


def backoff_s(attempts: int) -> float:
    """How long to wait after so many attempts that have failed before."""
    return float(min(BACKOFF_S * 2 ** min(attempts, 16), BACKOFF_S_MAX))


async def first_of(*work: Coroutine[Any, Any, Any]) -> None:
    """Return when one of these has ended; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()

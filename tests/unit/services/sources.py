"""Queues, streams and functions in memory, for the pollers of event source mappings."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_store import MemoryStore
from lambdad.domain.arns import FunctionReference
from lambdad.domain.dispatches import Dispatch
from lambdad.domain.errors import ServiceError
from lambdad.domain.event_source_mappings import EventSourceMapping, SourceKind, parse_source
from lambdad.domain.functions import Function, FunctionVersion
from lambdad.domain.invocations import Outcome
from lambdad.ports.neighbours import NeighbourRefused, NeighbourUnavailable
from lambdad.services.invoke import InvokeRequest, Target
from lambdad.services.pollers.batches import BatchInvoker
from lambdad.services.pollers.queues import QueuePoller
from lambdad.services.pollers.stream_clients import stream_client
from lambdad.services.pollers.streams import StreamPoller, StreamSurroundings
from unit.services.fakes import KEY, draft

QUEUE = "arn:aws:sqs:us-east-1:000000000000:q"
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
TABLE = "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2026-01-01T00:00:00.000"
LOST = NeighbourUnavailable("the queue does not answer")
VISIBILITY_S = 30


@dataclass
class StoredMessage:
    id: str
    body: str
    group: str = ""
    visible_at: float = 0.0
    receives: int = 0
    attributes: dict[str, str] = field(default_factory=dict)


class FakeQueue:
    """One queue of SQS, whose time is a clock's. `failure` is raised by every call while it is set."""

    def __init__(self, clock: FakeClock, *, fifo: bool = False) -> None:
        self.clock = clock
        self.fifo = fifo
        self.messages: list[StoredMessage] = []
        self.deleted: list[str] = []
        self.failure: NeighbourUnavailable | NeighbourRefused | None = None
        self.calls: list[str] = []
        self.visibility_s = VISIBILITY_S
        self._ids = itertools.count(1)
        self._sent = asyncio.Event()

    def send(self, *bodies: str, group: str = "", **attributes: str) -> None:
        for body in bodies:
            self.messages.append(StoredMessage(f"m{next(self._ids)}", body, group, attributes=dict(attributes)))
        self._stir()

    def _stir(self) -> None:
        """A group of a FIFO queue may be free, or a message there: have those look who wait."""
        self._sent.set()
        self._sent = asyncio.Event()

    async def call(
        self, service: str, operation: str, parameters: Mapping[str, Any], *, account_id: str, region: str
    ) -> Mapping[str, Any]:
        await asyncio.sleep(0)
        self.calls.append(operation)
        if self.failure is not None:
            raise self.failure
        answer: Mapping[str, Any] = await getattr(self, operation)(parameters)
        return answer

    async def GetQueueUrl(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if parameters["QueueName"] not in ("q", "q.fifo"):
            raise NeighbourRefused(
                "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.", 400
            )
        return {"QueueUrl": "http://q"}

    async def GetQueueAttributes(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"Attributes": {"VisibilityTimeout": str(self.visibility_s)}}

    async def ReceiveMessage(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        until = self.clock.monotonic() + parameters["WaitTimeSeconds"]
        while True:
            taken = self._take(parameters["MaxNumberOfMessages"])
            left_s = until - self.clock.monotonic()
            if taken or left_s <= 0:
                return {"Messages": taken} if taken else {}
            again = [each.visible_at - self.clock.monotonic() for each in self.messages]
            sleep_s = min([left_s, *(each for each in again if each > 0)])
            waits = [asyncio.ensure_future(self._sent.wait()), asyncio.ensure_future(self.clock.sleep(sleep_s))]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()

    async def DeleteMessageBatch(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        receipts = {entry["ReceiptHandle"] for entry in parameters["Entries"]}
        self.deleted += [each.body for each in self.messages if each.id in receipts]
        self.messages = [each for each in self.messages if each.id not in receipts]
        self._stir()
        return {"Successful": []}

    async def ChangeMessageVisibilityBatch(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        receipts = {entry["ReceiptHandle"] for entry in parameters["Entries"]}
        for message in self.messages:
            if message.id in receipts:
                message.visible_at = 0.0
        return {"Successful": []}

    def _take(self, count: int) -> list[dict[str, Any]]:
        now = self.clock.monotonic()
        taken: list[StoredMessage] = []
        busy = {each.group for each in self.messages if each.visible_at > now and each.group}
        for message in self.messages:
            if len(taken) < count and message.visible_at <= now and message.group not in busy:
                taken.append(message)
            elif self.fifo:
                busy.add(message.group)
        for message in taken:
            message.visible_at = now + self.visibility_s
            message.receives += 1
        return [
            {
                "MessageId": each.id,
                "ReceiptHandle": each.id,
                "Body": each.body,
                "MD5OfBody": "md5",
                "Attributes": {"ApproximateReceiveCount": str(each.receives), **each.attributes},
            }
            for each in taken
        ]


@dataclass
class StoredShard:
    records: list[dict[str, Any]] = field(default_factory=list)
    parents: tuple[str, ...] = ()
    closed: bool = False


class FakeStream:
    """A stream of Kinesis, or of a table of DynamoDB."""

    def __init__(self, clock: FakeClock, shards: Sequence[str] = ("shard-0",)) -> None:
        self.clock = clock
        self.shards = {name: StoredShard() for name in shards}
        self.table_arn = TABLE
        self.tells_end = True
        """Whether reading says that a closed shard has ended: the embedded Kinesis does not."""
        self.rounds_times = True
        """Whether times of DynamoDB are whole seconds: the embedded one knows more."""
        self.failure: NeighbourUnavailable | NeighbourRefused | None = None
        self.calls: list[str] = []

    def put(self, *data: str, shard: str = "shard-0", partition: str = "p") -> None:
        records = self.shards[shard].records
        for each in data:
            records.append(
                {
                    "SequenceNumber": f"{len(records) + 1:05d}",
                    "PartitionKey": partition,
                    "Data": base64.b64encode(each.encode()).decode(),
                    "ApproximateArrivalTimestamp": self.clock.time(),
                }
            )

    async def call(
        self, service: str, operation: str, parameters: Mapping[str, Any], *, account_id: str, region: str
    ) -> Mapping[str, Any]:
        await asyncio.sleep(0)
        self.calls.append(operation)
        if self.failure is not None:
            raise self.failure
        answer: Mapping[str, Any] = getattr(self, f"_{operation}_{service}")(parameters)
        return answer

    def _shard(self, name: str, shard: StoredShard) -> Mapping[str, Any]:
        numbers = {"StartingSequenceNumber": "0", **({"EndingSequenceNumber": "9"} if shard.closed else {})}
        parents = dict(zip(("ParentShardId", "AdjacentParentShardId"), shard.parents, strict=False))
        return {"ShardId": name, "SequenceNumberRange": numbers, **parents}

    def _ListShards_kinesis(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if parameters.get("StreamName", "s") != "s":
            raise NeighbourRefused("ResourceNotFoundException", "no stream", 400)
        return {"Shards": [self._shard(name, shard) for name, shard in self.shards.items()]}

    def _DescribeStream_dynamodbstreams(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"StreamDescription": {"Shards": [self._shard(name, each) for name, each in self.shards.items()]}}

    def _GetShardIterator_kinesis(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        name, records = parameters["ShardId"], self.shards[parameters["ShardId"]].records
        after = parameters.get("StartingSequenceNumber") or parameters.get("SequenceNumber") or ""
        from_s = parameters.get("Timestamp", 0.0)
        place = sum(
            1 for each in records if each["SequenceNumber"] <= after or each["ApproximateArrivalTimestamp"] < from_s
        )
        return {"ShardIterator": f"{name}/{place}"}

    def _GetRecords_kinesis(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        name, place = parameters["ShardIterator"].split("/")
        shard = self.shards[name]
        got = shard.records[int(place) : int(place) + parameters["Limit"]]
        reached = int(place) + len(got)
        ended = shard.closed and reached == len(shard.records) and self.tells_end
        return {"Records": got, "NextShardIterator": None if ended else f"{name}/{reached}"}

    _GetShardIterator_dynamodbstreams = _GetShardIterator_kinesis

    def _GetRecords_dynamodbstreams(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        answer, times = dict(self._GetRecords_kinesis(parameters)), int if self.rounds_times else float
        answer["Records"] = [
            {
                "eventID": each["SequenceNumber"],
                "eventName": "INSERT",
                "dynamodb": {
                    "Keys": {"id": {"S": each["PartitionKey"]}},
                    "SequenceNumber": each["SequenceNumber"],
                    "ApproximateCreationDateTime": times(each["ApproximateArrivalTimestamp"]),
                },
            }
            for each in answer["Records"]
        ]
        return answer


class FakeFunction:
    """`Invoker` of one function. `answers` is called with each event; a ServiceError that it returns is raised."""

    def __init__(self) -> None:
        self.version: FunctionVersion | None = replace(draft(KEY), timeout_s=3)
        self.events: list[dict[str, Any]] = []
        self.requests: list[InvokeRequest] = []
        self.running = 0
        self.most = 0
        self.gate: asyncio.Event | None = None
        self.answers: Callable[[dict[str, Any]], Outcome | ServiceError] = lambda event: Outcome(b"null")

    async def invoke(self, request: InvokeRequest) -> tuple[FunctionVersion, Outcome]:
        version = (await self.target(request.reference)).version
        event = json.loads(request.payload)
        self.requests.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            answer = self.answers(event)
        finally:
            self.running -= 1
        if isinstance(answer, ServiceError):
            raise answer
        self.events.append(event)
        return version, answer

    async def target(self, reference: FunctionReference) -> Target:
        if self.version is None:
            raise reference.not_found()
        return Target.of(Function(KEY), self.version)

    def bodies(self) -> list[list[str]]:
        """What each batch has had, of messages."""
        return [[record["body"] for record in event["Records"]] for event in self.events]

    def data(self) -> list[list[str]]:
        """What each batch has had, of records of Kinesis."""
        return [
            [base64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]
            for event in self.events
        ]


class FakeDispatcher:
    def __init__(self) -> None:
        self.accepted: list[Dispatch] = []

    async def accept(self, dispatches: Sequence[Dispatch]) -> None:
        self.accepted += dispatches


def mapping(source_arn: str = QUEUE, **settings: Any) -> EventSourceMapping:
    is_queue = parse_source(source_arn).kind is SourceKind.QUEUE
    made = EventSourceMapping(
        account_id=KEY.account_id,
        region=KEY.region,
        uuid="00000000-0000-4000-8000-000000000000",
        source_arn=source_arn,
        function=FunctionReference(KEY, None),
        enabled=True,
        batch_size=10 if is_queue else 100,
        created_s=FakeClock().time(),
        last_modified_s=FakeClock().time(),
        starting_position="" if is_queue else "TRIM_HORIZON",
    )
    return replace(made, **settings)


class Reading:
    """A poller at work on a fake source."""

    def __init__(self, *, shards: Sequence[str] = ("shard-0",)) -> None:
        self.clock = FakeClock()
        self.queue = FakeQueue(self.clock)
        self.stream = FakeStream(self.clock, shards)
        self.function = FakeFunction()
        self.store = MemoryStore()
        self.dispatcher = FakeDispatcher()
        self.told: list[str] = []
        self.poller: Any = None
        self.task: asyncio.Task[None] | None = None

    async def begin(self, source_arn: str = QUEUE, *, wakes: bool = False, **settings: Any) -> None:
        made = mapping(source_arn, **settings)
        batches = BatchInvoker(self.function, made.function)
        if made.source.kind is SourceKind.QUEUE:
            self.queue.fifo = made.source.is_fifo
            self.poller = QueuePoller(made, self.queue, batches, self.clock, self.told.append)
        else:
            client = stream_client(self.stream, made.source)
            around = StreamSurroundings(client, self.store, self.dispatcher, self.clock, wakes)
            self.poller = StreamPoller(made, around, batches, self.told.append)
        self.task = asyncio.get_running_loop().create_task(self.poller.run())
        await self.settle()

    async def settle(self) -> None:
        """Let everything run that needs no time."""
        for _ in range(5):
            await self.clock.advance(0)

    async def pass_time(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        await self.settle()

    async def end(self) -> None:
        """As a stop of the daemon: nothing is taken any more, and what runs may end."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            self.task = None
            await self.poller.stop()

    async def die(self) -> None:
        """As `kill -9`: everything stops where it is."""
        me = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not me]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.task = None


def reading(test: Callable[[Reading], Awaitable[None]]) -> Callable[[], None]:
    """Run an asynchronous test with a `Reading` of its own, which ends with it."""

    def run() -> None:
        async def inside() -> None:
            world = Reading()
            await test(world)
            world.function.gate = None
            await world.die()

        asyncio.run(inside())

    run.__name__ = test.__name__
    return run

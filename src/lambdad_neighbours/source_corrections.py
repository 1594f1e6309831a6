"""Where moto's queues and streams do what AWS's do not, and event source mappings would see it."""

from __future__ import annotations

import base64
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

TRACE_HEADER: Final = "X-Amzn-Trace-Id"
TRACE_ATTRIBUTE: Final = "AWSTraceHeader"
ITERATORS: Final = 10_000
"""Of DynamoDB Streams, so many of the newest are known; moto makes one with each GetRecords."""
RECORD_VERSION: Final = "1.1"
"""Of the format of stream records, since they have a `userIdentity`."""
COLLECTION_BYTES: Final = 3
"""What a list or map of an item counts for, beside one byte for each member."""
_SEQUENCE_START: Final = 10**19
"""Sequence numbers of FIFO queues have 20 digits."""


def correct_sqs() -> None:
    """Messages carry traces; those of FIFO queues have sequence numbers, and come once and in order within a group."""
    _trace_messages()
    _keep_groups_in_order()
    _number_messages()
    _remember_deduplication_ids()


def _keep_groups_in_order() -> None:
    """While a message of a group is hidden no other of the group is given; then they come in order, the first first.

    moto gives those that are visible again one by one, and the last first:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html
    """
    from moto.core.utils import unix_time_millis
    from moto.sqs.models import Queue, SQSBackend

    receive, now_ms = SQSBackend.receive_message, 0.0

    def hidden_groups(queue: Any) -> set[str]:
        """As one request sees them, however long it takes."""
        return {each.group_id for each in queue.pending_messages if each.group_id and each.visible_at >= now_ms}

    def receive_in_order(backend: Any, queue_name: str, *arguments: Any, **named: Any) -> Any:
        nonlocal now_ms
        queue, now_ms = backend.get_queue(queue_name), unix_time_millis()
        if queue.fifo_queue:
            for message in [each for each in queue.pending_messages if each.visible_at < now_ms]:
                queue.pending_messages.discard(message)
        return receive(backend, queue_name, *arguments, **named)

    Queue.pending_message_groups = property(hidden_groups)
    SQSBackend.receive_message = receive_in_order


def _number_messages() -> None:
    """Each message of a FIFO queue has a sequence number, larger than those before it; moto draws lots for some.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
    """
    from moto.sqs.models import SQSBackend

    send, last = SQSBackend.send_message, 0

    def send_numbered(backend: Any, queue_name: str, *arguments: Any, **named: Any) -> Any:
        nonlocal last
        queue = backend.get_queue(queue_name)
        message = send(backend, queue_name, *arguments, **named)
        if queue.fifo_queue:
            last = max(last + 1, time.time_ns())
            message.sequence_number = str(_SEQUENCE_START + last)
        return message

    SQSBackend.send_message = send_numbered


def _remember_deduplication_ids() -> None:
    """What is sent again within five minutes is dropped, also when the first message is deleted; moto knows no deleted.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-messagededuplicationid-property.html
    """
    from moto.sqs.models import DEDUPLICATION_TIME_IN_SECONDS, Queue

    add = Queue.add_message

    def add_once(queue: Any, message: Any) -> None:
        is_new = message.approximate_receive_count == 0  # and does not come from another queue, for its dead letters
        if queue.fifo_queue and message.deduplication_id and is_new:
            sent: dict[tuple[str, str], int] = vars(queue).setdefault("sent_ms", {})
            oldest_ms = message.sent_timestamp - DEDUPLICATION_TIME_IN_SECONDS * 1000
            while sent and sent[next(iter(sent))] <= oldest_ms:
                del sent[next(iter(sent))]
            is_of_group = queue.attributes.get("DeduplicationScope") == "messageGroup"
            key = (message.group_id if is_of_group else "", message.deduplication_id)
            if key in sent:
                return
            sent[key] = message.sent_timestamp
        add(queue, message)

    Queue.add_message = add_once


def _trace_messages() -> None:
    """A message carries the trace with which it was sent, or the one that the sender gives, also one of a batch.

    https://docs.aws.amazon.com/xray/latest/devguide/xray-services-sqs.html
    """
    from moto.sqs.models import SQSBackend
    from moto.sqs.responses import SQSResponse

    sending = _Sending()
    send, send_batch = SQSBackend.send_message, SQSBackend.send_message_batch

    def traced(backend: Any, *arguments: Any, **named: Any) -> Any:
        given = named.pop("system_attributes", None) or sending.of_entry(named.get("message_attributes"))
        return send(backend, *arguments, system_attributes=given or sending.trace(), **named)

    def batch(backend: Any, queue_name: str, entries: Mapping[str, dict[str, Any]]) -> Any:
        sending.entries = list(entries.values())
        return send_batch(backend, queue_name, entries)

    def with_header(operation: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def answer(response: Any) -> Any:
            sending.header, sending.entries = response.headers.get(TRACE_HEADER, ""), ()
            try:
                return operation(response)
            finally:
                sending.header, sending.entries = "", ()

        return answer

    SQSBackend.send_message, SQSBackend.send_message_batch = traced, batch
    SQSResponse.send_message = with_header(SQSResponse.send_message)
    SQSResponse.send_message_batch = with_header(SQSResponse.send_message_batch)


class _Sending:
    """The request that the worker, which has one at a time, is answering."""

    def __init__(self) -> None:
        self.header = ""
        self.entries: Iterable[dict[str, Any]] = ()

    def trace(self) -> dict[str, Any]:
        return {TRACE_ATTRIBUTE: {"DataType": "String", "StringValue": self.header}} if self.header else {}

    def of_entry(self, attributes: Any) -> Any:
        """The system attributes of the entry of a batch, which moto hands on with nothing but its own attributes."""
        entries = (each for each in self.entries if each.get("MessageAttributes") is attributes)
        return next((each.get("MessageSystemAttributes") for each in entries), None)


def correct_kinesis() -> None:
    """A shard that is split or merged keeps its records, and gets no more; moto moves them to the new ones.

    https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-after-resharding.html
    """
    from moto.kinesis.models import Stream

    def keeping(reshard: Callable[..., None]) -> Callable[..., None]:
        def call(stream: Any, *arguments: Any, **named: Any) -> None:
            kept = {shard_id: shard.records for shard_id, shard in stream.shards.items()}
            for shard in stream.shards.values():
                shard.records = OrderedDict()
            try:
                reshard(stream, *arguments, **named)
            finally:
                for shard_id, records in kept.items():
                    stream.shards[shard_id].records = records

        return call

    find = Stream.get_shard_for_key

    def open_shard(stream: Any, *arguments: Any, **named: Any) -> Any:
        every = stream.shards
        stream.shards = {shard_id: shard for shard_id, shard in every.items() if shard.is_open}
        try:
            return find(stream, *arguments, **named)
        finally:
            stream.shards = every

    Stream.get_shard_for_key = open_shard
    Stream.split_shard, Stream.merge_shards = keeping(Stream.split_shard), keeping(Stream.merge_shards)


def correct_tables() -> None:
    """A write makes one stream record, and none when it changes nothing; the record says what DynamoDB says.

    A stream that is switched off is gone with its records, where AWS keeps these for a day; moto would go on with it.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
    """
    from moto.dynamodb.models import DynamoDBBackend
    from moto.dynamodb.models.table import StreamRecord, StreamShard, Table
    from moto.dynamodb.models.utilities import dynamo_json_dump

    put, update = Table.put_item, DynamoDBBackend.update_item
    add, make, specify = StreamShard.add, StreamRecord.__init__, Table.set_stream_specification
    is_updating = False

    def update_once(backend: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal is_updating
        is_updating = True
        try:
            return update(backend, *arguments, **named)
        finally:
            is_updating = False

    def put_once(table: Any, *arguments: Any, **named: Any) -> Any:
        """An update of what is not there puts its key first, which is no write of its own."""
        if not is_updating:
            return put(table, *arguments, **named)
        shard, table.stream_shard = table.stream_shard, None
        try:
            return put(table, *arguments, **named)
        finally:
            table.stream_shard = shard

    def add_change(shard: Any, old: Any, new: Any) -> None:
        if old is None or new is None or plain(old.to_json()) != plain(new.to_json()):
            add(shard, old, new)

    def plain(document: Any) -> Any:
        """Without the objects and bytes that moto has in it."""
        return json.loads(dynamo_json_dump(document))

    def make_record(record: Any, table: Any, *arguments: Any, **named: Any) -> None:
        make(record, table, *arguments, **named)
        change = record.record["dynamodb"]
        images = (change.get(name) or {} for name in ("Keys", "NewImage", "OldImage"))
        change["SizeBytes"] = sum(_item_bytes(plain(image)) for image in images)
        record.record |= {"eventVersion": RECORD_VERSION, "awsRegion": table.region_name}

    def set_stream(table: Any, streams: Any) -> None:
        specify(table, streams)
        if not table.stream_specification["StreamEnabled"]:
            table.stream_shard = table.latest_stream_label = None

    DynamoDBBackend.update_item, Table.put_item = update_once, put_once
    Table.set_stream_specification = set_stream
    StreamShard.add, StreamRecord.__init__ = add_change, make_record


def _item_bytes(attributes: Mapping[str, Any]) -> int:
    """https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html"""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in attributes.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    if kind == "M":
        return COLLECTION_BYTES + len(content) + _item_bytes(content)
    if kind == "L":
        return COLLECTION_BYTES + len(content) + sum(_value_bytes(each) for each in content)
    if kind in ("SS", "NS", "BS"):
        return sum(_value_bytes({kind[0]: each}) for each in content)
    if kind == "N":  # one byte for two significant digits, and one
        digits = str(content).lower().partition("e")[0].lstrip("+-").replace(".", "").strip("0")
        return (len(digits) + 1) // 2 + 1
    if kind == "B":
        return len(base64.b64decode(content))
    return len(str(content).encode()) if kind == "S" else 1


def correct_table_streams() -> None:
    """Iterators are forgotten with time, and a table has one stream, with its own ARN.

    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html and
    API_streams_DescribeStream.html
    """
    from moto.dynamodb.exceptions import ResourceNotFoundException
    from moto.dynamodbstreams.models import DynamoDBStreamsBackend

    get, table_of = DynamoDBStreamsBackend.get_records, DynamoDBStreamsBackend._get_table_from_arn

    def get_and_forget(backend: Any, *arguments: Any, **named: Any) -> Any:
        answer = get(backend, *arguments, **named)
        while len(backend.shard_iterators) > ITERATORS:
            del backend.shard_iterators[next(iter(backend.shard_iterators))]
        return answer

    def table_with_stream(backend: Any, arn: str) -> Any:
        table = table_of(backend, arn)
        if table.stream_shard is None or table.latest_stream_label != arn.rpartition("/")[2]:
            raise ResourceNotFoundException(f"Requested resource not found: Stream: {arn} not found")
        return table

    DynamoDBStreamsBackend.get_records = get_and_forget
    DynamoDBStreamsBackend._get_table_from_arn = table_with_stream

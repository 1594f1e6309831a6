"""Where moto's queues and streams do what AWS's do not, and event source mappings would see it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

TRACE_HEADER: Final = "X-Amzn-Trace-Id"
TRACE_ATTRIBUTE: Final = "AWSTraceHeader"
ITERATORS: Final = 10_000
"""Of DynamoDB Streams, so many of the newest are known; moto makes one with each GetRecords."""


def correct_sqs() -> None:
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


def correct_table_streams() -> None:
    """Iterators are forgotten with time: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/
    API_streams_GetShardIterator.html
    """
    from moto.dynamodbstreams.models import DynamoDBStreamsBackend

    get = DynamoDBStreamsBackend.get_records

    def get_and_forget(backend: Any, *arguments: Any, **named: Any) -> Any:
        answer = get(backend, *arguments, **named)
        while len(backend.shard_iterators) > ITERATORS:
            del backend.shard_iterators[next(iter(backend.shard_iterators))]
        return answer

    DynamoDBStreamsBackend.get_records = get_and_forget

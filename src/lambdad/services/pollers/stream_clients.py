"""Kinesis and DynamoDB Streams as pollers read them.

https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetShardIterator.html
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from lambdad.domain.event_source_mappings import EventSource, SourceKind
from lambdad.domain.stream_events import Shard, StreamRecord, stream_record, table_record
from lambdad.ports.neighbours import NeighbourRefused
from lambdad.services.pollers.queues import SourceCalls

READ_MAX: Final = {SourceKind.STREAM: 10_000, SourceKind.TABLE_STREAM: 1_000}
"""Records that GetRecords gives at once."""


class StreamClient(Protocol):
    """One stream. Every method raises NeighbourUnavailable and NeighbourRefused."""

    async def shards(self) -> Sequence[Shard]: ...

    async def iterator(self, shard_id: str, after: str, from_s: float | None) -> str:
        """Where to read on behind a sequence number, or when that is empty from a moment; None: the oldest record.

        What is older than the moment may come too.
        """

    async def read(
        self, iterator: str, shard_id: str, limit: int, role: str
    ) -> tuple[Sequence[StreamRecord], str | None]:
        """Some records, and where to read on; None at the end of a shard that is closed."""


class KinesisClient:
    def __init__(self, calls: SourceCalls, source: EventSource) -> None:
        self._calls = calls
        self._source = source

    async def shards(self) -> Sequence[Shard]:
        shards: list[Shard] = []
        parameters: dict[str, Any] = {"StreamName": self._source.name}
        while True:
            answer = await self._call("ListShards", parameters)
            for each in answer.get("Shards") or ():
                parents = tuple(each[name] for name in ("ParentShardId", "AdjacentParentShardId") if each.get(name))
                is_closed = bool((each.get("SequenceNumberRange") or {}).get("EndingSequenceNumber"))
                shards.append(Shard(each["ShardId"], parents, is_closed))
            if not answer.get("NextToken"):
                return shards
            parameters = {"NextToken": answer["NextToken"]}

    async def iterator(self, shard_id: str, after: str, from_s: float | None) -> str:
        parameters: dict[str, Any] = {"StreamName": self._source.name, "ShardId": shard_id}
        if after:
            parameters |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        elif from_s is not None:
            parameters |= {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": from_s}
        else:
            parameters["ShardIteratorType"] = "TRIM_HORIZON"
        return str((await self._call("GetShardIterator", parameters))["ShardIterator"])

    async def read(
        self, iterator: str, shard_id: str, limit: int, role: str
    ) -> tuple[Sequence[StreamRecord], str | None]:
        answer = await self._call("GetRecords", {"ShardIterator": iterator, "Limit": limit})
        records = [stream_record(raw, shard_id, self._source, role) for raw in answer.get("Records") or ()]
        return records, answer.get("NextShardIterator") or None

    async def _call(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        source = self._source
        return await self._calls.call(
            source.kind.value, operation, parameters, account_id=source.account_id, region=source.region
        )


class TableStreamClient:
    def __init__(self, calls: SourceCalls, source: EventSource) -> None:
        self._calls = calls
        self._source = source
        self._arn = source.arn

    async def shards(self) -> Sequence[Shard]:
        try:
            return await self._shards()
        except NeighbourRefused:
            self._arn = await self._own_arn()
            return await self._shards()

    async def _own_arn(self) -> str:
        """What the service calls the stream: DynamoDB Local says that it is in a region `ddblocal`, which is none."""
        label = self._source.arn.rpartition("/")[2]
        streams = (await self._call("ListStreams", {"TableName": self._source.name})).get("Streams") or ()
        return next((each["StreamArn"] for each in streams if each["StreamLabel"] == label), self._source.arn)

    async def _shards(self) -> Sequence[Shard]:
        shards: list[Shard] = []
        parameters: dict[str, Any] = {"StreamArn": self._arn}
        while True:
            described = (await self._call("DescribeStream", parameters))["StreamDescription"]
            for each in described.get("Shards") or ():
                parents = (each["ParentShardId"],) if each.get("ParentShardId") else ()
                is_closed = bool((each.get("SequenceNumberRange") or {}).get("EndingSequenceNumber"))
                shards.append(Shard(each["ShardId"], parents, is_closed))
            if not described.get("LastEvaluatedShardId"):
                return shards
            parameters["ExclusiveStartShardId"] = described["LastEvaluatedShardId"]

    async def iterator(self, shard_id: str, after: str, from_s: float | None) -> str:
        parameters: dict[str, Any] = {"StreamArn": self._arn, "ShardId": shard_id}
        if after:
            parameters |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        else:  # there is none for a moment: who asks passes over what is older
            parameters["ShardIteratorType"] = "TRIM_HORIZON"
        return str((await self._call("GetShardIterator", parameters))["ShardIterator"])

    async def read(
        self, iterator: str, shard_id: str, limit: int, role: str
    ) -> tuple[Sequence[StreamRecord], str | None]:
        answer = await self._call("GetRecords", {"ShardIterator": iterator, "Limit": limit})
        records = [table_record(raw, self._source) for raw in answer.get("Records") or ()]
        return records, answer.get("NextShardIterator") or None

    async def _call(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        source = self._source
        return await self._calls.call(
            source.kind.value, operation, parameters, account_id=source.account_id, region=source.region
        )


def stream_client(calls: SourceCalls, source: EventSource) -> StreamClient:
    if source.kind is SourceKind.STREAM:
        return KinesisClient(calls, source)
    return TableStreamClient(calls, source)

"""Log streams."""

from __future__ import annotations

from typing import Any

from lambdad.domain.logs import DESCRIBE_PAGE, GroupKey, LogStream, Position
from lambdad.ingress.logs_api.names import identified_group, named_group
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.logs import LogsService


async def create_log_stream(logs: LogsService, call: Call, params: Params) -> Output:
    await logs.create_log_stream(named_group(call, params), params["logStreamName"])
    return {}


async def delete_log_stream(logs: LogsService, call: Call, params: Params) -> Output:
    await logs.delete_log_stream(named_group(call, params), params["logStreamName"])
    return {}


async def describe_log_streams(logs: LogsService, call: Call, params: Params) -> Output:
    key = identified_group(call, params)
    page = await logs.log_streams(
        key,
        prefix=params.get("logStreamNamePrefix", ""),
        by_time=params.get("orderBy") == "LastEventTime",
        descending=params.get("descending", False),
        next_token=params.get("nextToken"),
        limit=params.get("limit", DESCRIBE_PAGE),
    )
    output: dict[str, Any] = {"logStreams": [_described(key, stream) for stream in page.streams]}
    if page.next_token is not None:
        output["nextToken"] = page.next_token
    return output


def _described(key: GroupKey, stream: LogStream) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "logStreamName": stream.name,
        "creationTime": stream.created_ms,
        # Deprecated and ignored by PutLogEvents, but clients of the old kind expect one.
        "uploadSequenceToken": sequence_token(stream.last_ingestion_ms or stream.created_ms),
        "arn": key.stream_arn(stream.name),
        # Since 2019 the service says zero for streams.
        "storedBytes": 0,
    }
    times = {
        "firstEventTimestamp": stream.first_event_ms,
        "lastEventTimestamp": stream.last_event_ms,
        "lastIngestionTime": stream.last_ingestion_ms,
    }
    return rendered | {name: time_ms for name, time_ms in times.items() if time_ms is not None}


def sequence_token(time_ms: int) -> str:
    return Position(time_ms, 0).digits

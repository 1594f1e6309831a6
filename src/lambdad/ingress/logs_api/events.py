"""Log events."""

from __future__ import annotations

from typing import Any

from lambdad.domain import filter_patterns
from lambdad.domain.logs import PAGE_EVENTS, InvalidParameterException
from lambdad.ingress.logs_api.names import identified_group, named_group
from lambdad.ingress.logs_api.streams import sequence_token
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.logs import Filter, LogsService


async def put_log_events(logs: LogsService, call: Call, params: Params) -> Output:
    events = [(event["timestamp"], event["message"]) for event in params["logEvents"]]
    accepted = await logs.put_log_events(named_group(call, params), params["logStreamName"], events)
    output: dict[str, Any] = {"nextSequenceToken": sequence_token(events[-1][0])}
    if accepted.rejected:
        output["rejectedLogEventsInfo"] = accepted.rejected
    if "entity" in params:
        # Entities are not kept. This is the API's own way to say so while it takes the events.
        output["rejectedEntityInfo"] = {"errorType": "UnsupportedLogGroupType"}
    return output


async def get_log_events(logs: LogsService, call: Call, params: Params) -> Output:
    page = await logs.get_log_events(
        identified_group(call, params),
        params["logStreamName"],
        start_ms=params.get("startTime"),
        end_ms=params.get("endTime"),
        next_token=params.get("nextToken"),
        limit=params.get("limit", PAGE_EVENTS),
        start_from_head=params.get("startFromHead", False),
    )
    return {
        "events": [
            {"timestamp": event.position.timestamp_ms, "message": event.message, "ingestionTime": event.ingested_ms}
            for event in page.events
        ],
        "nextForwardToken": page.next_forward_token,
        "nextBackwardToken": page.next_backward_token,
    }


async def filter_log_events(logs: LogsService, call: Call, params: Params) -> Output:
    wanted = Filter(
        streams=params.get("logStreamNames"),
        prefix=params.get("logStreamNamePrefix", ""),
        start_ms=params.get("startTime"),
        end_ms=params.get("endTime"),
        pattern=params.get("filterPattern", ""),
        newest_first=not params.get("startFromHead", True),
    )
    page = await logs.filter_log_events(
        identified_group(call, params),
        wanted,
        next_token=params.get("nextToken"),
        limit=params.get("limit", PAGE_EVENTS),
    )
    output: dict[str, Any] = {
        "events": [
            {
                "logStreamName": event.stream,
                "timestamp": event.position.timestamp_ms,
                "message": event.message,
                "ingestionTime": event.ingested_ms,
                "eventId": event.event_id,
            }
            for event in page.events
        ],
        # Since 2020 the service returns an empty list.
        "searchedLogStreams": [],
    }
    if page.next_token is not None:
        output["nextToken"] = page.next_token
    return output


async def test_metric_filter(logs: LogsService, call: Call, params: Params) -> Output:
    try:
        pattern = filter_patterns.compile(params["filterPattern"])
    except filter_patterns.InvalidPattern as error:
        raise InvalidParameterException(str(error)) from error
    return {
        "matches": [
            {"eventNumber": number, "eventMessage": message, "extractedValues": pattern.extract(message)}
            for number, message in enumerate(params["logEventMessages"])
            if pattern.matches(message)
        ]
    }

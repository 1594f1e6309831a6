"""Archives and replays."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from lambdad.domain.errors import ValidationException
from lambdad.domain.event_archives import Archive, ArchiveSize, Replay
from lambdad.ingress.events_api.names import archive_of_arn, bus_of_arn, named_archive
from lambdad.ingress.events_api.pages import page
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.event_buses import EventBuses


async def create_archive(buses: EventBuses, call: Call, params: Params) -> Output:
    _check_supported(params)
    archive = await buses.archives.create_archive(
        named_archive(call, params),
        bus_of_arn(call, params["EventSourceArn"], "EventSourceArn"),
        pattern=params.get("EventPattern", ""),
        retention_days=params.get("RetentionDays", 0),
        description=params.get("Description", ""),
    )
    return _changed(archive)


async def update_archive(buses: EventBuses, call: Call, params: Params) -> Output:
    _check_supported(params)
    archive = await buses.archives.update_archive(
        named_archive(call, params),
        pattern=params.get("EventPattern"),
        retention_days=params.get("RetentionDays"),
        description=params.get("Description"),
    )
    return _changed(archive)


async def delete_archive(buses: EventBuses, call: Call, params: Params) -> Output:
    await buses.archives.delete_archive(named_archive(call, params))
    return {}


async def describe_archive(buses: EventBuses, call: Call, params: Params) -> Output:
    archive, size = await buses.archives.archive(named_archive(call, params))
    return {
        **_listed(archive, size),
        "ArchiveArn": archive.key.arn,
        "Description": archive.description or None,
        "EventPattern": archive.pattern or None,
    }


async def list_archives(buses: EventBuses, call: Call, params: Params) -> Output:
    wanted = [name for name in ("NamePrefix", "EventSourceArn", "State") if name in params]
    if len(wanted) > 1:
        raise ValidationException(
            "At most one filter is allowed for ListArchives. Use either : State, EventSourceArn, or NamePrefix."
        )
    archives = [
        archive
        for archive in buses.archives.archives(call.account_id, call.region)
        if params.get("EventSourceArn") in (None, archive.bus.arn) and params.get("State") in (None, "ENABLED")
    ]
    found, token = page(archives, lambda archive: archive.key.name, params)
    sized = [await buses.archives.archive(archive.key) for archive in found]
    return {"Archives": [_listed(*each) for each in sized], **token}


async def start_replay(buses: EventBuses, call: Call, params: Params) -> Output:
    destination = params["Destination"]
    replay = await buses.replays.start_replay(
        archive_of_arn(call, params["EventSourceArn"], "EventSourceArn"),
        params["ReplayName"],
        bus_of_arn(call, destination["Arn"], "Destination.Arn"),
        from_ms=_to_ms(params["EventStartTime"]),
        until_ms=_to_ms(params["EventEndTime"]),
        description=params.get("Description", ""),
        filter_arns=destination.get("FilterArns", ()),
    )
    return {"ReplayArn": replay.arn, "State": replay.state, "ReplayStartTime": replay.started_ms / 1000}


async def cancel_replay(buses: EventBuses, call: Call, params: Params) -> Output:
    replay = await buses.replays.cancel_replay(call.account_id, call.region, params["ReplayName"])
    return {"ReplayArn": replay.arn, "State": replay.state}


async def describe_replay(buses: EventBuses, call: Call, params: Params) -> Output:
    replay = buses.replays.replay(call.account_id, call.region, params["ReplayName"])
    destination: dict[str, Any] = {"Arn": replay.bus.arn}
    if replay.filter_arns:
        destination["FilterArns"] = list(replay.filter_arns)
    return {
        **_listed_replay(replay),
        "ReplayArn": replay.arn,
        "Description": replay.description or None,
        "Destination": destination,
    }


async def list_replays(buses: EventBuses, call: Call, params: Params) -> Output:
    wanted = [name for name in ("NamePrefix", "EventSourceArn", "State") if name in params]
    if len(wanted) > 1:
        raise ValidationException(
            "At most one filter is allowed for ListReplays. Use either : State, EventSourceArn, or NamePrefix."
        )
    replays = [
        replay
        for replay in buses.replays.replays(call.account_id, call.region)
        if params.get("EventSourceArn") in (None, replay.archive.arn) and params.get("State") in (None, replay.state)
    ]
    found, token = page(replays, lambda replay: replay.name, params)
    return {"Replays": [_listed_replay(replay) for replay in found], **token}


def _check_supported(params: Params) -> None:
    if params.get("KmsKeyIdentifier"):
        raise ValidationException("KmsKeyIdentifier is not supported: events are not encrypted with a key.")


def _changed(archive: Archive) -> Output:
    return {"ArchiveArn": archive.key.arn, "State": "ENABLED", "CreationTime": archive.created_ms / 1000}


def _listed(archive: Archive, size: ArchiveSize) -> dict[str, Any]:
    return {
        "ArchiveName": archive.key.name,
        "EventSourceArn": archive.bus.arn,
        "State": "ENABLED",
        "RetentionDays": archive.retention_days,
        "SizeBytes": size.bytes,
        "EventCount": size.events,
        "CreationTime": archive.created_ms / 1000,
    }


def _listed_replay(replay: Replay) -> dict[str, Any]:
    return {
        "ReplayName": replay.name,
        "EventSourceArn": replay.archive.arn,
        "State": replay.state,
        "StateReason": replay.reason or None,
        "EventStartTime": replay.from_ms / 1000,
        "EventEndTime": replay.until_ms / 1000,
        "EventLastReplayedTime": None if replay.place is None else replay.place.time_ms / 1000,
        "ReplayStartTime": replay.started_ms / 1000,
        "ReplayEndTime": None if replay.ended_ms is None else replay.ended_ms / 1000,
    }


def _to_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)

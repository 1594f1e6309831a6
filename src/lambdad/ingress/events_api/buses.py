"""Event buses, their policies and tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambdad.domain.errors import ValidationException
from lambdad.domain.event_buses import BusKey, EventBus, merged_tags
from lambdad.ingress.events_api.names import named_bus, tagged
from lambdad.ingress.events_api.pages import page
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.event_buses import EventBuses


async def create_event_bus(buses: EventBuses, call: Call, params: Params) -> Output:
    _check_supported(params)
    if "EventSourceName" in params:
        raise ValidationException("EventSourceName is not supported: there are no partner event sources.")
    bus = await buses.create_event_bus(
        BusKey(call.account_id, call.region, params["Name"]),
        description=params.get("Description", ""),
        dead_letter_arn=params.get("DeadLetterConfig", {}).get("Arn", ""),
        tags=params.get("Tags", ()),
    )
    return {"EventBusArn": bus.key.arn, **_settings(bus)}


async def delete_event_bus(buses: EventBuses, call: Call, params: Params) -> Output:
    await buses.delete_event_bus(BusKey(call.account_id, call.region, params["Name"]))
    return {}


async def describe_event_bus(buses: EventBuses, call: Call, params: Params) -> Output:
    bus = buses.event_bus(named_bus(call, params, "Name"))
    return {**_described(bus), **_settings(bus)}


async def list_event_buses(buses: EventBuses, call: Call, params: Params) -> Output:
    found, token = page(buses.event_buses(call.account_id, call.region), lambda bus: bus.key.name, params)
    return {"EventBuses": [{**_described(bus), "Description": bus.description or None} for bus in found], **token}


async def update_event_bus(buses: EventBuses, call: Call, params: Params) -> Output:
    _check_supported(params)
    bus = await buses.update_event_bus(
        named_bus(call, params, "Name"),
        description=params.get("Description"),
        dead_letter_arn=params.get("DeadLetterConfig", {}).get("Arn"),
    )
    return {"Arn": bus.key.arn, "Name": bus.key.name, **_settings(bus)}


async def put_permission(buses: EventBuses, call: Call, params: Params) -> Output:
    key = named_bus(call, params)
    if "Policy" in params:
        if params.keys() & {"Action", "Principal", "StatementId", "Condition"}:
            raise ValidationException("Policy cannot be combined with Action, Principal, StatementId and Condition.")
        await buses.put_policy(key, params["Policy"])
        return {}
    missing = [name for name in ("Action", "Principal", "StatementId") if name not in params]
    if missing:
        raise ValidationException(f"Parameter(s) {', '.join(missing)} must be specified.")
    if params["Action"] != "events:PutEvents":
        raise ValidationException("Provided value in parameter 'action' is not supported.")
    condition = params.get("Condition")
    if condition is not None and (condition["Type"], condition["Key"]) != ("StringEquals", "aws:PrincipalOrgID"):
        raise ValidationException("Provided value in parameter 'condition' is not supported.")
    await buses.put_permission(key, params["StatementId"], params["Action"], params["Principal"], condition)
    return {}


async def remove_permission(buses: EventBuses, call: Call, params: Params) -> Output:
    everything = params.get("RemoveAllPermissions", False)
    if not everything and "StatementId" not in params:
        raise ValidationException("Parameter(s) StatementId or RemoveAllPermissions must be specified.")
    await buses.remove_permission(named_bus(call, params), None if everything else params["StatementId"])
    return {}


async def tag_resource(buses: EventBuses, call: Call, params: Params) -> Output:
    await buses.put_tags(*tagged(call, params), lambda tags: merged_tags(tags, params["Tags"]))
    return {}


async def untag_resource(buses: EventBuses, call: Call, params: Params) -> Output:
    gone = set(params["TagKeys"])
    await buses.put_tags(
        *tagged(call, params), lambda tags: {name: value for name, value in tags.items() if name not in gone}
    )
    return {}


async def list_tags_for_resource(buses: EventBuses, call: Call, params: Params) -> Output:
    key, rule = tagged(call, params)
    tags: Mapping[str, str] = buses.event_bus(key).tags if rule is None else buses.rules.rule(key, rule).tags
    return {"Tags": [{"Key": name, "Value": value} for name, value in tags.items()]}


def _check_supported(params: Params) -> None:
    """Raises ValidationException for settings that would have no effect."""
    if params.get("KmsKeyIdentifier"):
        raise ValidationException("KmsKeyIdentifier is not supported: events are not encrypted with a key.")
    if params.get("LogConfig", {}).get("Level", "OFF") != "OFF":
        raise ValidationException("LogConfig is not supported: buses write no logs.")


def _described(bus: EventBus) -> dict[str, Any]:
    return {
        "Name": bus.key.name,
        "Arn": bus.key.arn,
        "Policy": bus.policy or None,
        "CreationTime": None if bus.created_ms is None else bus.created_ms / 1000,
        "LastModifiedTime": None if bus.modified_ms is None else bus.modified_ms / 1000,
    }


def _settings(bus: EventBus) -> dict[str, Any]:
    return {
        "Description": bus.description or None,
        "DeadLetterConfig": {"Arn": bus.dead_letter_arn} if bus.dead_letter_arn else None,
    }

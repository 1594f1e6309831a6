"""Rules and their targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lambdad.domain.event_rules import DISABLED, ENABLED, Rule
from lambdad.domain.event_targets import shown_target
from lambdad.ingress.events_api.names import named_bus
from lambdad.ingress.events_api.pages import page
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.event_buses import EventBuses
from lambdad.services.event_rules import FailedTarget


async def put_rule(buses: EventBuses, call: Call, params: Params) -> Output:
    rule = await buses.rules.put_rule(
        named_bus(call, params),
        params["Name"],
        pattern=params.get("EventPattern", ""),
        schedule=params.get("ScheduleExpression", ""),
        state=params.get("State", ENABLED),
        description=params.get("Description", ""),
        role_arn=params.get("RoleArn", ""),
        tags=params.get("Tags", ()),
    )
    return {"RuleArn": rule.arn}


async def delete_rule(buses: EventBuses, call: Call, params: Params) -> Output:
    await buses.rules.delete_rule(named_bus(call, params), params["Name"])
    return {}


async def describe_rule(buses: EventBuses, call: Call, params: Params) -> Output:
    rule = buses.rules.rule(named_bus(call, params), params["Name"])
    return {**_described(rule), "CreatedBy": rule.bus.account_id}


async def list_rules(buses: EventBuses, call: Call, params: Params) -> Output:
    found, token = page(buses.rules.rules(named_bus(call, params)), lambda rule: rule.name, params)
    return {"Rules": [_described(rule) for rule in found], **token}


async def list_rule_names_by_target(buses: EventBuses, call: Call, params: Params) -> Output:
    names = buses.rules.rule_names_by_target(named_bus(call, params), params["TargetArn"])
    found, token = page(names, str, params)
    return {"RuleNames": found, **token}


async def enable_rule(buses: EventBuses, call: Call, params: Params) -> Output:
    await buses.rules.set_state(named_bus(call, params), params["Name"], ENABLED)
    return {}


async def disable_rule(buses: EventBuses, call: Call, params: Params) -> Output:
    await buses.rules.set_state(named_bus(call, params), params["Name"], DISABLED)
    return {}


async def put_targets(buses: EventBuses, call: Call, params: Params) -> Output:
    return _failures(await buses.rules.put_targets(named_bus(call, params), params["Rule"], params["Targets"]))


async def remove_targets(buses: EventBuses, call: Call, params: Params) -> Output:
    return _failures(await buses.rules.remove_targets(named_bus(call, params), params["Rule"], params["Ids"]))


async def list_targets_by_rule(buses: EventBuses, call: Call, params: Params) -> Output:
    rule = buses.rules.rule(named_bus(call, params), params["Rule"])
    targets = sorted(rule.targets, key=lambda target: target.id)
    found, token = page(targets, lambda target: target.id, params)
    return {"Targets": [shown_target(target) for target in found], **token}


def _described(rule: Rule) -> dict[str, Any]:
    return {
        "Name": rule.name,
        "Arn": rule.arn,
        "EventPattern": rule.pattern or None,
        "ScheduleExpression": rule.schedule or None,
        "State": rule.state,
        "Description": rule.description or None,
        "RoleArn": rule.role_arn or None,
        "EventBusName": rule.bus.name,
    }


def _failures(failed: Sequence[FailedTarget]) -> Output:
    return {
        "FailedEntryCount": len(failed),
        "FailedEntries": [
            {"TargetId": each.target_id, "ErrorCode": each.error_code, "ErrorMessage": each.error_message}
            for each in failed
        ],
    }

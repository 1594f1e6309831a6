"""Create-, Get-, Update-, Delete- and ListSchedule(s)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from lambdad.domain.errors import ValidationException
from lambdad.domain.scheduler import (
    DEFAULT_GROUP,
    ENABLED,
    EVENT_AGE_S,
    NONE,
    PAGE,
    RETRY_ATTEMPTS,
    GroupKey,
    ScheduleKey,
    ScheduleRecord,
    ScheduleSettings,
    Target,
    to_ms,
)
from lambdad.ingress.operations import Call, Output, Params
from lambdad.ingress.page_tokens import token_of
from lambdad.ingress.scheduler_api import universal
from lambdad.ingress.scheduler_api.pages import place_of
from lambdad.services.schedules import SchedulesService

_FLEXIBLE: Final = "FLEXIBLE"
_WITHOUT_EFFECT: Final = (
    "EcsParameters",
    "EventBridgePutEventsV2Parameters",
    "EventBridgePutRawEventsParameters",
    "SageMakerPipelineParameters",
)
"""Of targets that lambdad does not have."""


async def create_schedule(service: SchedulesService, call: Call, params: Params) -> Output:
    key = _key(call, params)
    await service.create_schedule(key, await _settings(params), params.get("ClientToken", ""))
    return {"ScheduleArn": key.arn}


async def update_schedule(service: SchedulesService, call: Call, params: Params) -> Output:
    key = _key(call, params)
    await service.update_schedule(key, await _settings(params))
    return {"ScheduleArn": key.arn}


async def get_schedule(service: SchedulesService, call: Call, params: Params) -> Output:
    record = await service.get_schedule(_key(call, params))
    settings = record.settings
    output: dict[str, Any] = {
        **_summary(record),
        "ScheduleExpression": settings.expression,
        "ScheduleExpressionTimezone": settings.timezone,
        "Target": _target_output(settings.target),
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "ActionAfterCompletion": settings.action_after_completion,
    }
    if settings.window_minutes is not None:
        output["FlexibleTimeWindow"] = {"Mode": _FLEXIBLE, "MaximumWindowInMinutes": settings.window_minutes}
    if settings.description is not None:
        output["Description"] = settings.description
    for name, moment_ms in (("StartDate", settings.start_ms), ("EndDate", settings.end_ms)):
        if moment_ms is not None:
            output[name] = moment_ms / 1000
    return output


async def delete_schedule(service: SchedulesService, call: Call, params: Params) -> Output:
    await service.delete_schedule(_key(call, params), params.get("ClientToken", ""))
    return {}


async def list_schedules(service: SchedulesService, call: Call, params: Params) -> Output:
    group, name = place_of(params.get("NextToken"), 2)
    limit = params.get("MaxResults", PAGE)
    found = await service.list_schedules(
        call.account_id,
        call.region,
        group=params.get("GroupName"),
        prefix=params.get("NamePrefix", ""),
        state=params.get("State"),
        after=(group, name),
        limit=limit + 1,
    )
    shown = [{**_summary(record), "Target": {"Arn": record.settings.target.arn}} for record in found[:limit]]
    output: dict[str, Any] = {"Schedules": shown}
    if len(found) > limit:
        last = found[limit - 1].key
        output["NextToken"] = token_of([last.group.name, last.name])
    return output


def _key(call: Call, params: Params) -> ScheduleKey:
    group = GroupKey(call.account_id, call.region, params.get("GroupName", DEFAULT_GROUP))
    return ScheduleKey(group, params["Name"])


async def _settings(params: Params) -> ScheduleSettings:
    """Raises ValidationException for what contradicts itself, and for what would have no effect."""
    if "KmsKeyArn" in params:
        raise ValidationException("KmsKeyArn is not supported by lambdad: it does not encrypt schedules.")
    window = params["FlexibleTimeWindow"]
    minutes = window.get("MaximumWindowInMinutes")
    if (window["Mode"] == _FLEXIBLE) != (minutes is not None):
        raise ValidationException(
            "MaximumWindowInMinutes is required for a FlexibleTimeWindow of mode FLEXIBLE, and not valid for mode OFF."
        )
    return ScheduleSettings(
        expression=params["ScheduleExpression"],
        target=await _target(params["Target"]),
        timezone=params.get("ScheduleExpressionTimezone", "UTC"),
        start_ms=_moment(params.get("StartDate")),
        end_ms=_moment(params.get("EndDate")),
        description=params.get("Description"),
        state=params.get("State", ENABLED),
        window_minutes=minutes,
        action_after_completion=params.get("ActionAfterCompletion", NONE),
    )


def _moment(moment: datetime | None) -> int | None:
    return None if moment is None else to_ms(moment)


async def _target(params: Params) -> Target:
    for name in _WITHOUT_EFFECT:
        if name in params:
            raise ValidationException(f"{name} is not supported by lambdad.")
    retries = params.get("RetryPolicy", {})
    events = params.get("EventBridgeParameters", {})
    # In a thread: the model of a large service takes a time to load, in which nothing may stand still.
    operation, request = await asyncio.to_thread(universal.resolve, params["Arn"], params.get("Input"))
    return Target(
        arn=params["Arn"],
        role_arn=params["RoleArn"],
        input=params.get("Input"),
        dead_letter_arn=params.get("DeadLetterConfig", {}).get("Arn"),
        max_attempts=retries.get("MaximumRetryAttempts", RETRY_ATTEMPTS),
        max_age_s=retries.get("MaximumEventAgeInSeconds", EVENT_AGE_S),
        detail_type=events.get("DetailType"),
        event_source=events.get("Source"),
        partition_key=params.get("KinesisParameters", {}).get("PartitionKey"),
        message_group_id=params.get("SqsParameters", {}).get("MessageGroupId"),
        has_sqs_parameters="SqsParameters" in params,
        universal_operation=operation,
        universal_request=request,
    )


def _target_output(target: Target) -> Output:
    output: dict[str, Any] = {
        "Arn": target.arn,
        "RoleArn": target.role_arn,
        "RetryPolicy": {
            "MaximumEventAgeInSeconds": target.max_age_s,
            "MaximumRetryAttempts": target.max_attempts,
        },
    }
    if target.input is not None:
        output["Input"] = target.input
    if target.dead_letter_arn is not None:
        output["DeadLetterConfig"] = {"Arn": target.dead_letter_arn}
    if target.detail_type is not None:
        output["EventBridgeParameters"] = {"DetailType": target.detail_type, "Source": target.event_source}
    if target.partition_key is not None:
        output["KinesisParameters"] = {"PartitionKey": target.partition_key}
    if target.has_sqs_parameters:
        group = {} if target.message_group_id is None else {"MessageGroupId": target.message_group_id}
        output["SqsParameters"] = group
    return output


def _summary(record: ScheduleRecord) -> dict[str, Any]:
    return {
        "Arn": record.key.arn,
        "GroupName": record.key.group.name,
        "Name": record.key.name,
        "State": record.settings.state,
        "CreationDate": record.created_ms / 1000,
        "LastModificationDate": record.modified_ms / 1000,
    }

"""Create-, Get-, Delete- and ListScheduleGroup(s)."""

from __future__ import annotations

from lambdad.domain.scheduler import PAGE, GroupKey, ScheduleGroup
from lambdad.ingress.operations import Call, Output, Params
from lambdad.ingress.page_tokens import token_of
from lambdad.ingress.scheduler_api.pages import place_of
from lambdad.services.schedules import SchedulesService

_ACTIVE = "ACTIVE"
"""The state of every group: deleting one is done when it is answered, so that DELETING is never seen."""


async def create_schedule_group(service: SchedulesService, call: Call, params: Params) -> Output:
    key = _key(call, params)
    tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", ())}
    await service.create_group(key, tags, params.get("ClientToken", ""))
    return {"ScheduleGroupArn": key.arn}


async def get_schedule_group(service: SchedulesService, call: Call, params: Params) -> Output:
    return _output(await service.get_group(_key(call, params)))


async def delete_schedule_group(service: SchedulesService, call: Call, params: Params) -> Output:
    await service.delete_group(_key(call, params), params.get("ClientToken", ""))
    return {}


async def list_schedule_groups(service: SchedulesService, call: Call, params: Params) -> Output:
    (after,) = place_of(params.get("NextToken"), 1)
    limit = params.get("MaxResults", PAGE)
    found = await service.list_groups(call.account_id, call.region, params.get("NamePrefix", ""), after, limit + 1)
    output: dict[str, object] = {"ScheduleGroups": [_output(group) for group in found[:limit]]}
    if len(found) > limit:
        output["NextToken"] = token_of([found[limit - 1].key.name])
    return output


def _key(call: Call, params: Params) -> GroupKey:
    return GroupKey(call.account_id, call.region, params["Name"])


def _output(group: ScheduleGroup) -> Output:
    return {
        "Arn": group.key.arn,
        "Name": group.key.name,
        "State": _ACTIVE,
        "CreationDate": group.created_ms / 1000,
        "LastModificationDate": group.modified_ms / 1000,
    }

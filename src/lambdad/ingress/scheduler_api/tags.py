"""TagResource, UntagResource, ListTagsForResource: only groups have tags."""

from __future__ import annotations

from lambdad.domain.scheduler import GroupKey
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.schedules import SchedulesService


async def tag_resource(service: SchedulesService, call: Call, params: Params) -> Output:
    await service.tag_group(_group(call, params), {tag["Key"]: tag["Value"] for tag in params["Tags"]})
    return {}


async def untag_resource(service: SchedulesService, call: Call, params: Params) -> Output:
    await service.untag_group(_group(call, params), params["TagKeys"])
    return {}


async def list_tags_for_resource(service: SchedulesService, call: Call, params: Params) -> Output:
    group = await service.get_group(_group(call, params))
    return {"Tags": [{"Key": name, "Value": value} for name, value in group.tags.items()]}


def _group(call: Call, params: Params) -> GroupKey:
    """The group of a ResourceArn. Raises ResourceNotFoundException for one of another account or region."""
    *_, region, account_id, resource = params["ResourceArn"].split(":")
    key = GroupKey(account_id, region, resource.partition("/")[2])
    if (account_id, region) != (call.account_id, call.region):
        raise key.not_found()
    return key

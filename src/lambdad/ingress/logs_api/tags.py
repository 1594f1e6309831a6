"""Tags of log groups, by the newer operations, which take an ARN, and the older ones, which take a name."""

from __future__ import annotations

from lambdad.domain.logs import GroupKey, InvalidParameterException, LogResourceNotFoundException, parse_group
from lambdad.ingress.logs_api.names import named_group
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.logs import LogsService


async def tag_resource(logs: LogsService, call: Call, params: Params) -> Output:
    await logs.tag(_tagged_group(call, params), params["tags"])
    return {}


async def untag_resource(logs: LogsService, call: Call, params: Params) -> Output:
    await logs.untag(_tagged_group(call, params), params["tagKeys"])
    return {}


async def list_tags_for_resource(logs: LogsService, call: Call, params: Params) -> Output:
    group = await logs.log_group(_tagged_group(call, params))
    return {"tags": dict(group.tags)}


async def tag_log_group(logs: LogsService, call: Call, params: Params) -> Output:
    await logs.tag(named_group(call, params), params["tags"])
    return {}


async def untag_log_group(logs: LogsService, call: Call, params: Params) -> Output:
    await logs.untag(named_group(call, params), params["tags"])
    return {}


async def list_tags_log_group(logs: LogsService, call: Call, params: Params) -> Output:
    group = await logs.log_group(named_group(call, params))
    return {"tags": dict(group.tags)}


def _tagged_group(call: Call, params: Params) -> GroupKey:
    """The log group of a resourceArn. Destinations, the other resource with tags, do not exist here."""
    arn = params["resourceArn"]
    if not arn.startswith("arn:"):
        raise InvalidParameterException(f"Invalid resource ARN: {arn}")
    if ":destination:" in arn:
        raise LogResourceNotFoundException("The specified resource does not exist.")
    return parse_group(arn, call.account_id, call.region)

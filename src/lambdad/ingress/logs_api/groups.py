"""Log groups and their retention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambdad.domain.errors import ServiceError
from lambdad.domain.logs import DESCRIBE_PAGE, GroupKey, InvalidParameterException, LogGroup, parse_group
from lambdad.domain.tag_filters import matches_name_pattern, matches_tag_filters
from lambdad.ingress.logs_api.names import named_group
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.logs import LogsService


async def create_log_group(logs: LogsService, call: Call, params: Params) -> Output:
    if "kmsKeyId" in params:
        raise InvalidParameterException("kmsKeyId is not supported: log events are not encrypted with a key.")
    await logs.create_log_group(
        named_group(call, params),
        log_group_class=params.get("logGroupClass", "STANDARD"),
        tags=params.get("tags"),
        deletion_protected=params.get("deletionProtectionEnabled", False),
    )
    return {}


async def delete_log_group(logs: LogsService, call: Call, params: Params) -> Output:
    await logs.delete_log_group(named_group(call, params))
    return {}


async def describe_log_groups(logs: LogsService, call: Call, params: Params) -> Output:
    if "logGroupIdentifiers" in params:
        return await _describe_identified(logs, call, params)
    if "logGroupNamePrefix" in params and "logGroupNamePattern" in params:
        raise InvalidParameterException("Only one of logGroupNamePrefix and logGroupNamePattern can be specified.")
    wanted_class = params.get("logGroupClass")
    pattern = params.get("logGroupNamePattern", "")
    page = await logs.log_groups(
        call.account_id,
        call.region,
        prefix=params.get("logGroupNamePrefix", ""),
        substring=pattern,
        keep=lambda group: wanted_class in (None, group.log_group_class),
        asked=wanted_class,
        next_token=params.get("nextToken"),
        limit=params.get("limit", DESCRIBE_PAGE),
    )
    rendered = [_described(group) for group in page.groups]
    if pattern:
        rendered = [{name: group[name] for name in ("arn", "creationTime", "logGroupName")} for group in rendered]
    return {"logGroups": rendered, **_token(page.next_token)}


async def _describe_identified(logs: LogsService, call: Call, params: Params) -> Output:
    """The groups that are named; AWS allows no other filter beside the names."""
    if params.keys() - {"logGroupIdentifiers", "includeLinkedAccounts", "accountIdentifiers", "limit", "nextToken"}:
        raise InvalidParameterException("logGroupIdentifiers cannot be combined with other filters.")
    keys = sorted({parse_group(name, call.account_id, call.region) for name in params["logGroupIdentifiers"]})
    found = []
    for key in keys:
        try:
            found.append(_described(await logs.log_group(key)))
        except ServiceError as error:
            if error.code != "ResourceNotFoundException":
                raise
    return {"logGroups": found}


async def list_log_groups(logs: LogsService, call: Call, params: Params) -> Output:
    wanted_class, pattern = params.get("logGroupClass"), params.get("logGroupNamePattern", "")
    filters = params.get("logGroupTags", ())
    # No group here has a field index or a data source, so a request for those that have one finds none.
    indexed = bool(params.get("fieldIndexNames") or params.get("dataSources"))

    def keep(group: LogGroup) -> bool:
        return (
            not indexed
            and wanted_class in (None, group.log_group_class)
            and matches_name_pattern(group.key.name, pattern)
            and matches_tag_filters(group.tags, filters)
        )

    page = await logs.log_groups(
        call.account_id,
        call.region,
        keep=keep,
        asked=(wanted_class, pattern, filters, indexed),
        next_token=params.get("nextToken"),
        limit=params.get("limit", DESCRIBE_PAGE),
    )
    rendered = [
        {"logGroupName": group.key.name, "logGroupArn": group.key.arn, "logGroupClass": group.log_group_class}
        for group in page.groups
    ]
    return {"logGroups": rendered, **_token(page.next_token)}


async def put_retention_policy(logs: LogsService, call: Call, params: Params) -> Output:
    await logs.put_retention_policy(named_group(call, params), params["retentionInDays"])
    return {}


async def delete_retention_policy(logs: LogsService, call: Call, params: Params) -> Output:
    await logs.put_retention_policy(named_group(call, params), None)
    return {}


async def put_log_group_deletion_protection(logs: LogsService, call: Call, params: Params) -> Output:
    key: GroupKey = parse_group(params["logGroupIdentifier"], call.account_id, call.region)
    await logs.put_deletion_protection(key, params["deletionProtectionEnabled"])
    return {}


def _described(group: LogGroup) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "logGroupName": group.key.name,
        "creationTime": group.created_ms,
        "metricFilterCount": 0,
        "arn": f"{group.key.arn}:*",
        "storedBytes": group.stored_bytes,
        "logGroupClass": group.log_group_class,
        "logGroupArn": group.key.arn,
        "deletionProtectionEnabled": group.deletion_protected,
    }
    if group.retention_days is not None:
        rendered["retentionInDays"] = group.retention_days
    return rendered


def _token(next_token: str | None) -> Mapping[str, str]:
    return {} if next_token is None else {"nextToken": next_token}

"""Subscription filters."""

from __future__ import annotations

import functools
from typing import Any

from lambdad.domain.log_subscriptions import BY_LOG_STREAM, SubscriptionFilter
from lambdad.domain.logs import DESCRIBE_PAGE, InvalidParameterException
from lambdad.ingress.logs_api.names import named_group
from lambdad.ingress.operations import Call, Handler, Output, Params
from lambdad.services.log_subscriptions import LogSubscriptions


async def put_subscription_filter(subscriptions: LogSubscriptions, call: Call, params: Params) -> Output:
    if params.get("applyOnTransformedLogs"):
        raise InvalidParameterException("applyOnTransformedLogs is only valid for log groups that have a transformer.")
    for name in ("emitSystemFields", "fieldSelectionCriteria"):
        if params.get(name):
            raise InvalidParameterException(f"{name} is not supported: log events have no system fields.")
    await subscriptions.put_subscription_filter(
        named_group(call, params),
        params["filterName"],
        params["filterPattern"],
        params["destinationArn"],
        role_arn=params.get("roleArn"),
        distribution=params.get("distribution", BY_LOG_STREAM),
    )
    return {}


async def describe_subscription_filters(subscriptions: LogSubscriptions, call: Call, params: Params) -> Output:
    page = await subscriptions.subscription_filters(
        named_group(call, params),
        prefix=params.get("filterNamePrefix", ""),
        next_token=params.get("nextToken"),
        limit=params.get("limit", DESCRIBE_PAGE),
    )
    output: dict[str, Any] = {"subscriptionFilters": [_described(each) for each in page.filters]}
    if page.next_token is not None:
        output["nextToken"] = page.next_token
    return output


async def delete_subscription_filter(subscriptions: LogSubscriptions, call: Call, params: Params) -> Output:
    await subscriptions.delete_subscription_filter(named_group(call, params), params["filterName"])
    return {}


def operations(subscriptions: LogSubscriptions) -> dict[str, Handler]:
    """The operations on subscription filters by AWS's names, on this service."""
    return {
        "DeleteSubscriptionFilter": functools.partial(delete_subscription_filter, subscriptions),
        "DescribeSubscriptionFilters": functools.partial(describe_subscription_filters, subscriptions),
        "PutSubscriptionFilter": functools.partial(put_subscription_filter, subscriptions),
    }


def _described(found: SubscriptionFilter) -> dict[str, Any]:
    return {
        "filterName": found.name,
        "logGroupName": found.group.name,
        "filterPattern": found.pattern,
        "destinationArn": found.destination_arn,
        "distribution": found.distribution,
        "applyOnTransformedLogs": False,
        "creationTime": found.created_ms,
    }

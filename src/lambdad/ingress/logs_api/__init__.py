"""The CloudWatch Logs API: each operation is a function named after it that reads its input, asks the service, renders.

https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from lambdad.ingress.logs_api import events, groups, streams, tags
from lambdad.ingress.operations import Call, Handler, Output, Params
from lambdad.services.logs import LogsService

_OPERATIONS: Final[Mapping[str, Callable[[LogsService, Call, Params], Awaitable[Output]]]] = {
    "CreateLogGroup": groups.create_log_group,
    "CreateLogStream": streams.create_log_stream,
    "DeleteLogGroup": groups.delete_log_group,
    "DeleteLogStream": streams.delete_log_stream,
    "DeleteRetentionPolicy": groups.delete_retention_policy,
    "DescribeLogGroups": groups.describe_log_groups,
    "DescribeLogStreams": streams.describe_log_streams,
    "FilterLogEvents": events.filter_log_events,
    "GetLogEvents": events.get_log_events,
    "ListLogGroups": groups.list_log_groups,
    "ListTagsForResource": tags.list_tags_for_resource,
    "ListTagsLogGroup": tags.list_tags_log_group,
    "PutLogEvents": events.put_log_events,
    "PutLogGroupDeletionProtection": groups.put_log_group_deletion_protection,
    "PutRetentionPolicy": groups.put_retention_policy,
    "TagLogGroup": tags.tag_log_group,
    "TagResource": tags.tag_resource,
    "TestMetricFilter": events.test_metric_filter,
    "UntagLogGroup": tags.untag_log_group,
    "UntagResource": tags.untag_resource,
}


def operations(logs: LogsService) -> dict[str, Handler]:
    """The implemented operations of the Logs API by AWS's names, on this service."""
    return {name: functools.partial(function, logs) for name, function in _OPERATIONS.items()}

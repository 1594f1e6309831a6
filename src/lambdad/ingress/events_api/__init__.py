"""The EventBridge API: each operation is a function named after it. Those that are not here are declared unsupported.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from lambdad.ingress.events_api import archives, buses, entries, patterns, rules
from lambdad.ingress.operations import Call, Handler, Output, Params
from lambdad.services.event_buses import EventBuses

OPERATIONS: Final[Mapping[str, Callable[[EventBuses, Call, Params], Awaitable[Output]]]] = {
    "CancelReplay": archives.cancel_replay,
    "CreateArchive": archives.create_archive,
    "CreateEventBus": buses.create_event_bus,
    "DeleteArchive": archives.delete_archive,
    "DeleteEventBus": buses.delete_event_bus,
    "DeleteRule": rules.delete_rule,
    "DescribeArchive": archives.describe_archive,
    "DescribeEventBus": buses.describe_event_bus,
    "DescribeReplay": archives.describe_replay,
    "DescribeRule": rules.describe_rule,
    "DisableRule": rules.disable_rule,
    "EnableRule": rules.enable_rule,
    "ListArchives": archives.list_archives,
    "ListEventBuses": buses.list_event_buses,
    "ListReplays": archives.list_replays,
    "ListRuleNamesByTarget": rules.list_rule_names_by_target,
    "ListRules": rules.list_rules,
    "ListTagsForResource": buses.list_tags_for_resource,
    "ListTargetsByRule": rules.list_targets_by_rule,
    "PutEvents": entries.put_events,
    "PutPermission": buses.put_permission,
    "PutRule": rules.put_rule,
    "PutTargets": rules.put_targets,
    "RemovePermission": buses.remove_permission,
    "RemoveTargets": rules.remove_targets,
    "StartReplay": archives.start_replay,
    "TagResource": buses.tag_resource,
    "UntagResource": buses.untag_resource,
    "UpdateArchive": archives.update_archive,
    "UpdateEventBus": buses.update_event_bus,
}


def operations(event_buses: EventBuses) -> dict[str, Handler]:
    """The implemented operations of the EventBridge API by AWS's names, on this service."""
    handlers: dict[str, Handler] = {
        name: functools.partial(function, event_buses) for name, function in OPERATIONS.items()
    }
    return {**handlers, "TestEventPattern": patterns.test_event_pattern}

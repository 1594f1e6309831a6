"""The EventBridge Scheduler API: each operation is a function named after it.

https://docs.aws.amazon.com/scheduler/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from lambdad.ingress.operations import Call, Handler, Output, Params
from lambdad.ingress.scheduler_api import groups, schedules, tags
from lambdad.services.schedules import SchedulesService

_OPERATIONS: Final[Mapping[str, Callable[[SchedulesService, Call, Params], Awaitable[Output]]]] = {
    "CreateSchedule": schedules.create_schedule,
    "CreateScheduleGroup": groups.create_schedule_group,
    "DeleteSchedule": schedules.delete_schedule,
    "DeleteScheduleGroup": groups.delete_schedule_group,
    "GetSchedule": schedules.get_schedule,
    "GetScheduleGroup": groups.get_schedule_group,
    "ListScheduleGroups": groups.list_schedule_groups,
    "ListSchedules": schedules.list_schedules,
    "ListTagsForResource": tags.list_tags_for_resource,
    "TagResource": tags.tag_resource,
    "UntagResource": tags.untag_resource,
    "UpdateSchedule": schedules.update_schedule,
}


def operations(service: SchedulesService) -> dict[str, Handler]:
    """Every operation of the API by AWS's names, on this service."""
    return {name: functools.partial(function, service) for name, function in _OPERATIONS.items()}

"""CloudWatch's metrics: each operation is a function named after it. Alarms and dashboards are not served yet.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from lambdad.ingress.cloudwatch_api.listing import list_metrics
from lambdad.ingress.cloudwatch_api.metric_queries import get_metric_data
from lambdad.ingress.cloudwatch_api.metric_statistics import get_metric_statistics
from lambdad.ingress.cloudwatch_api.putting import put_metric_data
from lambdad.ingress.operations import Call, Handler, Output, Params
from lambdad.ports.clock import Clock
from lambdad.services.metric_data import MetricData

_OPERATIONS: Final[Mapping[str, Callable[[MetricData, Call, Params], Awaitable[Output]]]] = {
    "GetMetricData": get_metric_data,
    "GetMetricStatistics": get_metric_statistics,
    "ListMetrics": list_metrics,
}


def operations(data: MetricData, clock: Clock) -> dict[str, Handler]:
    """The implemented operations of the API by AWS's names, on this service."""
    reading: dict[str, Handler] = {name: functools.partial(function, data) for name, function in _OPERATIONS.items()}
    return {**reading, "PutMetricData": functools.partial(put_metric_data, data, clock)}

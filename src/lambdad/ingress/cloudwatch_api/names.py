"""Metrics and dimensions, as requests have them and as answers show them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from lambdad.domain.metric_data import InvalidParameterValue
from lambdad.ingress.operations import Call
from lambdad.ports.metrics import Metric


def metric_of(call: Call, namespace: str, described: Mapping[str, Any]) -> Metric:
    """The metric that `MetricName` and `Dimensions` say. Raises InvalidParameterValue for a dimension given twice."""
    dimensions = sorted((each["Name"], each["Value"]) for each in described.get("Dimensions", ()))
    for (name, _), (following, _) in pairwise(dimensions):
        if name == following:
            raise InvalidParameterValue(f"No dimension can be specified more than once: {name}.")
    return Metric(call.account_id, call.region, namespace, described["MetricName"], tuple(dimensions))


def shown(metric: Metric) -> dict[str, Any]:
    return {
        "Namespace": metric.namespace,
        "MetricName": metric.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
    }

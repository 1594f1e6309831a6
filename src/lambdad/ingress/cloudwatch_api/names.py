"""Metrics and dimensions, as requests have them and as answers show them; and where the next page begins."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
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


def token_of(place: Sequence[Any]) -> str:
    """A place as text that says nothing to the caller."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode("ascii")


def place_of(token: str) -> Any:
    """The place that a token was made of. Raises ValueError for what is none."""
    try:
        return json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except RecursionError:
        raise ValueError("nested too deeply") from None

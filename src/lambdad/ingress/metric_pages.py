"""The page `/_lambdad/metrics`: what was counted of functions, as `lambdad` shows it; CloudWatch's API has it too."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from lambdad.domain.metric_names import MetricName
from lambdad.ingress.internal import Pages
from lambdad.ingress.messages import Request
from lambdad.ingress.page_requests import from_query
from lambdad.ports.clock import Clock
from lambdad.ports.metrics import MetricKey, Statistics
from lambdad.services.metrics import KEPT_S, Metrics

SINCE_S: Final = 3600
_UNITS: Final = {name.value: name.unit for name in MetricName}


class _Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which metrics, and how many seconds back."""

    function: str | None = None
    name: str | None = None
    since: Annotated[int, msgspec.Meta(ge=1, le=KEPT_S)] = SINCE_S
    account_id: str = ""
    region: str = ""


def metric_pages(metrics: Metrics, clock: Clock, account_id: str, region: str) -> Pages:
    """The page. `account_id` and `region` are those of requests that name none."""

    async def page(request: Request) -> Mapping[str, Any]:
        wanted = from_query(request, _Wanted)
        now_s = int(clock.time())
        found = await metrics.read(
            wanted.account_id or account_id,
            wanted.region or region,
            function=wanted.function,
            name=wanted.name,
            since_s=now_s - wanted.since,
            until_s=now_s + 1,
        )
        series: dict[tuple[str, str, str], list[tuple[MetricKey, Statistics]]] = {}
        for key, counted in found:
            dimensions = dict(key.metric.dimensions)
            if dimensions:  # else it is of all functions
                names = dimensions["FunctionName"], dimensions.get("Resource", ""), key.metric.name
                series.setdefault(names, []).append((key, counted))
        return {"metrics": [_series(*names, series[names]) for names in sorted(series)]}

    return {("GET", "metrics"): page}


def _series(function: str, resource: str, name: str, counted: Sequence[tuple[MetricKey, Statistics]]) -> dict[str, Any]:
    """A metric: its statistics over the whole time, and those of each minute. `resource` is empty for all of it."""
    return {
        "function": function,
        "resource": resource,
        "name": name,
        "unit": _UNITS.get(name),
        **_statistics(functools.reduce(Statistics.merged, (each for _, each in counted))),
        "minutes": [{"minute_s": key.start_s, **_statistics(each)} for key, each in counted],
    }


def _statistics(counted: Statistics) -> dict[str, float]:
    return {
        "count": counted.count,
        "sum": counted.total,
        "average": counted.total / counted.count,
        "minimum": counted.minimum,
        "maximum": counted.maximum,
    }

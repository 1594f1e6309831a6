"""GetMetricStatistics: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricStatistics.html"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lambdad.domain.metric_data import (
    DATAPOINTS_MAX,
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
    is_period,
    percent_of,
    rounded_start_s,
)
from lambdad.ingress.cloudwatch_api.names import metric_of
from lambdad.ingress.operations import Call, Output, Params
from lambdad.ports.metrics import Statistics
from lambdad.services.metric_data import MetricData, Point, Span, value_of


async def get_metric_statistics(data: MetricData, call: Call, params: Params) -> Output:
    plain, extended = params.get("Statistics", ()), params.get("ExtendedStatistics", ())
    _check(plain, extended)
    span = _span(params)
    metric = metric_of(call, params["Namespace"], params)
    found = await data.points(metric, span, params.get("Unit"))
    rendered = [_datapoint(point, statistics, plain, extended) for point, statistics in found]
    return {"Label": metric.name, "Datapoints": [each for each in rendered if each is not None]}


def _check(plain: Sequence[str], extended: Sequence[str]) -> None:
    if not plain and not extended:
        raise MissingParameter("At least one of the parameters Statistics and ExtendedStatistics must be specified.")
    if plain and extended:
        raise InvalidParameterCombination(
            "The parameters Statistics and ExtendedStatistics are mutually exclusive and you have specified both."
        )
    for place, statistic in enumerate(extended, 1):
        if percent_of(statistic) is None:
            raise InvalidParameterValue(
                f"The value {statistic} for parameter ExtendedStatistics.member.{place} is not supported."
            )


def _span(params: Params) -> Span:
    span = Span(params["StartTime"].timestamp(), params["EndTime"].timestamp(), params["Period"])
    if span.start_s == span.end_s:
        raise InvalidParameterValue("The parameter StartTime must not equal parameter EndTime.")
    if span.start_s > span.end_s:
        raise InvalidParameterValue("The parameter StartTime must be less than the parameter EndTime.")
    if not is_period(span.period_s):
        raise InvalidParameterValue("The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60.")
    asked = -int((rounded_start_s(span.start_s, span.period_s) - span.end_s) // span.period_s)
    if asked > DATAPOINTS_MAX:
        raise InvalidParameterCombination(
            f"You have requested up to {asked} datapoints, which exceeds the limit of {DATAPOINTS_MAX}. You may reduce "
            "the datapoints requested by increasing Period, or decreasing the time range."
        )
    return span


def _datapoint(
    point: Point, statistics: Statistics, plain: Sequence[str], extended: Sequence[str]
) -> dict[str, Any] | None:
    """None when percentiles are asked for that cannot be told."""
    rendered: dict[str, Any] = {"Timestamp": point.start_s, "Unit": point.unit}
    rendered.update((name, value_of(name, statistics)) for name in plain)
    percentiles = {name: value_of(name, statistics) for name in extended}
    if extended:
        if None in percentiles.values():
            return None
        rendered["ExtendedStatistics"] = percentiles
    return rendered

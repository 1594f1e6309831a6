"""GetMetricData: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lambdad.domain.errors import NotImplementedException
from lambdad.domain.metric_data import (
    DATA_PAGE,
    QUERIES_MAX,
    STATISTICS,
    InvalidNextToken,
    ValidationError,
    is_period,
    percent_of,
)
from lambdad.ingress.cloudwatch_api.names import metric_of
from lambdad.ingress.operations import Call, Output, Params
from lambdad.ingress.page_tokens import place_of, token_of
from lambdad.services.metric_data import MetricData, Point, Span, value_of

_ID: Final = re.compile(r"[a-z][a-zA-Z0-9_]*")
_DYNAMIC_LABEL: Final = "${"
_Values = list[tuple[Point, float]]


async def get_metric_data(data: MetricData, call: Call, params: Params) -> Output:
    queries = params["MetricDataQueries"]
    _check(call, queries)
    start_s, end_s = params["StartTime"].timestamp(), params["EndTime"].timestamp()
    if start_s >= end_s:
        raise ValidationError("The parameter StartTime must be less than the parameter EndTime.")
    limit = params.get("MaxDatapoints", DATA_PAGE)
    if not 0 < limit <= DATA_PAGE:
        raise ValidationError(f"The parameter MaxDatapoints must be from 1 to {DATA_PAGE}.")
    descending = params.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    first, after = _place(params["NextToken"]) if "NextToken" in params else (0, None)
    results = []
    returned = [query for query in queries if query.get("ReturnData", True)]
    for number, query in enumerate(returned[first:], first):
        values = await _values(data, call, query, start_s, end_s)
        if descending:
            values.reverse()
        if after is not None:
            last = after
            values = [item for item in values if (item[0] < last if descending else item[0] > last)]
            after = None
        results.append(_result(query, values[:limit], complete=len(values) <= limit))
        if len(values) > limit:
            last = values[limit - 1][0]
            return {"MetricDataResults": results, "NextToken": token_of([number, last.start_s, last.unit])}
        limit -= len(values)
        if not limit and number + 1 < len(returned):
            return {"MetricDataResults": results, "NextToken": token_of([number + 1, None, None])}
    return {"MetricDataResults": results}


def _check(call: Call, queries: Sequence[Mapping[str, Any]]) -> None:
    if not queries:
        raise ValidationError("The parameter MetricDataQueries is required.")
    if len(queries) > QUERIES_MAX:
        raise ValidationError(f"The collection MetricDataQueries must not have a size greater than {QUERIES_MAX}.")
    if len({query["Id"] for query in queries}) < len(queries):
        raise ValidationError("The values for parameter Id in MetricDataQueries are not unique.")
    for place, query in enumerate(queries, 1):
        _check_query(call, query, f"MetricDataQueries.member.{place}")
    if not any(query.get("ReturnData", True) for query in queries):
        raise ValidationError("At least one of the MetricDataQueries must have ReturnData true.")


def _check_query(call: Call, query: Mapping[str, Any], path: str) -> None:
    if _ID.fullmatch(query["Id"]) is None:
        raise ValidationError(
            f'The value {query["Id"]} for parameter {path}.Id is not matching "^[a-z][a-zA-Z0-9_]*$".'
        )
    if ("Expression" in query) == ("MetricStat" in query):
        raise ValidationError(f"Exactly one of {path}.Expression and {path}.MetricStat must be specified.")
    if "Expression" in query:
        raise NotImplementedException(
            f"Metric math, SEARCH and Metrics Insights are not implemented by lambdad: {path}.Expression."
        )
    if _DYNAMIC_LABEL in query.get("Label", ""):
        raise NotImplementedException(f"Dynamic labels are not implemented by lambdad: {path}.Label.")
    if query.get("AccountId", call.account_id) != call.account_id:
        raise ValidationError(f"The account {query['AccountId']} of {path}.AccountId is not linked to this one.")
    if "Period" in query:
        raise ValidationError(f"The parameter {path}.Period is of queries with an Expression.")
    asked = query["MetricStat"]
    for name in ("Namespace", "MetricName"):
        if name not in asked["Metric"]:
            raise ValidationError(f"The parameter {path}.MetricStat.Metric.{name} is required.")
    if not is_period(asked["Period"]):
        raise ValidationError(f"The parameter {path}.MetricStat.Period must be 1, 5, 10, 20, 30 or a multiple of 60.")
    if asked["Stat"] not in STATISTICS and percent_of(asked["Stat"]) is None:
        raise ValidationError(f"The value {asked['Stat']} for parameter {path}.MetricStat.Stat is not supported.")


async def _values(data: MetricData, call: Call, query: Mapping[str, Any], start_s: float, end_s: float) -> _Values:
    """The values that can be told, oldest first. Where there is data of several units, a time is there for each."""
    asked = query["MetricStat"]
    metric = metric_of(call, asked["Metric"]["Namespace"], asked["Metric"])
    found = await data.points(metric, Span(start_s, end_s, asked["Period"]), asked.get("Unit"))
    values = [(point, value_of(asked["Stat"], statistics)) for point, statistics in found]
    return [(point, value) for point, value in values if value is not None]


def _result(query: Mapping[str, Any], values: _Values, *, complete: bool) -> dict[str, Any]:
    return {
        "Id": query["Id"],
        "Label": query.get("Label", query["MetricStat"]["Metric"]["MetricName"]),
        "Timestamps": [point.start_s for point, _ in values],
        "Values": [value for _, value in values],
        "StatusCode": "Complete" if complete else "PartialData",
    }


def _place(token: str) -> tuple[int, Point | None]:
    """The query to go on with, and after which of its points."""
    try:
        number, start_s, unit = place_of(token)
        if type(number) is not int or number < 0:
            raise ValueError("not a number of a query")
        return number, None if start_s is None else Point(int(start_s), str(unit))
    except (ValueError, TypeError, OverflowError):
        raise InvalidNextToken("The specified NextToken is invalid.") from None

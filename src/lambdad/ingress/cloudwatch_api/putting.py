"""PutMetricData: everything that is wrong with it is said at once, as CloudWatch does, and then nothing is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lambdad.domain.errors import NotImplementedException, ServiceError
from lambdad.domain.metric_data import (
    AWS_NAMESPACE,
    DATA_MAX,
    FUTURE_MAX_S,
    HIGH_RESOLUTION_S,
    NO_UNIT,
    PAST_MAX_S,
    RESOLUTIONS_S,
    VALUE_MAX,
    VALUES_MAX,
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
)
from lambdad.ingress.cloudwatch_api.names import metric_of
from lambdad.ingress.operations import Call, Output, Params
from lambdad.ports.clock import Clock
from lambdad.ports.metrics import Statistics
from lambdad.services.metric_data import Datum, MetricData

_WAYS: Final = ("Value", "Values", "StatisticValues")


async def put_metric_data(data: MetricData, clock: Clock, call: Call, params: Params) -> Output:
    if params.get("EntityMetricData"):
        raise NotImplementedException("EntityMetricData is not implemented by lambdad: entities are not kept.")
    namespace, described = params["Namespace"], params.get("MetricData", ())
    if namespace.startswith(AWS_NAMESPACE):
        raise InvalidParameterValue(f"The value {namespace} for parameter Namespace is invalid.")
    if not described:
        raise MissingParameter("The parameter MetricData is required.")
    if len(described) > DATA_MAX:
        raise InvalidParameterValue(f"The collection MetricData must not have a size greater than {DATA_MAX}.")
    now_s = clock.time()
    problems = [problem for place, one in enumerate(described, 1) for problem in _problems(one, _path(place), now_s)]
    if problems:
        kind = type(problems[0])
        raise kind("\n".join(problem.message for problem in problems if type(problem) is kind))
    await data.put([_datum(call, namespace, one, now_s) for one in described])
    return {}


def _path(place: int) -> str:
    return f"MetricData.member.{place}"


def _problems(described: Mapping[str, Any], path: str, now_s: float) -> Iterator[ServiceError]:
    ways = [way for way in _WAYS if way in described]
    if len(ways) > 1:
        yield InvalidParameterCombination(
            f"The parameters {path}.{ways[0]} and {path}.{ways[1]} are mutually exclusive and you have specified both."
        )
    elif not ways:
        yield MissingParameter(
            f"At least one of the parameters {', '.join(f'{path}.{way}' for way in _WAYS)} must be specified."
        )
    if "Counts" in described and "Values" not in described:
        yield InvalidParameterCombination(f"The parameter {path}.Counts requires the parameter {path}.Values.")
    yield from _problems_of_time(described, path, now_s)
    resolution_s = described.get("StorageResolution")
    if resolution_s is not None and resolution_s not in RESOLUTIONS_S:
        yield InvalidParameterValue(f"The value {resolution_s} for parameter {path}.StorageResolution is invalid.")
    if "Value" in described:
        yield from _problems_of_numbers([described["Value"]], f"{path}.Value")
    if "Values" in described:
        yield from _problems_of_values(described["Values"], described.get("Counts"), path)
    if "StatisticValues" in described:
        yield from _problems_of_set(described["StatisticValues"], f"{path}.StatisticValues")


def _problems_of_time(described: Mapping[str, Any], path: str, now_s: float) -> Iterator[ServiceError]:
    if "Timestamp" not in described:
        return
    moment_s = described["Timestamp"].timestamp()
    if moment_s < now_s - PAST_MAX_S:
        yield InvalidParameterValue(f"The parameter {path}.Timestamp must specify a time within the past two weeks.")
    elif moment_s > now_s + FUTURE_MAX_S:
        yield InvalidParameterValue(
            f"The parameter {path}.Timestamp must specify a time no more than two hours in the future."
        )


def _problems_of_numbers(numbers: Sequence[float], path: str) -> Iterator[ServiceError]:
    for number in numbers:
        if not math.isfinite(number) or abs(number) > VALUE_MAX:
            yield InvalidParameterValue(f"The value {number} for parameter {path} is invalid.")


def _problems_of_values(values: Sequence[float], counts: Sequence[float] | None, path: str) -> Iterator[ServiceError]:
    if not values:
        yield MissingParameter(f"The parameter {path}.Values is required.")
    if len(values) > VALUES_MAX:
        yield InvalidParameterValue(f"The collection {path}.Values must not have a size greater than {VALUES_MAX}.")
    yield from _problems_of_numbers(values, f"{path}.Values")
    if counts is None:
        return
    if len(counts) != len(values):
        yield InvalidParameterValue(f"The parameters {path}.Values and {path}.Counts must be of the same size.")
    for count in counts:
        if not 0 < count <= VALUE_MAX:
            yield InvalidParameterValue(f"The value {count} for parameter {path}.Counts is invalid.")


def _problems_of_set(described: Mapping[str, float], path: str) -> Iterator[ServiceError]:
    for name in ("SampleCount", "Sum", "Minimum", "Maximum"):
        yield from _problems_of_numbers([described[name]], f"{path}.{name}")
    if not described["SampleCount"] > 0:
        yield InvalidParameterValue(f"The parameter {path}.SampleCount must be greater than 0.")
    if described["Minimum"] > described["Maximum"]:
        yield InvalidParameterValue(f"The parameter {path}.Maximum must not be less than {path}.Minimum.")


def _datum(call: Call, namespace: str, described: Mapping[str, Any], now_s: float) -> Datum:
    return Datum(
        metric_of(call, namespace, described),
        described.get("Unit", NO_UNIT),
        described["Timestamp"].timestamp() if "Timestamp" in described else now_s,
        _statistics(described),
        described.get("StorageResolution") == HIGH_RESOLUTION_S,
    )


def _statistics(described: Mapping[str, Any]) -> Statistics:
    if "Value" in described:
        return Statistics.of([described["Value"]])
    if "Values" in described:
        values = described["Values"]
        often: dict[float, float] = {}
        for value, count in zip(values, described.get("Counts") or [1.0] * len(values), strict=True):
            often[value] = often.get(value, 0.0) + count
        return Statistics.of_counts(often)
    count, total, least, most = (
        described["StatisticValues"][name] for name in ("SampleCount", "Sum", "Minimum", "Maximum")
    )
    if least == most and total == least * count:  # it tells the values all the same
        return Statistics.of_counts({least: count})
    return Statistics(count, total, least, most)

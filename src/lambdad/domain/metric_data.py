"""What CloudWatch takes for metric data and for a question about it, and how it refuses what it does not take.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html
"""

from __future__ import annotations

import re
from typing import Final

from lambdad.domain.errors import ServiceError

REQUEST_BYTES: Final = 1024 * 1024
"""What PutMetricData may send, compressed or not."""
DATA_MAX: Final = 1000
"""So many metrics may one PutMetricData have."""
VALUES_MAX: Final = 150
"""So many different values may one of them have."""
VALUE_MAX: Final = 2.0**360
PAST_MAX_S: Final = 14 * 24 * 3600
FUTURE_MAX_S: Final = 2 * 3600
DATAPOINTS_MAX: Final = 1440
"""What one GetMetricStatistics may ask for."""
QUERIES_MAX: Final = 500
DATA_PAGE: Final = 100_800
"""So many data points are in a page of GetMetricData."""
METRICS_PAGE: Final = 500
LISTED_S: Final = PAST_MAX_S
"""ListMetrics shows what has data in the past two weeks."""
RECENTLY_S: Final = 3 * 3600
AWS_NAMESPACE: Final = "AWS/"
NO_UNIT: Final = "None"
HIGH_RESOLUTION_S: Final = 1
RESOLUTIONS_S: Final = (HIGH_RESOLUTION_S, 60)

SHORT_PERIODS_S: Final = (1, 5, 10, 20, 30)
STATISTICS: Final = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_PERCENTILE: Final = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100(?:\.0{1,10})?)")


class InvalidParameterValue(ServiceError):
    code = "InvalidParameterValue"
    status = 400


class InvalidParameterCombination(ServiceError):
    code = "InvalidParameterCombination"
    status = 400


class MissingParameter(ServiceError):
    code = "MissingParameter"
    status = 400


class ValidationError(ServiceError):
    """What is wrong with the queries of GetMetricData."""

    code = "ValidationError"
    status = 400


class InvalidNextToken(ServiceError):
    code = "InvalidNextToken"
    status = 400


def percent_of(statistic: str) -> float | None:
    """Of a percentile such as p99.9; None for every other statistic."""
    found = _PERCENTILE.fullmatch(statistic)
    return float(found[1]) if found else None


def is_period(period_s: int) -> bool:
    """Whether data can be asked for in periods of this length."""
    return period_s in SHORT_PERIODS_S or (period_s > 0 and period_s % 60 == 0)


def rounded_start_s(start_s: float, period_s: int) -> int:
    """Where the first period begins: at a whole minute, or where a shorter period divides the minute."""
    return int(start_s // min(period_s, 60)) * min(period_s, 60)

"""ListMetrics: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_ListMetrics.html"""

from __future__ import annotations

from lambdad.domain.metric_data import METRICS_PAGE, InvalidParameterValue
from lambdad.ingress.cloudwatch_api.names import shown
from lambdad.ingress.operations import Call, Output, Params
from lambdad.ingress.page_tokens import place_of, token_of
from lambdad.ports.metrics import Metric
from lambdad.services.metric_data import MetricData


async def list_metrics(data: MetricData, call: Call, params: Params) -> Output:
    after = _place(call, params["NextToken"]) if "NextToken" in params else None
    found = await data.metrics(
        call.account_id,
        call.region,
        params.get("Namespace"),
        params.get("MetricName"),
        recently="RecentlyActive" in params,
    )
    wanted = [(each["Name"], each.get("Value")) for each in params.get("Dimensions", ())]
    # No account is linked to another: what is asked of a linked one is not there.
    is_own = params.get("OwningAccount", call.account_id) == call.account_id
    left = [each for each in found if is_own and _has(each, wanted) and (after is None or each > after)]
    page = left[:METRICS_PAGE]
    output: dict[str, object] = {"Metrics": [shown(metric) for metric in page]}
    if params.get("IncludeLinkedAccounts"):
        output["OwningAccounts"] = [call.account_id] * len(page)
    if len(left) > len(page):
        last = page[-1]
        output["NextToken"] = token_of([last.namespace, last.name, last.dimensions])
    return output


def _has(metric: Metric, wanted: list[tuple[str, str | None]]) -> bool:
    """Whether it has each of the dimensions, with the value that is given for it, if one is."""
    dimensions = dict(metric.dimensions)
    return all(name in dimensions and value in (None, dimensions[name]) for name, value in wanted)


def _place(call: Call, token: str) -> Metric:
    try:
        namespace, name, dimensions = place_of(token)
        pairs = tuple((str(key), str(value)) for key, value in dimensions)
        return Metric(call.account_id, call.region, str(namespace), str(name), pairs)
    except (ValueError, TypeError):
        raise InvalidParameterValue(f"The value {token} for parameter NextToken is invalid.") from None

"""Put-, Get-, List- and DeleteProvisionedConcurrencyConfig(s).

https://docs.aws.amazon.com/lambda/latest/api/API_PutProvisionedConcurrencyConfig.html
"""

from __future__ import annotations

from lambdad.ingress.lambda_api.functions import reference
from lambdad.ingress.lambda_api.markers import marker_after, place_of
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.provisioned_concurrency import ProvisionedConcurrencyService, ProvisionedState
from lambdad.services.version_pages import page_limit


async def put_provisioned_concurrency_config(
    provisioned: ProvisionedConcurrencyService, call: Call, params: Params
) -> Output:
    return _output(await provisioned.put(reference(call, params), params["ProvisionedConcurrentExecutions"]))


async def get_provisioned_concurrency_config(
    provisioned: ProvisionedConcurrencyService, call: Call, params: Params
) -> Output:
    return _output(await provisioned.get(reference(call, params)))


async def delete_provisioned_concurrency_config(
    provisioned: ProvisionedConcurrencyService, call: Call, params: Params
) -> Output:
    await provisioned.delete(reference(call, params))
    return {}


async def list_provisioned_concurrency_configs(
    provisioned: ProvisionedConcurrencyService, call: Call, params: Params
) -> Output:
    shown, following = await provisioned.list(
        reference(call, params), place_of(params.get("Marker")), page_limit(params.get("MaxItems"))
    )
    return {
        "ProvisionedConcurrencyConfigs": [{"FunctionArn": each.config.arn, **_output(each)} for each in shown],
        "NextMarker": marker_after(following),
    }


def _output(state: ProvisionedState) -> Output:
    requested, allocation = state.config.requested, state.allocation
    status = allocation.status(requested)
    return {
        "RequestedProvisionedConcurrentExecutions": requested,
        "AvailableProvisionedConcurrentExecutions": allocation.available,
        "AllocatedProvisionedConcurrentExecutions": allocation.allocated,
        "Status": status.value,
        "StatusReason": (allocation.reason or None) if status == "FAILED" else None,
        "LastModified": state.config.last_modified,
    }

"""Put- and GetRuntimeManagementConfig.

https://docs.aws.amazon.com/lambda/latest/api/API_PutRuntimeManagementConfig.html
"""

from __future__ import annotations

from lambdad.domain.arns import FunctionReference
from lambdad.domain.functions import FunctionVersion, runtime_version_arn
from lambdad.domain.runtimes import UpdateRuntimeOn
from lambdad.ingress.lambda_api.functions import reference
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.runtime_management import RuntimeManagementService


async def put_runtime_management_config(runtimes: RuntimeManagementService, call: Call, params: Params) -> Output:
    named = reference(call, params)
    update_on = UpdateRuntimeOn(params["UpdateRuntimeOn"])
    return _output(named, await runtimes.put(named, update_on, params.get("RuntimeVersionArn")))


async def get_runtime_management_config(runtimes: RuntimeManagementService, call: Call, params: Params) -> Output:
    named = reference(call, params)
    return _output(named, await runtimes.get(named))


def _output(named: FunctionReference, version: FunctionVersion) -> Output:
    """The ARN of the interpreter is there in manual mode only."""
    is_held = version.update_runtime_on == UpdateRuntimeOn.MANUAL
    return {
        "UpdateRuntimeOn": version.update_runtime_on,
        "FunctionArn": named.arn,
        "RuntimeVersionArn": runtime_version_arn(named.key.region, version.runtime_version) if is_held else None,
    }

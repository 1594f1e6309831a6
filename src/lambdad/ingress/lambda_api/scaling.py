"""Put- and GetFunctionScalingConfig: of functions on Lambda Managed Instances, which lambdad does not have.

https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionScalingConfig.html: both are refused for a function without
a capacity provider.
"""

from __future__ import annotations

from typing import Final

from lambdad.domain.errors import AccessDeniedException
from lambdad.ingress.lambda_api.functions import reference
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.functions import FunctionsService

_NO_CAPACITY_PROVIDER: Final = "The function provided by the arn does not contain a capacity provider configuration"


async def put_function_scaling_config(functions: FunctionsService, call: Call, params: Params) -> Output:
    raise await _refusal(functions, call, params)


async def get_function_scaling_config(functions: FunctionsService, call: Call, params: Params) -> Output:
    raise await _refusal(functions, call, params)


async def _refusal(functions: FunctionsService, call: Call, params: Params) -> AccessDeniedException:
    """What is said of a function that is there. Raises ResourceNotFoundException."""
    await functions.get(reference(call, params))
    return AccessDeniedException(_NO_CAPACITY_PROVIDER)

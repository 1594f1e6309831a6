"""PutFunctionRecursionConfig and GetFunctionRecursionConfig.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
"""

from __future__ import annotations

from lambdad.ingress.lambda_api.functions import reference
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.functions import FunctionsService


async def put_function_recursion_config(functions: FunctionsService, call: Call, params: Params) -> Output:
    await functions.put_recursion_config(reference(call, params), params["RecursiveLoop"])
    return {"RecursiveLoop": params["RecursiveLoop"]}


async def get_function_recursion_config(functions: FunctionsService, call: Call, params: Params) -> Output:
    return {"RecursiveLoop": await functions.recursion_config(reference(call, params))}

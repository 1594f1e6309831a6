"""Put-, Get- and DeleteFunctionConcurrency, and GetAccountSettings."""

from __future__ import annotations

from lambdad.domain import quotas
from lambdad.ingress.lambda_api.functions import reference
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.concurrency import ConcurrencyService
from lambdad.services.functions import FunctionsService


async def put_function_concurrency(concurrency: ConcurrencyService, call: Call, params: Params) -> Output:
    reserved = await concurrency.put(reference(call, params), params["ReservedConcurrentExecutions"])
    return {"ReservedConcurrentExecutions": reserved}


async def get_function_concurrency(concurrency: ConcurrencyService, call: Call, params: Params) -> Output:
    return {"ReservedConcurrentExecutions": await concurrency.get(reference(call, params))}


async def delete_function_concurrency(concurrency: ConcurrencyService, call: Call, params: Params) -> Output:
    await concurrency.delete(reference(call, params))
    return {}


async def get_account_settings(
    functions: FunctionsService, concurrency: ConcurrencyService, call: Call, params: Params
) -> Output:
    del params
    usage = await functions.usage(call.account_id, call.region)
    return {
        "AccountLimit": {
            "TotalCodeSize": quotas.CODE_STORAGE_BYTES,
            "CodeSizeUnzipped": quotas.UNZIPPED_BYTES,
            "CodeSizeZipped": quotas.ZIPPED_BYTES,
            "ConcurrentExecutions": quotas.CONCURRENT_EXECUTIONS,
            "UnreservedConcurrentExecutions": await concurrency.unreserved_limit((call.account_id, call.region)),
        },
        "AccountUsage": {"TotalCodeSize": usage.code_bytes, "FunctionCount": usage.functions},
    }

"""Put-, Update-, Get-, Delete- and ListFunctionEventInvokeConfig(s)."""

from __future__ import annotations

from lambdad.domain.functions import EventInvokeConfig
from lambdad.ingress.lambda_api.functions import reference
from lambdad.ingress.lambda_api.markers import marker_after, place_of
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.event_invoke_configs import EventInvokeConfigsService, EventInvokeSettings
from lambdad.services.references import require_unqualified
from lambdad.services.version_pages import page_limit


async def put_function_event_invoke_config(configs: EventInvokeConfigsService, call: Call, params: Params) -> Output:
    return _output(await configs.put(reference(call, params), _settings(params)))


async def update_function_event_invoke_config(configs: EventInvokeConfigsService, call: Call, params: Params) -> Output:
    return _output(await configs.update(reference(call, params), _settings(params)))


async def get_function_event_invoke_config(configs: EventInvokeConfigsService, call: Call, params: Params) -> Output:
    return _output(await configs.get(reference(call, params)))


async def delete_function_event_invoke_config(configs: EventInvokeConfigsService, call: Call, params: Params) -> Output:
    await configs.delete(reference(call, params))
    return {}


async def list_function_event_invoke_configs(configs: EventInvokeConfigsService, call: Call, params: Params) -> Output:
    named = reference(call, params)
    require_unqualified(named)
    shown, following = await configs.list(named, place_of(params.get("Marker")), page_limit(params.get("MaxItems")))
    return {
        "FunctionEventInvokeConfigs": [_output(config) for config in shown],
        "NextMarker": marker_after(following),
    }


def _settings(params: Params) -> EventInvokeSettings:
    """What a request sets: a destination that is there but empty is set to none."""
    settings: EventInvokeSettings = {}
    if params.get("MaximumRetryAttempts") is not None:
        settings["max_retry_attempts"] = params["MaximumRetryAttempts"]
    if params.get("MaximumEventAgeInSeconds") is not None:
        settings["max_event_age_s"] = params["MaximumEventAgeInSeconds"]
    destinations = params.get("DestinationConfig") or {}
    if destinations.get("OnSuccess") is not None:
        settings["on_success"] = destinations["OnSuccess"].get("Destination") or ""
    if destinations.get("OnFailure") is not None:
        settings["on_failure"] = destinations["OnFailure"].get("Destination") or ""
    return settings


def _output(config: EventInvokeConfig) -> Output:
    return {
        "LastModified": config.last_modified_s,
        "FunctionArn": config.arn,
        "MaximumRetryAttempts": config.max_retry_attempts,
        "MaximumEventAgeInSeconds": config.max_event_age_s,
        "DestinationConfig": {
            "OnSuccess": {"Destination": config.on_success},
            "OnFailure": {"Destination": config.on_failure},
        },
    }

"""Create-, Get-, Update-, Delete- and ListFunctionUrlConfig(s)."""

from __future__ import annotations

from typing import Any

from lambdad.domain.function_urls import Cors, FunctionUrlConfig, shown_time
from lambdad.ingress.lambda_api.functions import reference
from lambdad.ingress.lambda_api.markers import marker_after, place_of
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.function_urls import FunctionUrlsService, UrlSettings
from lambdad.services.references import require_unqualified
from lambdad.services.version_pages import page_limit


async def create_function_url_config(urls: FunctionUrlsService, call: Call, params: Params) -> Output:
    output = dict(_output(urls, await urls.create(reference(call, params), _settings(params))))
    del output["LastModifiedTime"]
    return output


async def update_function_url_config(urls: FunctionUrlsService, call: Call, params: Params) -> Output:
    return _output(urls, await urls.update(reference(call, params), _settings(params)))


async def get_function_url_config(urls: FunctionUrlsService, call: Call, params: Params) -> Output:
    return _output(urls, await urls.get(reference(call, params)))


async def delete_function_url_config(urls: FunctionUrlsService, call: Call, params: Params) -> Output:
    await urls.delete(reference(call, params))
    return {}


async def list_function_url_configs(urls: FunctionUrlsService, call: Call, params: Params) -> Output:
    named = reference(call, params)
    require_unqualified(named)
    shown, following = await urls.list(named, place_of(params.get("Marker")), page_limit(params.get("MaxItems")))
    return {
        "FunctionUrlConfigs": [_output(urls, config) for config in shown],
        "NextMarker": marker_after(following),
    }


def _settings(params: Params) -> UrlSettings:
    """What a request sets. An empty `Cors` sets none: so tools take it away again."""
    settings: UrlSettings = {}
    if params.get("AuthType") is not None:
        settings["auth_type"] = params["AuthType"]
    if params.get("InvokeMode") is not None:
        settings["invoke_mode"] = params["InvokeMode"]
    cors = params.get("Cors")
    if cors is not None:
        settings["cors"] = _cors(cors)
    return settings


def _cors(given: Params) -> Cors | None:
    lists = {
        name: tuple(given[member]) if given.get(member) is not None else None
        for name, member in (
            ("allow_headers", "AllowHeaders"),
            ("allow_methods", "AllowMethods"),
            ("allow_origins", "AllowOrigins"),
            ("expose_headers", "ExposeHeaders"),
        )
    }
    cors = Cors(allow_credentials=given.get("AllowCredentials"), max_age_s=given.get("MaxAge"), **lists)
    return None if cors == Cors() else cors


def _output(urls: FunctionUrlsService, config: FunctionUrlConfig) -> Output:
    output: dict[str, Any] = {
        "FunctionUrl": urls.url(config),
        "FunctionArn": config.reference.arn,
        "AuthType": config.auth_type,
        "CreationTime": shown_time(config.created_s),
        "LastModifiedTime": shown_time(config.last_modified_s),
        "InvokeMode": config.invoke_mode,
    }
    cors = config.cors
    if cors is not None:
        members = {
            "AllowCredentials": cors.allow_credentials,
            "AllowHeaders": cors.allow_headers,
            "AllowMethods": cors.allow_methods,
            "AllowOrigins": cors.allow_origins,
            "ExposeHeaders": cors.expose_headers,
            "MaxAge": cors.max_age_s,
        }
        output["Cors"] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in members.items()
            if value is not None
        }
    return output

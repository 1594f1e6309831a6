"""Code signing configurations, and which function has which."""

from __future__ import annotations

from lambdad.domain import quotas
from lambdad.domain.code_signing import CodeSigningConfig
from lambdad.ingress.lambda_api.configuration import code_signing_config_arn
from lambdad.ingress.lambda_api.functions import reference
from lambdad.ingress.lambda_api.markers import marker_after, place_of
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.code_signing import CodeSigningService
from lambdad.services.version_pages import page_limit


async def create_code_signing_config(code_signing: CodeSigningService, call: Call, params: Params) -> Output:
    config = await code_signing.create(
        call.account_id,
        call.region,
        params["AllowedPublishers"]["SigningProfileVersionArns"],
        (params.get("CodeSigningPolicies") or {}).get("UntrustedArtifactOnDeployment"),
        params.get("Description") or "",
        params.get("Tags") or {},
    )
    return {"CodeSigningConfig": _shown(config)}


async def get_code_signing_config(code_signing: CodeSigningService, call: Call, params: Params) -> Output:
    return {"CodeSigningConfig": _shown(await code_signing.get(code_signing_config_arn(call, params)))}


async def update_code_signing_config(code_signing: CodeSigningService, call: Call, params: Params) -> Output:
    config = await code_signing.update(
        code_signing_config_arn(call, params),
        (params.get("AllowedPublishers") or {}).get("SigningProfileVersionArns"),
        (params.get("CodeSigningPolicies") or {}).get("UntrustedArtifactOnDeployment"),
        params.get("Description"),
    )
    return {"CodeSigningConfig": _shown(config)}


async def delete_code_signing_config(code_signing: CodeSigningService, call: Call, params: Params) -> Output:
    await code_signing.delete(code_signing_config_arn(call, params))
    return {}


async def list_code_signing_configs(code_signing: CodeSigningService, call: Call, params: Params) -> Output:
    after, limit = place_of(params.get("Marker")), params.get("MaxItems") or quotas.CODE_SIGNING_CONFIGS_PAGE
    configs, next_after = await code_signing.list(call.account_id, call.region, after, limit)
    return {"CodeSigningConfigs": [_shown(config) for config in configs], "NextMarker": marker_after(next_after)}


async def list_functions_by_code_signing_config(code_signing: CodeSigningService, call: Call, params: Params) -> Output:
    after, limit = place_of(params.get("Marker")), page_limit(params.get("MaxItems"))
    functions, next_after = await code_signing.functions(code_signing_config_arn(call, params), after, limit)
    return {"FunctionArns": [key.arn for key in functions], "NextMarker": marker_after(next_after)}


async def put_function_code_signing_config(code_signing: CodeSigningService, call: Call, params: Params) -> Output:
    named, arn = reference(call, params), code_signing_config_arn(call, params)
    await code_signing.put_function_config(named, arn)
    return {"CodeSigningConfigArn": arn, "FunctionName": named.key.name}


async def get_function_code_signing_config(code_signing: CodeSigningService, call: Call, params: Params) -> Output:
    named = reference(call, params)
    arn = await code_signing.function_config(named)
    return {"CodeSigningConfigArn": arn or None, "FunctionName": named.key.name}


async def delete_function_code_signing_config(code_signing: CodeSigningService, call: Call, params: Params) -> Output:
    await code_signing.delete_function_config(reference(call, params))
    return {}


def _shown(config: CodeSigningConfig) -> Output:
    return {
        "CodeSigningConfigId": config.id,
        "CodeSigningConfigArn": config.arn,
        "Description": config.description,
        "AllowedPublishers": {"SigningProfileVersionArns": list(config.signing_profile_version_arns)},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": config.untrusted_artifact_on_deployment},
        "LastModified": config.last_modified,
    }

"""CreateFunction, GetFunction, UpdateFunctionCode and the rest of a function's own operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference, parse_function_name
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.functions import FunctionVersion
from lambdad.ingress.lambda_api import configuration
from lambdad.ingress.lambda_api.tags import check_tags
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.functions import (
    FunctionsService,
    default_logging,
    merged_logging,
    page_limit,
    require_unqualified,
)

CODE_PATH = "/_lambdad/code"


def reference(call: Call, params: Params) -> FunctionReference:
    """The function that a request names in `FunctionName` and `Qualifier`."""
    return parse_function_name(
        params["FunctionName"], call.account_id, call.region, params.get("Qualifier"), action=call.operation
    )


async def create_function(functions: FunctionsService, call: Call, params: Params) -> Output:
    key = require_unqualified(reference(call, params))
    changes = configuration.changes(call, params)
    if "runtime" not in changes or "handler" not in changes:
        raise InvalidParameterValueException(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages."
        )
    changes["logging"] = merged_logging(default_logging(key.name), changes.get("logging", {}))
    tags = dict(params.get("Tags") or {})
    check_tags(tags)
    draft = FunctionVersion(
        key=key,
        version=LATEST,
        code_sha256="",
        code_size=0,
        revision_id="",
        last_modified="",
        architecture=configuration.architecture(params) or "x86_64",
        **changes,
    )
    package = configuration.package(params["Code"])
    created = await functions.create(draft, package, tags, bool(params.get("Publish")))
    return configuration.output_of_change(created)


async def get_function(
    functions: FunctionsService, endpoint_url: Callable[[], str], call: Call, params: Params
) -> Output:
    named = reference(call, params)
    details = await functions.get(named)
    version = details.version
    output: dict[str, Any] = {
        "Configuration": configuration.output(version, named.arn),
        "Code": {"RepositoryType": "S3", "Location": code_location(endpoint_url(), version)},
    }
    if details.function.tags:
        output["Tags"] = dict(details.function.tags)
    if details.function.reserved_concurrency is not None:
        output["Concurrency"] = {"ReservedConcurrentExecutions": details.function.reserved_concurrency}
    return output


async def get_function_configuration(functions: FunctionsService, call: Call, params: Params) -> Output:
    named = reference(call, params)
    return configuration.output((await functions.get(named)).version, named.arn)


async def update_function_code(functions: FunctionsService, call: Call, params: Params) -> Output:
    configuration.refuse_unsupported(params)
    updated = await functions.update_code(
        reference(call, params),
        configuration.package(params),
        architecture=configuration.architecture(params),
        revision_id=params.get("RevisionId"),
        publish=bool(params.get("Publish")),
        dry_run=bool(params.get("DryRun")),
    )
    return configuration.output_of_change(updated)


async def update_function_configuration(functions: FunctionsService, call: Call, params: Params) -> Output:
    updated = await functions.update_configuration(
        reference(call, params), configuration.changes(call, params), params.get("RevisionId")
    )
    return configuration.output_of_change(updated)


async def delete_function(functions: FunctionsService, call: Call, params: Params) -> Output:
    await functions.delete(reference(call, params))
    return {"StatusCode": 204}


async def list_functions(functions: FunctionsService, call: Call, params: Params) -> Output:
    if params.get("MasterRegion") not in (None, "ALL", call.region):
        return {"Functions": []}
    every = params.get("FunctionVersion") == "ALL"
    page = await functions.list_functions(
        call.account_id,
        call.region,
        all_versions=every,
        marker=params.get("Marker"),
        limit=page_limit(params.get("MaxItems")),
    )
    shown = [configuration.listed(version, None if every else version.key.arn) for version in page.versions]
    return {"Functions": shown, "NextMarker": page.next_marker}


async def publish_version(functions: FunctionsService, call: Call, params: Params) -> Output:
    configuration.refuse_unsupported(params)
    published = await functions.publish(
        reference(call, params), params.get("Description"), params.get("CodeSha256") or None, params.get("RevisionId")
    )
    return configuration.output(published)


async def list_versions_by_function(functions: FunctionsService, call: Call, params: Params) -> Output:
    page = await functions.list_versions(
        reference(call, params), params.get("Marker"), page_limit(params.get("MaxItems"))
    )
    return {
        "Versions": [configuration.output(version) for version in page.versions],
        "NextMarker": page.next_marker,
    }


def code_location(endpoint_url: str, version: FunctionVersion) -> str:
    """Where the package of a version can be downloaded."""
    key: FunctionKey = version.key
    path = "/".join(quote(part, safe="") for part in (key.account_id, key.region, key.name, version.version))
    return f"{endpoint_url}{CODE_PATH}/{path}?sha256={version.code_sha256}"

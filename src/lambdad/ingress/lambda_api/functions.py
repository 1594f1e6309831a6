"""CreateFunction, GetFunction, UpdateFunctionCode and the rest of a function's own operations."""

from __future__ import annotations

from typing import Any

from lambdad.domain.arns import LATEST, FunctionReference, parse_function_name
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.logging_configs import default_logging, merged_logging
from lambdad.domain.tags import check as check_tags
from lambdad.ingress.code_links import CodeLinks
from lambdad.ingress.lambda_api import configuration
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.code import Package
from lambdad.services.functions import FunctionsService
from lambdad.services.package_objects import PackageObjects
from lambdad.services.references import require_unqualified
from lambdad.services.version_pages import page_limit


def reference(call: Call, params: Params) -> FunctionReference:
    """The function that a request names in `FunctionName` and `Qualifier`."""
    return parse_function_name(
        params["FunctionName"], call.account_id, call.region, params.get("Qualifier"), action=call.operation
    )


def package(packages: PackageObjects, call: Call, params: Params) -> Package:
    """The deployment package that a request carries, or the one in S3 that it names, which is not read yet."""
    given = configuration.package(params)
    return given if isinstance(given, bytes) else packages.read(given, call.account_id, call.region)


async def create_function(functions: FunctionsService, packages: PackageObjects, call: Call, params: Params) -> Output:
    key = require_unqualified(reference(call, params))
    changes = configuration.changes(call, params)
    if "runtime" not in changes or "handler" not in changes:
        raise InvalidParameterValueException(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages."
        )
    changes["logging"] = merged_logging(default_logging(key.name), changes.get("logging", {}))
    layers = changes.pop("layers", ())
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
    code = package(packages, call, params["Code"])
    signing = configuration.code_signing_config_arn(call, params)
    created = await functions.create(draft, code, tags, bool(params.get("Publish")), layers, signing)
    return configuration.output_of_change(created, await functions.environments.shown(created))


async def get_function(functions: FunctionsService, links: CodeLinks, call: Call, params: Params) -> Output:
    """https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html"""
    named = reference(call, params)
    details = await functions.get(named)
    version = details.version
    output: dict[str, Any] = {
        "Configuration": configuration.output(version, await functions.environments.shown(version), named.arn),
        "Code": {"RepositoryType": "S3", "Location": links.location(version)},
    }
    if named.qualifier is not None:  # then only what is specific to a version is told
        return output
    if details.function.tags:
        output["Tags"] = dict(details.function.tags)
    if details.function.reserved_concurrency is not None:
        output["Concurrency"] = {"ReservedConcurrentExecutions": details.function.reserved_concurrency}
    return output


async def get_function_configuration(functions: FunctionsService, call: Call, params: Params) -> Output:
    named = reference(call, params)
    version = (await functions.get(named)).version
    return configuration.output(version, await functions.environments.shown(version), named.arn)


async def update_function_code(
    functions: FunctionsService, packages: PackageObjects, call: Call, params: Params
) -> Output:
    configuration.refuse_unsupported(params)
    updated = await functions.update_code(
        reference(call, params),
        package(packages, call, params),
        architecture=configuration.architecture(params),
        revision_id=params.get("RevisionId"),
        publish=bool(params.get("Publish")),
        dry_run=bool(params.get("DryRun")),
    )
    return configuration.output_of_change(updated, await functions.environments.shown(updated))


async def update_function_configuration(functions: FunctionsService, call: Call, params: Params) -> Output:
    updated = await functions.update_configuration(
        reference(call, params), configuration.changes(call, params), params.get("RevisionId")
    )
    return configuration.output_of_change(updated, await functions.environments.shown(updated))


async def delete_function(functions: FunctionsService, call: Call, params: Params) -> Output:
    await functions.delete(reference(call, params))
    return {"StatusCode": 204}


async def list_functions(functions: FunctionsService, call: Call, params: Params) -> Output:
    if params.get("MasterRegion") not in (None, "ALL"):  # asks for what Lambda@Edge has replicated from there
        return {"Functions": []}
    every = params.get("FunctionVersion") == "ALL"
    page = await functions.list_functions(
        call.account_id,
        call.region,
        all_versions=every,
        marker=params.get("Marker"),
        limit=page_limit(params.get("MaxItems")),
    )
    environments = await functions.environments.shown_each(page.versions)
    shown = [
        configuration.listed(version, environment, None if every else version.key.arn)
        for version, environment in zip(page.versions, environments, strict=True)
    ]
    return {"Functions": shown, "NextMarker": page.next_marker}


async def publish_version(functions: FunctionsService, call: Call, params: Params) -> Output:
    configuration.refuse_unsupported(params)
    published = await functions.publish(
        reference(call, params), params.get("Description"), params.get("CodeSha256") or None, params.get("RevisionId")
    )
    return configuration.output(published, await functions.environments.shown(published))


async def list_versions_by_function(functions: FunctionsService, call: Call, params: Params) -> Output:
    page = await functions.list_versions(
        reference(call, params), params.get("Marker"), page_limit(params.get("MaxItems"))
    )
    environments = await functions.environments.shown_each(page.versions)
    return {
        "Versions": list(map(configuration.output, page.versions, environments)),
        "NextMarker": page.next_marker,
    }

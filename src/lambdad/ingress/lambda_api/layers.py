"""PublishLayerVersion and the other operations on layers."""

from __future__ import annotations

from typing import Any, Final

from lambdad.domain.errors import InvalidParameterValueException, ResourceNotFoundException
from lambdad.domain.layers import LayerKey, LayerVersion, parse_layer_name, parse_version_arn
from lambdad.domain.packages import PackageObject, code_sha256
from lambdad.domain.resource_policies import Grant, to_json
from lambdad.ingress.code_links import CodeLinks
from lambdad.ingress.lambda_api.markers import marker_after, place_of
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.code import Package
from lambdad.services.layers import LayerDetails, LayersService, access_denied
from lambdad.services.package_objects import PackageObjects
from lambdad.services.version_pages import page_limit

_ELSEWHERE: Final = ("S3Bucket", "S3Key", "S3ObjectVersion", "S3ObjectStorageMode")


async def publish_layer_version(
    layers: LayersService, packages: PackageObjects, links: CodeLinks, call: Call, params: Params
) -> Output:
    details = LayerDetails(
        params.get("Description") or "",
        params.get("LicenseInfo") or "",
        tuple(params.get("CompatibleRuntimes") or ()),
        tuple(params.get("CompatibleArchitectures") or ()),
    )
    published = await layers.publish(_own(call, params), _package(packages, call, params["Content"]), details)
    return _with_content(links, published)


async def get_layer_version(layers: LayersService, links: CodeLinks, call: Call, params: Params) -> Output:
    key = parse_layer_name(params["LayerName"], call.account_id, call.region)
    found = await layers.get(call.account_id, call.region, key, params["VersionNumber"])
    return _with_content(links, found)


async def get_layer_version_by_arn(layers: LayersService, links: CodeLinks, call: Call, params: Params) -> Output:
    key, version = parse_version_arn(params["Arn"])
    return _with_content(links, await layers.get(call.account_id, call.region, key, version))


async def delete_layer_version(layers: LayersService, call: Call, params: Params) -> Output:
    await layers.delete(_own(call, params), params["VersionNumber"])
    return {}


async def list_layers(layers: LayersService, call: Call, params: Params) -> Output:
    page = await layers.list_layers(
        call.account_id,
        call.region,
        runtime=params.get("CompatibleRuntime"),
        architecture=params.get("CompatibleArchitecture"),
        after=place_of(params.get("Marker")),
        limit=page_limit(params.get("MaxItems")),
    )
    shown = [
        {
            "LayerName": version.key.name,
            "LayerArn": version.key.arn,
            "LatestMatchingVersion": _listed(version),
        }
        for version in page.versions
    ]
    return {"Layers": shown, "NextMarker": marker_after(page.next_after or None)}


async def list_layer_versions(layers: LayersService, call: Call, params: Params) -> Output:
    page = await layers.list_versions(
        _own(call, params),
        runtime=params.get("CompatibleRuntime"),
        architecture=params.get("CompatibleArchitecture"),
        after=place_of(params.get("Marker")),
        limit=page_limit(params.get("MaxItems")),
    )
    return {
        "LayerVersions": [_listed(version) for version in page.versions],
        "NextMarker": marker_after(page.next_after or None),
    }


async def add_layer_version_permission(layers: LayersService, call: Call, params: Params) -> Output:
    grant = Grant(
        params["StatementId"],
        params["Action"],
        params["Principal"],
        principal_org_id=params.get("OrganizationId"),
    )
    statement, revision_id = await layers.add_permission(
        _own(call, params), params["VersionNumber"], grant, params.get("RevisionId")
    )
    return {"Statement": to_json(statement.document()), "RevisionId": revision_id}


async def remove_layer_version_permission(layers: LayersService, call: Call, params: Params) -> Output:
    await layers.remove_permission(
        _own(call, params), params["VersionNumber"], params["StatementId"], params.get("RevisionId")
    )
    return {}


async def get_layer_version_policy(layers: LayersService, call: Call, params: Params) -> Output:
    policy = await layers.policy(_own(call, params), params["VersionNumber"])
    return {"Policy": policy.document(), "RevisionId": policy.revision_id}


def _own(call: Call, params: Params) -> LayerKey:
    """The layer that a request names, which has to be the caller's own, in the region that was called.

    Raises AccessDeniedException and ResourceNotFoundException.
    """
    key = parse_layer_name(params["LayerName"], call.account_id, call.region)
    if key.region != call.region:
        raise ResourceNotFoundException(
            f"Layers from '{key.region}' are not reachable in this region ('{call.region}')"
        )
    if key.account_id != call.account_id:
        raise access_denied(call.account_id, key, call.operation, params.get("VersionNumber"))
    return key


def _package(packages: PackageObjects, call: Call, content: Params) -> Package:
    """The archive that a request carries, or the one in S3 that it names, which is not read yet."""
    elsewhere = any(content.get(member) for member in _ELSEWHERE)
    if content.get("ZipFile") is not None:
        if elsewhere:
            raise InvalidParameterValueException(
                "Please do not provide other LayerVersionContentInput parameters when providing a ZipFile."
            )
        return bytes(content["ZipFile"])
    if not content.get("S3Bucket") or not content.get("S3Key"):
        raise InvalidParameterValueException("Please provide a source for your layer content.")
    if content.get("S3ObjectStorageMode") == "REFERENCE":
        raise InvalidParameterValueException("S3ObjectStorageMode REFERENCE is not supported by lambdad yet.")
    place = PackageObject(content["S3Bucket"], content["S3Key"], content.get("S3ObjectVersion") or "")
    return packages.read(place, call.account_id, call.region)


def _with_content(links: CodeLinks, version: LayerVersion) -> dict[str, Any]:
    content = {
        "Location": links.layer_location(version),
        "CodeSha256": code_sha256(version.code_sha256),
        "CodeSize": version.code_size,
        "SigningProfileVersionArn": version.signing_profile_version_arn or None,
        "SigningJobArn": version.signing_job_arn or None,
    }
    return {"Content": content, "LayerArn": version.key.arn, **_listed(version)}


def _listed(version: LayerVersion) -> dict[str, Any]:
    return {
        "LayerVersionArn": version.arn,
        "Version": version.version,
        "Description": version.description,
        "CreatedDate": version.created,
        "CompatibleRuntimes": list(version.compatible_runtimes) or None,
        "CompatibleArchitectures": list(version.compatible_architectures) or None,
        "LicenseInfo": version.license_info or None,
    }

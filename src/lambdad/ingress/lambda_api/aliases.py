"""CreateAlias, GetAlias, UpdateAlias, DeleteAlias, ListAliases."""

from __future__ import annotations

from typing import Any

from lambdad.domain.functions import Alias
from lambdad.ingress.lambda_api.functions import reference
from lambdad.ingress.lambda_api.markers import marker_after, place_of
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.aliases import AliasesService
from lambdad.services.version_pages import page_limit


async def create_alias(aliases: AliasesService, call: Call, params: Params) -> Output:
    alias = await aliases.create(
        reference(call, params),
        params["Name"],
        params["FunctionVersion"],
        params.get("Description") or "",
        _weights(params) or {},
    )
    return _output(alias)


async def get_alias(aliases: AliasesService, call: Call, params: Params) -> Output:
    return _output(await aliases.get(reference(call, params), params["Name"]))


async def update_alias(aliases: AliasesService, call: Call, params: Params) -> Output:
    alias = await aliases.update(
        reference(call, params),
        params["Name"],
        version=params.get("FunctionVersion"),
        description=params.get("Description"),
        weights=_weights(params),
        revision_id=params.get("RevisionId"),
    )
    return _output(alias)


async def delete_alias(aliases: AliasesService, call: Call, params: Params) -> Output:
    await aliases.delete(reference(call, params), params["Name"])
    return {}


async def list_aliases(aliases: AliasesService, call: Call, params: Params) -> Output:
    shown, following = await aliases.list(
        reference(call, params),
        params.get("FunctionVersion"),
        place_of(params.get("Marker")),
        page_limit(params.get("MaxItems")),
    )
    return {"Aliases": [_output(alias) for alias in shown], "NextMarker": marker_after(following)}


def _weights(params: Params) -> dict[str, float] | None:
    routing = params.get("RoutingConfig")
    return None if routing is None else dict(routing.get("AdditionalVersionWeights") or {})


def _output(alias: Alias) -> Output:
    output: dict[str, Any] = {
        "AliasArn": alias.arn,
        "Name": alias.name,
        "FunctionVersion": alias.function_version,
        "Description": alias.description,
        "RevisionId": alias.revision_id,
    }
    if alias.additional_version is not None:
        output["RoutingConfig"] = {"AdditionalVersionWeights": {alias.additional_version: alias.additional_weight}}
    return output

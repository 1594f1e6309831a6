"""AddPermission, RemovePermission, GetPolicy, and PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy."""

from __future__ import annotations

from lambdad.domain.arns import FunctionReference, parse_function_name
from lambdad.domain.errors import ResourceNotFoundException
from lambdad.domain.resource_policies import Grant, to_json
from lambdad.ingress.lambda_api.functions import reference
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.permissions import PermissionsService


async def add_permission(permissions: PermissionsService, call: Call, params: Params) -> Output:
    grant = Grant(
        params["StatementId"],
        params["Action"],
        params["Principal"],
        source_arn=params.get("SourceArn"),
        source_account=params.get("SourceAccount"),
        principal_org_id=params.get("PrincipalOrgID"),
        event_source_token=params.get("EventSourceToken"),
        function_url_auth_type=params.get("FunctionUrlAuthType"),
        invoked_via_function_url=params.get("InvokedViaFunctionUrl"),
    )
    statement = await permissions.add(reference(call, params), grant, params.get("RevisionId"))
    return {"Statement": to_json(statement.document())}


async def remove_permission(permissions: PermissionsService, call: Call, params: Params) -> Output:
    await permissions.remove(reference(call, params), params["StatementId"], params.get("RevisionId"))
    return {}


async def get_policy(permissions: PermissionsService, call: Call, params: Params) -> Output:
    policy, revision_id = await permissions.get(reference(call, params))
    return {"Policy": policy.document(), "RevisionId": revision_id}


async def put_resource_policy(permissions: PermissionsService, call: Call, params: Params) -> Output:
    revision_id = await permissions.put(_resource(call, params), params["Policy"], params.get("RevisionId"))
    return {"Policy": params["Policy"], "RevisionId": revision_id}


async def get_resource_policy(permissions: PermissionsService, call: Call, params: Params) -> Output:
    policy, revision_id = await permissions.get(_resource(call, params))
    return {"Policy": policy.document(), "RevisionId": revision_id}


async def delete_resource_policy(permissions: PermissionsService, call: Call, params: Params) -> Output:
    await permissions.delete(_resource(call, params), params.get("RevisionId"))
    return {}


def _resource(call: Call, params: Params) -> FunctionReference:
    """The function, version or alias that a ResourceArn names; what else it may name does not exist here."""
    arn = params["ResourceArn"]
    if ":function:" not in arn or arn.endswith("$LATEST.PUBLISHED"):
        raise ResourceNotFoundException("The resource you requested does not exist.")
    return parse_function_name(arn, call.account_id, call.region, action=call.operation)

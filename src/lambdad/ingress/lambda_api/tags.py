"""ListTags, TagResource, UntagResource: the tags of functions, code signing configurations and event source mappings.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html
"""

from __future__ import annotations

from typing import Final

from lambdad.domain.arns import FunctionReference, parse_function_name
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.ingress.lambda_api.configuration import require_own
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.tags import TagsService

_OF_FUNCTION: Final = ":function:"


async def list_tags(tags: TagsService, call: Call, params: Params) -> Output:
    return {"Tags": dict(await tags.get(_resource(call, params["Resource"])))}


async def tag_resource(tags: TagsService, call: Call, params: Params) -> Output:
    await tags.add(_resource(call, params["Resource"]), params["Tags"])
    return {}


async def untag_resource(tags: TagsService, call: Call, params: Params) -> Output:
    await tags.remove(_resource(call, params["Resource"]), params["TagKeys"])
    return {}


def _resource(call: Call, arn: str) -> FunctionReference | str:
    """The function that an ARN names, or the ARN of anything else of the caller's account and region."""
    if _OF_FUNCTION in arn:
        return _function(call, arn)
    _, _, _, region, account_id, _, _ = arn.split(":", 6)
    require_own(call, arn, account_id, region)
    return arn


def _function(call: Call, arn: str) -> FunctionReference:
    reference = parse_function_name(arn, call.account_id, call.region, action=call.operation)
    if reference.qualifier is not None:
        raise InvalidParameterValueException(
            "Tags on function aliases and versions are not supported. "
            "Please specify either a function name or an unqualified function ARN."
        )
    return reference

"""ListTags, TagResource, UntagResource: the tags of functions.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html
"""

from __future__ import annotations

from collections.abc import Mapping

from lambdad.domain import quotas
from lambdad.domain.arns import FunctionReference, parse_function_name
from lambdad.domain.errors import InvalidParameterValueException, ResourceNotFoundException
from lambdad.ingress.operations import Call, Output, Params
from lambdad.services.tags import TOO_MANY_TAGS, TagsService


async def list_tags(tags: TagsService, call: Call, params: Params) -> Output:
    return {"Tags": dict(await tags.get(_function(call, params["Resource"])))}


async def tag_resource(tags: TagsService, call: Call, params: Params) -> Output:
    check_tags(params["Tags"])
    await tags.add(_function(call, params["Resource"]), params["Tags"])
    return {}


async def untag_resource(tags: TagsService, call: Call, params: Params) -> Output:
    await tags.remove(_function(call, params["Resource"]), params["TagKeys"])
    return {}


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse reserved keys and too many tags. Raises InvalidParameterValueException."""
    for name in tags:
        if name.lower().startswith("aws:"):
            raise InvalidParameterValueException("Tag keys starting with 'aws:' are reserved for internal use.")
    if len(tags) > quotas.TAGS:
        raise InvalidParameterValueException(TOO_MANY_TAGS)


def _function(call: Call, arn: str) -> FunctionReference:
    if ":function:" not in arn:
        kind = arn.split(":")[5] if arn.count(":") >= 5 else "resource"
        raise ResourceNotFoundException(f"The {kind} does not exist: {arn}")
    reference = parse_function_name(arn, call.account_id, call.region, action=call.operation)
    if reference.qualifier is not None:
        raise InvalidParameterValueException(
            "Tags on function aliases and versions are not supported. "
            "Please specify either a function name or an unqualified function ARN."
        )
    return reference

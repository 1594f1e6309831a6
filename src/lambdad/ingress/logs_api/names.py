"""How a call names a log group."""

from __future__ import annotations

from lambdad.domain.logs import GroupKey, InvalidParameterException, parse_group
from lambdad.ingress.operations import Call, Params


def named_group(call: Call, params: Params) -> GroupKey:
    """The group of an operation that takes a logGroupName alone."""
    return GroupKey(call.account_id, call.region, params["logGroupName"])


def identified_group(call: Call, params: Params) -> GroupKey:
    """The group of an operation that takes a logGroupName or a logGroupIdentifier, and not both.

    Raises InvalidParameterException.
    """
    name, identifier = params.get("logGroupName"), params.get("logGroupIdentifier")
    if (name is None) is (identifier is None):
        raise InvalidParameterException("Exactly one of logGroupName and logGroupIdentifier must be specified.")
    return parse_group(name if name is not None else str(identifier), call.account_id, call.region)

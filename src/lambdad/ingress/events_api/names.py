"""How a call names buses, rules and archives."""

from __future__ import annotations

import re
from typing import Final

from lambdad.domain.errors import AccessDeniedException, ValidationException
from lambdad.domain.event_archives import ArchiveKey
from lambdad.domain.event_buses import DEFAULT_BUS, BusKey, invalid_parameter, parse_bus
from lambdad.ingress.operations import Call, Params

_RESOURCE: Final = re.compile(
    r"arn:aws[\w-]*:events:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):(?P<kind>rule|event-bus|archive)/(?P<path>.+)"
)


def named_bus(call: Call, params: Params, member: str = "EventBusName") -> BusKey:
    """The bus of a call, by name or ARN; the default one when there is none. Raises AccessDeniedException.

    The buses of other accounts can be sent events, which is all that they can be asked for here.
    """
    key = parse_bus(params.get(member), call.account_id, call.region)
    _check_own(call, key)
    if key.region != call.region:
        raise key.not_found()
    return key


def bus_of_arn(call: Call, arn: str, parameter: str) -> BusKey:
    """The bus that an ARN names. Raises ValidationException and AccessDeniedException."""
    match = _RESOURCE.fullmatch(arn)
    if match is None or match["kind"] != "event-bus":
        raise invalid_parameter(parameter, "Must contain an event bus ARN.")
    key = BusKey(match["account"], match["region"], match["path"])
    _check_own(call, key)
    return key


def archive_of_arn(call: Call, arn: str, parameter: str) -> ArchiveKey:
    """The archive that an ARN names, of the caller's account and region. Raises ValidationException."""
    match = _RESOURCE.fullmatch(arn)
    if match is None or match["kind"] != "archive":
        raise invalid_parameter(parameter, "Must contain an archive ARN.")
    if (match["account"], match["region"]) != (call.account_id, call.region):
        raise invalid_parameter(parameter, "Cross-account and cross-Region replays are not permitted.")
    return ArchiveKey(call.account_id, call.region, match["path"])


def named_archive(call: Call, params: Params) -> ArchiveKey:
    return ArchiveKey(call.account_id, call.region, params["ArchiveName"])


def tagged(call: Call, params: Params) -> tuple[BusKey, str | None]:
    """The bus that a ResourceARN names, and the rule if it names one. Raises ValidationException."""
    arn = params["ResourceARN"]
    match = _RESOURCE.fullmatch(arn)
    if match is None or match["kind"] == "archive":
        raise ValidationException(f"Parameter {arn} is not valid. Reason: Provided Arn is not in correct format.")
    bus, rule = match["path"], None
    if match["kind"] == "rule":
        bus, _, rule = match["path"].rpartition("/")
    key = BusKey(match["account"], match["region"], bus or DEFAULT_BUS)
    _check_own(call, key)
    return key, rule


def _check_own(call: Call, key: BusKey) -> None:
    if key.account_id != call.account_id:
        raise AccessDeniedException(
            f"User: arn:aws:iam::{call.account_id}:root is not authorized to perform: events:{call.operation} on "
            f"resource: {key.arn} because no resource-based policy allows the events:{call.operation} action"
        )

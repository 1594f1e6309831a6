"""The resource policies of event buses: who may put which events from another account.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-bus-perms.html and
https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutPermission.html

A bus takes the events of its own account without a policy, unless a statement denies them. Conditions on keys that are
not known here do not let anything in, and do not keep a denial from holding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lambdad.domain.errors import ValidationException
from lambdad.domain.event_buses import (
    POLICY_CHARACTERS_MAX,
    BusKey,
    EventsPolicyLengthExceeded,
    EventsResourceNotFoundException,
)
from lambdad.domain.policy_conditions import arn_like
from lambdad.domain.resource_policies import account_root

__all__ = ["Access", "allows", "check_policy", "with_statement", "without_statement"]

PUT_EVENTS: Final = "events:PutEvents"
_VERSION: Final = "2012-10-17"
_ACCOUNT: Final = re.compile(r"\d{12}")
_ROOT: Final = re.compile(r"arn:aws[\w-]*:iam::(\d{12}):.+")


@dataclass(frozen=True, slots=True)
class Access:
    """What someone of an account wants to do. `context` has the values of condition keys, in lower case."""

    action: str
    account_id: str
    bus: BusKey
    context: Mapping[str, str] = field(default_factory=dict)


def allows(policy: str, access: Access) -> bool:
    """Whether a bus with this policy, which may be empty, lets it in."""
    statements = _statements(json.loads(policy)) if policy else ()
    concerned = [each for each in statements if _concerns(each, access)]
    if any(each["Effect"] == "Deny" and _holds(each, access, unknown=True) for each in concerned):
        return False
    if access.account_id == access.bus.account_id:
        return True
    return any(each["Effect"] == "Allow" and _holds(each, access, unknown=False) for each in concerned)


def check_policy(text: str) -> str:
    """A policy document as it is kept. Raises ValidationException and PolicyLengthExceededException."""
    try:
        document = json.loads(text)
        statements = _statements(document)
        operators = {operator for each in statements for operator in _conditions(each)}
    except (ValueError, RecursionError):
        raise ValidationException("Parameter Policy is not valid. Reason: It is not a policy document.") from None
    for each in statements:
        if each.get("Effect") not in ("Allow", "Deny") or not {"Principal", "Action", "Resource"} <= each.keys():
            raise ValidationException("Parameter Policy is not valid. Reason: A statement is not complete.")
    for operator in sorted(operators - _OPERATORS.keys()):
        raise ValidationException(f"Parameter Policy is not valid. Reason: {operator} is not supported.")
    return _checked(document)


def with_statement(
    policy: str, bus: BusKey, sid: str, action: str, principal: str, condition: Mapping[str, str] | None
) -> str:
    """The policy with a statement, in place of the one with its id. Raises PolicyLengthExceededException."""
    statement: dict[str, Any] = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": "*" if principal == "*" else {"AWS": account_root(principal)},
        "Action": action,
        "Resource": bus.arn,
    }
    if condition is not None:
        statement["Condition"] = {condition["Type"]: {condition["Key"]: condition["Value"]}}
    document = json.loads(policy) if policy else {"Version": _VERSION}
    kept = [each for each in _statements(document) if each.get("Sid") != sid] if policy else []
    return _checked({**document, "Statement": [*kept, statement]})


def without_statement(policy: str, sid: str) -> str:
    """The policy without a statement; empty when it was the last. Raises ResourceNotFoundException."""
    if not policy:
        raise EventsResourceNotFoundException("EventBus does not have a policy.")
    document = json.loads(policy)
    statements = _statements(document)
    left = [each for each in statements if each.get("Sid") != sid]
    if len(left) == len(statements):
        raise EventsResourceNotFoundException("Statement with the provided id does not exist.")
    return _checked({**document, "Statement": left}) if left else ""


def _checked(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, separators=(",", ":"))
    if len(text) > POLICY_CHARACTERS_MAX:
        raise EventsPolicyLengthExceeded(
            f"The policy is {len(text)} characters long; the limit is {POLICY_CHARACTERS_MAX}."
        )
    return text


def _statements(document: Any) -> Sequence[Mapping[str, Any]]:
    """The statements of a document. Raises ValueError."""
    found = document.get("Statement") if isinstance(document, dict) else None
    statements = [found] if isinstance(found, dict) else found
    if not isinstance(statements, list) or not all(isinstance(each, dict) for each in statements):
        raise ValueError("no statements")
    return statements


def _conditions(statement: Mapping[str, Any]) -> Mapping[str, Any]:
    """The conditions of a statement. Raises ValueError."""
    conditions = statement.get("Condition", {})
    if not isinstance(conditions, dict) or not all(isinstance(each, dict) for each in conditions.values()):
        raise ValueError("no conditions")
    return conditions


def _concerns(statement: Mapping[str, Any], access: Access) -> bool:
    actions, resources = _list(statement["Action"]), _list(statement["Resource"])
    return (
        any(_covers(each.lower(), access.action.lower()) for each in actions)
        and any(each == "*" or arn_like(each, access.bus.arn) for each in resources)
        and any(_is_account(each, access.account_id) for each in _principals(statement["Principal"]))
    )


def _principals(principal: Any) -> list[str]:
    return _list(principal.get("AWS", [])) if isinstance(principal, dict) else _list(principal)


def _is_account(principal: str, account_id: str) -> bool:
    """Whether an account, or an identity in it, is meant: callers are known by their account here."""
    if principal == "*" or (_ACCOUNT.fullmatch(principal) and principal == account_id):
        return True
    match = _ROOT.fullmatch(principal)
    return match is not None and match[1] == account_id


def _holds(statement: Mapping[str, Any], access: Access, *, unknown: bool) -> bool:
    """Whether every condition holds; `unknown` is what becomes of those on keys that have no value."""
    context = {"aws:principalaccount": access.account_id, "aws:sourceaccount": access.account_id, **access.context}
    for operator, keys in _conditions(statement).items():
        for key, wanted in keys.items():
            value = context.get(key.lower())
            held = unknown if value is None else any(_OPERATORS[operator](each, value) for each in _list(wanted))
            if not held:
                return False
    return True


def _covers(pattern: str, text: str) -> bool:
    return arn_like(f":::::{pattern.replace(':', '/')}", f":::::{text.replace(':', '/')}")


_OPERATORS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "StringEquals": lambda wanted, value: wanted == value,
    "StringEqualsIgnoreCase": lambda wanted, value: wanted.lower() == value.lower(),
    "StringLike": _covers,
    "ArnEquals": arn_like,
    "ArnLike": arn_like,
}
"""Those that let a key's value be one of some."""


def _list(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]

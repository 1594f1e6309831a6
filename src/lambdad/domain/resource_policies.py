"""Resource-based policies of functions, versions and aliases: the statements of AddPermission, and what they allow.

https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from lambdad.domain.arns import FunctionKey
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.record_kinds import RecordKind

INVOKE_FUNCTION: Final = "lambda:InvokeFunction"
SOURCE_ARN: Final = "AWS:SourceArn"
SOURCE_ACCOUNT: Final = "AWS:SourceAccount"
ANYONE: Final = "*"

_VERSION: Final = "2012-10-17"
_ARN_PARTS: Final = 6
_ACCOUNT: Final = re.compile(r"\d{12}")
_IDENTITY_ARN: Final = re.compile(r"arn:aws[a-zA-Z-]*:(?:iam|sts)::(?P<account>\d{12}):(?P<name>root|[a-z-]+/\S+)")
_SERVICE: Final = re.compile(r"(?:[a-zA-Z0-9-]+\.)+(?:amazonaws\.com(?:\.cn)?|amazon\.com)")

PrincipalKind = Literal["Service", "AWS", "*"]


@dataclass(frozen=True, slots=True)
class Statement:
    """One permission. Its effect is to allow: AddPermission knows no other.

    `principal` is a service's name or an ARN, and empty for everyone. `conditions` are values by operator and key;
    all of them must hold.
    """

    sid: str
    principal_kind: PrincipalKind
    principal: str
    action: str
    resource: str
    conditions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The statement in the policy language, its members in the order in which Lambda writes them."""
        document: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Principal": ANYONE if self.principal_kind == ANYONE else {self.principal_kind: self.principal},
            "Action": self.action,
            "Resource": self.resource,
        }
        if self.conditions:
            document["Condition"] = {operator: dict(values) for operator, values in self.conditions.items()}
        return document


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """The statements of a version or alias, or with an empty qualifier those of the function's unqualified ARN."""

    key: FunctionKey
    qualifier: str
    statements: tuple[Statement, ...]

    def document(self) -> str:
        """The policy as GetPolicy shows it, whose length is what the quota counts."""
        statements = [statement.document() for statement in self.statements]
        return to_json({"Version": _VERSION, "Id": "default", "Statement": statements})


RESOURCE_POLICIES: Final = RecordKind(
    "resource_policy", ResourcePolicy, lambda policy: (*policy.key.parts, policy.qualifier), of_function=True
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What AddPermission is asked to allow. None stands for what a request leaves out.

    https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html
    """

    sid: str
    action: str
    principal: str
    source_arn: str | None = None
    source_account: str | None = None
    principal_org_id: str | None = None
    event_source_token: str | None = None
    function_url_auth_type: str | None = None
    invoked_via_function_url: bool | None = None

    def statement(self, resource: str) -> Statement:
        """The statement for the ARN `resource`. Raises InvalidParameterValueException for what is no principal."""
        kind, principal = _principal(self.principal)
        equals = {
            SOURCE_ACCOUNT: self.source_account,
            "aws:PrincipalOrgID": self.principal_org_id,
            "lambda:EventSourceToken": self.event_source_token,
            "lambda:FunctionUrlAuthType": self.function_url_auth_type,
        }
        via_url = None if self.invoked_via_function_url is None else str(self.invoked_via_function_url).lower()
        operators = {
            "StringEquals": equals,
            "Bool": {"lambda:InvokedViaFunctionUrl": via_url},
            "ArnLike": {SOURCE_ARN: self.source_arn},
        }
        given = {
            operator: {key: value for key, value in values.items() if value is not None}
            for operator, values in operators.items()
        }
        conditions = {operator: values for operator, values in given.items() if values}
        return Statement(self.sid, kind, principal, self.action, resource, conditions)


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """What someone wants to do: `principal` is the name of a service or the ARN of an identity.

    `context` has the values of condition keys. A condition on a key that it lacks does not hold.
    """

    action: str
    principal: str
    context: Mapping[str, str] = field(default_factory=dict)


def account_root(account_id: str) -> str:
    """The ARN that stands for an account as a whole."""
    return f"arn:aws:iam::{account_id}:root"


def to_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def allows(statements: tuple[Statement, ...], request: AccessRequest) -> bool:
    """Whether any of the statements, which are all about the resource that the request names, permits it."""
    return any(
        _covers_action(statement.action, request.action)
        and _covers_principal(statement, request.principal)
        and _conditions_hold(statement.conditions, request.context)
        for statement in statements
    )


def arn_like(pattern: str, arn: str) -> bool:
    """The operator ArnLike: each of an ARN's six parts by itself, with `*` for any characters and `?` for one.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    patterns, parts = pattern.split(":", _ARN_PARTS - 1), arn.split(":", _ARN_PARTS - 1)
    return len(patterns) == len(parts) and all(map(_matches, patterns, parts))


def _principal(text: str) -> tuple[PrincipalKind, str]:
    if text == ANYONE:
        return "*", ""
    if _ACCOUNT.fullmatch(text):
        return "AWS", account_root(text)
    if _IDENTITY_ARN.fullmatch(text):
        return "AWS", text
    if _SERVICE.fullmatch(text):
        return "Service", text
    raise InvalidParameterValueException(
        "The provided principal was invalid. Please check the principal and try again."
    )


def _covers_action(granted: str, wanted: str) -> bool:
    """Names of actions are the same in any case, as in IAM; AddPermission lets a `*` only stand alone."""
    return granted in ("*", "lambda:*") or granted.casefold() == wanted.casefold()


def _covers_principal(statement: Statement, wanted: str) -> bool:
    if statement.principal_kind == ANYONE or statement.principal == wanted:
        return True
    granted, identity = _IDENTITY_ARN.fullmatch(statement.principal), _IDENTITY_ARN.fullmatch(wanted)
    if granted is None or identity is None:
        return False
    return granted["name"] == "root" and granted["account"] == identity["account"]


def _conditions_hold(conditions: Mapping[str, Mapping[str, str]], context: Mapping[str, str]) -> bool:
    for operator, values in conditions.items():
        for key, wanted in values.items():
            value = context.get(key)
            if value is None or not (arn_like(wanted, value) if operator == "ArnLike" else wanted == value):
                return False
    return True


def _matches(pattern: str, text: str) -> bool:
    """Whether `pattern` with its wildcards is all of `text`, in time that grows with the product of their lengths.

    A pattern is a caller's text: a regular expression made of it could be made to take for ever.
    """
    at = place = 0
    star, resume = -1, 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[place]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = star + 1, resume
        else:
            return False
    return not pattern[at:].strip("*")

"""Resource-based policies: the statements that are put or added, what may be in them, and what they allow.

https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Literal

from lambdad.domain.arns import FunctionKey
from lambdad.domain.errors import InvalidParameterValueException
from lambdad.domain.policy_conditions import Condition, MalformedPolicy, matches_pattern, parse_conditions
from lambdad.domain.record_kinds import RecordKind

INVOKE_FUNCTION: Final = "lambda:InvokeFunction"
INVOKE_FUNCTION_URL: Final = "lambda:InvokeFunctionUrl"
SOURCE_ARN: Final = "AWS:SourceArn"
SOURCE_ACCOUNT: Final = "AWS:SourceAccount"
SOURCE_IP: Final = "aws:SourceIp"
SECURE_TRANSPORT: Final = "aws:SecureTransport"
ANYONE: Final = "*"
ANONYMOUS: Final = "*"
"""The principal of a request that nobody has signed: only what is allowed to everyone is allowed to it."""

_VERSION: Final = "2012-10-17"
_VERSIONS: Final = (_VERSION, "2008-10-17")
_ACCOUNT: Final = re.compile(r"\d{12}")
_IDENTITY_ARN: Final = re.compile(r"arn:aws[a-zA-Z-]*:(?:iam|sts)::(?P<account>\d{12}):(?P<name>root|[a-z-]+/\S+)")
_SERVICE: Final = re.compile(r"(?:[a-zA-Z0-9-]+\.)+(?:amazonaws\.com(?:\.cn)?|amazon\.com)")
_SID: Final = re.compile(r"[a-zA-Z0-9-_]{1,100}")
_ACTION: Final = re.compile(r"\*|lambda:[a-zA-Z*?]+")
_INVOKING: Final = "lambda:invoke"
_MEMBERS: Final = frozenset({"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "Condition"})
_KEYS: Final = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalisawsservice",
        "aws:principalorgid",
        "aws:principalservicename",
        "aws:securetransport",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceip",
        "lambda:eventsourcetoken",
        "lambda:functionurlauthtype",
        "lambda:invokedviafunctionurl",
    }
)
"""The condition keys that are known of requests. Accounts are in no organization, so none has `aws:PrincipalOrgID`."""

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
    """The policy of a version or alias, or with an empty qualifier that of the function's unqualified ARN.

    `put` is the document that PutResourcePolicy was given, if it was; `statements` are those that were added since.
    """

    key: FunctionKey
    qualifier: str
    statements: tuple[Statement, ...] = ()
    put: str = ""

    def document(self) -> str:
        """The policy as it is shown, whose length is what the quota counts: what was put is shown as it was put."""
        if not self.put:
            return policy_document(self.statements)
        if not self.statements:
            return self.put
        document = json.loads(self.put)
        added = [statement.document() for statement in self.statements]
        return to_json({**document, "Statement": [*_listed(document["Statement"]), *added]})

    @property
    def sids(self) -> list[str]:
        """The ids of its statements; a statement that was put may have none."""
        put = [statement.sid for statement in compiled(self.put)] if self.put else []
        return [sid for sid in (*put, *(statement.sid for statement in self.statements)) if sid]

    def without(self, sid: str) -> ResourcePolicy | None:
        """The policy less one of its statements; None when none is left."""
        left = tuple(statement for statement in self.statements if statement.sid != sid)
        put = self.put
        if put and len(left) == len(self.statements):
            document = json.loads(put)
            kept = [one for one in _listed(document["Statement"]) if one.get("Sid") != sid]
            put = to_json({**document, "Statement": kept}) if kept else ""
        return replace(self, statements=left, put=put) if left or put else None


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
        """The statement for the ARN `resource`.

        Raises InvalidParameterValueException for what is no principal, and a FunctionUrlAuthType with another action.
        """
        kind, principal = _principal(self.principal)
        if self.function_url_auth_type is not None and self.action != INVOKE_FUNCTION_URL:
            raise InvalidParameterValueException(
                f"FunctionUrlAuthType is only supported for {INVOKE_FUNCTION_URL} action"
            )
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
    """What someone wants to do: `principal` is the name of a service, the ARN of an identity, or ANONYMOUS.

    `context` has the values of condition keys. A condition on a key that it lacks does not hold, unless it says "not".
    What follows from the principal, such as `aws:PrincipalAccount`, need not be in it.
    """

    action: str
    principal: str
    context: Mapping[str, str] = field(default_factory=dict)


class Verdict(Enum):
    """What a policy says of a request. NONE: nothing, so that others decide, or that it is refused."""

    ALLOW = "allow"
    DENY = "deny"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class PolicyStatement:
    """One statement of a policy, read: who may, or with `denies` may not, do what, when all conditions hold."""

    sid: str
    denies: bool
    principals: tuple[str, ...]
    actions: tuple[str, ...]
    excludes_actions: bool
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...]

    def covers(self, request: AccessRequest, context: Mapping[str, str]) -> bool:
        """Whether it is about a request, whose condition keys and those of its principal are in `context`."""
        action = request.action.casefold()
        return (
            any(matches_pattern(pattern, action) for pattern in self.actions) != self.excludes_actions
            and any(_covers_principal(granted, request.principal) for granted in self.principals)
            and all(condition.holds(context) for condition in self.conditions)
        )


def account_root(account_id: str) -> str:
    """The ARN that stands for an account as a whole."""
    return f"arn:aws:iam::{account_id}:root"


def to_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def policy_document(statements: Iterable[Statement]) -> str:
    """The policy that Lambda makes of statements which were added one by one."""
    documents = [statement.document() for statement in statements]
    return to_json({"Version": _VERSION, "Id": "default", "Statement": documents})


@lru_cache(1024)
def compiled(document: str) -> tuple[PolicyStatement, ...]:
    """The statements of a policy. Raises MalformedPolicy."""
    try:
        policy = json.loads(document, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, MalformedPolicy) else MalformedPolicy("it is not JSON") from None
    if not isinstance(policy, dict) or set(policy) - {"Version", "Id", "Statement"}:
        raise MalformedPolicy("it must be an object with the members Version, Id and Statement")
    if policy.get("Version", _VERSION) not in _VERSIONS or not isinstance(policy.get("Id", ""), str):
        raise MalformedPolicy(f"Version must be {_VERSION}, and Id text")
    given = _listed(policy.get("Statement", []))
    if not given:
        raise MalformedPolicy("it has no statement")
    return tuple(map(_statement, given))


def check_policy(document: str, resource: str) -> None:
    """Whether a document can be the policy of a resource, and everything in it be decided and enforced.

    Raises InvalidParameterValueException.
    """
    try:
        statements = compiled(document)
        sids = [statement.sid for statement in statements if statement.sid]
        if len(set(sids)) < len(sids):
            raise MalformedPolicy("statement ids must be unique")
        for statement in statements:
            _check_enforceable(statement, resource)
    except MalformedPolicy as error:
        raise InvalidParameterValueException(f"The provided policy document is invalid: {error}.") from None


def verdict(statements: Iterable[PolicyStatement], request: AccessRequest) -> Verdict:
    """What statements, all about the resource that a request is for, say of it: a denial wins over permissions."""
    context = {name.casefold(): value for name, value in request.context.items()}
    context = {**_of_principal(request.principal), **context}
    found = {statement.denies for statement in statements if statement.covers(request, context)}
    return Verdict.DENY if True in found else Verdict.ALLOW if found else Verdict.NONE


def allows(statements: Sequence[Statement], request: AccessRequest) -> bool:
    """Whether any of the statements, which are all about the resource that the request names, permits it."""
    return bool(statements) and verdict(compiled(policy_document(statements)), request) is Verdict.ALLOW


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise MalformedPolicy("an object has a member twice")
    return found


def _no_constant(name: str) -> Any:
    raise MalformedPolicy(f"{name} is not JSON")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _statement(given: Any) -> PolicyStatement:
    if not isinstance(given, dict):
        raise MalformedPolicy("a statement must be an object")
    unknown = sorted(set(given) - _MEMBERS)
    if unknown:
        raise MalformedPolicy(f"the member {unknown[0]} of a statement is not supported")
    sid = given.get("Sid", "")
    if not isinstance(sid, str) or (sid and not _SID.fullmatch(sid)):
        raise MalformedPolicy(f"{sid} is not a statement id")
    if given.get("Effect") not in ("Allow", "Deny"):
        raise MalformedPolicy("Effect must be Allow or Deny")
    if ("Action" in given) == ("NotAction" in given):
        raise MalformedPolicy("a statement must have either Action or NotAction")
    return PolicyStatement(
        sid,
        denies=given["Effect"] == "Deny",
        principals=_principals(given.get("Principal")),
        actions=tuple(action.casefold() for action in _texts(given, "Action" if "Action" in given else "NotAction")),
        excludes_actions="NotAction" in given,
        resources=_texts(given, "Resource"),
        conditions=parse_conditions(given["Condition"]) if "Condition" in given else (),
    )


def _texts(given: Mapping[str, Any], member: str) -> tuple[str, ...]:
    """A member that is one text, or a list of them."""
    values = _listed(given.get(member, []))
    if not values or not all(isinstance(value, str) for value in values):
        raise MalformedPolicy(f"{member} must be text or a list of texts")
    return tuple(values)


def _principals(given: Any) -> tuple[str, ...]:
    if given == ANYONE:
        return (ANYONE,)
    if not isinstance(given, dict) or not given or set(given) - {"AWS", "Service"}:
        raise MalformedPolicy('Principal must be "*", or name principals as AWS or Service')
    found: list[str] = []
    for kind in given:
        for text in _texts(given, kind):
            try:
                actual, principal = _principal(text)
            except InvalidParameterValueException:
                raise MalformedPolicy(f"{text} is not a principal") from None
            if actual not in (kind, ANYONE) or (actual == ANYONE and kind != "AWS"):
                raise MalformedPolicy(f"{text} is not a principal of the kind {kind}")
            found.append(principal or ANYONE)
    return tuple(found)


def _check_enforceable(statement: PolicyStatement, resource: str) -> None:
    for action in statement.actions:
        if not _ACTION.fullmatch(action):
            raise MalformedPolicy(f"{action} is not an action of Lambda")
        if statement.denies and (statement.excludes_actions or not action.startswith(_INVOKING)):
            # Other operations take no part in policies here: of another account they are always refused.
            raise MalformedPolicy("lambdad can deny only actions that begin with lambda:Invoke")
    for pattern in statement.resources:
        if not matches_pattern(pattern, resource):
            raise MalformedPolicy(f"the resource {pattern} is not {resource}, which the policy is for")
    for condition in statement.conditions:
        if condition.key not in _KEYS:
            raise MalformedPolicy(f"the condition key {condition.key} is not supported by lambdad")


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


def _covers_principal(granted: str, wanted: str) -> bool:
    if granted in (ANYONE, wanted):
        return True
    owner, identity = _IDENTITY_ARN.fullmatch(granted), _IDENTITY_ARN.fullmatch(wanted)
    if owner is None or identity is None or owner["account"] != identity["account"]:
        return False
    return owner["name"] == "root" or _is_session(identity["name"], owner["name"])


def _is_session(identity: str, role: str) -> bool:
    """Whether an identity is a session of a role: `assumed-role/NAME/SESSION` of `role/PATH/NAME`."""
    kind, _, rest = identity.partition("/")
    return kind == "assumed-role" and role.startswith("role/") and role.rsplit("/", 1)[1] == rest.partition("/")[0]


def _of_principal(principal: str) -> dict[str, str]:
    """The condition keys that follow from who asks, their names in lower case."""
    if principal == ANONYMOUS:
        return {"aws:principalisawsservice": "false"}
    identity = _IDENTITY_ARN.fullmatch(principal)
    if identity is None:
        return {"aws:principalisawsservice": "true", "aws:principalservicename": principal}
    return {
        "aws:principalarn": principal,
        "aws:principalaccount": identity["account"],
        "aws:principalisawsservice": "false",
    }

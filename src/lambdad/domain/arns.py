"""Names of functions in every form that the API takes, parsed once.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html (FunctionName): a name, a partial ARN or a full ARN, each
with or without a qualifier.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from lambdad.domain.errors import (
    AccessDeniedException,
    InvalidParameterValueException,
    ResourceNotFoundException,
    ValidationException,
)
from lambdad.domain.quotas import FUNCTION_NAME_CHARACTERS

LATEST = "$LATEST"

# Dots and `$LATEST.PUBLISHED` pass, as in the service model: CreateFunction makes no such function, so none is found.
_NAME = re.compile(
    r"(?:arn:(?P<partition>aws[a-zA-Z-]*):lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?"
    r"(?:(?P<marker>function):)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
_VERSION = re.compile(r"\$LATEST|[0-9]+")


@dataclass(frozen=True, slots=True, order=True)
class FunctionKey:
    """One function: names are unique in an account and region."""

    account_id: str
    region: str
    name: str

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account_id}:function:{self.name}"

    @property
    def parts(self) -> tuple[str, str, str]:
        """What tells it from every other function, in the order in which records are kept."""
        return self.account_id, self.region, self.name

    def qualified_arn(self, qualifier: str) -> str:
        return f"{self.arn}:{qualifier}"


@dataclass(frozen=True, slots=True)
class FunctionReference:
    """What a caller named: a function, and perhaps a version or alias of it."""

    key: FunctionKey
    qualifier: str | None

    @property
    def arn(self) -> str:
        """The ARN in the form in which it was asked for, as the service's messages name it."""
        return self.key.qualified_arn(self.qualifier) if self.qualifier else self.key.arn

    def not_found(self) -> ResourceNotFoundException:
        return ResourceNotFoundException(f"Function not found: {self.arn}")


def is_version(qualifier: str) -> bool:
    """Whether a qualifier names a version (`$LATEST` or a number) rather than an alias."""
    return _VERSION.fullmatch(qualifier) is not None


@lru_cache(4096)
def parse_function_name(
    text: str, account_id: str, region: str, qualifier: str | None = None, *, action: str = "InvokeFunction"
) -> FunctionReference:
    """Read the name of a function of the caller's own account: as `parse_foreign_name`, and raises
    AccessDeniedException for another account.
    """
    reference = parse_foreign_name(text, account_id, region, qualifier)
    if reference.key.account_id != account_id:
        raise access_denied(reference, account_id, action)
    return reference


def access_denied(reference: FunctionReference, account_id: str, action: str) -> AccessDeniedException:
    """What a caller of one account is told about a function of another."""
    return AccessDeniedException(
        f"User: arn:aws:iam::{account_id}:root is not authorized to perform: lambda:{action} on resource: "
        f"{reference.arn} because no resource-based policy allows the lambda:{action} action"
    )


@lru_cache(4096)
def parse_foreign_name(text: str, account_id: str, region: str, qualifier: str | None = None) -> FunctionReference:
    """Read a FunctionName as sent by a caller of `account_id` in `region`, with the `Qualifier` sent beside it.

    It may name a function of another account. Raises ValidationException for what is not a name,
    InvalidParameterValueException when the qualifier in the name contradicts the other one, and
    ResourceNotFoundException for another region.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise ValidationException(
            f"1 validation error detected: Value '{text}' at 'functionName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|"
            "(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?(\\d{12}:)?(function:)?([a-zA-Z0-9-_\\.]+)"
            "(:(\\$LATEST(\\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
        )
    name = match["name"]
    if len(name) > FUNCTION_NAME_CHARACTERS:
        raise ValidationException(
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {FUNCTION_NAME_CHARACTERS}"
        )
    named = match["qualifier"]
    if named and qualifier and named != qualifier:
        raise InvalidParameterValueException(
            "The derived qualifier from the function name does not match the specified qualifier."
        )
    if match["region"] and match["region"] != region:
        raise ResourceNotFoundException(
            f"Functions from '{match['region']}' are not reachable in this region ('{region}')"
        )
    return FunctionReference(FunctionKey(match["account"] or account_id, region, name), named or qualifier or None)

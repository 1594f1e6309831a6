"""What requests refer to, found in a unit of work: functions, their versions and aliases, and revisions of them."""

from __future__ import annotations

from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference, is_version
from lambdad.domain.errors import InvalidParameterValueException, PreconditionFailedException
from lambdad.domain.functions import Alias, Function, FunctionVersion
from lambdad.ports.store import Tables

REVISION_MISMATCH = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)
UNQUALIFIED_ONLY = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN."
)


def require_unqualified(reference: FunctionReference) -> FunctionKey:
    """The function itself, for operations that do not take a version or alias."""
    if reference.qualifier is not None:
        raise InvalidParameterValueException(UNQUALIFIED_ONLY)
    return reference.key


def require_function(tables: Tables, reference: FunctionReference) -> Function:
    """The function, or ResourceNotFoundException."""
    function = tables.function(reference.key)
    if function is None:
        raise reference.not_found()
    return function


def find_version(tables: Tables, reference: FunctionReference) -> tuple[FunctionVersion, Alias | None]:
    """The version that a reference names, directly or by an alias; raises ResourceNotFoundException."""
    qualifier = reference.qualifier or LATEST
    alias = None
    if not is_version(qualifier):
        alias = tables.alias(reference.key, qualifier)
        if alias is None:
            raise reference.not_found()
        qualifier = alias.function_version
    version = tables.version(reference.key, qualifier)
    if version is None:
        raise reference.not_found()
    return version, alias


def check_revision(current: str, given: str | None) -> None:
    if given is not None and given != current:
        raise PreconditionFailedException(REVISION_MISMATCH)

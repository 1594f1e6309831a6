"""Resource-based policies: who may invoke a function, version or alias from outside its account or from a service.

https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lambdad.domain import quotas
from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference, access_denied, is_version
from lambdad.domain.errors import (
    InvalidParameterValueException,
    PolicyLengthExceededException,
    PreconditionFailedException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.functions import Alias, FunctionVersion, new_revision_id
from lambdad.domain.resource_policies import (
    INVOKE_FUNCTION,
    RESOURCE_POLICIES,
    SOURCE_ACCOUNT,
    SOURCE_ARN,
    AccessRequest,
    Grant,
    ResourcePolicy,
    Statement,
    account_root,
    allows,
)
from lambdad.ports.store import Store, Tables
from lambdad.services.functions import find_version, require_function

REVISION_MISMATCH = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetPolicy API to retrieve the latest Revision Id"
)


class PermissionsService:
    """Operations on policies. `changed` is told of the function whose policy, and so whose revision, has changed.

    Each of the ARNs of a function has a policy of its own: one that was granted for the unqualified ARN says nothing
    about the function's versions and aliases, nor the other way round.
    https://docs.aws.amazon.com/lambda/latest/dg/versioning-aliases-permissions.html
    """

    def __init__(self, store: Store, changed: Callable[[FunctionKey], None]) -> None:
        self._store = store
        self._changed = changed

    async def add(self, reference: FunctionReference, grant: Grant, revision_id: str | None) -> Statement:
        """Add a statement.

        Raises ResourceNotFoundException, InvalidParameterValueException for `$LATEST` or what is no principal,
        PreconditionFailedException, ResourceConflictException for an id that is taken, and
        PolicyLengthExceededException.
        """
        if reference.qualifier == LATEST:
            raise InvalidParameterValueException("We currently do not support adding policies for $LATEST.")

        def work(tables: Tables) -> Statement:
            subject = _subject(tables, reference)
            _check_revision(subject, revision_id)
            before = tables.record(RESOURCE_POLICIES, *reference.key.parts, _qualifier(reference))
            statements = before.statements if before else ()
            if any(statement.sid == grant.sid for statement in statements):
                raise ResourceConflictException(
                    f"The statement id ({grant.sid}) provided already exists. Please provide a new statement id, "
                    "or remove the existing statement."
                )
            statement = grant.statement(reference.arn)
            policy = ResourcePolicy(reference.key, _qualifier(reference), (*statements, statement))
            size = len(policy.document().encode())
            if size > quotas.RESOURCE_POLICY_BYTES:
                raise PolicyLengthExceededException(
                    f"The final policy size ({size}) is bigger than the limit ({quotas.RESOURCE_POLICY_BYTES})."
                )
            tables.put_record(RESOURCE_POLICIES, policy)
            _renew(tables, subject)
            return statement

        statement = await self._store.write(work)
        self._changed(reference.key)
        return statement

    async def remove(self, reference: FunctionReference, sid: str, revision_id: str | None) -> None:
        """Remove a statement. Raises ResourceNotFoundException and PreconditionFailedException."""

        def work(tables: Tables) -> None:
            policy = tables.record(RESOURCE_POLICIES, *reference.key.parts, _qualifier(reference))
            if policy is None:
                raise ResourceNotFoundException("No policy is associated with the given resource.")
            left = tuple(statement for statement in policy.statements if statement.sid != sid)
            if len(left) == len(policy.statements):
                raise ResourceNotFoundException(f"Statement {sid} is not found in resource policy.")
            subject = _subject(tables, reference)
            _check_revision(subject, revision_id)
            if left:
                tables.put_record(RESOURCE_POLICIES, replace(policy, statements=left))
            else:
                tables.delete_record(RESOURCE_POLICIES, *policy.key.parts, policy.qualifier)
            _renew(tables, subject)

        await self._store.write(work)
        self._changed(reference.key)

    async def get(self, reference: FunctionReference) -> tuple[ResourcePolicy, str]:
        """A policy and its revision id. Raises ResourceNotFoundException."""

        def work(tables: Tables) -> tuple[ResourcePolicy, str]:
            policy = tables.record(RESOURCE_POLICIES, *reference.key.parts, _qualifier(reference))
            if policy is None:
                raise ResourceNotFoundException("The resource you requested does not exist.")
            return policy, _subject(tables, reference).revision_id

        return await self._store.read(work)

    async def allows_service(
        self, reference: FunctionReference, service: str, source_arn: str, source_account: str
    ) -> bool:
        """Whether a service, such as `s3.amazonaws.com`, may invoke a function for one of its resources.

        It needs a permission for functions of the resource's own account too. False when there is no such function.
        """
        context = {SOURCE_ARN: source_arn, SOURCE_ACCOUNT: source_account}
        return await self._allows(reference, AccessRequest(INVOKE_FUNCTION, service, context))

    async def check_account(self, reference: FunctionReference, account_id: str, action: str) -> None:
        """Whether callers of another account may invoke a function, by `action`, the name of an operation that does.

        Raises AccessDeniedException, also when there is no such function.
        """
        if not await self._allows(reference, AccessRequest(INVOKE_FUNCTION, account_root(account_id))):
            raise access_denied(reference, account_id, action)

    async def _allows(self, reference: FunctionReference, request: AccessRequest) -> bool:
        def work(tables: Tables) -> bool:
            policy = tables.record(RESOURCE_POLICIES, *reference.key.parts, _qualifier(reference))
            return policy is not None and allows(policy.statements, request)

        return await self._store.read(work)


def _qualifier(reference: FunctionReference) -> str:
    return reference.qualifier or ""


def _subject(tables: Tables, reference: FunctionReference) -> FunctionVersion | Alias:
    """What a policy is attached to, whose revision id is the policy's: for the unqualified ARN it is `$LATEST`."""
    require_function(tables, reference)
    qualifier = reference.qualifier
    if qualifier is None or is_version(qualifier):
        return find_version(tables, reference)[0]
    alias = tables.alias(reference.key, qualifier)
    if alias is None:
        raise ResourceNotFoundException(f"Cannot find alias arn: {reference.arn}")
    return alias


def _check_revision(subject: FunctionVersion | Alias, given: str | None) -> None:
    if given is not None and given != subject.revision_id:
        raise PreconditionFailedException(REVISION_MISMATCH)


def _renew(tables: Tables, subject: FunctionVersion | Alias) -> None:
    """A change of the policy is a new revision of what it is attached to; environments stay as they are."""
    if isinstance(subject, Alias):
        tables.put_alias(replace(subject, revision_id=new_revision_id()))
    else:
        kept = subject.environment_key
        tables.put_version(replace(subject, revision_id=new_revision_id(), configuration_revision_id=kept))

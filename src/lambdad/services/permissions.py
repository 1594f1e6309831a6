"""Resource-based policies: who may invoke a function, version or alias from outside its account or from a service.

https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import replace

from lambdad.domain import quotas
from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference, access_denied, is_version
from lambdad.domain.errors import (
    AccessDeniedException,
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
    SECURE_TRANSPORT,
    SOURCE_ACCOUNT,
    SOURCE_ARN,
    SOURCE_IP,
    AccessRequest,
    Grant,
    ResourcePolicy,
    Statement,
    Verdict,
    account_root,
    check_policy,
    compiled,
    verdict,
)
from lambdad.ports.store import Store, Tables
from lambdad.services.references import find_version, require_function

REVISION_MISMATCH = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetPolicy API to retrieve the latest Revision Id"
)


class PermissionsService:
    """Operations on policies. `changed` is told of the function whose policy, and so whose revision, has changed.

    Each of the ARNs of a function has a policy of its own: one that was granted for the unqualified ARN says nothing
    about the function's versions and aliases, nor the other way round. `now` gives the time in seconds since the epoch.
    https://docs.aws.amazon.com/lambda/latest/dg/versioning-aliases-permissions.html
    """

    def __init__(
        self, store: Store, changed: Callable[[FunctionKey], None], now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._changed = changed
        self._now = now
        self._denying: set[FunctionReference] | None = None

    async def add(self, reference: FunctionReference, grant: Grant, revision_id: str | None) -> Statement:
        """Add a statement.

        Raises ResourceNotFoundException, InvalidParameterValueException for `$LATEST` or what is no principal,
        PreconditionFailedException, ResourceConflictException for an id that is taken, and
        PolicyLengthExceededException.
        """
        _refuse_latest(reference)

        def work(tables: Tables) -> Statement:
            subject = _subject(tables, reference)
            _check_revision(subject, revision_id)
            before = _policy(tables, reference) or ResourcePolicy(reference.key, _qualifier(reference))
            if grant.sid in before.sids:
                raise ResourceConflictException(
                    f"The statement id ({grant.sid}) provided already exists. Please provide a new statement id, "
                    "or remove the existing statement."
                )
            statement = grant.statement(reference.arn)
            after = replace(before, statements=(*before.statements, statement))
            check_size(after.document())
            _put(tables, after, subject)
            return statement

        statement = await self._store.write(work)
        self._changed(reference.key)
        return statement

    async def remove(self, reference: FunctionReference, sid: str, revision_id: str | None) -> None:
        """Remove a statement. Raises ResourceNotFoundException and PreconditionFailedException."""

        def work(tables: Tables) -> None:
            policy = _require_policy(tables, reference)
            if sid not in policy.sids:
                raise ResourceNotFoundException(f"Statement {sid} is not found in resource policy.")
            subject = _subject(tables, reference)
            _check_revision(subject, revision_id)
            left = policy.without(sid)
            if left is None:
                _delete(tables, policy, subject)
            else:
                _put(tables, left, subject)

        await self._store.write(work)
        self._changed(reference.key)

    async def put(self, reference: FunctionReference, document: str, revision_id: str | None) -> str:
        """Set a whole policy in place of any that was there; the revision id that it has then.

        Raises ResourceNotFoundException, InvalidParameterValueException for a document that is no policy, or one that
        could not be enforced, PreconditionFailedException and PolicyLengthExceededException.
        """
        _refuse_latest(reference)
        check_policy(document, reference.arn)
        if any(statement.denies for statement in compiled(document)):
            (await self._denials()).add(reference)

        def work(tables: Tables) -> str:
            subject = _subject(tables, reference)
            _check_revision(subject, revision_id)
            check_size(document)
            _put(tables, ResourcePolicy(reference.key, _qualifier(reference), put=document), subject)
            return _subject(tables, reference).revision_id

        revision = await self._store.write(work)
        self._changed(reference.key)
        return revision

    async def delete(self, reference: FunctionReference, revision_id: str | None) -> None:
        """Remove a policy with all its statements. Raises ResourceNotFoundException and PreconditionFailedException."""

        def work(tables: Tables) -> None:
            policy = _require_policy(tables, reference)
            subject = _subject(tables, reference)
            _check_revision(subject, revision_id)
            _delete(tables, policy, subject)

        await self._store.write(work)
        self._changed(reference.key)

    async def get(self, reference: FunctionReference) -> tuple[ResourcePolicy, str]:
        """A policy and its revision id. Raises ResourceNotFoundException."""

        def work(tables: Tables) -> tuple[ResourcePolicy, str]:
            policy = _policy(tables, reference)
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
        return await self.allows(reference, AccessRequest(INVOKE_FUNCTION, service, context))

    async def check_account(self, reference: FunctionReference, account_id: str, action: str, client: str = "") -> None:
        """Whether callers of an account may invoke a function, by `action`, the name of an operation that does.

        Its own account may unless a policy denies it; others need a permission, and are told so too when there is no
        such function. `client` is the IP address that the request came from. Raises AccessDeniedException.
        """
        is_own = reference.key.account_id == account_id
        if is_own and reference not in await self._denials():
            return
        context = {SECURE_TRANSPORT: "false", **({SOURCE_IP: client} if client else {})}
        found = await self.verdict(reference, AccessRequest(INVOKE_FUNCTION, account_root(account_id), context))
        if found is Verdict.DENY:
            raise AccessDeniedException(
                f"User: {account_root(account_id)} is not authorized to perform: lambda:{action} on resource: "
                f"{reference.arn} with an explicit deny in a resource-based policy"
            )
        if found is Verdict.NONE and not is_own:
            raise access_denied(reference, account_id, action)

    def is_open(self, reference: FunctionReference) -> bool:
        """Whether it is certain already, without a look at the store, that no policy keeps a function's account out."""
        denying = self._denying
        return denying is not None and (not denying or reference not in denying)

    async def allows(self, reference: FunctionReference, request: AccessRequest) -> bool:
        """Whether the policy of exactly this function, version or alias permits a request. False when it has none."""
        return await self.verdict(reference, request) is Verdict.ALLOW

    async def verdict(self, reference: FunctionReference, request: AccessRequest) -> Verdict:
        """What the policy of exactly this function, version or alias says of a request."""
        policy = await self._store.read(lambda tables: _policy(tables, reference))
        if policy is None:
            return Verdict.NONE
        now = self._now()
        moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
        context = {"aws:CurrentTime": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "aws:EpochTime": str(int(now)), **request.context}
        return verdict(compiled(policy.document()), replace(request, context=context))

    async def _denials(self) -> set[FunctionReference]:
        """What has, or once had, a policy that denies something: only there may an account be kept out of its own."""
        if self._denying is None:
            policies = await self._store.read(lambda tables: tables.records(RESOURCE_POLICIES))
            if self._denying is None:
                self._denying = {
                    FunctionReference(policy.key, policy.qualifier or None)
                    for policy in policies
                    if policy.put and any(statement.denies for statement in compiled(policy.put))
                }
        return self._denying


def _policy(tables: Tables, reference: FunctionReference) -> ResourcePolicy | None:
    return tables.record(RESOURCE_POLICIES, *reference.key.parts, _qualifier(reference))


def _require_policy(tables: Tables, reference: FunctionReference) -> ResourcePolicy:
    policy = _policy(tables, reference)
    if policy is None:
        raise ResourceNotFoundException("No policy is associated with the given resource.")
    return policy


def _put(tables: Tables, policy: ResourcePolicy, subject: FunctionVersion | Alias) -> None:
    tables.put_record(RESOURCE_POLICIES, policy)
    _renew(tables, subject)


def _delete(tables: Tables, policy: ResourcePolicy, subject: FunctionVersion | Alias) -> None:
    tables.delete_record(RESOURCE_POLICIES, *policy.key.parts, policy.qualifier)
    _renew(tables, subject)


def check_size(document: str) -> None:
    """The 20 KB that a policy may have. Raises PolicyLengthExceededException."""
    size = len(document.encode())
    if size > quotas.RESOURCE_POLICY_BYTES:
        raise PolicyLengthExceededException(
            f"The final policy size ({size}) is bigger than the limit ({quotas.RESOURCE_POLICY_BYTES})."
        )


def _refuse_latest(reference: FunctionReference) -> None:
    if reference.qualifier == LATEST:
        raise InvalidParameterValueException("We currently do not support adding policies for $LATEST.")


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

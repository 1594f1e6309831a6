"""Invocations: find the version, let it in or throttle it, run it on the compute host."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference
from lambdad.domain.errors import RecursiveInvocationException, ServiceError, TooManyRequestsException
from lambdad.domain.functions import EVENT_INVOKE_CONFIGS, Alias, EventInvokeConfig, Function, FunctionVersion
from lambdad.domain.invocations import Invocation, Outcome
from lambdad.domain.metric_names import MetricName
from lambdad.domain.tracing import RECURSION_LIMIT, function_mark, trace_header
from lambdad.ports.blobs import BlobNotFound
from lambdad.ports.clock import Clock
from lambdad.ports.compute import ComputeHost, ResponseStream
from lambdad.ports.store import Store, StoreUnavailable, Tables
from lambdad.services.concurrency import Admission, ConcurrencyService
from lambdad.services.identifiers import new_trace_digits
from lambdad.services.metrics import Metrics
from lambdad.services.references import find_version, require_function

T = TypeVar("T")

_STOPPED_LOOP: Final = (
    "Lambda has detected your function being invoked in a recursive loop with other AWS resources and stopped your "
    "function's invocation."
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a reference leads to: a version, or two with an alias that chooses, and what holds for invoking it.

    `mark` is what the function is called in the lineage of a trace.
    """

    version: FunctionVersion
    alias: Alias | None
    additional: FunctionVersion | None
    reserved: int | None
    mark: str
    may_loop: bool
    event_config: EventInvokeConfig | None

    @classmethod
    def of(
        cls,
        function: Function,
        version: FunctionVersion,
        alias: Alias | None = None,
        additional: FunctionVersion | None = None,
        event_config: EventInvokeConfig | None = None,
    ) -> Target:
        return cls(
            version,
            alias,
            additional,
            function.reserved_concurrency,
            function_mark(function.key.arn),
            function.recursive_loop == "Allow",
            event_config,
        )

    def choose(self, draw: float) -> FunctionVersion:
        if self.alias is None or self.additional is None:
            return self.version
        return self.additional if self.alias.version_for(draw) == self.additional.version else self.version


class Targets:
    """References resolved and remembered, so that an invocation reads nothing from disk.

    A function's entries are dropped when it changes; one that was being read meanwhile is not remembered.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[FunctionKey, dict[str | None, Target]] = {}
        self._changes: dict[FunctionKey, int] = {}

    def known(self, reference: FunctionReference) -> Target | None:
        targets = self._known.get(reference.key)
        return targets.get(reference.qualifier) if targets is not None else None

    async def find(self, reference: FunctionReference) -> Target:
        """Raises ResourceNotFoundException."""
        changes = self._changes.get(reference.key, 0)

        def work(tables: Tables) -> Target:
            function = require_function(tables, reference)
            version, alias = find_version(tables, reference)
            additional = None
            if alias is not None and alias.additional_version is not None:
                additional = tables.version(reference.key, alias.additional_version)
            config = tables.record(EVENT_INVOKE_CONFIGS, *reference.key.parts, reference.qualifier or LATEST)
            return Target.of(function, version, alias, additional, config)

        target = await self._store.read(work)
        if self._changes.get(reference.key, 0) == changes:
            self._known.setdefault(reference.key, {})[reference.qualifier] = target
        return target

    def remember(self, latest: FunctionVersion) -> None:
        """A function has been created: what its name alone leads to is known."""
        self._known[latest.key] = {None: Target.of(Function(latest.key), latest)}

    def forget(self, key: FunctionKey) -> None:
        self._known.pop(key, None)
        self._changes[key] = self._changes.get(key, 0) + 1


@dataclass(slots=True)
class InvokeRequest:
    """What a caller asks for. `begun` is called when the event is given to the function.

    `given_trace` is the trace header that the function gets, filled when the invocation is let in.
    """

    reference: FunctionReference
    request_id: str
    payload: bytes
    client_context: str | None = None
    trace: str | None = None
    tail_log: bool = False
    begun: Callable[[], None] | None = None
    given_trace: str = ""


@dataclass(frozen=True, slots=True)
class _Begun:
    """An invocation that was let in."""

    version: FunctionVersion
    admission: Admission
    began_s: float


class InvokeService:
    """Runs invocations, and waits for their ends."""

    def __init__(
        self,
        targets: Targets,
        concurrency: ConcurrencyService,
        host: ComputeHost,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._targets = targets
        self._concurrency = concurrency
        self._host = host
        self._clock = clock
        self._reading: set[asyncio.Task[None]] = set()

    def expect(self, key: FunctionKey) -> None:
        """A function has changed, and is likely to be invoked: read now what its next invocation needs to know."""
        task = asyncio.get_running_loop().create_task(self._read_ahead(key))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read_ahead(self, key: FunctionKey) -> None:
        with contextlib.suppress(ServiceError, StoreUnavailable):  # whoever invokes it is told
            await self._concurrency.unreserved_limit((key.account_id, key.region))
            await self._targets.find(FunctionReference(key, None))  # it may be gone: then nothing is to be read

    async def check(self, reference: FunctionReference) -> FunctionVersion:
        """What `DryRun` does: everything short of running. Raises ResourceNotFoundException."""
        return (await self.target(reference)).version

    def begin(self, request: InvokeRequest, finish: Callable[[FunctionVersion, Outcome], None]) -> bool:
        """Run an invocation that nothing stands in the way of; `finish` is called with its outcome.

        False when it must wait for something, or be refused: `invoke` does either.
        """
        target = self._targets.known(request.reference)
        if target is None or target.additional is not None:
            return False  # of two versions, the one that happens to be free would be run more often than it should
        version = target.version
        key = version.key
        if not self._concurrency.can_tell(key):
            return False

        def finished(outcome: Outcome) -> None:
            self._concurrency.leave(admission)
            finish(version, outcome)
            self._count(request, began_s, admission, outcome)

        began_s = self._clock.time()
        invocation = self._invocation(request, target, version, began_s)
        admission = self._concurrency.enter_now(key, target.reserved, version.version)
        if self._host.begin(version, invocation, finished):
            return True
        self._concurrency.leave(admission)
        return False

    async def invoke(self, request: InvokeRequest) -> tuple[FunctionVersion, Outcome]:
        """Run an invocation and wait for its end; raises ServiceError when it cannot run at all."""
        begun, outcome = await self._run(request, self._host.invoke)
        self._concurrency.leave(begun.admission)
        self._count(request, begun.began_s, begun.admission, outcome)
        return begun.version, outcome

    async def invoke_stream(self, request: InvokeRequest) -> tuple[FunctionVersion, ResponseStream]:
        """The same, returning when the response begins. The function runs on when the caller stops reading."""
        begun, stream = await self._run(request, self._host.invoke_stream)

        def finished(outcome: asyncio.Future[Outcome]) -> None:
            self._concurrency.leave(begun.admission)
            if not outcome.cancelled() and outcome.exception() is None:
                self._count(request, begun.began_s, begun.admission, outcome.result())

        stream.outcome.add_done_callback(finished)
        return begun.version, stream

    async def _run(
        self, request: InvokeRequest, run: Callable[[FunctionVersion, Invocation], Awaitable[T]]
    ) -> tuple[_Begun, T]:
        """Run what a reference leads to. Where that is changed before it has begun, what it leads to then is run.

        Raises BlobNotFound when the code of a version is lost, beside what `target`, `_admitted` and `_enter` raise.
        """
        while True:
            target = await self.target(request.reference)
            version = target.choose(random.random())
            began_s = self._clock.time()
            invocation = self._admitted(request, target, version, began_s)
            admission = await self._enter(request, version, target.reserved)
            if self._targets.known(request.reference) != target:
                self._concurrency.leave(admission)  # the host has been told that the version is no more
                continue
            try:
                return _Begun(version, admission, began_s), await run(version, invocation)
            except BlobNotFound:
                self._concurrency.leave(admission)
                if await self.target(request.reference) == target:
                    raise
            except BaseException:  # whatever kept it from running, also the caller's end, it is not counted any more
                self._concurrency.leave(admission)
                raise

    def known_target(self, reference: FunctionReference) -> Target | None:
        """What a reference leads to, if it is remembered."""
        return self._targets.known(reference)

    async def target(self, reference: FunctionReference) -> Target:
        """What a reference leads to. Raises ResourceNotFoundException."""
        return self._targets.known(reference) or await self._targets.find(reference)

    async def _enter(self, request: InvokeRequest, version: FunctionVersion, reserved: int | None) -> Admission:
        """Count in, or be throttled, which is counted here: `begin` leaves it to be throttled again."""
        key = version.key
        try:
            return await self._concurrency.enter(key, reserved, version.version)
        except TooManyRequestsException:
            qualifier = request.reference.qualifier
            self._metrics.count(key.account_id, key.region, key.name, qualifier, MetricName.THROTTLES)
            raise

    def _count(self, request: InvokeRequest, began_s: float, admission: Admission, outcome: Outcome) -> None:
        key, qualifier = admission.key, request.reference.qualifier
        self._metrics.invoked(key, qualifier, began_s, admission.running, outcome.duration_ms, failed=outcome.failed)
        if outcome.provisioned is not None:
            self._metrics.provisioned(key, qualifier, outcome.provisioned)
        if outcome.extensions is not None:
            name = MetricName.POST_RUNTIME_EXTENSIONS_DURATION
            count = functools.partial(self._metrics.count, key.account_id, key.region, key.name, qualifier, name)
            outcome.extensions.when_over(count)

    def _admitted(self, request: InvokeRequest, target: Target, version: FunctionVersion, now_s: float) -> Invocation:
        """The same as `_invocation`, with what is stopped counted: `begin` leaves it to be stopped again."""
        try:
            return self._invocation(request, target, version, now_s)
        except RecursiveInvocationException:
            key, qualifier = version.key, request.reference.qualifier
            name = MetricName.RECURSIVE_INVOCATIONS_DROPPED
            self._metrics.count(key.account_id, key.region, key.name, qualifier, name)
            raise

    def _invocation(self, request: InvokeRequest, target: Target, version: FunctionVersion, now_s: float) -> Invocation:
        """Raises RecursiveInvocationException when the function has come round too often."""
        active = version.tracing_mode == "Active"
        header, earlier = trace_header(now_s, request.trace, new_trace_digits(), active=active, mark=target.mark)
        if earlier >= RECURSION_LIMIT and not target.may_loop:
            raise RecursiveInvocationException(_STOPPED_LOOP)
        request.given_trace = header
        return Invocation(
            request.request_id,
            request.reference.arn,
            request.payload,
            header,
            request.client_context,
            request.tail_log,
            request.begun,
        )

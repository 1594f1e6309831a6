"""How many invocations may run at once: the account's limit and the reservations of functions.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html: a reservation is a cap and a guarantee, 0
throttles everything, and 100 executions of the account always stay unreserved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference
from lambdad.domain.errors import InvalidParameterValueException, TooManyRequestsException
from lambdad.domain.provisioned_concurrency import PROVISIONED_CONCURRENCY_CONFIGS
from lambdad.ports.store import Store, Tables
from lambdad.services.references import require_function, require_unqualified

ACCOUNT_LIMIT_EXCEEDED: Final = "ConcurrentInvocationLimitExceeded"
RESERVED_LIMIT_EXCEEDED: Final = "ReservedFunctionConcurrentInvocationLimitExceeded"

Namespace = tuple[str, str]
"""An account and a region: limits hold in each by itself."""


def reserved_in(tables: Tables, namespace: Namespace) -> dict[str, int]:
    """The reservations of a namespace by function name."""
    return {
        function.key.name: function.reserved_concurrency
        for function in tables.functions(*namespace)
        if function.reserved_concurrency is not None
    }


def provisioned_in(tables: Tables, namespace: Namespace) -> dict[str, dict[str, int]]:
    """What is provisioned in a namespace, by function name and by the qualifier of the configuration."""
    found: dict[str, dict[str, int]] = {}
    for config in tables.records(PROVISIONED_CONCURRENCY_CONFIGS, *namespace):
        found.setdefault(config.key.name, {})[config.qualifier] = config.requested
    return found


def _reservations(tables: Tables, namespace: Namespace, names: Iterable[str]) -> dict[str, int]:
    """The reservations of some functions, without those that have none."""
    functions = [tables.function(FunctionKey(*namespace, name)) for name in names]
    return {
        function.key.name: function.reserved_concurrency
        for function in functions
        if function is not None and function.reserved_concurrency is not None
    }


@dataclass(slots=True)
class Admission:
    """An invocation that was let in. `running` is how many of the function run with it.

    `provisioned` is the version whose provisioned concurrency it uses, None when it takes of what functions share or
    of its function's reservation.
    """

    key: FunctionKey
    reserved: int | None
    running: int
    provisioned: str | None = None


class _ProvisionedPart:
    """What is provisioned for one function, and how much of that is used, by version."""

    def __init__(self) -> None:
        self.counts: Mapping[str, int] = {}
        self.total = 0
        self.used: Counter[str] = Counter()

    def has_room(self, version: str) -> bool:
        return self.used[version] < self.counts.get(version, 0)


class ConcurrencyService:
    """Counts what runs, and lets in or throttles.

    What is provisioned for a version is set aside for it: its invocations use that first, nobody else does.
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
    """

    def __init__(self, store: Store, changed: Callable[[FunctionKey], None]) -> None:
        self._store = store
        self._changed = changed
        self._reserved: dict[Namespace, dict[str, int]] = {}
        self._set_aside: dict[Namespace, int] = {}
        self._stale: dict[Namespace, dict[str, object]] = {}
        self._unreserved: Counter[Namespace] = Counter()
        self._admitted: Counter[Namespace] = Counter()
        self._running: Counter[FunctionKey] = Counter()
        self._provisioned: dict[FunctionKey, _ProvisionedPart] = {}

    async def put(self, reference: FunctionReference, reserved: int) -> int:
        """Reserve executions for a function. Raises InvalidParameterValueException when too few would remain."""
        key = require_unqualified(reference)

        def work(tables: Tables) -> None:
            namespace = key.account_id, key.region
            function = require_function(tables, reference)
            others = reserved_in(tables, namespace)
            others.pop(key.name, None)
            provisioned = {name: sum(counts.values()) for name, counts in provisioned_in(tables, namespace).items()}
            own = provisioned.pop(key.name, 0)
            if reserved < own:
                raise InvalidParameterValueException(
                    f"ReservedConcurrentExecutions  {reserved} should not be lower than function's total provisioned "
                    f"concurrency [{own}]."
                )
            left = quotas.CONCURRENT_EXECUTIONS - sum(others.values()) - reserved
            left -= sum(count for name, count in provisioned.items() if name not in others)
            if left < quotas.UNRESERVED_CONCURRENT_EXECUTIONS_MIN:
                raise InvalidParameterValueException(
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    "UnreservedConcurrentExecution below its minimum value of "
                    f"[{quotas.UNRESERVED_CONCURRENT_EXECUTIONS_MIN}]."
                )
            tables.put_function(replace(function, reserved_concurrency=reserved))

        await self._store.write(work)
        self._changed(key)
        return reserved

    async def get(self, reference: FunctionReference) -> int | None:
        require_unqualified(reference)
        return await self._store.read(lambda tables: require_function(tables, reference).reserved_concurrency)

    async def delete(self, reference: FunctionReference) -> None:
        key = require_unqualified(reference)

        def work(tables: Tables) -> None:
            tables.put_function(replace(require_function(tables, reference), reserved_concurrency=None))

        await self._store.write(work)
        self._changed(key)

    async def unreserved_limit(self, namespace: Namespace) -> int:
        """What functions share that have no reservation, beside what is provisioned for them."""
        reserved = self._reserved.get(namespace)
        changed = dict(self._stale.get(namespace, {}))
        if reserved is None:
            found: dict[str, int] = await self._store.read(lambda tables: reserved_in(tables, namespace))
            self._reserved[namespace] = found
            self._settle(namespace, changed)
        elif changed:
            now = await self._store.read(lambda tables: _reservations(tables, namespace, changed))
            for name in self._settle(namespace, changed):
                reserved.pop(name, None)
                reserved.update({name: now[name]} if name in now else {})
        set_aside = sum(self._reserved[namespace].values())
        for key, part in self._provisioned.items():
            if (key.account_id, key.region) == namespace and key.name not in self._reserved[namespace]:
                set_aside += part.total
        self._set_aside[namespace] = set_aside
        return quotas.CONCURRENT_EXECUTIONS - set_aside

    def _settle(self, namespace: Namespace, read: Mapping[str, object]) -> list[str]:
        """Those of the functions read that have not changed meanwhile: they need not be read again."""
        stale = self._stale.get(namespace, {})
        current = [name for name, change in read.items() if stale.get(name) is change]
        for name in current:
            del stale[name]
        return current

    def recount(self, key: FunctionKey) -> None:
        """A function has changed, and with it perhaps its reservation."""
        self._stale.setdefault((key.account_id, key.region), {})[key.name] = object()

    def set_provisioned(self, key: FunctionKey, counts: Mapping[str, int]) -> None:
        """So much is provisioned for the versions of a function from now on."""
        part = self._provisioned.get(key)
        if part is None:
            if not counts:
                return
            part = self._provisioned[key] = _ProvisionedPart()
        part.counts = dict(counts)
        part.total = sum(counts.values())
        if not counts and not part.used.total():
            del self._provisioned[key]
        self.recount(key)

    async def enter(self, key: FunctionKey, reserved: int | None, version: str = LATEST) -> Admission:
        """Count an invocation in, or raise TooManyRequestsException. Every admission is given back to `leave`."""
        if not self.can_tell(key):
            await self.unreserved_limit((key.account_id, key.region))
        return self.enter_now(key, reserved, version)

    def can_tell(self, key: FunctionKey) -> bool:
        """Whether `enter_now` knows the account's limit."""
        namespace = (key.account_id, key.region)
        return namespace in self._reserved and not self._stale.get(namespace)

    def enter_now(self, key: FunctionKey, reserved: int | None, version: str = LATEST) -> Admission:
        """The same without waiting, once the account's limit is known."""
        namespace = (key.account_id, key.region)
        running = self._running[key]
        # What is provisioned or reserved may have changed since others were let in: the limits hold for all together.
        if reserved is not None and running >= reserved:
            raise throttled(RESERVED_LIMIT_EXCEEDED)
        if self._admitted[namespace] >= quotas.CONCURRENT_EXECUTIONS:
            raise throttled(ACCOUNT_LIMIT_EXCEEDED)
        part = self._provisioned.get(key) if self._provisioned else None
        provisioned = None
        if part is not None and part.has_room(version):
            part.used[version] += 1
            provisioned = version
        elif reserved is not None:
            if part is not None and running - part.used.total() >= reserved - part.total:
                raise throttled(RESERVED_LIMIT_EXCEEDED)
        else:
            if self._unreserved[namespace] >= quotas.CONCURRENT_EXECUTIONS - self._set_aside.get(namespace, 0):
                raise throttled(ACCOUNT_LIMIT_EXCEEDED)
            self._unreserved[namespace] += 1
        self._admitted[namespace] += 1
        self._running[key] = running = running + 1
        return Admission(key, reserved, running, provisioned)

    def leave(self, admission: Admission) -> None:
        """An invocation is over."""
        key = admission.key
        self._admitted[key.account_id, key.region] -= 1
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        if admission.provisioned is not None:
            part = self._provisioned[key]
            part.used[admission.provisioned] -= 1
            if not part.total and not part.used.total():
                del self._provisioned[key]
        elif admission.reserved is None:
            self._unreserved[key.account_id, key.region] -= 1

    def running(self) -> int:
        return self._running.total()


def throttled(reason: str) -> TooManyRequestsException:
    return TooManyRequestsException("Rate Exceeded.", Reason=reason)

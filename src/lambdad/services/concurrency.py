"""How many invocations may run at once: the account's limit and the reservations of functions.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html: a reservation is a cap and a guarantee, 0
throttles everything, and 100 executions of the account always stay unreserved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.arns import FunctionKey, FunctionReference
from lambdad.domain.errors import InvalidParameterValueException, TooManyRequestsException
from lambdad.ports.store import Store, Tables
from lambdad.services.functions import require_function, require_unqualified

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


def _reservations(tables: Tables, namespace: Namespace, names: Iterable[str]) -> dict[str, int]:
    """The reservations of some functions, without those that have none."""
    functions = [tables.function(FunctionKey(*namespace, name)) for name in names]
    return {
        function.key.name: function.reserved_concurrency
        for function in functions
        if function is not None and function.reserved_concurrency is not None
    }


class ConcurrencyService:
    """Counts what runs, and lets in or throttles."""

    def __init__(self, store: Store, changed: Callable[[FunctionKey], None]) -> None:
        self._store = store
        self._changed = changed
        self._reserved: dict[Namespace, dict[str, int]] = {}
        self._reserved_total: dict[Namespace, int] = {}
        self._stale: dict[Namespace, dict[str, object]] = {}
        self._unreserved: Counter[Namespace] = Counter()
        self._running: Counter[FunctionKey] = Counter()

    async def put(self, reference: FunctionReference, reserved: int) -> int:
        """Reserve executions for a function. Raises InvalidParameterValueException when too few would remain."""
        key = require_unqualified(reference)

        def work(tables: Tables) -> None:
            function = require_function(tables, reference)
            others = reserved_in(tables, (key.account_id, key.region))
            others.pop(key.name, None)
            left = quotas.CONCURRENT_EXECUTIONS - sum(others.values()) - reserved
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
        """What functions without a reservation share."""
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
        self._reserved_total[namespace] = sum(self._reserved[namespace].values())
        return quotas.CONCURRENT_EXECUTIONS - self._reserved_total[namespace]

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

    async def enter(self, key: FunctionKey, reserved: int | None) -> int:
        """Count an invocation in, or raise TooManyRequestsException. Every entry is matched by `leave`.

        Returns how many of the function run now.
        """
        if reserved is None:
            await self.unreserved_limit((key.account_id, key.region))
        return self.enter_now(key, reserved)

    def can_tell(self, key: FunctionKey) -> bool:
        """Whether `enter_now` knows the account's limit."""
        namespace = (key.account_id, key.region)
        return namespace in self._reserved and not self._stale.get(namespace)

    def enter_now(self, key: FunctionKey, reserved: int | None) -> int:
        """The same without waiting, once the account's limit is known."""
        if reserved is not None:
            if self._running[key] >= reserved:
                raise throttled(RESERVED_LIMIT_EXCEEDED)
        else:
            namespace = (key.account_id, key.region)
            if self._unreserved[namespace] >= quotas.CONCURRENT_EXECUTIONS - self._reserved_total.get(namespace, 0):
                raise throttled(ACCOUNT_LIMIT_EXCEEDED)
            self._unreserved[namespace] += 1
        self._running[key] = running = self._running[key] + 1
        return running

    def leave(self, key: FunctionKey, reserved: int | None) -> None:
        """The same arguments as in `enter`."""
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        if reserved is None:
            self._unreserved[key.account_id, key.region] -= 1

    def running(self) -> int:
        return self._running.total()


def throttled(reason: str) -> TooManyRequestsException:
    return TooManyRequestsException("Rate Exceeded.", Reason=reason)

"""Provisioned concurrency configurations, and what the compute host is told of them.

https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html
https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html: what is provisioned counts towards the function's
reserved concurrency, or is taken from what the functions of the account share.

Environments belong to versions: those of an alias are environments of the versions that it leads to, and serve every
invocation of these. They move with the alias at once; what is asked for meanwhile is run on demand.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference, is_version
from lambdad.domain.errors import (
    InvalidParameterValueException,
    ProvisionedConcurrencyConfigNotFoundException,
    ResourceConflictException,
    ResourceNotFoundException,
)
from lambdad.domain.functions import Alias, FunctionVersion
from lambdad.domain.provisioned_concurrency import (
    PROVISIONED_CONCURRENCY_CONFIGS,
    Allocation,
    ProvisionedConcurrencyConfig,
    by_version,
)
from lambdad.ports.clock import Clock
from lambdad.ports.compute import ComputeHost
from lambdad.ports.store import Store, StoreUnavailable, Tables
from lambdad.services.concurrency import ConcurrencyService, provisioned_in, reserved_in
from lambdad.services.references import require_function, require_unqualified

logger = logging.getLogger(__name__)

UNPUBLISHED: Final = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
ALREADY_PROVISIONED: Final = (
    "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
)
_POINTED_AT: Final = "Version is pointed by a Provisioned Concurrency alias"
_WITH_WEIGHTS: Final = "Alias with weights can not be used with Provisioned Concurrency"
_NO_CONFIG: Final = "No Provisioned Concurrency Config found for this function"
_RETRY_S: Final = 5.0
"""After so long what could not be read from the store is read again."""


@dataclass(frozen=True, slots=True)
class ProvisionedState:
    """A configuration, and what there is of it this instant."""

    config: ProvisionedConcurrencyConfig
    allocation: Allocation


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the records say of one function."""

    configs: Sequence[ProvisionedConcurrencyConfig]
    shares: Mapping[str, Mapping[str, int]]
    """By qualifier of the configuration and by version."""
    versions: Mapping[str, FunctionVersion]

    def counts(self) -> Mapping[str, int]:
        """How many environments each version is to have."""
        counts: Counter[str] = Counter()
        for share in self.shares.values():
            counts.update(share)
        return counts


class ProvisionedConcurrencyService:
    """Operations on configurations, and their effect.

    `changed` is told of a function whose configuration has changed; the application passes that, and every other change
    of a function, to `function_changed`.
    """

    def __init__(
        self,
        store: Store,
        host: ComputeHost,
        concurrency: ConcurrencyService,
        clock: Clock,
        changed: Callable[[FunctionKey], None],
    ) -> None:
        self._store = store
        self._host = host
        self._concurrency = concurrency
        self._clock = clock
        self._changed = changed
        self._placed: dict[FunctionKey, dict[str, FunctionVersion]] = {}
        """The versions that the host has been told of, by the key of their environments."""
        self._placing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Have the environments of all configurations started again: here it is only said which there are to be."""
        configs: Sequence[ProvisionedConcurrencyConfig] = await self._store.read(
            lambda tables: tables.records(PROVISIONED_CONCURRENCY_CONFIGS)
        )
        for key in {config.key for config in configs}:
            self._placed.setdefault(key, {})
            await self._place(key)

    async def close(self) -> None:
        """Tell the host nothing any more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def function_changed(self, key: FunctionKey) -> None:
        """A function, a version or an alias has changed or is gone, and with it perhaps who is to have environments."""
        if key in self._placed:
            self._spawn(key)

    async def put(self, reference: FunctionReference, requested: int) -> ProvisionedState:
        """Provision executions for a version or alias, in place of what was provisioned before, which is shown.

        Raises ResourceNotFoundException, ResourceConflictException, and InvalidParameterValueException for `$LATEST`,
        for an alias with weights, and for more than the function or the account may have.
        """
        key, qualifier = reference.key, _required(reference)

        def work(tables: Tables) -> ProvisionedConcurrencyConfig:
            alias = _require_target(tables, reference)
            _check_target(tables, key, qualifier, alias)
            _check_limits(tables, key, qualifier, requested)
            config = ProvisionedConcurrencyConfig(key, qualifier, requested, self._clock.time())
            tables.put_record(PROVISIONED_CONCURRENCY_CONFIGS, config)
            return config

        config = await self._store.write(work)
        state = await self._state(config)
        self._placed.setdefault(key, {})
        self._changed(key)
        await self._place(key)
        return state

    async def get(self, reference: FunctionReference) -> ProvisionedState:
        """Raises ResourceNotFoundException, and ProvisionedConcurrencyConfigNotFoundException when there is none."""
        qualifier = _required(reference)

        def work(tables: Tables) -> ProvisionedConcurrencyConfig | None:
            _require_target(tables, reference)
            return tables.record(PROVISIONED_CONCURRENCY_CONFIGS, *reference.key.parts, qualifier)

        config = await self._store.read(work)
        if config is None:
            raise ProvisionedConcurrencyConfigNotFoundException(_NO_CONFIG)
        return await self._state(config)

    async def list(
        self, reference: FunctionReference, after: str, limit: int
    ) -> tuple[Sequence[ProvisionedState], str | None]:
        """A page of a function's configurations, and the qualifier after which to go on."""
        key = require_unqualified(reference)

        def work(tables: Tables) -> Sequence[ProvisionedConcurrencyConfig]:
            require_function(tables, reference)
            return tables.records(PROVISIONED_CONCURRENCY_CONFIGS, *key.parts, after=after, limit=limit + 1)

        configs = await self._store.read(work)
        shown = configs[:limit]
        states = await self._states(key)
        return (
            [ProvisionedState(config, states.get(config.qualifier, Allocation())) for config in shown],
            shown[-1].qualifier if len(configs) > limit else None,
        )

    async def delete(self, reference: FunctionReference) -> None:
        """End what is provisioned for a version or alias; it is no error when nothing is."""
        key, qualifier = reference.key, _required(reference)

        def work(tables: Tables) -> None:
            _require_target(tables, reference)
            tables.delete_record(PROVISIONED_CONCURRENCY_CONFIGS, *key.parts, qualifier)

        await self._store.write(work)
        self._changed(key)
        await self._place(key)

    async def _state(self, config: ProvisionedConcurrencyConfig) -> ProvisionedState:
        states = await self._states(config.key)
        return ProvisionedState(config, states.get(config.qualifier, Allocation()))

    async def _states(self, key: FunctionKey) -> Mapping[str, Allocation]:
        """What there is for each configuration of a function; those that share a version are served in turn."""
        wanted = await self._store.read(lambda tables: _wanted(tables, key))
        left = {name: self._host.provisioned(version) for name, version in wanted.versions.items()}
        states: dict[str, Allocation] = {}
        for qualifier, share in wanted.shares.items():
            states[qualifier] = Allocation()
            for name, count in share.items():
                if count and name in left:
                    part = left[name].share(count)
                    left[name] = left[name].without(part)
                    states[qualifier] = states[qualifier].plus(part)
        return states

    # Telling the host

    def _spawn(self, key: FunctionKey) -> None:
        task = asyncio.get_running_loop().create_task(self._place_surely(key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _place_surely(self, key: FunctionKey) -> None:
        while True:
            try:
                return await self._place(key)
            except StoreUnavailable as error:
                logger.error("The provisioned concurrency of %s cannot be read: %s", key.arn, error)
                await self._clock.sleep(_RETRY_S)

    async def _place(self, key: FunctionKey) -> None:
        """Tell the host, and whoever counts executions, what the records of a function say now."""
        async with self._placing:
            wanted = await self._store.read(lambda tables: _wanted(tables, key))
            counts = {name: count for name, count in wanted.counts().items() if count and name in wanted.versions}
            placed = self._placed.get(key, {})
            current = {wanted.versions[name].environment_key: wanted.versions[name] for name in counts}
            for environment_key in placed.keys() - current.keys():
                self._host.set_provisioned(placed[environment_key], 0)
            for name, count in counts.items():
                self._host.set_provisioned(wanted.versions[name], count)
            self._concurrency.set_provisioned(key, counts)
            if wanted.configs:
                self._placed[key] = current
            else:
                self._placed.pop(key, None)


def check_alias(tables: Tables, alias: Alias) -> None:
    """Whether an alias that has provisioned concurrency can lead where it is to lead now.

    Raises InvalidParameterValueException and ResourceConflictException.
    """
    if tables.record(PROVISIONED_CONCURRENCY_CONFIGS, *alias.key.parts, alias.name) is not None:
        _check_versions(tables, alias)


def _required(reference: FunctionReference) -> str:
    """The qualifier. Raises InvalidParameterValueException for `$LATEST`, which has no provisioned concurrency."""
    if reference.qualifier is None or reference.qualifier == LATEST:
        raise InvalidParameterValueException(UNPUBLISHED)
    return reference.qualifier


def _require_target(tables: Tables, reference: FunctionReference) -> Alias | None:
    """The alias that a reference names, None for a version. Raises ResourceNotFoundException."""
    require_function(tables, reference)
    qualifier = _required(reference)
    if is_version(qualifier):
        if tables.version(reference.key, qualifier) is None:
            raise reference.not_found()
        return None
    alias = tables.alias(reference.key, qualifier)
    if alias is None:
        raise ResourceNotFoundException(f"Cannot find alias arn: {reference.arn}")
    return alias


def _check_target(tables: Tables, key: FunctionKey, qualifier: str, alias: Alias | None) -> None:
    if alias is not None:
        if alias.additional_version is not None:
            raise InvalidParameterValueException(_WITH_WEIGHTS)
        _check_versions(tables, alias)
        return
    for config in tables.records(PROVISIONED_CONCURRENCY_CONFIGS, *key.parts):
        other = tables.alias(key, config.qualifier)
        if other is not None and qualifier in other.versions:
            raise ResourceConflictException(_POINTED_AT)


def _check_versions(tables: Tables, alias: Alias) -> None:
    if LATEST in alias.versions:
        raise InvalidParameterValueException(UNPUBLISHED)
    for version in alias.versions:
        if tables.record(PROVISIONED_CONCURRENCY_CONFIGS, *alias.key.parts, version) is not None:
            raise ResourceConflictException(ALREADY_PROVISIONED)


def _check_limits(tables: Tables, key: FunctionKey, qualifier: str, requested: int) -> None:
    """Raises InvalidParameterValueException when a function would have more than it, or the account, may have."""
    namespace = key.account_id, key.region
    function = tables.function(key)
    provisioned = provisioned_in(tables, namespace)
    own = provisioned.pop(key.name, {})
    own[qualifier] = requested
    total = sum(own.values())
    reserved = reserved_in(tables, namespace)
    if function is not None and function.reserved_concurrency is not None:
        if total > function.reserved_concurrency:
            raise InvalidParameterValueException(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for "
                "function"
            )
        return
    shared = quotas.CONCURRENT_EXECUTIONS - sum(reserved.values())
    shared -= sum(sum(counts.values()) for name, counts in provisioned.items() if name not in reserved)
    if total > shared:
        raise InvalidParameterValueException(
            f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{shared}]."
        )
    if shared - total < quotas.UNRESERVED_CONCURRENT_EXECUTIONS_MIN:
        raise InvalidParameterValueException(
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
            f"minimum value of [{quotas.UNRESERVED_CONCURRENT_EXECUTIONS_MIN}]."
        )


def _wanted(tables: Tables, key: FunctionKey) -> _Wanted:
    configs = tables.records(PROVISIONED_CONCURRENCY_CONFIGS, *key.parts)
    shares: dict[str, Mapping[str, int]] = {}
    for config in configs:
        shares[config.qualifier] = by_version(config, tables.alias(key, config.qualifier))
    versions: dict[str, FunctionVersion] = {}
    for name in {name for share in shares.values() for name in share}:
        version = tables.version(key, name)
        if version is not None:
            versions[name] = version
    return _Wanted(configs, shares, versions)

"""How asynchronous invocations of a function, version or alias are retried, and where their outcomes are sent.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-configuring.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypedDict

from lambdad.domain import destinations
from lambdad.domain.arns import LATEST, FunctionKey, FunctionReference
from lambdad.domain.destinations import Destination
from lambdad.domain.errors import InvalidParameterValueException, ResourceNotFoundException
from lambdad.domain.events import Purpose
from lambdad.domain.functions import EVENT_INVOKE_CONFIGS, EventInvokeConfig, FunctionVersion
from lambdad.ports.clock import Clock
from lambdad.ports.destinations import DestinationCheck
from lambdad.ports.store import Store, Tables
from lambdad.services.references import find_version

NO_FUNCTION = "The function doesn't exist."


class EventInvokeSettings(TypedDict, total=False):
    """What a request sets. An empty ARN removes a destination; what is absent is not spoken of."""

    max_retry_attempts: int
    max_event_age_s: int
    on_success: str
    on_failure: str


class EventInvokeConfigsService:
    """Operations on configurations. `changed` is told of the function whose configuration has changed.

    A reference without a qualifier means `$LATEST`, as invocations without one do.
    """

    def __init__(
        self, store: Store, clock: Clock, destinations: DestinationCheck, changed: Callable[[FunctionKey], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._destinations = destinations
        self._changed = changed

    async def put(self, reference: FunctionReference, settings: EventInvokeSettings) -> EventInvokeConfig:
        """Set a configuration in place of any that was there.

        Raises ResourceNotFoundException, and InvalidParameterValueException when there are no settings or when a
        destination is not one.
        """
        _require_some(settings)
        version = await self._store.read(lambda tables: _require_version(tables, reference))
        await self._check(version, settings)

        fresh = EventInvokeConfig(reference.key, _qualifier(reference), last_modified_s=0.0)
        return await self._write(reference, settings, lambda tables: fresh)

    async def update(self, reference: FunctionReference, settings: EventInvokeSettings) -> EventInvokeConfig:
        """Change some of a configuration; raises as `put`, and ResourceNotFoundException when there is none yet."""
        _require_some(settings)

        def find(tables: Tables) -> FunctionVersion:
            version = _require_version(tables, reference)
            _require_config(tables, reference)
            return version

        await self._check(await self._store.read(find), settings)

        return await self._write(reference, settings, lambda tables: _require_config(tables, reference))

    async def get(self, reference: FunctionReference) -> EventInvokeConfig:
        return await self._store.read(lambda tables: _require_config(tables, reference))

    async def delete(self, reference: FunctionReference) -> None:
        def work(tables: Tables) -> None:
            _require_version(tables, reference)
            config = _require_config(tables, reference)
            tables.delete_record(EVENT_INVOKE_CONFIGS, *config.key.parts, config.qualifier)

        await self._store.write(work)
        self._changed(reference.key)

    async def list(
        self, reference: FunctionReference, after: str, limit: int
    ) -> tuple[Sequence[EventInvokeConfig], str | None]:
        """A page of a function's configurations, and the qualifier after which to go on."""

        def work(tables: Tables) -> Sequence[EventInvokeConfig]:
            if tables.function(reference.key) is None:
                raise ResourceNotFoundException(NO_FUNCTION)
            return tables.records(EVENT_INVOKE_CONFIGS, *reference.key.parts, after=after, limit=limit + 1)

        configs = await self._store.read(work)
        shown = configs[:limit]
        return shown, shown[-1].qualifier if len(configs) > limit else None

    async def _check(self, version: FunctionVersion, settings: EventInvokeSettings) -> None:
        """Whether the destinations that are set can be. Raises InvalidParameterValueException."""
        for purpose, destination in _parsed(settings):
            if destination.service == destinations.LAMBDA and version.key == FunctionKey(
                destination.account_id, destination.region, destination.name
            ):
                raise InvalidParameterValueException("You can't specify the function as a destination for itself.")
            await self._destinations.check(version, destination, purpose)

    async def _write(
        self,
        reference: FunctionReference,
        settings: EventInvokeSettings,
        current: Callable[[Tables], EventInvokeConfig],
    ) -> EventInvokeConfig:
        """Store what settings make of a configuration, if its version is still there when it comes to that."""

        def work(tables: Tables) -> EventInvokeConfig:
            _require_version(tables, reference)
            before = current(tables)
            config = replace(
                before,
                last_modified_s=self._clock.time(),
                max_retry_attempts=settings.get("max_retry_attempts", before.max_retry_attempts),
                max_event_age_s=settings.get("max_event_age_s", before.max_event_age_s),
                on_success=settings.get("on_success", before.on_success) or None,
                on_failure=settings.get("on_failure", before.on_failure) or None,
            )
            tables.put_record(EVENT_INVOKE_CONFIGS, config)
            return config

        config = await self._store.write(work)
        self._changed(reference.key)
        return config


def _qualifier(reference: FunctionReference) -> str:
    return reference.qualifier or LATEST


def _require_some(settings: EventInvokeSettings) -> None:
    if not settings:
        raise InvalidParameterValueException("You must specify at least one of error handling or destination setting.")


def _require_version(tables: Tables, reference: FunctionReference) -> FunctionVersion:
    """The version that a reference leads to, of an alias the first; it must exist for a configuration to."""
    try:
        return find_version(tables, reference)[0]
    except ResourceNotFoundException:
        raise ResourceNotFoundException(NO_FUNCTION) from None


def _require_config(tables: Tables, reference: FunctionReference) -> EventInvokeConfig:
    config = tables.record(EVENT_INVOKE_CONFIGS, *reference.key.parts, _qualifier(reference))
    if config is None:
        arn = reference.key.qualified_arn(_qualifier(reference))
        raise ResourceNotFoundException(f"The function {arn} doesn't have an EventInvokeConfig")
    return config


def _parsed(settings: EventInvokeSettings) -> Sequence[tuple[Purpose, Destination]]:
    """The destinations that are set. Raises InvalidParameterValueException for a kind that AWS does not have there."""
    on_success, on_failure = settings.get("on_success"), settings.get("on_failure")
    try:
        parsed = [
            (purpose, destinations.parse(arn))
            for purpose, arn in ((Purpose.ON_SUCCESS, on_success), (Purpose.ON_FAILURE, on_failure))
            if arn
        ]
    except InvalidParameterValueException:
        raise _invalid(on_success, on_failure) from None
    if (Purpose.ON_SUCCESS, destinations.S3) in [(purpose, destination.service) for purpose, destination in parsed]:
        raise _invalid(on_success, on_failure)
    return parsed


def _invalid(on_success: str | None, on_failure: str | None) -> InvalidParameterValueException:
    success = f"OnSuccess(destination={on_success})" if on_success else "null"
    failure = f"OnFailure(destination={on_failure})" if on_failure else "null"
    return InvalidParameterValueException(
        f"The provided destination config DestinationConfig(onSuccess={success}, onFailure={failure}) is invalid."
    )

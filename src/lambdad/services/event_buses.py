"""EventBridge: buses, with their rules and archives.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-what-is.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from lambdad.domain.errors import ValidationException
from lambdad.domain.event_bus_policies import check_policy, with_statement, without_statement
from lambdad.domain.event_buses import (
    BUSES_MAX,
    BusKey,
    Event,
    EventBus,
    ResourceAlreadyExistsException,
    check_new_bus_name,
    limit_exceeded,
    merged_tags,
)
from lambdad.ports.clock import Clock
from lambdad.ports.dispatcher import Dispatcher
from lambdad.ports.event_buses import EventBusStore
from lambdad.services.event_archives import EventArchives
from lambdad.services.event_catalog import EventCatalog
from lambdad.services.event_replays import EventReplays
from lambdad.services.event_router import EventRouter, LogStreams
from lambdad.services.event_rules import EventRules, Schedules

_MS: Final = 1000


class EventBuses:
    """Event buses. `rules`, `archives`, `replays` and `router` have the rest of EventBridge.

    `serves` says whether a service, by botocore's name, is there to be called. The store is closed by who has made it.
    """

    def __init__(
        self,
        store: EventBusStore,
        dispatcher: Dispatcher,
        timetable: Schedules,
        logs: LogStreams,
        clock: Clock,
        serves: Callable[[str], bool],
    ) -> None:
        self._clock = clock
        self._catalog = EventCatalog(store)
        self.router: Final = EventRouter(self._catalog, store, dispatcher, logs, clock)
        self.rules: Final = EventRules(self._catalog, self.router, timetable, clock, serves)
        self.replays: Final = EventReplays(self._catalog, store, self.router, clock)
        self.archives: Final = EventArchives(self._catalog, store, self.replays, clock)

    async def start(self) -> None:
        """Load what is configured, set the schedules, go on with replays. Raises StoreUnavailable.

        Before it nothing is received, and nothing else is called; the timetable has been started before.
        """
        await self._catalog.load()
        self.rules.start()
        self.replays.start()

    async def run(self) -> None:
        """Remove what archives keep no longer, for ever; the application runs this as a task."""
        await self.archives.run()

    async def close(self) -> None:
        """Stop replays where they are; the next start goes on with them."""
        await self.replays.close()

    async def receive(
        self, account_id: str, region: str, bus_name: str, events: Sequence[Event], trace: str = ""
    ) -> None:
        """Let full event documents into a bus of an account; they are accepted when this returns.

        Raises StoreUnavailable.
        """
        await self.router.receive(BusKey(account_id, region, bus_name), events, trace)

    async def create_event_bus(
        self, key: BusKey, *, description: str = "", dead_letter_arn: str = "", tags: Sequence[Mapping[str, str]] = ()
    ) -> EventBus:
        """Raises ValidationException, ResourceAlreadyExistsException and LimitExceededException."""
        check_new_bus_name(key.name)
        async with self._catalog.changing:
            if self._catalog.find_bus(key) is not None:
                raise ResourceAlreadyExistsException(f"Event bus {key.name} already exists.")
            if len(self._catalog.buses(key.account_id, key.region)) >= BUSES_MAX:
                raise limit_exceeded()
            now_ms = self._now_ms()
            bus = EventBus(
                key,
                description=description,
                dead_letter_arn=dead_letter_arn,
                tags=merged_tags({}, tags),
                created_ms=now_ms,
                modified_ms=now_ms,
            )
            await self._catalog.put_bus(bus)
            return bus

    async def delete_event_bus(self, key: BusKey) -> None:
        """Deleting what is not there does nothing. Raises ValidationException for the default bus, or one with rules.

        Its archives stay, as on AWS.
        """
        if key.is_default:
            raise ValidationException("Cannot delete event bus default.")
        async with self._catalog.changing:
            if self._catalog.find_bus(key) is None:
                return
            if self._catalog.rules(key):
                raise ValidationException("Event bus can't be deleted since it has rules.")
            await self._catalog.delete_bus(key)

    def event_bus(self, key: BusKey) -> EventBus:
        """Raises ResourceNotFoundException."""
        return self._catalog.bus(key)

    def event_buses(self, account_id: str, region: str) -> list[EventBus]:
        """By name."""
        return self._catalog.buses(account_id, region)

    async def update_event_bus(
        self, key: BusKey, *, description: str | None = None, dead_letter_arn: str | None = None
    ) -> EventBus:
        """Change what is not None. Raises ResourceNotFoundException."""
        return await self._change(
            key,
            lambda bus: replace(
                bus,
                description=bus.description if description is None else description,
                dead_letter_arn=bus.dead_letter_arn if dead_letter_arn is None else dead_letter_arn,
            ),
        )

    async def put_permission(
        self, key: BusKey, sid: str, action: str, principal: str, condition: Mapping[str, str] | None = None
    ) -> None:
        """Add a statement to the policy of a bus, or put it in the place of the one with its id.

        Raises ResourceNotFoundException and PolicyLengthExceededException.
        """
        await self._change(
            key,
            lambda bus: replace(bus, policy=with_statement(bus.policy, key, sid, action, principal, condition)),
        )

    async def put_policy(self, key: BusKey, document: str) -> None:
        """Raises ResourceNotFoundException, ValidationException and PolicyLengthExceededException."""
        policy = check_policy(document)
        await self._change(key, lambda bus: replace(bus, policy=policy))

    async def remove_permission(self, key: BusKey, sid: str | None) -> None:
        """Remove a statement, or with None the policy. Raises ResourceNotFoundException."""
        await self._change(
            key, lambda bus: replace(bus, policy="" if sid is None else without_statement(bus.policy, sid))
        )

    async def put_tags(
        self, key: BusKey, rule: str | None, change: Callable[[Mapping[str, str]], Mapping[str, str]]
    ) -> None:
        """Change the tags of a bus, or of one of its rules.

        Raises ResourceNotFoundException, and what `change` raises.
        """
        if rule is not None:
            await self.rules.put_tags(key, rule, change)
        else:
            await self._change(key, lambda bus: replace(bus, tags=change(bus.tags)))

    async def _change(self, key: BusKey, change: Callable[[EventBus], EventBus]) -> EventBus:
        async with self._catalog.changing:
            bus = replace(change(self._catalog.bus(key)), modified_ms=self._now_ms())
            await self._catalog.put_bus(bus)
            return bus

    def _now_ms(self) -> int:
        return int(self._clock.time() * _MS)

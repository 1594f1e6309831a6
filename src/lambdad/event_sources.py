"""What sends events to functions and other targets: S3, SNS, EventBridge, Scheduler, and event source mappings."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambdad.adapters.signatures import RsaSigner
from lambdad.adapters.sqlite_event_buses import SqliteEventBusStore
from lambdad.adapters.sqlite_schedules import SqliteScheduleStore
from lambdad.ingress import events_api, scheduler_api
from lambdad.ingress.internal import Pages
from lambdad.ingress.operations import Handler
from lambdad.ingress.sns_pages import sns_pages
from lambdad.ports.backends import Backends, Observer
from lambdad.ports.clock import Clock
from lambdad.ports.neighbours import Neighbours
from lambdad.ports.store import Store
from lambdad.services.dispatcher import Dispatcher
from lambdad.services.event_buses import EventBuses
from lambdad.services.event_source_mappings import EventSourceMappings
from lambdad.services.invoke import InvokeService
from lambdad.services.logs import LogsService
from lambdad.services.permissions import PermissionsService
from lambdad.services.s3_notifications import S3Notifications
from lambdad.services.schedules import SchedulesService
from lambdad.services.timetable import Timetable
from lambdad.services.topics import Topics


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What event sources are built on."""

    directory: Path
    store: Store
    clock: Clock
    logs: LogsService
    permissions: PermissionsService
    backends: Backends
    neighbours: Neighbours
    dispatcher: Dispatcher
    invoke: InvokeService
    endpoint_url: Callable[[], str]


class EventSources:
    """Everything that sends events by itself or when a neighbour has been used."""

    def __init__(self, around: Surroundings) -> None:
        dispatcher, clock = around.dispatcher, around.clock
        self._bus_store = SqliteEventBusStore(around.directory / "eventbridge.db")
        self._schedule_store = SqliteScheduleStore(around.directory / "scheduler.db")
        self._timetable = Timetable(dispatcher, clock)
        has = around.neighbours.has
        self._event_buses = EventBuses(self._bus_store, dispatcher, self._timetable, around.logs, clock, has)
        self._schedules = SchedulesService(self._schedule_store, dispatcher, self._timetable, clock, has)
        self._notifications = S3Notifications(
            around.store, around.permissions, around.neighbours, dispatcher, self._event_buses, clock
        )
        self._signer = RsaSigner(around.directory)
        self._topics = Topics(around.backends, dispatcher, clock, self._signer, around.endpoint_url)
        self.mappings = EventSourceMappings(around.store, around.invoke, around.backends, dispatcher, clock)

    @property
    def handlers(self) -> Mapping[str, Mapping[str, Handler]]:
        """The operations of the services that are lambdad's own."""
        return {
            "events": events_api.operations(self._event_buses),
            "scheduler": scheduler_api.operations(self._schedules),
        }

    @property
    def observers(self) -> Sequence[Observer]:
        """Those who watch the others."""
        return self._notifications, self._topics, self.mappings

    @property
    def pages(self) -> Pages:
        return sns_pages(self._signer)

    async def start(self) -> None:
        """Load what is configured. Raises StoreUnavailable."""
        await self._timetable.start()
        await self._event_buses.start()
        await self._schedules.start()
        await self._notifications.start()
        await self.mappings.start()

    def tasks(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What runs for ever; to be called once."""
        return self._timetable.run(), self._event_buses.run(), self.mappings.run()

    async def stop(self, drain_s: float) -> None:
        """Take nothing more from queues and streams, and let the batches that run end within so many seconds."""
        await self.mappings.stop(drain_s)

    async def close(self) -> None:
        """To be called when the tasks have been cancelled, and nothing is asked any more."""
        await self.mappings.close()
        await self._event_buses.close()
        await self._bus_store.close()
        await self._schedule_store.close()

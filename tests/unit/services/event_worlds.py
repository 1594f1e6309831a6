"""EventBridge on the in-memory store, with a queue that records what it is given."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from lambdad.adapters.clock import FakeClock
from lambdad.adapters.memory_event_buses import MemoryEventBusStore
from lambdad.domain.dispatches import Dispatch
from lambdad.domain.errors import ServiceError
from lambdad.domain.event_buses import BusKey
from lambdad.domain.logs import GroupKey, group_not_found, stream_exists
from lambdad.ports.event_buses import EventBusStore
from lambdad.ports.store import StoreUnavailable
from lambdad.services.event_buses import EventBuses
from lambdad.services.timetable import Timetable

ACCOUNT, REGION = "111122223333", "us-east-1"
BUS = BusKey(ACCOUNT, REGION, "default")
OTHER = BusKey(ACCOUNT, REGION, "orders")
NOW_MS = 1_700_000_000_000


def arn(service: str, resource: str, account: str = ACCOUNT) -> str:
    return f"arn:aws:{service}:{REGION}:{account}:{resource}"


FUNCTION, QUEUE = arn("lambda", "function:f"), arn("sqs", "q")


class Queue:
    """The durable queue, and its marks; it may be out of order."""

    def __init__(self) -> None:
        self.accepted: list[Dispatch] = []
        self.traces: list[str] = []
        self.kept: dict[str, int] = {}
        self.failing = False

    async def accept(
        self, dispatches: Sequence[Dispatch], *, marks: Mapping[str, int] | None = None, trace: str = ""
    ) -> None:
        if self.failing:
            raise StoreUnavailable("the disk is full")
        self.accepted += dispatches
        self.traces += [trace for _ in dispatches]
        self.kept |= marks or {}

    async def marks(self, prefix: str) -> dict[str, int]:
        return {name: value for name, value in self.kept.items() if name.startswith(prefix)}

    async def forget_mark(self, name: str) -> None:
        self.kept.pop(name, None)

    def take(self) -> list[Dispatch]:
        taken, self.accepted = self.accepted, []
        return taken


class Logs:
    def __init__(self) -> None:
        self.groups = {GroupKey(ACCOUNT, REGION, "/aws/events/g"): set[str]()}

    async def create_log_stream(self, key: GroupKey, name: str) -> None:
        if key not in self.groups:
            raise group_not_found()
        if name in self.groups[key]:
            raise stream_exists()
        self.groups[key].add(name)


class World:
    """One daemon's EventBridge; `restarted` is the next one's, on the same disk."""

    def __init__(
        self, store: EventBusStore | None = None, queue: Queue | None = None, clock: FakeClock | None = None
    ) -> None:
        self.store = store or MemoryEventBusStore()
        self.queue = queue or Queue()
        self.clock = clock or FakeClock(NOW_MS / 1000)
        self.logs = Logs()
        self.absent: set[str] = set()
        self.timetable = Timetable(self.queue, self.clock)
        self.buses = EventBuses(
            self.store, self.queue, self.timetable, self.logs, self.clock, lambda service: service not in self.absent
        )
        self.rules, self.archives, self.replays = self.buses.rules, self.buses.archives, self.buses.replays
        self._task: asyncio.Task[None] | None = None
        self._next: World | None = None

    async def start(self) -> None:
        await self.timetable.start()
        await self.buses.start()
        self._task = asyncio.create_task(self.timetable.run())

    async def stop(self) -> None:
        if self._next is not None:
            await self._next.stop()
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.buses.close()

    async def restarted(self) -> World:
        await self.stop()
        self._next = World(self.store, self.queue, self.clock)
        await self._next.start()
        return self._next

    async def rule(self, name: str = "r", pattern: Any = None, bus: BusKey = BUS, *targets: Any) -> str:
        """A rule with targets, by default one function; returns its ARN."""
        rule = await self.rules.put_rule(bus, name, pattern=json.dumps(pattern or {"source": ["shop"]}))
        given = [{"Id": str(n), **target} for n, target in enumerate(targets or [{"Arn": FUNCTION}])]
        assert await self.rules.put_targets(bus, name, given) == []
        return rule.arn

    async def put(self, *entries: Mapping[str, Any], account_id: str = ACCOUNT, trace: str = "") -> list[Any]:
        full = [{"Source": "shop", "DetailType": "Order", "Detail": "{}", **entry} for entry in entries or [{}]]
        return await self.buses.router.put_events(account_id, REGION, full, trace)


def scenario(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Run an asynchronous test in a world of its own."""

    def run() -> None:
        async def inside() -> None:
            world = World()
            await world.start()
            try:
                await asyncio.wait_for(test(world), 30)
            finally:
                await world.stop()

        asyncio.run(inside())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


def payloads(dispatches: Sequence[Dispatch]) -> list[Any]:
    return [json.loads(each.parameters["Payload"]) for each in dispatches]


async def refused(call: Awaitable[Any]) -> tuple[str, str]:
    """The code and the message of a refusal."""
    try:
        await call
    except ServiceError as error:
        return error.code, error.message
    raise AssertionError("it was not refused")

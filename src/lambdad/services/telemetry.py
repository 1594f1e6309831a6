"""The telemetry of one environment: what happens in it, and how its extensions get to know.

https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api.html

Each subscriber has a buffer and a task that empties it: a batch is sent when it is full or its time is up, and again,
less and less often, until the subscriber has taken it. While that lasts the buffer keeps what is newest, and what was
lost is said in `platform.logsDropped`. Nothing else waits for a subscriber. The processes of a frozen environment
stand still; so do deliveries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from socket import socket
from typing import Any, Final

from lambdad.domain import telemetry
from lambdad.domain.errors import LambdadError
from lambdad.domain.telemetry import Subscription
from lambdad.ports.clock import Clock
from lambdad.services.output import Record
from lambdad.services.telemetry_delivery import DeliveryFailed, HttpDelivery, TcpDelivery

Connect = Callable[[int], Awaitable[socket]]
"""Opens a connection to a port inside the sandbox. Raises OSError."""

DELIVERY_S: Final = 5.0
"""A subscriber has so long to take a batch before it is sent again."""
RETRY_S: Final = 0.1
RETRY_MOST_S: Final = 5.0
KEPT_BYTES: Final = 1024 * 1024
KEPT_EVENTS: Final = 10_000
"""So much of what functions and extensions write is kept for those who have not subscribed yet."""


class OtherApiInUse(LambdadError):
    """The extension has subscribed by the other API; the message says so."""


class Telemetry:
    """The events of one environment, and those who have subscribed to them.

    Until `close_subscriptions` they are kept, as who subscribes late gets what was before.
    """

    def __init__(self, clock: Clock, connect: Connect, *, in_json: bool) -> None:
        self._clock = clock
        self._connect = connect
        self._in_json = in_json
        self._subscribers: dict[str, Subscriber] = {}
        self._kept: list[tuple[float, str, object]] = []
        self._kept_bytes = 0
        self._lost_records = 0
        self._lost_bytes = 0
        self._is_open = True
        self._is_frozen = False
        self._is_flushing = False

    @property
    def is_wanted(self) -> bool:
        """Whether anybody gets events, or may yet ask for them."""
        return self._is_open or bool(self._subscribers)

    def publish(self, now: float, kind: str, record: object) -> None:
        """A platform event; `now` in seconds since the epoch."""
        if self._is_open:
            self._kept.append((now, kind, record))
        for subscriber in self._subscribers.values():
            subscriber.put(telemetry.platform_event(subscriber.wanted, now, kind, record))

    def lines(self, kind: str, records: Sequence[Record]) -> None:
        """What the function (`function`) or its extensions (`extension`) have written."""
        for now_ms, text in records:
            if self._is_open:
                self._keep(now_ms / 1000, kind, text)
            for subscriber in self._subscribers.values():
                subscriber.put(self._log_event(subscriber.wanted, now_ms / 1000, kind, text))

    def _keep(self, now: float, kind: str, text: str) -> None:
        if self._kept_bytes + len(text) > KEPT_BYTES or len(self._kept) >= KEPT_EVENTS:
            self._lost_records += 1
            self._lost_bytes += len(text)
        else:
            self._kept.append((now, kind, text))
            self._kept_bytes += len(text)

    def _log_event(self, wanted: Subscription, now: float, kind: str, text: str) -> bytes | None:
        return telemetry.log_event(wanted, now, kind, text, in_json=self._in_json)

    # Subscribers

    def subscribe(self, name: str, wanted: Subscription) -> None:
        """An extension subscribes, or changes what it wants. Raises OtherApiInUse."""
        earlier = self._subscribers.get(name)
        if earlier is not None and earlier.wanted.api is not wanted.api:
            raise OtherApiInUse(f"{name} has subscribed to the {earlier.wanted.api} API already")
        if earlier is not None:
            earlier.wanted = wanted
            return
        subscriber = Subscriber(self._clock, self._connect, wanted)
        for now, kind, record in self._kept:
            if kind in (telemetry.FUNCTION, telemetry.EXTENSION):
                subscriber.put(self._log_event(wanted, now, kind, str(record)))
            else:
                subscriber.put(telemetry.platform_event(wanted, now, kind, record))
        if self._lost_records and {telemetry.FUNCTION, telemetry.EXTENSION} & set(wanted.types):
            subscriber.lose(self._lost_records, self._lost_bytes)
        if self._is_frozen:
            subscriber.freeze()
        if self._is_flushing:
            subscriber.hurry()
        self._subscribers[name] = subscriber

    def close_subscriptions(self) -> None:
        """Nobody can subscribe any more: what was kept for them is let go."""
        self._is_open = False
        self._kept.clear()

    # Deliveries

    def freeze(self) -> None:
        """Nobody reads from now on: send nothing."""
        self._is_frozen = True
        for subscriber in self._subscribers.values():
            subscriber.freeze()

    def thaw(self) -> None:
        """Go on."""
        self._is_frozen = False
        for subscriber in self._subscribers.values():
            subscriber.thaw()

    def hurry(self) -> None:
        """Send what there is without waiting for more, once."""
        for subscriber in self._subscribers.values():
            subscriber.hurry_once()

    async def flush(self, deadline_s: float) -> None:
        """From now on send at once; return when everything is sent, or after `deadline_s` seconds."""
        self._is_flushing = True
        self.thaw()
        for subscriber in self._subscribers.values():
            subscriber.hurry()
        emptied = asyncio.ensure_future(self._emptied())
        try:
            await within(self._clock, emptied, deadline_s)
        finally:
            emptied.cancel()

    async def _emptied(self) -> None:
        for subscriber in list(self._subscribers.values()):
            await subscriber.is_empty.wait()

    def close(self) -> None:
        """The environment has ended: what has not been sent is lost."""
        self.close_subscriptions()
        for subscriber in self._subscribers.values():
            subscriber.close()
        self._subscribers.clear()


class Subscriber:
    """What is on its way to one subscriber. `wanted` may change; what waits then goes to where it is wanted now."""

    def __init__(self, clock: Clock, connect: Connect, wanted: Subscription) -> None:
        self.wanted = wanted
        self.is_empty = asyncio.Event()
        self.is_empty.set()
        self._clock = clock
        self._connect = connect
        self._buffer: deque[bytes] = deque()
        self._bytes = 0
        self._sending_bytes = 0
        self._lost_records = 0
        self._lost_bytes = 0
        self._hurries = False
        self._froze = False
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._has_some = asyncio.Event()
        self._has_enough = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def put(self, event: bytes | None) -> None:
        """One more event, at the cost of the oldest where there is no room."""
        if event is None:
            return
        self._buffer.append(event)
        self._bytes += len(event)
        # What is being sent has its own room; between two attempts it is in the buffer again.
        rooms = 1 if self._sending_bytes else 2
        while len(self._buffer) > 1 and (
            len(self._buffer) > self.wanted.max_items * rooms or self._bytes > self.wanted.max_bytes * rooms
        ):
            oldest = self._buffer.popleft()
            self._bytes -= len(oldest)
            self.lose(1, len(oldest))
        self.is_empty.clear()
        self._has_some.set()
        if len(self._buffer) >= self.wanted.max_items or self._bytes >= self.wanted.max_bytes:
            self._has_enough.set()

    def lose(self, records: int, size: int) -> None:
        """So much is lost to the subscriber, which will be told."""
        self._lost_records += records
        self._lost_bytes += size

    def freeze(self) -> None:
        self._froze = True
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def hurry(self) -> None:
        """Wait for nothing any more before sending."""
        self._hurries = True
        self._has_enough.set()

    def hurry_once(self) -> None:
        """Send what there is."""
        if self._buffer:
            self._has_enough.set()

    def close(self) -> None:
        self._task.cancel()

    @property
    def held_bytes(self) -> int:
        """The size of what has not been taken, with what is being sent."""
        return self._bytes + self._sending_bytes

    # Sending

    async def _run(self) -> None:
        while True:
            wanted = self.wanted
            delivery = self._delivery(wanted)
            try:
                await self._empty(wanted, delivery)
            finally:
                delivery.close()

    def _delivery(self, wanted: Subscription) -> HttpDelivery | TcpDelivery:
        async def connect() -> socket:
            return await self._connect(wanted.port)

        if wanted.method:
            return HttpDelivery(connect, wanted.method, wanted.path, wanted.port)
        return TcpDelivery(connect)

    async def _empty(self, wanted: Subscription, delivery: HttpDelivery | TcpDelivery) -> None:
        """Send whatever comes, until something else is wanted."""
        retry_s = RETRY_S
        while True:
            await self._has_some.wait()
            if not self._hurries:
                await self._wait_for_more(wanted.timeout_ms / 1000)
            await self._thawed.wait()
            if self.wanted is not wanted:
                return
            batch, lost = self._take()
            try:
                await self._send(delivery, batch, lost)
            except DeliveryFailed:
                self._put_back(batch)
                await self._clock.sleep(RETRY_S if self._hurries else retry_s)
                retry_s = min(retry_s * 2, RETRY_MOST_S)
                continue
            retry_s = RETRY_S
            self._lost_records -= lost[0]
            self._lost_bytes -= lost[1]
            self._sending_bytes = 0
            if not self._buffer:
                self.is_empty.set()

    async def _wait_for_more(self, seconds: float) -> None:
        enough = asyncio.ensure_future(self._has_enough.wait())
        try:
            await within(self._clock, enough, seconds)
        finally:
            enough.cancel()

    def _take(self) -> tuple[list[bytes], tuple[int, int]]:
        """The next batch, and how many records and bytes were lost before it."""
        batch: list[bytes] = []
        size = 0
        while self._buffer and len(batch) < self.wanted.max_items:
            size += len(self._buffer[0])
            if batch and size > self.wanted.max_bytes:
                break
            batch.append(self._buffer.popleft())
        self._sending_bytes = sum(map(len, batch))
        self._bytes -= self._sending_bytes
        if not self._buffer:
            self._has_some.clear()
        if len(self._buffer) < self.wanted.max_items and self._bytes < self.wanted.max_bytes:
            self._has_enough.clear()
        return batch, (self._lost_records, self._lost_bytes)

    def _put_back(self, batch: list[bytes]) -> None:
        self._buffer.extendleft(reversed(batch))
        self._bytes += self._sending_bytes
        self._sending_bytes = 0
        self._has_some.set()
        self._has_enough.set()

    async def _send(self, delivery: HttpDelivery | TcpDelivery, batch: list[bytes], lost: tuple[int, int]) -> None:
        """Raises DeliveryFailed."""
        if lost[0]:
            record = telemetry.logs_dropped(*lost)
            dropped = telemetry.platform_event(self.wanted, self._clock.time(), telemetry.LOGS_DROPPED, record)
            batch = [dropped, *batch] if dropped is not None else batch
        attempt = asyncio.ensure_future(delivery.deliver(batch))
        try:
            while True:
                self._froze = False
                if await within(self._clock, attempt, DELIVERY_S):
                    return await attempt
                if not self._froze:
                    raise DeliveryFailed("it took too long")
                await self._thawed.wait()
        finally:
            attempt.cancel()
            await asyncio.wait({attempt})  # its connection is closed now


async def within(clock: Clock, what: asyncio.Future[Any], seconds: float) -> bool:
    """Wait for something, so many seconds at most; whether it is done."""
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({what, timer}, return_when=asyncio.FIRST_COMPLETED)
        return what.done()
    finally:
        timer.cancel()

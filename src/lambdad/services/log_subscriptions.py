"""Subscriptions of functions to log groups: what is appended to a group goes to the functions that want it.

Events are read back from the store, in the order in which they arrived, matched, packed and put into the durable queue
of asynchronous invocations. How far that has come is kept beside the logs, so:

- Only what is on disk is delivered. What `kill -9` loses of the logs (at most half a second of what functions print,
  nothing of PutLogEvents) is not delivered either, and all the rest is, after a restart too.
- An event is delivered at least once, as on AWS. A kill between the acceptance of a batch and the note of it, a few
  milliseconds, repeats that batch.
- While the queue cannot be written, events wait in the logs, not in memory: nothing is dropped that the group's
  retention keeps. Once accepted, retries, dead-letter queue and destinations of the function apply.
- What the function's policy no longer allows, or what is for a function that is gone, is dropped, counted and logged.
  As on AWS, permission is looked at when the filter is put and again at each delivery.

A function that is subscribed to its own log group feeds itself for ever, and as on AWS nothing stops it but the
deletion of the filter: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/Subscriptions-recursion-prevention.html
At most one step (1 MB of log events) is in memory, however fast that is; concurrency limits apply as always.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from lambdad.domain.arns import FunctionReference
from lambdad.domain.errors import ResourceNotFoundException
from lambdad.domain.log_subscriptions import (
    BY_LOG_STREAM,
    FILTERS_MAX,
    InvalidOperationException,
    SubscribedEvents,
    SubscriptionFilter,
    check_destination,
    compiled,
    not_permitted,
    payloads,
)
from lambdad.domain.logs import (
    DESCRIBE_PAGE,
    GroupKey,
    ServiceUnavailableException,
    page_token,
    parse_page_token,
)
from lambdad.ports.clock import Clock
from lambdad.ports.logs import LogStore
from lambdad.ports.permissions import Permissions
from lambdad.ports.store import StoreUnavailable
from lambdad.services.identifiers import new_request_id
from lambdad.services.logs import LogsService

logger = logging.getLogger(__name__)

STEP_BYTES: Final = 1024 * 1024
"""So much is read from the logs at once, as PutLogEvents counts it."""
ACCEPTED_TOGETHER: Final = 64
RETRY_DELAY_S: Final = 1.0


class Acceptance(Protocol):
    """The queue of asynchronous invocations."""

    async def accept(
        self, reference: FunctionReference, request_id: str, payload: bytes, trace: str | None = None
    ) -> object:
        """Raises ResourceNotFoundException and StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class FilterPage:
    filters: Sequence[SubscriptionFilter]
    next_token: str | None


class LogSubscriptions:
    """The filters, and the delivery of what they let through. `payload_bytes` is the most that an event may have."""

    def __init__(
        self,
        store: LogStore,
        logs: LogsService,
        permissions: Permissions,
        invocations: Acceptance,
        clock: Clock,
        payload_bytes: int,
    ) -> None:
        self._store = store
        self._logs = logs
        self._permissions = permissions
        self._invocations = invocations
        self._clock = clock
        self._payload_bytes = payload_bytes
        self._subscribed: set[GroupKey] = set()
        self._changing = asyncio.Lock()
        self._arrived = asyncio.Event()
        self._delivering = asyncio.Lock()
        self._since = self._kept = 1
        """Events before the first have been accepted; the second is what the store knows of that."""
        self._next = 1
        self._unsent: list[tuple[SubscriptionFilter, bytes, int]] = []
        """What is to be accepted, and how many log events it carries."""
        self.dropped_events = 0
        """Log events that matched and could not be delivered for ever."""
        logs.after_writing(self._written)

    # The filters.

    async def put_subscription_filter(
        self,
        key: GroupKey,
        name: str,
        pattern: str,
        destination_arn: str,
        *,
        role_arn: str | None = None,
        distribution: str = BY_LOG_STREAM,
    ) -> None:
        """Send what is appended from now on and matches to a function.

        Raises ResourceNotFoundException, LimitExceededException, InvalidOperationException, and
        InvalidParameterException for a bad pattern, another destination than a function of this account and region, and
        a function that does not exist or does not let logs.amazonaws.com invoke it.
        """
        group = await self._logs.log_group(key)
        compiled(pattern)
        check_destination(destination_arn, role_arn, key)
        if group.log_group_class != "STANDARD":
            raise InvalidOperationException(
                f"Subscription filters are not supported for log groups of the class {group.log_group_class}."
            )
        created_ms = int(self._clock.time() * 1000)
        wanted = SubscriptionFilter(key, name, pattern, destination_arn, created_ms, distribution)
        if not await self._permitted(wanted):
            raise not_permitted()
        async with self._changing:
            await self._store.put_subscription_filter(wanted, FILTERS_MAX)
            await self._know_groups()
        self._arrived.set()  # what came between the two lines above

    async def subscription_filters(
        self, key: GroupKey, *, prefix: str = "", next_token: str | None = None, limit: int = DESCRIBE_PAGE
    ) -> FilterPage:
        """Filters of a group by name. Raises ResourceNotFoundException, InvalidParameterException for a bad token."""
        now_ms = int(self._clock.time() * 1000)
        await self._logs.log_group(key)
        after = "" if next_token is None else parse_page_token(next_token, now_ms, key, prefix)
        found = await self._store.subscription_filters(key, prefix=prefix, after=after, limit=limit + 1)
        token = page_token(now_ms, found[limit - 1].name, key, prefix) if len(found) > limit else None
        return FilterPage(found[:limit], token)

    async def delete_subscription_filter(self, key: GroupKey, name: str) -> None:
        """Raises ResourceNotFoundException."""
        await self._logs.log_group(key)
        async with self._changing:
            await self._store.delete_subscription_filter(key, name)
            await self._know_groups()

    async def _know_groups(self) -> None:
        self._subscribed = set(await self._store.subscribed_groups())

    async def _permitted(self, wanted: SubscriptionFilter) -> bool:
        group, function = wanted.group, wanted.function
        # Policies name the service with or without its region.
        for principal in ("logs.amazonaws.com", f"logs.{group.region}.amazonaws.com"):
            if await self._permissions.allows_service(function, principal, f"{group.arn}:*", group.account_id):
                return True
        return False

    # The delivery.

    async def start(self) -> None:
        """Take up what is on disk; before anything is appended. Raises ServiceUnavailableException."""
        await self._know_groups()
        self._since = self._kept = self._next = await self._store.delivered()
        if self._subscribed:
            self._arrived.set()

    async def run(self) -> None:
        """Deliver what arrives, for ever; the application runs this as a task, and calls `close` before its end."""
        failing = False
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            try:
                while not await self._step():
                    pass
                failing = False
            except (ServiceUnavailableException, StoreUnavailable) as error:
                if not failing:
                    logger.error("Log events cannot be delivered to subscribed functions now: %s", error)
                failing = True
                self._arrived.set()
                await self._clock.sleep(RETRY_DELAY_S)

    async def close(self) -> None:
        """End with the step that has begun; nothing is delivered any more. What is left comes after the next start."""
        await self._delivering.acquire()
        if self._kept != self._since:
            try:
                await self._store.keep_delivered(self._since)
            except ServiceUnavailableException as error:
                logger.error("Some log events will be delivered again: %s", error)

    def _written(self, groups: Iterable[GroupKey]) -> None:
        if self._subscribed and not self._subscribed.isdisjoint(groups):
            self._arrived.set()

    async def _step(self) -> bool:
        """Deliver up to STEP_BYTES of what has arrived; whether that was all.

        Raises ServiceUnavailableException and StoreUnavailable; the next step goes on from there.
        """
        async with self._delivering:
            complete = False
            if not self._unsent:
                found = await self._store.arrivals(self._since, STEP_BYTES)
                await self._pack(found.events)
                self._next, complete = found.next, found.complete
            delivers = bool(self._unsent)
            while self._unsent:
                await self._send()
            self._since = self._next
            if delivers:
                await self._store.keep_delivered(self._since)
                self._kept = self._since
            return complete

    async def _pack(self, events: Sequence[SubscribedEvents]) -> None:
        dropped: Counter[tuple[SubscriptionFilter, str]] = Counter()
        permitted: dict[SubscriptionFilter, bool] = {}
        unsent = []
        for part in events:
            for wanted in part.filters:
                made = await asyncio.to_thread(_packed, part, wanted, self._payload_bytes)
                if made and wanted not in permitted:
                    permitted[wanted] = await self._permitted(wanted)
                for payload, count in made:
                    if not permitted[wanted]:
                        dropped[wanted, "its policy does not let logs.amazonaws.com invoke it"] += count
                    elif payload is None:
                        dropped[wanted, f"they are larger than {self._payload_bytes} bytes"] += count
                    else:
                        unsent.append((wanted, payload, count))
        # All at once: a failure above begins the step anew.
        self._unsent = unsent
        for (wanted, reason), count in dropped.items():
            self._drop(wanted, count, reason)

    async def _send(self) -> None:
        part = self._unsent[:ACCEPTED_TOGETHER]
        settled = await asyncio.gather(*(self._accept(*each) for each in part))
        left = [each for each, error in zip(part, settled, strict=True) if error is not None]
        self._unsent[: len(part)] = left
        for error in settled:
            if error is not None:
                raise error

    async def _accept(self, wanted: SubscriptionFilter, payload: bytes, count: int) -> StoreUnavailable | None:
        """Put one event into the queue, or say why it must be tried again."""
        try:
            await self._invocations.accept(wanted.function, new_request_id(), payload)
        except StoreUnavailable as error:
            return error
        except ResourceNotFoundException as error:
            self._drop(wanted, count, error.message)
        return None

    def _drop(self, wanted: SubscriptionFilter, count: int, reason: str) -> None:
        self.dropped_events += count
        logger.warning(
            "%d log events of %s are not delivered to %s (filter %s): %s",
            count,
            wanted.group.name,
            wanted.destination_arn,
            wanted.name,
            reason,
        )


def _packed(part: SubscribedEvents, wanted: SubscriptionFilter, most_bytes: int) -> list[tuple[bytes | None, int]]:
    return list(payloads(part, wanted, most_bytes))

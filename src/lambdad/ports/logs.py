"""Where log groups, their streams and their events are kept.

Every call is atomic, and what it changed is on disk when it answers. A store that cannot do its work now (a full disk)
raises ServiceUnavailableException. Events of a group or a stream that was deleted are not found by any call, whether or
not they are still on disk; `expire` removes them, and those that are older than their group's retention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lambdad.domain.log_subscriptions import SubscribedEvents, SubscriptionFilter
from lambdad.domain.logs import EventBatch, GroupKey, LogEvent, LogGroup, LogStream, Position


@dataclass(frozen=True, slots=True)
class EventRange:
    """Which events a read may return, and how many of them.

    Times are milliseconds: from `start_ms` on, before `end_ms`. `beyond` is a position that is not itself returned:
    the read goes on after it, or before it when `forward` is false.
    """

    start_ms: int
    end_ms: int
    beyond: Position | None
    forward: bool
    limit: int
    bytes: int
    """A page ends before the event that would make it larger than this, counted as PutLogEvents does; it has one."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A page of a scan: what matched, and the last position that was looked at, None when nothing is left."""

    events: Sequence[LogEvent]
    reached: Position | None


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What has arrived in subscribed groups, and the sequence from which to ask for what arrives after it."""

    events: Sequence[SubscribedEvents]
    next: int
    complete: bool
    """Whether `next` is beyond everything that was there."""


class LogStore(Protocol):
    """Log groups by (account, region, name), streams by name in a group, events in order of position in a stream."""

    async def create_group(self, group: LogGroup) -> None:
        """Raises ResourceAlreadyExistsException."""

    async def group(self, key: GroupKey) -> LogGroup | None: ...

    async def groups(
        self, account_id: str, region: str, *, after: str, prefix: str, substring: str, limit: int
    ) -> Sequence[LogGroup]:
        """Groups by name (as bytes), from the one after `after`, whose name starts with one text and holds another."""

    async def update_group(self, key: GroupKey, change: Callable[[LogGroup], LogGroup]) -> LogGroup:
        """Store what `change` makes of a group, and return it; nothing is stored when `change` raises.

        Raises ResourceNotFoundException.
        """

    async def delete_group(self, key: GroupKey, check: Callable[[LogGroup], None]) -> None:
        """Delete a group, its streams and its events, unless `check` raises. Raises ResourceNotFoundException."""

    async def create_stream(self, key: GroupKey, stream: LogStream) -> None:
        """Raises ResourceNotFoundException for the group, ResourceAlreadyExistsException for the stream."""

    async def stream(self, key: GroupKey, name: str) -> LogStream | None: ...

    async def streams(
        self, key: GroupKey, *, prefix: str, after: str, descending: bool, limit: int
    ) -> Sequence[LogStream]:
        """Streams by name (as bytes) from the one after `after`, which may be empty for the first page."""

    async def streams_by_time(
        self, key: GroupKey, *, after: tuple[int, str] | None, descending: bool, limit: int
    ) -> Sequence[LogStream]:
        """Streams by the time of their last event (0 for one without events), then by name, from the one after."""

    async def delete_stream(self, key: GroupKey, name: str, check: Callable[[LogGroup], None]) -> None:
        """Delete a stream and its events, unless `check` raises. Raises ResourceNotFoundException."""

    async def append(self, batches: Sequence[EventBatch], *, create: bool) -> None:
        """Store events, giving each its sequence in the order of arrival.

        With `create`, missing groups and streams are made; without, they raise ResourceNotFoundException.
        """

    async def read(self, key: GroupKey, stream: str, events: EventRange) -> Sequence[LogEvent]:
        """Events of one stream, nearest to the side on which the read begins, always in ascending order.

        Raises ResourceNotFoundException.
        """

    async def scan(
        self,
        key: GroupKey,
        events: EventRange,
        *,
        streams: Sequence[str] | None,
        prefix: str,
        matches: Callable[[str], bool],
        look: int,
    ) -> Scan:
        """Look at up to `look` events of a group, in the order of the range, for those whose message matches.

        The range's `bytes` bounds what is looked at. Only the streams named, or those with the prefix, are looked at.
        Raises ResourceNotFoundException for the group and for a stream that is named.
        """

    async def put_subscription_filter(self, wanted: SubscriptionFilter, most: int) -> None:
        """Store a filter of a group, instead of one of the same name; it gets what is appended from now on.

        One that replaces another goes on where that was. Raises ResourceNotFoundException, and LimitExceededException
        when the group has `most` others. Filters are gone with their group.
        """

    async def subscription_filters(
        self, key: GroupKey, *, prefix: str, after: str, limit: int
    ) -> Sequence[SubscriptionFilter]:
        """Filters of a group by name (as bytes) from the one after `after`. Raises ResourceNotFoundException."""

    async def delete_subscription_filter(self, key: GroupKey, name: str) -> None:
        """Raises ResourceNotFoundException for the group and for the filter."""

    async def subscribed_groups(self) -> Sequence[GroupKey]:
        """Every group, of any account and region, that has a filter."""

    async def arrivals(self, since: int, most_bytes: int) -> Arrivals:
        """What filters are to get of the events with sequence `since` and above, in the order of arrival.

        It ends when it has more than `most_bytes`, or has looked at enough; what is left comes with the next call.
        """

    async def delivered(self) -> int:
        """The sequence that was kept last by `keep_delivered`, 1 at first."""

    async def keep_delivered(self, sequence: int) -> None:
        """Remember that the events before this sequence have been delivered."""

    async def expire(self, now_ms: int, limit: int) -> int:
        """Remove up to `limit` events that have expired or were deleted, and return how many they were."""

    async def close(self) -> None:
        """Finish what was begun and let go of the files."""

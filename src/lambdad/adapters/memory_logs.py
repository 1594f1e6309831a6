"""Logs in memory: the twin of the SQLite store, for tests and for a daemon that keeps nothing."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from lambdad.domain.log_subscriptions import (
    SubscribedEvents,
    SubscriptionFilter,
    filter_not_found,
    too_many_filters,
)
from lambdad.domain.logs import (
    EventBatch,
    GroupKey,
    LogEvent,
    LogGroup,
    LogStream,
    Position,
    group_exists,
    group_not_found,
    stream_exists,
    stream_not_found,
)
from lambdad.ports.logs import Arrivals, EventRange, Scan


@dataclass
class _Group:
    record: LogGroup
    streams: dict[str, LogStream] = field(default_factory=dict)
    events: list[LogEvent] = field(default_factory=list)
    """Of all streams, by position."""
    filters: dict[str, tuple[SubscriptionFilter, int]] = field(default_factory=dict)
    """Beside each is the sequence from which it gets events."""


def _position(event: LogEvent) -> Position:
    return event.position


class MemoryLogStore:
    """A LogStore that is gone with the process."""

    def __init__(self) -> None:
        self._groups: dict[GroupKey, _Group] = {}
        self._sequence = 0
        self._delivered = 1

    async def create_group(self, group: LogGroup) -> None:
        if group.key in self._groups:
            raise group_exists()
        self._groups[group.key] = _Group(group)

    async def group(self, key: GroupKey) -> LogGroup | None:
        found = self._groups.get(key)
        return None if found is None else self._record(found)

    async def groups(
        self, account_id: str, region: str, *, after: str, prefix: str, substring: str, limit: int
    ) -> Sequence[LogGroup]:
        found = [
            group
            for key, group in sorted(self._groups.items())
            if (key.account_id, key.region) == (account_id, region)
            and key.name > after
            and key.name.startswith(prefix)
            and substring in key.name
        ]
        return [self._record(group) for group in found[:limit]]

    async def update_group(self, key: GroupKey, change: Callable[[LogGroup], LogGroup]) -> LogGroup:
        group = self._existing(key)
        group.record = change(self._record(group))
        return self._record(group)

    async def delete_group(self, key: GroupKey, check: Callable[[LogGroup], None]) -> None:
        check(self._record(self._existing(key)))
        del self._groups[key]

    async def create_stream(self, key: GroupKey, stream: LogStream) -> None:
        group = self._existing(key)
        if stream.name in group.streams:
            raise stream_exists()
        group.streams[stream.name] = stream

    async def stream(self, key: GroupKey, name: str) -> LogStream | None:
        group = self._groups.get(key)
        return None if group is None else group.streams.get(name)

    async def streams(
        self, key: GroupKey, *, prefix: str, after: str, descending: bool, limit: int
    ) -> Sequence[LogStream]:
        names = sorted(
            (name for name in self._existing(key).streams if name.startswith(prefix)),
            key=str.encode,
            reverse=descending,
        )
        if after:
            names = [name for name in names if (name < after if descending else name > after)]
        return [self._existing(key).streams[name] for name in names[:limit]]

    async def streams_by_time(
        self, key: GroupKey, *, after: tuple[int, str] | None, descending: bool, limit: int
    ) -> Sequence[LogStream]:
        ordered = sorted(
            ((stream.last_event_ms or 0, name) for name, stream in self._existing(key).streams.items()),
            reverse=descending,
        )
        if after is not None:
            ordered = [place for place in ordered if (place < after if descending else place > after)]
        return [self._existing(key).streams[name] for _, name in ordered[:limit]]

    async def delete_stream(self, key: GroupKey, name: str, check: Callable[[LogGroup], None]) -> None:
        group = self._existing(key)
        if name not in group.streams:
            raise stream_not_found()
        check(self._record(group))
        del group.streams[name]
        group.events = [event for event in group.events if event.stream != name]

    async def append(self, batches: Sequence[EventBatch], *, create: bool) -> None:
        if not create:
            for batch in batches:
                if batch.stream not in self._existing(batch.group).streams:
                    raise stream_not_found()
        for batch in batches:
            self._append(batch)

    def _append(self, batch: EventBatch) -> None:
        group = self._groups.setdefault(batch.group, _Group(LogGroup(batch.group, batch.ingested_ms)))
        stream = group.streams.setdefault(batch.stream, LogStream(batch.stream, batch.ingested_ms))
        if not batch.events:
            return
        for timestamp_ms, message in batch.events:
            self._sequence += 1
            event = LogEvent(Position(timestamp_ms, self._sequence), batch.stream, batch.ingested_ms, message)
            if group.events and group.events[-1].position > event.position:
                bisect.insort(group.events, event, key=_position)
            else:
                group.events.append(event)
        times = [timestamp_ms for timestamp_ms, _ in batch.events]
        first, last = stream.first_event_ms, stream.last_event_ms
        group.streams[batch.stream] = replace(
            stream,
            first_event_ms=min(times) if first is None else min(first, *times),
            last_event_ms=max(times) if last is None else max(last, *times),
            last_ingestion_ms=batch.ingested_ms,
        )

    async def read(self, key: GroupKey, stream: str, events: EventRange) -> Sequence[LogEvent]:
        group = self._existing(key)
        if stream not in group.streams:
            raise stream_not_found()
        page: list[LogEvent] = []
        size = 0
        for event in self._within(group, events):
            if event.stream != stream:
                continue
            size += event.size
            if page and size > events.bytes:
                break
            page.append(event)
            if len(page) == events.limit:
                break
        return page if events.forward else page[::-1]

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
        group = self._existing(key)
        if streams is not None and not set(streams) <= group.streams.keys():
            raise stream_not_found()
        chosen = [name for name in group.streams if (streams is None or name in streams) and name.startswith(prefix)]
        found: list[LogEvent] = []
        reached: Position | None = None
        seen = size = 0
        for event in self._within(group, events):
            if event.stream not in chosen:
                continue
            size += event.size
            if seen == look or len(found) == events.limit or (seen and size > events.bytes):
                return Scan(found, reached)
            seen += 1
            reached = event.position
            if matches(event.message):
                found.append(event)
        return Scan(found, None)

    async def put_subscription_filter(self, wanted: SubscriptionFilter, most: int) -> None:
        filters = self._existing(wanted.group).filters
        if wanted.name not in filters and len(filters) >= most:
            raise too_many_filters()
        _, since = filters.get(wanted.name, (wanted, self._sequence + 1))
        filters[wanted.name] = wanted, since

    async def subscription_filters(
        self, key: GroupKey, *, prefix: str, after: str, limit: int
    ) -> Sequence[SubscriptionFilter]:
        filters = sorted(self._existing(key).filters.items(), key=lambda item: item[0].encode())
        found = [wanted for name, (wanted, _) in filters if name.startswith(prefix) and name > after]
        return found[:limit]

    async def delete_subscription_filter(self, key: GroupKey, name: str) -> None:
        if self._existing(key).filters.pop(name, None) is None:
            raise filter_not_found()

    async def subscribed_groups(self) -> Sequence[GroupKey]:
        return [key for key, group in self._groups.items() if group.filters]

    async def arrivals(self, since: int, most_bytes: int) -> Arrivals:
        arrived = [
            (event, key)
            for key, group in self._groups.items()
            if group.filters
            for event in group.events
            if event.position.sequence >= since
        ]
        found: dict[tuple[GroupKey, str, tuple[str, ...]], SubscribedEvents] = {}
        size = 0
        for event, key in sorted(arrived, key=lambda pair: pair[0].position.sequence):
            if size > most_bytes:
                return Arrivals(list(found.values()), event.position.sequence, False)
            filters = self._groups[key].filters
            names = tuple(name for name in sorted(filters) if event.position.sequence >= filters[name][1])
            if not names:
                continue
            size += event.size
            known = found.get((key, event.stream, names))
            events = [event] if known is None else [*known.events, event]
            wanted = [filters[name][0] for name in names]
            found[key, event.stream, names] = SubscribedEvents(key, event.stream, wanted, events)
        return Arrivals(list(found.values()), self._sequence + 1, True)

    async def delivered(self) -> int:
        return self._delivered

    async def keep_delivered(self, sequence: int) -> None:
        self._delivered = sequence

    async def expire(self, now_ms: int, limit: int) -> int:
        removed = 0
        for group in self._groups.values():
            cut = bisect.bisect_left(group.events, Position(group.record.kept_since_ms(now_ms), 0), key=_position)
            cut = min(cut, limit - removed)
            shortened = {event.stream for event in group.events[:cut]}
            del group.events[:cut]
            removed += cut
            for name in shortened:
                rest = [event.position.timestamp_ms for event in group.events if event.stream == name]
                group.streams[name] = replace(group.streams[name], first_event_ms=min(rest, default=None))
        return removed

    async def close(self) -> None:
        pass

    def _existing(self, key: GroupKey) -> _Group:
        group = self._groups.get(key)
        if group is None:
            raise group_not_found()
        return group

    def _record(self, group: _Group) -> LogGroup:
        return replace(group.record, stored_bytes=sum(event.size for event in group.events))

    def _within(self, group: _Group, events: EventRange) -> Iterator[LogEvent]:
        """The events of a range, in its direction."""
        start = bisect.bisect_left(group.events, Position(events.start_ms, 0), key=_position)
        end = bisect.bisect_left(group.events, Position(events.end_ms, 0), key=_position)
        if events.beyond is not None and events.forward:
            start = max(start, bisect.bisect_right(group.events, events.beyond, key=_position))
        elif events.beyond is not None:
            end = min(end, bisect.bisect_left(group.events, events.beyond, key=_position))
        indexes = range(start, end) if events.forward else range(end - 1, start - 1, -1)
        return (group.events[index] for index in indexes)

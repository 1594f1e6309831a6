"""CloudWatch Logs: groups, streams and events, whoever writes them and whoever reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lambdad.domain import filter_patterns
from lambdad.domain.logs import (
    DESCRIBE_PAGE,
    LOG_GROUP_CLASSES,
    NEWEST_FIRST_SINCE_MS,
    PAGE_BYTES,
    PAGE_EVENTS,
    RETENTION_DAYS,
    AcceptedEvents,
    EventBatch,
    GroupKey,
    InvalidParameterException,
    LogEvent,
    LogGroup,
    LogGroupProtected,
    LogStream,
    Position,
    check_batch,
    check_group_name,
    group_not_found,
    invalid_token,
    page_token,
    parse_page_token,
    parse_place,
    parse_stream_token,
    stored_text,
    stream_not_found,
    stream_token,
)
from lambdad.ports.clock import Clock
from lambdad.ports.logs import EventRange, LogStore
from lambdad.services.log_buffer import LogBuffer

END_OF_TIME_MS: Final = 2**62
_SCAN_EVENTS: Final = 1000
_SCAN_BYTES: Final = 256 * 1024
_LOOKED_AT_MAX: Final = 100_000
_EXPIRE_EVENTS: Final = 5000


@dataclass(frozen=True, slots=True)
class GroupPage:
    groups: Sequence[LogGroup]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class StreamPage:
    streams: Sequence[LogStream]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events of one stream in ascending order, and the tokens for those after and those before them."""

    events: Sequence[LogEvent]
    next_forward_token: str
    next_backward_token: str


@dataclass(frozen=True, slots=True)
class FilteredPage:
    events: Sequence[LogEvent]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class Filter:
    """What FilterLogEvents asks for; times in milliseconds, both inclusive."""

    streams: Sequence[str] | None = None
    prefix: str = ""
    start_ms: int | None = None
    end_ms: int | None = None
    pattern: str = ""
    newest_first: bool = False


class LogsService:
    """Everything that is appended or put before a read begins is seen by that read."""

    def __init__(self, store: LogStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._buffer = LogBuffer(store, clock)

    # What functions print.

    def before_reading(self, hand_over: Callable[[], None]) -> None:
        """Have somebody who holds events back called before each read, so that the read sees them."""
        self._buffer.sources.append(hand_over)

    def after_writing(self, notify: Callable[[Iterable[GroupKey]], None]) -> None:
        """Have somebody called with the groups of events, each time that some have come to be on disk."""
        self._buffer.watchers.append(notify)

    def append(self, account_id: str, region: str, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
        """Take lines `(timestamp_ms, message)` for a stream, without waiting for anything.

        The group and the stream are made when they are missing. They are on disk within half a second. Await `drained`
        between large outputs. Call it from the event loop.
        """
        self._buffer.append(GroupKey(account_id, region, group), stream, events)

    @property
    def pending_bytes(self) -> int:
        """How much memory the events take that are not on disk yet."""
        return self._buffer.pending_bytes

    @property
    def discarded_events(self) -> int:
        """How many events were lost because the store could not be written."""
        return self._buffer.discarded_events

    async def drained(self) -> None:
        """Wait until so little is pending (16 MB) that more may be appended."""
        await self._buffer.drained()

    async def close(self) -> None:
        """Write what is pending; the store stays open. Raises ServiceUnavailableException when it cannot."""
        await self._buffer.close()

    async def expire(self) -> int:
        """Remove what its group's retention no longer keeps and what was deleted; how many events that was."""
        total = 0
        while True:
            removed = await self._store.expire(self._now_ms(), _EXPIRE_EVENTS)
            total += removed
            if removed < _EXPIRE_EVENTS:
                return total

    # Log groups.

    async def create_log_group(
        self,
        key: GroupKey,
        *,
        log_group_class: str = "STANDARD",
        tags: Mapping[str, str] | None = None,
        deletion_protected: bool = False,
    ) -> None:
        """Raises InvalidParameterException and ResourceAlreadyExistsException."""
        check_group_name(key.name)
        if log_group_class not in LOG_GROUP_CLASSES:
            raise InvalidParameterException(
                f"The log group class {log_group_class} is not supported; use one of {', '.join(LOG_GROUP_CLASSES)}."
            )
        await self._buffer.flush()
        group = LogGroup(key, self._now_ms(), log_group_class, deletion_protected=deletion_protected)
        await self._store.create_group(group.tagged(tags or {}))

    async def delete_log_group(self, key: GroupKey) -> None:
        """Raises ResourceNotFoundException, and LogGroupProtected."""
        # What was printed before this call must not bring the group back.
        await self._buffer.flush()
        await self._store.delete_group(key, _check_not_protected)

    async def log_group(self, key: GroupKey) -> LogGroup:
        """Raises ResourceNotFoundException."""
        await self._buffer.flush()
        group = await self._store.group(key)
        if group is None:
            raise group_not_found()
        return group

    async def log_groups(
        self,
        account_id: str,
        region: str,
        *,
        prefix: str = "",
        substring: str = "",
        keep: Callable[[LogGroup], bool] = lambda group: True,
        asked: object = None,
        next_token: str | None = None,
        limit: int = DESCRIBE_PAGE,
    ) -> GroupPage:
        """Groups in the order of their names. `asked` sums up what `keep` keeps, as a token is for one request only.

        Raises InvalidParameterException for a token of another request.
        """
        await self._buffer.flush()
        request = (account_id, region, prefix, substring, asked)
        after = "" if next_token is None else parse_page_token(next_token, self._now_ms(), *request)
        found: list[LogGroup] = []
        while len(found) <= limit:
            groups = await self._store.groups(
                account_id, region, after=after, prefix=prefix, substring=substring, limit=limit + 1
            )
            found += filter(keep, groups)
            if len(groups) <= limit:
                break
            after = groups[-1].key.name
        token = page_token(self._now_ms(), found[limit - 1].key.name, *request) if len(found) > limit else None
        return GroupPage(found[:limit], token)

    async def put_retention_policy(self, key: GroupKey, retention_days: int | None) -> None:
        """Keep events so many days; None keeps them for ever. Raises InvalidParameterException and others."""
        if retention_days is not None and retention_days not in RETENTION_DAYS:
            raise InvalidParameterException(
                f"Invalid retention value. Valid values are: {', '.join(map(str, sorted(RETENTION_DAYS)))}"
            )
        await self._update(key, lambda group: replace(group, retention_days=retention_days))

    async def put_deletion_protection(self, key: GroupKey, protected: bool) -> None:
        await self._update(key, lambda group: replace(group, deletion_protected=protected))

    async def tag(self, key: GroupKey, tags: Mapping[str, str]) -> None:
        """Raises ResourceNotFoundException and TooManyTagsException."""
        await self._update(key, lambda group: group.tagged(tags))

    async def untag(self, key: GroupKey, tag_keys: Iterable[str]) -> None:
        await self._update(key, lambda group: group.untagged(tag_keys))

    async def _update(self, key: GroupKey, change: Callable[[LogGroup], LogGroup]) -> None:
        await self._buffer.flush()
        await self._store.update_group(key, change)

    # Log streams.

    async def create_log_stream(self, key: GroupKey, name: str) -> None:
        """Raises ResourceNotFoundException and ResourceAlreadyExistsException."""
        await self._buffer.flush()
        await self._store.create_stream(key, LogStream(name, self._now_ms()))

    async def delete_log_stream(self, key: GroupKey, name: str) -> None:
        """Raises ResourceNotFoundException, and LogGroupProtected."""
        await self._buffer.flush()
        await self._store.delete_stream(key, name, _check_not_protected)

    async def log_streams(
        self,
        key: GroupKey,
        *,
        prefix: str = "",
        by_time: bool = False,
        descending: bool = False,
        next_token: str | None = None,
        limit: int = DESCRIBE_PAGE,
    ) -> StreamPage:
        """Streams of a group by name or by the time of their last event. Raises ResourceNotFoundException."""
        if by_time and prefix:
            raise InvalidParameterException("Cannot order by LastEventTime with a logStreamNamePrefix.")
        await self._buffer.flush()
        request = (key, prefix, by_time, descending)
        place = None if next_token is None else parse_page_token(next_token, self._now_ms(), *request)
        if by_time:
            found = await self._store.streams_by_time(
                key, after=_time_place(place), descending=descending, limit=limit + 1
            )
        else:
            found = await self._store.streams(
                key, prefix=prefix, after=place or "", descending=descending, limit=limit + 1
            )
        if len(found) <= limit:
            return StreamPage(found, None)
        last = found[limit - 1]
        place = f"{last.last_event_ms or 0}:{last.name}" if by_time else last.name
        return StreamPage(found[:limit], page_token(self._now_ms(), place, *request))

    # Log events.

    async def put_log_events(self, key: GroupKey, stream: str, events: Sequence[tuple[int, str]]) -> AcceptedEvents:
        """Store a batch; it is on disk when this returns. What was stored, and what was rejected.

        Raises ResourceNotFoundException, and InvalidParameterException when the whole batch is refused.
        """
        group = await self.log_group(key)
        if await self._store.stream(key, stream) is None:
            raise stream_not_found()
        now_ms = self._now_ms()
        texts = [(timestamp_ms, stored_text(message)) for timestamp_ms, message in events]
        accepted = check_batch(texts, now_ms, group.kept_since_ms(now_ms))
        if accepted.events:
            await self._store.append([EventBatch(key, stream, now_ms, accepted.events)], create=False)
            self._buffer.tell((key,))
        return accepted

    async def get_log_events(
        self,
        key: GroupKey,
        stream: str,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        next_token: str | None = None,
        limit: int = PAGE_EVENTS,
        start_from_head: bool = False,
    ) -> EventPage:
        """One page of a stream, from `start_ms` on and before `end_ms`. A token says where and in which direction.

        Raises ResourceNotFoundException, and InvalidParameterException for a token that is none.
        """
        group = await self.log_group(key)
        beyond, forward = parse_stream_token(next_token) if next_token else (None, start_from_head)
        since_ms = max(start_ms or 0, group.kept_since_ms(self._now_ms()))
        until_ms = END_OF_TIME_MS if end_ms is None else min(end_ms, END_OF_TIME_MS)
        wanted = EventRange(since_ms, until_ms, beyond, forward, limit, PAGE_BYTES)
        events = await self._store.read(key, stream, wanted)
        if events:
            after, before = events[-1].position, events[0].position
        elif beyond is None:
            after = before = Position(since_ms, 0)
        elif forward:
            after, before = beyond, beyond.next
        else:
            after, before = Position(beyond.timestamp_ms, max(0, beyond.sequence - 1)), beyond
        return EventPage(events, stream_token(after, forward=True), stream_token(before, forward=False))

    async def filter_log_events(
        self, key: GroupKey, wanted: Filter, *, next_token: str | None = None, limit: int = PAGE_EVENTS
    ) -> FilteredPage:
        """One page of the events of a group that match. A page may be short or empty and still have a token after it.

        Raises ResourceNotFoundException, and InvalidParameterException for what contradicts itself, for an invalid
        pattern, and for a token of another request or older than 24 hours.
        """
        matches = _check_filter(wanted, next_token)
        group = await self.log_group(key)
        now_ms = self._now_ms()
        request = (key, wanted.streams, wanted.prefix, wanted.start_ms, wanted.end_ms, wanted.pattern)
        beyond, forward = None, not wanted.newest_first
        if next_token is not None:
            place = parse_page_token(next_token, now_ms, *request)
            beyond, forward = parse_place(place[1:]), place[0] == "f"
        since_ms = max(wanted.start_ms or 0, group.kept_since_ms(now_ms))
        until_ms = END_OF_TIME_MS if wanted.end_ms is None else min(wanted.end_ms + 1, END_OF_TIME_MS)
        found: list[LogEvent] = []
        size = looked_at = 0
        while True:
            part = EventRange(since_ms, until_ms, beyond, forward, limit - len(found), _SCAN_BYTES)
            scan = await self._store.scan(
                key, part, streams=wanted.streams, prefix=wanted.prefix, matches=matches, look=_SCAN_EVENTS
            )
            found += scan.events
            beyond = scan.reached
            if beyond is None:
                return FilteredPage(found, None)
            size += sum(event.size for event in scan.events)
            looked_at += _SCAN_EVENTS
            if len(found) >= limit or size > PAGE_BYTES - _SCAN_BYTES or looked_at >= _LOOKED_AT_MAX:
                token = page_token(now_ms, f"{'f' if forward else 'b'}{beyond.digits}", *request)
                return FilteredPage(found, token)

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)


def _check_not_protected(group: LogGroup) -> None:
    if group.deletion_protected:
        raise LogGroupProtected("Deletion protection is enabled for the specified log group.")


def _check_filter(wanted: Filter, next_token: str | None) -> Callable[[str], bool]:
    if wanted.streams is not None and wanted.prefix:
        raise InvalidParameterException("Only one of logStreamNames and logStreamNamePrefix can be specified.")
    if wanted.newest_first and next_token is None and (wanted.start_ms or 0) < NEWEST_FIRST_SINCE_MS:
        raise InvalidParameterException(
            "startFromHead can be false only when startTime is on or after 2024-01-01T00:00:00Z."
        )
    try:
        return filter_patterns.compile(wanted.pattern).matches
    except filter_patterns.InvalidPattern as error:
        raise InvalidParameterException(str(error)) from error


def _time_place(place: str | None) -> tuple[int, str] | None:
    if place is None:
        return None
    time_ms, _, name = place.partition(":")
    if not time_ms.isdecimal():
        raise invalid_token()
    return int(time_ms), name

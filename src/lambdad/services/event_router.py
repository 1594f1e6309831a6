"""The way of events: from whoever puts them, through a bus, to the targets of rules and into archives.

What is accepted is on disk before its sender hears of it: archived events in the archive, dispatches in the durable
queue. A sender that is told of a failure sends again, so an archive may have an event twice then.

An event that a rule has sent on to another bus is not sent to a third one, so that loops of buses end:
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-bus-to-bus.html
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from lambdad.domain.dispatches import Dispatch
from lambdad.domain.errors import ServiceError
from lambdad.domain.event_archives import REPLAY_NAME, ArchivedEvent
from lambdad.domain.event_bus_policies import PUT_EVENTS, Access, allows
from lambdad.domain.event_buses import BusKey, Event, parse_bus
from lambdad.domain.event_entries import ACCESS_DENIED, RefusedEntry, check_size, to_event
from lambdad.domain.event_rules import scheduled_event
from lambdad.domain.event_targets import (
    LOGS,
    NOT_PERMITTED,
    RESOURCE_GONE,
    THIRD_HOP,
    Delivery,
    Target,
    log_stream,
    undeliverable,
)
from lambdad.domain.input_transformers import to_json
from lambdad.domain.logs import GroupKey
from lambdad.ports.clock import Clock
from lambdad.ports.dispatcher import Dispatcher
from lambdad.ports.event_buses import EventBusStore
from lambdad.services.event_catalog import ActiveRule, EventCatalog
from lambdad.services.identifiers import new_request_id

logger = logging.getLogger(__name__)

_MS: Final = 1000


class LogStreams(Protocol):
    """CloudWatch Logs."""

    async def create_log_stream(self, key: GroupKey, name: str) -> None:
        """Raises ResourceNotFoundException and ResourceAlreadyExistsException."""


@dataclass(frozen=True, slots=True)
class PutResult:
    """What became of an entry of PutEvents: an event with an id, or an error."""

    event_id: str = ""
    error_code: str = ""
    error_message: str = ""


@dataclass(slots=True)
class _Routed:
    """What some events come to."""

    ingested_ms: int
    dispatches: list[Dispatch] = field(default_factory=list)
    archived: list[ArchivedEvent] = field(default_factory=list)
    streams: set[tuple[GroupKey, str]] = field(default_factory=set)


class EventRouter:
    """Matches events with the rules of a bus and hands them over."""

    def __init__(
        self, catalog: EventCatalog, store: EventBusStore, dispatcher: Dispatcher, logs: LogStreams, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._dispatcher = dispatcher
        self._logs = logs
        self._clock = clock

    async def put_events(
        self, account_id: str, region: str, entries: Sequence[Mapping[str, Any]], trace: str = ""
    ) -> list[PutResult]:
        """What became of each entry, in their order. An event for a bus that does not exist is lost, as on AWS.

        Raises ValidationException for entries that are too large together, and StoreUnavailable.
        """
        check_size(entries)
        now_ms = self._now_ms()
        results: list[PutResult] = []
        accepted: list[tuple[str, _Routed]] = []  # by trace, and in the order of the entries
        for entry in entries:
            event_id = new_request_id()
            try:
                event = to_event(entry, event_id, account_id, region, now_ms)
                key = self._permitted_bus(entry.get("EventBusName"), account_id, region, event)
            except RefusedEntry as error:
                results.append(PutResult(error_code=error.code, error_message=error.message))
                continue
            header = entry.get("TraceHeader", trace)
            if not accepted or accepted[-1][0] != header:
                accepted.append((header, _Routed(now_ms)))
            self._route(key, event, accepted[-1][1])
            results.append(PutResult(event_id))
        for header, routed in accepted:
            await self._hand_over(routed, trace=header)
        return results

    async def receive(self, key: BusKey, events: Sequence[Event], trace: str = "") -> None:
        """Let full event documents into a bus. Raises StoreUnavailable."""
        routed = _Routed(self._now_ms())
        for event in events:
            self._route(key, event, routed)
        await self._hand_over(routed, trace=trace)

    async def replay(self, key: BusKey, events: Sequence[Event], rules: frozenset[str]) -> None:
        """Let events from an archive into a bus again, for the rules with these ARNs, or for all if there are none.

        Raises StoreUnavailable.
        """
        routed = _Routed(self._now_ms())
        for event in events:
            self._route(key, event, routed, only=rules)
        await self._hand_over(routed)

    async def fire(self, active: ActiveRule, scheduled_ms: int) -> None:
        """Send a rule's targets the event of its schedule, and note that this was done, in one.

        Raises StoreUnavailable.
        """
        rule = active.rule
        routed = _Routed(self._now_ms())
        self._send(active, scheduled_event(rule, new_request_id(), scheduled_ms), None, routed, forwarded=False)
        await self._hand_over(routed, marks={rule.mark: scheduled_ms})

    def _permitted_bus(self, name: str | None, account_id: str, region: str, event: Event) -> BusKey:
        """The bus that an entry names, which lets the event in. Raises RefusedEntry."""
        key = parse_bus(name, account_id, region)
        if not self._lets_in(key, account_id, event, {}):
            raise RefusedEntry(
                ACCESS_DENIED,
                f"User: arn:aws:iam::{account_id}:root is not authorized to perform: {PUT_EVENTS} on resource: "
                f"{key.arn} because no resource-based policy allows the {PUT_EVENTS} action",
            )
        return key

    def _lets_in(self, key: BusKey, account_id: str, event: Event, context: Mapping[str, str]) -> bool:
        bus = self._catalog.find_bus(key)
        if bus is None or (not bus.policy and key.account_id == account_id):
            return key.account_id == account_id
        about = {"events:source": event["source"], "events:detail-type": event["detail-type"], **context}
        return allows(bus.policy, Access(PUT_EVENTS, account_id, key, about))

    def _route(
        self,
        key: BusKey,
        event: Event,
        routed: _Routed,
        *,
        only: frozenset[str] = frozenset(),
        forwarded: bool = False,
        text: str | None = None,
    ) -> None:
        if self._catalog.find_bus(key) is None:
            logger.warning("An event for the bus %s is lost: there is no such bus.", key.arn)
            return
        if REPLAY_NAME not in event:
            for archive in self._catalog.archives_of(key):
                if archive.pattern is None or archive.pattern.matches(event):
                    text = text or to_json(event)
                    routed.archived.append(_archived(archive.archive.id, event, routed.ingested_ms, text))
        for active in self._catalog.candidates(key, event["source"]):
            if only and active.rule.arn not in only:
                continue
            if active.pattern is not None and active.pattern.matches(event):
                text = text or to_json(event)
                self._send(active, event, text, routed, forwarded=forwarded)

    def _send(self, active: ActiveRule, event: Event, text: str | None, routed: _Routed, *, forwarded: bool) -> None:
        rule = active.rule
        delivery = Delivery(rule.arn, rule.name, rule.bus, event, routed.ingested_ms, text or to_json(event))
        for target, send in active.targets:
            if send is not None:
                routed.dispatches.append(send(delivery))
                if target.service == LOGS:
                    routed.streams.add((GroupKey(*target.log_group()), log_stream(rule.arn)))
            elif forwarded:
                refused = undeliverable(target, delivery, THIRD_HOP)
                routed.dispatches += [refused] if refused else []
            else:
                self._forward(target, delivery, routed)

    def _forward(self, target: Target, delivery: Delivery, routed: _Routed) -> None:
        """Send an event on to another bus; it keeps its id, source, account and region."""
        key = target.bus()
        if self._catalog.find_bus(key) is None:
            refused: Dispatch | None = undeliverable(target, delivery, RESOURCE_GONE)
        elif not self._lets_in(key, delivery.owner.account_id, delivery.event, {"aws:sourcearn": delivery.rule_arn}):
            refused = undeliverable(target, delivery, NOT_PERMITTED)
        else:
            self._route(key, delivery.event, routed, forwarded=True, text=delivery.text)
            return
        if refused is None:
            logger.warning("An event of the rule %s is dropped: %s does not take it.", delivery.rule_arn, key.arn)
        else:
            routed.dispatches.append(refused)

    async def _hand_over(self, routed: _Routed, *, marks: Mapping[str, int] | None = None, trace: str = "") -> None:
        for group, stream in routed.streams:
            # It is there already, or there is no such group, of which the dispatch will hear.
            with contextlib.suppress(ServiceError):
                await self._logs.create_log_stream(group, stream)
        if routed.archived:
            await self._store.archive(routed.archived)
        if routed.dispatches or marks:
            await self._dispatcher.accept(routed.dispatches, marks=marks, trace=trace)

    def _now_ms(self) -> int:
        return int(self._clock.time() * _MS)


def _archived(archive_id: str, event: Event, now_ms: int, text: str) -> ArchivedEvent:
    try:
        time_ms = int(datetime.fromisoformat(event["time"]).timestamp() * _MS)
    except (ValueError, OverflowError):
        time_ms = now_ms
    return ArchivedEvent(archive_id, time_ms, now_ms, text)

"""What is configured of EventBridge, in memory: buses, rules ready to match, archives and replays.

A change is on disk before it is in memory. Reading takes no time and no lock.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lambdad.domain.event_archives import Archive, ArchiveKey, Replay
from lambdad.domain.event_buses import DEFAULT_BUS, BusKey, EventBus
from lambdad.domain.event_patterns import InvalidEventPatternException, Pattern, compile_pattern
from lambdad.domain.event_rules import Rule, exact_sources
from lambdad.domain.event_targets import EVENTS, Sender, Target, sender
from lambdad.ports.event_buses import EventBusStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActiveRule:
    """A rule, its pattern if it has one, and its targets with what makes their dispatches; None for a bus."""

    rule: Rule
    pattern: Pattern | None
    targets: Sequence[tuple[Target, Sender | None]]


@dataclass(frozen=True, slots=True)
class ActiveArchive:
    """An archive and its pattern; None takes every event."""

    archive: Archive
    pattern: Pattern | None


class _Matching:
    """The rules of a bus that are enabled and have a pattern, by the sources that their patterns name."""

    def __init__(self, rules: Iterable[ActiveRule]) -> None:
        self._any: list[ActiveRule] = []
        self._by_source: dict[str, list[ActiveRule]] = {}
        for active in rules:
            if active.pattern is None or not active.rule.enabled:
                continue
            sources = exact_sources(active.rule.pattern)
            if sources is None:
                self._any.append(active)
            for source in sources or ():
                self._by_source.setdefault(source, []).append(active)

    def candidates(self, source: str) -> Iterable[ActiveRule]:
        return itertools.chain(self._by_source.get(source, ()), self._any)


class EventCatalog:
    """The configuration, read from a store once. What changes it holds `changing` from its first look to the end."""

    def __init__(self, store: EventBusStore) -> None:
        self._store = store
        self._buses: dict[BusKey, EventBus] = {}
        self._rules: dict[BusKey, dict[str, ActiveRule]] = {}
        self._matching: dict[BusKey, _Matching] = {}
        self._archives: dict[ArchiveKey, ActiveArchive] = {}
        self._archives_of: dict[BusKey, list[ActiveArchive]] = {}
        self._replays: dict[tuple[str, str, str], Replay] = {}
        self.changing = asyncio.Lock()

    async def load(self) -> None:
        """Raises StoreUnavailable."""
        stored = await self._store.load()
        self._buses = {bus.key: bus for bus in stored.buses}
        for rule in stored.rules:
            self._rules.setdefault(rule.bus, {})[rule.name] = _activated(rule)
        self._archives = {archive.key: _activated_archive(archive) for archive in stored.archives}
        self._know_archives()
        self._replays = {(replay.account_id, replay.region, replay.name): replay for replay in stored.replays}

    # Buses.

    def find_bus(self, key: BusKey) -> EventBus | None:
        """A bus; the default one of any account and region is always there."""
        return self._buses.get(key) or (EventBus(key) if key.is_default else None)

    def bus(self, key: BusKey) -> EventBus:
        """Raises ResourceNotFoundException."""
        found = self.find_bus(key)
        if found is None:
            raise key.not_found()
        return found

    def buses(self, account_id: str, region: str) -> list[EventBus]:
        """By name, the default one among them."""
        default = BusKey(account_id, region, DEFAULT_BUS)
        keys = {key for key in self._buses if (key.account_id, key.region) == (account_id, region)} | {default}
        return [self.bus(key) for key in sorted(keys)]

    async def put_bus(self, bus: EventBus) -> None:
        await self._store.put_bus(bus)
        self._buses[bus.key] = bus

    async def delete_bus(self, key: BusKey) -> None:
        await self._store.delete_bus(key)
        for known in (self._buses, self._rules, self._matching):
            known.pop(key, None)

    # Rules.

    def find_rule(self, key: BusKey, name: str) -> ActiveRule | None:
        return self._rules.get(key, {}).get(name)

    def rule(self, key: BusKey, name: str) -> ActiveRule:
        """Raises ResourceNotFoundException for the bus as for the rule."""
        self.bus(key)
        found = self.find_rule(key, name)
        if found is None:
            raise key.rule_not_found(name)
        return found

    def rules(self, key: BusKey) -> list[ActiveRule]:
        """By name. Raises ResourceNotFoundException."""
        self.bus(key)
        rules = self._rules.get(key, {})
        return [rules[name] for name in sorted(rules)]

    def all_rules(self) -> list[ActiveRule]:
        return [active for rules in self._rules.values() for active in rules.values()]

    def candidates(self, key: BusKey, source: str) -> Iterable[ActiveRule]:
        """The enabled rules of a bus that may match an event from this source."""
        rules = self._rules.get(key)
        if not rules:  # nothing is remembered of the many default buses that nobody uses
            return ()
        matching = self._matching.get(key)
        if matching is None:
            matching = self._matching[key] = _Matching(rules.values())
        return matching.candidates(source)

    async def put_rule(self, rule: Rule) -> ActiveRule:
        active = _activated(rule)
        await self._store.put_rule(rule)
        self._rules.setdefault(rule.bus, {})[rule.name] = active
        self._matching.pop(rule.bus, None)
        return active

    async def delete_rule(self, rule: Rule) -> None:
        await self._store.delete_rule(rule.bus, rule.name)
        del self._rules[rule.bus][rule.name]
        self._matching.pop(rule.bus, None)

    # Archives.

    def archive(self, key: ArchiveKey) -> Archive:
        """Raises ResourceNotFoundException."""
        found = self._archives.get(key)
        if found is None:
            raise key.not_found()
        return found.archive

    def has_archive(self, key: ArchiveKey) -> bool:
        return key in self._archives

    def archives(self) -> list[Archive]:
        """Of every account, by name."""
        return [self._archives[key].archive for key in sorted(self._archives)]

    def archives_of(self, key: BusKey) -> Sequence[ActiveArchive]:
        return self._archives_of.get(key, ())

    async def put_archive(self, archive: Archive) -> None:
        active = _activated_archive(archive)
        await self._store.put_archive(archive)
        self._archives[archive.key] = active
        self._know_archives()

    async def delete_archive(self, key: ArchiveKey) -> None:
        await self._store.delete_archive(key)
        del self._archives[key]
        self._know_archives()

    def _know_archives(self) -> None:
        self._archives_of = {}
        for active in self._archives.values():
            self._archives_of.setdefault(active.archive.bus, []).append(active)

    # Replays.

    def find_replay(self, account_id: str, region: str, name: str) -> Replay | None:
        return self._replays.get((account_id, region, name))

    def replays(self) -> list[Replay]:
        """Of every account, by name."""
        return [self._replays[key] for key in sorted(self._replays)]

    async def put_replay(self, replay: Replay) -> None:
        await self._store.put_replay(replay)
        self._replays[replay.account_id, replay.region, replay.name] = replay

    async def delete_replay(self, replay: Replay) -> None:
        await self._store.delete_replay(replay.account_id, replay.region, replay.name)
        self._replays.pop((replay.account_id, replay.region, replay.name), None)


def _activated(rule: Rule) -> ActiveRule:
    targets = [(target, None if target.service == EVENTS else sender(target)) for target in rule.targets]
    return ActiveRule(rule, _pattern(rule.pattern, rule.arn), targets)


def _activated_archive(archive: Archive) -> ActiveArchive:
    return ActiveArchive(archive, _pattern(archive.pattern, archive.key.arn))


def _pattern(text: str, arn: str) -> Pattern | None:
    """Patterns are checked before they are put: only one that an older lambdad has let in is none."""
    try:
        return compile_pattern(text) if text else None
    except InvalidEventPatternException as error:
        logger.error("%s matches nothing: %s", arn, error.message)
        return Pattern([])

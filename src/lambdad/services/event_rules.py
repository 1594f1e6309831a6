"""Rules and their targets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from lambdad.domain.dispatches import LAMBDA, SQS
from lambdad.domain.errors import ValidationException
from lambdad.domain.event_buses import (
    RULES_MAX,
    TARGETS_MAX,
    BusKey,
    limit_exceeded,
    merged_tags,
)
from lambdad.domain.event_patterns import compile_pattern
from lambdad.domain.event_rules import DISABLED, ENABLED, Rule, State, check_rule
from lambdad.domain.event_targets import EVENTS, LOGS, Target, UnsupportedTarget, read_target
from lambdad.domain.schedules import InvalidScheduleExpression, Schedule, parse
from lambdad.ports.clock import Clock
from lambdad.services.event_catalog import EventCatalog
from lambdad.services.event_router import EventRouter
from lambdad.services.timetable import Fire

_NATIVE: Final = frozenset({LAMBDA, LOGS, EVENTS})
_MS: Final = 1000


class Schedules(Protocol):
    """The timetable."""

    def set(self, name: str, schedule: Schedule, *, since_ms: int, fire: Fire) -> None: ...

    def remove(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class FailedTarget:
    """A target that was not put, or not removed."""

    target_id: str
    error_code: str
    error_message: str


class EventRules:
    """Operations on rules. Every one raises ResourceNotFoundException for a bus that does not exist.

    `serves` says whether a service, by botocore's name, is there to be called.
    """

    def __init__(
        self,
        catalog: EventCatalog,
        router: EventRouter,
        schedules: Schedules,
        clock: Clock,
        serves: Callable[[str], bool],
    ) -> None:
        self._catalog = catalog
        self._router = router
        self._schedules = schedules
        self._clock = clock
        self._serves = serves

    def start(self) -> None:
        """Set the schedules of what was loaded."""
        for active in self._catalog.all_rules():
            if active.rule.schedule:
                self._set_schedule(active.rule)

    async def put_rule(
        self,
        bus: BusKey,
        name: str,
        *,
        pattern: str = "",
        schedule: str = "",
        state: State = ENABLED,
        description: str = "",
        role_arn: str = "",
        tags: Sequence[Mapping[str, str]] = (),
    ) -> Rule:
        """Create a rule, or put another in the place of one; its targets and tags stay then.

        Raises ValidationException, InvalidEventPatternException and LimitExceededException.
        """
        async with self._catalog.changing:
            self._catalog.bus(bus)
            check_rule(bus, pattern, schedule)
            if pattern:
                compile_pattern(pattern)
            if schedule:
                _parse(schedule)
            before = self._catalog.find_rule(bus, name)
            if before is None and len(self._catalog.rules(bus)) >= RULES_MAX:
                raise limit_exceeded()
            known = before.rule if before else Rule(bus, name, state=DISABLED, tags=merged_tags({}, tags))
            rule = replace(
                known, pattern=pattern, schedule=schedule, state=state, description=description, role_arn=role_arn
            )
            return await self._put(known, rule)

    async def delete_rule(self, bus: BusKey, name: str) -> None:
        """Deleting what is not there does nothing. Raises ValidationException while it has targets."""
        async with self._catalog.changing:
            self._catalog.bus(bus)
            active = self._catalog.find_rule(bus, name)
            if active is None:
                return
            if active.rule.targets:
                raise ValidationException("Rule can't be deleted since it has targets.")
            await self._catalog.delete_rule(active.rule)
            if active.rule.schedule:
                self._schedules.remove(active.rule.mark)

    async def set_state(self, bus: BusKey, name: str, state: State) -> None:
        """Enable or disable. Raises ResourceNotFoundException."""
        async with self._catalog.changing:
            known = self._catalog.rule(bus, name).rule
            if known.state != state:
                await self._put(known, replace(known, state=state))

    def rule(self, bus: BusKey, name: str) -> Rule:
        """Raises ResourceNotFoundException."""
        return self._catalog.rule(bus, name).rule

    def rules(self, bus: BusKey) -> list[Rule]:
        """By name."""
        return [active.rule for active in self._catalog.rules(bus)]

    async def put_targets(self, bus: BusKey, name: str, targets: Sequence[Mapping[str, Any]]) -> list[FailedTarget]:
        """Add targets, or put others in the place of those with their ids. Returns those that cannot be served.

        Raises ResourceNotFoundException, ValidationException and LimitExceededException; nothing is changed then.
        """
        async with self._catalog.changing:
            known = self._catalog.rule(bus, name).rule
            failed: list[FailedTarget] = []
            merged = {target.id: target for target in known.targets}
            for given in targets:
                try:
                    target = read_target(given, bus)
                    self._check_served(target)
                except UnsupportedTarget as error:
                    failed.append(FailedTarget(given["Id"], error.code, error.message))
                else:
                    merged[target.id] = target
            if len(merged) > TARGETS_MAX:
                raise limit_exceeded()
            await self._put(known, replace(known, targets=tuple(merged.values())))
            return failed

    async def remove_targets(self, bus: BusKey, name: str, ids: Sequence[str]) -> list[FailedTarget]:
        """Returns those that are not there. Raises ResourceNotFoundException."""
        async with self._catalog.changing:
            known = self._catalog.rule(bus, name).rule
            left = {target.id: target for target in known.targets}
            failed = [
                FailedTarget(
                    target_id,
                    "ResourceNotFoundException",
                    f"Rule {name} does not have a target with the Id {target_id}.",
                )
                for target_id in dict.fromkeys(ids)
                if left.pop(target_id, None) is None
            ]
            await self._put(known, replace(known, targets=tuple(left.values())))
            return failed

    def rule_names_by_target(self, bus: BusKey, target_arn: str) -> list[str]:
        return [rule.name for rule in self.rules(bus) if any(target.arn == target_arn for target in rule.targets)]

    async def put_tags(self, bus: BusKey, name: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        """Raises ResourceNotFoundException, and what `change` raises."""
        async with self._catalog.changing:
            known = self._catalog.rule(bus, name).rule
            await self._put(known, replace(known, tags=change(known.tags)))

    async def _put(self, before: Rule, rule: Rule) -> Rule:
        anew = (before.schedule, before.enabled) != (rule.schedule, rule.enabled)
        if anew and rule.schedule:
            rule = replace(rule, scheduled_since_ms=int(self._clock.time() * _MS))
        if rule != before or self._catalog.find_rule(rule.bus, rule.name) is None:
            await self._catalog.put_rule(rule)
        if anew and (before.schedule or rule.schedule):
            self._set_schedule(rule)
        return rule

    def _set_schedule(self, rule: Rule) -> None:
        if rule.schedule and rule.enabled:
            fire = functools.partial(self._fire, rule.bus, rule.name)
            self._schedules.set(rule.mark, _parse(rule.schedule), since_ms=rule.scheduled_since_ms, fire=fire)
        else:
            self._schedules.remove(rule.mark)

    async def _fire(self, bus: BusKey, name: str, scheduled_ms: int) -> None:
        active = self._catalog.find_rule(bus, name)
        if active is not None and active.rule.enabled and active.rule.schedule:
            await self._router.fire(active, scheduled_ms)

    def _check_served(self, target: Target) -> None:
        """Raises UnsupportedTarget."""
        services = [target.service, *([SQS] if target.dead_letter_arn else [])]
        for service in services:
            if service not in _NATIVE and not self._serves(service):
                raise UnsupportedTarget(f"The service {service} has no endpoint in lambdad.")


def _parse(schedule: str) -> Schedule:
    """Raises ValidationException."""
    try:
        return parse(schedule)
    except InvalidScheduleExpression:
        raise ValidationException("Parameter ScheduleExpression is not valid.") from None

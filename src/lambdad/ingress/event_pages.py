"""The pages `/_lambdad/events...`: asynchronous work as people see it, sent again and taken away.

Members are named as in `ports/events`. `function` is a function's name or ARN, with or without a version or alias, or
the ARN of another target; all of them when it is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Protocol

import msgspec

from lambdad.domain.arns import parse_function_name
from lambdad.ingress.internal import Pages
from lambdad.ingress.messages import Request
from lambdad.ingress.page_requests import from_body, from_query
from lambdad.ports.clock import Clock
from lambdad.ports.events import EventRow, LaneSummary, Selection

ROWS: Final = 100
ROWS_MAX: Final = 10_000
ID_MAX: Final = 2**63 - 1


class QueuedEvents(Protocol):
    """The queue, as these pages need it. Every method raises StoreUnavailable."""

    async def summaries(self) -> Sequence[LaneSummary]: ...

    async def rows(self, selection: Selection, *, dead: bool, limit: int) -> Sequence[EventRow]: ...

    async def endings(self, request_ids: Sequence[str]) -> Sequence[EventRow]: ...

    async def redrive(self, selection: Selection) -> int:
        """Send dead events again; returns how many."""

    async def purge(self, selection: Selection, *, dead: bool) -> int:
        """End what waits, or forget what is dead; returns how many."""


class _Of(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose events. Account and region are those of a function that is named without them."""

    function: str = ""
    account_id: str = ""
    region: str = ""


class _Listed(_Of, frozen=True):
    dead: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=ROWS_MAX)] = ROWS


class _Asked(_Of, frozen=True, kw_only=True):
    request_id: str


class _Redriven(_Of, frozen=True):
    ids: tuple[Annotated[int, msgspec.Meta(ge=1, le=ID_MAX)], ...] = ()


class _Purged(_Redriven, frozen=True):
    dead: bool = False


def event_pages(events: QueuedEvents, clock: Clock, account_id: str, region: str) -> Pages:
    """The pages. `account_id` and `region` are those of requests that name none."""
    pages = _EventPages(events, clock, account_id, region)
    return {
        ("GET", "events"): pages.summaries,
        ("GET", "events/list"): pages.rows,
        ("GET", "events/outcome"): pages.outcome,
        ("POST", "events/redrive"): pages.redrive,
        ("POST", "events/purge"): pages.purge,
    }


class _EventPages:
    def __init__(self, events: QueuedEvents, clock: Clock, account_id: str, region: str) -> None:
        self._events = events
        self._clock = clock
        self._account_id = account_id
        self._region = region

    async def summaries(self, request: Request) -> Mapping[str, Any]:
        of = from_query(request, _Of)
        lane = self._lane(of)
        found = [
            summary
            for summary in await self._events.summaries()
            if not lane or summary.lane == lane or summary.lane.startswith(f"{lane}:")
        ]
        return {**self._context(of), "functions": msgspec.to_builtins(found)}

    async def rows(self, request: Request) -> Mapping[str, Any]:
        listed = from_query(request, _Listed)
        rows = await self._events.rows(Selection(self._lane(listed)), dead=listed.dead, limit=listed.limit)
        return {**self._context(listed), "events": msgspec.to_builtins(rows)}

    async def outcome(self, request: Request) -> Mapping[str, Any]:
        """How an invocation has ended; nothing when it has not, or when that was forgotten."""
        asked = from_query(request, _Asked)
        rows = await self._events.endings([asked.request_id])
        return {**self._context(asked), "events": msgspec.to_builtins(rows)}

    async def redrive(self, request: Request) -> Mapping[str, Any]:
        redriven = await from_body(request, _Redriven)
        return {"events": await self._events.redrive(Selection(self._lane(redriven), redriven.ids))}

    async def purge(self, request: Request) -> Mapping[str, Any]:
        purged = await from_body(request, _Purged)
        selection = Selection(self._lane(purged), purged.ids)
        return {"events": await self._events.purge(selection, dead=purged.dead)}

    def _lane(self, of: _Of) -> str:
        """What `Selection.lane` calls them. Raises ServiceError for what is no function's name."""
        if not of.function or of.function.startswith("arn:"):
            return of.function
        return parse_function_name(of.function, of.account_id or self._account_id, of.region or self._region).arn

    def _context(self, of: _Of) -> Mapping[str, Any]:
        """What a reader needs for ages, and to tell which functions can be named without their ARN."""
        return {
            "now_ms": int(self._clock.time() * 1000),
            "account_id": of.account_id or self._account_id,
            "region": of.region or self._region,
        }

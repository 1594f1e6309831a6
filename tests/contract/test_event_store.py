"""What every event store does: the SQLite file and the in-memory twin alike."""

from __future__ import annotations

import asyncio
import functools
import itertools
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdad.adapters.memory_events import MemoryEventStore
from lambdad.adapters.sqlite_events import SqliteEventStore
from lambdad.domain.events import SUCCEEDED, Condition, Ending, Event, Purpose
from lambdad.ports.events import Changes, EventRow, EventStore, LaneState, LaneSummary, Selection
from lambdad.ports.store import StoreUnavailable

PREFIX = "arn:aws:lambda:us-east-1:000000000000:function:"
ORDERS, LIVE, OTHER, LONGER = f"{PREFIX}orders", f"{PREFIX}orders:live", f"{PREFIX}other", f"{PREFIX}orders-2"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:failures"
NOW_MS = 1_700_000_000_000
EVERYTHING = 1 << 30
ALL = Selection()
BAD = [condition for condition in Condition if condition not in SUCCEEDED and condition is not Condition.PURGED]


def event_of(request: object = "r", lane: str = ORDERS, due_ms: int = NOW_MS, **fields: Any) -> Event:
    defaults: dict[str, Any] = {"payload": f'"{request}"'.encode(), "accepted_ms": NOW_MS}
    return Event(0, lane, str(request), due_ms=due_ms, **{**defaults, **fields})


def delivery_of(request: object = "r", lane: str = QUEUE, **fields: Any) -> Event:
    return event_of(request, lane, purpose=Purpose.ON_FAILURE, source=ORDERS, **fields)


def ended(event: Event, condition: Condition = Condition.SUCCESS, after_ms: int = 1, *follow_ups: Event) -> Ending:
    return Ending(event, condition, NOW_MS + after_ms, follow_ups)


@dataclass
class Stores:
    """The store under test, and those opened after it on the same data."""

    folder: Path | None
    opened: list[EventStore] = field(default_factory=list)

    def open(self) -> EventStore:
        if self.folder is not None or not self.opened:
            store = MemoryEventStore() if self.folder is None else SqliteEventStore(self.folder / "events.db")
            self.opened.append(store)
        return self.opened[-1]


@pytest.fixture(params=["sqlite", "memory"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    stores = Stores(tmp_path if request.param == "sqlite" else None)
    yield stores
    for store in stores.opened:
        asyncio.run(store.close())


@pytest.fixture
def store(stores: Stores) -> EventStore:
    return stores.open()


def in_event_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 60))

    return run


async def accepted(store: EventStore, *events: Event) -> list[Event]:
    ids = await store.apply(Changes(accepted=list(events)))
    return [replace(event, id=number) for event, number in zip(events, ids, strict=True)]


async def leased(store: EventStore, *events: Event) -> list[Event]:
    ids = await store.apply(Changes(leased=list(events)))
    return [replace(event, id=number) for event, number in zip(events, ids, strict=True)]


async def end(store: EventStore, *endings: Ending) -> None:
    assert list(await store.apply(Changes(endings=list(endings)))) == []


async def dead(store: EventStore, *events: Event, after_ms: int = 1) -> list[Event]:
    """Events that have ended badly, each a millisecond after the one before."""
    taken = await leased(store, *events)
    endings = (ended(event, Condition.RETRIES_EXHAUSTED, after_ms + number) for number, event in enumerate(taken))
    await end(store, *endings)
    return taken


async def take(store: EventStore, lane: str = ORDERS, due_ms: int = NOW_MS, limit: int = 100) -> list[Event]:
    return list((await store.lease(lane, due_ms, limit, EVERYTHING)).events)


async def summary(store: EventStore, lane: str = ORDERS) -> LaneSummary:
    found = {found.lane: found for found in await store.summaries()}
    return found.get(lane, LaneSummary(lane))


async def in_queue(store: EventStore, selection: Selection = ALL, limit: int = 1000) -> Sequence[EventRow]:
    return await store.rows(selection, dead=False, limit=limit)


async def dead_rows(store: EventStore, selection: Selection = ALL, limit: int = 1000) -> Sequence[EventRow]:
    return await store.rows(selection, dead=True, limit=limit)


def requests(rows: Sequence[Event] | Sequence[EventRow]) -> list[str]:
    return [row.request_id for row in rows]


@in_event_loop
async def test_an_empty_store_has_nothing(store: EventStore):
    assert list(await store.apply(Changes())) == []
    assert await store.recover() == 0
    assert list(await store.lanes()) == []
    taken = await store.lease(ORDERS, NOW_MS, 10, EVERYTHING)
    assert (list(taken.events), taken.next_due_ms) == ([], None)
    taken = await store.lease_older(ORDERS, NOW_MS, 10, EVERYTHING)
    assert (list(taken.events), taken.next_due_ms) == ([], None)
    await store.hasten(ORDERS, NOW_MS)
    assert list(await store.summaries()) == []
    assert list(await in_queue(store)) == []
    assert list(await dead_rows(store)) == []
    assert list(await store.endings(["r"])) == []
    assert list(await store.redrive(ALL, NOW_MS)) == []
    assert list(await store.purge(ALL, NOW_MS, dead=False, limit=10)) == []
    assert list(await store.purge(ALL, NOW_MS, dead=True, limit=10)) == []
    assert await store.forget_endings(0) == 0


# Changes


@in_event_loop
async def test_an_event_comes_back_as_it_was_accepted(store: EventStore):
    whole = event_of(
        "r1",
        LIVE,
        payload=bytes(range(256)) * 1024,
        accepted_ms=NOW_MS - 5,
        due_ms=NOW_MS + 5,
        purpose=Purpose.DEAD_LETTER,
        trace="Root=1-5759e988-bd862e3fe1be46a994272793",
        invocations=2,
        backoffs=3,
        error_code=200,
        error_message="Zoë's \0 error",
        source=ORDERS,
    )
    (number,) = await store.apply(Changes(accepted=[whole]))
    assert number > 0
    assert await take(store, LIVE, NOW_MS + 5) == [replace(whole, id=number)]


@in_event_loop
async def test_ids_are_those_of_the_accepted_then_of_the_leased_and_grow(store: EventStore):
    waiting, taken = [event_of("w1"), event_of("w2", OTHER)], [event_of("l1"), event_of("l2", OTHER)]
    ids = list(await store.apply(Changes(accepted=waiting, leased=taken)))
    assert ids == sorted(set(ids))
    by_id = {row.id: row.request_id for row in await in_queue(store)}
    assert [by_id[number] for number in ids] == ["w1", "w2", "l1", "l2"]
    later = await store.apply(Changes(leased=[event_of("l3")], accepted=[event_of("w3")]))
    assert min(later) > max(ids)


@in_event_loop
async def test_an_id_is_never_used_again(stores: Stores):
    store = stores.open()
    for _ in range(3):
        (event,) = await leased(store, event_of())
        await end(store, ended(event))
        assert await store.forget_endings(0) == 1
        store = stores.open()
        await store.recover()
        (next_event,) = await leased(store, event_of())
        assert next_event.id > event.id


@in_event_loop
async def test_accepted_events_wait_and_leased_ones_do_not(store: EventStore):
    await store.apply(Changes(accepted=[event_of("waits")], leased=[event_of("runs")]))
    assert {row.request_id: row.leased for row in await in_queue(store)} == {"waits": False, "runs": True}
    assert requests(await take(store)) == ["waits"]
    assert await take(store) == []


@in_event_loop
async def test_a_postponed_event_waits_again_with_its_counters(store: EventStore):
    (event,) = await leased(store, event_of("r"))
    back = replace(
        event,
        due_ms=NOW_MS + 1000,
        trace="Root=1",
        invocations=1,
        backoffs=2,
        error_code=500,
        error_message="late",
    )
    assert list(await store.apply(Changes(postponed=[back]))) == []
    assert await take(store, due_ms=NOW_MS + 999) == []
    assert await take(store, due_ms=NOW_MS + 1000) == [back]


@in_event_loop
async def test_postponing_changes_neither_payload_nor_age_nor_lane(store: EventStore):
    (event,) = await leased(store, event_of("r"))
    odd = replace(event, payload=b"other", accepted_ms=1, lane=OTHER, request_id="q", invocations=1)
    await store.apply(Changes(postponed=[odd]))
    assert await take(store) == [replace(event, invocations=1)]


@in_event_loop
async def test_an_ending_removes_its_event_and_accepts_the_follow_ups(store: EventStore):
    (event,) = await leased(store, event_of("r"))
    final = replace(event, invocations=3, error_code=200, error_message="no")
    await end(store, ended(final, Condition.RETRIES_EXHAUSTED, 7, delivery_of("r", QUEUE), delivery_of("r", OTHER)))
    assert [(row.lane, row.purpose, row.source, row.leased) for row in await in_queue(store)] == [
        (QUEUE, Purpose.ON_FAILURE, ORDERS, False),
        (OTHER, Purpose.ON_FAILURE, ORDERS, False),
    ]
    (delivery,) = await take(store, QUEUE)
    assert delivery.payload == b'"r"'
    assert delivery.id > event.id
    (row,) = await store.endings(["r"])
    assert row == EventRow(
        event.id,
        ORDERS,
        "r",
        Purpose.INVOCATION,
        NOW_MS,
        NOW_MS,
        3,
        0,
        200,
        "no",
        "",
        condition=Condition.RETRIES_EXHAUSTED,
        ended_ms=NOW_MS + 7,
    )


@in_event_loop
async def test_an_event_that_waits_can_end_too(store: EventStore):
    (event,) = await accepted(store, event_of("r"))
    await end(store, ended(event, Condition.FUNCTION_NOT_FOUND))
    assert list(await in_queue(store)) == []
    assert await take(store) == []
    assert [row.condition for row in await store.endings(["r"])] == [Condition.FUNCTION_NOT_FOUND]


@in_event_loop
async def test_an_event_ends_once(store: EventStore):
    event, beside = await leased(store, event_of("r"), event_of("beside"))
    first = ended(event, Condition.RETRIES_EXHAUSTED, 1, delivery_of("r"))
    second = ended(event, Condition.SUCCESS, 2, delivery_of("r"), delivery_of("r"))
    await end(store, first, second)
    await end(store, second, ended(beside))
    await end(store, first)
    assert [row.condition for row in await store.endings(["r"])] == [Condition.RETRIES_EXHAUSTED]
    assert [row.condition for row in await store.endings(["beside"])] == [Condition.SUCCESS]
    assert len(await in_queue(store)) == 1


@in_event_loop
async def test_what_is_not_in_the_queue_is_passed_over(store: EventStore):
    gone, unknown = event_of("gone"), replace(event_of("unknown"), id=99)
    (gone,) = await leased(store, gone)
    await end(store, ended(gone))
    changes = Changes(postponed=[gone, unknown], endings=[ended(unknown, Condition.REFUSED, 1, delivery_of("unknown"))])
    assert list(await store.apply(changes)) == []
    assert list(await in_queue(store)) == []
    assert list(await store.endings(["unknown"])) == []
    assert list(await dead_rows(store)) == []


@in_event_loop
async def test_changes_of_all_kinds_go_together(store: EventStore):
    runs, fails = await leased(store, event_of("runs"), event_of("fails"))
    ids = await store.apply(
        Changes(
            accepted=[event_of("new", due_ms=NOW_MS + 1)],
            leased=[event_of("direct")],
            postponed=[replace(fails, invocations=1, due_ms=NOW_MS + 2)],
            endings=[ended(runs, Condition.SUCCESS, 1, delivery_of("runs", due_ms=NOW_MS + 3))],
        )
    )
    assert len(ids) == 2
    assert requests(await in_queue(store)) == ["direct", "new", "fails", "runs"]


@in_event_loop
async def test_changes_made_at_the_same_time_are_all_made(store: EventStore):
    answers = await asyncio.gather(
        *(store.apply(Changes(accepted=[event_of(number, f"{ORDERS}{number % 7}")])) for number in range(200))
    )
    ids = [number for (number,) in answers]
    assert len(set(ids)) == 200
    assert {row.id: row.request_id for row in await in_queue(store)} == {
        number: str(request) for request, number in enumerate(ids)
    }


# A daemon that died


@in_event_loop
async def test_what_was_leased_waits_again_after_a_restart(stores: Stores):
    store = stores.open()
    await accepted(store, event_of("later", due_ms=NOW_MS + 1000), event_of("due", accepted_ms=NOW_MS - 1))
    await leased(store, event_of("direct", invocations=1))
    assert requests((await store.lease_older(ORDERS, NOW_MS + 1, 1, EVERYTHING)).events) == ["due"]
    assert requests((await store.lease_older(ORDERS, NOW_MS + 1, 1, EVERYTHING)).events) == ["later"]

    store = stores.open()
    assert await store.recover() == 3
    assert await store.recover() == 0
    found = await take(store)
    assert requests(found) == ["due", "later", "direct"]
    assert [event.invocations for event in found] == [0, 0, 1]


@in_event_loop
async def test_everything_is_there_after_a_restart(stores: Stores):
    store = stores.open()
    await accepted(store, event_of("waits"), event_of("other", OTHER))
    await dead(store, event_of("dead"))
    (event,) = await leased(store, event_of("done"))
    await end(store, ended(event, Condition.SUCCESS, 1, delivery_of("done")))
    before = await store.summaries(), await in_queue(store), await dead_rows(store), await store.endings(["done"])

    store = stores.open()
    assert await store.recover() == 0
    after = await store.summaries(), await in_queue(store), await dead_rows(store), await store.endings(["done"])
    assert after == before
    assert sorted(state.lane for state in await store.lanes()) == sorted([ORDERS, OTHER, QUEUE])
    await accepted(store, event_of("new", "a new lane"))
    assert requests(await take(store, "a new lane")) == ["new"]
    assert requests(await take(store, QUEUE)) == ["done"]


# Lanes and leases


@in_event_loop
async def test_lanes_are_those_in_which_something_waits(store: EventStore):
    await accepted(store, event_of(1, due_ms=NOW_MS + 9), event_of(2, due_ms=NOW_MS + 3), event_of(3, OTHER))
    await leased(store, event_of(4, due_ms=NOW_MS - 9), event_of(5, QUEUE))
    await dead(store, event_of(6, LIVE))
    assert sorted(await store.lanes(), key=lambda state: state.lane) == [
        LaneState(ORDERS, NOW_MS + 3),
        LaneState(OTHER, NOW_MS),
    ]
    await take(store, OTHER)
    assert list(await store.lanes()) == [LaneState(ORDERS, NOW_MS + 3)]


@in_event_loop
async def test_a_lease_takes_what_is_due_the_longest_due_first(store: EventStore):
    offsets = [30, 10, 20, 10, 40, 0]
    events = [event_of(number, due_ms=NOW_MS + due_ms) for number, due_ms in enumerate(offsets)]
    await accepted(store, *events, event_of("other", OTHER, due_ms=0))
    taken = await store.lease(ORDERS, NOW_MS + 20, 3, EVERYTHING)
    assert requests(taken.events) == ["5", "1", "3"]
    assert taken.next_due_ms == NOW_MS + 20
    taken = await store.lease(ORDERS, NOW_MS + 20, 3, EVERYTHING)
    assert requests(taken.events) == ["2"]
    assert taken.next_due_ms == NOW_MS + 30
    taken = await store.lease(ORDERS, NOW_MS + 50, 3, EVERYTHING)
    assert requests(taken.events) == ["0", "4"]
    assert taken.next_due_ms is None
    assert requests(await take(store, OTHER)) == ["other"]


@in_event_loop
async def test_a_lease_of_nothing_tells_when_something_is_due(store: EventStore):
    await accepted(store, event_of(due_ms=NOW_MS + 7))
    assert (await store.lease(ORDERS, NOW_MS, 10, EVERYTHING)).next_due_ms == NOW_MS + 7
    assert (await store.lease_older(ORDERS, NOW_MS, 10, EVERYTHING)).next_due_ms == NOW_MS + 7


@pytest.mark.parametrize(
    ("sizes", "max_bytes", "count"),
    [
        ([10, 10, 10], 30, 3),
        ([10, 10, 10], 29, 2),
        ([10, 10, 10], 10, 1),
        ([10, 10, 10], 9, 1),
        ([10, 10, 10], 0, 1),
        ([10, 100, 1], 50, 1),
        ([0, 0, 1], 0, 2),
    ],
)
@pytest.mark.parametrize("older", [False, True])
def test_a_lease_is_bounded_by_the_payloads(
    store: EventStore, sizes: list[int], max_bytes: int, count: int, older: bool
):
    @in_event_loop
    async def scenario() -> None:
        await accepted(store, *(event_of(number, payload=b"x" * size) for number, size in enumerate(sizes)))
        method, until_ms = (store.lease_older, NOW_MS + 1) if older else (store.lease, NOW_MS)
        taken = await method(ORDERS, until_ms, 10, max_bytes)
        assert requests(taken.events) == [str(number) for number in range(count)]
        assert taken.next_due_ms == (NOW_MS if count < len(sizes) else None)
        rest = await method(ORDERS, until_ms, 10, EVERYTHING)
        assert len(rest.events) == len(sizes) - count

    scenario()


@in_event_loop
async def test_a_lease_of_old_events_asks_for_their_age_only(store: EventStore):
    ages = [5, 50, 40, 50, 45]
    later_ms = NOW_MS + 1_000_000
    events = [event_of(number, due_ms=later_ms, accepted_ms=NOW_MS - age) for number, age in enumerate(ages)]
    await accepted(store, *events, event_of("other", OTHER, accepted_ms=0))
    taken = await store.lease_older(ORDERS, NOW_MS - 40, 2, EVERYTHING)
    assert requests(taken.events) == ["1", "3"]
    assert taken.next_due_ms == later_ms
    assert requests((await store.lease_older(ORDERS, NOW_MS - 40, 9, EVERYTHING)).events) == ["4"]
    assert requests((await store.lease_older(ORDERS, NOW_MS - 40, 9, EVERYTHING)).events) == []
    assert requests((await store.lease_older(ORDERS, NOW_MS, 9, EVERYTHING)).events) == ["2", "0"]


@in_event_loop
async def test_hasten_is_for_what_met_a_throttle_or_a_system_error(store: EventStore):
    later_ms = NOW_MS + 1000
    events = await accepted(
        store,
        event_of("throttled", due_ms=later_ms, backoffs=1),
        event_of("failed, then throttled", due_ms=later_ms, invocations=1, backoffs=2),
        event_of("failed", due_ms=later_ms, invocations=1),
        event_of("new", due_ms=later_ms),
        event_of("due", due_ms=NOW_MS - 5, backoffs=1),
        event_of("other", OTHER, due_ms=later_ms, backoffs=1),
    )
    await leased(store, event_of("leased", due_ms=later_ms, backoffs=1))
    await store.hasten(ORDERS, NOW_MS)
    assert {row.request_id: row.due_ms - NOW_MS for row in await in_queue(store)} == {
        "throttled": 0,
        "failed, then throttled": 0,
        "failed": 1000,
        "new": 1000,
        "due": -5,
        "other": 1000,
        "leased": 1000,
    }
    assert await take(store) == [events[4], *(replace(event, due_ms=NOW_MS) for event in events[:2])]


@in_event_loop
async def test_any_number_of_events_is_hastened(store: EventStore):
    await accepted(store, *(event_of(number, due_ms=NOW_MS + number, backoffs=1) for number in range(2500)))
    await store.hasten(ORDERS, NOW_MS)
    assert len(await take(store, limit=5000)) == 2500


# For people


@in_event_loop
async def test_summaries_tell_of_every_lane_by_name(store: EventStore):
    await accepted(
        store,
        event_of(1, due_ms=NOW_MS + 1, accepted_ms=NOW_MS - 7),
        event_of(2, due_ms=NOW_MS + 2, invocations=1),
        event_of(3, due_ms=NOW_MS + 3, backoffs=1),
        event_of(4, LIVE),
    )
    await leased(
        store, event_of(5, accepted_ms=NOW_MS - 9), event_of(6, invocations=1), event_of(7, QUEUE, due_ms=NOW_MS - 3)
    )
    first, _, purged = await dead(store, event_of(8), event_of(9), event_of(10, OTHER))
    done, thrown_away = await leased(store, event_of(11), event_of(12))
    await end(store, ended(done), ended(thrown_away, Condition.PURGED))
    await store.redrive(Selection(ids=(first.id,)), NOW_MS + 4)
    await store.purge(Selection(ids=(purged.id,)), NOW_MS, dead=True, limit=1)
    assert list(await store.summaries()) == [
        LaneSummary(
            ORDERS,
            waiting=2,
            retrying=2,
            leased=2,
            dead=1,
            ended=4,
            oldest_accepted_ms=NOW_MS - 9,
            next_due_ms=NOW_MS + 1,
        ),
        LaneSummary(LIVE, waiting=1, oldest_accepted_ms=NOW_MS, next_due_ms=NOW_MS),
        LaneSummary(QUEUE, leased=1, oldest_accepted_ms=NOW_MS),
    ]


@in_event_loop
async def test_rows_are_what_is_in_the_queue_the_next_due_first(store: EventStore):
    await accepted(store, event_of(1, due_ms=NOW_MS + 3), event_of(2, OTHER, due_ms=NOW_MS + 1))
    (full,) = await leased(
        store,
        delivery_of(3, due_ms=NOW_MS + 2, invocations=1, backoffs=2, error_code=503, error_message="away"),
    )
    await dead(store, event_of(4))
    rows = await in_queue(store)
    assert requests(rows) == ["2", "3", "1"]
    assert rows[1] == EventRow(
        full.id,
        QUEUE,
        "3",
        Purpose.ON_FAILURE,
        NOW_MS,
        NOW_MS + 2,
        invocations=1,
        backoffs=2,
        error_code=503,
        error_message="away",
        source=ORDERS,
        leased=True,
    )
    assert rows[1].leased is True
    assert requests(await in_queue(store, limit=2)) == ["2", "3"]
    assert requests(await in_queue(store, limit=1)) == ["2"]


@in_event_loop
async def test_dead_rows_are_what_ended_badly_the_last_first(store: EventStore):
    taken = await leased(store, *(event_of(number) for number in range(len(Condition))))
    for event, condition in zip(taken, Condition, strict=True):
        await end(store, ended(event, condition, event.id % 3))
    rows = await dead_rows(store)
    assert sorted(row.condition for row in rows if row.condition) == sorted(BAD)
    order = [(row.ended_ms, row.id) for row in rows]
    assert order == sorted(order, reverse=True)
    assert list(await dead_rows(store, limit=2)) == list(rows[:2])
    assert (await summary(store)).dead == len(BAD)
    assert (await summary(store)).ended == len(Condition)


@in_event_loop
async def test_the_last_of_many_lanes_are_found(store: EventStore):
    lanes = [f"{ORDERS}{number}" for number in range(5)]
    await accepted(store, *(event_of(n, lanes[n * 7 % 5], due_ms=NOW_MS + n * 37 % 100) for n in range(100)))
    await dead(store, *(event_of(n, lanes[n * 7 % 5]) for n in range(100)))
    rows = await in_queue(store, limit=10)
    assert [row.due_ms - NOW_MS for row in rows] == list(range(10))
    assert [row.request_id for row in await dead_rows(store, limit=10)] == [str(n) for n in range(99, 89, -1)]


@in_event_loop
async def test_of_events_at_the_same_instant_the_first_accepted_is_due_first_and_the_last_ended_last(store: EventStore):
    await accepted(store, event_of("first", OTHER), event_of("second", ORDERS))
    assert requests(await in_queue(store, limit=1)) == ["first"]
    taken = await leased(store, event_of("third", ORDERS), event_of("fourth", OTHER))
    await end(store, *(ended(event, Condition.REFUSED) for event in taken))
    assert requests(await dead_rows(store, limit=1)) == ["fourth"]


@pytest.mark.parametrize(
    ("lane", "meant"),
    [
        ("", {"unqualified", "alias", "longer", "other"}),
        (ORDERS, {"unqualified", "alias"}),
        (LIVE, {"alias"}),
        (LONGER, {"longer"}),
        (f"{PREFIX}order", set()),
        (PREFIX[:-1], {"unqualified", "alias", "longer", "other"}),
        (f"{ORDERS}:", set()),
        ("%", set()),
    ],
)
def test_a_selection_means_a_lane_and_those_below_it(store: EventStore, lane: str, meant: set[str]):
    @in_event_loop
    async def scenario() -> None:
        named = [
            event_of("unqualified", ORDERS),
            event_of("alias", LIVE),
            event_of("longer", LONGER),
            event_of("other", OTHER),
        ]
        waiting = await accepted(store, *named)
        gone = await dead(store, *named)
        selection = Selection(lane)
        assert set(requests(await in_queue(store, selection))) == meant
        assert set(requests(await dead_rows(store, selection))) == meant
        lanes = sorted(event.lane for event in named if event.request_id in meant)
        assert sorted(await store.redrive(replace(selection, ids=(gone[0].id, gone[1].id)), NOW_MS)) == sorted(
            {ORDERS, LIVE} & set(lanes)
        )
        assert sorted(await store.purge(selection, NOW_MS, dead=True, limit=10)) == sorted(set(lanes) - {ORDERS, LIVE})
        ids = tuple(event.id for event in waiting)
        assert sorted(await store.purge(replace(selection, ids=ids), NOW_MS, dead=False, limit=10)) == lanes

    scenario()


@in_event_loop
async def test_a_selection_of_ids_means_those_events(store: EventStore):
    waiting = await accepted(store, *(event_of(number, due_ms=NOW_MS - number) for number in range(4)))
    gone = await dead(store, *(event_of(number) for number in range(4, 8)))
    ids = (waiting[0].id, waiting[2].id, waiting[2].id, gone[1].id, 999)
    assert requests(await in_queue(store, Selection(ids=ids))) == ["2", "0"]
    assert requests(await in_queue(store, Selection(ids=ids), limit=1)) == ["2"]
    assert requests(await dead_rows(store, Selection(ids=ids))) == ["5"]
    assert requests(await in_queue(store, Selection(OTHER, ids))) == []
    assert list(await store.purge(Selection(ids=ids), NOW_MS, dead=False, limit=1)) == [ORDERS]
    assert list(await store.purge(Selection(ids=ids), NOW_MS, dead=False, limit=9)) == [ORDERS]
    assert requests(await in_queue(store)) == ["3", "1"]


@in_event_loop
async def test_endings_are_those_of_the_invocations_with_these_request_ids(store: EventStore):
    events = await leased(store, event_of("a"), event_of("b"), event_of("c"), delivery_of("a"), event_of("waits"))
    await end(
        store,
        *(ended(event, condition) for event, condition in zip(events[:4], itertools.cycle(Condition), strict=False)),
    )
    rows = await store.endings(["a", "c", "waits", "absent", "a"])
    assert sorted((row.id, row.request_id) for row in rows) == [(events[0].id, "a"), (events[2].id, "c")]
    assert list(await store.endings([])) == []


# Dead events


@in_event_loop
async def test_a_redriven_event_is_a_new_one_with_the_same_request(store: EventStore):
    old = event_of(
        "r",
        LIVE,
        payload=b"kept",
        accepted_ms=NOW_MS - 10_000,
        purpose=Purpose.DEAD_LETTER,
        trace="Root=1",
        source=ORDERS,
    )
    (old,) = await leased(store, old)
    worn = replace(old, invocations=3, backoffs=2, error_code=500, error_message="bad", payload=b"not this one")
    await end(store, ended(worn, Condition.REFUSED))
    assert list(await store.redrive(ALL, NOW_MS + 50)) == [LIVE]
    (new,) = await take(store, LIVE, NOW_MS + 50)
    assert new == replace(old, id=new.id, accepted_ms=NOW_MS + 50, due_ms=NOW_MS + 50)
    assert new.id > old.id


@in_event_loop
async def test_a_dead_event_is_redriven_once(store: EventStore):
    (old,) = await dead(store, event_of("r"))
    assert list(await store.redrive(ALL, NOW_MS + 50)) == [ORDERS]
    assert list(await store.redrive(ALL, NOW_MS + 51)) == []
    assert list(await store.redrive(Selection(ids=(old.id,)), NOW_MS + 51)) == []
    assert list(await dead_rows(store)) == []
    (row,) = await store.endings(["r"])
    assert (row.id, row.redriven_ms) == (old.id, NOW_MS + 50)
    (again,) = await take(store, due_ms=NOW_MS + 50)
    await end(store, ended(again, Condition.RETRIES_EXHAUSTED, 100))
    assert [row.id for row in await dead_rows(store)] == [again.id]
    assert len(await store.endings(["r"])) == 2
    assert list(await store.redrive(ALL, NOW_MS + 200)) == [ORDERS]
    assert [event.payload for event in await take(store, due_ms=NOW_MS + 200)] == [b'"r"']


@pytest.mark.parametrize("condition", [*sorted(SUCCEEDED), Condition.PURGED])
def test_what_succeeded_or_was_purged_is_not_dead(store: EventStore, condition: Condition):
    @in_event_loop
    async def scenario() -> None:
        (event,) = await leased(store, event_of("r"))
        await end(store, ended(event, condition))
        assert list(await dead_rows(store)) == []
        assert list(await store.redrive(ALL, NOW_MS)) == []
        assert list(await store.purge(ALL, NOW_MS, dead=True, limit=9)) == []
        assert (await summary(store)).dead == 0
        assert (await summary(store)).ended == 1

    scenario()


@in_event_loop
async def test_any_number_of_dead_events_is_redriven(store: EventStore):
    await dead(store, *(event_of(number, LIVE if number % 3 else ORDERS) for number in range(2500)))
    lanes = await store.redrive(ALL, NOW_MS)
    assert len(lanes) == 2500
    assert lanes.count(ORDERS) == 834
    assert len(await take(store, limit=5000)) == 834
    assert len(await take(store, LIVE, limit=5000)) == 2500 - 834


@in_event_loop
async def test_purging_ends_what_waits(store: EventStore):
    events = [event_of("w1", due_ms=NOW_MS + 9, invocations=1), event_of("w2"), event_of("w3", OTHER)]
    await accepted(store, *events)
    await leased(store, event_of("runs"))
    await dead(store, event_of("dead"))
    assert list(await store.purge(Selection(ORDERS), NOW_MS + 3, dead=False, limit=1)) == [ORDERS]
    assert len(await in_queue(store, Selection(ORDERS))) == 2
    assert sorted(await store.purge(ALL, NOW_MS + 3, dead=False, limit=9)) == [ORDERS, OTHER]
    assert requests(await in_queue(store)) == ["runs"]
    assert requests(await dead_rows(store)) == ["dead"]
    rows = await store.endings(["w1", "w2", "w3"])
    assert {(row.condition, row.ended_ms) for row in rows} == {(Condition.PURGED, NOW_MS + 3)}
    assert {row.request_id: row.invocations for row in rows} == {"w1": 1, "w2": 0, "w3": 0}
    assert list(await store.purge(ALL, NOW_MS, dead=False, limit=9)) == []


@in_event_loop
async def test_purging_the_dead_forgets_them(store: EventStore):
    gone = await dead(store, event_of("d1"), event_of("d2"), event_of("d3", OTHER))
    await accepted(store, event_of("waits"))
    assert list(await store.purge(Selection(OTHER), NOW_MS, dead=True, limit=9)) == [OTHER]
    assert len(await store.purge(ALL, NOW_MS, dead=True, limit=1)) == 1
    assert len(await dead_rows(store)) == 1
    assert len(await store.purge(ALL, NOW_MS, dead=True, limit=9)) == 1
    assert list(await store.endings(["d1", "d2", "d3"])) == []
    assert list(await store.redrive(Selection(ids=tuple(event.id for event in gone)), NOW_MS)) == []
    assert requests(await in_queue(store)) == ["waits"]
    assert (await summary(store)).ended == 0


@in_event_loop
async def test_the_last_endings_of_either_kind_are_kept(store: EventStore):
    taken = await leased(store, *(event_of(number) for number in range(12)))
    conditions = [Condition.SUCCESS, Condition.RETRIES_EXHAUSTED, Condition.DELIVERED, Condition.PURGED]
    for number, event in enumerate(taken):
        await end(store, ended(event, conditions[number % 4], 100 - number))  # those accepted first ended last
    names = [str(number) for number in range(12)]
    assert await store.forget_endings(6) == 0
    assert await store.forget_endings(2) == 8
    assert sorted(requests(await store.endings(names))) == ["0", "1", "2", "3"]
    assert requests(await dead_rows(store)) == ["1"]
    assert await store.forget_endings(2) == 0
    assert await store.forget_endings(0) == 4
    assert list(await store.summaries()) == []
    assert list(await store.redrive(ALL, NOW_MS)) == []


@in_event_loop
async def test_any_number_of_endings_is_forgotten(store: EventStore):
    taken = await leased(store, *(event_of(number) for number in range(2500)))
    await end(store, *(ended(event, Condition.SUCCESS, event.id) for event in taken))
    assert await store.forget_endings(10) == 2490
    assert requests(await store.endings([str(number) for number in range(2500)])) == [
        str(number) for number in range(2490, 2500)
    ]


# Callers


@in_event_loop
async def test_every_method_lets_others_run(store: EventStore):
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.apply(Changes()),
        store.recover,
        store.lanes,
        lambda: store.lease(ORDERS, NOW_MS, 1, 1),
        lambda: store.lease_older(ORDERS, NOW_MS, 1, 1),
        lambda: store.hasten(ORDERS, NOW_MS),
        store.summaries,
        lambda: in_queue(store),
        lambda: store.endings([]),
        lambda: store.redrive(ALL, NOW_MS),
        lambda: store.purge(ALL, NOW_MS, dead=False, limit=1),
        lambda: store.forget_endings(1),
    ]
    for call in calls:
        ran = asyncio.Event()
        asyncio.get_running_loop().call_soon(ran.set)
        await call()
        assert ran.is_set()
    await store.close()
    await store.close()
    for call in calls:
        with pytest.raises(StoreUnavailable, match="closed"):
            await call()


@in_event_loop
async def test_the_memory_store_fails_when_told_to():
    store = MemoryEventStore()
    store.failure = StoreUnavailable("the disk is full")
    with pytest.raises(StoreUnavailable, match="full"):
        await accepted(store, event_of())
    store.failure = None
    assert list(await store.lanes()) == []


# Both alike

lane_names = st.sampled_from([LIVE, OTHER, QUEUE])
times_ms = st.integers(0, 30).map(lambda offset: NOW_MS + offset)
events = st.builds(
    event_of,
    st.sampled_from("abcd"),
    lane_names,
    times_ms,
    accepted_ms=times_ms,
    payload=st.binary(max_size=20),
    purpose=st.sampled_from(Purpose),
    backoffs=st.integers(0, 1),
    invocations=st.integers(0, 1),
)
some_events = st.lists(events, max_size=4)
picks = st.lists(st.integers(0, 60), min_size=1, max_size=9)
selections = st.builds(Selection, lane_names) | st.builds(Selection, st.just(""), picks.map(tuple))
endings_of = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(Condition), st.integers(0, 30), some_events), max_size=5
)

Step = Callable[[EventStore, dict[int, Event]], Awaitable[object]]


def apply(
    waiting: list[Event],
    running: list[Event],
    back: list[tuple[int, int, int]],
    over: list[tuple[int, Condition, int, list[Event]]],
) -> Step:
    async def step(store: EventStore, known: dict[int, Event]) -> object:
        absent = event_of("absent")
        changes = Changes(
            waiting,
            running,
            [
                replace(known.get(number, absent), id=number, due_ms=due_ms, backoffs=backoffs)
                for number, due_ms, backoffs in back
            ],
            [
                ended(replace(known.get(number, absent), id=number), condition, after_ms, *follow_ups)
                for number, condition, after_ms, follow_ups in over
            ],
        )
        ids = await store.apply(changes)
        known.update(zip(ids, [*waiting, *running], strict=True))
        return list(ids)

    return step


def call(name: str, *arguments: object, **options: object) -> Step:
    async def step(store: EventStore, known: dict[int, Event]) -> object:
        answer = await getattr(store, name)(*arguments, **options)
        return list(answer) if isinstance(answer, Sequence) else answer

    return step


leases = st.tuples(lane_names, times_ms, st.integers(0, 4), st.integers(0, 60))
steps = st.one_of(
    st.builds(
        apply,
        some_events,
        some_events,
        st.lists(st.tuples(st.integers(0, 60), times_ms, st.integers(0, 1)), max_size=3),
        endings_of,
    ),
    leases.map(lambda arguments: call("lease", *arguments)),
    leases.map(lambda arguments: call("lease_older", *arguments)),
    st.builds(functools.partial(call, "hasten"), lane_names, times_ms),
    st.builds(functools.partial(call, "redrive"), selections, times_ms),
    st.builds(functools.partial(call, "purge"), selections, times_ms, dead=st.booleans(), limit=st.integers(0, 3)),
    st.builds(functools.partial(call, "forget_endings"), st.integers(0, 5)),
    st.just(call("recover")),
)


async def seen(store: EventStore) -> list[object]:
    """Everything that a store shows."""
    return [
        list(await store.summaries()),
        sorted(await store.lanes(), key=lambda state: state.lane),
        list(await in_queue(store)),
        list(await in_queue(store, limit=3)),
        list(await dead_rows(store)),
        list(await dead_rows(store, Selection(LIVE), limit=3)),
        list(await store.endings(["a", "b", "absent"])),
    ]


@given(st.lists(steps, max_size=25))
@settings(deadline=None, max_examples=80)
def test_both_stores_answer_alike(script: list[Step]):
    async def scenario(path: Path) -> None:
        stores: list[EventStore] = [MemoryEventStore(), SqliteEventStore(path)]
        known: list[dict[int, Event]] = [{}, {}]
        try:
            for step in script:
                memory, sqlite = [await step(store, events) for store, events in zip(stores, known, strict=True)]
                assert memory == sqlite
                memory, sqlite = [await seen(store) for store in stores]
                assert memory == sqlite
        finally:
            for store in stores:
                await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(asyncio.wait_for(scenario(Path(folder) / "events.db"), 60))


# Marks


@in_event_loop
async def test_a_mark_is_made_with_the_events_and_only_grows(stores: Stores):
    store = stores.open()
    await store.apply(Changes(accepted=[event_of(lane=QUEUE)], marks={"rule/a": 5, "rule/b": 1}))
    await store.apply(Changes(marks={"rule/a": 4, "rule/b": 2}))
    assert await store.marks("rule/") == {"rule/a": 5, "rule/b": 2}
    assert await store.marks("rule/a") == {"rule/a": 5}
    assert await store.marks("RULE/") == {}
    await store.forget_mark("rule/a")
    await store.forget_mark("rule/none")
    assert await stores.open().marks("") == {"rule/b": 2}

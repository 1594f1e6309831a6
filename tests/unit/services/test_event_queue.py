"""The event queue on a store in memory and a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from lambdad.adapters.memory_events import MemoryEventStore
from lambdad.domain.arns import FunctionKey
from lambdad.domain.events import Condition, Ending, Event
from lambdad.ports.events import Changes, Selection
from lambdad.ports.store import StoreUnavailable
from lambdad.services.event_journal import RETRY_S
from lambdad.services.event_queue import EXPIRE_EVERY_S, PURGE_BATCH, Postponed
from lambdad.services.lanes import LANE_EVENTS
from unit.services.queues import F, G, Waiting, retry_in, throttle

ALL = Selection()


def scenario(test: Callable[[Waiting], Awaitable[None]]) -> Callable[[], None]:
    """Run an asynchronous test with a queue of its own."""

    def run() -> None:
        async def with_queue() -> None:
            waiting = Waiting()
            await test(waiting)
            await waiting.queue.close()

        asyncio.run(with_queue())

    run.__name__ = getattr(test, "__name__", "scenario")
    run.__doc__ = test.__doc__
    return run


async def queued(waiting: Waiting) -> int:
    return len(await waiting.store.rows(ALL, dead=False, limit=1_000_000))


@scenario
async def test_an_event_runs_once_and_leaves_one_ending(w: Waiting) -> None:
    await w.accept()
    await w.settle()

    assert [(event.request_id, event.invocations) for event in w.work.tried] == [("r0", 0)]
    assert await w.conditions("r0") == [Condition.SUCCESS]
    assert await queued(w) == 0


@scenario
async def test_it_is_in_the_store_when_it_is_accepted(w: Waiting) -> None:
    w.work.holds.add(F)
    await w.accept()

    assert await queued(w) == 1


@scenario
async def test_an_event_that_cannot_be_stored_is_not_accepted(w: Waiting) -> None:
    w.store.failure = StoreUnavailable("the disk is full")
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        await w.accept()
    await w.settle()
    assert not w.work.tried

    w.store.failure = None
    await w.accept()
    await w.settle()
    assert await w.conditions("r0") == [Condition.SUCCESS]
    assert w.work.tries(F) == 1


@scenario
async def test_an_outcome_that_cannot_be_written_is_written_later(w: Waiting) -> None:
    w.work.holds.add(F)
    await w.accept()
    await w.settle()
    w.store.failure = StoreUnavailable("the disk is full")
    w.work.release(F)
    await w.settle()
    with pytest.raises(StoreUnavailable):  # meanwhile, others hear at once that nothing can be stored
        await w.accept(lane=G)
    w.store.failure = None
    assert await w.conditions("r0") == [None]

    await w.clock.advance(RETRY_S)
    assert await w.conditions("r0") == [Condition.SUCCESS]
    assert w.work.tries(F) == 1


@scenario
async def test_events_are_accepted_while_an_outcome_waits_for_the_disk(w: Waiting) -> None:
    w.work.holds.add(F)
    await w.accept()
    await w.settle()
    w.store.failure = StoreUnavailable("the disk is full")
    w.work.release(F)
    await w.settle()
    w.store.failure = None

    await w.accept(lane=G)
    await w.settle()
    assert w.work.tries(G) == 1


@scenario
async def test_a_retry_comes_when_it_is_due_and_not_before(w: Waiting) -> None:
    w.work.acts.append(retry_in(60_000))
    await w.accept()
    await w.clock.advance(59.9)
    assert w.work.tries(F) == 1

    await w.clock.advance(0.1)
    assert [event.invocations for event in w.work.tried] == [0, 1]
    assert await w.conditions("r0") == [Condition.SUCCESS]


@scenario
async def test_a_retry_that_waits_is_not_in_the_way_of_a_new_event(w: Waiting) -> None:
    w.work.acts.append(retry_in(60_000))
    await w.accept()
    await w.settle()
    await w.queue.accept(w.event(F, "new"))
    await w.settle()

    assert await w.conditions("new") == [Condition.SUCCESS]


@scenario
async def test_a_throttled_lane_pauses_longer_and_longer(w: Waiting) -> None:
    w.work.always[F] = throttle
    await w.accept(20)
    await w.settle()
    tries = []
    for seconds in (1, 2, 4, 8):
        before = w.work.tries(F)
        await w.clock.advance(seconds - 0.1)
        assert w.work.tries(F) == before
        await w.clock.advance(0.1)
        tries.append(w.work.tries(F) - before)

    assert tries == [1, 1, 1, 1]  # one event is tried alone


@scenario
async def test_when_one_gets_through_the_others_follow(w: Waiting) -> None:
    w.work.always[F] = throttle
    await w.accept(20)
    await w.clock.advance(3)
    del w.work.always[F]
    await w.clock.advance(60)

    assert set(await w.conditions(*(f"r{number}" for number in range(20)))) == {Condition.SUCCESS}


@scenario
async def test_a_changed_function_is_tried_at_once(w: Waiting) -> None:
    w.work.always[F] = throttle
    await w.accept(3)
    await w.clock.advance(100)
    w.work.always.clear()
    w.queue.hasten(FunctionKey("000000000000", "us-east-1", "f"))
    await w.clock.advance(1)

    assert await w.conditions("r0", "r1", "r2") == [Condition.SUCCESS] * 3


@scenario
async def test_a_lane_that_hangs_delays_no_other(w: Waiting) -> None:
    w.work.holds.add(F)
    await w.accept(3 * LANE_EVENTS)
    await w.accept(50, G)
    await w.settle()

    assert w.work.tries(G) == 50
    assert await queued(w) == 3 * LANE_EVENTS


@scenario
async def test_slow_functions_get_more_at_once_until_their_limit(w: Waiting) -> None:
    w.work.holds.add(F)
    w.work.limits[F] = 30
    await w.accept(100)
    await w.settle()
    assert w.work.running[F] == 4

    await w.clock.advance(1)
    assert w.work.running[F] == 30


@scenario
async def test_a_limit_that_is_lifted_is_forgotten(w: Waiting) -> None:
    w.work.holds.add(F)
    w.work.limits[F] = 2
    await w.accept(100)
    await w.clock.advance(1)
    assert w.work.running[F] == 2

    w.work.limits[F] = LANE_EVENTS
    await w.clock.advance(1)
    assert w.work.running[F] == 100


@scenario
async def test_those_that_wait_for_an_environment_ask_for_no_more(w: Waiting) -> None:
    w.work.holds.add(F)
    w.work.has_no_environment.add(F)
    await w.accept(100)
    await w.clock.advance(5)

    assert w.work.running[F] == 4


@scenario
async def test_quick_functions_stay_with_few(w: Waiting) -> None:
    await w.accept(2_000)
    await w.clock.advance(1)

    assert w.work.tries(F) == 2_000
    assert w.work.most[F] <= 4


@scenario
async def test_memory_is_bounded_however_many_wait(w: Waiting) -> None:
    w.work.holds.add(F)
    await w.accept(2 * LANE_EVENTS)
    await w.clock.advance(5)

    (figures,) = await w.queue.summaries()
    assert figures.waiting + figures.leased == 2 * LANE_EVENTS
    assert figures.leased <= LANE_EVENTS
    assert figures.running <= figures.leased


@scenario
async def test_those_beyond_run_when_there_is_room(w: Waiting) -> None:
    w.work.holds.add(F)
    await w.accept(2 * LANE_EVENTS)
    await w.settle()
    w.work.release(F)
    await w.clock.advance(5)

    assert w.work.tries(F) == 2 * LANE_EVENTS
    assert await queued(w) == 0


@scenario
async def test_large_payloads_are_held_in_bounds_and_all_run(w: Waiting) -> None:
    payload = b"1" * 256 * 1024
    w.work.holds.add(F)
    await w.accept(400, payload=payload)
    await w.clock.advance(1)
    (figures,) = await w.queue.summaries()
    assert figures.leased * len(payload) < 80 * 1024 * 1024

    w.work.holds.add(G)
    await w.accept(1, G, payload)  # another lane has its share all the same
    await w.settle()
    assert w.work.running[G] == 1

    w.work.release(F)
    w.work.release(G)
    while await queued(w):
        await w.clock.advance(1)
    assert w.work.tries(F) == 400


@scenario
async def test_follow_ups_run_as_soon_as_the_ending_is_written(w: Waiting) -> None:
    def end(event: Event, now_ms: int) -> Ending | Postponed:
        return Ending(event, Condition.SUCCESS, now_ms, (w.event(G, "told"), w.event(G, "told too")))

    w.work.acts.append(end)
    await w.accept()
    await w.settle()

    assert await w.conditions("r0", "told", "told too") == [Condition.SUCCESS] * 3


@scenario
async def test_a_daemon_that_died_left_its_events_to_the_next(w: Waiting) -> None:
    w.work.holds.add(F)
    await w.accept(5)
    await w.settle()

    successor = Waiting(w.store)
    assert await successor.queue.recover() == 5
    await successor.queue.start()
    await successor.settle()
    assert successor.work.tries(F) == 5
    assert await queued(successor) == 0


@scenario
async def test_what_runs_when_the_daemon_stops_is_not_counted_but_runs_again(w: Waiting) -> None:
    w.work.holds.add(F)
    await w.accept(2)
    await w.settle()
    await w.queue.stop(0)
    w.work.always[F] = lambda event, now_ms: Ending(event, Condition.RETRIES_EXHAUSTED, now_ms)
    w.work.release(F)
    await w.settle()
    assert await w.conditions("r0", "r1") == [None, None]

    successor = Waiting(w.store)
    assert await successor.queue.recover() == 2


@scenario
async def test_a_stopping_queue_starts_nothing_and_counts_what_still_ends(w: Waiting) -> None:
    w.work.holds.add(F)
    await w.accept(10)
    await w.settle()
    stopping = asyncio.ensure_future(w.queue.stop(60))
    await w.settle()
    w.work.release(F)
    await stopping
    await w.settle()

    ended = await w.conditions(*(f"r{number}" for number in range(10)))
    assert ended.count(Condition.SUCCESS) == 4
    assert w.work.tries(F) == 4


@scenario
async def test_dead_events_are_sent_again(w: Waiting) -> None:
    w.work.always[F] = lambda event, now_ms: Ending(event, Condition.RETRIES_EXHAUSTED, now_ms)
    await w.accept(3)
    await w.settle()
    del w.work.always[F]

    assert await w.queue.redrive(Selection(F)) == 3
    assert await w.queue.redrive(Selection(F)) == 0
    await w.settle()
    assert w.work.tries(F) == 6
    (figures,) = await w.queue.summaries()
    assert (figures.dead, figures.waiting) == (0, 0)


@scenario
async def test_purging_ends_what_waits_and_leaves_what_runs(w: Waiting) -> None:
    w.work.holds.add(F)
    total = LANE_EVENTS + PURGE_BATCH + 500
    await w.accept(total)
    await w.settle()
    (figures,) = await w.queue.summaries()

    assert await w.queue.purge(Selection(F), dead=False) == total - figures.leased
    assert await queued(w) == figures.leased
    w.work.release(F)
    await w.clock.advance(1)
    assert w.work.tries(F) == figures.leased


@scenario
async def test_what_becomes_too_old_before_its_turn_ends_in_time(w: Waiting) -> None:
    """In memory and on disk, while those that run take as long as they like."""
    expiring = asyncio.ensure_future(w.queue.expire())
    w.work.holds.add(F)
    w.work.limits[F] = 2
    w.work.ages_ms[F] = 60_000
    total = 2 * LANE_EVENTS
    await w.accept(total)
    await w.clock.advance(59)
    (figures,) = await w.queue.summaries()
    assert figures.ended == 0

    await w.clock.advance(EXPIRE_EVERY_S + 1)
    (figures,) = await w.queue.summaries()
    assert (figures.running, figures.dead) == (2, total - 2)
    expiring.cancel()


@scenario
async def test_an_event_that_was_too_old_does_not_end_a_pause(w: Waiting) -> None:
    w.work.always[F] = throttle
    w.work.ages_ms[F] = 60_000
    await w.accept(3)
    await w.clock.advance(20)
    await w.queue.accept(replace(w.event(F, "old"), accepted_ms=w.now_ms - 60_000))
    before = w.work.tries(F)
    await w.clock.advance(4)

    assert w.work.tries(F) == before


@scenario
async def test_the_history_is_kept_within_its_bounds(w: Waiting) -> None:
    forgetting = asyncio.ensure_future(w.queue.forget_endings())
    await w.accept(250)
    await w.clock.advance(60)

    (figures,) = await w.queue.summaries()
    assert figures.ended == 100
    forgetting.cancel()


def test_a_fault_in_a_store_is_not_the_end_of_the_queue() -> None:
    class Faulty(MemoryEventStore):
        faults = 1

        async def apply(self, changes: Changes) -> list[int]:
            if self.faults:
                self.faults -= 1
                raise TypeError("a fault")
            return list(await super().apply(changes))

    async def run() -> None:
        w = Waiting(Faulty())
        with pytest.raises(StoreUnavailable, match="a fault"):
            await w.accept()
        await w.accept()
        await w.settle()
        assert await w.conditions("r0") == [Condition.SUCCESS]

    asyncio.run(run())


def test_events_keep_what_was_counted_of_them() -> None:
    async def run() -> None:
        w = Waiting()
        w.work.acts.append(
            lambda event, now_ms: Postponed(
                replace(event, invocations=1, backoffs=2, error_code=500, error_message="no", due_ms=now_ms + 10), False
            )
        )
        await w.accept()
        await w.clock.advance(1)
        assert [(e.invocations, e.backoffs, e.error_code, e.error_message) for e in w.work.tried] == [
            (0, 0, 0, ""),
            (1, 2, 500, "no"),
        ]

    asyncio.run(run())

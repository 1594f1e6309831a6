"""How much of a lane runs at once."""

from __future__ import annotations

import pytest

from lambdad.domain.events import Event
from lambdad.services.lanes import ALL_BYTES, FETCH, LANE_BYTES, LANE_EVENTS, TICK_S, Lane

NOW_MS = 1_000_000


def lane(ready: int = 0, running: int = 0) -> Lane:
    made = Lane("lane", 4)
    made.ready.extend(Event(number, "lane", "r", b"", 0, 0) for number in range(ready))
    made.running = made.begun = running
    made.held = ready + running
    return made


def test_few_run_at_first() -> None:
    assert lane(ready=10, running=3).can_start(NOW_MS)
    assert not lane(ready=10, running=4).can_start(NOW_MS)
    assert not lane(ready=0).can_start(NOW_MS)


def test_the_limit_of_the_function_is_kept() -> None:
    busy = lane(ready=10, running=2)
    busy.limit = 2
    assert not busy.can_start(NOW_MS)


def test_slow_ones_double_each_time_that_they_are_looked_at() -> None:
    busy = lane(ready=5_000, running=4)
    allowed = []
    for tick in range(1, 11):
        busy.look(tick * TICK_S)
        busy.running = busy.begun = busy.allowed
        allowed.append(busy.allowed)
    assert allowed == [8, 16, 32, 64, 128, 256, 512, LANE_EVENTS, LANE_EVENTS, LANE_EVENTS]


def test_those_that_have_not_begun_ask_for_no_more() -> None:
    busy = lane(ready=100, running=4)
    busy.begun = 0
    busy.look(TICK_S)
    assert busy.allowed == 4


def test_some_wait_for_each_that_runs_so_that_the_pool_knows_of_them() -> None:
    busy = lane(ready=100, running=4)
    allowed = []
    for tick in range(1, 5):
        busy.look(tick * TICK_S)
        busy.running = busy.allowed
        allowed.append(busy.allowed)
    assert allowed == [8, 16, 32, 32]


def test_nothing_is_decided_in_less_than_a_tick() -> None:
    busy = lane(ready=100, running=4)
    busy.look(TICK_S)
    busy.running = busy.begun = 8
    busy.look(1.5 * TICK_S)
    assert busy.allowed == 8


@pytest.mark.parametrize(("served", "allowed"), [(39, 8), (40, 4)])
def test_quick_ones_need_no_more(served: int, allowed: int) -> None:
    """Four at once that end forty times in 50 ms take 5 ms each."""
    busy = lane(ready=100, running=4)
    for _ in range(served):
        busy.finished(0)
    busy.look(TICK_S)
    assert busy.allowed == allowed


def test_a_lane_that_has_run_dry_begins_with_few_again() -> None:
    busy = lane(ready=100, running=4)
    busy.look(TICK_S)
    assert busy.allowed == 8
    busy.ready.clear()
    busy.running = 0
    busy.look(3 * TICK_S)
    assert busy.allowed == 4


def test_those_that_are_held_back_together_count_as_one() -> None:
    busy = lane(ready=10)
    busy.hold_back(0, NOW_MS + 10)
    busy.hold_back(0, NOW_MS + 20)
    assert busy.streak == 1
    assert not busy.can_start(NOW_MS + 19)
    assert busy.can_start(NOW_MS + 20)

    busy.running = 1
    assert not busy.can_start(NOW_MS + 20)


def test_one_that_started_before_does_not_end_the_pause() -> None:
    busy = lane(ready=10)
    busy.hold_back(0, NOW_MS + 10)
    busy.finished(0)
    assert not busy.can_start(NOW_MS)
    busy.finished(1)
    assert busy.can_start(NOW_MS)


def test_after_a_pause_more_run_step_by_step() -> None:
    busy = lane(ready=10)
    busy.hold_back(0, NOW_MS)
    busy.finished(1)
    allowed = [busy.at_once]
    for tick in (1, 2, 3):
        busy.running = busy.begun = busy.allowed
        for _ in range(100):
            busy.finished(0)
        busy.look(tick * TICK_S)
        allowed.append(busy.at_once)
    assert allowed == [1, 2, 4, 4]


def test_what_is_read_from_disk() -> None:
    idle = lane()
    assert idle.wants(NOW_MS) == 0
    idle.is_due(NOW_MS)
    assert idle.wants(NOW_MS) == FETCH
    assert idle.wants(NOW_MS - 1) == 0
    idle.fetching = True
    assert idle.wants(NOW_MS) == 0


def test_nothing_is_read_while_enough_is_ready_or_the_lane_is_full_or_pauses() -> None:
    enough = lane(ready=FETCH)
    full = lane(running=LANE_EVENTS)
    pausing = lane()
    pausing.hold_back(0, NOW_MS + 1)
    for each in (enough, full, pausing):
        each.is_due(NOW_MS)
        assert each.wants(NOW_MS) == 0


def test_the_earliest_is_due_first() -> None:
    idle = lane()
    idle.is_due(NOW_MS)
    idle.is_due(NOW_MS + 5)
    assert idle.next_due_ms == NOW_MS
    assert idle.has_backlog(NOW_MS)
    assert not idle.has_backlog(NOW_MS - 1)


def test_each_lane_has_room_of_its_own_and_shares_the_rest() -> None:
    busy = lane()
    assert busy.room_bytes(0) == ALL_BYTES
    assert busy.room_bytes(ALL_BYTES) == LANE_BYTES
    busy.hold(LANE_BYTES)
    assert busy.room_bytes(ALL_BYTES) == 0
    busy.let_go(LANE_BYTES)
    assert (busy.held, busy.held_bytes) == (0, 0)

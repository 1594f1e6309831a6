"""When environments are frozen, and that nothing wakes up for those who are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lambdad.domain.lifecycle import State
from lambdad.services.freezer import FREEZE_AFTER_S, Freezer
from unit.services.environments import REQUEST_ID, Started, settled
from unit.services.test_environment import scenario, settle


def timers() -> int:
    """How many the loop has set that are not cancelled."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not timer.cancelled() for timer in scheduled)


async def pauses(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, and for twice the time after which somebody is frozen."""
    await settle(condition)
    await asyncio.sleep(2 * FREEZE_AFTER_S)


@scenario
async def test_who_is_idle_for_long_enough_is_frozen_once(s: Started) -> None:
    freezer = Freezer(s.clock)
    await s.ready()
    freezer.is_idle(s.environment)
    await asyncio.sleep(2 * FREEZE_AFTER_S)  # the environment's clock stands still: it has not been idle for any time
    assert not s.environment.is_frozen
    await s.clock.advance(FREEZE_AFTER_S)
    await settle(lambda: s.environment.is_frozen)
    assert s.sandbox.calls == ["initialized", "freeze"]
    freezer.close()


@scenario
async def test_no_timer_is_left_when_all_are_frozen(s: Started) -> None:
    before = timers()
    freezer = Freezer(s.clock)
    await s.ready()
    for _ in range(3):
        freezer.is_idle(s.environment)
        assert timers() == before + 1
    await s.clock.advance(FREEZE_AFTER_S)
    await pauses(lambda: s.environment.is_frozen)
    assert timers() == before


@scenario
async def test_who_has_an_event_again_is_not_frozen(s: Started) -> None:
    freezer = Freezer(s.clock)
    await s.ready()
    freezer.is_idle(s.environment)
    s.invoke()
    await s.clock.advance(FREEZE_AFTER_S)
    await asyncio.sleep(2 * FREEZE_AFTER_S)
    assert s.environment.state is State.INVOKING
    assert s.sandbox.calls == ["initialized"]
    freezer.close()


@scenario
async def test_an_environment_is_frozen_in_no_other_state(s: Started) -> None:
    s.environment.freeze()  # there is no sandbox yet
    await s.attach()
    s.environment.freeze()  # it is starting
    s.runtime.next()
    await settled()
    s.invoke()
    s.environment.freeze()
    s.runtime.respond()
    s.environment.freeze()  # it has answered, and not asked for the next event
    assert s.sandbox.calls == ["initialized"]
    s.runtime.next()
    s.environment.freeze()
    s.environment.freeze()
    assert s.sandbox.calls == ["initialized", "freeze"]


@scenario
async def test_a_runtime_without_its_connection_is_thawed_to_ask_again(s: Started) -> None:
    await s.ready()
    await settled()
    s.environment.freeze()
    s.environment.lost_runtime(s.runtime.events.append)
    s.invoke()
    assert s.sandbox.calls == ["initialized", "freeze", "thaw"]
    s.environment.freeze()  # it has an event, although it is idle until it asks
    assert s.sandbox.calls[-1] == "thaw"
    s.runtime.next()
    assert [event.invocation.request_id for event in s.runtime.events] == [REQUEST_ID]


@scenario
async def test_a_frozen_environment_can_be_stopped(s: Started) -> None:
    await s.ready()
    s.environment.freeze()
    await asyncio.wait_for(s.environment.stop(), 5)
    assert s.sandbox.was_killed
    assert not s.environment.is_frozen

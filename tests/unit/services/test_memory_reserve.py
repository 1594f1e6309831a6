"""Memory that is short is taken from what is idle, the oldest first, before anybody is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from lambdad.domain.errors import ServiceException
from unit.services.environments import VERSION
from unit.services.hosts import RESERVE_MB, SANDBOX_MB, World, scenario, until


async def three_idle(w: World) -> None:
    """Environments of two versions, idle since one, two and three seconds; the oldest is not of the oldest version."""
    for number, name in enumerate(("a", "b", "a"), 1):
        if number == 3:  # the version has one that is idle already, which is kept busy meanwhile
            busy = w.invoke(version=replace(VERSION, revision_id="a"))
            await until(lambda: len(w.runtimes[0].events) == 2)
        await w.make_idle(number, name)
        await w.clock.advance(1.0)
    w.runtimes[0].respond()
    w.runtimes[0].next()
    await busy
    await w.clock.advance(1.0)


def alive(w: World) -> list[bool]:
    return [not sandbox.closed for sandbox in w.driver.sandboxes]


@scenario
async def test_with_enough_memory_nothing_is_ended(w: World) -> None:
    w.gauge.total_mb = RESERVE_MB + 3 * SANDBOX_MB
    await three_idle(w)
    await w.host._reserve.restore()
    assert alive(w) == [True, True, True]


@scenario
async def test_what_is_made_ahead_goes_first(w: World) -> None:
    await three_idle(w)
    w.driver.made_ahead = 2
    w.gauge.total_mb = RESERVE_MB + 4 * SANDBOX_MB
    await w.host._reserve.restore()
    assert w.driver.made_ahead == 1
    assert alive(w) == [True, True, True]


@scenario
async def test_environments_go_in_the_order_in_which_they_became_idle_and_no_more_than_must(w: World) -> None:
    await three_idle(w)
    for left, expected in ((2, [True, False, True]), (1, [True, False, False]), (0, [False, False, False])):
        w.gauge.total_mb = RESERVE_MB + left * SANDBOX_MB
        await w.host._reserve.restore()
        assert alive(w) == expected


@scenario
async def test_a_start_makes_room_and_is_tried_all_the_same_when_there_is_none(w: World) -> None:
    await three_idle(w)
    w.gauge.total_mb = RESERVE_MB - SANDBOX_MB
    await w.make_idle(4, "c")
    assert alive(w) == [False, False, False, True]
    w.gauge.total_mb = None


@scenario
async def test_many_starts_at_once_do_not_take_more_than_one_needs(w: World) -> None:
    await three_idle(w)
    w.gauge.total_mb = RESERVE_MB + 2 * SANDBOX_MB
    await asyncio.gather(*(w.host._reserve.restore() for _ in range(5)))
    assert alive(w) == [True, False, True]


@scenario
async def test_the_busy_are_left_alone(w: World) -> None:
    busy = w.invoke()
    runtime = (await w.launched(1))[0]
    runtime.next()
    await until(lambda: runtime.events)
    w.gauge.total_mb = 0
    await w.host._reserve.restore()
    assert alive(w) == [True]
    runtime.respond(b"undisturbed")
    assert (await busy).payload == b"undisturbed"


@scenario
async def test_the_reserve_is_looked_after_without_any_start(w: World) -> None:
    await three_idle(w)
    reaping = asyncio.ensure_future(w.host.reap())
    await w.clock.advance(6.0)
    assert alive(w) == [True, True, True]
    w.gauge.total_mb = RESERVE_MB + SANDBOX_MB
    await w.clock.advance(6.0)
    await until(lambda: alive(w) == [True, False, False])
    reaping.cancel()


@scenario
async def test_a_launch_that_finds_no_resources_evicts_and_is_tried_again(w: World) -> None:
    await three_idle(w)
    w.driver.room = 2
    w.driver.made_ahead = 1
    await w.make_idle(4, "c")
    assert w.driver.made_ahead == 0
    assert alive(w) == [True, False, False, True]


@scenario
async def test_when_nothing_is_left_to_evict_the_invocation_is_refused(w: World) -> None:
    busy = w.invoke()
    runtime = (await w.launched(1))[0]
    runtime.next()
    await until(lambda: runtime.events)
    w.driver.room = 1
    with pytest.raises(ServiceException, match="sufficient capacity on this machine: Cannot allocate memory"):
        await w.invoke(version=replace(VERSION, revision_id="other"))
    await until(lambda: w.host.status()["environments"] == 1)
    runtime.respond(b"done")
    assert (await busy).payload == b"done"

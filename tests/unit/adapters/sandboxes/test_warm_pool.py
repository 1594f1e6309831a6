"""How many sandboxes are made ahead, and when: with sandboxes of no processes and a clock that stands still."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lambdad.adapters.sandboxes.warm_pool import DEMAND_WINDOW_S, KEEP_S, REFILL_AFTER_S, WarmPool
from lambdad.ports.sandbox import SandboxFailed
from unit.adapters.sandboxes.clock_loop import ClockLoop

SOON_S = 0.1
"""More than it waits before it makes up for what was taken."""


class FakeSandbox:
    """What the pool knows of a sandbox."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_alive = True
        self.is_discarded = False

    async def discard(self) -> None:
        await asyncio.sleep(0)
        self.is_alive = False
        self.is_discarded = True


class Scene:
    """A pool whose sandboxes are made when the test says so, or at once."""

    def __init__(self, *, least: int = 1, most: int = 16, at_once: int = 1, by_hand: bool = False) -> None:
        self.sandboxes: list[FakeSandbox] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.most_waiting = 0
        self.unused = 0
        self._by_hand = by_hand
        self.pool = WarmPool(self._make, self._unused, least, most, at_once)  # type: ignore[arg-type]

    async def _make(self) -> FakeSandbox:
        if self._by_hand:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(waiting)
            self.most_waiting = max(self.most_waiting, len(self.waiting))
            try:
                await waiting
            finally:
                self.waiting.remove(waiting)
        self.sandboxes.append(FakeSandbox(len(self.sandboxes)))
        return self.sandboxes[-1]

    def _unused(self) -> None:
        self.unused += 1

    async def take(self) -> FakeSandbox:
        return await self.pool.take()  # type: ignore[return-value]

    def taking(self, count: int = 1) -> list[asyncio.Task[FakeSandbox]]:
        return [asyncio.get_running_loop().create_task(self.take()) for _ in range(count)]

    def alive(self) -> int:
        return sum(sandbox.is_alive for sandbox in self.sandboxes)


def run(scenario: Callable[[ClockLoop], Awaitable[None]]) -> None:
    async def whole(loop: ClockLoop) -> None:
        complaints: list[Any] = []
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        await scenario(loop)
        assert complaints == []

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, ClockLoop)
        runner.run(whole(loop))


def test_nothing_is_made_before_somebody_asks() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene()
        await loop.pass_time(10 * KEEP_S)
        assert scene.sandboxes == []
        assert scene.unused == 0

    run(scenario)


def test_one_that_is_expected_is_made_and_taken_and_the_next_is_made_for_it() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene()
        scene.pool.expect()
        await loop.pass_time(SOON_S)
        assert len(scene.pool) == 1
        taken = await scene.take()
        assert taken is scene.sandboxes[0]
        await loop.pass_time(SOON_S)
        assert len(scene.pool) == scene.pool.wanted == 2  # as many as were asked for of late
        assert (await scene.take()) is scene.sandboxes[1]  # the oldest first

    run(scenario)


def test_after_a_burst_as_many_are_ready_as_it_had_and_never_more_than_the_most() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(most=5)
        for count, ready in ((3, 3), (7, 5)):
            await asyncio.gather(*scene.taking(count))
            await loop.pass_time(SOON_S)
            assert len(scene.pool) == scene.pool.wanted == ready

    run(scenario)


@pytest.mark.parametrize("at_once", [1, 2])
def test_those_made_ahead_are_made_one_after_another(at_once: int) -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(least=4, at_once=at_once, by_hand=True)
        scene.pool.expect()
        for _ in range(4):
            await loop.pass_time(SOON_S)
            for waiting in list(scene.waiting):
                waiting.set_result(None)
        await loop.pass_time(SOON_S)
        assert len(scene.pool) == 4
        assert scene.most_waiting == at_once

    run(scenario)


def test_none_is_made_ahead_while_somebody_waits() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(by_hand=True)
        taking = scene.taking(3)
        await loop.pass_time(SOON_S)
        assert len(scene.waiting) == 3
        for done in range(3):
            scene.waiting[0].set_result(None)
            await loop.pass_time(SOON_S)
            # The takers that are left, and one ahead when they are served.
            assert len(scene.waiting) == (2 - done or 1)
        assert len({sandbox.number for sandbox in await asyncio.gather(*taking)}) == 3
        await scene.pool.close()

    run(scenario)


def test_one_that_has_died_idle_is_discarded_and_the_next_is_taken() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(least=2)
        scene.pool.expect()
        await loop.pass_time(SOON_S)
        scene.sandboxes[0].is_alive = False
        assert (await scene.take()) is scene.sandboxes[1]
        assert scene.sandboxes[0].is_discarded
        scene.sandboxes[1].is_alive = False
        await loop.pass_time(SOON_S)
        for sandbox in scene.sandboxes:
            sandbox.is_alive = False
        assert (await scene.take()).is_alive  # all were dead: one is made

    run(scenario)


def test_after_the_window_it_shrinks_and_in_the_end_there_is_none() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(least=1, most=8)
        taken = await asyncio.gather(*scene.taking(6))
        await loop.pass_time(SOON_S)
        assert len(scene.pool) == 6
        await loop.pass_time(2 * DEMAND_WINDOW_S)
        assert len(scene.pool) == 1
        await loop.pass_time(2 * KEEP_S)
        assert len(scene.pool) == 0
        assert scene.alive() == 6
        assert scene.unused == 0  # six live
        for sandbox in taken:
            sandbox.is_alive = False
        await loop.pass_time(2 * KEEP_S)
        assert scene.unused == 1
        await loop.pass_time(10 * KEEP_S)
        assert scene.unused == 1

    run(scenario)


def test_a_burst_long_after_the_first_one_is_given_up_as_soon() -> None:
    """The timer for the one that is always ready was set long ago, for long."""

    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(most=8)
        scene.pool.expect()
        await loop.pass_time(2 * DEMAND_WINDOW_S)
        await asyncio.gather(*scene.taking(6))
        await loop.pass_time(SOON_S)
        assert len(scene.pool) == 6
        await loop.pass_time(2 * DEMAND_WINDOW_S)
        assert len(scene.pool) == 1

    run(scenario)


def test_while_one_is_asked_for_now_and_then_one_stays_ready() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene()
        for _ in range(5):
            (await scene.take()).is_alive = False
            await loop.pass_time(0.9 * KEEP_S)
            assert len(scene.pool) == 1
        assert scene.unused == 0

    run(scenario)


def test_trim_gives_up_one_and_none_is_made_again_before_somebody_asks() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(least=2)
        scene.pool.expect()
        await loop.pass_time(SOON_S)
        assert await scene.pool.trim()
        assert await scene.pool.trim()
        assert not await scene.pool.trim()
        await loop.pass_time(DEMAND_WINDOW_S / 2)
        assert len(scene.pool) == 0
        assert all(sandbox.is_discarded for sandbox in scene.sandboxes)
        await scene.take()
        await loop.pass_time(SOON_S)
        assert len(scene.pool) == 2

    run(scenario)


def test_it_is_in_use_while_somebody_waits_although_demand_was_forgotten() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(by_hand=True)
        (taking,) = scene.taking()
        await loop.pass_time(SOON_S)
        scene.pool._demand.clear()  # as `trim` does
        await loop.pass_time(2 * KEEP_S)
        assert scene.unused == 0
        scene.waiting[0].set_result(None)
        assert (await taking).is_alive
        await scene.pool.close()

    run(scenario)


def test_who_has_waited_longest_gets_the_first_that_is_there() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(by_hand=True)
        first, second = scene.taking(2)
        await loop.pass_time(SOON_S)
        scene.waiting[1].set_result(None)
        assert (await first).number == 0
        assert not second.done()
        scene.waiting[0].set_result(None)
        assert (await second).number == 1
        await scene.pool.close()

    run(scenario)


def test_while_a_function_starts_nothing_is_made_ahead() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene()
        scene.pool.expect()
        await loop.pass_time(SOON_S)
        await scene.take()
        await loop.settle()
        assert len(scene.sandboxes) == 1
        await loop.pass_time(REFILL_AFTER_S)
        assert len(scene.sandboxes) > 1

    run(scenario)


def test_those_who_wait_when_it_is_closed_and_those_who_come_later_are_told() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(by_hand=True)
        waiting = scene.taking(2)
        await loop.pass_time(SOON_S)
        await scene.pool.close()
        every = [*waiting, *scene.taking()]
        await loop.pass_time(SOON_S)
        assert all(taking.done() and isinstance(taking.exception(), SandboxFailed) for taking in every)
        assert scene.waiting == scene.sandboxes == []

    run(scenario)


def test_close_discards_what_is_ready_and_gives_up_what_is_being_made() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(least=2, by_hand=True)
        scene.pool.expect()
        await loop.pass_time(SOON_S)
        scene.waiting[0].set_result(None)
        await loop.pass_time(SOON_S)
        assert (len(scene.pool), len(scene.waiting)) == (1, 1)
        await scene.pool.close()
        assert scene.waiting == []
        assert scene.alive() == 0
        await loop.pass_time(10 * KEEP_S)
        assert scene.unused == 0
        assert len(scene.sandboxes) == 1

    run(scenario)


def test_close_waits_for_those_that_are_being_discarded() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(most=8)
        await asyncio.gather(*scene.taking(6))
        await loop.pass_time(SOON_S)
        loop._now += 2 * DEMAND_WINDOW_S
        scene.pool._shrink()
        assert scene.alive() == 12
        await scene.pool.close()
        assert scene.alive() == 6

    run(scenario)


def test_a_taker_who_gives_up_leaves_nobody_waiting() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene(by_hand=True)
        (taking,) = scene.taking()
        await loop.pass_time(SOON_S)
        taking.cancel()
        await loop.pass_time(SOON_S)
        assert taking.cancelled()
        assert len(scene.waiting) == 1  # one is made ahead
        scene.waiting[0].set_result(None)
        await loop.pass_time(SOON_S)
        assert len(scene.pool) == 1

    run(scenario)


@pytest.mark.parametrize("error", [SandboxFailed("no room"), OSError("no room")])
def test_when_none_can_be_made_takers_are_told_and_it_is_not_tried_again_and_again(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(loop: ClockLoop) -> None:
        attempts = 0

        async def make() -> Any:
            nonlocal attempts
            attempts += 1
            raise error

        pool = WarmPool(make, lambda: None, 1, 4)
        with caplog.at_level(logging.WARNING, "lambdad"):
            pool.expect()
            await loop.pass_time(SOON_S)
        assert attempts == 1
        assert "no room" in caplog.text
        with pytest.raises(type(error), match="no room"):
            await pool.take()
        await loop.pass_time(SOON_S)
        assert attempts <= 3
        await pool.close()

    run(scenario)

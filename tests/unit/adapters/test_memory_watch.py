"""Memory limits without control groups, on real processes."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from lambdad.adapters import memory_watch
from lambdad.adapters.memory_watch import MemoryPoller
from unit.adapters.process_trees import MIB, WAIT_S, Python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

ALLOCATE = """
print("ready", flush=True)
held = bytearray(b"x") * (int(sys.stdin.readline()) << 20)
print("held", flush=True)
sys.stdin.read()
"""


async def _peak_above(poller: MemoryPoller, pid: int, least_bytes: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while poller.peak_bytes(pid) <= least_bytes:
            await asyncio.sleep(0.01)


def test_it_tells_of_the_tree_over_its_limit_and_not_of_others() -> None:
    with Python(ALLOCATE) as greedy, Python(ALLOCATE) as modest:
        assert greedy.line() == modest.line() == "ready"

        async def run() -> None:
            poller = MemoryPoller()
            exceeded, called = asyncio.Event(), []
            poller.add(greedy.pid, 48 * MIB, exceeded.set)
            poller.add(modest.pid, 48 * MIB, lambda: called.append(modest.pid))
            await _peak_above(poller, greedy.pid, 0)
            assert not exceeded.is_set()
            greedy.say(64)
            modest.say(16)
            await asyncio.wait_for(exceeded.wait(), WAIT_S)
            assert poller.peak_bytes(greedy.pid) == 0  # it is looked at no more
            await _peak_above(poller, modest.pid, 16 * MIB)
            assert called == []
            assert 16 * MIB < poller.remove(modest.pid) < 48 * MIB
            assert poller.remove(modest.pid) == 0

        asyncio.run(run())


def test_several_trees_have_one_limit_and_those_that_are_gone_count_no_more() -> None:
    with Python(ALLOCATE) as first, Python(ALLOCATE) as second:
        for process in (first, second):
            process.say(48)
            assert [process.line(), process.line()] == ["ready", "held"]

        async def run() -> None:
            poller = MemoryPoller()
            roots = [first.pid]
            exceeded = asyncio.Event()
            poller.add(0, 80 * MIB, exceeded.set, lambda: roots)
            await _peak_above(poller, 0, 48 * MIB)
            assert not exceeded.is_set()
            roots.append(second.pid)
            await asyncio.wait_for(exceeded.wait(), WAIT_S)
            poller.close()

        asyncio.run(run())


def test_it_looks_again_after_it_had_nothing_to_do_and_not_after_it_is_closed() -> None:
    with Python(ALLOCATE) as process:
        process.say(64)
        assert process.line() == "ready"
        assert process.line() == "held"

        async def run() -> None:
            poller = MemoryPoller()
            for _ in range(2):
                exceeded = asyncio.Event()
                poller.add(process.pid, 48 * MIB, exceeded.set)
                await asyncio.wait_for(exceeded.wait(), WAIT_S)
                async with asyncio.timeout(WAIT_S):
                    while poller._task is not None and not poller._task.done():
                        await asyncio.sleep(0.01)
            poller.add(process.pid, 48 * MIB, lambda: pytest.fail("called after it was closed"))
            task = poller._task
            poller.close()
            assert task is not None
            await asyncio.wait([task])

        asyncio.run(run())


def test_it_takes_a_tenth_of_a_core_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 trees at 1 ms each would be a whole core at ten looks a second."""
    looks: list[float] = []

    def slow(_pid: int, _limit_bytes: int) -> int:
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
        looks.append(time.monotonic())
        return 0

    monkeypatch.setattr(memory_watch, "memory_bytes", slow)

    async def run() -> None:
        poller = MemoryPoller()
        start = time.monotonic()
        for pid in range(100):
            poller.add(pid, 1, lambda: None)
        async with asyncio.timeout(WAIT_S):
            while len(looks) <= 100:
                await asyncio.sleep(0.01)
        assert looks[100] - start > 0.8  # 0.1 s of looking, and nine times that of waiting
        poller.close()

    asyncio.run(run())

"""When a sandbox has more than it may: with control groups that say what a test wants."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from lambdad.adapters.control_group import CPU, FREEZE, MEMORY, MIB, PIDS, ControlGroup, ControlGroups
from lambdad.adapters.sandboxes import limits as limits_module
from lambdad.adapters.sandboxes.limits import PROCESSES, Limits, Machine
from unit.adapters.sandboxes.clock_loop import ClockLoop

ALL = frozenset({MEMORY, CPU, PIDS, FREEZE})
MEMORY_MB, TMP_MB = 128, 512
LIMIT = MEMORY_MB * MIB
PID = 4321
LOOK_AGAIN_S = 0.1


class Group(ControlGroup):
    """A group of no processes."""

    def __init__(self, owner: Groups) -> None:
        super().__init__(owner, (), None)
        self.anonymous = self.usage = self.peak = self.shared = 0
        self.is_oom_killed = False
        self.done: list[Any] = []
        self.watched: tuple[int, Callable[[], object]] | None = None

    def limit(self, memory_mb: int, tmpfs_mb: int, processes: int) -> None:
        self.done.append(("limit", memory_mb, tmpfs_mb, processes))

    def limit_cpu(self, memory_mb: int) -> None:
        self.done.append(("cpu", memory_mb))

    def lift_cpu(self) -> None:
        self.done.append("free cpu")

    def freeze(self) -> None:
        self.done.append("freeze")

    def thaw(self) -> None:
        self.done.append("thaw")

    def watch_memory(
        self, loop: asyncio.AbstractEventLoop, threshold_bytes: int, callback: Callable[[], object]
    ) -> None:
        self.watched = (threshold_bytes, callback)

    def unwatch(self) -> None:
        self.watched = None

    def exceed(self) -> None:
        """What the kernel does when usage is above the threshold."""
        assert self.watched is not None
        assert self.usage > self.watched[0]
        callback = self.watched[1]
        self.watched = None
        callback()

    def anonymous_bytes(self) -> int:
        return self.anonymous

    def shared_bytes(self) -> int:
        return self.shared

    def was_oom_killed(self) -> bool:
        return self.is_oom_killed

    def _usage(self) -> int:
        return self.usage

    def _peak(self) -> int:
        return self.peak


class Groups(ControlGroups):
    def __init__(self, abilities: frozenset[str]) -> None:
        super().__init__("cgroup v0", abilities, ())
        self.made: list[Group] = []

    def create(self) -> Group:
        self.made.append(Group(self))
        return self.made[-1]

    def _group(self, directories: tuple[str, ...]) -> Group:
        raise NotImplementedError

    def discard(self, group: ControlGroup, directories: Iterable[str]) -> None:
        assert isinstance(group, Group)
        group.done.append("removed")


class Poller:
    """In place of the machine's: what it was told."""

    def __init__(self) -> None:
        self.watched: dict[int, tuple[int, Callable[[], object]]] = {}

    def add(self, root_pid: int, limit_bytes: int, callback: Callable[[], object]) -> None:
        self.watched[root_pid] = (limit_bytes, callback)

    def remove(self, root_pid: int) -> int:
        self.watched.pop(root_pid, None)
        return 0

    def close(self) -> None:
        self.watched.clear()


class Scene:
    """One sandbox's limits, on a machine with some abilities."""

    def __init__(self, abilities: frozenset[str] | None = ALL) -> None:
        groups = Groups(abilities) if abilities is not None else None
        self.machine = Machine(groups)
        self.poller = Poller()
        self.machine.poller = self.poller  # type: ignore[assignment]
        self.exceeded = 0
        self.limits = Limits(self.machine, self._exceeded)
        self.group = groups.made[0] if groups is not None else None

    def _exceeded(self) -> None:
        self.exceeded += 1

    def assign(self) -> None:
        self.limits.assign(PID, MEMORY_MB, TMP_MB)

    def use(self, *, anonymous_mb: int, beside_mb: int = 0) -> Group:
        """Have the group say so, and be told if it is above the threshold."""
        group = self.group
        assert group is not None
        group.anonymous = anonymous_mb * MIB
        group.usage = (anonymous_mb + beside_mb) * MIB
        group.peak = max(group.peak, group.usage)
        if group.watched is not None and group.usage > group.watched[0]:
            group.exceed()
        return group


@pytest.fixture(autouse=True)
def no_process_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """PID is nobody's, or somebody else's."""
    done: list[Any] = []
    monkeypatch.setattr(limits_module, "stop_tree", lambda pid: done.append(("stop", pid)))
    monkeypatch.setattr(limits_module, "continue_tree", lambda pid: done.append(("continue", pid)))
    monkeypatch.setattr(limits_module, "pss_bytes", lambda _: 40 * MIB)
    monkeypatch.setattr(os, "statvfs", lambda _: _raise(FileNotFoundError()))
    return done


def _raise(error: OSError) -> None:
    raise error


def run(scenario: Callable[[ClockLoop], Any]) -> None:
    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, ClockLoop)
        runner.run(scenario(loop))


def test_the_functions_own_memory_above_the_limit_is_told_once() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene()
        scene.assign()
        scene.use(anonymous_mb=MEMORY_MB + 1)
        await loop.pass_time(10)
        assert scene.exceeded == 1
        assert scene.limits.was_exceeded
        assert scene.limits.max_memory_bytes() == LIMIT

    run(scenario)


def test_files_above_the_limit_are_not_the_functions_memory() -> None:
    """They are looked at again, for its memory may grow while the group is above the threshold anyway."""

    async def scenario(loop: ClockLoop) -> None:
        scene = Scene()
        scene.assign()
        group = scene.use(anonymous_mb=20, beside_mb=400)
        await loop.pass_time(10)
        assert (scene.exceeded, group.watched) == (0, None)
        assert scene.limits.max_memory_bytes() == 20 * MIB
        scene.use(anonymous_mb=MEMORY_MB, beside_mb=400)
        await loop.pass_time(2 * LOOK_AGAIN_S)
        assert scene.exceeded == 1

    run(scenario)


def test_when_the_files_are_gone_the_kernel_watches_again() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene()
        scene.assign()
        scene.use(anonymous_mb=20, beside_mb=400)
        group = scene.use(anonymous_mb=20)
        await loop.pass_time(2 * LOOK_AGAIN_S)
        assert group.watched is not None
        assert group.watched[0] == LIMIT
        scene.use(anonymous_mb=MEMORY_MB + 1)
        assert scene.exceeded == 1

    run(scenario)


def test_after_close_nobody_looks() -> None:
    async def scenario(loop: ClockLoop) -> None:
        scene = Scene()
        scene.assign()
        group = scene.use(anonymous_mb=20, beside_mb=400)
        scene.limits.close()
        group.anonymous = 2 * LIMIT
        await loop.pass_time(10)
        assert scene.exceeded == 0
        assert group.watched is None
        assert group.done[-1] == "removed"

    run(scenario)


def test_what_is_reported_is_never_more_than_the_limit() -> None:
    async def scenario(_: ClockLoop) -> None:
        scene = Scene()
        assert scene.limits.max_memory_bytes() == 0
        scene.assign()
        group = scene.use(anonymous_mb=30)
        assert scene.limits.max_memory_bytes() == 30 * MIB
        group.peak = 90 * MIB  # between two looks
        assert scene.limits.max_memory_bytes() == 90 * MIB
        scene.use(anonymous_mb=10)
        assert scene.limits.max_memory_bytes() == 90 * MIB
        group.anonymous = 3 * LIMIT
        assert scene.limits.max_memory_bytes() == LIMIT

    run(scenario)


def test_who_had_large_files_once_has_not_exceeded_the_limit() -> None:
    """A function that wrote 400 MB to /tmp, removed them and ended by itself: its own status counts."""

    async def scenario(_: ClockLoop) -> None:
        scene = Scene()
        scene.assign()
        scene.use(anonymous_mb=20, beside_mb=400)
        scene.use(anonymous_mb=20)
        scene.limits.max_memory_bytes()
        scene.limits.ended()
        assert not scene.limits.was_exceeded

    run(scenario)


def test_whom_the_kernel_has_killed_for_memory_has_exceeded_the_limit() -> None:
    async def scenario(_: ClockLoop) -> None:
        scene = Scene()
        scene.assign()
        group = scene.use(anonymous_mb=20)
        scene.limits.ended()
        assert not scene.limits.was_exceeded
        group.is_oom_killed = True
        scene.limits.ended()
        assert scene.limits.was_exceeded
        assert scene.limits.max_memory_bytes() == LIMIT

    run(scenario)


def test_a_group_with_everything_does_everything(no_process_is_looked_at: list[Any]) -> None:
    async def scenario(_: ClockLoop) -> None:
        scene = Scene()
        scene.assign()
        scene.limits.limit_cpu()
        scene.limits.freeze()
        scene.limits.thaw()
        scene.limits.lift_cpu()
        scene.limits.close()
        group = scene.group
        assert group is not None
        limited = ("limit", MEMORY_MB, TMP_MB, PROCESSES)
        assert group.done == [limited, ("cpu", MEMORY_MB), "freeze", "thaw", "free cpu", "removed"]
        assert scene.poller.watched == {}
        assert no_process_is_looked_at == []
        assert PROCESSES == 1024

    run(scenario)


@pytest.mark.parametrize("abilities", [None, frozenset({CPU, PIDS})], ids=["no groups", "neither memory nor freezer"])
def test_what_no_group_can_do_is_done_by_looking_and_by_signals(
    abilities: frozenset[str] | None, no_process_is_looked_at: list[Any]
) -> None:
    async def scenario(_: ClockLoop) -> None:
        scene = Scene(abilities)
        assert scene.limits.entries() == []
        scene.assign()
        limit_bytes, callback = scene.poller.watched[PID]
        assert limit_bytes == LIMIT
        scene.limits.limit_cpu()
        scene.limits.freeze()
        scene.limits.thaw()
        assert no_process_is_looked_at == [("stop", PID), ("continue", PID)]
        assert scene.limits.max_memory_bytes() == 40 * MIB
        assert not scene.limits.was_exceeded
        callback()
        assert scene.exceeded == 1
        assert scene.limits.was_exceeded
        assert scene.limits.max_memory_bytes() == LIMIT
        scene.limits.close()
        assert scene.poller.watched == {}

    run(scenario)


def test_it_says_how_each_limit_is_held() -> None:
    assert set(Machine(Groups(ALL)).describe().values()) == {"cgroup v0"}
    without = Machine(None).describe()
    assert set(without) == {"memory", "cpu", "processes", "freeze"}
    assert "cgroup" not in " ".join(without.values())
    some = Machine(Groups(frozenset({FREEZE}))).describe()
    assert some["freeze"] == "cgroup v0"
    assert some["memory"] == without["memory"]

"""Control groups, version 2: one hierarchy, in which a group that has controllers for its children has no processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from typing import Final

from lambdad.adapters.control_group import (
    CPU,
    CPU_PERIOD_US,
    FREEZE,
    MEMORY,
    MIB,
    PIDS,
    ControlGroup,
    ControlGroups,
    cpu_quota_us,
    field_in,
    limit_cpu,
    number_in,
    processes_in,
    read_file,
    remove_directory,
    write_file,
)
from lambdad.adapters.inotify import Inotify

VERSION: Final = "cgroup v2"
_CONTROLLERS: Final = (MEMORY, CPU, PIDS)
_NO_LIMIT: Final = "max"
_DAEMON: Final = "daemon"
_NOT_OF_THE_ROOT: Final = "cgroup.type"


class GroupV2(ControlGroup):
    """A directory in the one hierarchy."""

    def __init__(self, owner: GroupsV2, directory: str, abilities: frozenset[str]) -> None:
        freezer = (f"{directory}/cgroup.freeze", b"1", b"0") if FREEZE in abilities else None
        super().__init__(owner, (directory,), freezer)
        self._groups = owner
        self._directory = directory
        self._abilities = abilities
        self._watch: int | None = None
        self._already: asyncio.Handle | None = None

    def limit(self, memory_mb: int, tmpfs_mb: int, processes: int) -> None:
        if MEMORY in self._abilities:
            write_file(f"{self._directory}/memory.max", str((memory_mb + tmpfs_mb) * MIB))
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap
                write_file(f"{self._directory}/memory.swap.max", "0")
            with contextlib.suppress(FileNotFoundError):  # Linux before 4.19; an environment dies as one
                write_file(f"{self._directory}/memory.oom.group", "1")
        if PIDS in self._abilities:
            write_file(f"{self._directory}/pids.max", str(processes))

    def limit_cpu(self, memory_mb: int) -> None:
        if CPU not in self._abilities:
            return
        quota = str(cpu_quota_us(memory_mb))
        limit_cpu(
            (f"{self._directory}/cpu.max", f"{quota} {CPU_PERIOD_US}"), (f"{self._directory}/cpu.max.burst", quota)
        )

    def lift_cpu(self) -> None:
        if CPU in self._abilities:
            with contextlib.suppress(OSError):
                write_file(f"{self._directory}/cpu.max", "max")

    def watch_memory(
        self, loop: asyncio.AbstractEventLoop, threshold_bytes: int, callback: Callable[[], object]
    ) -> None:
        self.unwatch()
        if MEMORY not in self._abilities:
            return
        events = f"{self._directory}/memory.events"
        before = field_in(events, b"high")

        def modified() -> None:
            if self._watch is not None and field_in(events, b"high") > before:
                exceeded()

        def exceeded() -> None:
            self.unwatch()
            callback()

        # Above `memory.high` the kernel slows the group down; `unwatch` takes it away as soon as it has told us.
        if self.usage_bytes() <= threshold_bytes:
            self._watch = self._groups.inotify(loop).add(events, modified)
            try:
                write_file(f"{self._directory}/memory.high", str(threshold_bytes))
            except OSError:
                self.unwatch()
                raise
        else:
            self._already = loop.call_soon(exceeded)

    def unwatch(self) -> None:
        if self._already is not None:
            self._already.cancel()
            self._already = None
        if self._watch is not None:
            self._groups.forget_watch(self._watch)
            self._watch = None
            with contextlib.suppress(OSError):
                write_file(f"{self._directory}/memory.high", _NO_LIMIT)

    def anonymous_bytes(self) -> int:
        return field_in(f"{self._directory}/memory.stat", b"anon")

    def shared_bytes(self) -> int:
        return field_in(f"{self._directory}/memory.stat", b"shmem")

    def was_oom_killed(self) -> bool:
        return field_in(f"{self._directory}/memory.events", b"oom_kill") > 0

    def _usage(self) -> int:
        return number_in(f"{self._directory}/memory.current")

    def _peak(self) -> int:
        """Since Linux 5.19; before, what is used now."""
        return number_in(f"{self._directory}/memory.peak") or self._usage()


class GroupsV2(ControlGroups):
    """The groups below one parent."""

    def __init__(self, parent: str, abilities: frozenset[str], home: str | None = None) -> None:
        """`home`: the group that lambdad itself was moved out of, to where `make_parent` says."""
        super().__init__(VERSION, abilities, (parent,))
        self._parent = parent
        self._home = home
        self._inotify: tuple[asyncio.AbstractEventLoop, Inotify] | None = None

    def _group(self, directories: tuple[str, ...]) -> GroupV2:
        return GroupV2(self, directories[0], self.abilities)

    def inotify(self, loop: asyncio.AbstractEventLoop) -> Inotify:
        """The one descriptor that watches the files of all groups."""
        if self._inotify is None or self._inotify[0] is not loop:
            self._inotify = (loop, Inotify(loop))
        return self._inotify[1]

    def forget_watch(self, watch: int) -> None:
        if self._inotify is not None:
            self._inotify[1].remove(watch)

    def _release(self) -> None:
        if self._inotify is not None:
            self._inotify[1].close()
            self._inotify = None
        if self._home is not None:
            move_home(self._home, self._parent)


def make_parent(base: str, name: str, own: str) -> tuple[str, str | None] | None:
    """Make a group below `base` that can give controllers to its children. None: it cannot be made there.

    Only where lambdad is alone in `base`, its own group, does it move itself out of the way: into a child of the new
    group. Then that group's `base` comes back too, to be moved home to. Where there are other processes, the children
    can be frozen and no more.
    """
    parent = f"{base}/{name}"
    try:
        os.makedirs(parent, exist_ok=True)
    except OSError:
        return None
    inside = processes_in(base) if os.path.exists(f"{base}/{_NOT_OF_THE_ROOT}") else []
    if not inside:
        _enable(base)
    elif base == own and inside == [os.getpid()]:
        if not _move_in(parent):
            remove_directory(parent)
            return None
        _enable(base)
        _enable(parent)
        return parent, base
    _enable(parent)
    return parent, None


def abilities_below(parent: str) -> frozenset[str]:
    """What the children of a group have by what its files say, which is for a probe to find true."""
    enabled = {word.decode() for word in read_file(f"{parent}/cgroup.subtree_control").split()}
    freezes = {FREEZE} if os.path.exists(f"{parent}/cgroup.freeze") else set()
    return frozenset(freezes | enabled.intersection(_CONTROLLERS))


def move_home(home: str, parent: str) -> None:
    """Undo `make_parent`'s move. What other groups in `home` use cannot be switched off: then lambdad stays."""
    daemon = f"{parent}/{_DAEMON}"
    _switch(parent, "-", _CONTROLLERS)
    _switch(home, "-", _CONTROLLERS)
    with contextlib.suppress(OSError):
        write_file(f"{home}/cgroup.procs", str(os.getpid()))
    remove_directory(daemon)


def _move_in(parent: str) -> bool:
    try:
        os.makedirs(f"{parent}/{_DAEMON}", exist_ok=True)
        write_file(f"{parent}/{_DAEMON}/cgroup.procs", str(os.getpid()))
    except OSError:
        return False
    return True


def _enable(directory: str) -> None:
    """Give the children of a group the controllers that it has.

    With a process in it, the kernel would allow some (it makes the group one of threads), and then never the others.
    """
    there = {word.decode() for word in read_file(f"{directory}/cgroup.controllers").split()}
    _switch(directory, "+", there.intersection(_CONTROLLERS))


def _switch(directory: str, sign: str, controllers: Iterable[str]) -> None:
    for controller in controllers:
        with contextlib.suppress(OSError):
            write_file(f"{directory}/cgroup.subtree_control", f"{sign}{controller}")

"""Control groups, version 1: each controller has a hierarchy of its own, or shares one with others."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from lambdad.adapters.control_group import (
    CPU,
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
    write_file,
)

VERSION: Final = "cgroup v1"
CONTROLLERS: Final = {MEMORY: "memory", CPU: "cpu", PIDS: "pids", FREEZE: "freezer"}
"""What the kernel calls the controller of each ability."""
_USAGE: Final = "memory.usage_in_bytes"
_NOT_SWAPPY: Final = "0"
_NO_QUOTA: Final = "-1"
_WATCH_THREADS: Final = 8


class GroupV1(ControlGroup):
    """A directory in the hierarchy of each controller."""

    def __init__(self, owner: GroupsV1, directories: tuple[str, ...], places: Mapping[str, str]) -> None:
        """`places`: the directory of each ability."""
        freezer = (f"{places[FREEZE]}/freezer.state", b"FROZEN", b"THAWED") if FREEZE in places else None
        super().__init__(owner, directories, freezer)
        self._memory = places.get(MEMORY)
        self._cpu = places.get(CPU)
        self._pids = places.get(PIDS)
        self._groups = owner
        self._watch: _Watch | None = None

    def limit(self, memory_mb: int, tmpfs_mb: int, processes: int) -> None:
        if self._memory:
            limit_memory(self._memory, (memory_mb + tmpfs_mb) * MIB)
        if self._pids:
            write_file(f"{self._pids}/pids.max", str(processes))

    def limit_cpu(self, memory_mb: int) -> None:
        if not self._cpu:
            return
        quota = str(cpu_quota_us(memory_mb))
        limit_cpu((f"{self._cpu}/cpu.cfs_quota_us", quota), (f"{self._cpu}/cpu.cfs_burst_us", quota))

    def lift_cpu(self) -> None:
        if self._cpu:
            with contextlib.suppress(OSError):
                write_file(f"{self._cpu}/cpu.cfs_quota_us", _NO_QUOTA)

    def watch_memory(
        self, loop: asyncio.AbstractEventLoop, threshold_bytes: int, callback: Callable[[], object]
    ) -> None:
        self.unwatch()
        if self._memory is None:
            return
        self._watch = _Watch(self._memory, loop, threshold_bytes, callback)
        # The kernel waits 10 ms and more, for its readers (RCU), before a new threshold holds.
        self._watch.start(self._groups.threads())

    def unwatch(self) -> None:
        if self._watch is not None:
            self._watch.end()
            self._watch = None

    def probe(self, memory_mb: int, processes: int) -> None:
        super().probe(memory_mb, processes)
        if self._memory is not None:
            event_fd = os.eventfd(0, os.EFD_CLOEXEC)
            try:
                _register(self._memory, event_fd, memory_mb * MIB)
            finally:
                os.close(event_fd)

    def anonymous_bytes(self) -> int:
        return field_in(f"{self._memory}/memory.stat", b"rss") if self._memory else 0

    def shared_bytes(self) -> int:
        return field_in(f"{self._memory}/memory.stat", b"shmem") if self._memory else 0

    def was_oom_killed(self) -> bool:
        return bool(self._memory) and field_in(f"{self._memory}/memory.oom_control", b"oom_kill") > 0

    def _usage(self) -> int:
        return number_in(f"{self._memory}/{_USAGE}") if self._memory else 0

    def _peak(self) -> int:
        return number_in(f"{self._memory}/memory.max_usage_in_bytes") if self._memory else 0


class _Watch:
    """A threshold of memory usage, of which the kernel tells through an eventfd."""

    def __init__(
        self, directory: str, loop: asyncio.AbstractEventLoop, threshold_bytes: int, callback: Callable[[], object]
    ) -> None:
        self._directory = directory
        self._loop = loop
        self._threshold_bytes = threshold_bytes
        self._callback = callback
        self._ended = False
        self._registered = False
        self._event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        loop.add_reader(self._event_fd, self._exceeded)

    def start(self, threads: ThreadPoolExecutor) -> None:
        registering = self._loop.run_in_executor(
            threads, _register, self._directory, self._event_fd, self._threshold_bytes
        )
        registering.add_done_callback(self._started)

    def _started(self, registering: asyncio.Future[None]) -> None:
        self._registered = True
        error = None if registering.cancelled() else registering.exception()
        if self._ended:
            os.close(self._event_fd)
        elif error is not None:
            self._loop.call_exception_handler({"message": "memory cannot be watched", "exception": error})
        # The kernel tells of a crossing, not of what was so before.
        elif number_in(f"{self._directory}/{_USAGE}") > self._threshold_bytes:
            self._exceeded()

    def _exceeded(self) -> None:
        self.end()
        self._callback()

    def end(self) -> None:
        """The descriptor stays open while a thread still registers it: its number must not come to mean another."""
        if self._ended:
            return
        self._ended = True
        self._loop.remove_reader(self._event_fd)
        if self._registered:
            os.close(self._event_fd)


def _register(directory: str, event_fd: int, threshold_bytes: int) -> None:
    try:
        usage_fd = os.open(f"{directory}/{_USAGE}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # the group is gone already
    try:
        write_file(f"{directory}/cgroup.event_control", f"{event_fd} {usage_fd} {threshold_bytes}")
    finally:
        os.close(usage_fd)


def limit_memory(directory: str, limit_bytes: int) -> None:
    """Memory, and memory with swap, are held to the same: nothing is swapped beyond the limit."""
    memory, with_swap = f"{directory}/memory.limit_in_bytes", f"{directory}/memory.memsw.limit_in_bytes"
    try:
        write_file(memory, str(limit_bytes))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        write_file(with_swap, str(limit_bytes))  # it may not be the smaller one at any time
        write_file(memory, str(limit_bytes))
        return
    try:
        write_file(with_swap, str(limit_bytes))
    except FileNotFoundError:  # swap is not accounted for
        write_file(f"{directory}/memory.swappiness", _NOT_SWAPPY)


class GroupsV1(ControlGroups):
    """The groups below one parent in each hierarchy."""

    def __init__(self, parents: Mapping[str, str]) -> None:
        """`parents`: the parent directory for each ability; one that is named twice is a hierarchy that is shared."""
        super().__init__(VERSION, frozenset(parents), tuple(dict.fromkeys(parents.values())))
        self._parent_of = dict(parents)
        self._threads: ThreadPoolExecutor | None = None

    @property
    def freezer(self) -> str | None:
        return self._parent_of.get(FREEZE)

    def threads(self) -> ThreadPoolExecutor:
        """They wait in the kernel for all groups."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_WATCH_THREADS, thread_name_prefix="memory-watch")
        return self._threads

    def _release(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def _group(self, directories: tuple[str, ...]) -> GroupV1:
        by_parent = dict(zip(self._parents, directories, strict=True))
        return GroupV1(self, directories, {ability: by_parent[parent] for ability, parent in self._parent_of.items()})

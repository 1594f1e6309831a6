"""A control group of the Linux kernel, which holds the processes in it to limits together: what both versions share.

An ability that the machine's control groups lack does nothing here: ask `ControlGroups.abilities` which there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import signal
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

MEMORY: Final = "memory"
CPU: Final = "cpu"
PIDS: Final = "pids"
FREEZE: Final = "freeze"
MIB: Final = 1 << 20

CPU_PERIOD_US: Final = 100_000
_MEMORY_MB_PER_CPU: Final = 1769
_MIN_QUOTA_US: Final = 1_000
_READ_BYTES: Final = 1 << 16
# What is busy is tried again as other groups are removed: so many at a time.
_RETRIES_PER_REMOVAL: Final = 2
_CLOSE_WAIT_S: Final = 0.5
_CLOSE_STEP_S: Final = 0.005
# A file of a group that is being removed, or has been, answers so.
_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV})


class ControlGroup(ABC):
    """One group. Its methods are quick system calls, meant for the event loop's own thread."""

    def __init__(
        self, owner: ControlGroups, directories: tuple[str, ...], freezer: tuple[str, bytes, bytes] | None
    ) -> None:
        """`freezer`: the file that freezes, what to write there to freeze, and what to thaw."""
        self._owner = owner
        self._directories = directories
        self._freezer = freezer
        self._freezer_fd = -1
        self._largest_seen = 0
        self._removed = False

    def entry_fds(self) -> list[int]:
        """Open files, close-on-exec, to each of which a process writes `0\\n` to enter. The caller closes them.

        The kernel looks at who opened the file, not at who writes: a process that has given up its user and its
        capabilities can still enter.
        """
        fds: list[int] = []
        try:
            for directory in self._directories:
                fds.append(os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    @abstractmethod
    def limit(self, memory_mb: int, tmpfs_mb: int, processes: int) -> None:
        """Hold the group to its memory, swap included, and to a number of processes and threads.

        Files in the group's own tmpfs are charged to it although they are not the function's memory: the kernel's limit
        is the sum of both, a backstop behind `watch_memory`. Raises `OSError` when the kernel refuses.
        """

    @abstractmethod
    def limit_cpu(self, memory_mb: int) -> None:
        """Give the group processor time in proportion to its memory: 1,769 MB is one vCPU. Without: no limit."""

    @abstractmethod
    def lift_cpu(self) -> None:
        """Let the group have as much again as there is, to die: a thousand processes need seconds. Never raises."""

    def freeze(self) -> None:
        """Stop every process of the group. It does not wait until they have stopped.

        In version 1 a frozen process does not even die of SIGKILL before it is thawed.
        """
        if self._freezer is not None:
            self._turn_freezer(self._freezer[0], self._freezer[1])

    def thaw(self) -> None:
        """Let the processes go on."""
        if self._freezer is not None:
            self._turn_freezer(self._freezer[0], self._freezer[2])

    def _turn_freezer(self, path: str, word: bytes) -> None:
        if self._removed:
            return
        try:
            if self._freezer_fd < 0:
                self._freezer_fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            os.pwrite(self._freezer_fd, word, 0)
        except OSError as error:
            if error.errno not in _GONE:
                raise

    @abstractmethod
    def watch_memory(
        self, loop: asyncio.AbstractEventLoop, threshold_bytes: int, callback: Callable[[], object]
    ) -> None:
        """Call back once, on the loop, soon after `usage_bytes` exceeds a threshold; at once if it already does.

        Usage has files of the tmpfs and the page cache in it: look at `anonymous_bytes` or the tree's own figures
        before anything is killed, and watch again with a higher threshold if there is no reason to.
        """

    @abstractmethod
    def unwatch(self) -> None:
        """Watch no more. The callback is not called after this."""

    def usage_bytes(self) -> int:
        """What is charged to the group now: its memory, its tmpfs files, page cache that can be dropped."""
        usage = self._usage()
        self._largest_seen = max(self._largest_seen, usage)
        return usage

    def peak_bytes(self) -> int:
        """The most that was ever charged to the group; where the kernel does not keep it, the most that was seen."""
        self._largest_seen = max(self._largest_seen, self._peak())
        return self._largest_seen

    @abstractmethod
    def anonymous_bytes(self) -> int:
        """The processes' own memory: usage without tmpfs files, page cache and what the kernel keeps for them."""

    @abstractmethod
    def shared_bytes(self) -> int:
        """Memory that processes share without a file behind it, and the files of a tmpfs: one is as the other here."""

    @abstractmethod
    def was_oom_killed(self) -> bool:
        """Whether the kernel has killed a process of the group at its memory limit."""

    @abstractmethod
    def _usage(self) -> int: ...

    @abstractmethod
    def _peak(self) -> int: ...

    def probe(self, memory_mb: int, processes: int) -> None:
        """Use every ability once, on a group that is made for it. Raises `OSError` when one does not work."""
        self.limit(memory_mb, 0, processes)
        self.limit_cpu(memory_mb)
        self.freeze()
        self.thaw()

    def processes(self) -> list[int]:
        """The processes in the group, 0 for one of a pid namespace that is not seen from here."""
        return processes_in(self._directories[0])

    def remove(self) -> None:
        """Remove the group; if processes are still dying in it, later: see `ControlGroups.sweep`. Never raises."""
        if self._removed:
            return
        self.unwatch()
        self._removed = True
        if self._freezer_fd >= 0:
            os.close(self._freezer_fd)
            self._freezer_fd = -1
        self._owner.discard(self, self._directories)


class ControlGroups(ABC):
    """The groups of one daemon, below one parent in each hierarchy."""

    def __init__(self, version: str, abilities: frozenset[str], parents: tuple[str, ...]) -> None:
        self.version = version
        """For people: `cgroup v1` or `cgroup v2`."""
        self.abilities = abilities
        """Which of memory, cpu, pids, freeze the groups have."""
        self._parents = parents
        self._numbers = itertools.count(1)
        self._groups: set[ControlGroup] = set()
        self._busy: deque[str] = deque()

    def create(self) -> ControlGroup:
        """A new, empty group without limits. Raises `OSError` when the kernel makes no more."""
        while True:
            directories = tuple(f"{parent}/{number}" for number in (next(self._numbers),) for parent in self._parents)
            try:
                make_directories(directories)
            except FileExistsError:  # left by a dead daemon that had this one's name
                continue
            group = self._group(directories)
            self._groups.add(group)
            return group

    @property
    def freezer(self) -> str | None:
        """The parent of groups in which a process that is frozen does not die; None where it does."""
        return None

    @abstractmethod
    def _group(self, directories: tuple[str, ...]) -> ControlGroup: ...

    def discard(self, group: ControlGroup, directories: Iterable[str]) -> None:
        """Remove a group's directories, now or as soon as nothing is in them."""
        self._groups.discard(group)
        self._retry(min(len(self._busy), _RETRIES_PER_REMOVAL))
        self._busy.extend(directory for directory in directories if not remove_directory(directory))

    def sweep(self) -> int:
        """Try again to remove what was busy. Returns how many directories still are."""
        self._retry(len(self._busy))
        return len(self._busy)

    def _retry(self, times: int) -> None:
        for _ in range(times):
            directory = self._busy.popleft()
            if not remove_directory(directory):
                self._busy.append(directory)

    def adopt_leftovers(self, directories: Iterable[str]) -> None:
        """Take over what is left of dead daemons, to be removed when it can be."""
        self._busy.extend(directories)

    def close(self) -> None:
        """Remove everything. Processes should be dead by now: it waits half a second for them at the most."""
        for group in list(self._groups):
            with contextlib.suppress(OSError):
                group.thaw()
            group.remove()
        end = time.monotonic() + _CLOSE_WAIT_S
        while self.sweep() and time.monotonic() < end:
            time.sleep(_CLOSE_STEP_S)
        self._release()
        for parent in self._parents:
            remove_directory(parent)

    def _release(self) -> None:
        """Give up what else was taken below the parents, which are about to be removed."""
        return


def cpu_quota_us(memory_mb: int) -> int:
    """The processor time, in each period of 100 ms, of a function of this size."""
    return max(_MIN_QUOTA_US, memory_mb * CPU_PERIOD_US // _MEMORY_MB_PER_CPU)


def limit_cpu(quota: tuple[str, str], burst: tuple[str, str]) -> None:
    """Write a quota to its file, and to another how much of it is saved up while it is not used."""
    try:
        write_file(*quota)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # It may not be less than the burst that was. Or it is more than lambdad's own group has, whose limit holds.
        with contextlib.suppress(OSError):
            write_file(burst[0], "0")
            write_file(*quota)
    with contextlib.suppress(OSError):  # Linux before 5.14 saves nothing up
        write_file(*burst)


def read_file(path: str) -> bytes:
    """All of a small file; nothing if it is gone or cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, _READ_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)


def write_file(path: str, text: str) -> None:
    """Write to a file that is there. Raises `OSError`, also for what the kernel thinks of the text."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def number_in(path: str) -> int:
    """The number that a file holds; 0 if it is gone, or says `max`."""
    text = read_file(path).strip()
    return int(text) if text.isdigit() else 0


def field_in(path: str, name: bytes) -> int:
    """The number after a name, in a file of lines `name number`; 0 if there is none."""
    for line in read_file(path).splitlines():
        key, _, value = line.partition(b" ")
        if key == name:
            return int(value)
    return 0


def processes_in(directory: str) -> list[int]:
    """The processes in one directory of a hierarchy."""
    return [int(pid) for pid in read_file(f"{directory}/cgroup.procs").split()]


def make_directories(directories: Iterable[str]) -> None:
    """Make all of them, or none and raise `OSError`."""
    made: list[str] = []
    try:
        for directory in directories:
            os.mkdir(directory)
            made.append(directory)
    except OSError:
        for directory in made:
            remove_directory(directory)
        raise


def remove_directory(directory: str) -> bool:
    """Remove one directory of a hierarchy. False: something is in it still."""
    try:
        os.rmdir(directory)
    except OSError as error:
        return error.errno in _GONE
    return True


def kill_processes(directory: str) -> None:
    """Kill what is in one directory of a hierarchy."""
    for pid in processes_in(directory):
        if pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

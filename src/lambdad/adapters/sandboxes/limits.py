"""What a sandbox may use: its memory, processor time, processes; and how it is stopped between invocations.

A control group where the machine has one, whatever of it there is; for the rest, looking and signals.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from lambdad.adapters.control_group import CPU, FREEZE, MEMORY, MIB, PIDS, ControlGroup, ControlGroups
from lambdad.adapters.control_groups import find
from lambdad.adapters.memory_watch import MemoryPoller
from lambdad.adapters.process_tree import continue_tree, pss_bytes, stop_tree
from lambdad_sandbox import confinement

PROCESSES: Final = confinement.PROCESSES
"""Processes and threads of one environment: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
_LOOK_AGAIN_S: Final = 0.1
_WATCH_AFTER_S: Final = 0.01


class Machine:
    """What this machine has to hold sandboxes to their limits."""

    def __init__(self, groups: ControlGroups | None) -> None:
        self.groups = groups
        self.poller = MemoryPoller()

    @classmethod
    def found(cls) -> Machine:
        """This machine: its control groups are found by using them, which takes some milliseconds."""
        return cls(find(f"lambdad-{os.getpid()}"))

    def has(self, ability: str) -> bool:
        return self.groups is not None and ability in self.groups.abilities

    def describe(self) -> dict[str, str]:
        """How each limit is enforced here, for people."""
        version = self.groups.version if self.groups is not None else ""
        return {
            "memory": version if self.has(MEMORY) else "measured, and killed above the limit",
            "cpu": version if self.has(CPU) else "not limited",
            "processes": version if self.has(PIDS) else "resource limit",
            "freeze": version if self.has(FREEZE) else "signals",
        }

    def close(self) -> None:
        self.poller.close()
        if self.groups is not None:
            self.groups.close()


class Limits:
    """The limits of one sandbox. `exceeded` is called, once, when it has more memory than it may."""

    def __init__(self, machine: Machine, exceeded: Callable[[], None]) -> None:
        """Make room for a sandbox. Raises OSError when the kernel has no more."""
        self._machine = machine
        self._exceeded = exceeded
        self._group: ControlGroup | None = machine.groups.create() if machine.groups is not None else None
        self._loop = asyncio.get_running_loop()
        self._pid = 0
        self._limit_bytes = 0
        self._memory_mb = 0
        self._most_bytes = 0
        self._was_exceeded = False
        self._again: asyncio.TimerHandle | None = None

    def entries(self) -> list[int]:
        """Descriptors by which the sandbox's first process enters; the caller closes them."""
        return self._group.entry_fds() if self._group is not None else []

    def assign(self, pid: int, memory_mb: int, tmp_mb: int) -> None:
        """Hold the process tree of `pid` to a function's memory, and to the processes that all functions may have."""
        self._pid = pid
        self._memory_mb = memory_mb
        self._limit_bytes = memory_mb * MIB
        if self._group is not None:
            self._group.limit(memory_mb, tmp_mb, PROCESSES)
        if self._group is not None and self._machine.has(MEMORY):
            # In a moment: the function is starting, and this costs it time. The kernel's own limit holds already.
            self._again = self._loop.call_later(_WATCH_AFTER_S, self._look_again)
        else:
            self._machine.poller.add(pid, self._limit_bytes, self._is_exceeded)

    def limit_cpu(self) -> None:
        if self._group is not None:
            self._group.limit_cpu(self._memory_mb)

    def lift_cpu(self) -> None:
        """What is to die may use what there is for it."""
        if self._group is not None:
            self._group.lift_cpu()

    def freeze(self) -> None:
        if self._group is not None and self._machine.has(FREEZE):
            self._group.freeze()
        else:
            stop_tree(self._pid)

    def thaw(self) -> None:
        if self._group is not None and self._machine.has(FREEZE):
            self._group.thaw()
        else:
            continue_tree(self._pid)

    def max_memory_bytes(self) -> int:
        """The most that the processes were seen to hold, never more than they may."""
        if self._group is not None and self._machine.has(MEMORY):
            held = self._held_bytes()
            beside = self._group.usage_bytes() - held  # the page cache and the files in /tmp
            self._most_bytes = max(self._most_bytes, held, self._group.peak_bytes() - beside)
        elif self._pid:
            self._most_bytes = max(self._most_bytes, pss_bytes(self._pid))
        return min(self._most_bytes, self._limit_bytes)

    @property
    def was_exceeded(self) -> bool:
        """Whether that is why it has ended. A peak says nothing: files that are gone again may be in it."""
        return self._was_exceeded

    def ended(self) -> None:
        """The runtime has ended: see whether the kernel did it, for memory."""
        if self._group is not None and self._machine.has(MEMORY) and self._group.was_oom_killed():
            self._was_exceeded = True
            self._most_bytes = self._limit_bytes

    def close(self) -> None:
        """The processes are gone."""
        if self._again is not None:
            self._again.cancel()
        if self._group is not None:
            self._group.remove()
        if not self._machine.has(MEMORY) and self._pid:
            self._machine.poller.remove(self._pid)

    def _held_bytes(self) -> int:
        """The processes' own memory: what only they can see. Files in their /tmp are no part of it."""
        assert self._group is not None
        shared = self._group.shared_bytes()
        return self._group.anonymous_bytes() + (max(0, shared - _used_bytes(self._pid)) if shared else 0)

    def _look(self) -> None:
        """More is charged to the group than the function may have: whether it is the function's own memory."""
        assert self._group is not None
        if self._held_bytes() >= self._limit_bytes:
            self._is_exceeded()
        else:
            # Pages of files in /tmp or of files that were read, which are not the function's: watch what is.
            self._again = self._loop.call_later(_LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        assert self._group is not None
        if self._group.usage_bytes() > self._limit_bytes:
            self._look()
        else:
            self._group.watch_memory(self._loop, self._limit_bytes, self._look)

    def _is_exceeded(self) -> None:
        self._was_exceeded = True
        self._most_bytes = self._limit_bytes
        self._exceeded()


def _used_bytes(pid: int) -> int:
    """How much the files in a sandbox's /tmp take; 0 when it is not there any more."""
    try:
        tmp = os.statvfs(os.path.join("/proc", str(pid), "root", "tmp"))
    except OSError:
        return 0
    return (tmp.f_blocks - tmp.f_bfree) * tmp.f_frsize

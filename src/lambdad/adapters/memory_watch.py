"""Memory limits where there is no memory control group: one task looks at the busy environments, again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lambdad.adapters.process_tree import memory_bytes

_PAUSE_S: Final = 0.1
# Of one core: for a millisecond of looking it waits nine.
_SHARE: Final = 0.1
# So long it looks before others have their turn on the event loop.
_SLICE_S: Final = 0.002


@dataclass(slots=True)
class _Watched:
    limit_bytes: int
    callback: Callable[[], object]
    roots: Callable[[], Sequence[int]]
    peak_bytes: int = 0


class MemoryPoller:
    """Calls back when the memory of a process tree exceeds its limit.

    It looks every 100 ms, or as seldom as it must to take no more than a tenth of a core. What comes and goes between
    two looks is not seen.
    """

    def __init__(self) -> None:
        self._watched: dict[int, _Watched] = {}
        self._task: asyncio.Task[None] | None = None

    def add(
        self,
        root_pid: int,
        limit_bytes: int,
        callback: Callable[[], object],
        roots: Callable[[], Sequence[int]] | None = None,
    ) -> None:
        """Look at a tree from now on. When it has exceeded the limit, the callback is called once and that is all.

        `roots`: for several trees that have one limit, the roots of those there are; `root_pid` is a mere key then.
        """
        self._watched[root_pid] = _Watched(limit_bytes, callback, roots or (lambda: (root_pid,)))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._poll())

    def remove(self, root_pid: int) -> int:
        """Look no more. Returns the tree's peak, 0 if it was not looked at yet or has exceeded its limit."""
        watched = self._watched.pop(root_pid, None)
        return watched.peak_bytes if watched else 0

    def peak_bytes(self, root_pid: int) -> int:
        """The most that `process_tree.memory_bytes` has said of a tree since it was added; 0 for one not looked at."""
        watched = self._watched.get(root_pid)
        return watched.peak_bytes if watched else 0

    def close(self) -> None:
        """Look at nothing more."""
        self._watched.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _poll(self) -> None:
        while self._watched:
            spent = await self._round()
            await asyncio.sleep(max(_PAUSE_S, spent * (1 - _SHARE) / _SHARE))

    async def _round(self) -> float:
        """Look at every tree once. Returns the seconds that it took."""
        spent = 0.0
        start = time.perf_counter()
        for pid, watched in list(self._watched.items()):
            if self._watched.get(pid) is not watched:
                continue  # it was removed in another's turn
            self._look(pid, watched)
            took = time.perf_counter() - start
            if took > _SLICE_S:
                spent += took
                await asyncio.sleep(0)
                start = time.perf_counter()
        return spent + time.perf_counter() - start

    def _look(self, pid: int, watched: _Watched) -> None:
        used = memory_bytes(watched.limit_bytes, *watched.roots())
        watched.peak_bytes = max(watched.peak_bytes, used)
        if used > watched.limit_bytes:
            del self._watched[pid]
            watched.callback()

"""How much memory Linux can still give: to anybody, and to the memory control group that lambdad was started in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_KIB: Final = 1024
_GOOD_FOR_S: Final = 0.1
# Version 1 says "no limit" with the largest number of pages that there is.
_NO_LIMIT: Final = 1 << 60
_V1_CONTROLLER: Final = "memory"


class SystemMemoryGauge:
    """A `lambdad.ports.memory.MemoryGauge`. Without /proc it knows nothing.

    A control group has left what its limit is above its use, where use is without the files that the kernel has in
    memory and can drop; the groups around it count as well. Groups of either version are found by /proc/self/cgroup.
    """

    def __init__(
        self,
        proc: Path = Path("/proc"),
        groups: Path = Path("/sys/fs/cgroup"),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meminfo = proc / "meminfo"
        self._limited = [*_limited_groups(proc / "self" / "cgroup", groups)]
        self._monotonic = monotonic
        self._looked = -_GOOD_FOR_S
        self._available: int | None = None

    def available_bytes(self, *, fresh: bool = False) -> int | None:
        now = self._monotonic()
        if fresh or now - self._looked >= _GOOD_FOR_S:
            self._looked = now
            left = [group.left_bytes() for group in self._limited]
            known = [each for each in (_after(self._meminfo, "MemAvailable:", _KIB), *left) if each is not None]
            self._available = min(known, default=None)
        return self._available


class _Group:
    """The files of one memory control group, in the words of its version."""

    def __init__(self, directory: Path, is_v2: bool) -> None:
        self._limit = directory / ("memory.max" if is_v2 else "memory.limit_in_bytes")
        self._usage = directory / ("memory.current" if is_v2 else "memory.usage_in_bytes")
        self._stat = directory / "memory.stat"
        self._droppable = "inactive_file" if is_v2 else "total_inactive_file"

    def left_bytes(self) -> int | None:
        """None when it has no limit, or does not tell."""
        limit, usage = _number(self._limit), _number(self._usage)
        if limit is None or usage is None or limit >= _NO_LIMIT:
            return None
        return max(0, limit - max(0, usage - (_after(self._stat, self._droppable, 1) or 0)))

    def exists(self) -> bool:
        return self._usage.exists()


def _limited_groups(own: Path, groups: Path) -> Iterator[_Group]:
    """The group of this process, and those around it; a container may see its own group as the uppermost one."""
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        is_v2 = not controllers
        if not is_v2 and _V1_CONTROLLER not in controllers.split(","):
            continue
        root = groups if is_v2 else groups / _V1_CONTROLLER
        relative = PurePosixPath(path.lstrip("/"))
        for name in (relative, *relative.parents):
            group = _Group(root / name, is_v2)
            if group.exists():
                yield group


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdecimal() else None


def _after(file: Path, label: str, unit_bytes: int) -> int | None:
    """The number on the line that begins with a label."""
    for line in _text(file).splitlines():
        words = line.split()
        if words[:1] == [label]:
            return int(words[1]) * unit_bytes
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""

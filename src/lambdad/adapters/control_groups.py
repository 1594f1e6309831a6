"""Which control groups this machine lets lambdad make: found out by making them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lambdad.adapters.control_group import (
    MEMORY,
    ControlGroup,
    ControlGroups,
    kill_processes,
    processes_in,
    remove_directory,
    write_file,
)
from lambdad.adapters.control_groups_v1 import CONTROLLERS, GroupsV1
from lambdad.adapters.control_groups_v1 import VERSION as V1
from lambdad.adapters.control_groups_v2 import VERSION as V2
from lambdad.adapters.control_groups_v2 import GroupsV2, abilities_below, make_parent

__all__ = ["V1", "V2", "ControlGroup", "ControlGroups", "find"]

_UNIFIED: Final = ""
_OWN_GROUPS: Final = "/proc/self/cgroup"
_MOUNTS: Final = "/proc/self/mountinfo"
_PROBE_MB: Final = 64
_PROBE_PROCESSES: Final = 64
_NAMED_AFTER_PID: Final = re.compile(r"(.*\D)(\d+)")
_THAWED: Final = (("freezer.state", "THAWED"), ("cgroup.freeze", "0"))
# mountinfo: id, parent, device, root, mount point, options, tags..., "-", type, source, super options
_MOUNT_ROOT: Final = 3
_MOUNT_POINT: Final = 4


@dataclass(frozen=True, slots=True)
class _Hierarchy:
    mount: str
    own: str
    """The directory of lambdad's own group; the mount's when that is not seen from here."""


def find(name: str, versions: Sequence[str] = (V2, V1)) -> ControlGroups | None:
    """The control groups that lambdad can make, below a group of this name; None if there are none of any use.

    Every ability was tried on a process before it is promised. Version 2 is taken unless version 1 has the memory
    controller, or more controllers, where version 2 has not. When the name ends in lambdad's process id, what daemons
    of such names have left behind is removed: those whose process is dead.
    """
    if sys.platform != "linux":
        return None
    hierarchies = _hierarchies()
    leftovers = [path for base in _bases(hierarchies) for path in _clear_leftovers(base, name)]
    found: list[ControlGroups] = []
    for version in versions:
        groups = (_find_v2 if version == V2 else _find_v1)(hierarchies, name)
        if groups is not None:
            found.append(groups)
            if MEMORY in groups.abilities:
                break
    if not found:
        return None
    best = max(found, key=_worth)
    for groups in found:
        if groups is not best:
            groups.close()
    best.adopt_leftovers(leftovers)
    return best


def _worth(groups: ControlGroups) -> tuple[bool, int]:
    return MEMORY in groups.abilities, len(groups.abilities)


def _find_v2(hierarchies: dict[str, _Hierarchy], name: str) -> ControlGroups | None:
    hierarchy = hierarchies.get(_UNIFIED)
    if hierarchy is None:
        return None
    best: ControlGroups | None = None
    for base in _upwards(hierarchy):
        groups = _try_v2(base, name, hierarchy.own)
        if groups is None:
            continue
        if best is not None and _worth(groups) <= _worth(best):
            groups.close()
            continue
        if best is not None:
            best.close()
        best = groups
        if MEMORY in best.abilities:
            break
    return best


def _try_v2(base: str, name: str, own: str) -> ControlGroups | None:
    made = make_parent(base, name, own)
    if made is None:
        return None
    parent, home = made
    working = _working(abilities_below(parent), lambda ability: GroupsV2(parent, frozenset({ability})))
    groups = GroupsV2(parent, working, home)
    if working:
        return groups
    groups.close()
    return None


def _find_v1(hierarchies: dict[str, _Hierarchy], name: str) -> ControlGroups | None:
    parents: dict[str, str] = {}
    for ability, controller in CONTROLLERS.items():
        hierarchy = hierarchies.get(controller)
        parent = _make_v1_parent(hierarchy, name) if hierarchy else None
        if parent is not None:
            parents[ability] = parent
    working = _working(frozenset(parents), lambda ability: GroupsV1({ability: parents[ability]}))
    kept = {ability: parent for ability, parent in parents.items() if ability in working}
    for parent in set(parents.values()).difference(kept.values()):
        remove_directory(parent)
    return GroupsV1(kept) if kept else None


def _make_v1_parent(hierarchy: _Hierarchy, name: str) -> str | None:
    for base in dict.fromkeys((hierarchy.own, hierarchy.mount)):
        with contextlib.suppress(OSError):
            os.makedirs(f"{base}/{name}", exist_ok=True)
            return f"{base}/{name}"
    return None


def _working(abilities: frozenset[str], groups_with: Callable[[str], ControlGroups]) -> frozenset[str]:
    return frozenset(ability for ability in abilities if _works(groups_with(ability)))


def _works(groups: ControlGroups) -> bool:
    """Put a process into a group, and do to it whatever can be done."""
    try:
        group = groups.create()
    except OSError:
        return False
    process = subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE)
    try:
        for fd in group.entry_fds():
            with open(fd, "wb", buffering=0) as entry:
                entry.write(str(process.pid).encode())
        group.probe(_PROBE_MB, _PROBE_PROCESSES)
        return process.pid in group.processes()
    except OSError:
        return False
    finally:
        process.kill()
        process.communicate()
        group.remove()
        groups.sweep()


def _hierarchies() -> dict[str, _Hierarchy]:
    """The hierarchies that are mounted, by controller; that of version 2 is called with the empty string."""
    own = {controller: path for controllers, path in _own_groups() for controller in controllers.split(",")}
    found: dict[str, _Hierarchy] = {}
    for kind, mount, root, options in _mounts():
        controllers = (_UNIFIED,) if kind == "cgroup2" else options.split(",")
        for controller in controllers:
            if controller in own:
                found.setdefault(controller, _Hierarchy(mount, _own_directory(mount, root, own[controller])))
    return found


def _own_groups() -> Iterator[tuple[str, str]]:
    with contextlib.suppress(OSError), open(_OWN_GROUPS) as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            yield controllers, path


def _mounts() -> Iterator[tuple[str, str, str, str]]:
    """Type, mount point, root within the hierarchy and the file system's options of each mounted hierarchy."""
    with contextlib.suppress(OSError), open(_MOUNTS) as file:
        for line in file:
            place, _, what = line.partition(" - ")
            kind, _, options = what.split(None, 2)
            if kind in ("cgroup", "cgroup2"):
                fields = place.split()
                yield kind, fields[_MOUNT_POINT], fields[_MOUNT_ROOT], options.strip()


def _own_directory(mount: str, root: str, path: str) -> str:
    """Where a group is below a mount that may show only a part of the hierarchy, as in containers."""
    below = path.removeprefix(root.rstrip("/")) if path.startswith(root) else path
    directory = (mount + below).rstrip("/")
    return directory if ".." not in below.split("/") and os.path.isdir(directory) else mount


def _upwards(hierarchy: _Hierarchy) -> Iterator[str]:
    """Lambdad's own group, the one that it is in, and so on to the mount's."""
    directory = hierarchy.own
    while directory != hierarchy.mount:
        yield directory
        directory = os.path.dirname(directory)
    yield directory


def _bases(hierarchies: dict[str, _Hierarchy]) -> list[str]:
    """Every directory in which the group of a daemon may be."""
    wanted = [hierarchies[each] for each in (_UNIFIED, *CONTROLLERS.values()) if each in hierarchies]
    return list(dict.fromkeys(base for hierarchy in wanted for base in _upwards(hierarchy)))


def _clear_leftovers(base: str, name: str) -> Iterator[str]:
    """Remove what dead daemons have left in a directory; give back what is busy still, inner directories first."""
    named = _NAMED_AFTER_PID.fullmatch(name)
    if named is None:
        return
    for entry in _listed(base):
        other = _NAMED_AFTER_PID.fullmatch(entry)
        if other is None or other[1] != named[1] or entry == name or _is_alive(int(other[2])):
            continue
        parent = f"{base}/{entry}"
        groups = [f"{parent}/{each}" for each in _listed(parent) if os.path.isdir(f"{parent}/{each}")]
        if any(0 in processes_in(group) for group in groups):
            continue  # of another pid namespace, where its daemon may well be alive
        for group in groups:
            _end(group)
        yield from (directory for directory in (*groups, parent) if not remove_directory(directory))


def _end(group: str) -> None:
    """A frozen process must be thawed to die."""
    kill_processes(group)
    for file, word in _THAWED:
        with contextlib.suppress(OSError):
            write_file(f"{group}/{file}", word)


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _is_alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")

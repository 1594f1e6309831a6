"""What /proc tells of a process and everything that descends from it. On a system without /proc: nothing.

A process may end while it is looked at; it then counts as one that is not there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGESIZE")
_KIB: Final = 1024
_STAT_STATE: Final = 0
_STAT_SESSION: Final = 3
_STATM_RESIDENT: Final = 1
# So long at the most it walks on while there are new processes, or some that have not taken their signal yet: on a
# busy machine it takes its time until a process runs to take it.
_STOP_WAIT_S: Final = 0.1
_STOP_STEP_S: Final = 0.0005
_ABLE_TO_FORK: Final = frozenset({b"R", b"S"})


def children(pid: int) -> Iterator[int]:
    """The children of a process, whichever of its threads made them."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
            yield from map(int, file.read().split())


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on, parents first; not the process itself."""
    tree = [pid]
    for each in tree:  # it grows as it is walked; a chain of a thousand processes is no recursion
        tree += children(each)
    return tree[1:]


def state_and_session(pid: int) -> tuple[bytes, int]:
    """The state's letter (`Z`: dead and not waited for) and the session; `b""` and 0 when there is no such process."""
    fields = _stat_fields(pid)
    return (fields[_STAT_STATE], int(fields[_STAT_SESSION])) if fields else (b"", 0)


def session(pid: int) -> int:
    """The session that a process is in; 0 when there is no such process."""
    return state_and_session(pid)[1]


def is_dead_stranger(pid: int) -> bool:
    """Whether a child is dead and of another session than lambdad's own commands: an orphan that functions left."""
    state, its_session = state_and_session(pid)
    return state == b"Z" and its_session != os.getsid(0)


def is_nameless(pid: int) -> bool:
    """Whether a process that lives shows no variables: it has none, or is just executing a program."""
    try:
        shows_none = not Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return shows_none and state_and_session(pid)[0] not in (b"Z", b"X", b"")


def carries(pid: int, marker: bytes) -> bool:
    """Whether a process was started with this `NAME=value` in its environment."""
    try:
        return marker in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def peak_bytes(status: bytes) -> int:
    """`VmHWM`, the peak resident size, out of the text of /proc/PID/status."""
    return _kib_after(b"VmHWM:", status)


def pss_bytes(root_pid: int) -> int:
    """What a tree holds in memory: each process's own pages, and its share of those it has in common with others."""
    return sum(_pss(pid) for pid in (root_pid, *descendants(root_pid)))


def memory_bytes(limit_bytes: int, *root_pids: int) -> int:
    """What trees hold in memory, exactly (`pss_bytes`) only where that could be more than a limit.

    Resident sizes are quick to read, and their sum is no less than the proportional one: it is the answer where it is
    below the limit.
    """
    pids = [pid for root_pid in root_pids for pid in (root_pid, *descendants(root_pid))]
    resident = sum(_resident(pid) for pid in pids)
    return resident if resident <= limit_bytes else sum(_pss(pid) for pid in pids)


def terminate_first_child(pid: int) -> None:
    """Ask the oldest child of a process to end: the first that it has made of those that are left."""
    for child in children(pid):
        _signal(child, signal.SIGTERM)
        return


def stop_tree(pid: int) -> None:
    """Stop every process of a tree, also those that are forked while this goes on.

    The kernel delivers a signal after the fork that it comes upon. So the last walk is one that finds nobody new and
    nobody who still runs.
    """
    stopped: set[int] = set()
    end = time.monotonic() + _STOP_WAIT_S
    while time.monotonic() < end:
        tree = (pid, *descendants(pid))
        new = [each for each in tree if each not in stopped]
        for each in new:
            _signal(each, signal.SIGSTOP)
        stopped.update(new)
        if not new and not any(state_and_session(each)[0] in _ABLE_TO_FORK for each in tree):
            return
        time.sleep(_STOP_STEP_S)


def continue_tree(pid: int) -> None:
    """Let every process of a stopped tree go on, the youngest first: what runs again finds its children running."""
    for each in reversed((pid, *descendants(pid))):
        _signal(each, signal.SIGCONT)


def holds_socket(root_pid: int, inode: int) -> bool:
    """Whether a process of a tree has this socket open; the root, who most often is asked for, is looked at first."""
    name = f"socket:[{inode}]"
    return _has_open(root_pid, name) or any(_has_open(pid, name) for pid in descendants(root_pid))


def _stat_fields(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the command's name, which may hold spaces and brackets itself."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _resident(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[_STATM_RESIDENT]) * _PAGE_BYTES if fields else 0


def _pss(pid: int) -> int:
    """A process that hides its mappings (`PR_SET_DUMPABLE`) from an ordinary user counts with all that is resident."""
    rollup = _read(f"/proc/{pid}/smaps_rollup")
    return _kib_after(b"\nPss:", rollup) if rollup else _resident(pid)


def _kib_after(label: bytes, text: bytes) -> int:
    start = text.find(label)
    if start < 0:
        return 0
    return int(text[start + len(label) : text.index(b"kB", start)]) * _KIB


def _has_open(pid: int, target: str) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except OSError:
        return False
    for name in names:
        with contextlib.suppress(OSError):
            if os.readlink(f"{directory}/{name}") == target:
                return True
    return False


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _read(path: str) -> bytes:
    """All of a file of /proc, without the layers of `open`; nothing when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 1 << 16)
    except OSError:
        return b""
    finally:
        os.close(fd)

"""The system calls that Python has no function for, each a typed function that raises OSError."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

# sched.h
CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
_CLONE_PIDFD = 0x0000_1000
_SIGCHLD = 17

# sys/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

# linux/mount.h, for mount_setattr
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4

_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = 0o2000000
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_MOVE_MOUNT_F_EMPTY_PATH = 4

# sys/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x2008_0522
_MOST_CAPABILITIES = 64
# /proc/PID/stat, after the command's name: where the arguments are in memory.
_STAT_ARGUMENTS = (45, 46)

# The numbers of the calls; those from 424 on are the same on every architecture.
_NUMBERS = {
    "x86_64": {"clone": 56, "capset": 126, "pivot_root": 155},
    "aarch64": {"clone": 220, "capset": 91, "pivot_root": 41},
}
_OPEN_TREE = 428
_MOVE_MOUNT = 429
_MOUNT_SETATTR = 442

_libc = ctypes.CDLL(None, use_errno=True)
_python = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _number(name: str) -> int:
    try:
        return _NUMBERS[platform.machine()][name]
    except KeyError:
        raise OSError(f"lambdad does not know the system calls of {platform.machine()}") from None


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(what: str, number: int, *arguments: object) -> int:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *words), what)


def fork_into(namespaces: int) -> tuple[int, int]:
    """Fork a child straight into new namespaces; its pid and, in the parent, a descriptor that stands for it.

    One call instead of `unshare` and a fork that makes the new process namespace come true. In the child both are 0.
    Neither Python nor libc is told, as only a process of one thread may do: nothing has to be unlocked or begun anew,
    which would have the child copy half a megabyte. The child may not run functions or threads; a child that it makes
    with `os.fork` may.
    """
    pidfd = ctypes.c_int(-1)
    flags = namespaces | _CLONE_PIDFD | _SIGCHLD
    pid = _syscall("clone", _number("clone"), flags, None, ctypes.byref(pidfd), None, None)
    return pid, pidfd.value if pid else 0


def fork_quietly() -> int:
    """Fork a child, and tell only the child's Python of it: the parent does nothing that it does not have to."""
    pid = _python.fork()
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"fork: {os.strerror(number)}")
    if pid == 0:
        _python.PyOS_BeforeFork()
        _python.PyOS_AfterFork_Child()
    return int(pid)


def unshare(namespaces: int) -> None:
    _check(_libc.unshare(namespaces), "unshare")


def setns(fd: int, namespaces: int) -> None:
    """Enter namespaces of the process that a pidfd stands for, or the one namespace that `fd` is."""
    _check(_libc.setns(fd, namespaces), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    result = _libc.mount(
        os.fsencode(source) if source else None,
        os.fsencode(target),
        os.fsencode(kind) if kind else None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, f"mount {kind or source or 'propagation'} on {target}")


def unmount(target: str) -> None:
    """Take a mount out of sight; it goes when nothing uses it any more."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new_root: str) -> None:
    """Make a mount point the root of this mount namespace, with nothing of the old one left to be seen."""
    os.chdir(new_root)
    _syscall("pivot_root", _number("pivot_root"), b".", b".")
    unmount(".")
    os.chdir("/")


def open_tree(path: str) -> int:
    """A copy of what is mounted at `path` and below, attached nowhere yet: a descriptor for `move_mount`."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    return _syscall(f"open_tree {path}", _OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags)


def move_mount(fd: int, target: str) -> None:
    """Attach a detached mount."""
    _syscall(f"move_mount to {target}", _MOVE_MOUNT, fd, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)


def set_mount_attributes(target: int | str, attributes: int) -> None:
    """Set MOUNT_ATTR_ flags on a mount and all below it; a detached one by its descriptor, before it is attached.

    Binding first and remounting read-only afterwards leaves copies in other namespaces writable.
    """
    request = struct.pack("QQQQ", attributes, 0, 0, 0)
    fd, path, flags = (target, b"", _AT_EMPTY_PATH) if isinstance(target, int) else (_AT_FDCWD, os.fsencode(target), 0)
    _syscall("mount_setattr", _MOUNT_SETATTR, fd, path, flags | _AT_RECURSIVE, request, len(request))


def set_hostname(name: str) -> None:
    data = name.encode()
    _check(_libc.sethostname(data, len(data)), "sethostname")


def _prctl(what: str, option: int, first: object = 0, second: object = 0) -> None:
    words = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in (first, second)]
    _check(_libc.prctl(option, *words, ctypes.c_ulong(0), ctypes.c_ulong(0)), what)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends. A change of user undoes it."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, 9)


def set_dumpable(value: bool) -> None:
    """Whether other processes of the same user may look into this one, and who owns its files in /proc."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, int(value))


def set_process_name(name: str) -> None:
    """What `ps` and /proc/PID/comm show, of up to 15 bytes."""
    _prctl("PR_SET_NAME", _PR_SET_NAME, ctypes.c_char_p(name.encode()))


def forget_arguments() -> None:
    """Empty what this process was started with, which /proc/PID/cmdline shows to everybody. Needs /proc."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = (int(fields[index]) for index in _STAT_ARGUMENTS)
    ctypes.memset(start, 0, end - start)


def set_no_new_privileges() -> None:
    """From here on no program gains privileges by being executed."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def install_seccomp(program: bytes) -> None:
    """Put a BPF program between this process, with all its descendants, and the kernel."""
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code)))
    _prctl("PR_SET_SECCOMP", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(header))


def drop_bounding_set() -> None:
    """Give up every capability that a program could ever bring."""
    for capability in range(_MOST_CAPABILITIES):
        try:
            _prctl("PR_CAPBSET_DROP", _PR_CAPBSET_DROP, capability)
        except OSError:
            if capability == 0:
                raise
            return  # the kernel has no more


def drop_capabilities() -> None:
    """Give up every capability that this process has."""
    _prctl("PR_CAP_AMBIENT", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
    _syscall("capset", _number("capset"), header, bytes(24))

"""What is inside a sandbox's own namespaces: its name, its network, its /proc and /tmp, the function's code."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from . import kernel, root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTNAME = "sandbox"
TASK_ROOT = "/var/task"
LAYERS_ROOT = "/opt"
USUAL_TMP_MB = 512
"""What Lambda gives who does not ask for more."""
_FILES_PER_MB = 256
"""How many files a /tmp may hold for each of its megabytes: their names take the host's memory too."""
_LEAST_FILES = 150_000
_SIOCSIFFLAGS = 0x8914
_IFF_UP_LOOPBACK_RUNNING = 0x49
_BACKLOG = 64
READ_ONLY = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV


def namespaces(own_network: bool) -> int:
    """The flags of the namespaces that each sandbox has of its own."""
    own = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    return own | (kernel.CLONE_NEWNET if own_network else 0)


def mount_proc() -> None:
    """The processes of this process namespace alone."""
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def mount_tmp(size_mb: int = USUAL_TMP_MB) -> None:
    """An empty /tmp that everybody inside may write to."""
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode=1777,{_tmp_limits(size_mb)}")


def resize_tmp(size_mb: int) -> None:
    """Give /tmp the size that a function wants, where that is another than most have."""
    if size_mb != USUAL_TMP_MB:
        flags = kernel.MS_REMOUNT | kernel.MS_NOSUID | kernel.MS_NODEV
        kernel.mount("tmpfs", "/tmp", "tmpfs", flags, _tmp_limits(size_mb))


def _tmp_limits(size_mb: int) -> str:
    return f"size={size_mb}m,nr_inodes={max(_LEAST_FILES, size_mb * _FILES_PER_MB)}"


def open_function(code: str, layers: str | None) -> list[int]:
    """Read-only mounts of a function's code and of its layers, if it has any, for `attach_function`."""
    mounts = [root.detached(code, READ_ONLY)]
    if layers is not None:
        try:
            mounts.append(root.detached(layers, READ_ONLY))
        except OSError:
            os.close(mounts[0])
            raise
    return mounts


def attach_function(mounts: Sequence[int]) -> None:
    """Put a function's mounts in their places in this mount namespace."""
    for mount, place in zip(mounts, (TASK_ROOT, LAYERS_ROOT)):  # noqa: B905 - there may be no layers
        kernel.move_mount(mount, place)


def tcp_socket() -> socket.socket:
    """A socket that stays in the network namespace that this process is in now, whoever connects it."""
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def raise_loopback() -> None:
    """Switch on the loopback interface of a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", _IFF_UP_LOOPBACK_RUNNING)
        fcntl.ioctl(control.fileno(), _SIOCSIFFLAGS, request)


def listen(ports: Sequence[int]) -> list[socket.socket]:
    """Sockets of this network namespace that wait for connections on its loopback."""
    listeners = []
    for port in ports:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
        listeners.append(listener)
    return listeners


def enter_control_groups(entries: Sequence[int]) -> None:
    """Move this process, with all that it will fork, into the groups whose `cgroup.procs` are open."""
    for entry in entries:
        os.write(entry, b"0\n")

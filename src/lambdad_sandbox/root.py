"""The root directory that sandboxes of one runtime share: a read-only tree put together from parts of the host.

A plan, which the daemon makes, says what is in it. Nothing that is not in the plan can be seen.
"""

from __future__ import annotations

import os
import shutil

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Plan = Mapping[str, Any]

_SIZE_MB = 64
_MODE = "755"
_FILE_MODE = 0o644
_CHANGE = kernel.MS_BIND | kernel.MS_REMOUNT
_SEALED = _CHANGE | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV


def build(plan: Plan, base: str) -> None:
    """Make the tree of `plan` at `base`, an empty directory of a mount namespace of our own. Raises OSError.

    `directories`: paths. `links`: target by path. `files`: text by path. `extended`: text to add to a file of the host,
    by path. `binds`: source by path, read-only and without devices or set-user-ids, each over what it is in. `devices`:
    device files of the host, by path. `hidden`: directories that are shown empty where they are below something that is
    shown. `/proc` is the host's: each sandbox mounts its own over it before anything of the function runs.
    """
    kernel.mount("lambdad", base, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"size={_SIZE_MB}m,mode={_MODE}")
    for path in plan["directories"]:
        os.makedirs(base + path, exist_ok=True)
    for path, target in plan["links"].items():
        os.symlink(target, base + path)
    for path, text in plan["files"].items():
        with open(base + path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(base + path, _FILE_MODE)
    for path, text in plan["extended"].items():
        _extend(path, base + path, text)
    attributes = kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NOSUID
    for path, source in plan["binds"].items():
        _bind(source, base + path, attributes | kernel.MOUNT_ATTR_NODEV)
    for path in plan["devices"]:
        _bind(path, base + path, attributes)
    for path in plan["hidden"]:
        if os.path.isdir(base + path):
            kernel.mount("lambdad", base + path, "tmpfs", _SEALED & ~_CHANGE, "size=4k,mode=755")
    os.mkdir(base + "/proc")
    kernel.mount("/proc", base + "/proc", None, kernel.MS_BIND | kernel.MS_REC)
    kernel.set_mount_attributes(base, kernel.MOUNT_ATTR_NOSUID)


def seal(base: str) -> None:
    """Make the tree's own directory read-only; what is mounted in it has its attributes already."""
    kernel.mount(None, base, None, _SEALED)


def _extend(source: str, target: str, text: str) -> None:
    """Copy a file of the host, if there is one, and add to it."""
    with open(target, "wb") as file:
        if os.path.isfile(source):
            with open(source, "rb") as original:
                shutil.copyfileobj(original, file)
        file.write(text.encode())
    os.chmod(target, _FILE_MODE)


def _bind(source: str, target: str, attributes: int) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, _FILE_MODE))
    tree = detached(source, attributes)
    try:
        kernel.move_mount(tree, target)
    finally:
        os.close(tree)


def detached(source: str, attributes: int) -> int:
    """A copy of what is mounted at `source`, with its attributes set before anybody can see it. Raises OSError."""
    tree = kernel.open_tree(source)
    try:
        kernel.set_mount_attributes(tree, attributes)
    except OSError:
        os.close(tree)
        raise
    return tree

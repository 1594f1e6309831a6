"""Facts of this host that sandboxes depend on, each found by asking the kernel or the program itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
_PROC_SYS: Final = Path("/proc/sys")
# What distributions set to keep ordinary users from making user namespaces.
_NAMESPACE_SETTINGS: Final = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)
_CLONE_NEWUSER: Final = 0x10000000
_TRY_UNSHARE: Final = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare({_CLONE_NEWUSER}) != 0)"
_RUN_TIMEOUT_S: Final = 20


def disk(directory: Path) -> dict[str, Any]:
    """A directory and the room that it has; for one that is not there, those of where it would be made."""
    there = next(path for path in (directory, *directory.parents) if path.exists())
    return {
        "Path": str(directory),
        "Exists": directory.exists(),
        "Writable": os.access(there, os.W_OK | os.X_OK),
        "FreeBytes": shutil.disk_usage(there).free,
    }


def user_namespaces() -> dict[str, Any]:
    """Whether a process of this user may make a user namespace: one tries. `Settings` are the kernel's about it."""
    settings = {}
    for name in _NAMESPACE_SETTINGS:
        try:
            settings[name.partition("/")[2]] = (_PROC_SYS / name).read_text().strip()
        except OSError:  # not a setting of this kernel
            continue
    return {"Allowed": sys.platform == "linux" and _exits_well(), "Settings": settings}


def _exits_well() -> bool:
    tried = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _TRY_UNSHARE], capture_output=True, timeout=_RUN_TIMEOUT_S
    )
    return tried.returncode == 0


def bubblewrap() -> dict[str, str] | None:
    """bubblewrap's program and version; None when it is not installed or does not run."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_RUN_TIMEOUT_S)
    except OSError:
        return None
    return {"Program": program, "Version": said.stdout.strip()} if said.returncode == 0 else None


def cgroup(root: Path = _CGROUP_ROOT, own: Path = Path("/proc/self/cgroup")) -> dict[str, Any]:
    """Which control groups are mounted (`v1`, `v2`, or `v1 and v2`), and whether this process's own can be written."""
    is_v2 = (root / "cgroup.controllers").is_file()
    unified = root if is_v2 else root / "unified"
    has_v1 = (root / "memory").is_dir()
    has_v2 = (unified / "cgroup.controllers").is_file()
    version = " and ".join(name for name, has in (("v1", has_v1), ("v2", has_v2)) if has) or None
    path = _own_cgroup(own, root / "memory" if has_v1 else unified, "memory" if has_v1 else "") if version else None
    return {
        "Version": version,
        "Path": str(path) if path else None,
        "Writable": path is not None and os.access(path, os.W_OK | os.X_OK),
    }


def _own_cgroup(own: Path, mounted: Path, controller: str) -> Path | None:
    """The directory of this process's group below a mount point; the mount point itself in a container of its own."""
    for line in own.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            directory = mounted / path.lstrip("/")
            return directory if directory.is_dir() else mounted
    return None

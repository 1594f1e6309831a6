"""What a sandbox's root holds: the system of this host without its secrets, a runtime, and room for a function.

A list of what is shown, not of what is hidden. Paths are those of Lambda: the interpreter in /var/lang, the runtime in
/var/runtime, the function in /var/task, its layers in /opt.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import lambdad_sandbox
from lambdad.adapters.runtime_commands import BOOTSTRAPS
from lambdad.domain.runtimes import Language
from lambdad.ports.sandbox import Program
from lambdad_sandbox.confinement import GROUP_ID, USER_ID
from lambdad_sandbox.namespaces import HOSTNAME, TASK_ROOT

RUNTIME_DIR: Final = "/var/runtime"
LANGUAGE_DIR: Final = "/var/lang"
WAITING_SHELL: Final = "/etc/lambdad/sh"
"""The host's own, for what waits until there is a function: dash is small, and adds no variables."""
SANDBOX_PACKAGE: Final = Path(lambdad_sandbox.__file__).parent

_USR_PARTS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_EMPTY: Final = ("/dev", "/etc", "/mnt", "/opt", "/run", "/tmp", "/var/tmp", TASK_ROOT, RUNTIME_DIR, LANGUAGE_DIR)
_ETC: Final = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "fonts",
    "gai.conf",
    "host.conf",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "pki",
    "protocols",
    "resolv.conf",
    "rpc",
    "services",
    "ssl",
    "timezone",
)
"""What programs of /usr look up in /etc, and holds no secrets; directories of keys are closed to other users anyway."""
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_STREAMS: Final = ("stdin", "stdout", "stderr")
_CHANGING: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/localtime")
_USER_NAME: Final = "sbx_user1051"


@dataclass(frozen=True, slots=True)
class RootPlan:
    """A plan as `lambdad_sandbox.root.build` takes it, and where the program is in it."""

    plan: dict[str, Any]
    executable: str
    sdk_dirs: tuple[str, ...]


@dataclass(slots=True)
class _Contents:
    binds: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    extended: dict[str, str] = field(default_factory=dict)


def root_plan(program: Program) -> RootPlan:
    """The root for everything that runs `program`."""
    contents = _Contents()
    _add_system(contents)
    executable = _add_language(contents, program)
    sdk_dirs = tuple(_add_sdk(contents, program, directory) for directory in program.sdk_dirs)
    if program.executable is not None:
        _add_entries(contents, BOOTSTRAPS / program.language)
    if program.language is Language.PYTHON:
        contents.binds[f"{RUNTIME_DIR}/{SANDBOX_PACKAGE.name}"] = str(SANDBOX_PACKAGE)
    plan = {
        "directories": _EMPTY,
        "links": contents.links,
        "files": contents.files,
        "extended": contents.extended,
        "binds": contents.binds,
        "devices": [f"/dev/{name}" for name in _DEVICES],
    }
    return RootPlan(plan, executable, tuple(dict.fromkeys(sdk_dirs)))


def host_state() -> tuple[tuple[int, int], ...]:
    """Changes when something of the host changes that roots hold a copy of, as its name servers."""
    return tuple(_version_of(path) for path in _CHANGING)


def places_path() -> str:
    """The PATH that Lambda's runtimes have."""
    return f"{LANGUAGE_DIR}/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"


def library_path() -> str:
    """The LD_LIBRARY_PATH that Lambda's runtimes have."""
    return f"{LANGUAGE_DIR}/lib:/lib64:/usr/lib64:{RUNTIME_DIR}:{RUNTIME_DIR}/lib:{TASK_ROOT}:{TASK_ROOT}/lib:/opt/lib"


def _add_system(contents: _Contents) -> None:
    contents.binds["/usr"] = "/usr"
    for name in _USR_PARTS:
        path = Path("/", name)
        if path.is_symlink():
            contents.links[str(path)] = os.readlink(path)
        elif path.is_dir():
            contents.binds[str(path)] = str(path)
    _add_shell(contents)
    for name in _ETC:
        path = Path("/etc", name)
        if path.exists():
            contents.binds[str(path)] = str(path.resolve())
    contents.links["/dev/fd"] = "/proc/self/fd"
    for number, name in enumerate(_STREAMS):
        contents.links[f"/dev/{name}"] = f"/proc/self/fd/{number}"
    contents.links["/etc/mtab"] = "/proc/self/mounts"
    contents.files["/etc/passwd"] = (
        "root:x:0:0:root:/root:/sbin/nologin\n"
        f"{_USER_NAME}:x:{USER_ID}:{GROUP_ID}::/home/{_USER_NAME}:/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/:/sbin/nologin\n"
    )
    contents.files["/etc/group"] = f"root:x:0:\n{_USER_NAME}:x:{GROUP_ID}:\nnogroup:x:65534:\n"
    contents.files["/etc/hostname"] = f"{HOSTNAME}\n"
    contents.extended["/etc/hosts"] = f"\n127.0.0.1 localhost {HOSTNAME} {HOSTNAME}.localdomain\n"


def _add_shell(contents: _Contents) -> None:
    """In Amazon Linux `sh` is bash. Scripts count on it, as that of AWS's tutorial with its `set -o pipefail`.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-walkthrough.html
    """
    shell, bash = Path("/bin/sh").resolve(), Path("/bin/bash").resolve()
    contents.binds[WAITING_SHELL] = str(shell)
    if shell.name == "dash" and bash.exists():
        contents.binds[str(shell)] = str(bash)


def _add_language(contents: _Contents, program: Program) -> str:
    """Show the interpreter; where the function finds it."""
    executable = program.executable
    if executable is None:
        return ""
    if executable.is_relative_to("/usr"):
        return str(executable)
    prefix = executable.parent.parent
    if executable.parent.name == "bin" and _is_installation(prefix, program.language):
        contents.binds[LANGUAGE_DIR] = str(prefix)
        return f"{LANGUAGE_DIR}/bin/{executable.name}"
    contents.binds[f"{LANGUAGE_DIR}/bin/{executable.name}"] = str(executable)
    return f"{LANGUAGE_DIR}/bin/{executable.name}"


def _is_installation(prefix: Path, language: Language) -> bool:
    """Whether a directory is the interpreter's alone, with its library: nothing else may be shown with it."""
    if Path.home().is_relative_to(prefix):
        return False
    wanted = "lib/python*/os.py" if language is Language.PYTHON else "lib/node_modules/npm"
    return next(prefix.glob(wanted), None) is not None


def _add_sdk(contents: _Contents, program: Program, directory: Path) -> str:
    if program.language is Language.PYTHON:
        _add_entries(contents, directory)
        return RUNTIME_DIR
    path = f"{RUNTIME_DIR}/{directory.name}"
    contents.binds[path] = str(directory.resolve())
    return path


def _add_entries(contents: _Contents, directory: Path) -> None:
    """Show what is in a directory beside what else is in the runtime's: what links in it lead to, not the links."""
    for entry in directory.iterdir():
        if entry.name != "__pycache__" and not entry.name.startswith(".") and entry.exists():
            contents.binds.setdefault(f"{RUNTIME_DIR}/{entry.name}", str(entry.resolve()))


def _version_of(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns

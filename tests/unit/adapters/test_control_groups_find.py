"""How control groups are found, where lambdad may make them and where not, and what dead daemons leave."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lambdad.adapters import control_groups
from lambdad.adapters.control_groups import V2, ControlGroups, find
from unit.adapters.control_group_dirs import gone
from unit.adapters.process_trees import WAIT_S, until

NOBODY = 65534
SOURCES = Path(control_groups.__file__).parents[2]

LEAVE = """
import os, subprocess, sys
from lambdad.adapters.control_groups import find
groups = find(f"lambdad-unit-{os.getpid()}", [sys.argv[1]])
group = groups.create()
quiet = subprocess.DEVNULL
child = subprocess.Popen(["sleep", "600"], stdin=quiet, stdout=quiet, stderr=quiet)
for fd in group.entry_fds():
    os.write(fd, str(child.pid).encode())
group.freeze()
print(child.pid, *groups._parents, flush=True)
os._exit(0)
"""


def _python(code: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*before, sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_what_a_dead_daemon_has_left_is_removed(groups: ControlGroups) -> None:
    left = _python(LEAVE, groups.version)
    assert left.returncode == 0, left.stderr
    child, *parents = left.stdout.split()
    try:
        assert all(os.path.isdir(parent) for parent in parents)
        later = find(f"lambdad-unit-{os.getpid()}", [groups.version])
        assert later is not None
        until(lambda: later.sweep() == 0, "removal of what was left")
        assert gone(tuple(parents))
        assert not os.path.exists(f"/proc/{child}") or b") Z " in Path(f"/proc/{child}/stat").read_bytes()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)


def test_what_a_living_daemon_has_is_left_alone(groups: ControlGroups) -> None:
    with subprocess.Popen(["sleep", "600"]) as other_daemon:
        neighbours = find(f"lambdad-unit-{other_daemon.pid}", [groups.version])
        assert neighbours is not None
        group = neighbours.create()
        find(f"lambdad-unit-{os.getpid()}", [groups.version])
        assert all(os.path.isdir(directory) for directory in group._directories)
        neighbours.close()
        assert gone(neighbours._parents)
        other_daemon.kill()


def test_an_ordinary_user_gets_what_there_is_or_none() -> None:
    setpriv = shutil.which("setpriv")
    if os.getuid() != 0 or setpriv is None:
        pytest.skip("becoming another user needs root and setpriv")
    user = (setpriv, "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    if _python("pass", before=user).returncode:
        pytest.skip("another user cannot run this interpreter")
    code = """
import os
from lambdad.adapters.control_groups import find
groups = find(f"lambdad-unit-{os.getpid()}")
if groups:
    group = groups.create()
    group.limit(64, 0, 10)
    group.freeze()
    group.thaw()
    group.remove()
    groups.close()
print(groups and (groups.version, sorted(groups.abilities)))
"""
    result = _python(code, before=user)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.strip()


ALONE = """
import os
from lambdad.adapters.control_groups import V2, find
def own():
    return [line for line in open("/proc/self/cgroup") if line.startswith("0::")]
before = own()
groups = find(f"lambdad-unit-{os.getpid()}", [V2])
assert groups and groups._parents[0].startswith(os.environ["BASE"] + "/"), groups and groups._parents
group = groups.create()
group.limit(64, 0, 10)
group.limit_cpu(128)
group.freeze()
group.thaw()
group.remove()
groups.close()
assert own() == before
assert not os.path.exists(groups._parents[0])
print(*sorted(groups.abilities))
"""


@pytest.mark.parametrize("user", [0, NOBODY])
def test_alone_in_a_group_of_its_own_lambdad_moves_out_of_the_way(groups: ControlGroups, user: int) -> None:
    """As in a service or a container whose group is delegated; also to an ordinary user."""
    setpriv = shutil.which("setpriv")
    if groups.version != V2 or os.getuid() != 0 or setpriv is None:
        pytest.skip("needs cgroup v2, root and setpriv")
    become = (setpriv, "--reuid", str(user), "--regid", str(user), "--clear-groups")
    if _python("pass", before=become).returncode:
        pytest.skip("another user cannot run this interpreter")
    base = Path(groups._parents[0]).parent / f"unit-alone-{os.getpid()}"
    base.mkdir()
    try:
        enter = 'echo 0 > "$BASE/cgroup.procs" && exec "$@"'
        for path in (base, base / "cgroup.procs", base / "cgroup.subtree_control"):
            os.chown(path, user, user)
        result = _python(ALONE, before=("env", f"BASE={base}", "sh", "-c", enter, "sh", *become))
        assert result.returncode == 0, result.stderr
        assert set(result.stdout.split()) == groups.abilities
    finally:
        until(lambda: not (base / "cgroup.procs").read_text(), "the daemon's end")
        base.rmdir()


def test_elsewhere_than_on_linux_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert find("lambdad-1") is None


@pytest.mark.parametrize(
    ("mount", "root", "path", "expected"),
    [
        ("{0}", "/", "/", "{0}"),
        ("{0}", "/", "/a/b", "{0}/a/b"),
        ("{0}", "/docker/1", "/docker/1", "{0}"),
        ("{0}", "/docker/1", "/docker/1/a/b", "{0}/a/b"),
        ("{0}", "/", "/../../elsewhere", "{0}"),
        ("{0}", "/", "/not/there", "{0}"),
    ],
)
def test_lambdads_own_group_is_found_below_a_mount(
    mount: str, root: str, path: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    own: Any = control_groups._own_directory(mount.format(tmp_path), root, path)
    assert own == expected.format(tmp_path)

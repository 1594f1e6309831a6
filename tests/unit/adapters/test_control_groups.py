"""Control groups, with the real kernel; what the machine does not let us make is skipped and said."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lambdad.adapters import control_groups
from lambdad.adapters.control_group import CPU, FREEZE, MEMORY, MIB, PIDS, ControlGroup, ControlGroups, cpu_quota_us
from lambdad.adapters.control_groups import V1, V2, find

WAIT_S = 10
NOBODY = 65534
SOURCES = Path(control_groups.__file__).parents[2]
ENTER = "import os, sys\nfor fd in map(int, sys.argv[1].split(',')): os.write(fd, b'0\\n'); os.close(fd)\n"
READY = "print('ready', flush=True)\n"
ALLOCATE = "held = bytearray(b'x') * (int(sys.stdin.readline()) << 20)\n"


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.005)


def gone(directories: tuple[str, ...]) -> bool:
    return not any(os.path.exists(directory) for directory in directories)


@pytest.fixture(params=[V2, V1])
def groups(request: pytest.FixtureRequest) -> Iterator[ControlGroups]:
    found = find(f"lambdad-unit-{os.getpid()}", [request.param])
    if found is None:
        pytest.skip(f"{request.param}: no group can be made on this machine")
    yield found
    found.close()
    assert gone(found._parents)


def needs(groups: ControlGroups, ability: str) -> None:
    if ability not in groups.abilities:
        pytest.skip(f"{groups.version}: no controller for {ability} on this machine")


class Inside:
    """A Python process that enters a group by itself."""

    def __init__(self, group: ControlGroup, code: str, before: str = "", *arguments: str) -> None:
        fds = group.entry_fds()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", before + ENTER + code, ",".join(map(str, fds)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
            text=True,
        )
        for fd in fds:
            os.close(fd)

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def say(self, text: object) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


def test_a_group_is_made_empty_and_removed(groups: ControlGroups) -> None:
    group = groups.create()
    assert group.processes() == []
    assert all(os.path.isdir(directory) for directory in group._directories)
    group.remove()
    group.remove()
    assert gone(group._directories)


def test_a_process_enters_by_itself(groups: ControlGroups) -> None:
    group = groups.create()
    with Inside(group, READY + "sys.stdin.read()") as inside:
        assert inside.line() == "ready"
        assert group.processes() == [inside.process.pid]
    group.remove()


def test_a_process_enters_that_has_given_up_its_user_and_is_in_a_new_user_namespace(groups: ControlGroups) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give up its user")
    drop = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
os_ids = {NOBODY}
assert libc.setgroups(0, None) == 0 and libc.setresgid(os_ids, os_ids, os_ids) == 0
assert libc.setresuid(os_ids, os_ids, os_ids) == 0
if libc.unshare(0x10000000):
    print("refused", flush=True)
    raise SystemExit
"""
    group = groups.create()
    with Inside(group, READY + "sys.stdin.read()", drop) as inside:
        answer = inside.line()
        if answer == "refused":
            pytest.skip("the machine allows no user namespaces")
        assert answer == "ready"
        assert group.processes() == [inside.process.pid]
    group.remove()


async def _watched(group: ControlGroup, threshold_bytes: int, act: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    fired = asyncio.Event()
    group.watch_memory(loop, threshold_bytes, fired.set)
    await loop.run_in_executor(None, act)
    await asyncio.wait_for(fired.wait(), WAIT_S)


def test_the_watch_tells_of_memory_over_the_threshold(groups: ControlGroups) -> None:
    needs(groups, MEMORY)
    group = groups.create()
    group.limit(256, 0, 50)
    with Inside(group, READY + ALLOCATE + READY + "sys.stdin.read()") as inside:
        assert inside.line() == "ready"
        assert group.usage_bytes() < 32 * MIB

        async def run() -> None:
            await _watched(group, 32 * MIB, lambda: inside.say(64))

        asyncio.run(run())
        assert group.usage_bytes() > 32 * MIB
        assert inside.line() == "ready"  # it is not held up by having been watched
        assert group.anonymous_bytes() >= 64 * MIB
        assert group.peak_bytes() >= 64 * MIB
    group.remove()


def test_the_watch_tells_at_once_what_is_so_already(groups: ControlGroups) -> None:
    needs(groups, MEMORY)
    group = groups.create()
    with Inside(group, ALLOCATE + READY + "sys.stdin.read()") as inside:
        inside.say(32)
        assert inside.line() == "ready"

        async def run() -> None:
            await _watched(group, 16 * MIB, lambda: None)

        asyncio.run(run())
    group.remove()


def test_the_watch_is_silent_below_the_threshold_and_after_its_end(groups: ControlGroups) -> None:
    needs(groups, MEMORY)
    group, other = groups.create(), groups.create()
    called: list[str] = []
    with (
        Inside(group, READY + (ALLOCATE + READY) * 2 + "sys.stdin.read()") as inside,
        Inside(other, READY + ALLOCATE + READY + "sys.stdin.read()") as beside,
    ):
        inside.line()
        beside.line()

        async def run() -> None:
            loop = asyncio.get_running_loop()
            group.watch_memory(loop, 48 * MIB, lambda: called.append("group"))

            def allocate_here() -> None:
                inside.say(8)
                inside.line()

            # The other group's event comes through after whatever the first allocation could have caused.
            await loop.run_in_executor(None, allocate_here)
            await _watched(other, 32 * MIB, lambda: beside.say(64))
            assert called == []
            group.unwatch()
            await loop.run_in_executor(None, lambda: (inside.say(96), inside.line()))
            other.unwatch()
            await _watched(other, 32 * MIB, lambda: None)
            assert called == []

        asyncio.run(run())
    group.remove()
    other.remove()


def test_more_than_the_limit_is_killed_by_the_kernel(groups: ControlGroups) -> None:
    needs(groups, MEMORY)
    group = groups.create()
    group.limit(32, 0, 50)
    with Inside(group, READY + ALLOCATE + READY) as inside:
        inside.line()
        assert not group.was_oom_killed()
        inside.say(128)
        assert inside.line() == ""
        assert inside.process.wait(WAIT_S) == -signal.SIGKILL
    assert group.was_oom_killed()
    assert 30 * MIB < group.peak_bytes() <= 32 * MIB
    group.remove()


def test_the_tmpfs_is_on_top_of_the_memory_limit_and_limits_can_be_changed(groups: ControlGroups) -> None:
    needs(groups, MEMORY)
    group = groups.create()
    group.limit(16, 0, 50)
    group.limit(32, 64, 50)
    with Inside(group, ALLOCATE + READY + "sys.stdin.read()") as inside:
        inside.say(64)
        assert inside.line() == "ready"
    assert not group.was_oom_killed()
    group.limit(16, 16, 50)
    group.remove()


def test_a_fork_bomb_stops_at_the_limit_of_processes(groups: ControlGroups) -> None:
    needs(groups, PIDS)
    group = groups.create()
    group.limit(256, 0, 20)
    bomb = """
for _ in range(6):  # 64 processes, were it not for the limit
    try:
        os.fork()
    except BlockingIOError:
        os.write(1, b"refused\\n")
        break
sys.stdin.read()
"""
    with Inside(group, bomb) as inside:
        assert inside.line() == "refused"
        assert len(group.processes()) <= 20
        until(lambda: len(group.processes()) == 20, "twenty processes")
        for pid in group.processes():
            os.kill(pid, signal.SIGKILL)
    until(lambda: group.processes() == [], "all processes' end")
    group.remove()


def test_a_frozen_group_stands_still_and_goes_on_when_thawed(groups: ControlGroups, tmp_path: Path) -> None:
    needs(groups, FREEZE)
    file = tmp_path / "counter"
    file.write_bytes(bytes(8))
    count = """
import mmap
shared = mmap.mmap(os.open(sys.argv[2], os.O_RDWR), 8)
print("ready", flush=True)
number = 0
while True:
    number += 1
    shared[:8] = number.to_bytes(8, "little")
"""
    group = groups.create()
    with open(file, "r+b") as opened, mmap.mmap(opened.fileno(), 8) as shared:

        def now() -> int:
            return int.from_bytes(shared[:8], "little")

        def still() -> bool:
            before = now()
            time.sleep(0.05)
            return now() == before

        with Inside(group, count, "", str(file)) as inside:
            assert inside.line() == "ready"
            assert not still()
            for _ in range(2):
                group.freeze()
                until(still, "standing still")
                before = now()
                assert still()
                group.thaw()
                until(lambda before=before: now() > before, "going on")
    group.remove()


def test_processor_time_is_in_proportion_to_memory(groups: ControlGroups) -> None:
    needs(groups, CPU)
    spin = """
import time
print("ready", flush=True)
sys.stdin.readline()
start, used = time.monotonic(), time.process_time()
while time.monotonic() < start + 1: pass
print((time.process_time() - used) / (time.monotonic() - start), flush=True)
"""
    group = groups.create()
    with Inside(group, spin) as inside:
        assert inside.line() == "ready"
        group.limit_cpu(128)  # 128 / 1,769 = 7 %
        inside.say("")
        assert 0.02 < float(inside.line()) < 0.2
    group.remove()


def test_the_processor_limit_can_be_raised_and_lowered(groups: ControlGroups) -> None:
    needs(groups, CPU)
    group = groups.create()
    for memory_mb in (128, 10240, 256):
        group.limit_cpu(memory_mb)
        quota = str(cpu_quota_us(memory_mb))
        texts = [Path(directory, file) for directory in group._directories for file in ("cpu.max", "cpu.cfs_quota_us")]
        assert [path.read_text().split()[0] for path in texts if path.exists()] == [quota]
    group.remove()


@pytest.mark.parametrize(("memory_mb", "quota_us"), [(1, 1_000), (128, 7_235), (1769, 100_000), (10240, 578_858)])
def test_the_quota_of_a_function(memory_mb: int, quota_us: int) -> None:
    assert cpu_quota_us(memory_mb) == quota_us


def test_a_group_that_is_gone_takes_every_call(groups: ControlGroups) -> None:
    group, removed_by_another = groups.create(), groups.create()
    group.freeze()
    group.remove()
    removed_by_another.freeze()
    for directory in removed_by_another._directories:
        os.rmdir(directory)
    for each in (group, removed_by_another):
        each.freeze()
        each.thaw()
        each.unwatch()
        assert each.processes() == []
        assert not each.was_oom_killed()
        assert each.usage_bytes() == each.peak_bytes() == each.anonymous_bytes() == 0
        each.remove()
    assert groups.sweep() == 0


def test_a_group_in_use_is_removed_when_it_is_empty(groups: ControlGroups) -> None:
    first, second = groups.create(), groups.create()
    with Inside(first, READY + "sys.stdin.read()") as inside:
        inside.line()
        first.remove()
        assert groups.sweep() == len(first._directories)
    until(lambda: groups.sweep() == 0, "removal")
    assert gone(first._directories)
    with Inside(second, READY + "sys.stdin.read()") as inside:
        inside.line()
        second.remove()
    others = [groups.create() for _ in range(20)]
    for other in others:  # each removal tries a few again
        other.remove()
    assert gone(second._directories)


def test_a_group_keeps_few_descriptors(groups: ControlGroups) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        made = [groups.create() for _ in range(20)]

        def use(group: ControlGroup) -> None:
            group.limit(128, 512, 1024)
            group.freeze()
            group.thaw()
            group.watch_memory(loop, 128 * MIB, lambda: None)
            group.peak_bytes()

        use(made[0])  # what all have in common
        before = len(os.listdir("/proc/self/fd"))
        for group in made[1:]:
            use(group)

        def few() -> bool:
            return len(os.listdir("/proc/self/fd")) - before <= 2 * 19

        # Threads that set up a watch have one more, for some milliseconds.
        await loop.run_in_executor(None, until, few, "few descriptors")
        for group in made:
            group.remove()

    asyncio.run(run())


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

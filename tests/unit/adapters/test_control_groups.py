"""Control groups, with the real kernel; what the machine does not let us make is skipped and said."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lambdad.adapters.control_group import CPU, FREEZE, MEMORY, MIB, PIDS, ControlGroup, ControlGroups, cpu_quota_us
from unit.adapters.control_group_dirs import gone
from unit.adapters.process_trees import WAIT_S, until

NOBODY = 65534
ENTER = "import os, sys\nfor fd in map(int, sys.argv[1].split(',')): os.write(fd, b'0\\n'); os.close(fd)\n"
READY = "print('ready', flush=True)\n"
ALLOCATE = "held = bytearray(b'x') * (int(sys.stdin.readline()) << 20)\n"


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
        assert group.usage_bytes() >= 32 * MIB  # cgroup v1 tells when it is reached, to the byte
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


def test_the_processor_limit_can_be_raised_and_lowered_and_lifted(groups: ControlGroups) -> None:
    needs(groups, CPU)
    group = groups.create()
    texts = [Path(directory, file) for directory in group._directories for file in ("cpu.max", "cpu.cfs_quota_us")]
    (file,) = [path for path in texts if path.exists()]
    for memory_mb in (128, 10240, 256):
        group.limit_cpu(memory_mb)
        assert file.read_text().split()[0] == str(cpu_quota_us(memory_mb))
    group.lift_cpu()
    assert file.read_text().split()[0] in ("max", "-1")
    group.remove()
    group.lift_cpu()


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

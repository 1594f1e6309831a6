"""How much memory is left, by files as Linux has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambdad.adapters.memory_gauge import SystemMemoryGauge

MEMINFO = "MemTotal:       8000 kB\nMemFree:        1000 kB\nMemAvailable:   4000 kB\n"


class Machine:
    """Its /proc and its control groups."""

    def __init__(self, root: Path) -> None:
        self.proc, self.groups = root / "proc", root / "cgroup"
        self.now = 0.0
        self.write(self.proc / "meminfo", MEMINFO)

    def write(self, file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def group(self, path: str, **files: str) -> None:
        for name, text in files.items():
            self.write(self.groups / path / name.replace("__", "."), f"{text}\n")

    def gauge(self, own: str = "0::/\n") -> SystemMemoryGauge:
        self.write(self.proc / "self" / "cgroup", own)
        return SystemMemoryGauge(self.proc, self.groups, lambda: self.now)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_groups_it_is_what_the_machine_has(machine: Machine) -> None:
    assert machine.gauge().available_bytes() == 4000 * 1024


def test_a_group_of_version_2_has_its_limit_without_what_can_be_dropped(machine: Machine) -> None:
    machine.group("a", memory__max="1000000", memory__current="800000", memory__stat="anon 1\ninactive_file 50000")
    assert machine.gauge("0::/a\n").available_bytes() == 250_000


def test_a_group_of_version_1_too(machine: Machine) -> None:
    stat = "inactive_file 9\ntotal_inactive_file 50000"
    machine.group("memory/a", memory__limit_in_bytes="1000000", memory__usage_in_bytes="800000", memory__stat=stat)
    assert machine.gauge("5:cpu,cpuacct:/x\n4:memory:/a\n0::/b\n").available_bytes() == 250_000


def test_the_groups_around_count(machine: Machine) -> None:
    machine.group("a/b", memory__max="1000000", memory__current="1")
    machine.group("a", memory__max="600000", memory__current="500000")
    assert machine.gauge("0::/a/b\n").available_bytes() == 100_000


def test_in_a_container_its_group_is_the_uppermost(machine: Machine) -> None:
    machine.group("", memory__max="600000", memory__current="500000")
    assert machine.gauge("0::/outside/of/it\n").available_bytes() == 100_000


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"])
def test_no_limit_is_none(machine: Machine, limit: str) -> None:
    machine.group("a", memory__max=limit, memory__current="800000")
    machine.group("memory/a", memory__limit_in_bytes=limit, memory__usage_in_bytes="800000")
    assert machine.gauge("4:memory:/a\n0::/a\n").available_bytes() == 4000 * 1024


def test_a_group_beyond_its_limit_has_nothing_left(machine: Machine) -> None:
    machine.group("a", memory__max="1000", memory__current="2000")
    assert machine.gauge("0::/a\n").available_bytes() == 0


def test_it_looks_ten_times_a_second_or_when_it_must(machine: Machine) -> None:
    gauge = machine.gauge()
    assert gauge.available_bytes() == 4000 * 1024
    machine.write(machine.proc / "meminfo", MEMINFO.replace("4000", "3000"))
    machine.now = 0.09
    assert gauge.available_bytes() == 4000 * 1024
    assert gauge.available_bytes(fresh=True) == 3000 * 1024
    machine.write(machine.proc / "meminfo", MEMINFO.replace("4000", "2000"))
    machine.now = 0.2
    assert gauge.available_bytes() == 2000 * 1024


def test_without_proc_it_knows_nothing(tmp_path: Path) -> None:
    assert SystemMemoryGauge(tmp_path / "proc", tmp_path / "cgroup").available_bytes() is None


def test_this_machine_has_some_memory() -> None:
    available = SystemMemoryGauge().available_bytes()
    assert available is None or 0 < available < 1 << 50

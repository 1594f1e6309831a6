"""What the filter says to each system call: an interpreter of BPF runs the program here, for both architectures."""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdad_sandbox import seccomp

MACHINES = ("x86_64", "aarch64")
ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
I386 = 0x4000_0003
ALLOW = 0x7FFF_0000
KILL_PROCESS = 0x8000_0000
ERROR = 0x0005_0000
# Where the kernel's headers tell of the numbers, as Linux distributions place them.
HEADERS = {
    "x86_64": ("asm/unistd_64.h", "x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": ("asm-generic/unistd.h",),
}
# linux/sched.h
CLONE_NEW = {
    "NEWNS": 0x0002_0000, "NEWCGROUP": 0x0200_0000, "NEWUTS": 0x0400_0000, "NEWIPC": 0x0800_0000,
    "NEWUSER": 0x1000_0000, "NEWPID": 0x2000_0000, "NEWNET": 0x4000_0000,
}  # fmt: skip
THREAD = 0x003D_0F00
"""The flags with which libc makes a thread."""
FORK = 0x0120_0011
TIOCSTI, TIOCLINUX, TCGETS, FIONBIO = 0x5412, 0x541C, 0x5401, 0x5421
ANY_WORD = st.integers(0, (1 << 64) - 1)
LOADS, JUMPS_EQUAL, JUMPS_AT_LEAST, JUMPS_ANY_BIT, RETURNS = 0x20, 0x15, 0x35, 0x45, 0x06


def verdict(program: bytes, machine: str, number: int, arguments: Sequence[int] = (), architecture: int = 0) -> int:
    """Run a filter on `struct seccomp_data`. Every jump of BPF is forward, so it ends."""
    words = [*arguments, *([0] * (6 - len(arguments)))]
    data = struct.pack("<iIQ6Q", number if number < 1 << 31 else number - (1 << 32), architecture, 0, *words)
    if not architecture:
        data = data[:4] + struct.pack("<I", ARCHITECTURES[machine]) + data[8:]
    assert len(program) % 8 == 0
    steps = [struct.unpack_from("<HBBI", program, offset) for offset in range(0, len(program), 8)]
    assert len(steps) <= 4096  # BPF_MAXINSNS
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == LOADS:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == JUMPS_EQUAL:
            at += if_true if accumulator == operand else if_false
        elif code == JUMPS_AT_LEAST:
            at += if_true if accumulator >= operand else if_false
        elif code == JUMPS_ANY_BIT:
            at += if_true if accumulator & operand else if_false
        elif code == RETURNS:
            return int(operand)
        else:
            raise AssertionError(f"an instruction that the filter has no need of: {code:#x}")


def judge(machine: str, number: int, *arguments: int) -> int:
    return verdict(seccomp.program(machine), machine, number, arguments)


def numbers(machine: str) -> dict[str, int]:
    """The calls that are denied whatever their arguments are."""
    column = MACHINES.index(machine)
    return {name: row[column] for name, row in seccomp._DENIED.items() if row[column] is not None}


def conditional(machine: str) -> dict[str, int]:
    """The calls that depend on an argument, and clone3."""
    tables = {
        "clone": seccomp._CLONE,
        "socket": seccomp._SOCKET,
        "ioctl": seccomp._IOCTL,
        "personality": seccomp._PERSONALITY,
    }
    return {**{name: table[machine] for name, table in tables.items()}, "clone3": seccomp._CLONE3}


def header(machine: str) -> dict[str, int]:
    """The numbers by name, from the kernel's header; the test is skipped where that is not installed."""
    for place in HEADERS[machine]:
        path = Path("/usr/include", place)
        if path.exists():
            found = re.findall(r"^#define __NR3?_?(?:3264_)?(\w+)\s+(\d+)\s*$", path.read_text(), re.MULTILINE)
            return {name.lstrip("_"): int(number) for name, number in found}
    pytest.skip(f"no header of the kernel for {machine}: /usr/include/{HEADERS[machine][0]} (linux-libc-dev)")


@pytest.mark.parametrize(("machine", "name"), [(machine, name) for machine in MACHINES for name in numbers(machine)])
def test_what_no_function_needs_is_refused_whatever_its_arguments(machine: str, name: str) -> None:
    number = numbers(machine)[name]
    for arguments in ((), (1, 2, 3, 4, 5, 6), ((1 << 64) - 1,) * 6):
        assert judge(machine, number, *arguments) == ERROR | errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
@given(number=st.integers(0, 600), arguments=st.lists(ANY_WORD, max_size=6))
def test_everything_else_is_allowed(machine: str, number: int, arguments: list[int]) -> None:
    if number not in {*numbers(machine).values(), *conditional(machine).values()}:
        assert judge(machine, number, *arguments) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_clone3_is_as_if_there_were_none(machine: str) -> None:
    assert judge(machine, 435, 0) == ERROR | errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("flag", CLONE_NEW.values(), ids=CLONE_NEW)
def test_clone_makes_no_namespace(machine: str, flag: int) -> None:
    clone = conditional(machine)["clone"]
    for others in (0, FORK, THREAD, 0xFFFF_FFFF_0000_0000):
        assert judge(machine, clone, flag | others) == ERROR | errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
@given(others=ANY_WORD)
def test_clone_makes_processes_and_threads(machine: str, others: int) -> None:
    clone = conditional(machine)["clone"]
    without = others & ~sum(CLONE_NEW.values())
    assert judge(machine, clone, THREAD) == judge(machine, clone, FORK) == ALLOW
    assert judge(machine, clone, without) == ALLOW


@pytest.mark.parametrize("number", [0x4000_0000, 0x4000_0000 + 59, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_the_numbers_of_x32_are_refused(number: int) -> None:
    assert judge("x86_64", number) == ERROR | errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
@given(architecture=st.integers(1, (1 << 32) - 1), number=st.integers(0, 600))
def test_a_program_of_another_architecture_is_killed(machine: str, architecture: int, number: int) -> None:
    foreign = {architecture, I386, *ARCHITECTURES.values()} - {ARCHITECTURES[machine]}
    for each in foreign:
        assert verdict(seccomp.program(machine), machine, number, (), each) == KILL_PROCESS


@pytest.mark.parametrize("machine", MACHINES)
@given(family=st.integers(0, 100))
def test_sockets_are_those_of_the_internet_of_this_machine_and_of_netlink(machine: str, family: int) -> None:
    expected = ALLOW if family in {1, 2, 10, 16} else ERROR | errno.EAFNOSUPPORT
    assert judge(machine, conditional(machine)["socket"], family, 1, 0) == expected


@pytest.mark.parametrize("machine", MACHINES)
@given(high=st.integers(0, (1 << 32) - 1))
def test_nothing_is_typed_into_a_terminal(machine: str, high: int) -> None:
    """The kernel looks at the lower half of the argument: another upper half is no way around."""
    ioctl = conditional(machine)["ioctl"]
    for command in (TIOCSTI, TIOCLINUX):
        assert judge(machine, ioctl, 0, high << 32 | command) == ERROR | errno.EPERM
    for command in (TCGETS, FIONBIO):
        assert judge(machine, ioctl, TIOCSTI, high << 32 | command, TIOCSTI) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_the_personality_is_asked_for_and_stays_linux(machine: str) -> None:
    personality = conditional(machine)["personality"]
    assert judge(machine, personality, 0xFFFF_FFFF) == judge(machine, personality, 0) == ALLOW
    for persona in (0x0040_0000, 0x0004_0000, 0x8, 0xFFFF_FFFE):  # ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC...
        assert judge(machine, personality, persona) == ERROR | errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    known = header(machine)
    table = {**numbers(machine), **conditional(machine)}
    checked = {name: number for name, number in table.items() if name in known}
    assert {name: known[name] for name in checked} == checked
    # A header may be older than a call; all but the newest are in any.
    assert {name for name in table if name not in known} <= {
        name for name, number in table.items() if number >= known["clone3"]
    } | {"nfsservctl", "lookup_dcookie"}


def test_no_number_stands_twice() -> None:
    for machine in MACHINES:
        every = [*numbers(machine).values(), *conditional(machine).values()]
        assert len(every) == len(set(every))


def test_a_machine_that_is_not_known_has_no_filter() -> None:
    with pytest.raises(OSError, match="riscv64"):
        seccomp.program("riscv64")

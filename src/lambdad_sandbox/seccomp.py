"""The system calls that a function may not make, as a BPF program.

Namespaces and missing capabilities refuse most of these already; the filter keeps functions away from the kernel's code
behind them. It denies rather than allows by name, for functions are any program. Answers are errors, not signals, so
that programs that try something and can do without it go on.

https://www.kernel.org/doc/html/latest/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import errno
import platform
import struct
from functools import lru_cache

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_SECOND_ARGUMENT_AT = 24

_ALLOW = 0x7FFF_0000
_ERROR = 0x0005_0000
_KILL_PROCESS = 0x8000_0000

_X32_BIT = 0x4000_0000
_NEW_NAMESPACES = 0x7E02_0000  # every CLONE_NEW* flag
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_CLONE3 = 435
# AF_INET, AF_INET6, AF_UNIX and AF_NETLINK (which getaddrinfo asks for the machine's addresses).
_SOCKET_FAMILIES = (1, 2, 10, 16)

# name: (x86_64, aarch64); None where the architecture has no such call.
_DENIED = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467),
    "statmount": (457, 457), "listmount": (458, 458),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "fanotify_init": (300, 262),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "syslog": (103, 116), "vhangup": (153, 58),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42), "move_pages": (279, 239), "mbind": (237, 235), "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238), "lsm_set_self_attr": (460, 460),
}  # fmt: skip
_ARCHITECTURES = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}
_CLONE = {"x86_64": 56, "aarch64": 220}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_IOCTL = {"x86_64": 16, "aarch64": 29}
_PERSONALITY = {"x86_64": 135, "aarch64": 92}
_QUERY_PERSONALITY = 0xFFFF_FFFF
_PER_LINUX = 0


def _refusal(number: int = errno.EPERM) -> int:
    return _ERROR | number


def _statement(code: int, operand: int) -> bytes:
    return struct.pack("HBBI", code, 0, 0, operand)


def _jump(code: int, operand: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)


def _deny(number: int, error: int = errno.EPERM) -> list[bytes]:
    return [_jump(_JUMP_EQUAL, number, 0, 1), _statement(_RETURN, _refusal(error))]


def _judge(number: int, argument_at: int, rule: list[bytes]) -> list[bytes]:
    """Where the call has this number, load an argument for `rule`, which returns or falls through."""
    body = [_statement(_LOAD, argument_at), *rule, _statement(_LOAD, _NUMBER_AT)]
    return [_jump(_JUMP_EQUAL, number, 0, len(body)), *body]


def _allow_only(values: tuple[int, ...], error: int) -> list[bytes]:
    rest = len(values)
    checks = [_jump(_JUMP_EQUAL, value, rest - position, 0) for position, value in enumerate(values)]
    return [*checks, _statement(_RETURN, _refusal(error))]


def _deny_values(values: tuple[int, ...]) -> list[bytes]:
    checks = [_jump(_JUMP_EQUAL, value, len(values) - 1 - position, 0) for position, value in enumerate(values[:-1])]
    return [*checks, _jump(_JUMP_EQUAL, values[-1], 0, 1), _statement(_RETURN, _refusal())]


@lru_cache(maxsize=None)
def program(machine: str = "") -> bytes:
    """The filter for a machine (that of this process by default). Raises OSError for one that is not known."""
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        raise OSError(f"lambdad has no seccomp filter for {machine}")
    architecture, column = _ARCHITECTURES[machine]
    steps = [
        # A program of another architecture (32 bits) has other numbers: it is not let in at all.
        _statement(_LOAD, _ARCHITECTURE_AT),
        _jump(_JUMP_EQUAL, architecture, 1, 0),
        _statement(_RETURN, _KILL_PROCESS),
        _statement(_LOAD, _NUMBER_AT),
    ]
    if machine == "x86_64":
        steps += [_jump(_JUMP_AT_LEAST, _X32_BIT, 0, 1), _statement(_RETURN, _refusal())]
    # The flags of clone3 are behind a pointer, where a filter cannot look: libc falls back to clone.
    steps += _deny(_CLONE3, errno.ENOSYS)
    steps += _judge(
        _CLONE[machine],
        _FIRST_ARGUMENT_AT,
        [_jump(_JUMP_ANY_BIT, _NEW_NAMESPACES, 0, 1), _statement(_RETURN, _refusal())],
    )
    steps += _judge(_SOCKET[machine], _FIRST_ARGUMENT_AT, _allow_only(_SOCKET_FAMILIES, errno.EAFNOSUPPORT))
    steps += _judge(_IOCTL[machine], _SECOND_ARGUMENT_AT, _deny_values((_TIOCSTI, _TIOCLINUX)))
    steps += _judge(
        _PERSONALITY[machine], _FIRST_ARGUMENT_AT, _allow_only((_PER_LINUX, _QUERY_PERSONALITY), errno.EPERM)
    )
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            steps += _deny(number)
    steps.append(_statement(_RETURN, _ALLOW))
    return b"".join(steps)

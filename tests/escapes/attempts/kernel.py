"""Attempts at the kernel: its privileged calls, its settings, and ways around the filter of system calls.

Arguments are such that a call that is let in fails for another reason than its refusal, or does nothing.
"""

import ctypes
import errno
import itertools
import mmap
import os
import platform
import signal
import struct
import tempfile
import time

from .syscalls import call, call_number
from .verdicts import attempt, contained, error_of, escaped, every, is_root, refused

NEW_USER, NEW_NAMESPACE, NEW_HOST_NAME, NEW_PID, NEW_NET = 0x10000000, 0x20000, 0x4000000, 0x20000000, 0x40000000
NEW_CGROUP, NEW_IPC, NEW_TIME = 0x2000000, 0x8000000, 0x80
_X32_BIT = 0x40000000
_NOWHERE = b"/escape/nowhere"
_NO_DESCRIPTOR = -1
_BUFFER = ctypes.create_string_buffer(4096)
_PTRACE_TRACEME, _PTRACE_SEIZE = 0, 0x4206
_PR_CAPBSET_READ, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 23, 47, 2

CALLS = {
    "acct": (_NOWHERE,),
    "add_key": (b"user", b"lambdad-escape", b"x", 1, -2),  # into the process's own keyring
    "bpf": (0, _BUFFER, 48),
    "chroot": (b"/tmp",),
    "clock_adjtime": (0, _BUFFER),  # changes nothing: it reads
    "delete_module": (b"escape_nothing", 0o4000),
    "fanotify_init": (0, 0),
    "finit_module": (_NO_DESCRIPTOR, b"", 0),
    "fsopen": (b"tmpfs", 0),
    "fspick": (-100, b"/", 0),
    "init_module": (_BUFFER, 0, b""),
    "io_uring_enter": (_NO_DESCRIPTOR, 0, 0, 0, None, 0),
    "io_uring_register": (_NO_DESCRIPTOR, 0, None, 0),
    "io_uring_setup": (1, ctypes.create_string_buffer(120)),
    "kcmp": (1, 1, 0, 0, 0),
    "kexec_file_load": (_NO_DESCRIPTOR, _NO_DESCRIPTOR, 0, b"", 0xFFFF),
    "kexec_load": (0, 0, None, 0xFFFF),
    "keyctl": (0, -2, 1),  # make the process's own keyring
    "mount_setattr": (-100, _NOWHERE, 0, _BUFFER, 32),
    "move_mount": (-100, _NOWHERE, -100, _NOWHERE, 0),
    "open_tree": (-100, b"/", 1),
    "perf_event_open": (struct.pack("IIQ", 1, 112, 0) + bytes(96), 0, -1, -1, 0),
    "quotactl": (0x80000100, _NOWHERE, 0, None),
    "reboot": (0, 0, 0, None),  # without the magic numbers
    "request_key": (b"user", b"lambdad-escape", None, -2),
    "setdomainname": (b"(none)", 6),
    "settimeofday": (None, None),
    "swapoff": (_NOWHERE,),
    "swapon": (_NOWHERE, 0),
    "syslog": (3, _BUFFER, len(_BUFFER)),  # read the kernel's messages
    "umount2": (b"/tmp/escape-nothing", 0),
    "userfaultfd": (1,),
}


def _harmless(name):
    def make(event):
        call(name, *CALLS[name])
        return escaped(name)

    make.__name__ = "call_" + name
    return make


for each in CALLS:
    attempt(_harmless(each))


@attempt
def mount_a_file_system(event):
    """On an empty directory of its own, and away again."""
    errors = {}
    for kind in ("tmpfs", "proc", "sysfs", "cgroup2", "devpts", "mqueue", "overlay", "bind"):
        folder = tempfile.mkdtemp()
        arguments = ("/", 4096) if kind == "bind" else ("none", 0)
        error = error_of(call, "mount", arguments[0].encode(), folder.encode(), kind.encode(), arguments[1], None)
        if error is None:
            call("umount2", folder.encode(), 2)
        os.rmdir(folder)
        errors[kind] = error
    return every(errors)


@attempt
def pivot_the_root(event):
    folder = tempfile.mkdtemp().encode()
    try:
        call("pivot_root", folder, folder)
        return escaped("pivot_root")
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EBUSY):  # it was let in, and only the place is wrong
            return escaped("pivot_root")
        raise
    finally:
        os.rmdir(folder)


@attempt
def unshare_namespaces(event):
    kinds = {"user": NEW_USER, "mount": NEW_NAMESPACE, "uts": NEW_HOST_NAME, "pid": NEW_PID, "net": NEW_NET,
             "cgroup": NEW_CGROUP, "ipc": NEW_IPC, "user and mount": NEW_USER | NEW_NAMESPACE}  # fmt: skip
    return every({kind: error_of(call, "unshare", flags) for kind, flags in kinds.items()})


@attempt
def clone_into_namespaces(event):
    def clone(flags):
        pid = call("clone", flags | signal.SIGCHLD, None, None, None, None)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    kinds = {"user": NEW_USER, "mount": NEW_USER | NEW_NAMESPACE, "pid": NEW_USER | NEW_PID, "net": NEW_USER | NEW_NET}
    return every({kind: error_of(clone, flags) for kind, flags in kinds.items()})


@attempt
def clone3_into_a_namespace(event):
    """clone3 keeps its flags in memory, where no filter can look."""
    arguments = struct.pack("8Q", NEW_USER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = call("clone3", arguments, len(arguments))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return escaped("clone3")


@attempt
def enter_namespaces(event):
    """Those of every process that can be seen; whichever can be opened."""
    errors = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        for kind in ("mnt", "pid", "net", "user", "uts", "ipc", "cgroup"):
            path = f"/proc/{pid}/ns/{kind}"
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except OSError:
                continue
            errors[path] = error_of(call, "setns", descriptor, 0)
            if errors[path] == "EINVAL":
                errors[path] = None  # let in: one's own namespace cannot be entered again
            os.close(descriptor)
    pidfd = call("pidfd_open", 1, 0)
    errors["pid 1"] = error_of(call, "setns", pidfd, NEW_NAMESPACE | NEW_PID)
    return every(errors)


@attempt
def raise_capabilities(event):
    header = struct.pack("Ii", 0x20080522, 0)
    wanted = struct.pack("6I", 0x200000, 0x200000, 0, 0, 0, 0)  # CAP_SYS_ADMIN
    libc = ctypes.CDLL(None, use_errno=True)

    def ambient():
        if libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, 21, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), "prctl")

    bounding = [number for number in range(64) if libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1]
    if bounding:
        return escaped({"bounding set": bounding})
    return every({"permitted": error_of(call, "capset", header, wanted), "ambient": error_of(ambient)})


@attempt
def change_personality(event):
    """Without address randomization, and with all memory executable."""
    return every({hex(flag): error_of(call, "personality", flag) for flag in (0x0040000, 0x0400000, 0x0008)})


@attempt
def change_host_name(event):
    name = os.uname().nodename.encode()
    call("sethostname", name, len(name))
    return escaped(name.decode())


@attempt
def trace_processes(event):
    """A child of its own, itself, and pid 1, without stopping any."""
    if is_root():
        return escaped("root may trace anything")
    child = os.fork()
    if child == 0:
        signal.pause()
    errors = {
        "child": error_of(call, "ptrace", _PTRACE_SEIZE, child, 0, 0),
        "pid 1": error_of(call, "ptrace", _PTRACE_SEIZE, 1, 0, 0),
        "itself": error_of(call, "ptrace", _PTRACE_TRACEME, 0, 0, 0),
    }
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return every(errors)


@attempt
def use_x32_numbers(event):
    """The same calls under the numbers of the x32 ABI, which a filter by number does not know."""
    if platform.machine() != "x86_64":
        return refused({"getpid": "EPERM"})
    calls = {"getpid": (39,), "unshare": (272, NEW_USER), "ptrace": (521, _PTRACE_TRACEME, 0, 0, 0)}
    return every({name: error_of(call_number, number[0] | _X32_BIT, *number[1:]) for name, number in calls.items()})


@attempt
def use_32_bit_calls(event):
    """`int 0x80`: getpid of the i386 table, from memory made executable."""
    if platform.machine() != "x86_64":
        return {"killed": "SIGSYS"}
    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20; int 0x80; ret
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    return escaped(function())


@attempt
def use_numbers_with_high_bits(event):
    """The kernel looks at 32 bits of a number, so a filter that looked at 64 would let these through."""
    numbers = {"x86_64": 272, "aarch64": 97}
    number = numbers.get(platform.machine(), 97)
    return every({hex(high): error_of(call_number, number | high, NEW_USER) for high in (1 << 32, 1 << 33)})


@attempt
def lift_the_filter(event):
    """Another filter that allows everything; and no filter at all."""
    libc = ctypes.CDLL(None, use_errno=True)
    allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
    program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(allow))
    errors = {"disable": None if libc.prctl(22, 0, 0, 0, 0) == 0 else errno.errorcode[ctypes.get_errno()]}
    libc.prctl(38, 1, 0, 0, 0)
    libc.prctl(22, 2, program, 0, 0)
    errors["allow"] = error_of(call, "unshare", NEW_HOST_NAME)
    return every(errors)


@attempt
def write_kernel_settings(event):
    """Opened for writing only; nothing is written."""
    settings = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/overcommit_memory",
                "/proc/sys/kernel/hostname", "/proc/sys/fs/file-max", "/proc/sys/kernel/randomize_va_space",
                "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger", "/proc/sys/user/max_user_namespaces",
                "/proc/irq/default_smp_affinity", "/proc/mtrr"]  # fmt: skip

    def write(path):
        os.close(os.open(path, os.O_WRONLY))

    return every({path: error_of(write, path) for path in settings if os.path.exists(path)})


@attempt
def read_kernel_memory(event):
    def read(path):
        with open(path, "rb", buffering=0) as file:
            file.read(1)

    if is_root():
        return escaped("root may read the kernel's memory")
    return every({path: error_of(read, path) for path in ("/proc/kcore", "/proc/kmsg", "/dev/mem", "/dev/kmsg")})


@attempt
def read_addresses_of_kernel_symbols(event):
    with open("/proc/kallsyms") as file:
        addresses = {line.split()[0].strip("0") for line in itertools.islice(file, 1000)}
    return escaped(sorted(addresses)[:3]) if addresses - {""} else contained(addresses=0)


@attempt
def find_cgroups(event):
    """Files of control groups that can be seen, by their place and by their name in any mount."""
    with open("/proc/self/mounts") as file:
        mounts = [line.split()[1] for line in file if line.split()[2].startswith("cgroup")]
    found = mounts + [path for path in ("/sys/fs/cgroup", "/proc/1/root/sys/fs/cgroup") if os.path.exists(path)]
    return escaped(found) if found else contained(found=[])


@attempt
def set_the_clock(event):
    """A clock that cannot be set: to be let in is to be told so."""
    errors = {"time.clock_settime": error_of(time.clock_settime, time.CLOCK_MONOTONIC, 0.0)}
    return every(errors) if errors["time.clock_settime"] != "EINVAL" else escaped("clock_settime")


@attempt
def look_into_keyrings(event):
    """Keys of the host by what the kernel lists."""
    with open("/proc/keys") as file:
        listed = [line.strip() for line in file if event["key"] in line]
    return escaped(listed) if listed else contained(listed=[])

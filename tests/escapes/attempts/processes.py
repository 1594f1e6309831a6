"""Attempts on processes: those of the host, pid 1 of the sandbox, the limits of one's own, and outliving one's time."""

import ctypes
import os
import resource
import struct
import sys
import time

from .syscalls import call
from .verdicts import attempt, attempt_in_runtime, contained, error_of, escaped, every, is_root

_DESCRIPTORS_OF_ANOTHER = 16
_SETTLE_S = 0.1
_PRIO_PROCESS = 0


def _pids():
    return sorted(int(each) for each in os.listdir("/proc") if each.isdecimal())


@attempt
def see_processes_of_the_host(event):
    commands = {}
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                commands[pid] = file.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue  # it has ended
    return contained(commands=commands)


@attempt
def signal_processes_of_the_host(event):
    """Signal 0 asks for permission only."""
    return every({name: error_of(os.kill, pid, 0) for name, pid in event["host_pids"].items()})


@attempt
def signal_every_process(event):
    """`kill(-1, 0)` reaches everybody that one may signal: these are one's own, by uid."""
    seen = _pids()
    beyond = [pid for pid in range(1, 33_000) if pid not in seen and error_of(os.kill, pid, 0) in (None, "EPERM")]
    others = [pid for pid in seen if os.stat(f"/proc/{pid}").st_uid not in (os.getuid(), 0, 65534)]
    return escaped({"beyond": beyond, "others": others}) if beyond or others else contained(beyond=[])


@attempt
def kill_pid_1(event):
    """Every signal; the sandbox goes on, whether they are refused or ignored."""
    if is_root():
        return escaped("root may signal the host's first process")
    errors = {error_of(os.kill, 1, number) for number in range(1, 32)}
    time.sleep(_SETTLE_S)
    with open("/proc/1/stat") as file:
        state = file.read().rpartition(")")[2].split()[0]
    return escaped(state) if state in "TtZX" else contained(outcomes=sorted(map(str, errors)))


@attempt
def read_pid_1(event):
    """Its memory, descriptors and places: they lead to what it was before it was the sandbox's."""
    if is_root():
        return escaped("root may read every process")

    def read(name):
        with open("/proc/1/" + name, "rb", buffering=0) as file:
            file.read(1)

    def write(name):
        os.close(os.open("/proc/1/" + name, os.O_WRONLY))

    errors = {name: error_of(read, name) for name in ("environ", "maps", "mem", "auxv", "stack", "syscall")}
    errors["mem for writing"] = error_of(write, "mem")
    errors["fd"] = error_of(os.listdir, "/proc/1/fd")
    for link in ("cwd", "root", "exe"):
        errors[link] = error_of(os.readlink, "/proc/1/" + link)
    return every(errors)


@attempt
def compare_with_pid_1(event):
    """Whether the first process may do anything that the runtime may not: then it would be worth taking over."""

    def confinement(pid):
        with open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        names = ("CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
        return {name: fields[name].strip() for name in names}

    first, own = confinement(1), confinement("self")
    return contained(first=first) if first == own else escaped([first, own])


@attempt
def take_descriptors_of_pid_1(event):
    pidfd = call("pidfd_open", 1, 0)
    numbers = range(_DESCRIPTORS_OF_ANOTHER)
    return every({str(number): error_of(call, "pidfd_getfd", pidfd, number, 0) for number in numbers})


@attempt
def read_memory_of_others(event):
    """Of pid 1, of the runtime, and of a process of the host, by their numbers."""
    place = ctypes.create_string_buffer(16)
    local = struct.pack("QQ", ctypes.addressof(place), 1)
    remote = struct.pack("QQ", 0x1000, 1)
    errors = {}
    for pid in (1, os.getppid(), event["host_pids"]["daemon"]):
        for name in ("process_vm_readv", "process_vm_writev"):
            errors[f"{name} {pid}"] = error_of(call, name, pid, local, 1, remote, 1, 0)
    if "EFAULT" in errors.values():
        return escaped("the address is wrong, and nothing else")
    return every(errors)


@attempt
def gain_priority(event):
    highest = os.sched_get_priority_max(os.SCHED_FIFO)
    realtime_io = 1 << 13
    return every(
        {
            "nice": error_of(os.nice, -5),
            "setpriority": error_of(os.setpriority, _PRIO_PROCESS, 0, -5),
            "SCHED_FIFO": error_of(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(highest)),
            "SCHED_RR": error_of(os.sched_setscheduler, 0, os.SCHED_RR, os.sched_param(1)),
            "realtime I/O": error_of(call, "ioprio_set", 1, 0, realtime_io),
        }
    )


@attempt
def be_spared_by_the_kernel(event):
    """Lower one's own `oom_score_adj`, so that another is killed when memory is short."""

    def lower():
        with open("/proc/self/oom_score_adj", "r+") as file:
            present = int(file.read())
            file.seek(0)
            file.write(str(max(-1000, present - 1)))

    lower()
    return escaped("oom_score_adj")


@attempt
def raise_limits(event):
    errors = {}
    for name in ("NOFILE", "NPROC", "MEMLOCK", "CORE", "RTPRIO", "NICE", "MSGQUEUE", "SIGPENDING"):
        number = getattr(resource, "RLIMIT_" + name, {"SIGPENDING": 11}.get(name))
        _, hard = resource.getrlimit(number)
        if hard == resource.RLIM_INFINITY:
            continue  # judged by `show_limits`
        errors[name] = error_of(call, "prlimit64", 0, number, struct.pack("QQ", hard + 1, hard + 1), None)
    return every(errors)


@attempt
def show_limits(event):
    names = ("NOFILE", "NPROC", "CORE", "RTPRIO", "MEMLOCK")
    return contained(**{name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))[1] for name in names})


@attempt
def change_limits_of_the_daemon(event):
    pid = event["host_pids"]["daemon"]
    call("prlimit64", pid, resource.RLIMIT_NOFILE, None, ctypes.create_string_buffer(16))
    return escaped(pid)


_SPINNER = "while True: pass  # {}"


@attempt_in_runtime
def leave_a_process_behind(event):
    """A process that detaches itself twice, forgets its variables, and burns the processor.

    This returns when it has executed its program, which closes the pipe: it could be frozen before.
    """
    executed, open_until_executed = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", _SPINNER.format(event["marker"])], {})
        os._exit(0)
    os.waitpid(middle, 0)
    os.close(open_until_executed)
    os.read(executed, 1)
    os.close(executed)
    return contained(left=True)


@attempt_in_runtime
def say_who_runs(event):
    """Whether this is the environment that answered before: module state is gone with it."""
    state = sys.modules[__name__].__dict__
    state["_calls"] = state.get("_calls", 0) + 1
    return contained(calls=state["_calls"], pid=os.getpid())


@attempt
def kill_the_process_group_of_others(event):
    """The groups of the host that are known by number."""
    return every({name: error_of(os.killpg, pid, 0) for name, pid in event["host_pids"].items()})

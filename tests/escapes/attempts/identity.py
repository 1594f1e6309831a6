"""What a function can find out about itself and about lambdad: who it is, what it was given."""

import fcntl
import os
import re
import socket
import stat
import subprocess

from .syscalls import call
from .verdicts import attempt, attempt_in_runtime, contained, error_of, escaped, every, refused

CANARY = re.compile(rb"canary[-]of[-]the[-]host[-][0-9a-f]{32}")
_WINDOW_BYTES = 1 << 20
_CALL_S = 10


@attempt
def show_identity(event):
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    wanted = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    return contained(**{name: " ".join(status[name].split()) for name in wanted})


@attempt
def show_identity_of_others(event):
    """Every process that can be seen, as what it runs."""
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        found[pid] = [status["Uid"].split()[0], status["CapEff"].strip(), status["CapBnd"].strip(), status["Seccomp"]]
    return contained(processes=found)


@attempt
def become_root(event):
    return every(
        {
            "setuid": error_of(os.setuid, 0),
            "setresuid": error_of(os.setresuid, 0, 0, 0),
            "seteuid": error_of(os.seteuid, 0),
            "setgid": error_of(os.setgid, 0),
            "setresgid": error_of(os.setresgid, 0, 0, 0),
            "setgroups": error_of(os.setgroups, [0]),
        }
    )


@attempt
def become_another_user(event):
    """The uids of other environments and of ordinary users of the host."""
    others = [1, 992, 994, 1000, 65534, event["daemon_uid"] + 1]
    return every({str(uid): error_of(os.setresuid, uid, uid, uid) for uid in others if uid != os.getuid()})


@attempt
def map_users(event):
    def write(name, text):
        with open("/proc/self/" + name, "w") as file:
            file.write(text)

    return every(
        {
            "uid_map": error_of(write, "uid_map", "0 0 1\n"),
            "gid_map": error_of(write, "gid_map", "0 0 1\n"),
            "setgroups": error_of(write, "setgroups", "allow"),
        }
    )


@attempt
def run_setuid_programs(event):
    """What would make it root on an ordinary system."""
    tried = []
    for command in (["su", "-c", "id -u", "root"], ["sudo", "-n", "id", "-u"], ["pkexec", "id", "-u"]):
        try:
            done = subprocess.run(command, input=b"\n", capture_output=True, timeout=_CALL_S)
        except OSError:
            continue  # it is not installed
        if done.stdout.strip() == b"0":
            return escaped(command)
        tried.append(command[0])
    return contained(tried=tried)


@attempt
def run_programs_that_make_namespaces(event):
    """Tools of the host that unshare and mount, which /usr has."""
    commands = {
        "unshare": ["unshare", "--user", "--map-root-user", "true"],
        "nsenter": ["nsenter", "--target", "1", "--mount", "true"],
        "bwrap": ["bwrap", "--ro-bind", "/", "/", "true"],
        "mount": ["mount", "--bind", "/escape-nowhere", "/escape-nowhere"],
        "chroot": ["chroot", "/", "true"],
    }
    worked = []
    for name, command in commands.items():
        try:
            done = subprocess.run(command, capture_output=True, timeout=_CALL_S)
        except OSError:
            continue  # it is not installed
        if done.returncode == 0:
            worked.append(name)
    return escaped(worked) if worked else contained(worked=[])


@attempt_in_runtime
def show_variables(event):
    return contained(variables=sorted(os.environ))


@attempt
def find_the_daemons_variables(event):
    """In the environment of every process that can be seen."""
    found, looked = [], 0
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                looked += 1
                if CANARY.search(file.read()):
                    found.append(pid)
        except OSError:
            continue  # refused
    return escaped(found) if found else contained(looked=looked)


@attempt
def find_the_daemons_memory(event):
    """Secrets of the daemon in its own memory: what a fork or an inherited map would have left there."""
    found = []
    with open("/proc/self/maps") as file:
        maps = [line.split() for line in file]
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for fields in maps:
            begin, end = (int(each, 16) for each in fields[0].split("-"))
            if "r" not in fields[1] or fields[-1] in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            for start in range(begin, end, _WINDOW_BYTES):
                try:
                    memory.seek(start)
                    part = memory.read(min(_WINDOW_BYTES, end - start))
                except (OSError, OverflowError):
                    continue  # pages behind the end of a mapped file
                if CANARY.search(part):
                    found.append(fields[-1])
    return escaped(found) if found else contained(maps=len(maps) > 0)


@attempt_in_runtime
def show_descriptors(event):
    """Every descriptor of the runtime: what it is, how it is open, and where a connection leads."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            state = os.fstat(number)
        except OSError:
            continue  # the listing's own descriptor
        kind = os.readlink("/proc/self/fd/" + name)
        mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        if stat.S_ISSOCK(state.st_mode):
            with socket.socket(fileno=os.dup(number)) as one:
                kind = f"{one.family.name} to {_peer(one)}"
        found[name] = [kind, mode]
    return contained(descriptors=found, runtime_api=os.environ["AWS_LAMBDA_RUNTIME_API"])


def _peer(one):
    try:
        return "{}:{}".format(*one.getpeername()[:2])
    except OSError:
        return "nobody"
    except IndexError:
        return "a path"


@attempt
def show_names(event):
    with open("/proc/sys/kernel/hostname") as file:
        return contained(node=os.uname().nodename, hostname=file.read().strip())


def _system_v(event):
    key = event["key"]
    return {
        "shared memory": error_of(call, "shmget", key, 0, 0),
        "semaphore": error_of(call, "semget", key, 0, 0),
        "message queue": error_of(call, "msgget", key, 0),
    }


@attempt
def find_the_hosts_system_v_objects(event):
    return every(_system_v(event))


@attempt
def find_the_hosts_posix_queue(event):
    os.close(call("mq_open", event["name"].encode(), os.O_RDONLY, 0, None))
    return escaped(event["name"])


@attempt
def find_the_hosts_shared_memory(event):
    path = "/dev/shm/" + event["name"]
    return escaped(path) if os.path.exists(path) else refused("ENOENT")

"""Attempts to use things up. Each has a bound of its own where lambdad sets none, and clears away what it made."""

import errno
import fcntl
import mmap
import os
import shutil
import signal
import tempfile
import threading
import time

from .verdicts import attempt, contained, escaped

_BLOCK_BYTES = 1 << 20
_BURN_S = 1.5
_BOMB_S = 20.0
_STACK_BYTES = 64 * 1024
_PAUSE_S = 0.01
_FORKS, _REFUSALS = 0, 8  # places of the two counts in the memory that all share
_F_SETPIPE_SZ, _PIPE_BYTES = 1031, 1 << 20


@attempt
def write_ten_gigabytes(event):
    """To /tmp, until it is full."""
    path = "/tmp/escape-large"
    block, written, error = b"x" * _BLOCK_BYTES, 0, None
    with open(path, "wb", buffering=0) as file:
        try:
            while written < event["bytes"]:
                written += file.write(block)
        except OSError as full:
            error = errno.errorcode[full.errno]
    os.unlink(path)
    return contained(mebibytes=written >> 20, error=error) if error else escaped(written)


@attempt
def make_many_files(event):
    """Empty ones, in directories of a thousand."""
    folder, made, error = tempfile.mkdtemp(), 0, None
    try:
        while made < event["files"]:
            if made % 1000 == 0:
                inner = f"{folder}/{made}"
                os.mkdir(inner)
            os.close(os.open(f"{inner}/{made}", os.O_CREAT | os.O_WRONLY))
            made += 1
    except OSError as full:
        error = errno.errorcode[full.errno]
    shutil.rmtree(folder)
    return contained(files=made, error=error)


@attempt
def make_deep_directories(event):
    """Deeper than any path can name; left for whoever clears /tmp away."""
    os.chdir(tempfile.mkdtemp())
    for depth in range(event["depth"]):
        try:
            os.mkdir("d")
        except OSError as full:
            return contained(depth=depth, error=errno.errorcode[full.errno])
        os.chdir("d")
    return contained(depth=event["depth"], error=None)


@attempt
def use_up_descriptors(event):
    opened = []
    try:
        while len(opened) < event["bound"]:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        return contained(opened=len(opened), error=errno.errorcode[error.errno])
    return escaped(len(opened))


@attempt
def use_up_descriptors_in_children(event):
    """Pipes in many processes: what counts for one counts for each, and the daemon's own are left alone."""
    children = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(event["bound"]):
                    os.pipe()
            except OSError:
                time.sleep(_BURN_S / 3)
                os._exit(0)
            os._exit(1)
        children.append(pid)
    free = [pid for pid in children if os.waitpid(pid, 0)[1] != 0]
    return escaped(len(free)) if free else contained(children=len(children))


@attempt
def bomb_with_forks(event):
    """Every process forks until it may not, and tries again; they end some seconds after, or at a common count."""
    counter = mmap.mmap(-1, mmap.PAGESIZE)
    until = time.monotonic() + _BOMB_S
    leader = os.fork()
    if leader == 0:
        os.setsid()
        _fork_until(counter, event["bound"], until)
    most, full_at = 0, until
    while time.monotonic() < min(until, full_at + event["seconds"]):
        if full_at == until and (_count(counter, _REFUSALS) or _count(counter, _FORKS) >= event["bound"]):
            full_at = time.monotonic()
        most = max(most, sum(1 for name in os.listdir("/proc") if name.isdecimal()))
        time.sleep(_PAUSE_S)
    os.killpg(leader, signal.SIGKILL)
    os.waitpid(leader, 0)
    refusals = _count(counter, _REFUSALS)
    return contained(most=most, refusals=refusals)


def _fork_until(counter, bound, until):
    while time.monotonic() < until:
        if _count(counter, _FORKS) >= bound:
            signal.pause()
        try:
            pid = os.fork()
        except OSError:
            _add(counter, _REFUSALS)
            time.sleep(_PAUSE_S)
            continue
        if pid == 0:
            _add(counter, _FORKS)
    os._exit(0)


def _count(counter, place):
    return int.from_bytes(counter[place : place + 8], "little")


def _add(counter, place):
    """Not atomic: a count that is lost is made up for by the next."""
    counter[place : place + 8] = (_count(counter, place) + 1).to_bytes(8, "little")


@attempt
def start_many_threads(event):
    threading.stack_size(_STACK_BYTES)
    release, started, error = threading.Event(), 0, None
    try:
        while started < event["bound"]:
            threading.Thread(target=release.wait, daemon=True).start()
            started += 1
    except RuntimeError:  # "can't start new thread", which is how Python tells of EAGAIN
        error = "EAGAIN"
    release.set()
    return contained(threads=started, error=error) if error else escaped(started)


@attempt
def leave_zombies(event):
    """Children that nobody waits for count as processes."""
    made, error = [], None
    try:
        while len(made) < event["bound"]:
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            made.append(pid)
    except OSError as full:
        error = errno.errorcode[full.errno]
    for pid in made:
        os.waitpid(pid, 0)
    return contained(zombies=len(made), error=error) if error else escaped(len(made))


@attempt
def leave_orphans_to_pid_1(event):
    """More orphans than there may be processes, one after the other: pid 1 has to bury them."""
    for _ in range(event["orphans"]):
        pid = os.fork()
        if pid == 0:
            if os.fork() == 0:
                os._exit(0)
            os._exit(0)
        os.waitpid(pid, 0)
    until = time.monotonic() + _BURN_S
    while (left := _zombies()) and time.monotonic() < until:
        time.sleep(_PAUSE_S)
    return escaped(left) if left else contained(left=0)


def _zombies():
    count = 0
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                count += file.read().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue  # it has ended
    return count


@attempt
def burn_the_processor(event):
    """In many processes at once."""
    until = time.monotonic() + event["seconds"]
    children = []
    for _ in range(event["processes"]):
        pid = os.fork()
        if pid == 0:
            while time.monotonic() < until:
                pass
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    return contained(processes=len(children))


@attempt
def fill_pipes(event):
    """Buffers of pipes belong to the kernel: as many of the largest as may be had."""
    held = 0
    try:
        while held < event["bound"]:
            _, writing = os.pipe()
            os.set_blocking(writing, False)
            fcntl.fcntl(writing, _F_SETPIPE_SZ, _PIPE_BYTES)
            held += 1
            while True:
                try:
                    os.write(writing, b"x" * 65536)
                except BlockingIOError:
                    break
    except OSError as error:
        return contained(pipes=held, error=errno.errorcode[error.errno])
    return escaped(held)

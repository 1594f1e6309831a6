"""Attempts to hold more memory than was given. Each stops at a size of its own where nobody stops it."""

import ctypes
import mmap
import os
import time

from .syscalls import call
from .verdicts import attempt, attempt_in_runtime, error_of, escaped, refused

MEBIBYTE = 1 << 20
_HOLD_S = 2.0


def _fill(size_mb, kind=mmap.MAP_PRIVATE):
    """Anonymous memory, every page written."""
    memory = mmap.mmap(-1, size_mb * MEBIBYTE, flags=kind | mmap.MAP_ANONYMOUS)
    for start in range(0, len(memory), MEBIBYTE):
        memory[start : start + MEBIBYTE] = b"x" * MEBIBYTE
    return memory


@attempt_in_runtime
def take_memory(event):
    memory = _fill(event["mebibytes"])
    return escaped(len(memory) // MEBIBYTE)


@attempt_in_runtime
def take_shared_memory(event):
    """Memory that could be shared: the kernel keeps it as it keeps files in a tmpfs."""
    memory = _fill(event["mebibytes"], mmap.MAP_SHARED)
    return escaped(len(memory) // MEBIBYTE)


@attempt_in_runtime
def take_memory_in_children(event):
    """Each process stays below the limit; together they do not."""
    children, count = [], event["mebibytes"] // 64
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            held = _fill(64)
            time.sleep(_HOLD_S)
            os._exit(len(held) == 0)
        children.append(pid)
    whole = [os.waitpid(pid, 0)[1] for pid in children].count(0)
    return escaped(whole * 64) if whole == count else refused({"children killed": count - whole})


@attempt_in_runtime
def take_memory_as_a_file(event):
    """A file that lives in memory and belongs to no process's size."""
    descriptor = os.memfd_create("escape") if hasattr(os, "memfd_create") else os.open("/tmp", os.O_TMPFILE | os.O_RDWR)
    for _ in range(event["mebibytes"]):
        os.write(descriptor, b"x" * MEBIBYTE)
    os.close(descriptor)
    return escaped(event["mebibytes"])


@attempt
def lock_memory(event):
    """More than may be locked: locked pages cannot be given back when others need them."""
    memory = mmap.mmap(-1, event["mebibytes"] * MEBIBYTE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    error = error_of(call, "mlock", address, len(memory))
    return escaped(event["mebibytes"]) if error is None else refused(error)

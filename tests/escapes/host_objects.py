"""Things of the host, made for a test and taken away after it, that no sandbox may see."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

from escapes.attempts.syscalls import call

_IPC_CREATE_NEW = 0o1000 | 0o2000
_READABLE = 0o666
_REMOVE = 0
_USER_KEYRING = -4
_KEYCTL_UNLINK = 9


@contextlib.contextmanager
def system_v_objects() -> Iterator[int]:
    """Shared memory, a semaphore and a message queue that everybody may use; gives their key."""
    key = random.randrange(1 << 20, 1 << 30)
    shared = call("shmget", key, 4096, _IPC_CREATE_NEW | _READABLE)
    semaphore = call("semget", key, 1, _IPC_CREATE_NEW | _READABLE)
    queue = call("msgget", key, _IPC_CREATE_NEW | _READABLE)
    try:
        yield key
    finally:
        call("shmctl", shared, _REMOVE, 0)
        call("semctl", semaphore, 0, _REMOVE, 0)
        call("msgctl", queue, _REMOVE, 0)


@contextlib.contextmanager
def posix_queue() -> Iterator[str]:
    """A message queue that everybody may read; gives its name."""
    name = f"escape-{uuid.uuid4().hex}"
    os.close(call("mq_open", name.encode(), os.O_CREAT | os.O_EXCL | os.O_RDWR, _READABLE, None))
    try:
        yield name
    finally:
        call("mq_unlink", name.encode())


@contextlib.contextmanager
def shared_memory_file() -> Iterator[str]:
    """A file in /dev/shm; gives its name."""
    path = Path("/dev/shm") / f"escape-{uuid.uuid4().hex}"
    path.write_bytes(b"of the host")
    path.chmod(_READABLE)
    try:
        yield path.name
    finally:
        path.unlink()


@contextlib.contextmanager
def key() -> Iterator[str]:
    """A key in the user's keyring of the kernel; gives its description."""
    name = f"escape-{uuid.uuid4().hex}"
    serial = call("add_key", b"user", name.encode(), b"secret", 6, _USER_KEYRING)
    try:
        yield name
    finally:
        call("keyctl", _KEYCTL_UNLINK, serial, _USER_KEYRING)


@contextlib.contextmanager
def listener(family: int, address: object) -> Iterator[socket.socket]:
    """A socket that accepts connections."""
    with socket.socket(family) as one:
        one.bind(address)
        one.listen()
        yield one

"""The first process of a sandbox that a zygote has forked, and the second one, which becomes the function's runtime.

The first has a privileged moment, in which it gives the sandbox what it needs: its own /proc before there is a
function, and the function's code and /tmp when there is one. Then it is only what a process namespace cannot do
without: it buries orphans, and when it ends, everything ends. The runtime is not in its place because the kernel
ignores signals that process 1 has no handler for, also those that it sends to itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket

from . import confinement, kernel, namespaces, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from .wire import Message

OUTPUT_FD = 3
"""Where a function finds the pipe that is its log, beside its standard output and error."""
COMMAND_VARIABLE = "_LAMBDAD_COMMAND"
"""Among a function's variables: the command, in JSON, that the process becomes instead of running the runtime."""
_ASSIGNMENT_FD = 4
_READ_BYTES = 65536


def enter(
    request: Message, channel: socket.socket, output: int, entries: list[int], rehearse: Callable[[], None]
) -> dict[str, str]:
    """Be the first process of a sandbox; return only in the second, with the function's variables.

    `entries` lead into the control groups, `channel` to the daemon, `output` to the function's log. The second process
    calls `rehearse` when it has lost all privileges and has time, as there is no function yet.
    """
    try:
        os.setsid()
        kernel.die_with_parent()
        kernel.set_process_name("init")
        # Without a handler no signal from inside reaches this process: Python has set one for SIGINT.
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        namespaces.enter_control_groups(entries)
        wire.close_all(entries)
        kernel.set_hostname(namespaces.HOSTNAME)
        namespaces.mount_proc()
        namespaces.mount_tmp()
        ports: list[int] = request["ports"]
        if ports:
            namespaces.raise_loopback()
        listeners = namespaces.listen(ports)
        reading, writing = os.pipe()
        child = kernel.fork_quietly()
        if child == 0:
            for inherited in (channel, *listeners):
                inherited.detach()  # what is closed below, by number, is not closed again as an object
            return _become_runtime(request, output, reading, rehearse)
        wire.send(channel, {"ready": True}, [listener.fileno() for listener in listeners])
        for listener in listeners:
            listener.close()
        wire.close_all((output, reading))
        has_extensions = _assign(channel, writing, request["user_id"])
    except (OSError, KeyError, ValueError) as error:
        _fail(channel, wire.failed(error))
    return _supervise(child, channel, has_extensions)


def _assign(channel: socket.socket, writing: int, user_id: int | None) -> bool:
    """Wait for a function, give it its place, hand its variables to the runtime, and lose all privileges.

    The message is the size of /tmp in MB, a line end, and the variables in JSON, which only the runtime reads; with it
    come the mounts of the code and of the layers. Without any it is the reason why there are none. With extensions
    the variables are another message, which comes when those have registered; returns whether that is so.
    """
    data, descriptors = wire.receive_bytes(channel)
    if not data:
        os._exit(0)  # the daemon does not want this sandbox any more
    size, _, variables = data.partition(b"\n")
    if not descriptors:
        _fail(channel, {"failed": variables.decode()})
    namespaces.attach_function(descriptors)
    namespaces.resize_tmp(int(size))
    wire.close_all(descriptors)
    if variables:
        _start_runtime(writing, variables)
    wire.send(channel, {"assigned": True})
    kernel.drop_bounding_set()
    confinement.become(user_id)
    kernel.set_dumpable(False)
    kernel.die_with_parent()
    confinement.give_up_capabilities()
    if variables:
        return False
    variables, _ = wire.receive_bytes(channel)
    if not variables:
        os._exit(0)
    _start_runtime(writing, variables)
    return True


def _start_runtime(writing: int, variables: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # an extension has killed it already: that is seen as its end
        os.write(writing, variables)
    os.close(writing)


def _supervise(child: int, channel: socket.socket, has_extensions: bool) -> NoReturn:
    """Bury whoever dies, until the runtime has; its status is the sandbox's. Extensions go on until they are killed."""
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:  # all have ended, and the daemon has yet to end this one
            signal.pause()
            continue
        if pid == child:
            try:
                wire.send(channel, {"status": status})
            finally:
                if not has_extensions:
                    os._exit(0)


def _fail(channel: socket.socket, message: Message) -> NoReturn:
    try:
        wire.send(channel, message)
    finally:
        os._exit(1)


def _become_runtime(request: Message, output: int, reading: int, rehearse: Callable[[], None]) -> dict[str, str]:
    """Be the process that will run the function: unprivileged first, then wait for the function's variables."""
    try:
        os.setsid()
        arrange_descriptors(output, reading)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        confinement.become(request["user_id"])
        confinement.enter_user_namespace()
        confinement.limit_resources()
        kernel.drop_bounding_set()
        confinement.give_up_capabilities()
        kernel.set_dumpable(True)  # or its own files in /proc would be closed to it
    except OSError as error:
        os.write(OUTPUT_FD, f"lambdad: {error}\n".encode())
        os._exit(1)
    rehearse()
    variables = _read_all(_ASSIGNMENT_FD)
    os.close(_ASSIGNMENT_FD)
    if not variables:
        os._exit(0)  # the first process has failed, and said why
    assigned: dict[str, str] = json.loads(variables)
    return assigned


def arrange_descriptors(output: int, assignment: int) -> None:
    """0 to 4 as a runtime expects them; nothing else stays open."""
    nothing = os.open("/dev/null", os.O_RDONLY)
    # Out of the way first: a source may have the number that another one is to have.
    sources = [os.dup(fd) for fd in (nothing, output, output, output, assignment)]
    sources = [fd if fd > _ASSIGNMENT_FD else _above(fd) for fd in sources]
    for target, source in enumerate(sources):
        os.dup2(source, target)
    os.closerange(_ASSIGNMENT_FD + 1, os.sysconf("SC_OPEN_MAX"))


def _above(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD, _ASSIGNMENT_FD + 1)


def _read_all(fd: int) -> bytes:
    parts: list[bytes] = []
    while True:
        part = os.read(fd, _READ_BYTES)
        if not part:
            return b"".join(parts)
        parts.append(part)

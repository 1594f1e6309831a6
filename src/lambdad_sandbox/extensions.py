"""The keeper of a sandbox's extensions: a process in the sandbox that starts them and tells the daemon how each ends.

It comes from the launcher, after the function was assigned and before anything of it runs. It is confined as a function
is before it starts an extension, and its memory is closed to all others of its user.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
"""

from __future__ import annotations

import os
import signal
import socket

from . import confinement, first_process, kernel, namespaces, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from .wire import Message

FOLDER = namespaces.LAYERS_ROOT + "/extensions"
_CHANNEL_FD = 4
# What the launcher ignores, or Python itself does.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)


def enter(message: Message, descriptors: Sequence[int]) -> NoReturn:
    """In a child of the launcher: put a keeper into a sandbox, and end.

    Descriptors: the pidfd of its first process; what the extensions write to; entries of its control groups; the
    channel on which the daemon hears of them. The keeper is a grandchild: its parent, which has ended, was in the
    sandbox's process namespace, so that its first process adopts it. It is found, frozen and killed as the function is.
    """
    pidfd, output, *entries, channel_fd = descriptors
    try:
        kernel.die_with_parent()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        namespaces.enter_control_groups(entries)
        kernel.setns(pidfd, namespaces.namespaces(message["own_network"]))
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                _keep(message, output, channel_fd)
            os._exit(0)
        os.waitpid(child, 0)
    except OSError as error:
        _report_failure(channel_fd, error)
    finally:
        os._exit(0)


def _keep(message: Message, output: int, channel_fd: int) -> NoReturn:
    """In the keeper: lose all privileges, start the extensions, and wait for them."""
    try:
        os.setsid()
        kernel.set_process_name("extensions")
        kernel.forget_arguments()  # they are the launcher's, with paths of the host
        first_process.arrange_descriptors(output, channel_fd)
        channel_fd = _CHANNEL_FD
        confinement.become(message["user_id"])
        confinement.enter_user_namespace()
        confinement.limit_resources()
        kernel.drop_bounding_set()
        confinement.give_up_capabilities()
        kernel.set_dumpable(False)  # it is a copy of the launcher, which has seen the variables of others
        os.set_inheritable(channel_fd, False)
        with socket.socket(fileno=channel_fd) as channel:
            names: Sequence[str] = message["names"]
            running = {pid: name for name in names if (pid := _start(name, message["environment"], channel))}
            wire.send(channel, {"started": True})
            _wait(running, channel)
    except OSError as error:
        _report_failure(channel_fd, error)
    finally:
        os._exit(0)


def _start(name: str, environment: Mapping[str, str], channel: socket.socket) -> int:
    """Start one extension; its process id. One that cannot be executed says so itself.

    There is no process for it, and 0 is returned, when those before it have taken what the sandbox may have. The daemon
    must not take that for a shortage of the machine, for which it would end what others have.
    """
    try:
        pid = os.fork()
    except OSError as error:
        _tell_problem(name, error, channel)
        return 0
    if pid != 0:
        return pid
    try:
        os.setsid()
        os.chdir("/")
        for number in _IGNORED:
            signal.signal(number, signal.SIG_DFL)
        os.close(first_process.OUTPUT_FD)
        path = f"{FOLDER}/{name}"
        os.execve(path, [path], environment)
    except OSError as error:
        _tell_problem(name, error, channel)
    finally:
        os._exit(1)


def _tell_problem(name: str, error: OSError, channel: socket.socket) -> None:
    wire.send(channel, {"extension": name, "problem": os.strerror(error.errno or 0)})


def _wait(running: dict[int, str], channel: socket.socket) -> None:
    """Tell of each extension that ends, until all have."""
    while running:
        pid, status = os.waitpid(-1, 0)
        name = running.pop(pid, None)
        if name is not None:
            wire.send(channel, {"extension": name, "status": status})


def _report_failure(channel_fd: int, error: OSError) -> None:
    try:
        with socket.socket(fileno=channel_fd) as channel:
            wire.send(channel, wire.failed(error))
    except OSError:
        pass  # the daemon has gone, or its sandbox

"""The launcher: prepares roots, starts zygotes and bubblewrap in them, and mounts functions' code.

It has what the daemon should not have: one thread, so that it can change namespaces, and the privileges that mounts
take. For an ordinary user it gets them in a user namespace of its own. Every message is one thing to do; what cannot be
done is said on the socket that came with the message.
"""

from __future__ import annotations

import os
import signal
import socket

from . import confinement, extensions, kernel, namespaces, root, wire, zygote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from .wire import Message

    Handler = Callable[["Message", list[int]], None]

# Where the roots are mounted, in this process's mount namespace alone. Any directory would do that every user may look
# into, that is there on every Linux, and that nothing which the roots are made of is below.
_ROOTS = "/sys"
_STANDARD_STREAMS = 3
# Sent to every process of a terminal or a service when the daemon is to stop, which then has all of us stop in time.
_DAEMONS_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Launcher:
    """The roots that are there, and what is done with them."""

    def __init__(self, directory: str) -> None:
        """`directory` is an empty one, which the roots are mounted in: seen by this process alone."""
        self._directory = directory
        self._roots: dict[str, str] = {}
        self._mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        self._network = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._freezer = -1
        self._handlers: dict[str, Handler] = {
            "root": self.add_root,
            "forget": self.forget_root,
            "zygote": self.start_zygote,
            "bubblewrap": self.start_bubblewrap,
            "assign": self.assign,
            "furnish": self.furnish,
            "extend": self.extend,
            "socket": self.make_socket,
            "freezer": self.keep_freezer,
        }

    def handle(self, message: Message, descriptors: list[int]) -> None:
        """Do what a message says; its last descriptor is the socket that hears of a failure."""
        try:
            self._handlers[message["do"]](message, descriptors)
        except (OSError, LookupError) as error:  # LookupError: a root of an earlier launcher
            if descriptors:
                _report(message["do"], descriptors[-1], error)
        finally:
            wire.close_all(descriptors)

    def keep_freezer(self, message: Message, descriptors: list[int]) -> None:
        """The directory of the daemon's control groups that freeze."""
        self._freezer = os.dup(descriptors[0])

    def end(self) -> None:
        """The daemon is gone, and all that was started here goes with this process. What is frozen could not."""
        if self._freezer < 0:
            return
        for group in os.listdir(self._freezer):
            try:
                state = os.open(f"{group}/freezer.state", os.O_WRONLY, dir_fd=self._freezer)
            except OSError:
                continue  # it is a file, or a group that has ended
            with open(state, "wb", buffering=0) as file:
                file.write(b"THAWED")

    def add_root(self, message: Message, descriptors: list[int]) -> None:
        """Make the root `name` of `plan`, and say that it is there."""
        base = os.path.join(self._directory, message["name"])
        os.mkdir(base)
        self._roots[message["name"]] = base
        root.build(message["plan"], base)
        root.seal(base)
        answer = socket.socket(fileno=os.dup(descriptors[-1]))
        wire.send(answer, {"ready": True})
        answer.close()

    def forget_root(self, message: Message, descriptors: list[int]) -> None:
        """Take a root away. What runs in it keeps it as long as it does."""
        base = self._roots.pop(message["name"])
        kernel.unmount(base)
        os.rmdir(base)

    def start_zygote(self, message: Message, descriptors: list[int]) -> None:
        """Run `arguments` in a root, with the one descriptor that came as its control.

        Without arguments this process's child is the zygote: of functions that do nothing, to see whether it works.
        """
        base = self._roots[message["root"]]
        if os.fork() != 0:
            return
        if message["arguments"]:
            _replace(descriptors, lambda: _enter_root(base), message)
        else:
            _rehearse(descriptors, base)

    def start_bubblewrap(self, message: Message, descriptors: list[int]) -> None:
        """Run bubblewrap with a root. Descriptors: `passed` of them as 3 and up, the first of which is the output; the
        entries of control groups; the answer."""
        base = self._roots[message["root"]]
        count = message["passed"]
        arguments = [base if argument == "{root}" else argument for argument in message["arguments"]]

        def prepare() -> None:
            os.setsid()
            for stream in (1, 2):
                os.dup2(descriptors[0], stream)
            namespaces.enter_control_groups(descriptors[count:-1])
            confinement.limit_resources(of_user=message["user_id"] is not None)
            confinement.become(message["user_id"])
            kernel.die_with_parent()

        if os.fork() == 0:
            _replace(descriptors[:count], prepare, {**message, "arguments": arguments})

    def assign(self, message: Message, descriptors: list[int]) -> None:
        """Pass a zygote's sandbox its function, with the function's code and layers as mounts."""
        mounts = namespaces.open_function(message["code"], message["layers"])
        channel = socket.socket(fileno=os.dup(descriptors[-1]))
        try:
            wire.send_bytes(channel, f"{message['tmp_mb']}\n{message['variables']}".encode(), mounts)
        finally:
            channel.close()
            wire.close_all(mounts)

    def furnish(self, message: Message, descriptors: list[int]) -> None:
        """Give a sandbox of bubblewrap its function: from inside of its namespaces, where a pidfd leads.

        Descriptors: the pidfd, the socket on which the sandbox waits for `assignment`, the answer. Without an
        assignment the daemon sends it, when the extensions have registered.
        """
        pidfd, assignment, answer_fd = descriptors
        own_network = kernel.CLONE_NEWNET if message["ports"] else 0
        mounts = namespaces.open_function(message["code"], message["layers"])
        try:
            kernel.setns(pidfd, kernel.CLONE_NEWNS | own_network)
            try:
                namespaces.attach_function(mounts)
                namespaces.mount_tmp(message["tmp_mb"])
                listeners = namespaces.listen(message["ports"])
            finally:
                self._come_home(own_network)
        finally:
            wire.close_all(mounts)
        if message["assignment"]:
            with socket.socket(fileno=os.dup(assignment)) as waiting:
                waiting.setblocking(True)
                waiting.sendall(message["assignment"].encode())
                waiting.shutdown(socket.SHUT_RDWR)
        with socket.socket(fileno=os.dup(answer_fd)) as answer:
            wire.send(answer, {"furnished": True}, [listener.fileno() for listener in listeners])
        for listener in listeners:
            listener.close()

    def extend(self, message: Message, descriptors: list[int]) -> None:
        """Start a sandbox's extensions in it. A process of the sandbox does that, and tells of them afterwards."""
        if os.fork() == 0:
            extensions.enter(message, descriptors)

    def make_socket(self, message: Message, descriptors: list[int]) -> None:
        """Give the daemon a socket of a sandbox's own network. Descriptors: its pidfd, the answer.

        A child does it: an ordinary user who has left the host's network may not come back.
        """
        if os.fork() != 0:
            return
        pidfd, answer_fd = descriptors
        try:
            kernel.setns(pidfd, kernel.CLONE_NEWNET)
            with namespaces.tcp_socket() as made, socket.socket(fileno=os.dup(answer_fd)) as answer:
                wire.send(answer, {"made": True}, [made.fileno()])
        except OSError as error:
            _report(message["do"], answer_fd, error)
        finally:
            os._exit(0)

    def _come_home(self, own_network: int) -> None:
        """Back to the launcher's own namespaces. One that is lost in a function's must not go on."""
        try:
            kernel.setns(self._mounts, kernel.CLONE_NEWNS)
            if own_network:
                kernel.setns(self._network, own_network)
        except OSError:
            os._exit(1)


def _report(action: str, answer_fd: int, error: Exception) -> None:
    answer = socket.socket(fileno=os.dup(answer_fd))
    try:
        if action == "assign":
            wire.send_bytes(answer, f"\n{error}".encode())
        else:
            wire.send(answer, wire.failed(error))
    except OSError:
        pass  # it is not wanted any more
    finally:
        answer.close()


def _enter_root(base: str) -> None:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.pivot_root(base)
    os.setsid()
    kernel.die_with_parent()


def _rehearse(descriptors: list[int], base: str) -> NoReturn:
    """In a child: do all that a zygote does, but for its interpreter."""
    control = socket.socket(fileno=descriptors[0])
    try:
        _enter_root(base)
        zygote.serve(control)
    except OSError as error:
        wire.send(control, wire.failed(error))
    finally:
        os._exit(0)


def _replace(descriptors: list[int], prepare: Callable[[], None], message: Message) -> NoReturn:
    """In a child: become a program with exactly these descriptors after the standard ones. A failure is reported."""
    try:
        prepare()
        for number in (signal.SIGCHLD, signal.SIGPIPE, *_DAEMONS_SIGNALS):
            signal.signal(number, signal.SIG_DFL)
        highest = _STANDARD_STREAMS + len(descriptors)
        copies = [_duplicate_above(fd, highest) for fd in descriptors]
        for target, source in enumerate(copies, _STANDARD_STREAMS):
            os.dup2(source, target)
        os.closerange(highest, os.sysconf("SC_OPEN_MAX"))
        arguments = message["arguments"]
        os.execve(arguments[0], arguments, message["environment"])
    except OSError as error:
        os.write(2, f"{message['arguments'][0]}: {error}\n".encode())
    finally:
        os._exit(1)


def _duplicate_above(fd: int, least: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)


def _become_privileged() -> None:
    """For an ordinary user: a user namespace in which we may mount. We are root in it, or a zygote that is executed
    would lose what it may do; on the host we are who we were, and nobody else is there.
    """
    user_id, group_id = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    confinement.map_ids(f"0 {user_id}", f"0 {group_id}")


def main(control_fd: int) -> None:
    """Serve the daemon, at the other end of a socket, until it goes."""
    control = socket.socket(fileno=control_fd)
    os.set_inheritable(control_fd, False)
    for number in _DAEMONS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        if os.geteuid() != 0:
            _become_privileged()
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_SLAVE)
        kernel.mount("lambdad", _ROOTS, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    except OSError as error:
        wire.send(control, wire.failed(error))
        return
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    wire.send(control, {"ready": True})
    launcher = Launcher(_ROOTS)
    while True:
        message, descriptors = wire.receive(control)
        if message is None:
            launcher.end()
            return
        launcher.handle(message, descriptors)

"""An interpreter that has imported what functions need, and forks a sandbox at each request.

It lives in the root that its sandboxes will have, as the only thread of its process, and holds no secrets: everything
in its memory is in theirs.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time

from . import first_process, kernel, namespaces, seccomp, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import ModuleType
    from typing import NoReturn

CONTROL_FD = 3
# What functions import most, and what the AWS SDK needs from the standard library: each costs a function nothing then.
_PRELOADED = """
    json logging _lambdad_bootstrap.logs datetime re
    __future__ _strptime abc argparse ast base64 binascii bisect calendar codecs collections.abc configparser
    contextlib contextvars copy csv dataclasses datetime decimal email.message email.parser email.utils enum
    fnmatch functools getpass glob gzip hashlib heapq hmac html http.client http.cookiejar http.cookies inspect
    io ipaddress itertools json keyword linecache logging logging.config math mimetypes numbers operator os
    pathlib pickle platform pprint queue random re secrets select selectors shutil signal socket ssl stat string
    struct subprocess tempfile textwrap threading time traceback types typing unicodedata urllib.error
    urllib.parse urllib.request uuid warnings weakref xml.etree.ElementTree zipfile zlib zoneinfo
"""


def preload() -> Iterator[None]:
    """Import what functions are likely to import, a module at each step; what this interpreter has not is left out."""
    for name in _PRELOADED.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
        yield
    gc.collect()


def rehearse() -> None:
    """Do what a first invocation does, with a function that does nothing.

    A forked process copies each page of memory when it first writes to it. What is written to here is copied before
    there is a function that waits for it.
    """
    from _lambdad_bootstrap import context, imports, marshaller  # type: ignore[import-not-found]

    event = marshaller.unmarshal_event(b'{"a": [1, 2.5, "b", null]}', marshaller.JSON_CONTENT_TYPE)
    context.LambdaContext({"lambda-runtime-deadline-ms": "1"}, lambda text: None)
    marshaller.marshal_response(event)
    variables = dict(os.environ)
    os.environ.update(variables)
    meta_path, path = list(sys.meta_path), list(sys.path)
    names = set(sys.modules)
    sys.path.insert(0, os.path.dirname(__file__))
    try:
        imports.load_handler("rehearsed.handler")(event, None)
    finally:
        sys.meta_path[:], sys.path[:] = meta_path, path
        for name in set(sys.modules) - names:
            del sys.modules[name]
        sys.path_importer_cache.pop(os.path.dirname(__file__), None)
    socket.socket().close()


def serve(
    control: socket.socket, rehearse: Callable[[], None] = lambda: None, work: Iterable[None] = ()
) -> dict[str, str]:
    """Fork sandboxes until the daemon goes; return in the process that is to be a function's runtime.

    `work` is done step by step while nothing is asked for: the first function need not wait for it.
    """
    wire.send(control, {"ready": True})
    steps = iter(work)
    while True:
        for _ in steps:
            if select.select([control], [], [], 0)[0]:
                break
        gc.freeze()  # or a collection in a child would write to all that is shared
        request, descriptors = wire.receive(control)
        if request is None:
            os._exit(0)
        channel = socket.socket(fileno=descriptors[0])
        output, entries = descriptors[1], descriptors[2:]
        try:
            pid, pidfd = kernel.fork_into(namespaces.namespaces(bool(request["ports"])))
        except OSError as error:
            _refuse(channel, error)
        else:
            if pid == 0:
                control.close()
                return first_process.enter(request, channel, output, entries, rehearse)
            _introduce(channel, pid, pidfd)
        channel.close()
        wire.close_all((output, *entries))


def _refuse(channel: socket.socket, error: OSError) -> None:
    with contextlib.suppress(OSError):  # the daemon has changed its mind
        wire.send(channel, wire.failed(error))


def _introduce(channel: socket.socket, pid: int, pidfd: int) -> None:
    """Tell the daemon who the first process is."""
    try:
        wire.send(channel, {"pid": pid}, [pidfd])
    except OSError:
        with contextlib.suppress(ProcessLookupError):  # the daemon has changed its mind, and the child has noticed
            os.kill(pid, signal.SIGKILL)
    os.close(pidfd)


def main(sdk_folders: Sequence[str]) -> None:
    """Run a zygote, and in time the runtime of each function that is forked from it."""
    kernel.die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the daemon has a pidfd of each child; the kernel buries them
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one to all processes of a service is for the daemon to answer
    import _sitebuiltins  # noqa: F401 - the runtime takes the built-ins of `site` from it

    from _lambdad_bootstrap import output, runtime

    sys.path.pop(0)  # the folder that this was imported from
    seccomp.program()
    streams = []

    def prepare() -> None:
        streams.append(output.LogSink.take_over({"_LAMBDA_TELEMETRY_LOG_FD": str(first_process.OUTPUT_FD)}))
        rehearse()

    variables = serve(socket.socket(fileno=CONTROL_FD), prepare, preload())
    command = variables.pop(first_process.COMMAND_VARIABLE, None)
    if command is not None:
        _become(json.loads(command), variables)
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    os.chdir(variables["LAMBDA_TASK_ROOT"])
    forget_shadowed(_module_folders(variables))
    runtime.main(sdk_folders, streams[0])


def _become(command: list[str], variables: dict[str, str]) -> NoReturn:
    """Execute a program in the runtime's place: the function's wrapper script, which is to start the interpreter."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # what Python has changed
        signal.signal(number, signal.SIG_DFL)
    os.set_inheritable(first_process.OUTPUT_FD, True)
    os.chdir(variables["LAMBDA_TASK_ROOT"])
    os.execve(command[0], command, variables)


def _module_folders(variables: dict[str, str]) -> list[str]:
    """Where a function's own modules are, which come before the standard library."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    own = [variables["LAMBDA_TASK_ROOT"], f"/opt/python/lib/{version}/site-packages", "/opt/python"]
    return own + [folder for folder in variables.get("PYTHONPATH", "").split(":") if folder]


def forget_shadowed(folders: Iterable[str]) -> None:
    """Take out of `sys.modules` what was preloaded and the function has a module of its own of the same name for.

    What the runtime itself has loaded stays: the runtime of Lambda has loaded it, too, before the function's code.
    """
    from _lambdad_bootstrap.imports import STANDARD_MODULES  # type: ignore[import-not-found]

    for folder in folders:
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        for entry in entries:
            name = entry.partition(".")[0]
            if name in sys.modules and name not in STANDARD_MODULES and _is_preloaded(sys.modules[name]):
                _forget(name)


def _is_preloaded(module: ModuleType) -> bool:
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    return bool(origin) and origin not in ("built-in", "frozen") and not module.__name__.startswith("_lambdad_")


def _forget(name: str) -> None:
    for loaded in [each for each in sys.modules if each == name or each.startswith(name + ".")]:
        del sys.modules[loaded]

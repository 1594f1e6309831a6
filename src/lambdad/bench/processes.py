"""The programs that a benchmark starts: a daemon of its own, an echo server, and bare interpreters.

Each ends with the `with` block that it was started for, whatever ends that.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdad.adapters.process_tree import descendants
from lambdad.domain.errors import LambdadError
from lambdad.domain.settings import ENVIRONMENT_PREFIX

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
_READ_BYTES: Final = 64 * 1024
_ANSWERS: Final = re.compile(r"answers at (http://\S+)[^\n]*\n")


class BenchFailed(LambdadError):
    """What is to be measured does not work; the message says what it said itself."""


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A daemon that answers at `url`."""

    url: str
    pid: int


START: Final = ("-m", "lambdad", "start")
"""What Python is given to run a daemon."""


@contextmanager
def daemon(directory: Path, options: Sequence[str] = (), program: Sequence[str] = START) -> Iterator[RunningDaemon]:
    """Run a daemon on a free port with its data in a directory. Raises BenchFailed when it does not answer.

    `program` takes the options of `lambdad start`. The daemon is in a process group of its own: Ctrl-C reaches the
    benchmark, which then ends it.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    command = [sys.executable, *program, "--port", "0", "--log-level", "warning"]
    errors = directory / "stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, "--data-dir", str(directory / "data"), *options],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            process_group=0,
        )
    try:
        said = _read_until(process, _ANSWERS)
        found = _ANSWERS.search(said)
        if found is None:
            lines = (errors.read_text(errors="replace") or said).strip().splitlines()
            raise BenchFailed(f"the daemon did not start: {lines[-1] if lines else 'it said nothing'}")
        yield RunningDaemon(found[1], process.pid)
    finally:
        _end(process)


@contextmanager
def echo_server(kind: str) -> Iterator[str]:
    """Run an echo server (`lambdad.bench.echo`), and give its URL."""
    command = [sys.executable, "-m", "lambdad.bench.echo", kind]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
    try:
        port = _read_until(process, re.compile(r"\d+\n")).strip()
        if not port:
            raise BenchFailed("the echo server did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        _end(process)


def _read_until(process: subprocess.Popen[bytes], pattern: re.Pattern[str]) -> str:
    """What a program has said until a pattern is in it, its output has ended, or the time is up."""
    assert process.stdout is not None
    text = ""
    deadline = time.monotonic() + START_TIMEOUT_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while pattern.search(text) is None and selector.select(max(0.0, deadline - time.monotonic())):
            part = os.read(process.stdout.fileno(), _READ_BYTES).decode(errors="replace")
            if not part:
                break
            text += part
    return text


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for the whole tree when that has not helped in time."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        left = descendants(process.pid)
        process.kill()
        process.wait()
        for pid in left:
            _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def clean_python(executable: str, directory: Path) -> list[str]:
    """The interpreter as it starts when nothing is installed in it: a virtual environment without packages.

    What others have put into an interpreter's site-packages (`.pth` files above all) costs more than its start.
    """
    place = directory / "clean"
    made = subprocess.run(
        [executable, "-I", "-m", "venv", "--without-pip", str(place)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise BenchFailed(f"{executable} makes no virtual environment: {made.stderr.strip() or made.stdout.strip()}")
    return [str(place / "bin" / "python"), "-c", "pass"]


def bare_node(executable: str) -> list[str]:
    return [executable, "-e", "0"]


def run_time_s(command: Sequence[str]) -> float:
    """How long a program takes from start to end, with next to nothing in its environment. Raises BenchFailed."""
    environ: Mapping[str, str] = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    began = time.perf_counter()
    pid = os.posix_spawn(command[0], list(command), environ)
    _, status = os.waitpid(pid, 0)
    taken = time.perf_counter() - began
    if status:
        raise BenchFailed(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    return taken


def has_proportional_memory() -> bool:
    """Whether the system tells a process's proportional share of memory: Linux does."""
    return Path("/proc/self/smaps_rollup").exists()


def pss_bytes(pids: Iterable[int]) -> int:
    """What processes hold in memory: pages of their own, and their shares of those that they have in common."""
    return sum(_pss_bytes(pid) for pid in pids)


def _pss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def pid_namespace(pid: int) -> str:
    """The name of a process's process namespace; "" when it has ended, or is another user's."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""

"""The child process that embedded services live in: started when it is first needed, and again when it has died.

It is `lambdad_neighbours`, an HTTP server on a Unix socket. It says on its standard output when it listens, and ends,
after a last checkpoint, when its standard input does: so it outlives a daemon that was killed only for so long. A lock
on the state's directory is handed down to it, and what it forks; who comes next waits until all have let go of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambdad.ports.neighbours import NeighbourUnavailable

logger = logging.getLogger("lambdad.neighbours")

START_WAIT_S: Final = 20.0
"""How long requests wait for the first start, which may have to wait for the checkpoint of a daemon before."""
START_TIMEOUT_S: Final = 120.0
"""After so long a child that says nothing is given up, and another started."""
RESTART_WAITS_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Before the first, the second and the following restarts of a child that dies at once again and again."""
STEADY_S: Final = 10.0
"""Who has lived so long has not died at once."""
LAST_CHECKPOINT_S: Final = 10.0
"""The least that the child is given for its last checkpoint, however soon the daemon is to end."""
LEFTOVER_S: Final = 30.0
"""So long a child before, or what it has forked, may take to let go of the state; then it is killed."""

_LOCK_POLL_S: Final = 0.02
_LINE_BYTES: Final = 1024 * 1024
_SOCKET_PATH_BYTES: Final = 100
"""A little less than a Unix socket's address takes, which is 108 on Linux and 104 on macOS."""


class _Phase(enum.Enum):
    UNUSED = "unused"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class NeighbourCommand:
    """How the child is started. `state` keeps what it has; without it, it forgets."""

    directory: Path
    """Of its socket, its lock and its state; of the daemon's own."""
    is_ephemeral: bool
    account_id: str
    region: str
    endpoint_url: Callable[[], str]
    program: Sequence[str] = (sys.executable, "-P", "-m", "lambdad_neighbours")

    @property
    def state(self) -> Path | None:
        return None if self.is_ephemeral else self.directory / "state"

    @property
    def temporary(self) -> Path:
        """For what the child keeps no longer than it lives: without a state, the objects of S3."""
        return self.directory / "temporary"

    def arguments(self, socket: Path) -> list[str]:
        state = ["--state", str(self.state)] if self.state is not None else []
        namespace = ["--account-id", self.account_id, "--region", self.region, "--endpoint-url", self.endpoint_url()]
        return [*self.program, "--socket", str(socket), *state, *namespace]


class NeighbourProcess:
    """Keeps one child running from its first use to `stop`."""

    def __init__(self, command: NeighbourCommand, *, start_wait_s: float = START_WAIT_S) -> None:
        self._command = command
        self._start_wait_s = start_wait_s
        self._phase = _Phase.UNUSED
        self._first_start: asyncio.Future[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._sockets: Path | None = None
        self._number = 0
        self._socket: Path | None = None

    @property
    def pid(self) -> int | None:
        """The child's, while there is one."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def is_ready(self) -> bool:
        return self._phase is _Phase.READY

    @property
    def _is_stopped(self) -> bool:
        return self._phase is _Phase.STOPPED

    @property
    def phase(self) -> str:
        """For people: unused, starting, ready, restarting or stopped."""
        return self._phase.value

    async def socket(self) -> Path:
        """Where the child listens; it is started with the first call. A child that starts anew has a new socket.

        Raises NeighbourUnavailable while it is started again after a death, and when a start takes too long.
        """
        if self._phase is _Phase.READY and self._socket is not None:
            return self._socket
        if self._phase is _Phase.UNUSED:
            self._phase = _Phase.STARTING
            self._first_start = asyncio.get_running_loop().create_future()
            self._supervisor = asyncio.create_task(self._supervise())
        if self._phase is _Phase.STARTING and self._first_start is not None:
            await asyncio.wait([self._first_start], timeout=self._start_wait_s)
        if self._phase is _Phase.READY and self._socket is not None:
            return self._socket
        if self._phase is _Phase.STOPPED:
            raise NeighbourUnavailable("lambdad is stopping")
        raise NeighbourUnavailable(f"the embedded services are {self._phase.value}")

    async def stop(self, seconds: float) -> None:
        """End the child: it has so long for its last checkpoint, and never less than `LAST_CHECKPOINT_S`."""
        seconds = max(seconds, LAST_CHECKPOINT_S)
        self._enter(_Phase.STOPPED)
        process = self._process
        if process is not None and process.returncode is None:
            if process.stdin is not None:
                process.stdin.close()
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), seconds)
            except TimeoutError:
                logger.warning("the embedded services have not ended within %g s, and are killed", seconds)
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        if self._sockets is not None and self._sockets != self._command.directory:
            shutil.rmtree(self._sockets, ignore_errors=True)
        await asyncio.to_thread(shutil.rmtree, self._command.temporary, ignore_errors=True)

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        if self._first_start is not None and not self._first_start.done() and phase is not _Phase.STARTING:
            self._first_start.set_result(None)

    async def _supervise(self) -> None:
        """Start the child, and start it again whenever it has died."""
        deaths = 0
        while not self._is_stopped:
            lived_s = 0.0
            try:
                lived_s = await self._live()
            except OSError as error:
                logger.error("the embedded services cannot be started: %s", error)
            if self._is_stopped:
                return
            self._enter(_Phase.RESTARTING)
            deaths = 0 if lived_s >= STEADY_S else deaths + 1
            await asyncio.sleep(RESTART_WAITS_S[min(max(deaths - 1, 0), len(RESTART_WAITS_S) - 1)])

    async def _live(self) -> float:
        """One child, from its start to its end; for how long it listened. Raises OSError when it cannot be started."""
        loop = asyncio.get_running_loop()
        socket = self._new_socket()
        process = self._process = await self._start(socket)
        saying = [asyncio.create_task(_log_lines(process.stderr))]
        ready_at = 0.0
        try:
            if await self._says_ready(process):
                ready_at = loop.time()
                self._socket = socket
                self._enter(_Phase.READY)
                logger.info("the embedded services are ready (process %d)", process.pid)
            saying.append(asyncio.create_task(_log_lines(process.stdout)))
            status = await process.wait()
            if self._phase is not _Phase.STOPPED:
                logger.error("the embedded services have died (%s); they are started again", _how(status))
        finally:
            if process.stdin is not None:
                process.stdin.close()
            if self._phase is _Phase.STOPPED or self._command.state is None:
                _kill_group(process.pid)  # else what it has forked may finish a checkpoint; see `_lock`
            for task in saying:
                task.cancel()
            socket.unlink(missing_ok=True)
        return loop.time() - ready_at if ready_at else 0.0

    async def _says_ready(self, process: asyncio.subprocess.Process) -> bool:
        """Wait for its first word; a child that keeps silent for too long is killed."""
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S)
            return bool(line) and json.loads(line).get("ready") is True
        except TimeoutError:
            logger.error("the embedded services have not started within %g s", START_TIMEOUT_S)
        except (ValueError, AttributeError):  # a line that is too long, no JSON, or another document
            logger.error("the embedded services have said something else than that they are ready")
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return False

    async def _start(self, socket: Path) -> asyncio.subprocess.Process:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_VARIABLES)}
        lock = await self._lock()
        try:
            environ["TMPDIR"] = str(await self._empty_temporary())
            process = await asyncio.create_subprocess_exec(
                *self._command.arguments(socket),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES,
                env=environ,
                cwd="/",
                start_new_session=True,  # Ctrl-C is the daemon's to hear, and the end of a group is the end of all
                pass_fds=(lock,) if lock is not None else (),
            )
            if lock is not None:
                os.truncate(lock, 0)
                with contextlib.suppress(OSError):  # on a full disk the child only has no name for who waits for it
                    os.pwrite(lock, f"{process.pid}\n".encode(), 0)
            return process
        finally:
            if lock is not None:
                os.close(lock)  # the child holds it now

    async def _empty_temporary(self) -> Path:
        """The child's directory for temporary files, without what one before, that was killed, has left there."""
        directory = self._command.temporary
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        directory.mkdir(exist_ok=True, mode=0o700)
        return directory

    async def _lock(self) -> int | None:
        """The lock of the state, when a child before has let go of it: one that has died, or a killed daemon's."""
        if self._command.state is None:
            return None
        self._command.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._command.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + LEFTOVER_S
        try:
            while not _is_free(lock):
                if loop.time() > give_up_at:
                    holder = os.pread(lock, 32, 0).strip()
                    logger.error("process group %s holds the state of the embedded services; it is killed", holder)
                    _kill_group(int(holder or b"0"))
                    give_up_at = loop.time() + LEFTOVER_S
                await asyncio.sleep(_LOCK_POLL_S)
        except BaseException:  # also a cancellation: a lock that nobody gets is not kept open
            os.close(lock)
            raise
        return lock

    def _new_socket(self) -> Path:
        """An address that no child before has had: one of a killed daemon may still be at its checkpoint."""
        if self._sockets is None:
            directory = self._command.directory
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for left in directory.glob("*.sock"):
                left.unlink(missing_ok=True)
            is_short = len(os.fsencode(directory)) < _SOCKET_PATH_BYTES - len("/1234567890-1234.sock")
            self._sockets = directory if is_short else Path(tempfile.mkdtemp(prefix="lambdad-neighbours-"))
        self._number += 1
        return self._sockets / f"{os.getpid()}-{self._number}.sock"


_LEVELS: Final = {name: getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")}
_FOREIGN_VARIABLES: Final = ("AWS_", "LAMBDAD_", "MOTO_")


def _is_free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _kill_group(leader: int) -> None:
    """A child with what it has forked. Its number is its own as long as one of the group is there."""
    if leader > 1:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


async def _log_lines(stream: asyncio.StreamReader | None) -> None:
    """What the child says goes into the daemon's log, at the level that its lines begin with."""
    level = logging.INFO
    while stream is not None:
        try:
            line = await stream.readline()
        except ValueError:  # a line beyond all measure: the reader has dropped what it had
            continue
        if not line:
            return
        text = line.decode("utf-8", "replace").rstrip()
        level = _LEVELS.get(text.partition(" ")[0], level)  # the lines of a traceback follow their message
        logger.log(level, "%s", text)


def _how(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.strsignal(-status) or f"signal {-status}"

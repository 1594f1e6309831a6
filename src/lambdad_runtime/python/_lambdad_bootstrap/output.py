"""Everything that the function writes: its standard streams, and its log records as telemetry frames.

A frame is a header of 16 bytes (type 4, length 4, microseconds since the epoch 8, all big-endian) and the message, so
that a record of many lines stays one. Streams and frames may share one pipe: a single lock keeps each write whole, and
text that is still unwritten leaves before a frame, so the order is that of the calls.
"""

from __future__ import annotations

import io
import os
import sys
import time
from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, MutableMapping

_FRAME_MAGIC = 0xA55A0000
_FRAME_LOG = 0b10
_FRAME_TEXT = 0b01
_LEVEL_SHIFT = 2

ERROR_LEVEL = 40  # logging.ERROR, without the import


def frame_type(level: int, is_text: bool) -> int:
    """The first field of a frame: whether the message is text or JSON, and its level (a number of `logging`)."""
    step = min(max(level, 0), 50) // 10  # 0 not set, 1 debug ... 5 critical; on the wire 1 is trace
    code = step + 1 if step else 0
    return _FRAME_MAGIC | code << _LEVEL_SHIFT | _FRAME_LOG | (_FRAME_TEXT if is_text else 0)


class LogSink:
    """The standard streams and the log of this process."""

    def __init__(self, telemetry_fd: int | None) -> None:
        """Without a `telemetry_fd`, records go to standard output as plain text."""
        self.lock = RLock()
        self._fd = telemetry_fd
        self.stdout = self._open(1, "<stdout>", getattr(sys.stdout, "errors", None) or "strict")
        self.stderr = self._open(2, "<stderr>", "backslashreplace")

    @classmethod
    def take_over(cls, environ: MutableMapping[str, str]) -> LogSink:
        """Replace the standard streams of this process, and take the telemetry descriptor out of `environ`."""
        fd = environ.pop("_LAMBDA_TELEMETRY_LOG_FD", None)
        if fd is not None and int(fd) > 2:
            os.set_inheritable(int(fd), False)
        sink = cls(None if fd is None else int(fd))
        sys.stdout = sys.__stdout__ = sink.stdout  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = sink.stderr  # type: ignore[misc]
        # A child must neither write this process's unwritten text again nor wait for a thread it does not have.
        os.register_at_fork(before=sink.flush, after_in_child=sink.renew_lock)
        return sink

    def log(self, msg: str, kind: int | None = None) -> None:
        """Write one record; `kind` is a `frame_type`, that of text without a level if None."""
        if self._fd is None:
            sys.stdout.write(msg)
            return
        body = msg.encode("utf-8", "backslashreplace")
        header = (kind or frame_type(0, True)).to_bytes(4, "big")
        header += len(body).to_bytes(4, "big") + (time.time_ns() // 1000).to_bytes(8, "big")
        with self.lock:
            self.flush()
            write_all(self._fd, header + body)

    def log_lines(self, lines: list[str], kind: int) -> None:
        """Write one record of several lines. In plain text they are joined by carriage returns, to stay one line."""
        if self._fd is None:
            self.log("\r".join(lines) + "\n")
        else:
            self.log("\n".join(lines), kind)

    def flush(self) -> None:
        """Write what is still unwritten."""
        for stream in (self.stdout, self.stderr):
            _flush(stream)
        if sys.stdout is not self.stdout:
            _flush(sys.stdout)
        if sys.stderr is not self.stderr:
            _flush(sys.stderr)

    def renew_lock(self) -> None:
        """Forget who held the lock."""
        self.lock = RLock()

    def _open(self, fd: int, name: str, errors: str) -> io.TextIOWrapper:
        raw = _PipeFile(fd, self)
        raw.name = name
        # A raw file in the place of a buffer, as `python -u` has it: the text layer alone holds back unfinished lines.
        stream = io.TextIOWrapper(raw, "utf-8", errors, newline="\n", line_buffering=True)
        stream.mode = "w"  # type: ignore[misc]
        return stream


class _PipeFile(io.FileIO):
    """A standard stream whose every write is whole."""

    name: Any

    def __init__(self, fd: int, sink: LogSink) -> None:
        super().__init__(fd, "wb", closefd=False)
        self._sink = sink

    def write(self, data: Any) -> int:
        with self._sink.lock:
            return write_all(self.fileno(), data)


def write_all(fd: int, data: Any) -> int:
    """Write all of `data`, also where a child process has made the shared pipe non-blocking. The count of bytes."""
    view = memoryview(data).cast("B")
    size = len(view)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            import select

            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
    return size


def _flush(stream: Any) -> None:
    try:  # noqa: SIM105 - contextlib is one more import
        stream.flush()
    except Exception:  # noqa: BLE001, S110 - closed by the function, or an object of its own in the stream's place
        pass

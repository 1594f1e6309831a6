"""Be told, on the event loop, when files are modified: one descriptor for any number of files (Linux)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import Callable
from functools import cache
from typing import Final

_IN_MODIFY: Final = 0x2
_IN_IGNORED: Final = 0x8000
_EVENT: Final = struct.Struct("iIII")
_READ_BYTES: Final = 1 << 14


class Inotify:
    """Modified files of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises `OSError` when the user has as many of them as the system lets one have."""
        self._loop = loop
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._fd = _result(_libc().inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")
        loop.add_reader(self._fd, self._modified)

    def add(self, path: str, callback: Callable[[], object]) -> int:
        """Call back whenever a file is modified, until `remove` of the number returned. Raises `OSError`."""
        watch = _result(_libc().inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY), path)
        self._callbacks[watch] = callback
        return watch

    def remove(self, watch: int) -> None:
        """Watch a file no more."""
        if self._callbacks.pop(watch, None) is not None:
            _libc().inotify_rm_watch(self._fd, watch)

    def _modified(self) -> None:
        with contextlib.suppress(BlockingIOError):
            events = os.read(self._fd, _READ_BYTES)
            offset = 0
            while offset < len(events):
                watch, mask, _, name_bytes = _EVENT.unpack_from(events, offset)
                offset += _EVENT.size + name_bytes
                self._tell(watch, mask)

    def _tell(self, watch: int, mask: int) -> None:
        if mask & _IN_IGNORED:  # the file is gone, and its number may come again
            self._callbacks.pop(watch, None)
        elif callback := self._callbacks.get(watch):
            callback()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        self._callbacks.clear()
        os.close(self._fd)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _result(number: int, what: str) -> int:
    if number < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)
    return number

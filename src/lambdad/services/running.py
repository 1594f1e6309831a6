"""An invocation while an environment runs it, and the parts of a response that is streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

from lambdad.domain import quotas
from lambdad.domain.invocations import Invocation, Outcome

HELD_BACK_BYTES: Final = 1024 * 1024
"""So much of a streamed response may wait for its reader."""


class ResponseChunks:
    """The parts of a streamed response on their way from the runtime to the caller.

    The runtime is held back while much is waiting, unless the whole is wanted at once (`join`). When nobody reads any
    more, the parts are dropped: the function may finish. Beyond `limit` bytes they are dropped too, and `is_too_large`.
    """

    def __init__(self, limit: int = quotas.STREAMED_RESPONSE_BYTES) -> None:
        self.content_type = "application/octet-stream"
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.size = 0
        self.limit = limit
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting_bytes = 0
        self._hold: Callable[[bool], None] | None = None
        self._held = False
        self._abandoned = False

    def begin(self, content_type: str, hold: Callable[[bool], None]) -> None:
        """`hold` stops and resumes what feeds the parts."""
        self.content_type = content_type
        self._hold = hold
        if not self.begun.done():
            self.begun.set_result(None)

    @property
    def is_too_large(self) -> bool:
        return self.size > self.limit

    def put(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self._abandoned or self.is_too_large:
            return
        self._queue.put_nowait(chunk)
        self._waiting_bytes += len(chunk)
        if self._waiting_bytes > HELD_BACK_BYTES:
            self._set_held(True)

    def end(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)
        self._queue.put_nowait(None)

    def join(self) -> bytes:
        """All parts that have arrived, in one."""
        parts = [self._queue.get_nowait() or b"" for _ in range(self._queue.qsize())]
        return b"".join(parts)

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        try:
            while (chunk := await self._queue.get()) is not None:
                self._waiting_bytes -= len(chunk)
                if self._waiting_bytes <= HELD_BACK_BYTES:
                    self._set_held(False)
                yield chunk
        finally:
            self._abandoned = True
            self._set_held(False)

    def _set_held(self, held: bool) -> None:
        if held is not self._held and self._hold is not None:
            self._held = held
            self._hold(held)


@dataclass(slots=True, eq=False)
class Running:
    """An invocation inside an environment: `outcome` is what it was answered, and REPORT may come later.

    `response_began` is set for a streamed response, `runtime_done` when the runtime of one with extensions asks again.
    """

    invocation: Invocation
    started: float
    deadline_ms: int
    finish: Callable[[Outcome], None]
    answered: bool = False
    outcome: Outcome | None = None
    reported: bool = False
    runtime_done: float | None = None
    response_began: float | None = None
    timeout: asyncio.TimerHandle | None = None
    stream: ResponseChunks | None = None
    collected: ResponseChunks | None = None
    first: bool = False
    log: str = ""

    def remember(self, text: str, *, on_new_line: bool = False) -> None:
        """Keep the end of the log."""
        if on_new_line and self.log and not self.log.endswith("\n"):
            text = "\n" + text
        self.log = (self.log + text)[-quotas.LOG_TAIL_BYTES :]

    def log_tail(self) -> bytes:
        """The last 4 KB, from the beginning of a character."""
        return self.log.encode()[-quotas.LOG_TAIL_BYTES :].decode("utf-8", "ignore").encode()

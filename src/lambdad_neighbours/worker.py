"""The one thread that is inside moto, which is not safe to use from two."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Runs one job after the other, each on a thread while no other is inside.

    A job may have to wait for something that needs this worker: a rotation calls a function, which puts a secret. It
    steps aside for that time: another thread takes the next jobs, and the waiting one comes back when it can.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._inside = threading.Lock()
        self._here = threading.local()
        self._thread = self._start()

    async def run(self, job: Callable[..., T], *arguments: Any) -> T:
        """Have a job run; what it returns or raises. A caller that is cancelled does not stop it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def work() -> None:
            try:
                result, error = job(*arguments), None
            except BaseException as raised:  # noqa: BLE001  it belongs to the one who waits, not to this thread
                result, error = None, raised
            # The loop is closed when the process ends without having waited for this job.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, error)

        self._jobs.put(work)
        return await future

    def post(self, job: Callable[[], None]) -> None:
        """Have a job run for which nobody waits; it raises nothing. From any thread."""
        self._jobs.put(job)

    @contextlib.contextmanager
    def step_aside(self) -> Iterator[None]:
        """Let others in while waiting for something outside. On a thread that is not inside, it does nothing."""
        if not getattr(self._here, "inside", False):
            yield
            return
        if not self._here.relieved:
            self._here.relieved = True
            self._thread = self._start()
        self._here.inside = False
        self._inside.release()
        try:
            yield
        finally:
            self._inside.acquire()
            self._here.inside = True

    def stop(self, timeout_s: float) -> None:
        """Take no more jobs, and wait so long for the one that runs."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _start(self) -> threading.Thread:
        # A job that waits for a function must not keep the process from ending.
        thread = threading.Thread(target=self._serve, name="moto", daemon=True)
        thread.start()
        return thread

    def _serve(self) -> None:
        self._here.relieved = False
        while not self._here.relieved:
            job = self._jobs.get()
            if job is None:
                return
            with self._inside:
                self._here.inside = True
                job()
                self._here.inside = False

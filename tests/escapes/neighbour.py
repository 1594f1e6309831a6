"""A function that has nothing to do with what others attempt: it is invoked all the time, and must not notice."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from daemons import create_python

SOURCE = "def handler(event, context):\n    return event\n"
PAUSE_S = 0.004
UNDISTURBED_INVOKES = 60
ANSWERS_AT_LEAST = 10
SLOWDOWN_AT_MOST = 5.0
# Other tests use the two processors, too: so much is normal whatever it was a moment before.
NORMAL_S = 0.010
"""How many times its undisturbed median the neighbour's median may become, while others do their worst."""
PATIENCE_S = 30.0


class Neighbour:
    """One function, invoked by a thread and a client of its own, which keeps what went wrong and how long it took."""

    def __init__(self, client: Any, name: str) -> None:
        create_python(client, name, SOURCE)
        self.name = name
        self.errors: list[str] = []
        self.times: list[float] = []
        self._client = client
        self._stop = threading.Event()
        self._answered = threading.Condition()
        self._thread = threading.Thread(target=self._invoke_on)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _invoke_on(self) -> None:
        number = 0
        while not self._stop.wait(PAUSE_S):
            number += 1
            began = time.monotonic()
            try:
                answer = self._client.invoke(FunctionName=self.name, Payload=str(number).encode())
                body = answer["Payload"].read()
                if body != str(number).encode() or "FunctionError" in answer:
                    self.errors.append(f"invoke {number} was answered with {body!r}")
            except Exception as error:  # noqa: BLE001 - whatever it is, a test shall see it
                self.errors.append(repr(error))
            with self._answered:
                self.times.append(time.monotonic() - began)
                self._answered.notify_all()

    def await_answers(self, count: int) -> list[float]:
        """How long each of the next invokes took, in seconds."""
        first = len(self.times)
        with self._answered:
            assert self._answered.wait_for(lambda: len(self.times) >= first + count, PATIENCE_S), self.errors
        return self.times[first:]

    def assert_undisturbed(self) -> None:
        """No invoke has failed since this was last asked, and they go on."""
        self.await_answers(1)
        errors, self.errors = self.errors, []
        assert errors == []

    @contextmanager
    def at_normal_latency(self) -> Iterator[None]:
        """What happens inside leaves the neighbour's median normal, or within a ratio of what it was just before."""
        before = statistics.median(self.await_answers(UNDISTURBED_INVOKES))
        first = len(self.times)
        yield
        if len(self.times) - first < ANSWERS_AT_LEAST:
            self.await_answers(ANSWERS_AT_LEAST - (len(self.times) - first))
        during = statistics.median(self.times[first:])
        assert self.errors == []
        assert during <= max(NORMAL_S, SLOWDOWN_AT_MOST * before), (
            f"{during * 1000:.1f} ms, and {before * 1000:.1f} ms before"
        )


def eventually_true(condition: Callable[[], object], neighbour: Neighbour, invokes: int = 500) -> bool:
    """Whether a condition comes true while the neighbour is invoked so many times."""
    for _ in range(invokes):
        if condition():
            return True
        neighbour.await_answers(1)
    return bool(condition())

"""SQS's long polling, without holding the worker: moto is asked, and asked again when a message may have come.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any, Final, NamedTuple

# Delays and visibility timeouts end without a request: so often is looked for messages that have become visible.
LOOK_S: Final = 0.25
# So often is looked whether a client that waits is still there; a message is never given to one that is gone.
GONE_LOOK_S: Final = 2.0


class Queue(NamedTuple):
    account_id: str
    region: str
    name: str


class EmptyReceive(NamedTuple):
    """A ReceiveMessage has found nothing; it would wait so long."""

    queue: Queue
    wait_s: int


class ReceiveSeam:
    """Stands before moto's `receive_message`: never has it wait, and remembers what it would have waited for."""

    def __init__(self) -> None:
        self.empty: EmptyReceive | None = None

    def install(self) -> None:
        """On moto.sqs, which has been imported."""
        from moto.sqs.models import SQSBackend

        receive = SQSBackend.receive_message

        def receive_now(backend: Any, queue_name: str, count: int, wait_s: int, *others: Any, **named: Any) -> Any:
            messages = receive(backend, queue_name, count, 0, *others, **named)
            if not messages:
                queue = Queue(backend.account_id, backend.region_name, queue_name)
                self.empty = EmptyReceive(queue, wait_s)
            return messages

        SQSBackend.receive_message = receive_now

    def take(self) -> EmptyReceive | None:
        """What the last request has found empty, once."""
        empty, self.empty = self.empty, None
        return empty


def with_messages(queues: Collection[Queue]) -> list[Queue]:
    """Those that have a visible message, or are gone. In the worker."""
    from moto.sqs.models import sqs_backends

    found = []
    places = {(each.account_id, each.region) for each in queues}
    known = {place: sqs_backends[place[0]][place[1]].queues for place in places}  # moto finds them slowly
    for each in queues:
        queue = known[each.account_id, each.region].get(each.name)
        if queue is None or any(message.visible and not message.delayed for message in queue._messages):
            found.append(each)
    return found


class LongPolling:
    """Those who wait for messages. `look` is `with_messages`, run by the worker."""

    def __init__(self, look: Callable[[Collection[Queue]], Awaitable[Collection[Queue]]]) -> None:
        self._look = look
        self._waiting: dict[Queue, set[asyncio.Future[None]]] = {}
        self._stirred = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._ended = False

    def stir(self) -> None:
        """A request has been answered that may have made a message visible."""
        if self._waiting:
            self._stirred.set()

    def end(self) -> None:
        """Nobody waits from now on: the process ends."""
        self._ended = True
        for waiting in self._waiting.values():
            for woken in waiting:
                if not woken.done():
                    woken.set_result(None)

    async def wait(self, queue: Queue, until: float, is_gone: Callable[[], bool]) -> bool:
        """Wait until the queue may have a message; False when the time is over or the client is gone."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(queue, set()).add(woken)
        if self._looking is None:
            self._looking = loop.create_task(self._keep_looking())
        try:
            while not self._ended and not is_gone() and (left_s := until - loop.time()) > 0:
                await asyncio.wait([woken], timeout=min(left_s, GONE_LOOK_S))
                if woken.done():
                    return not is_gone()
            return False
        finally:
            waiting = self._waiting.get(queue, set())
            waiting.discard(woken)
            if not waiting:
                self._waiting.pop(queue, None)

    async def _keep_looking(self) -> None:
        try:
            while self._waiting:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._stirred.wait()
                self._stirred.clear()
                for queue in await self._look(list(self._waiting)):
                    for woken in self._waiting.get(queue, ()):
                        if not woken.done():
                            woken.set_result(None)
        finally:
            self._looking = None

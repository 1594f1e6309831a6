"""Environments with extensions, and short times for their ends."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from unittest import mock

from lambdad.domain import extensions as rules
from lambdad.domain.lifecycle import State
from lambdad.services import sandboxed
from unit.services.environments import VERSION, FakeExtension, Started, settled

SOON_MS = 30
Scenario = Callable[[Started], Awaitable[None]]


def scenario(*names: str, timeout_s: float = 2) -> Callable[[Scenario], Callable[[], None]]:
    """Runs a test in an event loop of its own, with an environment that has these external extensions."""

    def decorate(test: Scenario) -> Callable[[], None]:
        @functools.wraps(test)
        def run() -> None:
            async def inside() -> None:
                started = Started(replace(VERSION, timeout_s=timeout_s), names)
                try:
                    await test(started)
                finally:
                    started.environment.kill()
                    await started.finish()

            limits = {"SHUTDOWN_MS": 2 * SOON_MS, "RUNTIME_SHUTDOWN_MS": SOON_MS, "INTERNAL_SHUTDOWN_MS": SOON_MS}
            with (
                mock.patch.multiple(rules, **limits),
                mock.patch.object(sandboxed, "_KILLED_TOGETHER_S", SOON_MS / 1000),
            ):
                asyncio.run(inside())

        del run.__wrapped__  # pytest would take its parameter for a fixture
        return run

    return decorate


async def settle(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def error_of(payload: bytes) -> tuple[str, str]:
    body = json.loads(payload)
    return body["errorType"], body["errorMessage"]


async def ready(s: Started, *names: str) -> list[FakeExtension]:
    """The environment is idle, with these external extensions, all subscribed to everything."""
    await s.attach()
    found = [FakeExtension(s.environment, name) for name in names]
    await settled()
    for extension in found:
        extension.next()
    s.runtime.next()
    assert s.environment.state is State.IDLE
    return found

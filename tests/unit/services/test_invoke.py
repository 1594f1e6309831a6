"""Admission, aliases and what an invocation remembers, on the in-memory adapters."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from lambdad.domain.errors import ResourceNotFoundException, TooManyRequestsException
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Invocation, Outcome
from lambdad.ports.compute import ResponseStream
from lambdad.services.invoke import InvokeRequest, InvokeService
from lambdad.services.running import ResponseChunks
from unit.services.fakes import FakeHost, World, reference
from unit.services.test_functions import scenario


def request(qualifier: str | None = None) -> InvokeRequest:
    return InvokeRequest(reference(qualifier), "id", b"{}")


@scenario
async def test_an_unknown_function_is_not_found_and_not_remembered(world: World) -> None:
    with pytest.raises(ResourceNotFoundException):
        await world.invoke.invoke(request())
    await world.create()
    version, outcome = await world.invoke.invoke(request())
    assert (version.version, outcome.payload) == ("$LATEST", b"{}")


@scenario
async def test_an_update_is_seen_by_the_next_invocation(world: World) -> None:
    await world.create()
    before, _ = await world.invoke.invoke(request())
    updated = await world.functions.update_code(reference(), b"two")
    after, _ = await world.invoke.invoke(request())
    assert before.code_sha256 != after.code_sha256 == updated.code_sha256


@scenario
async def test_a_reservation_is_a_cap(world: World) -> None:
    await world.create()
    await world.concurrency.put(reference(), 2)
    world.host.holds = True
    running = [asyncio.ensure_future(world.invoke.invoke(request())) for _ in range(2)]
    while len(world.host.waiting) < 2:
        await asyncio.sleep(0)
    with pytest.raises(TooManyRequestsException) as refused:
        await world.invoke.invoke(request())
    assert refused.value.fields["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    for gate in world.host.waiting:
        gate.set_result(None)
    await asyncio.gather(*running)
    world.host.holds = False
    await world.invoke.invoke(request())
    assert world.concurrency.running() == 0


@scenario
async def test_zero_is_not_none(world: World) -> None:
    await world.create()
    await world.concurrency.put(reference(), 0)
    with pytest.raises(TooManyRequestsException):
        await world.invoke.invoke(request())
    await world.concurrency.delete(reference())
    await world.invoke.invoke(request())


DRAWS = 10_000
# By Hoeffding's inequality a fair count of DRAWS is further than this from what is expected once in 10^9 times.
TOLERANCE = math.ceil(math.sqrt(DRAWS * math.log(2 * 10**9) / 2))


@scenario
async def test_an_alias_splits_its_traffic(world: World) -> None:
    await world.create()
    await world.functions.publish(reference(), None, None, None)
    await world.functions.update_code(reference(), b"two")
    await world.functions.publish(reference(), None, None, None)
    for name, weight in (("canary", 0.01), ("quarter", 0.25), ("all", 1.0)):
        await world.aliases.create(reference(), name, "1", "", {"2": weight})
        world.host.ran.clear()
        for _ in range(DRAWS):
            await world.invoke.invoke(request(name))
        counted = Counter(world.host.ran)
        assert counted.total() == DRAWS
        assert abs(counted["2"] - weight * DRAWS) <= (TOLERANCE if weight < 1 else 0)


class _QuickHost(FakeHost):
    """Has an environment free for whoever does not want to wait, and one that streams."""

    def begin(self, version: FunctionVersion, invocation: Invocation, finish: Callable[[Outcome], None]) -> bool:
        finish(Outcome(b"", "Unhandled", duration_ms=2.0))
        return True

    async def invoke_stream(self, version: FunctionVersion, invocation: Invocation) -> ResponseStream:
        outcome = asyncio.get_running_loop().create_future()
        outcome.set_result(Outcome(b"", duration_ms=3.0))
        return ResponseStream(ResponseChunks(), outcome)


@scenario
async def test_invocations_are_counted_however_they_were_begun(world: World) -> None:
    await world.create()
    host: Any = _QuickHost()
    invoke = InvokeService(world.targets, world.concurrency, host, world.clock, world.metrics)
    await invoke.invoke(request())
    assert invoke.begin(request(), lambda version, outcome: None)
    _, stream = await invoke.invoke_stream(request())
    await stream.outcome
    await world.concurrency.put(reference(), 0)
    for throttled in (invoke.invoke, invoke.invoke_stream):
        with pytest.raises(TooManyRequestsException):
            await throttled(request())
    key = reference().key
    found = await world.metrics.read(key.account_id, key.region, function=key.name, name=None, since_s=0, until_s=2**40)
    assert {each.metric.name: (counted.count, counted.total) for each, counted in found} == {
        "Invocations": (3, 3),
        "Errors": (3, 1),
        "Throttles": (5, 2),
        "ConcurrentExecutions": (3, 3),
        "Duration": (2, 5.0),
    }
    assert world.concurrency.running() == 0

"""Admission, aliases and what an invocation remembers, on the in-memory adapters."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lambdad.domain.errors import ResourceNotFoundException, TooManyRequestsException
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.invocations import Invocation, Outcome
from lambdad.ports.blobs import BlobNotFound
from lambdad.ports.compute import ResponseStream
from lambdad.services.concurrency import Admission
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


class _HalfBusyHost(FakeHost):
    """Has an environment free for version 1 at all times, and never one for version 2."""

    def begin(self, version: FunctionVersion, invocation: Invocation, finish: Callable[[Outcome], None]) -> bool:
        is_free = version.version == "1"
        if is_free:
            self.ran.append(version.version)
            finish(Outcome(b"", duration_ms=2.0))
        return is_free


@scenario
async def test_traffic_is_split_the_same_when_one_version_has_no_environment_free(world: World) -> None:
    await world.create()
    await world.functions.publish(reference(), None, None, None)
    await world.functions.update_code(reference(), b"two")
    await world.functions.publish(reference(), None, None, None)
    await world.aliases.create(reference(), "live", "1", "", {"2": 0.25})
    host: Any = _HalfBusyHost()
    invoke = InvokeService(world.targets, world.concurrency, host, world.clock, world.metrics)
    for _ in range(DRAWS):
        if not invoke.begin(request("live"), lambda version, outcome: None):
            await invoke.invoke(request("live"))
    counted = Counter(host.ran)
    assert counted.total() == DRAWS
    assert abs(counted["2"] - 0.25 * DRAWS) <= TOLERANCE


class _SlowHost(FakeHost):
    """Begins an invocation when `meanwhile` is over; what has been retired by then has no code any more."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    async def invoke(self, version: FunctionVersion, invocation: Invocation) -> Outcome:
        await self.meanwhile()
        raise BlobNotFound(version.code_sha256)

    async def invoke_stream(self, version: FunctionVersion, invocation: Invocation) -> ResponseStream:
        await self.meanwhile()
        raise BlobNotFound(version.code_sha256)


@pytest.mark.parametrize("method", ["invoke", "invoke_stream"])
def test_what_is_changed_before_it_begins_is_run_as_it_is_then(method: str) -> None:
    @scenario
    async def run(world: World) -> None:
        await world.create()
        codes = [b"two", b"three"]
        tried = []

        async def meanwhile() -> None:
            tried.append((await world.functions.get(reference())).version.code_size)
            if codes:
                await world.functions.update_code(reference(), codes.pop(0))

        host: Any = _SlowHost(meanwhile)
        invoke = InvokeService(world.targets, world.concurrency, host, world.clock, world.metrics)
        with pytest.raises(BlobNotFound):  # it is not for its having been changed that the last one cannot be run
            await getattr(invoke, method)(request())
        assert tried == [len("one"), len("two"), len("three")]
        assert world.concurrency.running() == 0

        async def delete() -> None:
            await world.functions.delete(reference())

        host.meanwhile = delete
        with pytest.raises(ResourceNotFoundException, match="Function not found"):
            await getattr(invoke, method)(request())
        assert world.concurrency.running() == 0

    run()


@scenario
async def test_a_version_that_was_replaced_while_it_was_looked_up_is_not_started(world: World) -> None:
    await world.create()
    enter = world.concurrency.enter
    updated: list[FunctionVersion] = []

    async def enter_late(*arguments: Any) -> Admission:
        admission = await enter(*arguments)
        if not updated:
            updated.append(await world.functions.update_code(reference(), b"two"))
        return admission

    world.concurrency.enter = enter_late  # type: ignore[method-assign]
    version, _ = await world.invoke.invoke(request())
    assert (version, len(world.host.ran)) == (updated[0], 1)
    assert world.concurrency.running() == 0


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

"""A host whose functions have extensions: which programs are started, and who waits for their end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from lambdad.domain import extensions as rules
from lambdad.domain.functions import FunctionVersion
from lambdad.domain.layers import LayerUse
from lambdad.domain.lifecycle import State
from lambdad.ports.sandbox import Addresses
from unit.services.environments import VERSION, FakeExtension, FakeRuntime, settled
from unit.services.hosts import RESERVE_MB, SANDBOX_MB, World, scenario, until

SOON_MS = 30
LAYERED: FunctionVersion = replace(VERSION, layers=(mock.create_autospec(LayerUse, code_sha256="1" * 64),))


@pytest.fixture(autouse=True)
def short_shutdown() -> Iterator[None]:
    """None of these tests waits for two seconds."""
    with mock.patch.multiple(rules, SHUTDOWN_MS=SOON_MS, RUNTIME_SHUTDOWN_MS=SOON_MS):
        yield


def with_extensions(world: World, folder: Path, *names: str) -> None:
    """What the layers of every version are from now on."""
    (folder / "extensions").mkdir()
    for name in names:
        (folder / "extensions" / name).write_text("#!/bin/sh\n")

    async def layers_directory(digests: object) -> Path:
        return folder

    world.code.layers_directory = layers_directory  # type: ignore[assignment,method-assign]


async def serve_one(world: World, name: str = "watcher") -> tuple[FakeRuntime, FakeExtension]:
    """The first environment has served an invocation, and waits for another."""
    answer = world.invoke(version=LAYERED)
    (runtime, *_) = await world.launched(1)
    extension = FakeExtension(runtime.environment, name)
    extension.next()
    runtime.next()
    await until(lambda: runtime.events)
    runtime.respond()
    await answer
    runtime.next()
    extension.next()
    assert runtime.environment.state is State.IDLE
    return runtime, extension


def test_files_in_the_folder_are_extensions_and_nothing_else(tmp_path: Path) -> None:
    @scenario
    async def test(w: World) -> None:
        with_extensions(w, tmp_path, "watcher", "another")
        (tmp_path / "extensions" / "folder").mkdir()
        (tmp_path / "extensions" / "link").symlink_to("/opt/bin/tool")
        answer = w.invoke(version=LAYERED)
        await w.launched(1)
        (spec,) = w.driver.specs
        assert spec.extensions == ("another", "link", "watcher")
        assert spec.extension_environment == {
            name: value for name, value in spec.environment.items() if name in spec.extension_environment
        }
        assert "_HANDLER" not in spec.extension_environment
        answer.cancel()

    test()


@pytest.mark.parametrize("count", [10, 11])
def test_eleven_are_too_many_and_none_is_started(tmp_path: Path, count: int) -> None:
    @scenario
    async def test(w: World) -> None:
        with_extensions(w, tmp_path, *(f"e{number}" for number in range(count)))
        answer = w.invoke(version=LAYERED)
        if count == rules.MOST:
            await until(lambda: w.driver.specs)
            answer.cancel()
            return
        outcome = await answer
        assert outcome.error_type == "Extension.TooManyExtensions"
        assert json.loads(outcome.payload)["errorMessage"].endswith("Error: Extension limit (10) reached")
        assert w.driver.specs == []

    test()


def test_a_version_is_retired_in_the_background(tmp_path: Path) -> None:
    @scenario
    async def test(w: World) -> None:
        with_extensions(w, tmp_path, "watcher")
        runtime, extension = await serve_one(w)
        with mock.patch.object(rules, "SHUTDOWN_MS", 60_000):
            w.host.retire(LAYERED)
            assert runtime.environment.state is State.STOPPING
            await until(lambda: len(extension.events) == 2)
        assert extension.events[1]["shutdownReason"] == "spindown"
        assert not w.driver.sandboxes[0].was_killed
        w.driver.sandboxes[0].end_extension("watcher")
        await asyncio.wait_for(asyncio.shield(runtime.environment.ended), 5)

    test()


def test_a_drain_gives_extensions_the_time_that_there_is(tmp_path: Path) -> None:
    @scenario
    async def test(w: World) -> None:
        with_extensions(w, tmp_path, "watcher")
        runtime, extension = await serve_one(w)
        draining = asyncio.ensure_future(w.host.drain(60.0))
        await until(lambda: len(extension.events) == 2)
        w.driver.sandboxes[0].end_extension("watcher")
        await asyncio.wait_for(draining, 5)
        assert runtime.environment.state is State.DEAD

    test()


def test_a_drain_does_not_wait_for_longer(tmp_path: Path) -> None:
    @scenario
    async def test(w: World) -> None:
        with_extensions(w, tmp_path, "watcher")
        runtime, _ = await serve_one(w)
        began = time.monotonic()
        await asyncio.wait_for(w.host.drain(0.0), 5)
        assert SOON_MS / 1000 <= time.monotonic() - began < 2
        assert runtime.environment.state is State.DEAD

    test()


def test_a_drain_tells_extensions_of_a_function_that_does_not_end(tmp_path: Path) -> None:
    @scenario
    async def test(w: World) -> None:
        with_extensions(w, tmp_path, "watcher")
        runtime, extension = await serve_one(w)
        answer = w.invoke(version=LAYERED)
        await until(lambda: len(runtime.events) == 2)
        extension.next()
        with mock.patch.object(rules, "SHUTDOWN_MS", 60_000):  # all of the time is theirs
            draining = asyncio.ensure_future(w.host.drain(60.0))
            await until(lambda: len(extension.events) == 3)
        assert (await answer).error_type == "Runtime.ExitError"
        w.driver.sandboxes[0].end_extension("watcher")
        await asyncio.wait_for(draining, 5)

    test()


def test_while_extensions_work_on_another_environment_takes_the_next_event(tmp_path: Path) -> None:
    @scenario
    async def test(w: World) -> None:
        with_extensions(w, tmp_path, "watcher")
        runtime, extension = await serve_one(w)
        first = w.invoke(version=LAYERED)
        await until(lambda: len(runtime.events) == 2)
        runtime.respond()
        await first
        runtime.next()
        second = w.invoke(version=LAYERED)
        await w.launched(2)
        assert len(runtime.events) == 2
        extension.next()
        await until(lambda: len(runtime.events) == 3)  # the first that is free takes it
        runtime.respond()
        await second
        await settled()

    test()


@pytest.mark.parametrize("own_network", [False, True])
def test_environments_that_share_ports_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, own_network: bool
) -> None:
    @scenario
    async def test(w: World) -> None:
        with_extensions(w, tmp_path, "watcher")
        w.driver.addresses = Addresses("127.0.0.1:9001", "127.0.0.1:4566") if own_network else None
        answers = [w.invoke(version=LAYERED)]
        await w.launched(1)
        assert caplog.text == ""
        for count in (2, 3):
            answers.append(w.invoke(version=LAYERED))
            await w.launched(count)
        assert caplog.text.count("shares this machine's network") == (0 if own_network else 1)
        for answer in answers:
            answer.cancel()

    test()


def test_environments_after_each_other_share_no_port(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @scenario
    async def test(w: World) -> None:
        with_extensions(w, tmp_path, "watcher")
        runtime, _ = await serve_one(w)
        w.host.retire(LAYERED)
        w.driver.sandboxes[0].end_extension("watcher")
        await asyncio.wait_for(asyncio.shield(runtime.environment.ended), 5)
        answer = w.invoke(version=LAYERED)
        await w.launched(2)
        assert caplog.text == ""
        answer.cancel()

    test()


def test_memory_is_not_waited_for_in_turn_where_extensions_take_their_time(tmp_path: Path) -> None:
    @scenario
    async def test(w: World) -> None:
        with_extensions(w, tmp_path, "watcher")
        told = []
        for number in range(1, 4):
            answer = w.invoke(version=replace(LAYERED, revision_id=f"{number}"))
            runtime = (await w.launched(number))[number - 1]
            told.append(FakeExtension(runtime.environment, "watcher", ["SHUTDOWN"]))
            told[-1].next()
            runtime.next()
            await until(lambda runtime=runtime: runtime.events)
            runtime.respond()
            await answer
            runtime.next()
        with mock.patch.object(rules, "SHUTDOWN_MS", 60_000):
            w.gauge.total_mb = RESERVE_MB + SANDBOX_MB
            restored = asyncio.ensure_future(w.host._reserve.restore())
            await until(lambda: told[2].events)
            assert [len(each.events) for each in told] == [1, 1, 1]
            assert not restored.done()
            for sandbox in w.driver.sandboxes[1:]:
                sandbox.end_extension("watcher")
            await asyncio.wait_for(restored, 5)
            assert len(w.driver.living) == 1
            evicted = asyncio.ensure_future(w.host._reserve.evict())
            await settled()
            assert not evicted.done()
            w.driver.sandboxes[0].end_extension("watcher")
            assert await asyncio.wait_for(evicted, 5)
        assert not await w.host._reserve.evict()
        w.gauge.total_mb = None

    test()

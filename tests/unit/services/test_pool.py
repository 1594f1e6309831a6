"""When the pool starts environments, and who gets them."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from lambdad.domain.arns import LATEST, FunctionKey
from lambdad.domain.functions import FunctionVersion, LoggingConfig
from lambdad.domain.lifecycle import State
from lambdad.services.version_pool import VersionPool

LEAST = 4
VERSION = FunctionVersion(
    key=FunctionKey("000000000000", "us-east-1", "f"),
    version=LATEST,
    role="",
    runtime="python3.11",
    handler="a.b",
    code_sha256="",
    code_size=0,
    logging=LoggingConfig("/aws/lambda/f"),
    revision_id="r",
    last_modified="",
)


class FakeEnvironment:
    extensions = mock.Mock(busy=())
    state = State.INVOKING


def pool_with(ready: int, start_s: float, service_s: float, now: float = 0.0) -> VersionPool:
    """A pool that has learned how long things take."""
    pool = VersionPool(VERSION, LEAST)
    pool.ready = {FakeEnvironment() for _ in range(ready)}  # type: ignore[misc]
    pool.started(start_s)
    pool.served(now, service_s)
    return pool


def run(check) -> None:
    async def inside() -> None:
        check()

    asyncio.run(inside())


@pytest.mark.parametrize("waiting", [1, 7, 100])
def test_a_pool_that_knows_nothing_starts_one_for_each(waiting):
    def check():
        pool = VersionPool(VERSION, LEAST)
        for _ in range(waiting):
            pool.wait(0.0)
        assert pool.missing(0.0) == waiting
        pool.starting = waiting - 1
        assert pool.missing(0.0) == 1

    run(check)


def test_long_invocations_get_an_environment_each():
    def check():
        pool = pool_with(ready=3, start_s=0.02, service_s=1.0)
        for _ in range(50):
            pool.wait(0.0)
        assert pool.missing(0.0) == 50

    run(check)


def test_short_invocations_wait_for_the_environments_that_are_there():
    def check():
        pool = pool_with(ready=LEAST, start_s=0.02, service_s=0.0001)
        for _ in range(60):
            pool.wait(0.0)
        assert pool.missing(0.0) == 0

    run(check)


def test_there_are_as_many_as_the_processors_can_run():
    def check():
        pool = pool_with(ready=1, start_s=0.02, service_s=0.0001)
        for _ in range(60):
            pool.wait(0.0)
        assert pool.missing(0.0) == LEAST - 1

    run(check)


def test_an_environment_that_is_about_to_ask_for_more_is_waited_for():
    def check():
        pool = pool_with(ready=1, start_s=0.02, service_s=0.0001)
        pool.wait(0.0)
        assert pool.missing(0.0) == 1
        for environment in pool.ready:
            environment.state = State.ANSWERED
        assert pool.missing(0.0) == 0

    run(check)


def test_who_has_waited_too_long_doubles_the_number():
    def check():
        pool = pool_with(ready=LEAST, start_s=0.02, service_s=0.0001)
        for _ in range(60):
            pool.wait(0.0)
        late = pool.patience_s + 0.001
        pool.served(late, 0.0001)
        assert pool.missing(late) == LEAST

    run(check)


def test_when_nothing_finishes_everybody_who_waits_gets_one():
    def check():
        pool = pool_with(ready=LEAST, start_s=0.02, service_s=0.0001)
        for _ in range(60):
            pool.wait(0.0)
        assert pool.missing(pool.patience_s + 0.001) == 60

    run(check)


def test_an_environment_goes_to_whoever_has_waited_longest_and_still_waits():
    def check():
        pool = VersionPool(VERSION, LEAST)
        first, second, third = (pool.wait(0.0) for _ in range(3))
        first.cancel()
        assert pool.offer(None) is True
        assert second.done()
        assert not third.done()
        pool.refuse(ValueError("no"))
        assert isinstance(third.exception(), ValueError)
        assert pool.offer(None) is False

    run(check)


def test_the_shortest_of_late_invocations_counts_and_is_forgotten():
    pool = pool_with(ready=1, start_s=0.02, service_s=0.5)
    pool.served(0.1, 0.001)
    assert pool.service_s == 0.001
    pool.served(1.2, 0.3)
    pool.served(2.4, 0.4)
    assert pool.service_s == 0.3

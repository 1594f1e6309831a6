"""Fixtures that every tier may use."""

from __future__ import annotations

import functools
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from daemons import Daemon
from neighbours import MotoServer

# A shell without job control starts what it runs in the background with interrupts ignored, and every process of ours
# would inherit that: what a test interrupts would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)

# botocore reads its data files anew for every session. Tests make thousands of sessions, for accounts and regions of
# their own, and spent most of their time in that: here all sessions share what was read.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

#: The tiers whose files take long. Workers take whole files (fixtures of a module run once), so these come first: what
#: is left for the end is then short, and no worker waits for another.
LONG_TIERS = ("faults", "e2e", "escapes", "api")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long tiers first."""

    def tier(item: pytest.Item) -> int:
        name = item.path.relative_to(Path(__file__).parent).parts[0]
        return LONG_TIERS.index(name) if name in LONG_TIERS else len(LONG_TIERS)

    items.sort(key=tier)


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all tests of a worker that only add to it; they use names of their own."""
    with Daemon(tmp_path_factory.mktemp("daemon") / "data") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    """The other AWS services, for all tests of a worker; they use names of their own."""
    with MotoServer() as server:
        yield server


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon for one test alone."""
    with Daemon(tmp_path / "data") as own:
        yield own


@pytest.fixture(scope="session")
def aws_lambda(shared_daemon: Daemon) -> Any:
    """A Lambda client of the shared daemon."""
    return shared_daemon.client("lambda")


@pytest.fixture(scope="session")
def aws_logs(shared_daemon: Daemon) -> Any:
    """A CloudWatch Logs client of the shared daemon."""
    return shared_daemon.client("logs")


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Names that no other test has."""
    return lambda prefix="fn": f"{prefix}-{uuid.uuid4().hex[:10]}"

"""The Node.js executables of this machine, and a way to start the bootstrap with one of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from installed_runtimes import installed
from lambdad.domain.runtimes import Language
from unit.runtime_nodejs.runtime_session import RuntimeSession

NODES = {each.version[:2]: each.executable for each in installed(Language.NODEJS).values()}
NO_NODE = pytest.param((0, 0), marks=pytest.mark.skip(reason="node is not installed"))
VERSIONS: list[Any] = [*NODES] or [NO_NODE]


@pytest.fixture(params=VERSIONS, ids=lambda numbers: f"node{numbers[0]}")
def version(request: pytest.FixtureRequest) -> tuple[int, ...]:
    """A version of Node.js that this machine has: its major and minor number."""
    chosen: tuple[int, ...] = request.param
    return chosen


@pytest.fixture
def has_callbacks(version: tuple[int, ...]) -> bool:
    """Whether callback handlers are supported, as they are before Node.js 24."""
    return version[0] < 24


@pytest.fixture
def start(version: tuple[int, ...], tmp_path: Path) -> Iterator[Callable[..., RuntimeSession]]:
    """Start a runtime: `start(code)`, where code is the text of index.js or a mapping of files."""
    with ExitStack() as sessions:

        def start_session(code: str | Mapping[str, str], **options: Any) -> RuntimeSession:
            files = {"index.js": code} if isinstance(code, str) else code
            return sessions.enter_context(RuntimeSession(NODES[version], tmp_path, files, **options))

        yield start_session


@pytest.fixture
def start_with_callbacks(start: Callable[..., RuntimeSession], has_callbacks: bool) -> Callable[..., RuntimeSession]:
    """The same, where callback handlers are supported."""
    if not has_callbacks:
        pytest.skip("Node.js 24 has no callback handlers")
    return start

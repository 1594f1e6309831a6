"""The Node.js executables of this machine, and a way to start the bootstrap with one of them."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from unit.runtime_nodejs.runtime_session import RuntimeSession


def candidate_nodes() -> Iterator[Path]:
    """
    What LAMBDAD_TEST_NODES names, parted by colons: executables, or directories where npm installed the package
    "node", or directories of such directories. Unset: node on PATH.
    """
    named = os.environ.get("LAMBDAD_TEST_NODES")
    if not named:
        on_path = shutil.which("node")
        if on_path:
            yield Path(on_path)
        return
    installed = "node_modules/node/bin/node"
    for place in filter(None, named.split(os.pathsep)):
        if Path(place).is_dir():
            yield from [*Path(place).glob(installed), *sorted(Path(place).glob(f"*/{installed}"))]
        else:
            yield Path(place)


def find_nodes() -> dict[tuple[int, ...], str]:
    """Executables by version, the first one of each major version."""
    found: dict[tuple[int, ...], str] = {}
    for candidate in candidate_nodes():
        done = subprocess.run(
            [str(candidate), "-p", "process.versions.node + ' ' + process.execPath"],
            capture_output=True,
            text=True,
            check=True,
        )
        version, _, path = done.stdout.strip().partition(" ")
        numbers = tuple(int(part) for part in version.split(".")[:2])
        if not any(known[0] == numbers[0] for known in found):
            found[numbers] = path
    return dict(sorted(found.items()))


NODES = find_nodes()
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

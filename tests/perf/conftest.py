"""What the benchmarks run against: a daemon, an echo server, and bare interpreters of the same runtimes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from daemons import Daemon
from installed_runtimes import installed, require
from lambdad.bench import echo, processes
from lambdad.bench.measures import Target
from lambdad.domain.runtimes import Language

PYTHON = "python3.11"
NODE = "nodejs20.x"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="as long as the promises of SPECIFICATION.md have it")


@pytest.fixture(scope="session")
def is_long(pytestconfig: pytest.Config) -> bool:
    """Whether there is time: `make bench` takes it, `make test` does not."""
    return bool(pytestconfig.getoption("--long", default=False))


@pytest.fixture(scope="module")
def daemon_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("perf") / "data") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def target(daemon_of_module: Daemon) -> Target:
    """A daemon with the best driver of this machine."""
    assert daemon_of_module.process is not None
    running = processes.RunningDaemon(daemon_of_module.url, daemon_of_module.process.pid)
    return Target(running, daemon_of_module.client("lambda"), PYTHON)


@pytest.fixture(scope="module")
def echo_url() -> Iterator[str]:
    """aiohttp's echo server."""
    with processes.echo_server(echo.AIOHTTP) as url:
        yield url


@pytest.fixture(scope="session")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`python3 -c pass` on the interpreter that functions run on, with nothing installed in it."""
    executable = require(installed(Language.PYTHON), PYTHON).executable
    return processes.clean_python(executable, tmp_path_factory.mktemp("interpreter"))


@pytest.fixture(scope="session")
def bare_node() -> list[str]:
    """`node -e 0` on the interpreter that functions run on."""
    return processes.bare_node(require(installed(Language.NODEJS), NODE).executable)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a figure although pytest captures."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", end="")

    return show

"""The interpreters of this machine, and a way to start the bootstrap with one of them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from unit.runtime_python.fake_runtime_api import BOOTSTRAP, RuntimeSession

sys.path.append(str(BOOTSTRAP.parent))

VERSIONS = [f"3.{minor}" for minor in range(8, 15)]


def find_pythons() -> dict[str, str]:
    """Interpreters by version, as absolute paths: those of pyenv first (without its slow shims), then on PATH."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = {}
    for version in VERSIONS:
        candidates = sorted(map(str, root.glob(f"versions/*/bin/python{version}")))
        candidates += [path for path in (shutil.which(f"python{version}"), sys.executable) if path]
        for candidate in candidates:
            command = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            actual, _, path = done.stdout.strip().partition(" ")
            if done.returncode == 0 and actual == version:
                found[version] = path
                break
    return found


PYTHONS = find_pythons()


@pytest.fixture(params=list(PYTHONS))
def version(request: pytest.FixtureRequest) -> str:
    """A version of Python that this machine has."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def python(version: str) -> str:
    """The path of its interpreter."""
    return PYTHONS[version]


@pytest.fixture
def start(python: str, tmp_path: Path) -> Iterator[Callable[..., RuntimeSession]]:
    """Start a runtime: `start(code)` where code is the text of app.py or a mapping of files."""
    with ExitStack() as sessions:

        def start_session(code: Any, **options: Any) -> RuntimeSession:
            files = {"app.py": code} if isinstance(code, str) else code
            return sessions.enter_context(RuntimeSession(python, files, tmp_path, **options))

        yield start_session

"""Options and fixtures of the faults tier."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.disks import DISK_MB
from faults.recorder import Recorder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cycles", type=int, help="how often the daemon is killed while it takes in events")


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as own:
        yield own


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB, which becomes the data directory; what the daemon says goes to another."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root and the mount command")
    folder = tmp_path / "data"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "lambdad-test", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)

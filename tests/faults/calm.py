"""What a daemon may say on its standard error: nothing of the level ERROR that a test does not expect."""

from __future__ import annotations

import re
from pathlib import Path

from daemons import Daemon

_TROUBLE = re.compile(r"^.*(?: ERROR | CRITICAL |Traceback |was never retrieved|was never awaited).*$", re.MULTILINE)
_looked_at: dict[Path, int] = {}


def overlook(daemon: Daemon) -> None:
    """What the daemon has said so far is of other tests."""
    _looked_at[daemon.data_dir] = len(daemon.stderr())


def assert_calm(daemon: Daemon, *expected: str) -> None:
    """The daemon lives, and has reported no trouble since this was last asked.

    Lines that match one of the expected patterns are none.
    """
    assert daemon.process is not None
    assert daemon.process.poll() is None, daemon.stderr()
    stderr = daemon.stderr()
    new = stderr[_looked_at.get(daemon.data_dir, 0) :]
    _looked_at[daemon.data_dir] = len(stderr)
    trouble = [line for line in _TROUBLE.findall(new) if not any(re.search(p, line) for p in expected)]
    assert not trouble, new[-4000:]

"""What a daemon may say on its standard error: nothing of the level ERROR that a test does not expect."""

from __future__ import annotations

import re

from daemons import Daemon

_TROUBLE = re.compile(r"^.*(?: ERROR | CRITICAL |Traceback |was never retrieved|was never awaited).*$", re.MULTILINE)


def assert_calm(daemon: Daemon, *expected: str) -> None:
    """The daemon lives and reports no trouble, except in lines that match one of the expected patterns."""
    assert daemon.process is not None
    assert daemon.process.poll() is None, daemon.stderr()
    stderr = daemon.stderr()
    trouble = [line for line in _TROUBLE.findall(stderr) if not any(re.search(p, line) for p in expected)]
    assert not trouble, stderr[-4000:]

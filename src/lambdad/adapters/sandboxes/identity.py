"""Who sandboxes are on this host."""

from __future__ import annotations

import itertools
import os


class UserIds:
    """Users of this host that nobody else is: one for each sandbox, where lambdad is root and may have them.

    https://systemd.io/UIDS-GIDS/ has the ranges that are spoken for; this one is not.
    """

    FIRST = 1_879_048_192
    COUNT = 1 << 24

    def __init__(self) -> None:
        # Daemons side by side begin at different places.
        self._numbers = itertools.count(os.getpid() << 8) if os.geteuid() == 0 else None

    def next(self) -> int | None:
        """A user id; None when every sandbox has to be ours."""
        return None if self._numbers is None else self.FIRST + next(self._numbers) % self.COUNT

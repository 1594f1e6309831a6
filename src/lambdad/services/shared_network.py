"""Environments with extensions that share the machine's network: said where it can surprise, in the daemon's log.

On Lambda an environment has a loopback of its own, and extensions count on it: they listen on a fixed port, or call one
that the function listens on. Where the network is the machine's only one environment can have the port, and the
extensions of the others reach that one, which may be another function's.
"""

from __future__ import annotations

import logging

from lambdad.domain.arns import FunctionKey
from lambdad.services.environment import Environment

logger = logging.getLogger("lambdad")


class SharedNetwork:
    """Knows the environments with external extensions that are alive."""

    def __init__(self) -> None:
        self._environments: set[Environment] = set()
        self._told: set[FunctionKey] = set()

    def join(self, environment: Environment) -> None:
        """One more is there; says so once for each function whose environment is not the only one."""
        key = environment.version.key
        if self._environments and key not in self._told:
            self._told.add(key)
            logger.warning(
                "The function %s has extensions, and shares this machine's network with other environments that have: "
                "a port that one listens on is not free for another. With --network isolated each has its own.",
                key.name,
            )
        self._environments.add(environment)

    def leave(self, environment: Environment) -> None:
        """It has ended, if it ever was there."""
        self._environments.discard(environment)

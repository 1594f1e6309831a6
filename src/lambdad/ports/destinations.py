"""Whether that which becomes of asynchronous events can be sent where someone wants it."""

from __future__ import annotations

from typing import Protocol

from lambdad.domain.destinations import Destination
from lambdad.domain.events import Purpose
from lambdad.domain.functions import FunctionVersion


class DestinationCheck(Protocol):
    """Checks targets when they are configured, so that a wrong one is told of at once and not when an event fails.

    This is the place for the permissions of roles: AWS refuses a target to which the function's execution role may not
    send, and so will lambdad once it has access control: the version that is given has the role.
    """

    async def check(self, version: FunctionVersion, destination: Destination, purpose: Purpose) -> None:
        """Let a target pass that exists. Raises InvalidParameterValueException.

        `version` is the one whose events are meant; `purpose` is what the target is to get them for: DEAD_LETTER,
        ON_SUCCESS or ON_FAILURE.
        """

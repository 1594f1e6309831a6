"""Web servers out there, to which SNS posts messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Web(Protocol):
    """Posts, once."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Returns the status of the answer; a redirect is not followed.

        Raises NeighbourUnavailable when there is no connection, no answer in time, or no certificate to be trusted.
        """

    async def close(self) -> None: ...
